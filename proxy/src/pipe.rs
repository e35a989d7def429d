//! Pipes: two connections joined after an upgrade, byte for byte, until either ends.
//!
//! No exchange covers what happens after an upgrade, so pipes are counted and ended here. Frames
//! are none of our business, but for the last word to a browser. A pipe at rest holds no buffer.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    frames::{Frames, GOING_AWAY},
    metrics::Metrics,
    socket::{Reader, Socket, Writer},
    splice::Bulk,
};

/// Reads of one direction before others get their turn.
const TURN: usize = 16;

/// A set of pipes that end together.
#[derive(Clone, Debug, Default)]
pub struct Pipes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Set before `stop` is cancelled: a look at it costs less.
    is_stopping: AtomicBool,
}

/// A connection and what was read from it already.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) socket: Socket,
    pub(crate) read: Vec<u8>,
}

impl Pipes {
    /// Joins the two ends; `frames` are the server's. A half-close is passed on and the other direction goes on to its own
    /// end.
    pub(crate) fn join(&self, client: End, upstream: End, frames: Frames, metrics: Arc<Metrics>) {
        let pipes = Arc::clone(&self.0);
        // Used in place: moved into another variable, it would stand in the task twice.
        let mut pipe = Pipe {
            up: Direction::starting_with(client.read, Frames::LOST),
            down: Direction::starting_with(upstream.read, frames),
            client: client.socket,
            upstream: upstream.socket,
        };
        self.0.tasks.spawn(async move {
            metrics.pipe_opened();
            let ended = {
                let mut stopped = pin!(pipes.stop.cancelled());
                let mut is_told = false;
                poll_fn(|cx| match pipe.poll(cx, &metrics) {
                    Poll::Ready(ended) => Poll::Ready(Some(ended)),
                    // Told once, this task is woken by a stop, and then finds that there is one.
                    Poll::Pending if is_told && !pipes.is_stopping.load(Ordering::Acquire) => {
                        Poll::Pending
                    }
                    Poll::Pending => {
                        is_told = true;
                        stopped.as_mut().poll(cx).map(|()| None)
                    }
                })
                .await
            };
            metrics.pipe_closed();
            let (bytes_up, bytes_down) = (pipe.up.moved, pipe.down.moved);
            match ended {
                Some(Ok(())) => tracing::debug!(bytes_up, bytes_down, "pipe ended"),
                Some(Err(error)) => {
                    // Behaviour 111: what ended abruptly does not look like a proper end.
                    pipe.client.reset_on_drop();
                    pipe.upstream.reset_on_drop();
                    tracing::debug!(bytes_up, bytes_down, %error, "pipe broke");
                }
                None => {
                    // Behaviour 120: else a page could take it for a network that is down. What does not fit now is
                    // not waited for.
                    if pipe.down.frames.are_between() {
                        let _ = pipe.client.try_write(&GOING_AWAY);
                    }
                    tracing::debug!(bytes_up, bytes_down, "pipe cut at shutdown");
                }
            }
        });
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        self.0.tasks.len()
    }

    /// Waits until all pipes have ended by themselves, and cuts those that have not within
    /// `grace`. Returns how many were cut.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.0.tasks.close();
        if timeout(grace, self.0.tasks.wait()).await.is_ok() {
            return 0;
        }
        let cut = self.count();
        self.0.is_stopping.store(true, Ordering::Release);
        self.0.stop.cancel();
        self.0.tasks.wait().await;
        cut
    }
}

struct Pipe {
    client: Socket,
    upstream: Socket,
    up: Direction,
    down: Direction,
}

impl Pipe {
    /// Moves bytes until both directions have ended, or one has broken.
    fn poll(&mut self, cx: &mut Context<'_>, metrics: &Metrics) -> Poll<io::Result<()>> {
        let (before_up, before_down) = (self.up.moved, self.down.moved);
        let up = self.up.poll(cx, &mut self.client, &mut self.upstream);
        let down = self.down.poll(cx, &mut self.upstream, &mut self.client);
        metrics.moved(self.up.moved - before_up, self.down.moved - before_down);
        match (up?, down?) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }
}

/// One way through a pipe.
#[derive(Debug)]
struct Direction {
    /// What was read and could not be written yet.
    left: Vec<u8>,
    /// Of `left`, which a scratch buffer of fewer bytes bounds.
    written: u32,
    state: State,
    /// Those of whoever is read, as far as they were written.
    frames: Frames,
    moved: u64,
    bulk: Bulk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Its source has ended; what is left must still be written.
    Ending,
    Ended,
}

impl Direction {
    fn starting_with(left: Vec<u8>, frames: Frames) -> Self {
        Self {
            left,
            written: 0,
            state: State::Open,
            frames,
            moved: 0,
            bulk: Bulk::default(),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket,
        to: &mut Socket,
    ) -> Poll<io::Result<()>> {
        for _ in 0..TURN {
            while let rest = &self.left[self.written as usize..]
                && !rest.is_empty()
            {
                let written = ready!(to.split().1.poll_write(cx, rest))?;
                self.frames.pass(&rest[..written]);
                self.written += u32::try_from(written).expect("it was read at once");
                self.moved += written as u64;
            }
            if self.written > 0 {
                (self.left, self.written) = (Vec::new(), 0);
            }
            match self.state {
                State::Open => {}
                State::Ending => {
                    to.end_writing();
                    self.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
            let (mut from, to) = (from.split().0, to.split().1);
            let read = match ready!(self.poll_splice(cx, &from, &to))? {
                Some(read) => read,
                None => {
                    let frames = &mut self.frames;
                    let (read, written, left) = ready!(from.poll_read_with(cx, |bytes| {
                        let written = to.try_write(bytes)?;
                        frames.pass(&bytes[..written]);
                        io::Result::Ok((bytes.len(), written, bytes[written..].to_vec()))
                    }))??;
                    self.moved += written as u64;
                    self.left = left;
                    read
                }
            };
            self.bulk.note(read);
            if read == 0 {
                self.bulk.rest();
                self.state = State::Ending;
            }
        }
        // Others first; then go on.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves the next part by splice(2); returns how much was read, and nothing where a copy is the better
    /// way.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &Reader<'_>,
        to: &Writer<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        loop {
            while let Some(channel) = self.bulk.held() {
                ready!(to.poll_ready(cx))?;
                let drained = channel.drain(to)?;
                self.frames.pass_unseen(drained);
                self.moved += drained as u64;
            }
            let Some(channel) = self.bulk.channel(usize::MAX) else {
                return Poll::Ready(Ok(None));
            };
            let filled = match from.poll_ready(cx)? {
                Poll::Ready(()) => channel.fill(from, usize::MAX),
                Poll::Pending => {
                    self.bulk.rest();
                    return Poll::Pending;
                }
            };
            match filled {
                Ok(read) => {
                    let drained = channel.drain(to)?;
                    self.frames.pass_unseen(drained);
                    self.moved += drained as u64;
                    return Poll::Ready(Ok(Some(read)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if self.bulk.gives_up(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
