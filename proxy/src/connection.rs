//! One client's connection: its requests in turn, each answered by the proxy or an upstream.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Response, header::HeaderMap};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::{
    accept::Admission,
    body::{Body, Form},
    clock::Clock,
    exchange::{self, End, Exchange},
    frames::Frames,
    http1::{
        chunked,
        fields::Fields,
        framing::{self, Framing},
        head::{self, BadHead, REQUEST_LIMITS, RequestHead, Scanner, Sender, Version},
        name::Name,
        target,
    },
    metrics::Metrics,
    pipe::{self, Pipes},
    pool::Pool,
    service::{Decision, Fault, Forward, Page, PageBody, Peer, Service, TooLong},
    socket::{Inbox, Socket},
};

/// A client that sends its request head slower than this holds a connection for nothing.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// The same for the body of a call, which is small.
const CALL_DEADLINE: Duration = Duration::from_secs(15);
/// How long a connection may rest between two requests.
const IDLE_DEADLINE: Duration = Duration::from_secs(60);
/// How long a client that still sends has for reading what it was told: with unread bytes, an
/// early close would be a reset, and take the answer with it.
const LINGER_DEADLINE: Duration = Duration::from_secs(10);
/// The same for one that has stopped sending.
const LINGER_IDLE: Duration = Duration::from_secs(2);

/// What all connections of a proxy share.
#[derive(Debug)]
pub(crate) struct Shared<S: Service> {
    pub(crate) service: S,
    pub(crate) pool: Pool<S::Target>,
    pub(crate) pipes: Pipes,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: CancellationToken,
}

/// Serves one connection until it ends.
pub(crate) async fn serve<S: Service>(
    shared: Arc<Shared<S>>,
    socket: Socket,
    peer: Peer,
    admission: Admission,
) {
    let connection = Connection {
        shared: &shared,
        peer,
        admission,
        socket,
        inbox: Inbox::default(),
        head: RequestHead::default(),
        leaves: false,
        clock: Clock::after(HEAD_DEADLINE),
    };
    if let Some((client, upstream, frames)) = connection.run().await {
        let metrics = Arc::clone(&shared.metrics);
        shared.pipes.join(client, upstream, frames, metrics);
    }
}

struct Connection<'a, S: Service> {
    shared: &'a Shared<S>,
    peer: Peer,
    admission: Admission,
    socket: Socket,
    /// What came from the client and belongs to no message yet.
    inbox: Inbox,
    head: RequestHead,
    /// Whether the client has said that this request is its last.
    leaves: bool,
    clock: Clock,
}

/// What becomes of a connection.
enum Next {
    /// The next request.
    Request,
    /// Nothing more is said, but the client may still be reading.
    Linger,
    /// It ends at once.
    Drop,
    /// It is a pipe from now on.
    Upgraded(pipe::End, Frames),
}

enum Waited<D: std::error::Error + 'static> {
    Head,
    Closed,
    Bad(Fault<D>),
}

