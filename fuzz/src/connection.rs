//! A client's bytes against the whole proxy: whatever they are, a dev server gets the requests that
//! they plainly are, and nothing else.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::{
    model::{self, CLIENTS, Ending, Expectation, FORWARDED, Next, Request, latin1},
    responses::{self, LineEnds, Response},
    stage::{self, Cut, LONGEST_ECHO, PATIENCE, TOKEN},
    surgery::{self, end_to_end, is_claim, is_part, others_cookies},
};

/// What a dev server says once it has taken an upgrade.
const WELCOME: &[u8] = b"welcome";
/// Where the dev server is seen.
const PREFIX: &str = "/sock/app";

/// How both sides behave: a letter, so that `@` is the plainest.
#[derive(Clone, Copy, Debug)]
struct Mode {
    /// The client says that it will send no more.
    half_closes: bool,
    /// The client goes without waiting for anything.
    leaves: bool,
    /// The upstream answers as soon as it has a head.
    early: bool,
    /// The upstream closes its connection behind each answer.
    once: bool,
    /// The upstream takes upgrades.
    switches: bool,
}

impl Mode {
    fn of(byte: u8) -> Self {
        let bit = |number: u8| byte >> number & 1 == 1;
        Self {
            half_closes: bit(0),
            leaves: bit(1),
            early: bit(2),
            once: bit(3),
            switches: bit(4),
        }
    }
}

/// One connection. The first byte is the mode: `@` and, added to it, 1 for a client that closes its half
/// in the end, 2 for one that goes at once, 4 for a dev server that answers before it has read, 8 for one
/// that closes its connection, 16 for one that takes upgrades. The second is `@` for bytes that come at
/// once, or a letter for pieces of so many. The rest is what the client sends.
///
/// # Panics
/// When the proxy does what it must not.
pub fn connection(data: &[u8]) {
    let [mode, cut, sent @ ..] = data else { return };
    let (mode, cut) = (Mode::of(*mode), Cut::of(*cut));

    let record = Arc::<Mutex<Record>>::default();
    let taken = Arc::clone(&record);
    let received = stage::play(
        |near| client(near, sent, cut, mode),
        move |number, stream| upstream(number, stream, mode, Arc::clone(&taken)),
    );
    let record = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));

    let said = Said::read(sent);
    check_forwarded(&said, sent, &record, mode);
    if !mode.leaves {
        check_answers(&said, sent, &received, mode);
    }
}

async fn client(near: UnixStream, sent: &[u8], cut: Cut, mode: Mode) -> Vec<u8> {
    let (mut reader, mut writer) = near.into_split();
    let writing = async {
        cut.send(sent, &mut writer).await;
        if mode.half_closes {
            // That it is closed already is no matter.
            let _ = writer.shutdown().await;
        }
        writer
    };
    if mode.leaves {
        // It takes no more than this if the proxy reads no more.
        drop(timeout(PATIENCE, writing).await);
        return Vec::new();
    }
    let (_writer, received) = tokio::join!(writing, stage::read_all(&mut reader));
    received
}

/// What the upstreams got.
#[derive(Debug, Default)]
struct Record {
    connections: Vec<Heard>,
    reads: usize,
}

/// What came over one connection.
#[derive(Debug, Default)]
struct Heard {
    bytes: Vec<u8>,
    /// When what begins where came.
    reads: Vec<(usize, usize)>,
    /// Where it became a pipe.
    switched: Option<usize>,
}

fn note<T>(
    record: &Mutex<Record>,
    number: usize,
    act: impl FnOnce(&mut Heard, &mut usize) -> T,
) -> T {
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    let Record { connections, reads } = &mut *record;
    if connections.len() <= number {
        connections.resize_with(number + 1, Heard::default);
    }
    act(&mut connections[number], reads)
}

/// A dev server that says to each request which one it was.
async fn upstream(number: usize, mut stream: UnixStream, mode: Mode, record: Arc<Mutex<Record>>) {
    let mut heard = Vec::new();
    let mut at = 0;
    let (mut continued, mut answered, mut switched) = (false, false, false);
    loop {
        while !switched && let Next::Request(request) = model::next(&heard, at, &FORWARDED) {
            let whole = request.ending == Ending::Whole;
            switched = mode.switches && request.asks_for_websocket();
            let mut said = Vec::new();
            if switched {
                note(&record, number, |heard, _| {
                    heard.switched = Some(request.end)
                });
                said.extend_from_slice(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                );
                said.extend_from_slice(WELCOME);
            } else {
                if request.expectation() == Expectation::Continue && !continued && !mode.early {
                    said.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    continued = true;
                }
                if (whole || mode.early) && !answered {
                    said.extend_from_slice(&answer(&request, mode));
                    answered = true;
                }
            }
            // Whoever hears it no more is somebody else's business.
            let _ = stream.write_all(&said).await;
            if mode.once && answered {
                return;
            }
            if !whole {
                break;
            }
            (at, continued, answered) = (request.end, false, false);
        }
        let mut more = [0; 16 * 1024];
        match timeout(PATIENCE, stream.read(&mut more)).await {
            Ok(Ok(length)) if length > 0 => {
                note(&record, number, |noted, reads| {
                    noted.reads.push((*reads, heard.len()));
                    *reads += 1;
                    noted.bytes.extend_from_slice(&more[..length]);
                });
                heard.extend_from_slice(&more[..length]);
            }
            _ => return,
        }
    }
}

