//! The local end of a tunnel: dials it, and hands a connection over only once the proxy at the far
//! end has proved on it that it is itself.
//!
//! Until then not a byte of a user or of the token is sent: a dead proxy's port may be held by
//! anybody on its node, and a tunnel's TCP port by anybody on this machine. The proof tells the real
//! proxy from an impostor, not a direct way to it from one through a relay; a tunnel that ends at a
//! Unix socket in a private directory, as with several users, leaves no place for one.

use std::{fmt, io, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use hpc_proxy::{
    ask::{self, AskError},
    auth::{NoRandom, Nonce, Proof, Token},
    http1::{fields::Fields, name::Name},
    socket::Socket,
};
use thiserror::Error;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

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
    NoProof(#[source] AskError),
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

/// Dials one tunnel.
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
    pub async fn connect(&self) -> Result<Socket, DialError> {
        let (address, identity) = &*self.0;
        let proved = async {
            let mut socket = dial(address).await.map_err(|source| DialError::Connect {
                address: address.clone(),
                source,
            })?;
            prove(&mut socket, identity).await?;
            Ok(socket)
        };
        timeout(DIAL_DEADLINE, proved)
            .await
            .unwrap_or(Err(DialError::Slow))
    }
}

async fn dial(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp(port) => {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?;
            // Small frames of a terminal must not wait for each other.
            stream.set_nodelay(true)?;
            Ok(stream.into())
        }
        Address::Unix(path) => Ok(UnixStream::connect(path).await?.into()),
    }
}

/// Asks for a proof on the connection, which is good for its first real request then.
async fn prove(socket: &mut Socket, identity: &Identity) -> Result<(), DialError> {
    let nonce = Nonce::random()?;
    let page = format!("/_hpc-proxy/proof/{}", nonce.to_hex());
    let mut fields = Fields::new();
    fields.push(Name::Host, b"localhost");
    let impostor = || DialError::Impostor(identity.instance.clone());
    let (status, body) = ask::get(socket, &page, &fields, LONGEST_PROOF_BYTES)
        .await
        .map_err(|error| match error {
            AskError::Surplus => impostor(),
            error => DialError::NoProof(error),
        })?;
    let proof = serde_json::from_slice::<Proof>(&body)
        .ok()
        .filter(|_| status == 200);
    let holds = proof.is_some_and(|proof| {
        identity
            .token
            .verify(&proof, &nonce, &identity.instance, identity.port)
    });
    if holds { Ok(()) } else { Err(impostor()) }
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

    async fn say_hello(mut proved: Socket) -> Result<(), DialError> {
        let hello = b"GET /hello HTTP/1.1\r\n\r\n";
        proved.write_all(hello).await.unwrap();
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
