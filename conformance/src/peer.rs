//! A raw end of a connection, client's or dev server's: it sends the bytes it is given, reads strictly,
//! and tells a clean end from a reset.

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::net::sockopt::{self, Timeout};
use thiserror::Error;

use crate::wire::{self, Fault, Framing, Head, Message, Reader};

/// Everything here happens at once on loopback; whoever waits longer waits for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// Why a peer did not get what it waited for.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error("nothing more came after `{}`", shortened(.0))]
    Silence(Vec<u8>),
    #[error("the connection ended ({end:?}) after `{}`", shortened(.seen))]
    Ended {
        end: End,
        /// The head, if it was complete.
        head: Option<Box<Head>>,
        /// What came of what was waited for.
        seen: Vec<u8>,
    },
    #[error("malformed: {0}")]
    Malformed(Fault),
    #[error("cannot use the connection")]
    Io(#[from] io::Error),
}

/// Bytes as they fit a line of a report.
pub(crate) fn shortened(bytes: &[u8]) -> String {
    const MOST: usize = 700;
    let text = bytes[..bytes.len().min(MOST)].escape_ascii().to_string();
    match bytes.len().checked_sub(MOST) {
        None | Some(0) => text,
        Some(more) => format!("{text}… and {more} bytes more"),
    }
}

/// Where a proxy or a dev server is to be reached.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One end of a connection.
pub(crate) struct Conn {
    stream: Stream,
    buffer: Vec<u8>,
    ended: Option<End>,
    /// How long a read waits.
    pub(crate) patience: Duration,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn(`{}` unread)", shortened(&self.buffer))
    }
}

impl Conn {
    pub(crate) fn to(address: &Address) -> Result<Self, Trouble> {
        Ok(Self::new(match address {
            Address::Tcp(address) => Stream::Tcp(TcpStream::connect_timeout(address, PATIENCE)?),
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        }))
    }

