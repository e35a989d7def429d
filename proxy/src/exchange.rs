//! One request to an upstream and its answer back, over two sockets, both directions at once.
//!
//! Nothing is buffered, and no exchange has a total deadline: an upload or an event stream may
//! last for days. Either side's end is the other's within a second. Who may ask for what, and how
//! an error looks to a person, is decided elsewhere ([`Service`]).

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use tokio::{
    io::Interest,
    time::{Instant, sleep},
};

use crate::{
    body::{Body, Cut, Form},
    clock::Clock,
    frames::Frames,
    headers,
    http1::{
        chunked::{self, BadChunk},
        framing::{self, Framing},
        head::{self, RESPONSE_LIMITS, RequestHead, ResponseHead, Scanner, Sender, Version},
        name::Name,
    },
    service::{Fault, Forward, Peer, Service},
    socket::{Inbox, Reader, SCRATCH_BYTES, Socket, Writer},
    spare::{Answer, Buffer},
    transform::Transform,
};

/// How long an upstream may think about an answer, counted from the last byte of the request. Dev
/// servers compile, query and train; a browser gives up sooner.
const ANSWER_DEADLINE: Duration = Duration::from_secs(300);
/// How long an upstream may take to say `100 Continue`: many never do (RFC 9110 section 10.1.1).
const CONTINUE_DEADLINE: Duration = Duration::from_secs(1);
/// A client that says it will send no more may have gone, or wait for its answer. After this time
/// without a byte to it, it is taken for gone (behaviours 100, 107).
const GONE_AFTER: Duration = Duration::from_millis(500);
/// How long an upload may stall that goes on behind its answer.
const STALL_DEADLINE: Duration = Duration::from_secs(5);
/// How much of the next requests is read while one is under way.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// How an exchange ended, for the client's connection.
#[derive(Debug)]
pub(crate) enum End<S: Service> {
    /// The answer is complete. `keep` says whether the connection is good for the next request.
    Answered {
        keep: bool,
        /// Whether the whole request was read.
        read: bool,
        /// The upstream's connection, if it is good for another request.
        upstream: Option<Socket>,
    },
    /// The upstream took the protocol that the client asked for. What was read from it behind its
    /// head belongs to the client.
    Upgraded {
        upstream: Socket,
        read: Vec<u8>,
        frames: Frames,
    },
    /// Nothing of an answer was sent.
    Unanswered {
        fault: Fault<S::DialError>,
        /// Whether the upstream did nothing at all, as one whose connection had been closed.
        untouched: bool,
        /// Whether the whole request was read.
        read: bool,
    },
    /// The client has gone, or its answer broke off: both connections end at once.
    Broken,
}

/// What one exchange needs to know.
pub(crate) struct Exchange<'a, S: Service> {
    pub(crate) service: &'a S,
    pub(crate) peer: Peer,
    pub(crate) head: &'a RequestHead,
    pub(crate) framing: Framing,
    pub(crate) forward: &'a Forward<S>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects: bool,
    /// Whether the client would like to keep its connection.
    pub(crate) keep: bool,
    pub(crate) version: Version,
}

/// What the two directions of an exchange tell each other. They take turns in one task.
#[derive(Debug)]
struct Signals {
    /// The client may send the body, or does.
    go_ahead: AtomicBool,
    /// The whole request was read, and sent unless the upstream would not have it.
    request_read: AtomicBool,
    /// The upstream takes no more.
    refused: AtomicBool,
    /// Something of a final answer was sent.
    started: AtomicBool,
    /// Something is being written to the client, which has not taken it yet.
    writing: AtomicBool,
    /// Bytes that the client sent and was sent.
    up: AtomicU64,
    down: AtomicU64,
    began: Instant,
    /// When the request last moved, in milliseconds since then.
    moved: AtomicU64,
}

impl Signals {
    fn new() -> Self {
        Self {
            go_ahead: AtomicBool::default(),
            request_read: AtomicBool::default(),
            refused: AtomicBool::default(),
            started: AtomicBool::default(),
            writing: AtomicBool::default(),
            up: AtomicU64::default(),
            down: AtomicU64::default(),
            began: Instant::now(),
            moved: AtomicU64::default(),
        }
    }

