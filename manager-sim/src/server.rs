//! Accepts connections and hands their requests to the [`Router`]; ends them on request.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::router::Router;

/// A client that sends its request head slower than this holds a connection for nothing.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// Out of descriptors: time for some connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long requests under way may go on after a stop.
const GRACE: Duration = Duration::from_secs(2);
/// Fields of one request: browsers send some twenty.
const MAX_HEADERS: usize = 100;
/// Bytes of a request head.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Serves until `stop`; then no new connections, and a short grace for what is under way. Upgraded
/// connections end with the tunnels that they go through.
pub async fn serve(listener: TcpListener, router: Arc<Router>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = next_connection(&listener, &stop).await {
        connections.spawn(connection(Arc::clone(&router), stream, peer, stop.clone()));
    }
    drop(listener);
    connections.close();
    let _ = timeout(GRACE, connections.wait()).await;
}

async fn next_connection(
    listener: &TcpListener,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        match stop.run_until_cancelled(listener.accept()).await? {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await?;
            }
        }
    }
}

async fn connection(
    router: Arc<Router>,
    stream: TcpStream,
    peer: SocketAddr,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a connection is gone already");
        return;
    }
    let service = service_fn(|request| {
        let router = Arc::clone(&router);
        async move { Ok::<_, Infallible>(router.respond(request, peer.ip()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection broke");
    }
}