    fn new(stream: Stream) -> Self {
        if let Stream::Tcp(stream) = &stream {
            // A test that waits for Nagle measures Nagle.
            let _ = stream.set_nodelay(true);
        }
        let _ = sockopt::set_socket_timeout(fd(&stream), Timeout::Send, Some(PATIENCE));
        Self {
            stream,
            buffer: Vec::new(),
            ended: None,
            patience: PATIENCE,
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Trouble> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref())?,
            Stream::Unix(stream) => stream.write_all(bytes.as_ref())?,
        }
        Ok(())
    }

    /// Sends as much as the peer takes within `time` and says how much that was.
    pub(crate) fn send_within(&mut self, bytes: &[u8], time: Duration) -> Result<usize, Trouble> {
        sockopt::set_socket_timeout(fd(&self.stream), Timeout::Send, Some(time))
            .map_err(io::Error::from)?;
        let mut sent = 0;
        while sent < bytes.len() {
            let wrote = match &mut self.stream {
                Stream::Tcp(stream) => stream.write(&bytes[sent..]),
                Stream::Unix(stream) => stream.write(&bytes[sent..]),
            };
            match wrote {
                Ok(wrote) => sent += wrote,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sent)
    }

    /// Another handle to send by while this one reads.
    pub(crate) fn sender(&self) -> Result<Self, Trouble> {
        let stream = match &self.stream {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        };
        Ok(Self {
            stream,
            buffer: Vec::new(),
            ended: None,
            patience: self.patience,
        })
    }

    /// Sends no more; reading goes on.
    pub(crate) fn fin(&mut self) -> Result<(), Trouble> {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write)?,
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write)?,
        }
        Ok(())
    }

    /// Ends the connection with a reset, as a killed peer with unread bytes does.
    pub(crate) fn reset(self) {
        let _ = sockopt::set_socket_linger(fd(&self.stream), Some(Duration::ZERO));
    }

    /// One read into the buffer; nothing when none came until `deadline`.
    fn fill(&mut self, deadline: Instant) -> Result<Option<usize>, Trouble> {
        if self.ended.is_some() {
            return Ok(None);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would mean for ever.
        let left = left.max(Duration::from_millis(1));
        sockopt::set_socket_timeout(fd(&self.stream), Timeout::Recv, Some(left))
            .map_err(io::Error::from)?;
        let mut space = [0; 64 * 1024];
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut space),
            Stream::Unix(stream) => stream.read(&mut space),
        };
        match read {
            Ok(0) => self.ended = Some(End::Fin),
            Ok(count) => {
                self.buffer.extend_from_slice(&space[..count]);
                return Ok(Some(count));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.ended = Some(End::Reset);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }

    /// More bytes, or why there are none; `head` and `seen` tell what came before.
    fn more(&mut self, deadline: Instant, head: Option<&Head>, seen: &[u8]) -> Result<(), Trouble> {
        loop {
            if self.fill(deadline)?.is_some() {
                return Ok(());
            }
            if let Some(end) = self.ended {
                let head = head.cloned().map(Box::new);
                return Err(Trouble::Ended {
                    end,
                    head,
                    seen: seen.to_vec(),
                });
            }
            if Instant::now() >= deadline {
                return Err(Trouble::Silence(seen.to_vec()));
            }
        }
    }

    /// A start line and its fields.
    pub(crate) fn head(&mut self) -> Result<Head, Trouble> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some((head, length)) = wire::head(&self.buffer).map_err(Trouble::Malformed)? {
                self.buffer.drain(..length);
                return Ok(head);
            }
            let seen = self.buffer.clone();
            self.more(deadline, None, &seen)?;
        }
    }

    /// A whole request.
    pub(crate) fn request(&mut self) -> Result<Message, Trouble> {
        let head = self.head()?;
        let framing = wire::request_framing(&head).map_err(Trouble::Malformed)?;
        self.body(head, framing)
    }

    /// A whole answer to `method`, or an interim one.
    pub(crate) fn answer(&mut self, method: &str) -> Result<Message, Trouble> {
        let head = self.head()?;
        let framing = wire::answer_framing(&head, method).map_err(Trouble::Malformed)?;
        self.body(head, framing)
    }

    /// The body behind `head`.
    pub(crate) fn body(&mut self, head: Head, framing: Framing) -> Result<Message, Trouble> {
        let deadline = Instant::now() + self.patience;
        let mut reader = Reader::new(head.clone(), framing);
        loop {
            let taken = reader.take(&self.buffer).map_err(Trouble::Malformed)?;
            self.buffer.drain(..taken);
            // A reset is no end of a body that ends with its connection.
            if reader.is_complete(self.ended == Some(End::Fin)) {
                return Ok(reader.into_message());
            }
            let seen = reader.body().to_vec();
            match self.more(deadline, Some(&head), &seen) {
                Err(Trouble::Ended { end: End::Fin, .. }) if framing == Framing::Close => {}
                other => other?,
            }
        }
    }

    /// The body's bytes up to `count` of them, however many chunks bring them.
    pub(crate) fn part(&mut self, reader: &mut Reader, count: usize) -> Result<(), Trouble> {
        let deadline = Instant::now() + self.patience;
        loop {
            let taken = reader.take(&self.buffer).map_err(Trouble::Malformed)?;
            self.buffer.drain(..taken);
            if reader.body().len() >= count {
                return Ok(());
            }
            let seen = reader.body().to_vec();
            self.more(deadline, None, &seen)?;
        }
    }

    /// Exactly these bytes next.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Trouble> {
        let deadline = Instant::now() + self.patience;
        while self.buffer.len() < count {
            let seen = self.buffer.clone();
            self.more(deadline, None, &seen)?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Reads and forgets `count` bytes; for those that fit no memory.
    pub(crate) fn skip(&mut self, mut count: u64) -> Result<(), Trouble> {
        while count > 0 {
            if self.buffer.is_empty() {
                let deadline = Instant::now() + self.patience;
                self.more(deadline, None, &[])?;
            }
            let taken = usize::try_from(count)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            self.buffer.drain(..taken);
            count -= taken as u64;
        }
        Ok(())
    }

    /// Forgets what is buffered and counts those of its bytes that `counts`.
    pub(crate) fn skip_buffered(&mut self, counts: impl Fn(&&u8) -> bool) -> u64 {
        // The last bytes may be the end of the body: they are for a closer look.
        const KEPT: usize = 16;
        let end = self.buffer.len().saturating_sub(KEPT);
        let count = self.buffer[..end].iter().filter(counts).count();
        self.buffer.drain(..end);
        count as u64
    }

    /// What comes within `time`, which should be nothing.
    pub(crate) fn heard_within(&mut self, time: Duration) -> Result<Vec<u8>, Trouble> {
        let deadline = Instant::now() + time;
        while self.ended.is_none() && Instant::now() < deadline {
            self.fill(deadline)?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// How the connection ended, if it did within `time`; what came before is kept for reading.
    pub(crate) fn end_within(&mut self, time: Duration) -> Result<Option<End>, Trouble> {
        let deadline = Instant::now() + time;
        while self.ended.is_none() && Instant::now() < deadline {
            self.fill(deadline)?;
        }
        Ok(self.ended)
    }

    /// The end, or nothing once bytes came or `time` passed.
    pub(crate) fn end_or_bytes_within(&mut self, time: Duration) -> Result<Option<End>, Trouble> {
        self.fill(Instant::now() + time)?;
        Ok(self.ended)
    }

    /// What was received and not read yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }
}

fn fd(stream: &Stream) -> BorrowedFd<'_> {
    match stream {
        Stream::Tcp(stream) => stream.as_fd(),
        Stream::Unix(stream) => stream.as_fd(),
    }
}

/// Where a dev server waits for connections.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn tcp(address: &str) -> io::Result<Self> {
        TcpListener::bind(address).map(Self::Tcp)
    }

    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        UnixListener::bind(path).map(Self::Unix)
    }

    /// The port; 0 for a socket in the file system.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(0, |address| address.port()),
            Self::Unix(_) => 0,
        }
    }

    /// The next connection, if there is one within `time`.
    pub(crate) fn accept(&self, time: Duration) -> io::Result<Option<Conn>> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            let fd = match self {
                Self::Tcp(listener) => listener.as_fd(),
                Self::Unix(listener) => listener.as_fd(),
            };
            // accept(2) keeps to the receive timeout of its listener (socket(7)).
            sockopt::set_socket_timeout(fd, Timeout::Recv, Some(left))?;
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
                Self::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
            };
            match accepted {
                Ok(stream) => return Ok(Some(Conn::new(stream))),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock if Instant::now() >= deadline => return Ok(None),
                    ErrorKind::WouldBlock
                    | ErrorKind::Interrupted
                    | ErrorKind::ConnectionAborted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}
