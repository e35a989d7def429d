//! The lock: a key that the kernel wants to see on every packet of a connection (TCP MD5
//! signatures, RFC 2385; tcp(7) `TCP_MD5SIG`). Without it a packet is dropped before it reaches a
//! listener, so that no other user opens a private port; and a connection with a key never reaches
//! a server without it. It keeps local users out, and encrypts nothing.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt},
};

use crate::{
    filter::last_error,
    map::{check_private, write_anew},
};

/// Half of what the kernel takes, and more than anybody guesses.
const KEY_BYTES: usize = 32;
/// `TCP_MD5SIG_EXT` and `TCP_MD5SIG_FLAG_PREFIX` of `linux/tcp.h` (Linux 4.13).
const TCP_MD5SIG_EXT: libc::c_int = 32;
const WITH_PREFIX: u8 = 1;
/// Bytes of `struct tcp_md5sig`: the peer's address in 128, flags, length of the prefix, length of
/// the key, interface, key in 80.
const REQUEST_BYTES: usize = 216;
/// On loopback a handshake is over at once, and the one that never comes is not waited for.
const HANDSHAKE: Duration = Duration::from_millis(200);
const NO_HANDSHAKE: Duration = Duration::from_millis(5);

/// A user's key on this node.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn random() -> io::Result<Self> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self(key))
    }

    /// The one in the file `key` of `directory`, which must be this user's alone; the first to ask
    /// makes it.
    ///
    /// # Errors
    /// When it is not, or the file is not a key.
    pub fn of_user(directory: &Path) -> io::Result<Self> {
        check_private(directory)?;
        let file = directory.join("key");
        if !file.exists() {
            let draft = directory.join(format!("key.{}", std::process::id()));
            write_anew(&draft, &Self::random()?.0)?;
            // The first one stays, whoever else makes one at the same time.
            let made = fs::hard_link(&draft, &file);
            fs::remove_file(&draft)?;
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let key = fs::read(&file)?
            .try_into()
            .map_err(|_| io::Error::other(format!("`{}` is not a key", file.display())))?;
        Ok(Self(key))
    }

    /// Lets `socket`, which will listen, take connections with the key alone.
    ///
    /// # Errors
    /// When the kernel does not offer it.
    pub fn guard(&self, socket: impl AsFd) -> io::Result<()> {
        everyone(&socket, &self.0)
    }

    /// Undoes [`Self::guard`].
    pub(crate) fn unguard(socket: impl AsFd) {
        // There is nothing to undo where it fails.
        let _ = everyone(&socket, &[]);
    }

    /// Lets `socket` show the key to `server`, which it will connect to.
    ///
    /// # Errors
    /// When the kernel does not offer it.
    pub fn apply(&self, socket: impl AsFd, server: SocketAddr) -> io::Result<()> {
        one(&socket, server.ip(), &self.0)
    }

    /// Undoes [`Self::apply`].
    pub(crate) fn withdraw(socket: impl AsFd, server: SocketAddr) {
        let _ = one(&socket, server.ip(), &[]);
    }
}

/// Whoever the peer is: a client may send from any address of this machine. A socket for IPv6 has
/// its peers of IPv4 apart.
fn everyone(socket: &impl AsFd, key: &[u8]) -> io::Result<()> {
    match sockopt::socket_domain(socket)? {
        AddressFamily::INET6 => {
            set(socket, Ipv6Addr::UNSPECIFIED.into(), 0, key)?;
            let mapped = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
            set(socket, mapped.into(), 0, key)
        }
        _ => set(socket, Ipv4Addr::UNSPECIFIED.into(), 0, key),
    }
}

fn one(socket: &impl AsFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    let ip = match (sockopt::socket_domain(socket)?, peer.to_canonical()) {
        (AddressFamily::INET6, IpAddr::V4(ip)) => ip.to_ipv6_mapped().into(),
        (_, ip) => ip,
    };
    // Of an IPv4 address in an IPv6 one, only the bits of the former count.
    let bits = match ip.to_canonical() {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    set(socket, ip, bits, key)
}

fn set(socket: &impl AsFd, peer: IpAddr, prefix: u8, key: &[u8]) -> io::Result<()> {
    let request = request(peer, prefix, key);
    // SAFETY: the kernel reads as many bytes as it is told are there, and writes none.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_MD5SIG_EXT,
            request.as_ptr().cast(),
            REQUEST_BYTES as libc::socklen_t,
        )
    };
    if done < 0 {
        Err(last_error().into())
    } else {
        Ok(())
    }
}

/// `struct tcp_md5sig`; no key takes the present one away.
fn request(peer: IpAddr, prefix: u8, key: &[u8]) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    let family = match peer {
        IpAddr::V4(ip) => {
            bytes[4..8].copy_from_slice(&ip.octets());
            libc::AF_INET
        }
        IpAddr::V6(ip) => {
            bytes[8..24].copy_from_slice(&ip.octets());
            libc::AF_INET6
        }
    };
    bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    bytes[128] = WITH_PREFIX;
    bytes[129] = prefix;
    bytes[130..132].copy_from_slice(&(key.len() as u16).to_ne_bytes());
    bytes[136..][..key.len()].copy_from_slice(key);
    bytes
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum NoLock {
    /// The kernel does not know of it, or is forbidden it.
    #[error("the kernel takes no keys (TCP_MD5SIG)")]
    NotOffered(#[source] io::Error),
    /// It said that it does, and it does not.
    #[error("the kernel takes keys (TCP_MD5SIG) and does not act on them")]
    NotKept,
}

/// Tries whether a connection with the key comes through and one without does not.
///
/// # Errors
/// When it is otherwise.
pub fn try_lock() -> Result<(), NoLock> {
    let tried = try_key().map_err(NoLock::NotOffered)?;
    if tried { Ok(()) } else { Err(NoLock::NotKept) }
}

fn try_key() -> io::Result<bool> {
    let key = Key::random()?;
    let server = socket_of(AddressFamily::INET)?;
    key.guard(&server)?;
    bind(&server, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    listen(&server, 2)?;
    let server = TcpListener::from(server);
    let address = server.local_addr()?;
    let comes_through = |client: &OwnedFd, deadline: Duration| -> io::Result<bool> {
        match connect(client, &address) {
            Ok(()) => return Ok(true),
            Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut wanted = [PollFd::new(client, PollFlags::OUT)];
        let deadline = deadline.try_into().expect("a short time");
        Ok(poll(&mut wanted, Some(&deadline))? == 1 && sockopt::socket_error(client)?.is_ok())
    };
    let (with, without) = (
        socket_of(AddressFamily::INET)?,
        socket_of(AddressFamily::INET)?,
    );
    key.apply(&with, address)?;
    Ok(comes_through(&with, HANDSHAKE)? && !comes_through(&without, NO_HANDSHAKE)?)
}

fn socket_of(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}
