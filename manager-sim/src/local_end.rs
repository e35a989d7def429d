//! The local end of a tunnel: dials it, and hands a connection over only once the proxy at the far
//! end has proved on it that it is itself.
//!
//! Until then not a byte of a user or of the token is sent: a dead proxy's port may be held by
//! anybody on its node, and a tunnel's TCP port by anybody on this machine. The proof tells the real
//! proxy from an impostor, not a direct way to it from one through a relay; a tunnel that ends at a
//! Unix socket in a private directory, as with several users, leaves no place for one.

use std::{
    error::Error as StdError,
    fmt, io,
    net::Ipv4Addr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hpc_proxy::auth::{NoRandom, Nonce, Proof, Token};
use http::{HeaderValue, Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    client::conn::http1,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use thiserror::Error;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_util::either::Either;
use tower_service::Service;

/// How long a connection with its proof may take. A busy node answers late; a dead one never.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// A proof is some 150 bytes of JSON.
const LONGEST_PROOF_BYTES: usize = 1024;

/// Where a tunnel begins on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A port of 127.0.0.1, for a single user.
    Tcp(u16),
    /// A socket in a directory of ours, which no other user can reach.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "127.0.0.1:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What the proxy at the far end must prove to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which start of which proxy.
    pub instance: String,
    /// Where it listens on its node.
    pub port: u16,
    /// The secret that it shares with us.
    pub token: Token,
}

/// Why there is no connection that may be used.
#[derive(Debug, Error)]
pub enum DialError {
    /// The tunnel's local end does not accept.
    #[error("cannot connect to `{address}`")]
    Connect {
        /// The local end.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody answers the question, or with something else than an answer.
    #[error("no proof from the far end of the tunnel")]
    NoProof(#[source] Box<dyn StdError + Send + Sync>),
    /// What answers is not the proxy that the lease names.
    #[error("who answers at the far end of the tunnel is not hpc-proxy `{0}`")]
    Impostor(String),
    /// Too slow.
    #[error("no proof from the far end of the tunnel within {} s", DIAL_DEADLINE.as_secs())]
    Slow,
    /// No nonce.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// Dials one tunnel, as hyper-util's connector too; whatever URI is asked for.
#[derive(Clone, Debug)]
pub struct LocalEnd(Arc<(Address, Identity)>);

impl LocalEnd {
    /// Dials `address` for the proxy that is `identity`.
    pub fn new(address: Address, identity: Identity) -> Self {
        Self(Arc::new((address, identity)))
    }

    /// A connection on which the proxy has proved itself.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect(&self) -> Result<Proved, DialError> {
        let (address, identity) = &*self.0;
        let proved = async {
            let stream = dial(address).await.map_err(|source| DialError::Connect {
                address: address.clone(),
                source,
            })?;
            prove(stream, identity).await
        };
        timeout(DIAL_DEADLINE, proved)
            .await
            .unwrap_or(Err(DialError::Slow))
    }
}

impl Service<Uri> for LocalEnd {
    type Response = Proved;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Proved, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let local_end = self.clone();
        Box::pin(async move { local_end.connect().await })
    }
}

type Stream = Either<TcpStream, UnixStream>;

/// A connection whose far end is who it should be.
#[derive(Debug)]
pub struct Proved(TokioIo<Stream>);

async fn dial(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Tcp(port) => {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?;
            // Small frames of a terminal must not wait for each other.
            stream.set_nodelay(true)?;
            Ok(Either::Left(stream))
        }
        Address::Unix(path) => Ok(Either::Right(UnixStream::connect(path).await?)),
    }
}

/// Asks for a proof on the connection, and gives it back for its first real request.
async fn prove(stream: Stream, identity: &Identity) -> Result<Proved, DialError> {
    let no_proof = |error: hyper::Error| DialError::NoProof(error.into());
    let nonce = Nonce::random()?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = format!("/_hpc-proxy/proof/{}", nonce.to_hex())
        .parse()
        .expect("hexadecimal digits make a path");
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_static("localhost"));

    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(no_proof)?;
    let ask = async move {
        let response = sender.send_request(request).await.map_err(no_proof)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_PROOF_BYTES)
            .collect()
            .await
            .map_err(DialError::NoProof)?;
        // Kept until here: without it the connection would be closed.
        drop(sender);
        Ok((status, body.to_bytes()))
    };
    let whole = async { connection.without_shutdown().await.map_err(no_proof) };
    let ((status, body), parts) = tokio::try_join!(ask, whole)?;

    let proof = serde_json::from_slice::<Proof>(&body)
        .ok()
        .filter(|_| status == StatusCode::OK);
    let holds = proof.is_some_and(|proof| {
        identity
            .token
            .verify(&proof, &nonce, &identity.instance, identity.port)
    });
    // More bytes than the answer are nothing that we asked for.
    if holds && parts.read_buf.is_empty() {
        Ok(Proved(parts.io))
    } else {
        Err(DialError::Impostor(identity.instance.clone()))
    }
}

