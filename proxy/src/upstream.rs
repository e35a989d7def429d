//! The user's own localhost: which socket answers for a target port, and a connection to it.
//!
//! Nothing is sent to a socket before the kernel has said that it belongs to this user. An address
//! is chosen by its owner, never by what a resolver prefers: on a shared node A may hold
//! `127.0.0.1:5500` while B holds `[::1]:5500`.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Authority};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;

use crate::route::TargetPort;

pub mod owner;
use owner::{Owners, State};

/// Loopback answers at once unless the server's backlog is full; a person waits no longer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Why there is no connection to a target port.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nobody listens there.
    #[error("nothing listens on port `{0}`")]
    NothingListens(TargetPort),
    /// Somebody else listens there.
    #[error("port `{port}` belongs to user `{uid}`")]
    NotYours {
        /// The port that was asked for.
        port: TargetPort,
        /// The user who holds it.
        uid: u32,
    },
    /// The kernel did not say whose port it is, so nothing was sent.
    #[error("cannot tell whose port `{port}` is")]
    OwnerUnknown {
        /// The port that was asked for.
        port: TargetPort,
        /// What the kernel said instead.
        source: io::Error,
    },
    /// The connection failed.
    #[error("cannot connect to port `{port}`")]
    Connect {
        /// The port that was asked for.
        port: TargetPort,
        /// Why.
        source: io::Error,
    },
    /// The server did not accept within the deadline.
    #[error("port `{0}` did not accept a connection in time")]
    Slow(TargetPort),
}

/// One listening socket of this user. As an [`Authority`] it is the key of pooled connections: a
/// new listener on the same port is never served by a connection to the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    ip: IpAddr,
    port: TargetPort,
    inode: u64,
}

impl Target {
    /// What an HTTP client on this node would send as `Host`.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// `INODE.v4:PORT` or `INODE.v6:PORT`.
    pub fn authority(&self) -> Authority {
        let family = if self.ip.is_ipv4() { 4 } else { 6 };
        let Self { inode, port, .. } = self;
        format!("{inode}.v{family}:{port}")
            .parse()
            .expect("digits, letters and dots")
    }

    fn from_authority(authority: &Authority) -> Option<Self> {
        let (inode, family) = authority.host().split_once('.')?;
        let ip = match family {
            "v4" => Ipv4Addr::LOCALHOST.into(),
            "v6" => Ipv6Addr::LOCALHOST.into(),
            _ => return None,
        };
        let port = TargetPort::new(authority.port_u16()?)?;
        Some(Self {
            ip,
            port,
            inode: inode.parse().ok()?,
        })
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.get())
    }
}

/// The localhost of one user.
#[derive(Clone, Debug)]
pub struct Loopback {
    owners: Owners,
    uid: u32,
}

impl Loopback {
    /// That of `uid`.
    pub fn new(owners: Owners, uid: u32) -> Self {
        Self { owners, uid }
    }

    /// The user's own listener for `port`: on 127.0.0.1, else on ::1.
    ///
    /// # Errors
    /// See [`DialError`]; somebody else's listener is told from none.
    pub async fn choose(&self, port: TargetPort) -> Result<Target, DialError> {
        let mut stranger = None;
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let found = self.owners.listener(SocketAddr::new(ip, port.get())).await;
            match found.map_err(|source| DialError::OwnerUnknown { port, source })? {
                Some(socket) if socket.uid == self.uid => {
                    return Ok(Target {
                        ip,
                        port,
                        inode: socket.inode,
                    });
                }
                Some(socket) => stranger = stranger.or(Some(socket.uid)),
                None => {}
            }
        }
        Err(match stranger {
            Some(uid) => DialError::NotYours { port, uid },
            None => DialError::NothingListens(port),
        })
    }

    /// Connects, and proves by the connection's own addresses that this user accepted it. Looking
    /// at the listener before connecting would not do: it may change hands in between.
    async fn dial(&self, target: Target) -> Result<TcpStream, DialError> {
        let (address, port) = (target.address(), target.port);
        let stream = match timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
            Err(_) => return Err(DialError::Slow(port)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(DialError::NothingListens(port));
            }
            Ok(Err(source)) => return Err(DialError::Connect { port, source }),
            Ok(Ok(stream)) => stream,
        };
        let client = stream
            .local_addr()
            .map_err(|source| DialError::Connect { port, source })?;
        let uid = self
            .server_uid(address, client)
            .await
            .map_err(|source| DialError::OwnerUnknown { port, source })?;
        if uid != self.uid {
            return Err(DialError::NotYours { port, uid });
        }
        stream
            .set_nodelay(true)
            .map_err(|source| DialError::Connect { port, source })?;
        Ok(stream)
    }

    /// The user at the server's end of our connection. A connection that nobody accepted yet has
    /// no owner of its own on every kernel; its listener's counts, if the connection is still
    /// there afterwards: a listener that closes takes its unaccepted connections with it.
    async fn server_uid(&self, server: SocketAddr, client: SocketAddr) -> io::Result<u32> {
        let gone = || io::Error::new(io::ErrorKind::ConnectionReset, "the connection is gone");
        let ours = async || {
            let found = self.owners.connection(server, client).await?;
            // One that is closed and has no owner need not have been the present listener's.
            found
                .filter(|socket| match socket.state {
                    State::Listening => false,
                    State::Open => true,
                    State::Closing => socket.inode != 0,
                })
                .ok_or_else(gone)
        };
        let first = ours().await?;
        if first.inode != 0 {
            return Ok(first.uid);
        }
        let listener = self.owners.listener(server).await?.ok_or_else(gone)?;
        let second = ours().await?;
        Ok(if second.inode == 0 {
            listener.uid
        } else {
            second.uid
        })
    }
}

