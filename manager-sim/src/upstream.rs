//! The proxy of one connected session, as the manager uses it: requests go to it over proved
//! connections, and carry its token.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hpc_proxy::{
    auth::TOKEN_HEADER,
    forward::{ForwardError, Forwarder},
    ports::Listening,
    route::TargetPort,
    upgrade::Pipes,
};
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use serde::Deserialize;
use thiserror::Error;
use tokio::time::timeout;

use crate::{lease::Lease, local_end::LocalEnd};

/// The proxy's own pages answer at once, or something is wrong.
const OWN_PAGE_DEADLINE: Duration = Duration::from_secs(10);
/// A list of some hundred servers.
const LONGEST_LIST_BYTES: usize = 256 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// The proxy cannot be asked for its list of servers.
#[derive(Debug, Error)]
pub enum AskError {
    /// No answer.
    #[error("hpc-proxy cannot be asked")]
    Forward(#[from] ForwardError),
    /// Not the answer.
    #[error("hpc-proxy answered with status {0}")]
    Status(StatusCode),
    /// A broken answer.
    #[error("hpc-proxy's answer cannot be read")]
    Body(#[source] BoxError),
    /// Too late.
    #[error("hpc-proxy did not answer within {} s", OWN_PAGE_DEADLINE.as_secs())]
    Slow,
}

/// The way to the proxy of one session.
#[derive(Debug)]
pub struct Upstream {
    forwarder: Forwarder<LocalEnd, RequestBody>,
    lease: Arc<Lease>,
}

impl Upstream {
    /// Over the tunnel that begins at `local_end`.
    pub fn new(local_end: LocalEnd, lease: Arc<Lease>) -> Self {
        Self {
            forwarder: Forwarder::new(local_end, Pipes::default()),
            lease,
        }
    }

    /// Where the session's proxy and IDE are.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Forwards `request` to `target` of the proxy, with its token. Which of the client's fields
    /// may travel is decided before.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub async fn forward<B>(
        &self,
        mut request: Request<B>,
        target: PathAndQuery,
    ) -> Result<Response<Incoming>, ForwardError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let token = HeaderValue::try_from(self.lease.proxy.token.reveal()).expect("hexadecimal");
        *request.uri_mut() = at_the_proxy(target);
        request.headers_mut().insert(TOKEN_HEADER, sensitive(token));
        self.forwarder
            .forward(request.map(|body| body.map_err(Into::into).boxed_unsync()))
            .await
    }

    /// The user's own servers on the session's node, without the IDE.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn servers(&self) -> Result<Vec<Listening>, AskError> {
        #[derive(Deserialize)]
        struct List {
            ports: Vec<Listening>,
        }
        let mut request = Request::new(Empty::new());
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("localhost"));
        let page = PathAndQuery::from_static("/_hpc-proxy/ports");
        let ask = async {
            let response = self.forward(request, page).await?;
            if response.status() != StatusCode::OK {
                return Err(AskError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), LONGEST_LIST_BYTES)
                .collect()
                .await;
            let body = body.map_err(AskError::Body)?.to_bytes();
            let list: List =
                serde_json::from_slice(&body).map_err(|error| AskError::Body(error.into()))?;
            Ok(list.ports)
        };
        let mut servers = timeout(OWN_PAGE_DEADLINE, ask)
            .await
            .unwrap_or(Err(AskError::Slow))?;
        servers.retain(|server| TargetPort::new(server.port) != Some(self.lease.ide_port));
        Ok(servers)
    }
}

/// The name is never resolved: the connector knows the one place where its proxy is.
fn at_the_proxy(target: PathAndQuery) -> Uri {
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(Authority::from_static("hpc-proxy"))
        .path_and_query(target)
        .build()
        .expect("all three parts are given")
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hpc_proxy::auth::{Nonce, Token};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::local_end::{Address, DialError, Identity};

    const LIST: &str = r#"{"ports":[
        {"port":5500,"address":"127.0.0.1","process":"node","pid":12,"in_session":true},
        {"port":34567,"address":"0.0.0.0","process":"code","pid":13,"in_session":true}]}"#;

    /// A raw peer in place of the proxy: proves itself with `token`, answers the next request with
    /// [`LIST`], and gives everything that it was sent.
    async fn peer(listener: TcpListener, claimed: Identity) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let question = head(&mut stream).await;
        let nonce = question.split(['/', ' ']).nth(4).unwrap();
        let nonce = Nonce::parse(nonce.as_bytes()).unwrap();
        let proof = claimed.token.prove(&nonce, &claimed.instance, claimed.port);
        answer(&mut stream, &serde_json::to_string(&proof).unwrap()).await;
        let request = head(&mut stream).await;
        answer(&mut stream, LIST).await;
        question + &request
    }

    async fn head(stream: &mut TcpStream) -> String {
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") && stream.read_buf(&mut received).await.unwrap() > 0
        {
        }
        String::from_utf8(received).unwrap()
    }

    async fn answer(stream: &mut TcpStream, body: &str) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all((head + body).as_bytes()).await;
    }

    async fn upstream(identity: &Identity) -> (TcpListener, Upstream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().port());
        let lease = Lease::example("node01".parse().unwrap(), identity.clone());
        let local_end = LocalEnd::new(address, identity.clone());
        (listener, Upstream::new(local_end, Arc::new(lease)))
    }

    fn identity() -> Identity {
        Identity {
            instance: "ab".into(),
            port: 40123,
            token: Token::random().unwrap(),
        }
    }

    #[tokio::test]
    async fn the_proved_proxy_is_sent_the_token_and_the_ide_is_no_dev_server() {
        let own = identity();
        let (listener, upstream) = upstream(&own).await;
        let (servers, sent) = tokio::join!(upstream.servers(), peer(listener, own.clone()));
        let ports: Vec<_> = servers.unwrap().iter().map(|server| server.port).collect();
        assert_eq!(ports, [5500]);
        let (question, request) = sent.split_once("\r\n\r\n").unwrap();
        assert!(!question.contains(&own.token.reveal()));
        assert!(
            request.starts_with("GET /_hpc-proxy/ports HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains(&format!("x-hpc-proxy-token: {}", own.token.reveal())));
    }

    // S7.
    #[tokio::test]
    async fn an_impostor_is_sent_nothing_of_a_request() {
        let own = identity();
        let (listener, upstream) = upstream(&own).await;
        let impostor = Identity {
            token: Token::random().unwrap(),
            ..own
        };
        let request = Request::post("/")
            .header("cookie", "a=1")
            .body(Empty::<Bytes>::new());
        let target = PathAndQuery::from_static("/port/5500/secret?x");
        let (refused, sent) = tokio::join!(
            upstream.forward(request.unwrap(), target),
            peer(listener, impostor)
        );
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused.connector_error(), Some(DialError::Impostor(_))),
            "{refused:?}"
        );
        assert_eq!(sent.matches("\r\n\r\n").count(), 1, "{sent}");
        assert!(sent.starts_with("GET /_hpc-proxy/proof/"), "{sent}");
    }
}
