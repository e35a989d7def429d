//! Connections that end at a process of one user, and at nobody else's: proved before a byte is
//! sent.
//!
//! For what this user's own programs ask each other. Requests are forwarded by
//! [`crate::upstream`], which chooses among addresses and keeps connections.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use private_localhost::Key;
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::upstream::owner::Owners;

/// Why there is no connection to a process of this user's.
#[derive(Debug, Error)]
pub enum NotOwn {
    /// Nobody listens there.
    #[error("nothing listens on `{0}`")]
    Nobody(SocketAddr),
    /// Somebody else listens there.
    #[error("`{place}` belongs to user `{uid}`")]
    Foreign {
        /// Where.
        place: String,
        /// Who.
        uid: u32,
    },
    /// The kernel did not say whose it is, so nothing was sent.
    #[error("cannot tell whose `{address}` is")]
    OwnerUnknown {
        /// Where.
        address: SocketAddr,
        /// What the kernel said instead.
        source: io::Error,
    },
    /// The connection failed.
    #[error("cannot connect to `{address}`")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection to a Unix socket failed.
    #[error("cannot connect to `{path}`")]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Connects to a listener of `uid` at `address`, with the key to it if it is locked. Set a deadline:
/// a locked one does not answer to another key.
///
/// # Errors
/// See [`NotOwn`].
pub async fn connect_tcp(
    owners: &Owners,
    address: SocketAddr,
    uid: u32,
    key: Option<&Key>,
) -> Result<TcpStream, NotOwn> {
    let found = owners.listener(address).await;
    // Not to disturb a stranger's server with a connection that it will not get a byte on.
    match found.map_err(|source| NotOwn::OwnerUnknown { address, source })? {
        None => return Err(NotOwn::Nobody(address)),
        Some(listener) if listener.uid != uid => {
            return Err(NotOwn::Foreign {
                place: address.to_string(),
                uid: listener.uid,
            });
        }
        Some(_) => {}
    }
    connect_proved(owners, address, uid, key).await
}

/// Connects to `address`, with the key to a locked server, and proves by the connection's own
/// addresses that `uid` accepted it. Looking at the listener before would not do: it may change
/// hands in between.
///
/// # Errors
/// See [`NotOwn`].
pub(crate) async fn connect_proved(
    owners: &Owners,
    address: SocketAddr,
    uid: u32,
    key: Option<&Key>,
) -> Result<TcpStream, NotOwn> {
    let failed = |source| NotOwn::Tcp { address, source };
    let stream = match key {
        None => TcpStream::connect(address).await,
        Some(key) => connect_locked(address, key).await,
    };
    let stream = stream.map_err(failed)?;
    let client = stream.local_addr().map_err(failed)?;
    match owners.acceptor(address, client).await {
        Ok(acceptor) if acceptor == uid => Ok(stream),
        Ok(acceptor) => Err(NotOwn::Foreign {
            place: address.to_string(),
            uid: acceptor,
        }),
        Err(source) => Err(NotOwn::OwnerUnknown { address, source }),
    }
}

async fn connect_locked(address: SocketAddr, key: &Key) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    key.apply(&socket, address)?;
    socket.connect(address).await
}

/// Connects to the Unix socket at `path`, whose listener must be `uid`'s (`SO_PEERCRED` of
/// unix(7): who called listen).
///
/// # Errors
/// See [`NotOwn`].
pub async fn connect_unix(path: &Path, uid: u32) -> Result<UnixStream, NotOwn> {
    let failed = |source| NotOwn::Unix {
        path: path.to_owned(),
        source,
    };
    let stream = UnixStream::connect(path).await.map_err(failed)?;
    let peer = stream.peer_cred().map_err(failed)?.uid();
    if peer == uid {
        Ok(stream)
    } else {
        Err(NotOwn::Foreign {
            place: path.display().to_string(),
            uid: peer,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener};

    use super::*;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[tokio::test]
    async fn ones_own_server_is_reached() {
        for owners in [Owners::probe(), Owners::by_table()] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            connect_tcp(&owners, address, me(), None).await.unwrap();
        }
    }

    // S4, S7.
    #[tokio::test]
    async fn a_strangers_server_is_not_even_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let refused = connect_tcp(&Owners::probe(), address, me() + 1, None).await;
        assert!(
            matches!(refused, Err(NotOwn::Foreign { uid, .. }) if uid == me()),
            "{refused:?}"
        );
        listener.set_nonblocking(true).unwrap();
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(listener);
        let refused = connect_tcp(&Owners::probe(), address, me(), None).await;
        assert!(matches!(refused, Err(NotOwn::Nobody(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_its_listeners() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        connect_unix(&path, me()).await.unwrap();
        let refused = connect_unix(&path, me() + 1).await;
        assert!(
            matches!(refused, Err(NotOwn::Foreign { uid, .. }) if uid == me()),
            "{refused:?}"
        );
        for _ in 0..2 {
            let (mut accepted, _) = listener.accept().unwrap();
            assert_eq!(accepted.read(&mut [0; 16]).unwrap(), 0);
        }
        drop(listener);
        assert!(matches!(
            connect_unix(&path, me()).await,
            Err(NotOwn::Unix { .. })
        ));
    }
}