impl Service<Uri> for Loopback {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let loopback = self.clone();
        Box::pin(async move {
            let target = uri.authority().and_then(Target::from_authority);
            let target = target.expect("only `Target::authority` is dialled here");
            loopback.dial(target).await.map(TokioIo::new)
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn port_of(listener: &TcpListener) -> TargetPort {
        TargetPort::new(listener.local_addr().unwrap().port()).unwrap()
    }

    // Behaviour 122.
    #[tokio::test]
    async fn an_owned_server_is_chosen_and_dialled_wherever_it_listens() {
        for owners in [Owners::probe(), Owners::by_table()] {
            for bound in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
                let listener = TcpListener::bind(bound).unwrap();
                let loopback = Loopback::new(owners.clone(), me());
                let target = loopback.choose(port_of(&listener)).await.unwrap();
                assert_eq!(Target::from_authority(&target.authority()), Some(target));
                loopback.dial(target).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_strangers_server_is_refused_and_gets_no_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port_of(&listener);
        let stranger = Loopback::new(Owners::probe(), me() + 1);
        let refused = stranger.choose(port).await;
        assert!(
            matches!(refused, Err(DialError::NotYours { uid, .. }) if uid == me()),
            "{refused:?}"
        );

        // Also where it took the port between the choice and the connection.
        let target = Target {
            ip: Ipv4Addr::LOCALHOST.into(),
            port,
            inode: 1,
        };
        let refused = stranger.dial(target).await;
        assert!(
            matches!(refused, Err(DialError::NotYours { .. })),
            "{refused:?}"
        );
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(io::Read::read(&mut accepted, &mut [0; 16]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_port_without_a_server_is_told_from_a_strangers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port_of(&listener);
        drop(listener);
        let refused = Loopback::new(Owners::probe(), me()).choose(port).await;
        assert!(
            matches!(refused, Err(DialError::NothingListens(_))),
            "{refused:?}"
        );
    }

    // Behaviour 91: the time is virtual, the full backlog is real.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_accept_is_given_up() {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

        let server = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&server, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        listen(&server, 0).unwrap();
        let address = SocketAddr::try_from(getsockname(&server).unwrap()).unwrap();
        let _queued = std::net::TcpStream::connect(address).unwrap();

        let port = TargetPort::new(address.port()).unwrap();
        let loopback = Loopback::new(Owners::probe(), me());
        let target = loopback.choose(port).await.unwrap();
        let refused = loopback.dial(target).await;
        assert!(matches!(refused, Err(DialError::Slow(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_new_listener_on_the_same_port_is_another_target() {
        let loopback = Loopback::new(Owners::probe(), me());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, address) = (port_of(&listener), listener.local_addr().unwrap());
        let before = loopback.choose(port).await.unwrap();
        drop(listener);
        let _listener = TcpListener::bind(address).unwrap();
        let after = loopback.choose(port).await.unwrap();
        assert_ne!(before.authority(), after.authority());
    }
}