    /// So many bytes of the request's body went by now.
    fn sent(&self, bytes: u64) {
        self.up.store(bytes, Relaxed);
        let elapsed = self.began.elapsed().as_millis();
        self.moved
            .store(u64::try_from(elapsed).unwrap_or(u64::MAX), Relaxed);
    }

    /// How long the upstream has had nothing more to wait for.
    fn silent_for(&self) -> Duration {
        let moved = Duration::from_millis(self.moved.load(Relaxed));
        self.began.elapsed().saturating_sub(moved)
    }
}

/// Why a request did not get to its end.
enum Stopped {
    ClientGone,
    Malformed(BadChunk),
}

enum Failed<S: Service> {
    Fault(Fault<S::DialError>, bool),
    ClientGone,
    /// The answer broke off in the middle.
    Broken,
}

enum Done {
    Complete { keep: bool, reusable: bool },
    Upgraded(Vec<u8>, Frames),
}

/// Runs until `work` is done or the client is gone. Whoever calls it pins the work: handed over, it would
/// stand in the task of the connection twice.
pub(crate) async fn unless_gone<T>(
    client: &mut Socket,
    inbox: &mut Inbox,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let signals = Signals::new();
    let (mut reader, _) = client.split();
    let mut gone = pin!(watch(&mut reader, inbox, &signals));
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        gone.as_mut().poll(cx).map(|()| None)
    })
    .await
}