impl<S: Service> Connection<'_, S> {
    async fn run(mut self) -> Option<(pipe::End, pipe::End, Frames)> {
        let shared = self.shared;
        let mut stopped = pin!(shared.stop.cancelled());
        loop {
            let next = match self.next_head(stopped.as_mut()).await {
                Waited::Head => self.respond().await,
                Waited::Closed => return None,
                Waited::Bad(fault) => {
                    self.head = RequestHead::default();
                    self.explain(fault, false, false).await
                }
            };
            match next {
                Next::Request => {
                    // Some time after the head was read, so that it need not be asked for again.
                    self.clock.set(IDLE_DEADLINE);
                    if self.head.fields.capacity_bytes() > 8 * 1024 {
                        self.head = RequestHead::default();
                    }
                }
                Next::Linger => {
                    self.linger().await;
                    return None;
                }
                Next::Drop => return None,
                Next::Upgraded(upstream, frames) => {
                    let client = pipe::End {
                        socket: self.socket,
                        read: self.inbox.into_rest(),
                    };
                    return Some((client, upstream, frames));
                }
            }
        }
    }

    /// Waits for the next head and reads it. At a stop, a connection that waits for one ends.
    async fn next_head(
        &mut self,
        mut stopped: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> Waited<S::DialError> {
        let mut scanner = Scanner::default();
        let mut begun: Option<Pin<Box<tokio::time::Sleep>>> = None;
        loop {
            // RFC 9112 section 2.2: an empty line before a request is read over.
            while self.inbox.bytes().starts_with(b"\r\n") {
                self.inbox.consume(2);
            }
            let bytes = self.inbox.bytes();
            if bytes != b"\r" {
                match scanner.scan(bytes, Sender::Client, &REQUEST_LIMITS) {
                    Ok(None) => {}
                    Ok(Some(length)) => {
                        let read = self.head.read(&bytes[..length]);
                        self.inbox.consume(length);
                        return match read {
                            Ok(()) => Waited::Head,
                            Err(bad) => Waited::Bad(bad.into()),
                        };
                    }
                    Err(bad) => return Waited::Bad(bad.into()),
                }
            }
            if self.shared.stop.is_cancelled() && self.inbox.is_empty() {
                return Waited::Closed;
            }
            if begun.is_none() && !self.inbox.is_empty() {
                begun = Some(Box::pin(sleep(HEAD_DEADLINE)));
            }
            let may_finish = self.admission.is_admitted();
            let (mut reader, _) = self.socket.split();
            let (inbox, clock) = (&mut self.inbox, &mut self.clock);
            let waited = poll_fn(|cx| {
                if let Poll::Ready(read) = reader.poll_read_with(cx, |bytes| inbox.append(bytes)) {
                    return Poll::Ready(match read {
                        Ok(0) | Err(_) => Some(Waited::Closed),
                        Ok(_) => None,
                    });
                }
                // A stranger with half a head does not keep a proxy from its end.
                let waits = begun.is_none() || !may_finish;
                if waits && stopped.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Waited::Closed));
                }
                match &mut begun {
                    Some(deadline) => deadline
                        .as_mut()
                        .poll(cx)
                        .map(|()| Some(Waited::Bad(Fault::SlowRequest))),
                    None => clock.poll(cx).map(|()| Some(Waited::Closed)),
                }
            })
            .await;
            if let Some(waited) = waited {
                return waited;
            }
        }
    }

    /// Answers the request whose head was read.
    async fn respond(&mut self) -> Next {
        let shared = self.shared;
        let head = &mut self.head;
        let framing = match framing::of_request(head) {
            Ok(framing) => framing,
            Err(bad) => return self.explain(bad.into(), false, false).await,
        };
        let is_head = head.method() == b"HEAD";
        if let Err(bad) = target::settle(head) {
            return self.explain(bad.into(), false, is_head).await;
        }
        let version = head.version;
        // Whoever wanted a tunnel has nothing else to say (behaviour 24).
        self.leaves = head::closes(version, &head.fields);
        let keep = !self.leaves && head.method() != b"CONNECT" && !self.shared.stop.is_cancelled();
        let Ok(expects) = settle_expectation(head, framing) else {
            return self.explain(Fault::Expectation, false, is_head).await;
        };
        let mut known = false;
        let decision = {
            let deciding = pin!(shared.service.decide(head, framing, self.peer, &mut known));
            exchange::unless_gone(&mut self.socket, &mut self.inbox, deciding).await
        };
        if known {
            self.admission.admit();
        }
        match decision {
            None => Next::Drop,
            Some(Decision::Answer(page)) => {
                let keep = keep && self.skip_body(framing);
                self.send(page, keep, is_head).await
            }
            Some(Decision::Forward(forward)) => {
                self.forward(forward, framing, expects, keep, version).await
            }
            Some(Decision::Read { most_bytes, call }) => {
                let body = match self.read_body(framing, expects, most_bytes).await {
                    Ok(body) => body,
                    Err(Some(fault)) => return self.explain(fault, false, is_head).await,
                    Err(None) => return Next::Drop,
                };
                let keep = keep && body.is_ok();
                let page = {
                    let called = pin!(shared.service.called(call, body, &self.head, self.peer));
                    exchange::unless_gone(&mut self.socket, &mut self.inbox, called).await
                };
                match page {
                    None => Next::Drop,
                    Some(page) => self.send(page, keep, is_head).await,
                }
            }
        }
    }

    /// The body of a call; an error without a fault where the client is gone.
    async fn read_body(
        &mut self,
        framing: Framing,
        expects: bool,
        most_bytes: usize,
    ) -> Result<Result<Bytes, TooLong>, Option<Fault<S::DialError>>> {
        if matches!(framing, Framing::Length(length) if length > most_bytes as u64) {
            return Ok(Err(TooLong));
        }
        let deadline = Instant::now() + CALL_DEADLINE;
        let (mut body, mut read) = (Body::new(framing, Form::Plain), Vec::new());
        let mut waits = expects;
        loop {
            if let Err(bad) = body.take(&mut self.inbox, &mut read) {
                return Err(Some(bad.into()));
            }
            if read.len() > most_bytes {
                return Ok(Err(TooLong));
            }
            if body.is_done() {
                return Ok(Ok(read.into()));
            }
            // One that sends already does not wait (RFC 9110 section 10.1.1).
            if mem::take(&mut waits) && read.is_empty() {
                self.socket
                    .write_all(exchange::CONTINUE)
                    .await
                    .map_err(|_| None)?;
            }
            match timeout_at(deadline, self.socket.read(&mut self.inbox)).await {
                Ok(Ok(length)) if length > 0 => {}
                Ok(_) => return Err(None),
                Err(_) => return Err(Some(Fault::SlowRequest)),
            }
        }
    }

    /// Takes a body that nobody wants off the connection, if all of it is there.
    fn skip_body(&mut self, framing: Framing) -> bool {
        let mut body = Body::new(framing, Form::Discarded);
        body.take(&mut self.inbox, &mut Vec::new()).is_ok() && body.is_done()
    }

    async fn forward(
        &mut self,
        mut forward: Forward<S>,
        framing: Framing,
        expects: bool,
        keep: bool,
        version: Version,
    ) -> Next {
        let shared = self.shared;
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        let may_repeat = self.head.is_idempotent() && !has_body;
        let is_head = self.head.method() == b"HEAD";
        let mut may_reuse = true;
        loop {
            let idle = may_reuse
                .then(|| shared.pool.take(&forward.target))
                .flatten();
            let reused = idle.is_some();
            let upstream = match idle {
                Some(socket) => {
                    shared.metrics.reused();
                    socket
                }
                None => {
                    shared.metrics.dialled();
                    let dialled = {
                        let dialling = pin!(shared.service.dial(&forward.target));
                        exchange::unless_gone(&mut self.socket, &mut self.inbox, dialling).await
                    };
                    match dialled {
                        None => return Next::Drop,
                        Some(Ok((target, socket))) => {
                            forward.target = target;
                            socket
                        }
                        Some(Err(error)) => {
                            let keep = keep && self.skip_body(framing);
                            return self.explain(Fault::Dial(error), keep, is_head).await;
                        }
                    }
                }
            };
            let exchange = Exchange {
                service: &shared.service,
                peer: self.peer,
                head: &self.head,
                framing,
                forward: &forward,
                expects,
                keep,
                version,
            };
            let (end, up, down) = exchange
                .run(&mut self.socket, &mut self.inbox, upstream, &mut self.clock)
                .await;
            shared.metrics.moved(up, down);
            return match end {
                End::Answered {
                    keep,
                    read,
                    upstream,
                } => {
                    if let Some(socket) = upstream {
                        shared.pool.put(forward.target, socket);
                    }
                    if keep {
                        Next::Request
                    } else if self.leaves && read && self.is_quiet() {
                        // Nothing that it sent is left unread, so that a close does not take the answer back.
                        Next::Drop
                    } else {
                        Next::Linger
                    }
                }
                End::Upgraded {
                    upstream,
                    read,
                    frames,
                } => {
                    let socket = upstream;
                    Next::Upgraded(pipe::End { socket, read }, frames)
                }
                // A server may close an idle connection at the moment when it is used again.
                End::Unanswered {
                    untouched: true, ..
                } if reused && may_repeat => {
                    may_reuse = false;
                    continue;
                }
                End::Unanswered { fault, read, .. } => {
                    self.explain(fault, keep && read, is_head).await
                }
                End::Broken => {
                    self.socket.reset_on_drop();
                    Next::Drop
                }
            };
        }
    }

    /// Whether the client has sent nothing that was not read.
    fn is_quiet(&self) -> bool {
        self.inbox.is_empty() && self.socket.is_quiet()
    }

    async fn explain(&mut self, fault: Fault<S::DialError>, keep: bool, is_head: bool) -> Next {
        let page = self
            .shared
            .service
            .explain(fault, &self.head, self.peer)
            .await;
        self.send(page, keep, is_head).await
    }

    /// Sends an answer of the proxy's own.
    async fn send(&mut self, page: Page, keep: bool, is_head: bool) -> Next {
        let (parts, body) = page.into_parts();
        self.shared.metrics.answered_itself(parts.status.as_u16());
        let mut out = start_of(parts.status, &parts.headers);
        let chunked = self.head.version == Version::Http11;
        let keep = match &body {
            PageBody::Whole(bytes) => {
                if parts.status.as_u16() != 204 {
                    out.extend_from_slice(
                        format!("content-length: {}\r\n", bytes.len()).as_bytes(),
                    );
                }
                keep
            }
            PageBody::Pieces(_) if chunked => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                keep
            }
            PageBody::Pieces(_) => false,
        };
        if !keep {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        let sent = match body {
            _ if is_head => self.write_page(&out).await,
            PageBody::Whole(bytes) => {
                out.extend_from_slice(&bytes);
                self.write_page(&out).await
            }
            PageBody::Pieces(pieces) => {
                self.write_page(&out).await && self.send_pieces(pieces, chunked).await
            }
        };
        match (sent, keep) {
            (false, _) => Next::Drop,
            (true, true) => Next::Request,
            (true, false) => Next::Linger,
        }
    }

    /// Writes a page, which is short: a client that does not take it is not waited for, and one that
    /// is not known not even that long once the proxy is to end.
    async fn write_page(&mut self, page: &[u8]) -> bool {
        let (shared, known) = (self.shared, self.admission.is_admitted());
        let written = timeout_at(
            Instant::now() + LINGER_DEADLINE,
            self.socket.write_all(page),
        );
        let written = if known || shared.stop.is_cancelled() {
            Some(written.await)
        } else {
            shared.stop.run_until_cancelled(written).await
        };
        matches!(written, Some(Ok(Ok(()))))
    }

    async fn send_pieces(&mut self, mut pieces: mpsc::Receiver<Bytes>, chunked: bool) -> bool {
        let shared = self.shared;
        loop {
            let next = {
                let next = pin!(shared.stop.run_until_cancelled(pieces.recv()));
                exchange::unless_gone(&mut self.socket, &mut self.inbox, next).await
            };
            let mut out = Vec::new();
            let piece = match next {
                None => return false,
                Some(piece) => piece.flatten(),
            };
            match &piece {
                Some(piece) if chunked => {
                    chunked::write_size(piece.len(), &mut out);
                    out.extend_from_slice(piece);
                    out.extend_from_slice(b"\r\n");
                }
                Some(piece) => out.extend_from_slice(piece),
                None if chunked => chunked::write_end(&Fields::new(), &mut out),
                None => {}
            }
            if self.socket.write_all(&out).await.is_err() {
                return false;
            }
            if piece.is_none() {
                return true;
            }
        }
    }

    /// Says that this was all, and reads what the client still sends until it has seen that.
    async fn linger(&mut self) {
        self.socket.end_writing();
        let end = Instant::now() + LINGER_DEADLINE;
        let (mut reader, _) = self.socket.split();
        loop {
            let read = poll_fn(|cx| reader.poll_read_with(cx, <[u8]>::len));
            let deadline = end.min(Instant::now() + LINGER_IDLE);
            match timeout_at(deadline, read).await {
                Ok(Ok(length)) if length > 0 => {}
                _ => return,
            }
        }
    }
}

