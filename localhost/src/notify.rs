//! The kernel's side of a filter: calls that wait for an answer (`SECCOMP_IOCTL_NOTIF_*` of
//! seccomp_unotify(2)). What the answer is, is decided elsewhere.

use std::{
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::io::Errno;

use crate::filter::last_error;

/// The system calls that the filter reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bind,
    Connect,
}

/// A call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The kernel's number for it.
    pub(crate) id: u64,
    /// The thread that made it; 0 when it is in no process namespace of ours.
    pub(crate) thread: u32,
    pub(crate) kind: Kind,
    /// The socket, as the caller numbers it.
    pub(crate) socket: RawFd,
    /// Where the address is in the caller's memory.
    pub(crate) address: u64,
    pub(crate) length: u32,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The kernel does what was asked for.
    Proceed,
    /// It was done.
    Done,
    /// It failed.
    Failed(Errno),
}

/// Where calls are reported.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl Listener {
    /// From the descriptor that the filter came with.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Wakes callers on the processor where they were answered (Linux 6.6), which is quicker for
    /// calls that come one after another.
    pub(crate) fn wake_in_step(&self) {
        // `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`. Without it everything works as well.
        let _ = self.ioctl_value(libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1);
    }

    /// The next call; nothing when its caller was gone already.
    pub(crate) fn receive(&self) -> Result<Option<Call>, Errno> {
        // SAFETY: a structure of integers, for which zeroes are values. The kernel asks for them.
        let mut found: libc::seccomp_notif = unsafe { mem::zeroed() };
        match self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, &mut found) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error),
        }
        let arguments = found.data.args;
        let kind = if i64::from(found.data.nr) == libc::SYS_bind {
            Kind::Bind
        } else {
            Kind::Connect
        };
        Ok(Some(Call {
            id: found.id,
            thread: found.pid,
            kind,
            // The kernel takes both for `int`, whatever is above.
            socket: arguments[0] as RawFd,
            length: arguments[2] as u32,
            address: arguments[1],
        }))
    }

    /// Answers. A caller that is gone needs no answer.
    pub(crate) fn answer(&self, id: u64, answer: Answer) -> Result<(), Errno> {
        let mut response = libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: 0,
        };
        match answer {
            Answer::Proceed => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Answer::Done => {}
            Answer::Failed(errno) => response.error = -errno.raw_os_error(),
        }
        match self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, &mut response) {
            Err(Errno::NOENT) => Ok(()),
            answered => answered,
        }
    }

    /// Whether the caller still waits. What was learned before by its number was then about it, and
    /// not about another that came to have the number.
    pub(crate) fn still_waits(&self, id: u64) -> bool {
        let mut id = id;
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &mut id)
            .is_ok()
    }

    /// Puts `descriptor` in the place of the caller's `number`.
    pub(crate) fn replace(
        &self,
        id: u64,
        descriptor: BorrowedFd<'_>,
        number: RawFd,
        closes_on_exec: bool,
    ) -> Result<(), Errno> {
        let mut request = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: descriptor.as_raw_fd() as u32,
            newfd: number as u32,
            newfd_flags: if closes_on_exec {
                libc::O_CLOEXEC as u32
            } else {
                0
            },
        };
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &mut request)
    }

    /// All requests but one take the address of a structure, whose size is part of their number.
    fn ioctl<T>(&self, request: libc::Ioctl, argument: &mut T) -> Result<(), Errno> {
        // The size field of `asm-generic/ioctl.h`.
        debug_assert_eq!((request as usize >> 16) & 0x3fff, size_of::<T>());
        // SAFETY: the structure has the size that the request says, and outlives the call.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) };
        if done < 0 { Err(last_error()) } else { Ok(()) }
    }

    fn ioctl_value(&self, request: libc::Ioctl, argument: u64) -> Result<(), Errno> {
        // SAFETY: the request takes a number, and no memory is touched.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) };
        if done < 0 { Err(last_error()) } else { Ok(()) }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
