//! Bytes in bulk, moved from one socket to another within the kernel (splice(2)), without a copy.
//!
//! Only for what comes in large parts: for small ones it costs more than a copy.

use std::{cell::RefCell, io, os::fd::OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with};

use crate::socket::{Reader, Writer};

/// A read of so much or more is a sign of bulk.
const LARGE_BYTES: usize = 16 * 1024;
/// After so many smaller reads in a row it is none any more: to go back and forth costs more than either way.
const PATIENCE: u8 = 8;
/// Moved at once at most, so that others get their turn.
const MOST_BYTES: usize = 256 * 1024;
/// Channels of a thread, used or not: each takes two descriptors. Whoever gets none copies.
const CHANNELS: usize = 8;

thread_local! {
    static CHANNELS_HERE: RefCell<Channels> = const {
        RefCell::new(Channels { spare: Vec::new(), used: 0, never: false })
    };
}

struct Channels {
    spare: Vec<(OwnedFd, OwnedFd)>,
    used: usize,
    /// The kernel does not do this.
    never: bool,
}

/// A pipe (pipe(2)) between two sockets.
#[derive(Debug)]
pub(crate) struct Channel {
    /// What is read from, and what is written to; there until it is dropped.
    ends: Option<(OwnedFd, OwnedFd)>,
    holds: usize,
}

/// Whether bytes come in bulk, and the channel that they go through then. At rest it has none.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    patience: u8,
    channel: Option<Box<Channel>>,
}

impl Bulk {
    /// So much was read at once.
    pub(crate) fn note(&mut self, read: usize) {
        self.patience = match read {
            LARGE_BYTES.. => PATIENCE,
            _ => self.patience.saturating_sub(1),
        };
    }

    /// The channel for what comes next, of which `most` bytes may go through it as they are; none where a
    /// copy is the better way.
    pub(crate) fn channel(&mut self, most: usize) -> Option<&mut Channel> {
        debug_assert!(self.held().is_none());
        if self.patience == 0 || most < LARGE_BYTES {
            self.rest();
            return None;
        }
        if self.channel.is_none() {
            self.channel = Channel::take().map(Box::new);
        }
        self.channel.as_deref_mut()
    }

    /// The channel if there is something in it.
    pub(crate) fn held(&mut self) -> Option<&mut Channel> {
        self.channel.as_deref_mut().filter(|it| it.holds > 0)
    }

    /// Gives the channel back, as long as nothing comes; what is in it is lost.
    pub(crate) fn rest(&mut self) {
        self.channel = None;
    }

    /// `error` was met while filling a channel: whether the kernel does not do this between such sockets, so
    /// that bytes are to be copied from now on.
    pub(crate) fn gives_up(&mut self, error: &io::Error) -> bool {
        let never = matches!(
            error.kind(),
            io::ErrorKind::InvalidInput
                | io::ErrorKind::Unsupported
                | io::ErrorKind::PermissionDenied
        );
        if never {
            CHANNELS_HERE.with_borrow_mut(|here| here.never = true);
            (self.patience, self.channel) = (0, None);
        }
        never
    }
}

impl Channel {
    fn take() -> Option<Self> {
        CHANNELS_HERE.with_borrow_mut(|here| {
            if here.used >= CHANNELS || here.never {
                return None;
            }
            let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
            let ends = here.spare.pop().or_else(|| pipe_with(flags).ok())?;
            here.used += 1;
            Some(Self {
                ends: Some(ends),
                holds: 0,
            })
        })
    }

    /// Fills it, which is empty, with up to `most` bytes of what there is; returns how many, 0 at the end of
    /// the stream.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there; else the connection is broken, or see [`Bulk::gives_up`].
    pub(crate) fn fill(&mut self, from: &Reader<'_>, most: usize) -> io::Result<usize> {
        debug_assert_eq!(self.holds, 0);
        let Some((_, into)) = &self.ends else {
            return Ok(0);
        };
        self.holds = from.try_with(|from| {
            let most = most.min(MOST_BYTES);
            rustix::pipe::splice(from, None, into, None, most, SpliceFlags::NONBLOCK)
        })?;
        Ok(self.holds)
    }

    /// Writes as much of what is in it as there is room for; returns how much.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn drain(&mut self, to: &Writer<'_>) -> io::Result<usize> {
        let mut all = 0;
        while let Some((out, _)) = self.ends.as_ref().filter(|_| self.holds > 0) {
            let written = to.try_with(|to| {
                rustix::pipe::splice(out, None, to, None, self.holds, SpliceFlags::NONBLOCK)
            });
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.holds -= written;
                    all += written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        CHANNELS_HERE.with_borrow_mut(|here| {
            here.used = here.used.saturating_sub(1);
            // One with something in it would have that come out at another's end.
            here.spare
                .extend(self.ends.take().filter(|_| self.holds == 0));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    use super::*;
    use crate::socket::Socket;

    fn spare() -> usize {
        CHANNELS_HERE.with_borrow(|here| here.spare.len())
    }

    #[test]
    fn bulk_is_what_comes_in_large_parts() {
        let mut bulk = Bulk::default();
        assert!(bulk.channel(usize::MAX).is_none());
        bulk.note(LARGE_BYTES);
        assert!(bulk.channel(LARGE_BYTES - 1).is_none());
        for _ in 0..PATIENCE {
            assert!(bulk.channel(usize::MAX).is_some());
            bulk.note(1);
        }
        assert!(bulk.channel(usize::MAX).is_none());
    }

    #[test]
    fn a_thread_has_few_channels() {
        let mut bulks = Vec::from_iter((0..=CHANNELS).map(|_| Bulk::default()));
        for bulk in &mut bulks {
            bulk.note(LARGE_BYTES);
            bulk.channel(usize::MAX);
        }
        let with = bulks.iter().filter(|bulk| bulk.channel.is_some()).count();
        assert_eq!(with, CHANNELS);
        drop(bulks);
        assert_eq!(spare(), CHANNELS);
    }

    #[tokio::test]
    async fn what_one_leaves_behind_never_comes_out_for_another() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut from = Socket::from(ours);
        theirs.write_all(b"secret").await.unwrap();
        let mut bulk = Bulk::default();
        bulk.note(LARGE_BYTES);
        let (reader, _) = from.split();
        poll_fn(|cx| reader.poll_ready(cx)).await.unwrap();
        let channel = bulk.channel(usize::MAX).unwrap();
        assert_eq!(channel.fill(&reader, usize::MAX).unwrap(), 6);
        bulk.rest();
        assert_eq!(spare(), 0);

        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut to = Socket::from(ours);
        bulk.note(LARGE_BYTES);
        let channel = bulk.channel(usize::MAX).unwrap();
        assert_eq!(channel.holds, 0);
        theirs.write_all(b"own").await.unwrap();
        let (reader, writer) = to.split();
        poll_fn(|cx| reader.poll_ready(cx)).await.unwrap();
        channel.fill(&reader, usize::MAX).unwrap();
        assert_eq!(channel.drain(&writer).unwrap(), 3);
        let mut got = [0; 16];
        let length = theirs.read(&mut got).await.unwrap();
        assert_eq!(&got[..length], b"own");
        bulk.rest();
        assert_eq!(spare(), 1);
    }
}
