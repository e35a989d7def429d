//! Connected sockets, TCP and Unix alike, as forwarding needs them: bytes move through a buffer
//! that all connections of a thread share, so that one that waits holds hardly any. They move by the
//! system calls themselves: the C library's recv(3) and send(3) end threads that are cancelled, and pay for
//! it by two atomic operations each.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};
use tokio::{
    io::{Interest, Ready},
    net::{TcpStream, UnixStream, tcp, unix},
};

use crate::spare::Buffer;

/// Bytes that one read may bring: large enough for bulk, and shared.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// When bytes last went through any of some sockets.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    /// Milliseconds after the start.
    last: AtomicU64,
}

impl Default for Activity {
    /// Now.
    fn default() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Activity {
    /// Notes that something went through.
    pub fn touch(&self) {
        let now = self.start.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// How long ago that was.
    pub fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

/// A connected socket.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    activity: Option<Arc<Activity>>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    /// A connection of this machine.
    Unix(UnixStream),
}

/// The end of a [`Socket`] that is read from.
#[derive(Debug)]
pub struct Reader<'a> {
    half: Half<tcp::ReadHalf<'a>, unix::ReadHalf<'a>>,
    activity: Option<&'a Activity>,
}

/// The end of a [`Socket`] that is written to.
#[derive(Debug)]
pub struct Writer<'a> {
    half: Half<tcp::WriteHalf<'a>, unix::WriteHalf<'a>>,
    activity: Option<&'a Activity>,
}

#[derive(Debug)]
enum Half<T, U> {
    Tcp(T),
    Unix(U),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::of(Stream::Tcp(stream))
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::of(Stream::Unix(stream))
    }
}

impl Socket {
    fn of(stream: Stream) -> Self {
        Self {
            stream,
            activity: None,
        }
    }

    /// Notes from now on in `activity` when bytes go through.
    #[must_use]
    pub fn noting(mut self, activity: Arc<Activity>) -> Self {
        self.activity = Some(activity);
        self
    }

    /// Its two ends, for two that work at once.
    pub fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let activity = self.activity.as_deref();
        let (read, write) = match &mut self.stream {
            Stream::Tcp(stream) => {
                let (read, write) = stream.split();
                (Half::Tcp(read), Half::Tcp(write))
            }
            Stream::Unix(stream) => {
                let (read, write) = stream.split();
                (Half::Unix(read), Half::Unix(write))
            }
        };
        (
            Reader {
                half: read,
                activity,
            },
            Writer {
                half: write,
                activity,
            },
        )
    }

    /// Waits for more bytes and appends them to `inbox`; returns how many, 0 at the end of the
    /// stream.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn read(&mut self, inbox: &mut Inbox) -> io::Result<usize> {
        self.split().0.read(inbox).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.split().1.write_all(bytes).await
    }

    /// Writes as much of `bytes` as there is room for, and does not wait.
    ///
    /// # Errors
    /// `WouldBlock` where there is no room; else the connection is broken.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &self.stream {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
        };
        note(
            self.activity.as_deref(),
            written.as_ref().is_ok_and(|it| *it > 0),
        );
        written
    }

    /// Says that nothing more will be written. That it is said in vain is no matter.
    pub(crate) fn end_writing(&self) {
        let _ = shutdown(self.as_fd(), Shutdown::Write);
    }

    /// Makes its end an abrupt one, so that the peer cannot take it for a proper close.
    pub(crate) fn reset_on_drop(&self) {
        if let Stream::Tcp(stream) = &self.stream {
            // One that is broken already ends abruptly by itself.
            let _ = stream.set_zero_linger();
        }
    }

    /// Whether it is open and has nothing to read: what an idle connection must be. The kernel is
    /// asked, since the runtime hears of bytes only some time after they came.
    pub(crate) fn is_quiet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(recv(self.as_fd(), &mut [0], flags), Err(Errno::WOULDBLOCK))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Reader<'_> {
    /// Reads what comes next into the thread's scratch buffer and lets `take` have it; no bytes at
    /// the end of the stream.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn poll_read_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                ready!(self.poll_ready(cx))?;
                let mut read = 0;
                let ended = self.try_with(|socket| {
                    (read, _) = recv(socket, &mut scratch[..], RecvFlags::empty())?;
                    // Less than there was room for is all that there was: the runtime need not ask again.
                    match read {
                        0 | SCRATCH_BYTES => Ok(read),
                        _ => Err(Errno::WOULDBLOCK),
                    }
                });
                match ended {
                    Ok(_) => {}
                    Err(_) if read > 0 => note(self.activity, true),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
                return Poll::Ready(Ok(take(&scratch[..read])));
            }
        })
    }

    /// Ready once there may be something to read.
    ///
    /// # Errors
    /// When the runtime is gone.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.half {
            Half::Tcp(half) => half.as_ref().poll_read_ready(cx),
            Half::Unix(half) => half.as_ref().poll_read_ready(cx),
        }
    }

    /// Reads by other means; `read` tells how much.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing; see [`Self::poll_ready`].
    pub(crate) fn try_with(
        &self,
        read: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let moved = match &self.half {
            Half::Tcp(half) => {
                let stream = half.as_ref();
                stream.try_io(Interest::READABLE, || Ok(read(stream.as_fd())?))
            }
            Half::Unix(half) => {
                let stream = half.as_ref();
                stream.try_io(Interest::READABLE, || Ok(read(stream.as_fd())?))
            }
        };
        note(self.activity, moved.as_ref().is_ok_and(|it| *it > 0));
        moved
    }

    /// Waits for one of `interest`.
    ///
    /// # Errors
    /// When the runtime is gone.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match &self.half {
            Half::Tcp(half) => half.ready(interest).await,
            Half::Unix(half) => half.ready(interest).await,
        }
    }

    /// Waits for more bytes and appends them to `inbox`; returns how many, 0 at the end of the
    /// stream.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn read(&mut self, inbox: &mut Inbox) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_with(cx, |bytes| inbox.append(bytes))).await
    }
}

