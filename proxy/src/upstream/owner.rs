//! Whose socket it is: asked of the kernel, which alone cannot be lied to.
//!
//! An exact NETLINK_SOCK_DIAG lookup (sock_diag(7)) is the kernel's own: it names the socket that
//! would get our packet, wildcards and dual-stack sockets included. Where sock_diag is missing,
//! `/proc/net/tcp` and `tcp6` (proc_pid_net(5)) are read instead. What to do with an answer is
//! [`super`]'s decision.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

mod diag;
mod table;

/// The readers of what the kernel says, for whoever feeds them other bytes.
#[doc(hidden)]
pub mod readers {
    pub use super::{diag::read_datagram, table::read_table};
}

/// A kernel socket as its owner matters to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where it listens, or its local address.
    pub address: SocketAddr,
    /// The user whose socket it is.
    pub uid: u32,
    /// Its number while a process holds it; 0 for a connection that nobody accepted yet.
    pub inode: u64,
    /// What it is for.
    pub state: State,
    /// Of a listener, whether a connection would wait until others were accepted. Where nobody
    /// tells, it is said not to.
    pub is_full: bool,
}

/// The states of a TCP socket that matter to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It listens.
    Listening,
    /// It is connected, or about to be.
    Open,
    /// Its server has closed it, or gave up before.
    Closing,
}

impl State {
    /// `TCP_LISTEN` of `net/tcp_states.h`.
    const LISTEN: u8 = 10;

    /// From the kernel's number (`net/tcp_states.h`).
    fn of(number: u8) -> Self {
        match number {
            Self::LISTEN => Self::Listening,
            // TCP_ESTABLISHED, TCP_SYN_RECV, TCP_NEW_SYN_RECV.
            1 | 3 | 12 => Self::Open,
            _ => Self::Closing,
        }
    }
}

/// A way to ask the kernel.
#[derive(Clone, Debug)]
pub struct Owners(Source);

#[derive(Clone, Debug)]
enum Source {
    Diag(Arc<diag::Diag>),
    Table,
}

impl Owners {
    /// The best way that this kernel offers.
    pub fn probe() -> Self {
        match diag::Diag::open() {
            Ok(diag) => Self(Source::Diag(Arc::new(diag))),
            Err(error) => {
                tracing::warn!(%error, "no sock_diag here, reading /proc/net instead");
                Self(Source::Table)
            }
        }
    }

    /// Whether it asks sock_diag, and does not have to read tables.
    pub fn is_fast(&self) -> bool {
        matches!(self.0, Source::Diag(_))
    }

    /// Always the slower way, for tests of it.
    #[cfg(test)]
    pub(crate) fn by_table() -> Self {
        Self(Source::Table)
    }

    /// The socket that would be asked to accept a connection to `address`.
    ///
    /// # Errors
    /// When the kernel does not answer; then nothing may be believed.
    pub async fn listener(&self, address: SocketAddr) -> io::Result<Option<Socket>> {
        match &self.0 {
            Source::Diag(_) => self.listener_now(address),
            Source::Table => {
                let owners = self.clone();
                blocking(move || owners.listener_now(address)).await
            }
        }
    }

    /// As [`Self::listener`], for those who may wait for the slower way too.
    ///
    /// # Errors
    /// As [`Self::listener`].
    pub fn listener_now(&self, address: SocketAddr) -> io::Result<Option<Socket>> {
        let found = match &self.0 {
            Source::Diag(diag) => diag.find(address, None)?,
            Source::Table => table::find(address, None)?,
        };
        Ok(found.filter(|socket| socket.state == State::Listening))
    }

    /// The server's side of the connection from `client` to `server`, or, where there is none, the
    /// listener that would get one.
    ///
    /// # Errors
    /// As [`Self::listener`].
    pub async fn connection(
        &self,
        server: SocketAddr,
        client: SocketAddr,
    ) -> io::Result<Option<Socket>> {
        match &self.0 {
            Source::Diag(diag) => diag.find(server, Some(client)),
            Source::Table => blocking(move || table::find(server, Some(client))).await,
        }
    }

