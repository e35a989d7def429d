//! Who holds a port, as whoever uses this crate finds out.

use std::{io, net::SocketAddr};

/// Tells whose a port is.
pub trait Owners: Send {
    /// The socket that would be asked to accept a connection to `address`: by the kernel's own
    /// choice, which takes those that listen on all addresses into account.
    ///
    /// # Errors
    /// When the kernel does not answer.
    fn listener(&self, address: SocketAddr) -> io::Result<Option<Owner>>;
}

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its user.
    pub uid: u32,
    /// Its number, the same as fstat(2) tells of it.
    pub inode: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether a connection would have to wait until it accepts others.
    pub is_full: bool,
}
