//! A fresh socket in the place of the caller's: where the caller's own is out of reach, as in
//! containers that forbid pidfd_getfd(2), and where it cannot have a key. What the caller has set on
//! its own is lost, but for what can be read.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    fs::OFlags,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt},
};

use crate::{
    notify::{Call, Kind, Listener},
    target::{self, Facts},
};

/// How many fresh sockets are remembered. Who asks again does so at once.
const MOST_REMEMBERED: usize = 1024;

/// The socket to act on.
#[derive(Debug)]
pub(crate) struct Held {
    socket: OwnedFd,
    replaces: Option<Place>,
}

/// Where a fresh socket goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: RawFd,
    closes_on_exec: bool,
}

impl Held {
    /// The caller's own.
    pub(crate) fn own(socket: OwnedFd) -> Self {
        Self {
            socket,
            replaces: None,
        }
    }

    /// A fresh one, as like as possible to the caller's, which is `original` where that is known.
    pub(crate) fn fresh(
        call: &Call,
        facts: Facts,
        original: Option<&OwnedFd>,
    ) -> Result<Self, Errno> {
        let flags = target::flags(call.thread, call.socket).ok_or(Errno::BADF)?;
        let family = if facts.is_v6 {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        let mut made = SocketFlags::CLOEXEC;
        made.set(SocketFlags::NONBLOCK, flags.contains(OFlags::NONBLOCK));
        let socket = socket_with(family, SocketType::STREAM, made, Some(ipproto::TCP))?;
        match original {
            Some(original) => copy_options(original, &socket)?,
            // Nearly every server wants it, and none can restart without it.
            None if call.kind == Kind::Bind => sockopt::set_socket_reuseaddr(&socket, true)?,
            None => {}
        }
        Ok(Self {
            socket,
            replaces: Some(Place {
                number: call.socket,
                closes_on_exec: flags.contains(OFlags::CLOEXEC),
            }),
        })
    }

    /// Gives the caller what it does not have yet.
    pub(crate) fn hand_over(&self, listener: &Listener, id: u64) -> Result<(), Errno> {
        let Some(Place {
            number,
            closes_on_exec,
        }) = self.replaces
        else {
            return Ok(());
        };
        listener.replace(id, self.socket.as_fd(), number, closes_on_exec)
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.replaces.is_some()
    }

    /// The number of the socket.
    pub(crate) fn inode(&self) -> Result<u64, Errno> {
        Ok(rustix::fs::fstat(&self.socket)?.st_ino)
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Those that servers and clients set before bind(2) and connect(2).
fn copy_options(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_socket_reuseaddr(to, sockopt::socket_reuseaddr(from)?)?;
    sockopt::set_socket_reuseport(to, sockopt::socket_reuseport(from)?)?;
    sockopt::set_socket_keepalive(to, sockopt::socket_keepalive(from)?)?;
    sockopt::set_socket_linger(to, sockopt::socket_linger(from)?)?;
    // Multipath TCP has it only since Linux 5.19.
    if let Ok(is_set) = sockopt::tcp_nodelay(from) {
        sockopt::set_tcp_nodelay(to, is_set)?;
    }
    Ok(())
}

/// Fresh sockets that callers have got. A call on one of them is about what was done before: it is
/// connected already, or the call was interrupted and is made again.
#[derive(Debug, Default)]
pub(crate) struct Remembered(VecDeque<(Kind, u64)>);

impl Remembered {
    pub(crate) fn add(&mut self, kind: Kind, inode: u64) {
        if self.0.len() == MOST_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((kind, inode));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, kind: Kind, inode: u64) -> bool {
        self.0.contains(&(kind, inode))
    }
}