impl<S: Service> Exchange<'_, S> {
    /// Sends the request to `upstream` and its answer to `client`.
    pub(crate) async fn run(
        self,
        client: &mut Socket,
        inbox: &mut Inbox,
        mut upstream: Socket,
        clock: &mut Clock,
    ) -> (End<S>, u64, u64) {
        let signals = Signals::new();
        let mut answer = Answer::take();
        let first = {
            let (client_reader, client_writer) = client.split();
            let (upstream_reader, upstream_writer) = upstream.split();
            let mut up = pin!(self.upload(client_reader, inbox, upstream_writer, &signals));
            let mut down =
                pin!(self.download(upstream_reader, client_writer, &mut answer, clock, &signals));
            let first = poll_fn(|cx| {
                // What this one learns lets the other go on in the same turn.
                if let Poll::Ready(down) = down.as_mut().poll(cx) {
                    return Poll::Ready(Ok(down));
                }
                up.as_mut().poll(cx).map(Err)
            })
            .await;
            if matches!(first, Ok(Ok(Done::Complete { .. }))) && self.goes_on(&signals) {
                finish(up, &signals).await;
            }
            first
        };
        let read = signals.request_read.load(Relaxed);
        let end = match first {
            Ok(Ok(Done::Complete { keep, reusable })) => End::Answered {
                keep,
                read,
                upstream: (reusable && read && !signals.refused.load(Relaxed)).then_some(upstream),
            },
            Ok(Ok(Done::Upgraded(read, frames))) => End::Upgraded {
                upstream,
                read,
                frames,
            },
            Ok(Err(Failed::Fault(fault, untouched))) => End::Unanswered {
                fault,
                untouched,
                read,
            },
            Err(Stopped::Malformed(bad)) if !signals.started.load(Relaxed) => End::Unanswered {
                fault: bad.into(),
                untouched: false,
                read: false,
            },
            Ok(Err(Failed::ClientGone | Failed::Broken))
            | Err(Stopped::ClientGone | Stopped::Malformed(_)) => End::Broken,
        };
        (end, signals.up.load(Relaxed), signals.down.load(Relaxed))
    }

    /// Whether the request is still on its way although its answer is complete.
    fn goes_on(&self, signals: &Signals) -> bool {
        let began = !self.expects || signals.go_ahead.load(Relaxed);
        began && !signals.request_read.load(Relaxed)
    }

    /// Sends the request; then only watches whether the client is still there.
    async fn upload(
        &self,
        mut client: Reader<'_>,
        inbox: &mut Inbox,
        mut upstream: Writer<'_>,
        signals: &Signals,
    ) -> Stopped {
        let form = match self.framing {
            Framing::Chunked => Form::Chunked,
            _ => Form::Plain,
        };
        let mut body = Body::new(self.framing, form);
        let mut out = Buffer::take();
        self.head.write(&mut out);
        if form == Form::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if let Err(bad) = body.take(inbox, &mut out) {
            return Stopped::Malformed(bad);
        }
        // An empty body may have come, too.
        if body.moved > 0 || body.is_done() {
            signals.go_ahead.store(true, Relaxed);
        }
        let mut refused = upstream.write_all(&out).await.is_err();
        if self.expects && !signals.go_ahead.load(Relaxed) {
            if !may_send(&mut client, inbox, signals).await {
                return Stopped::ClientGone;
            }
            signals.go_ahead.store(true, Relaxed);
            out.clear();
            if let Err(bad) = body.take(inbox, &mut out) {
                return Stopped::Malformed(bad);
            }
            refused |= upstream.write_all(&out).await.is_err();
        }
        if body.moved > 0 {
            signals.sent(body.moved);
        }
        while !body.is_done() {
            if refused {
                // It may have answered all the same; the client's bytes are read on, so that it
                // comes to read that answer (behaviour 102).
                signals.refused.store(true, Relaxed);
                body.discard();
            }
            out.clear();
            match body
                .advance(&mut client, inbox, &mut upstream, &mut out)
                .await
            {
                Ok(_) => {
                    refused |= upstream.write_all(&out).await.is_err()
                        || body.flush(&upstream).await.is_err();
                }
                Err(Cut::Sink(_)) => refused = true,
                Err(Cut::Malformed(bad)) => return Stopped::Malformed(bad),
                Err(Cut::Source(_) | Cut::Short) => return Stopped::ClientGone,
            }
            signals.sent(body.moved);
        }
        drop(out);
        signals.refused.store(refused, Relaxed);
        signals.request_read.store(true, Relaxed);
        watch(&mut client, inbox, signals).await;
        Stopped::ClientGone
    }

    /// Passes interim answers and the final one on.
    async fn download(
        &self,
        mut upstream: Reader<'_>,
        mut client: Writer<'_>,
        answer: &mut ResponseHead,
        clock: &mut Clock,
        signals: &Signals,
    ) -> Result<Done, Failed<S>> {
        let mut inbox = Inbox::default();
        let mut out = Buffer::take();
        let mut touched = false;
        loop {
            self.next_head(
                &mut upstream,
                &mut inbox,
                &mut client,
                answer,
                clock,
                signals,
                touched,
            )
            .await?;
            touched = true;
            match answer.status {
                100 => {
                    if self.expects && !signals.go_ahead.swap(true, Relaxed) {
                        write(&mut client, CONTINUE, signals).await?;
                    }
                }
                101 => {
                    self.switch(answer, &mut out)?;
                    signals.started.store(true, Relaxed);
                    write(&mut client, &out, signals).await?;
                    let is_websocket = self.forward.upgrade.as_deref() == Some(headers::WEBSOCKET);
                    let frames = if is_websocket {
                        Frames::NONE
                    } else {
                        Frames::LOST
                    };
                    return Ok(Done::Upgraded(inbox.into_rest(), frames));
                }
                102..=199 if self.version == Version::Http11 => {
                    headers::strip_hop_by_hop(&mut answer.fields);
                    answer.fields.remove(Name::ContentLength);
                    self.service.edit(&self.forward.view, &mut answer.fields);
                    out.clear();
                    answer.write(&mut out);
                    out.extend_from_slice(b"\r\n");
                    write(&mut client, &out, signals).await?;
                }
                102..=199 => {}
                _ => break,
            }
        }

        let framing = framing::of_response(answer, self.head.method())
            .map_err(|bad| Failed::Fault(Fault::BadAnswer(bad.into()), false))?;
        let Forward { target, view, .. } = self.forward;
        self.service
            .answered(self.head, self.peer, target, answer.status);
        let upstream_closes = head::closes(answer.version, &answer.fields);
        let transform = self
            .service
            .transform(view, answer)
            .filter(|_| !matches!(framing, Framing::None | Framing::Length(0)));
        let of_unknown_length =
            transform.is_some() || matches!(framing, Framing::Chunked | Framing::UntilClose);
        let form = if of_unknown_length && self.version == Version::Http11 {
            Form::Chunked
        } else {
            Form::Plain
        };
        // What is read from a client that is told too early that this was all would be lost.
        let keep = self.keep
            && signals.request_read.load(Relaxed)
            // A body that becomes longer on its way ends with its connection, where there are no chunks.
            && (transform.is_none() || form == Form::Chunked);
        self.finish_head(answer, framing, form, keep);
        self.service.edit(view, &mut answer.fields);
        out.clear();
        answer.write(&mut out);
        out.extend_from_slice(b"\r\n");
        // More bytes than the answer has are nothing that was asked for (behaviour 70).
        let reusable =
            |inbox: &Inbox| !upstream_closes && framing != Framing::UntilClose && inbox.is_empty();
        if let Some(transform) = transform {
            signals.started.store(true, Relaxed);
            let rewrite = Rewrite {
                transform,
                body: Body::new(framing, Form::Content),
                form,
            };
            // Apart, so that what passes as it is need not hold what it takes.
            Box::pin(rewrite.run(out, &mut upstream, &mut inbox, &mut client, signals)).await?;
            let reusable = reusable(&inbox);
            return Ok(Done::Complete { keep, reusable });
        }
        let mut body = Body::new(framing, form);
        let broken = |_| Failed::Broken;
        let taken = body.take(&mut inbox, &mut out);
        signals.started.store(true, Relaxed);
        write(&mut client, &out, signals).await?;
        taken.map_err(broken)?;
        while !body.is_done() {
            out.clear();
            let advanced = body
                .advance(&mut upstream, &mut inbox, &mut client, &mut out)
                .await;
            match advanced {
                Ok(written) => signals.down.fetch_add(written as u64, Relaxed),
                Err(Cut::Sink(_)) => return Err(Failed::ClientGone),
                Err(Cut::Source(_) | Cut::Short | Cut::Malformed(_)) => return Err(Failed::Broken),
            };
            write(&mut client, &out, signals).await?;
            if body.holds_back() {
                signals.writing.store(true, Relaxed);
                let written = body.flush(&client).await;
                signals.writing.store(false, Relaxed);
                let written = written.map_err(|_| Failed::ClientGone)?;
                signals.down.fetch_add(written as u64, Relaxed);
            }
        }
        Ok(Done::Complete {
            keep,
            reusable: reusable(&inbox),
        })
    }

    /// Reads the next head of the upstream's into `answer`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one direction, each on its own"
    )]
    async fn next_head(
        &self,
        upstream: &mut Reader<'_>,
        inbox: &mut Inbox,
        client: &mut Writer<'_>,
        answer: &mut ResponseHead,
        clock: &mut Clock,
        signals: &Signals,
        touched: bool,
    ) -> Result<(), Failed<S>> {
        let bad = |bad| Failed::Fault(Fault::BadAnswer(Box::new(bad)), false);
        let mut scanner = Scanner::default();
        loop {
            let found = scanner.scan(inbox.bytes(), Sender::Server, &RESPONSE_LIMITS);
            if let Some(length) = found.map_err(bad)? {
                let read = answer.read(&inbox.bytes()[..length]);
                inbox.consume(length);
                return read.map_err(bad);
            }
            let untouched = !touched && inbox.is_empty();
            let read = self
                .more(upstream, inbox, client, clock, signals)
                .await?
                .map_err(|error| Failed::Fault(Fault::Died(error), untouched))?;
            if read == 0 {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Err(Failed::Fault(Fault::Died(error), untouched));
            }
        }
    }

    /// More of the upstream's answer, within the deadline that counts from the last byte of the
    /// request; meanwhile the client is told to send its body if the upstream does not care.
    async fn more(
        &self,
        upstream: &mut Reader<'_>,
        inbox: &mut Inbox,
        client: &mut Writer<'_>,
        clock: &mut Clock,
        signals: &Signals,
    ) -> Result<io::Result<usize>, Failed<S>> {
        let waits = self.expects && !signals.go_ahead.load(Relaxed);
        let mut patience = pin!(waits.then(|| sleep(CONTINUE_DEADLINE)));
        clock.set(ANSWER_DEADLINE);
        loop {
            let event = poll_fn(|cx| {
                if let Poll::Ready(read) = upstream.poll_read_with(cx, |bytes| inbox.append(bytes))
                {
                    return Poll::Ready(Event::Read(read));
                }
                if let Some(patience) = patience.as_mut().as_pin_mut()
                    && patience.poll(cx).is_ready()
                {
                    return Poll::Ready(Event::Impatient);
                }
                clock.poll(cx).map(|()| Event::Silent)
            })
            .await;
            match event {
                Event::Read(read) => return Ok(read),
                Event::Impatient => {
                    patience.set(None);
                    if !signals.go_ahead.swap(true, Relaxed) {
                        write(client, CONTINUE, signals).await?;
                    }
                }
                Event::Silent => match ANSWER_DEADLINE.checked_sub(signals.silent_for()) {
                    None | Some(Duration::ZERO) => {
                        return Err(Failed::Fault(Fault::Slow, false));
                    }
                    Some(rest) => clock.set(rest),
                },
            }
        }
    }

    /// Makes the head of a 101 ready, if it is what the client asked for.
    fn switch(&self, answer: &mut ResponseHead, out: &mut Vec<u8>) -> Result<(), Failed<S>> {
        let Forward { target, view, .. } = self.forward;
        let protocol = self
            .forward
            .upgrade
            .as_deref()
            .filter(|protocol| headers::names_upgrade(&answer.fields, protocol))
            .ok_or(Failed::Fault(Fault::UnaskedUpgrade, false))?;
        headers::strip_hop_by_hop(&mut answer.fields);
        answer.fields.remove(Name::ContentLength);
        headers::set_upgrade(&mut answer.fields, protocol);
        self.service
            .answered(self.head, self.peer, target, answer.status);
        self.service.edit(view, &mut answer.fields);
        out.clear();
        answer.write(out);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Replaces the fields of the upstream's hop by those of the client's.
    fn finish_head(&self, answer: &mut ResponseHead, framing: Framing, form: Form, keep: bool) {
        let announced: Vec<Vec<u8>> = if form == Form::Chunked && framing == Framing::Chunked {
            answer
                .fields
                .all(Name::Trailer)
                .map(<[u8]>::to_vec)
                .collect()
        } else {
            Vec::new()
        };
        headers::strip_hop_by_hop(&mut answer.fields);
        if answer.status == 204 {
            answer.fields.remove(Name::ContentLength);
        }
        for names in announced {
            answer.fields.push(Name::Trailer, &names);
        }
        if form == Form::Chunked {
            answer.fields.push(Name::TransferEncoding, b"chunked");
        }
        if !keep {
            answer.fields.push(Name::Connection, b"close");
        }
    }
}

