//! One request to one upstream and its answer back, whatever the upstream is: the seam between
//! "a socket on this node" and "a tunnel" is the connector.
//!
//! Nothing is buffered, and no exchange has a total deadline: an upload or an event stream may
//! last for days. Who may ask for what, and which fields tell the upstream about it, is decided
//! before; what an error looks like to a person, after ([`crate::answer`]).

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::Connect},
    rt::{TokioExecutor, TokioTimer},
};
use thiserror::Error;
use tokio::time::Instant;

use crate::{headers, upgrade::Pipes};

/// How long an upstream may think about an answer, counted from the last byte of the request. Dev
/// servers compile, query and train; a browser gives up sooner.
const ANSWER_DEADLINE: Duration = Duration::from_secs(300);
/// How long an unused upstream connection is kept: below the 5 s after which Node's servers, the
/// commonest, close it from their side.
const IDLE_DEADLINE: Duration = Duration::from_secs(4);

type BoxError = Box<dyn StdError + Send + Sync>;

/// Why there is no answer to pass on.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// The connector gave no connection; its own error is the source.
    #[error("no connection to the upstream")]
    Connect(#[source] BoxError),
    /// The upstream, or the connection to it, ended before an answer.
    #[error("the upstream did not answer")]
    Died(#[source] BoxError),
    /// No answer came in time.
    #[error("the upstream was silent for {} s", ANSWER_DEADLINE.as_secs())]
    Slow,
    /// The upstream switched protocols unasked, or to another protocol.
    #[error("the upstream switched to a protocol that nobody asked for")]
    UnaskedUpgrade,
}

impl ForwardError {
    /// The connector's error, where it was one of type `E`.
    pub fn connector_error<E: StdError + 'static>(&self) -> Option<&E> {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

/// Sends requests with bodies `B` over connections made by `C`, and keeps those for the next.
/// Connections are pooled by the authority of the request's URI.
pub struct Forwarder<C, B> {
    client: Client<C, Watched<B>>,
    pipes: Pipes,
}

impl<C, B> fmt::Debug for Forwarder<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

impl<C, B> Forwarder<C, B>
where
    C: Connect + Clone + Send + Sync + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Upgraded connections are joined in `pipes`.
    pub fn new(connector: C, pipes: Pipes) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_DEADLINE)
            .set_host(false)
            .build(connector);
        Self { client, pipes }
    }

    /// Forwards `request`, whose URI is the upstream's (scheme, authority, and the target as it
    /// shall be sent) and whose end-to-end fields are as the upstream shall see them.
    /// Hop-by-hop fields are dealt with here, both ways, and so is a WebSocket upgrade.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub async fn forward(
        &self,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, ForwardError> {
        let client_half =
            headers::asks_for_websocket(&request).then(|| hyper::upgrade::on(&mut request));
        headers::strip_hop_by_hop(request.headers_mut());
        if client_half.is_some() {
            headers::set_websocket_upgrade(request.headers_mut());
        }
        *request.version_mut() = Version::HTTP_11;

        let progress = Progress::default();
        let request = request.map(|body| Watched {
            body,
            progress: progress.clone(),
        });
        let mut response = tokio::select! {
            response = self.client.request(request) => response.map_err(|error| {
                if error.is_connect() {
                    ForwardError::Connect(error.into())
                } else {
                    ForwardError::Died(error.into())
                }
            })?,
            () = progress.silent_for(ANSWER_DEADLINE) => return Err(ForwardError::Slow),
        };

        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let client_half = client_half
                .filter(|_| headers::names_websocket(response.headers()))
                .ok_or(ForwardError::UnaskedUpgrade)?;
            self.pipes
                .join(client_half, hyper::upgrade::on(&mut response));
            headers::strip_hop_by_hop(response.headers_mut());
            headers::set_websocket_upgrade(response.headers_mut());
        } else {
            headers::strip_hop_by_hop(response.headers_mut());
        }
        // The server side writes the version of its own connection.
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }
}

/// When a request last moved.
#[derive(Clone, Debug)]
struct Progress(Arc<Mutex<Instant>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Progress {
    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn silent_for(&self, duration: Duration) {
        loop {
            let deadline = self.last() + duration;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// A request body that marks its progress, so that a long upload is not taken for a silent server.
#[derive(Debug)]
struct Watched<B> {
    body: B,
    progress: Progress,
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.progress.mark();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::{
        route::TargetPort,
        upstream::{Loopback, owner::Owners},
    };

    // Behaviour 91. The time is virtual: it runs on whenever everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_silent_is_given_up() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = TargetPort::new(server.local_addr().unwrap().port()).unwrap();
        let loopback = Loopback::new(Owners::probe(), rustix::process::geteuid().as_raw());
        let authority = loopback.choose(port).await.unwrap().authority();
        let forwarder = Forwarder::new(loopback, Pipes::default());
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query("/");
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = uri.build().unwrap();

        let started = Instant::now();
        let silence = async {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).await.unwrap();
        };
        let forwarding = async {
            let answered = forwarder.forward(request).await;
            drop(forwarder);
            answered
        };
        let (answered, ()) = tokio::join!(forwarding, silence);
        assert!(matches!(answered, Err(ForwardError::Slow)), "{answered:?}");
        assert!(started.elapsed() >= ANSWER_DEADLINE);
    }
}