    /// The user at the server's end of a connection of ours from `client` to `server`. One that
    /// nobody accepted yet has no owner of its own on every kernel; its listener's counts, if the
    /// connection is still there afterwards: a listener that closes takes its unaccepted
    /// connections with it.
    ///
    /// # Errors
    /// As [`Self::listener`], and when the connection is gone.
    pub async fn acceptor(&self, server: SocketAddr, client: SocketAddr) -> io::Result<u32> {
        let gone = || io::Error::new(io::ErrorKind::ConnectionReset, "the connection is gone");
        let ours = async || {
            let found = self.connection(server, client).await?;
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
        let listener = self.listener(server).await?.ok_or_else(gone)?;
        let second = ours().await?;
        Ok(if second.inode == 0 {
            listener.uid
        } else {
            second.uid
        })
    }

    /// Every listening TCP socket of this network namespace.
    ///
    /// # Errors
    /// As [`Self::listener`].
    pub async fn listeners(&self) -> io::Result<Vec<Socket>> {
        match &self.0 {
            Source::Diag(diag) => diag.listeners(),
            Source::Table => blocking(table::listeners).await,
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

/// The address of the same family that stands for all of them.
fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    fn both() -> [Owners; 2] {
        [Owners::probe(), Owners::by_table()]
    }

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[tokio::test]
    async fn finds_a_listener_on_any_address_that_would_get_the_connection() {
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let listener = TcpListener::bind(bound).unwrap();
            let port = listener.local_addr().unwrap().port();
            for owners in both() {
                let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let found = owners.listener(asked).await.unwrap().expect("it listens");
                assert_eq!(
                    (found.uid, found.state),
                    (me(), State::Listening),
                    "{bound} {owners:?}"
                );
                assert_ne!(found.inode, 0, "{bound} {owners:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_listener_of_the_other_family_is_not_taken_for_it() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for owners in both() {
            let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            assert_eq!(owners.listener(v4).await.unwrap(), None, "{owners:?}");
            assert!(owners.listener(v6).await.unwrap().is_some(), "{owners:?}");
        }
    }

    #[tokio::test]
    async fn tells_an_accepted_connection_from_one_that_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let stream = TcpStream::connect(server).unwrap();
        let client = stream.local_addr().unwrap();
        for owners in both() {
            let waiting = owners
                .connection(server, client)
                .await
                .unwrap()
                .expect("connected");
            assert_eq!(
                (waiting.state, waiting.inode),
                (State::Open, 0),
                "{owners:?}"
            );
        }
        let _accepted = listener.accept().unwrap();
        for owners in both() {
            let accepted = owners
                .connection(server, client)
                .await
                .unwrap()
                .expect("connected");
            assert_eq!(
                (accepted.state, accepted.uid),
                (State::Open, me()),
                "{owners:?}"
            );
            assert_ne!(accepted.inode, 0, "{owners:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_found_where_nothing_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        for owners in both() {
            assert_eq!(owners.listener(address).await.unwrap(), None, "{owners:?}");
        }
    }

    #[tokio::test]
    async fn lists_listeners_of_both_families() {
        let (v4, v6) = (
            TcpListener::bind("127.0.0.1:0"),
            TcpListener::bind("[::1]:0"),
        );
        let addresses = [v4, v6]
            .map(|listener| listener.unwrap())
            .map(|l| (l.local_addr().unwrap(), l));
        for owners in both() {
            let listed = owners.listeners().await.unwrap();
            for (address, _) in &addresses {
                let found = listed.iter().find(|socket| socket.address == *address);
                assert_eq!(
                    found.map(|socket| socket.uid),
                    Some(me()),
                    "{address} {owners:?}"
                );
            }
        }
    }
}