/// Memory for a body that changes. The last one's is used again: to have it back from the kernel page by
/// page costs as much as the change itself.
#[derive(Default)]
struct Scratch {
    content: Vec<u8>,
    out: Vec<u8>,
}

/// More is given back.
const KEPT_SCRATCH_BYTES: usize = 512 * 1024;

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// The body of an answer that changes on its way.
struct Rewrite {
    transform: Box<Transform>,
    body: Body,
    form: Form,
}

impl Rewrite {
    /// Passes each part on as it comes behind the `head`, and no more at once than the client takes.
    async fn run<S: Service>(
        mut self,
        head: Buffer,
        upstream: &mut Reader<'_>,
        inbox: &mut Inbox,
        client: &mut Writer<'_>,
        signals: &Signals,
    ) -> Result<(), Failed<S>> {
        let Scratch {
            mut content,
            mut out,
        } = SCRATCH.take();
        out.extend_from_slice(&head);
        loop {
            if let Some(length) = self.body.claim(inbox.len()) {
                let some = &inbox.bytes()[..length];
                self.change(some, &mut out, client, signals).await?;
                inbox.consume(length);
            } else {
                let taken = self.body.take(inbox, &mut content);
                taken.map_err(|_| Failed::Broken)?;
                self.change(&content, &mut out, client, signals).await?;
                content.clear();
            }
            if self.body.is_done() {
                break;
            }
            // A head does not wait for its body (behaviour 98).
            write(client, &out, signals).await?;
            out.clear();
            if upstream.read(inbox).await.map_err(|_| Failed::Broken)? == 0 {
                self.body.end(&mut content).map_err(|_| Failed::Broken)?;
            }
        }
        let begin = self.begin_piece(&mut out);
        let complete = self.transform.end(&mut out);
        self.end_piece(begin, &mut out);
        if complete.is_err() {
            write(client, &out, signals).await?;
            return Err(Failed::Broken);
        }
        if self.form == Form::Chunked {
            chunked::write_end(&self.body.trailers(), &mut out);
        }
        write(client, &out, signals).await?;
        if content.capacity() + out.capacity() <= KEPT_SCRATCH_BYTES {
            out.clear();
            SCRATCH.set(Scratch { content, out });
        }
        Ok(())
    }