fn answer(request: &Request, mode: Mode) -> Vec<u8> {
    let body = shown(&request.method, &request.target);
    let close = if mode.once {
        "Connection: close\r\n"
    } else {
        ""
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-From: upstream\r\n{close}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let body = if request.method == "HEAD" { "" } else { &body };
    [head.as_bytes(), body.as_bytes()].concat()
}

fn shown(method: &str, target: &str) -> String {
    format!("{method} {target}\n")
}

/// What a client has said, up to where nobody may read on.
#[derive(Debug)]
struct Said {
    requests: Vec<Request>,
    /// Why there is no more.
    stop: Stop,
    /// Where.
    at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// It said no more, or not all of it.
    End,
    /// What follows is no request.
    Refused(&'static str),
    /// The last one is the last.
    Closed,
}

impl Said {
    fn read(sent: &[u8]) -> Self {
        let (mut requests, mut at) = (Vec::new(), 0);
        let stop = loop {
            match model::next(sent, at, &CLIENTS) {
                Next::End | Next::Cut => break Stop::End,
                Next::Refused(why) => break Stop::Refused(why),
                Next::Request(request) => {
                    if request.expectation() == Expectation::Unknown {
                        break Stop::Refused("an unknown expectation");
                    }
                    at = request.end;
                    let (ending, closes) = (request.ending, request.closes());
                    requests.push(request);
                    match ending {
                        Ending::Whole if closes => break Stop::Closed,
                        Ending::Whole => {}
                        Ending::Cut => break Stop::End,
                        Ending::Refused => break Stop::Refused("a bad chunk"),
                    }
                }
            }
        };
        Self { requests, stop, at }
    }
}

/// What the dev server should be asked for, if it is asked.
fn below(request: &Request) -> Option<String> {
    let reads = ["GET", "HEAD"].contains(&request.method.as_str());
    let rest = request.target.strip_prefix(PREFIX)?;
    if ["CONNECT", "TRACE"].contains(&request.method.as_str())
        || rest.contains("%00")
        || !(is_trusted(request) && !request.absolute || request.host.as_deref().is_none_or(is_own))
    {
        return None;
    }
    if rest.starts_with('/') {
        Some(rest.to_owned())
    } else if rest.is_empty() || rest.starts_with('?') {
        // Those are sent to the address with the slash.
        (!reads || request.asks_for_websocket()).then(|| format!("/{rest}"))
    } else {
        None
    }
}

/// Whether it shows the token, so that what it states is believed.
fn is_trusted(request: &Request) -> bool {
    let (digits, times) = TOKEN;
    request.all("x-hpc-proxy-token") == [digits.repeat(times)]
}

/// What a request states in the only field called `name`, if it is believed.
fn stated<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    match request.all(name)[..] {
        [only] if is_trusted(request) => Some(only),
        _ => None,
    }
}

/// Whether it needs no quoting anywhere.
fn is_prefix(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    text.starts_with('/')
        && !text.starts_with("//")
        && !text.ends_with('/')
        && text.chars().all(plain)
}

/// Whether the proxy goes by this name.
fn is_own(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    if let Some(rest) = host.strip_prefix('[') {
        return rest
            .split(']')
            .next()
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost"
        || name == "node01"
        || name.ends_with(".localhost")
        || name.parse::<std::net::Ipv4Addr>().is_ok()
}

/// Every request that a dev server got is one that the client plainly made, in their order.
fn check_forwarded(said: &Said, sent: &[u8], record: &Record, mode: Mode) {
    let mut forwarded = Vec::new();
    for heard in &record.connections {
        let end = heard.switched.unwrap_or(heard.bytes.len());
        let (requests, mut at) = (&heard.bytes[..end], 0);
        while at < end {
            let Next::Request(request) = model::next(requests, at, &FORWARDED) else {
                panic!(
                    "a dev server got no request: `{}`",
                    requests[at..].escape_ascii()
                );
            };
            assert_eq!(request.start, at, "a dev server got empty lines");
            assert_ne!(
                request.ending,
                Ending::Refused,
                "a dev server got a bad body"
            );
            at = request.end;
            let came = heard
                .reads
                .iter()
                .rfind(|(_, start)| *start <= request.start);
            let pipe = (heard.switched == Some(at)).then(|| &heard.bytes[end..]);
            forwarded.push((came.map(|(when, _)| *when), request, pipe));
        }
    }
    forwarded.sort_by_key(|(when, ..)| *when);

    let mut candidates = said.requests.iter();
    for (_, request, pipe) in &forwarded {
        let mut why = "the client said no more".to_owned();
        let made = candidates.find(|made| match is_same(request, made) {
            Ok(()) => true,
            Err(differs) => {
                why = differs;
                false
            }
        });
        let Some(made) = made else {
            panic!("a dev server got what the client did not ask for ({why}): {request:#?}");
        };
        match request.ending {
            Ending::Whole => assert_eq!(made.ending, Ending::Whole, "looks complete: {request:#?}"),
            _ => assert!(
                made.ending != Ending::Whole || mode.leaves || mode.once,
                "a whole request was cut: {request:#?}"
            ),
        }
        if let Some(pipe) = pipe {
            let rest = &sent[made.end..];
            let all = pipe.len() == rest.len() || mode.leaves;
            assert!(
                all && rest.starts_with(pipe),
                "a pipe changed what went through it"
            );
            candidates = [].iter();
        }
    }
}

/// Whether `forwarded` is `made` in the form in which it should go on.
fn is_same(forwarded: &Request, made: &Request) -> Result<(), String> {
    let same = |what: &str, same: bool| {
        if same {
            Ok(())
        } else {
            Err(format!("{what} differs"))
        }
    };
    same("the method", forwarded.method == made.method)?;
    same(
        "the target",
        below(made).as_ref() == Some(&forwarded.target),
    )?;
    same("the framing", forwarded.framing == made.framing)?;
    same("the version", !forwarded.old)?;
    let body = if forwarded.ending == Ending::Whole {
        forwarded.body == made.body
    } else {
        made.body.starts_with(&forwarded.body)
    };
    same("the body", body)?;

    // The fields that the proxy states itself.
    let prefix = stated(made, "x-forwarded-prefix").filter(|text| is_prefix(text));
    let front = stated(made, "x-forwarded-host").or(made.host.as_deref());
    let is_fronts = |origin: &str| {
        let rest = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        rest.zip(front)
            .is_some_and(|(rest, front)| rest.eq_ignore_ascii_case(front))
    };
    // A server is not told of a host that the page's origin, moved to its own, contradicts.
    let is_moved = made.all("origin").into_iter().any(is_fronts);
    let host: Vec<_> = front.into_iter().filter(|_| !is_moved).collect();
    let chain = match stated(made, "x-forwarded-for") {
        None | Some("") => "10.0.0.9".to_owned(),
        Some(before) => format!("{before}, 10.0.0.9"),
    };
    for (name, values) in [
        ("host", &["localhost"][..]),
        ("x-forwarded-prefix", &[prefix.unwrap_or(PREFIX)]),
        (
            "x-forwarded-proto",
            &[stated(made, "x-forwarded-proto").unwrap_or("http")],
        ),
        ("x-forwarded-for", &[&chain]),
        ("x-forwarded-host", &host),
    ] {
        same(name, forwarded.all(name) == values)?;
    }
    let mut claims = forwarded.fields.iter().filter(|(name, _)| is_claim(name));
    same(
        "a claim",
        claims.all(|(name, _)| name.starts_with("x-forwarded-")),
    )?;
    same(
        "via",
        forwarded
            .elements("via")
            .last()
            .is_some_and(|hop| hop == "1.1 hpc-proxy"),
    )?;
    let trails = made.elements("te").contains(&"trailers".to_owned());
    let (te, connection): (&[&str], &[&str]) = match (made.asks_for_websocket(), trails) {
        (true, true) => (&["trailers"], &["upgrade"]),
        (true, false) => (&[], &["upgrade"]),
        (false, true) => (&["trailers"], &["te"]),
        (false, false) => (&[], &[]),
    };
    same("te", forwarded.elements("te") == te)?;
    same("connection", forwarded.elements("connection") == connection)?;
    let upgrade: &[&str] = if made.asks_for_websocket() {
        &["websocket"]
    } else {
        &[]
    };
    same("upgrade", forwarded.elements("upgrade") == upgrade)?;

    // All others are the client's.
    const STATED: [&str; 5] = ["host", "via", "cookie", "origin", "referer"];
    let not_claims = |mut lines: model::Lines| {
        lines.retain(|(name, _)| !is_claim(name));
        lines
    };
    let mut fields = not_claims(end_to_end(&made.fields, &STATED));
    if made.expectation() == Expectation::None {
        fields.retain(|(name, _)| name != "expect");
    }
    let theirs = |lines: &model::Lines| -> model::Lines {
        let own = |name: &str| STATED.contains(&name) || surgery::HOP_BY_HOP.contains(&name);
        lines
            .iter()
            .filter(|(name, _)| !own(name))
            .cloned()
            .collect()
    };
    let got = not_claims(theirs(&forwarded.fields));
    if got != fields {
        return Err(format!("the fields differ: {got:?} for {fields:?}"));
    }
    same(
        "a cookie",
        others_cookies(&forwarded.fields) == others_cookies(&made.fields),
    )?;
    let own_cookie = forwarded
        .all("cookie")
        .iter()
        .any(|value| value.contains("__hpc_proxy="));
    let foreign = others_cookies(&made.fields)
        .iter()
        .any(|pair| pair.contains("__hpc_proxy="));
    same("a cookie of ours", !own_cookie || foreign)?;
    let forbidden = forwarded
        .trailers
        .iter()
        .any(|(name, _)| surgery::must_not_trail(name));
    same(
        "a trailer",
        !forbidden && is_part(&forwarded.trailers, &made.trailers),
    )
}

/// The client gets one well-formed answer to each of its requests, in their order, until one says that
/// it is the last; a dev server's to each request that is for one.
fn check_answers(said: &Said, sent: &[u8], received: &[u8], mode: Mode) {
    let (mut at, mut answers, mut last) = (0, 0, false);
    loop {
        let made = said.requests.get(answers);
        let method = made.map_or("GET", |made| made.method.as_str());
        let answer = match responses::next(received, at, method, LineEnds::Strict, true) {
            responses::Next::End => break,
            responses::Next::Response(answer) if !last => answer,
            other => panic!(
                "not one answer to each request: {other:?} in `{}`",
                received[at..].escape_ascii()
            ),
        };
        at = answer.end;
        if answer.status == 100 {
            let expected = made.is_some_and(|made| made.expectation() == Expectation::Continue);
            assert!(expected, "nobody waited for 100");
            continue;
        }
        match made {
            Some(made) => check_answer(made, &answer, mode),
            None => check_refusal(said, sent, &answer),
        }
        if answer.status == 101 {
            assert_eq!(&received[at..], WELCOME, "the pipe down");
            return;
        }
        last = answer.closes() || answer.ending != Ending::Whole;
        answers += 1;
    }
    if last {
        return;
    }
    let whole = said
        .requests
        .iter()
        .filter(|made| made.ending == Ending::Whole);
    let refused = matches!(said.stop, Stop::Refused(_));
    assert!(
        answers >= whole.count() + usize::from(refused),
        "no answer to request {answers}: {said:#?}"
    );
}

fn check_answer(made: &Request, answer: &Response, mode: Mode) {
    if made.ending != Ending::Whole {
        return;
    }
    assert_eq!(answer.ending, Ending::Whole, "an answer was cut");
    assert!(
        !made.closes() || answer.closes() || answer.status == 101,
        "goes on: {made:#?}"
    );
    let from_upstream = model::all(&answer.fields, "x-from") == ["upstream"];
    let Some(target) = below(made) else {
        assert!(!from_upstream, "forwarded: {made:#?}");
        if made.target == "/_hpc-proxy/echo" {
            let fits = made.body.len() <= LONGEST_ECHO;
            assert_eq!(answer.status, if fits { 200 } else { 413 }, "{made:#?}");
            let echoed = if made.method == "HEAD" || !fits {
                &[]
            } else {
                made.body.as_slice()
            };
            assert_eq!(answer.body, echoed, "another body");
        }
        return;
    };
    if mode.switches && made.asks_for_websocket() && answer.status == 101 {
        return;
    }
    if from_upstream {
        let body = shown(&made.method, &target);
        let body = if made.method == "HEAD" { "" } else { &body };
        assert_eq!(latin1(&answer.body), body, "the answer to another request");
        return;
    }
    let foreign = made.asks_for_websocket() && !made.all("origin").is_empty();
    let circles = made.elements("via").len() > 3;
    assert!(
        answer.status == 403 && foreign || answer.status == 508 && circles,
        "not forwarded: {answer:?} to {made:#?}"
    );
}

fn check_refusal(said: &Said, sent: &[u8], answer: &Response) {
    let rest = sent[said.at..].trim_ascii_start();
    // A client that did not come to the end of a head was too slow, or has said nonsense already.
    const REFUSALS: [u16; 7] = [400, 408, 414, 417, 431, 501, 505];
    assert!(
        REFUSALS.contains(&answer.status),
        "{answer:?} to `{}`",
        rest.escape_ascii()
    );
    assert!(answer.closes(), "goes on after {answer:?}");
    let silent = rest.starts_with(b"HEAD ") && answer.body.is_empty();
    assert!(
        answer.ending == Ending::Whole || silent,
        "an answer was cut"
    );
    assert_ne!(
        said.stop,
        Stop::Closed,
        "an answer to what nobody should read"
    );
}