impl Connection for Proved {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Proved {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Proved {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, UnixListener},
    };

    use super::*;

    fn identity() -> Identity {
        Identity {
            instance: "ab12".into(),
            port: 40123,
            token: Token::random().unwrap(),
        }
    }

    type Answer = Box<dyn FnOnce(&Nonce) -> String + Send>;

    /// A raw peer: answers the first request with what `answer` makes of its nonce, and gives
    /// everything that it was ever sent.
    async fn serve(
        mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
        answer: impl FnOnce(&Nonce) -> String,
    ) -> String {
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            assert_ne!(
                stream.read_buf(&mut received).await.unwrap(),
                0,
                "closed early"
            );
        }
        let text = String::from_utf8_lossy(&received);
        let nonce = text
            .strip_prefix("GET /_hpc-proxy/proof/")
            .unwrap()
            .split(' ')
            .next();
        let answer = answer(&Nonce::parse(nonce.unwrap().as_bytes()).unwrap());
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut received).await;
        String::from_utf8_lossy(&received).into_owned()
    }

    /// Dials a TCP peer and says hello to it once it is proved; gives what the peer received.
    async fn dial_tcp(
        identity: &Identity,
        answer: impl FnOnce(&Nonce) -> String,
    ) -> (Result<(), DialError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().port());
        let local_end = LocalEnd::new(address, identity.clone());
        let dial = async { say_hello(local_end.connect().await?).await };
        let peer = async { serve(listener.accept().await.unwrap().0, answer).await };
        tokio::join!(dial, peer)
    }

    async fn say_hello(proved: Proved) -> Result<(), DialError> {
        proved
            .0
            .into_inner()
            .write_all(b"GET /hello HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        Ok(())
    }

    fn response(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn proof(identity: &Identity, nonce: &Nonce) -> String {
        let proof = identity
            .token
            .prove(nonce, &identity.instance, identity.port);
        response(&serde_json::to_string(&proof).unwrap())
    }

    #[tokio::test]
    async fn a_proved_connection_carries_on_over_tcp() {
        let identity = identity();
        let (dialled, received) = dial_tcp(&identity, |nonce| proof(&identity, nonce)).await;
        dialled.unwrap();
        assert!(
            received.ends_with("GET /hello HTTP/1.1\r\n\r\n"),
            "{received}"
        );
    }

    #[tokio::test]
    async fn a_proved_connection_carries_on_over_a_unix_socket() {
        let identity = identity();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alice.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let local_end = LocalEnd::new(Address::Unix(path), identity.clone());
        let dial = async { say_hello(local_end.connect().await?).await };
        let peer = async {
            serve(listener.accept().await.unwrap().0, |nonce| {
                proof(&identity, nonce)
            })
            .await
        };
        let (dialled, received) = tokio::join!(dial, peer);
        dialled.unwrap();
        assert!(
            received.ends_with("GET /hello HTTP/1.1\r\n\r\n"),
            "{received}"
        );
    }

    // S7: the impostor notes what it is sent.
    #[tokio::test]
    async fn an_impostor_gets_a_question_and_nothing_else() {
        let own = identity();
        let stranger = Identity {
            token: Token::random().unwrap(),
            ..own.clone()
        };
        let elsewhere = Identity {
            port: 40124,
            ..own.clone()
        };
        let other_start = Identity {
            instance: "cd34".into(),
            ..own.clone()
        };
        let answers: Vec<Answer> = vec![
            Box::new(move |nonce| proof(&stranger, nonce)),
            // A relay to the real proxy on another port, or to a later start of it.
            Box::new(move |nonce| proof(&elsewhere, nonce)),
            Box::new(move |nonce| proof(&other_start, nonce)),
            Box::new(|_| response("{}")),
            Box::new(|_| response(&"x".repeat(100_000))),
            Box::new(|_| "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into()),
            Box::new(|_| "SSH-2.0-OpenSSH_9.2p1\r\n".into()),
        ];
        for (number, answer) in answers.into_iter().enumerate() {
            let (dialled, received) = dial_tcp(&own, answer).await;
            assert!(dialled.is_err(), "answer {number} was believed");
            assert!(!received.contains(&own.token.reveal()), "answer {number}");
            assert_eq!(
                received.matches("HTTP/1.1").count(),
                1,
                "answer {number}: {received}"
            );
        }
    }

    #[tokio::test]
    async fn a_true_proof_with_more_behind_it_is_not_taken() {
        let own = identity();
        let more = |nonce: &Nonce| proof(&own, nonce) + "HTTP/1.1 200 OK\r\n\r\n";
        assert!(dial_tcp(&own, more).await.0.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().port());
        let dialled = LocalEnd::new(address, identity()).connect().await;
        assert!(matches!(dialled, Err(DialError::Slow)), "{dialled:?}");
    }
}