    /// Appends to `out` what `content` becomes, and writes what is enough to be written.
    async fn change<S: Service>(
        &mut self,
        content: &[u8],
        out: &mut Vec<u8>,
        client: &mut Writer<'_>,
        signals: &Signals,
    ) -> Result<(), Failed<S>> {
        let mut taken = 0;
        loop {
            let begin = self.begin_piece(out);
            let used = self.transform.step(&content[taken..], out);
            let some = self.end_piece(begin, out);
            let Ok(used) = used else {
                // What came before is no less right.
                write(client, out, signals).await?;
                return Err(Failed::Broken);
            };
            taken += used;
            if !some && used == 0 {
                return Ok(());
            }
            // The end goes along with what is the last.
            if !self.body.is_done() || out.len() >= SCRATCH_BYTES {
                write(client, out, signals).await?;
                out.clear();
            }
        }
    }

    /// Returns where it begins. Its size stands before it, and is not known yet.
    fn begin_piece(&self, out: &mut Vec<u8>) -> usize {
        if self.form == Form::Chunked {
            out.extend_from_slice(&chunked::SIZE_TO_COME);
        }
        out.len()
    }

    /// Returns whether there is anything in it. One that is empty would be the end of the body.
    fn end_piece(&self, begin: usize, out: &mut Vec<u8>) -> bool {
        let length = out.len() - begin;
        if self.form == Form::Chunked {
            if length == 0 {
                out.truncate(begin - chunked::SIZE_TO_COME.len());
            } else {
                chunked::set_size(&mut out[..begin], length);
                out.extend_from_slice(b"\r\n");
            }
        }
        length > 0
    }
}

