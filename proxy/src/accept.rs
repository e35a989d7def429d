//! HTTP/1.1 connections: accepted, bounded in what they may hold, and drained on request. What is
//! answered is somebody else's business.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A client that sends its request head slower than this holds a connection for nothing.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// Out of descriptors: time for some connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Fields of one request: browsers send some twenty.
const MAX_HEADERS: usize = 100;
/// Bytes of a request head.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What is answered with: an upstream's body as it comes, or a page of our own.
pub type Body = Either<Incoming, Full<Bytes>>;

/// Serves `listener` with `answer` until `stop`, then closes it, ends idle connections at once, and
/// gives requests under way `grace`. Returns how many connections had not ended by then.
///
/// A connection that was upgraded has ended as far as this goes; see [`crate::upgrade::Pipes`].
pub async fn serve<A, Answered>(
    listener: TcpListener,
    answer: A,
    stop: CancellationToken,
    grace: Duration,
) -> usize
where
    A: Fn(Request<Incoming>, IpAddr) -> Answered + Clone + Send + Sync + 'static,
    Answered: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = next_connection(&listener, &stop).await {
        connections.spawn(connection(stream, peer, answer.clone(), stop.clone()));
    }
    drop(listener);
    connections.close();
    // Whether it timed out is told by the number of those left.
    let _ = timeout_at(Instant::now() + grace, connections.wait()).await;
    connections.len()
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

async fn connection<A, Answered>(
    stream: TcpStream,
    peer: SocketAddr,
    answer: A,
    stop: CancellationToken,
) where
    A: Fn(Request<Incoming>, IpAddr) -> Answered + Sync,
    Answered: Future<Output = Response<Body>> + Send + 'static,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a connection is gone already");
        return;
    }
    let service = service_fn(|request| {
        let answered = answer(request, peer.ip());
        async move { Ok::<_, Infallible>(answered.await) }
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