/// Whether the client waits for `100 Continue`; takes `Expect` off where nothing is waited for.
fn settle_expectation(head: &mut RequestHead, framing: Framing) -> Result<bool, ()> {
    if !head.fields.has(Name::Expect) {
        return Ok(false);
    }
    let waits = head
        .fields
        .only(Name::Expect)
        .is_some_and(|expected| expected.eq_ignore_ascii_case(b"100-continue"));
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    if head.version == Version::Http10 || (waits && !has_body) {
        head.fields.remove(Name::Expect);
        return Ok(false);
    }
    if waits { Ok(true) } else { Err(()) }
}

/// The status line and fields of an answer of the proxy's own.
fn start_of(status: http::StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let date = httpdate::fmt_http_date(SystemTime::now());
    out.extend_from_slice(format!("date: {date}\r\n").as_bytes());
    out
}

/// What a client is told for whose connection there is no room.
pub(crate) fn full_house() -> Vec<u8> {
    let page: Response<()> = Response::default();
    let mut out = start_of(http::StatusCode::SERVICE_UNAVAILABLE, page.headers());
    out.extend_from_slice(b"retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    out
}

impl<D: std::error::Error + 'static> From<target::BadTarget> for Fault<D> {
    fn from(bad: target::BadTarget) -> Self {
        match bad {
            target::BadTarget::Form => Self::Head(BadHead::StartLine),
            target::BadTarget::Host => Self::Head(BadHead::FieldLine),
        }
    }
}