enum Event {
    Read(io::Result<usize>),
    Impatient,
    Silent,
}

pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

async fn write<S: Service>(
    client: &mut Writer<'_>,
    bytes: &[u8],
    signals: &Signals,
) -> Result<(), Failed<S>> {
    if bytes.is_empty() {
        return Ok(());
    }
    signals.writing.store(true, Relaxed);
    client
        .write_all(bytes)
        .await
        .map_err(|_| Failed::ClientGone)?;
    signals.writing.store(false, Relaxed);
    signals.down.fetch_add(bytes.len() as u64, Relaxed);
    Ok(())
}

/// Waits until the client may send its body, or does so by itself; not so if it leaves.
async fn may_send(client: &mut Reader<'_>, inbox: &mut Inbox, signals: &Signals) -> bool {
    poll_fn(|cx| {
        if signals.go_ahead.load(Relaxed) {
            return Poll::Ready(true);
        }
        client
            .poll_read_with(cx, |bytes| inbox.append(bytes))
            .map(|read| read.is_ok_and(|length| length > 0))
    })
    .await
}

/// Ends when the client is gone. Meanwhile its next requests are read, up to a limit.
async fn watch(client: &mut Reader<'_>, inbox: &mut Inbox, signals: &Signals) {
    loop {
        if inbox.len() >= READ_AHEAD_BYTES {
            // No more is read; a reset is still heard of.
            let _ = client.ready(Interest::ERROR).await;
            return;
        }
        match client.read(inbox).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return,
        }
    }
    // It will send no more. If it has closed its connection, the first byte to it comes back as a
    // reset; if it only waits, its answer may take its time once it has begun, and it may take its
    // time to read.
    let before = signals.down.load(Relaxed);
    let mut grace = pin!(sleep(GONE_AFTER));
    tokio::select! {
        () = grace.as_mut() => {}
        _ = client.ready(Interest::ERROR) => return,
    }
    if signals.down.load(Relaxed) == before && !signals.writing.load(Relaxed) {
        return;
    }
    let _ = client.ready(Interest::ERROR).await;
}