impl Writer<'_> {
    /// Writes some of `bytes`, at least one.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(cx))?;
            match self.try_with(|socket| send(socket, bytes, SendFlags::NOSIGNAL)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    /// Ready once there may be room.
    ///
    /// # Errors
    /// When the runtime is gone.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.half {
            Half::Tcp(half) => half.as_ref().poll_write_ready(cx),
            Half::Unix(half) => half.as_ref().poll_write_ready(cx),
        }
    }

    /// Writes by other means; `write` tells how much.
    ///
    /// # Errors
    /// `WouldBlock` where there is no room; see [`Self::poll_ready`].
    pub(crate) fn try_with(
        &self,
        write: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let moved = match &self.half {
            Half::Tcp(half) => {
                let stream = half.as_ref();
                stream.try_io(Interest::WRITABLE, || Ok(write(stream.as_fd())?))
            }
            Half::Unix(half) => {
                let stream = half.as_ref();
                stream.try_io(Interest::WRITABLE, || Ok(write(stream.as_fd())?))
            }
        };
        note(self.activity, moved.as_ref().is_ok_and(|it| *it > 0));
        moved
    }

    /// Writes as much of `bytes` as there is room for; 0 where there is none.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.try_with(|socket| send(socket, bytes, SendFlags::NOSIGNAL)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

fn note(activity: Option<&Activity>, moved: bool) {
    if let Some(activity) = activity.filter(|_| moved) {
        activity.touch();
    }
}

/// Bytes that were read and not used yet.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Buffer,
    used: usize,
}

impl Inbox {
    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// How many bytes are there.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `bytes`; returns how many they are.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        if self.used > 0 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        if self.bytes.capacity() == 0 {
            self.bytes = Buffer::take();
        }
        self.bytes.extend_from_slice(bytes);
        bytes.len()
    }

    /// Takes the first `length` bytes off.
    pub fn consume(&mut self, length: usize) {
        self.used += length;
        debug_assert!(self.used <= self.bytes.len());
        if self.is_empty() {
            self.used = 0;
            self.bytes.clear();
            // An idle connection keeps what a usual head needs, no more.
            self.bytes.shrink_to(2048);
        }
    }

    /// Everything that is left, for whoever goes on from here.
    pub(crate) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.used);
        self.bytes.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_in_either_direction_are_noted_and_nothing_else_is() {
        let (one, other) = UnixStream::pair().unwrap();
        let activity = Arc::<Activity>::default();
        let mut noting = Socket::from(one).noting(Arc::clone(&activity));
        let mut peer = Socket::from(other);
        let rest = Duration::from_millis(60);
        let rests = async || {
            tokio::time::sleep(rest).await;
            activity.idle() >= rest
        };
        assert!(rests().await);
        noting.write_all(b"x").await.unwrap();
        assert!(activity.idle() < rest);
        assert!(rests().await);
        peer.write_all(b"x").await.unwrap();
        // Not read yet.
        assert!(activity.idle() >= rest);
        noting.read(&mut Inbox::default()).await.unwrap();
        assert!(activity.idle() < rest);
        assert!(rests().await);
        peer.end_writing();
        assert_eq!(noting.read(&mut Inbox::default()).await.unwrap(), 0);
        assert!(activity.idle() >= rest, "an end is no byte");
    }
}
