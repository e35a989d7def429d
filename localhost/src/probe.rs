//! What this kernel, this container and this process allow, by trying it on a child.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with},
};
use thiserror::Error;

use crate::{
    address::{self, LONGEST_BYTES},
    filter, handover,
    notify::{Answer, Call, Listener},
    target,
};

/// The child answers at once; this only bounds what should never happen.
const DEADLINE: Duration = Duration::from_secs(2);
/// What the child asks for: an address that nobody else names.
const ASKED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 191, 7, 9)), 9);

const INSTALLED: u8 = 1;
const INSTALLED_STEADY: u8 = 2;
const REFUSED: u8 = 3;

/// What there is.
#[derive(Debug)]
pub struct Features {
    /// Whether a call that is being answered withstands signals (Linux 5.19). Else it is made again
    /// after one.
    pub is_steady: bool,
    /// Whether there are descriptors of single threads (Linux 6.9). Else those of processes do.
    pub has_thread_descriptors: bool,
    /// Whether another process's memory can be read at once, not by its file.
    pub reads_at_once: bool,
    /// Why another process's sockets cannot be taken (pidfd_getfd(2), Linux 5.6). Then they are
    /// replaced, which loses what had been set on them.
    pub cannot_take: Option<io::Error>,
    /// Why they cannot be replaced (Linux 5.9).
    pub cannot_replace: Option<io::Error>,
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.cannot_take {
            None => "seccomp",
            Some(_) => "seccomp, replacing sockets",
        })
    }
}

/// Why there can be no private localhost here.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// There is one already, which this process is in, or something else that works alike.
    #[error("system calls are supervised already")]
    Supervised,
    /// The kernel, or whoever made this container, does not let us.
    #[error("no system call can be supervised (seccomp)")]
    Filter(#[source] io::Error),
    /// Calls can be seen, and not what they are about.
    #[error("no other process's memory can be read")]
    Memory(#[source] io::Error),
    /// Nothing can be done about the calls.
    #[error("no other process's socket can be taken or replaced")]
    Sockets(#[source] io::Error),
    /// There is no child to try it on, or it does not answer.
    #[error("no child could try it")]
    Child(#[source] io::Error),
}

/// Tries it. Whatever else this process does is not concerned.
///
/// # Errors
/// When there can be no private localhost.
pub fn probe() -> Result<Features, Unavailable> {
    let child = |error: Errno| Unavailable::Child(error.into());
    let (ours, theirs) = handover::pair().map_err(child)?;
    let socket = socket().map_err(child)?;
    // SAFETY: the child makes system calls alone until it ends; it neither allocates nor locks.
    let forked = unsafe { fork() };
    let pid = match forked.map_err(|error| Unavailable::Child(error.into()))? {
        ForkResult::Child => ask(&theirs, &socket),
        ForkResult::Parent { child } => Child(child),
    };
    drop(theirs);
    let found = answer(&ours, &socket);
    drop(pid);
    found
}

/// Ends when it is dropped.
struct Child(Pid);

impl Drop for Child {
    fn drop(&mut self) {
        // It has done its part by now, or never will.
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// The child: puts itself under the filter and makes a call.
fn ask(parent: &OwnedFd, socket: &OwnedFd) -> ! {
    match filter::install() {
        Ok(installed) => {
            let kind = if installed.is_steady {
                INSTALLED_STEADY
            } else {
                INSTALLED
            };
            let _ = handover::send(parent, (kind, 0), Some(&installed.listener));
            let _ = connect(socket, &ASKED);
        }
        Err(error) => {
            let _ = handover::send(parent, (REFUSED, error.raw_os_error()), None);
        }
    }
    // SAFETY: ends the process, and nothing of it runs any more.
    unsafe { libc::_exit(0) }
}

/// The parent: sees what can be done about the call.
fn answer(child: &OwnedFd, socket: &OwnedFd) -> Result<Features, Unavailable> {
    let no_child = |error: Errno| Unavailable::Child(error.into());
    is_ready(child).map_err(no_child)?;
    let received = handover::receive(child).map_err(no_child)?;
    let ((kind, number), descriptor) = received.ok_or_else(|| no_child(Errno::CHILD))?;
    let listener = match (kind, descriptor) {
        (INSTALLED | INSTALLED_STEADY, Some(descriptor)) => Listener::new(descriptor),
        _ => match Errno::from_raw_os_error(number) {
            Errno::BUSY => return Err(Unavailable::Supervised),
            error => return Err(Unavailable::Filter(error.into())),
        },
    };
    is_ready(&listener).map_err(no_child)?;
    let call = listener.receive().map_err(no_child)?;
    let call = call.ok_or_else(|| no_child(Errno::CHILD))?;
    let reads_at_once = reads(&call, target::read_memory_at_once).is_ok();
    if !reads_at_once {
        reads(&call, target::read_memory_file).map_err(Unavailable::Memory)?;
    }
    let taken = target::socket(call.thread, call.socket).and_then(|taken| {
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|found| found.st_ino);
        (inode(&taken)? == inode(socket)?)
            .then_some(())
            .ok_or(Errno::BADF)
    });
    let replaced = listener.replace(call.id, socket.as_fd(), call.socket, true);
    let _ = listener.answer(call.id, Answer::Done);
    if let (Err(_), Err(error)) = (&taken, &replaced) {
        return Err(Unavailable::Sockets((*error).into()));
    }
    Ok(Features {
        is_steady: kind == INSTALLED_STEADY,
        has_thread_descriptors: target::has_thread_descriptors(),
        reads_at_once,
        cannot_take: taken.err().map(io::Error::from),
        cannot_replace: replaced.err().map(io::Error::from),
    })
}

fn socket() -> Result<OwnedFd, Errno> {
    socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
}

fn is_ready(descriptor: impl AsFd) -> Result<(), Errno> {
    let mut wanted = [PollFd::new(&descriptor, PollFlags::IN)];
    let deadline = DEADLINE.try_into().expect("a short time");
    match poll(&mut wanted, Some(&deadline))? {
        0 => Err(Errno::TIMEDOUT),
        _ => Ok(()),
    }
}

fn reads(call: &Call, read: impl Fn(u32, u64, &mut [u8]) -> io::Result<usize>) -> io::Result<()> {
    let mut bytes = [0; LONGEST_BYTES];
    let length = bytes.len().min(call.length as usize);
    let length = read(call.thread, call.address, &mut bytes[..length])?;
    match address::parse(&bytes[..length]) {
        Some(asked) if asked.address == ASKED => Ok(()),
        _ => Err(io::Error::other("it is not what is there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_makes_sense() {
        match probe() {
            Ok(found) => assert!(found.cannot_take.is_none() || found.cannot_replace.is_none()),
            Err(Unavailable::Child(error)) => panic!("no child: {error}"),
            // Where tests run in a container that forbids it.
            Err(_) => {}
        }
    }
}