/// Lets a request get to its end whose answer is complete, as long as it moves.
async fn finish(mut up: impl Future<Output = Stopped> + Unpin, signals: &Signals) {
    let (mut moved, mut stalled) = (0, Instant::now() + STALL_DEADLINE);
    let mut timer = pin!(sleep(STALL_DEADLINE));
    poll_fn(|cx| {
        loop {
            let ended = Pin::new(&mut up).poll(cx).is_ready();
            if ended || signals.request_read.load(Relaxed) || signals.refused.load(Relaxed) {
                return Poll::Ready(());
            }
            let now = signals.up.load(Relaxed);
            if now != moved {
                (moved, stalled) = (now, Instant::now() + STALL_DEADLINE);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= stalled {
                return Poll::Ready(());
            }
            timer.as_mut().reset(stalled);
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use bytes::Bytes;
    use http::Response;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    use super::*;
    use crate::{
        accept,
        http1::{fields::Fields, framing::Framing},
        service::{Decision, Page, PageBody, TooLong},
    };

    /// Sends every request to the one upstream that it was given.
    struct One(Mutex<Option<UnixStream>>);

    impl Service for One {
        type Target = u8;
        type View = ();
        type DialError = io::Error;
        type Call = Infallible;

        async fn decide(
            &self,
            _: &mut RequestHead,
            _: Framing,
            _: Peer,
            _: &mut bool,
        ) -> Decision<Self> {
            Decision::Forward(Forward {
                target: 0,
                view: (),
                upgrade: None,
            })
        }

        async fn called(
            &self,
            call: Infallible,
            _: Result<Bytes, TooLong>,
            _: &RequestHead,
            _: Peer,
        ) -> Page {
            match call {}
        }

        async fn dial(&self, _: &u8) -> Result<(u8, Socket), io::Error> {
            let upstream = self.0.lock().unwrap().take().expect("dialled once");
            Ok((0, upstream.into()))
        }

        fn edit(&self, (): &(), _: &mut Fields) {}

        async fn explain(&self, fault: Fault<io::Error>, _: &RequestHead, _: Peer) -> Page {
            Response::new(PageBody::Whole(format!("{fault}").into()))
        }

        fn answered(&self, _: &RequestHead, _: Peer, _: &u8, _: u16) {}
    }

    // Behaviour 91. The time is virtual: it runs on whenever everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_silent_is_given_up_some_time_after_the_request() {
        for (request, pause) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na",
                100,
            ),
        ] {
            let (mut client, ours) = UnixStream::pair().unwrap();
            let (upstream, _silent) = UnixStream::pair().unwrap();
            let service = One(Mutex::new(Some(upstream)));
            let peer = Peer::Local { uid: 0 };
            let serving = tokio::spawn(accept::serve_one(
                ours.into(),
                peer,
                service,
                Arc::default(),
            ));
            let asked = Instant::now();
            client.write_all(request.as_bytes()).await.unwrap();
            sleep(Duration::from_secs(pause)).await;
            if pause > 0 {
                client.write_all(b"b").await.unwrap();
            }
            let mut answer = vec![0; 1024];
            let length = client.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]);
            assert!(
                answer.contains(&Fault::<io::Error>::Slow.to_string()),
                "{answer}"
            );
            let waited = asked.elapsed().as_secs();
            assert!((pause + 300..pause + 302).contains(&waited), "{waited} s");
            drop(client);
            serving.await.unwrap();
        }
    }
}
