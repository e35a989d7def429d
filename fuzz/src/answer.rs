//! A dev server's bytes against the whole proxy: whatever they are, the client gets the answer that
//! they plainly are, or one of the proxy's own, or one that visibly breaks off.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::{
    model::{self, Ending, FORWARDED, Lines},
    responses::{self, LineEnds, Response},
    stage::{self, Cut, PATIENCE},
    surgery::{self, end_to_end, is_part},
};

/// What an honest dev server answers.
const HONEST: &str = "honest";
/// Silence after which a dev server has said all that it says by itself.
const QUIET: Duration = Duration::from_secs(1);

/// What is asked, and how the dev server ends.
#[derive(Clone, Copy, Debug)]
struct Mode {
    /// The dev server closes its connection behind its bytes.
    ends: bool,
    /// The client asks with `HEAD`.
    head: bool,
    /// The client asks for a WebSocket.
    upgrades: bool,
    /// The client speaks HTTP/1.0.
    old: bool,
}

impl Mode {
    fn of(byte: u8) -> Self {
        let bit = |number: u8| byte >> number & 1 == 1;
        Self {
            ends: bit(0),
            head: bit(1),
            upgrades: bit(2) && !bit(1) && !bit(3),
            old: bit(3),
        }
    }

    fn method(self) -> &'static str {
        if self.head { "HEAD" } else { "GET" }
    }

    fn request(self) -> String {
        let version = if self.old { "1.0" } else { "1.1" };
        let upgrade = if self.upgrades {
            "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        } else {
            ""
        };
        format!(
            "{} /sock/app/first HTTP/{version}\r\nHost: localhost\r\n{upgrade}\r\n",
            self.method()
        )
    }
}

/// One answer. The first byte is the mode: `@` and, added to it, 1 for a dev server that closes its
/// connection in the end, 2 for `HEAD`, 4 for a WebSocket, 8 for HTTP/1.0. The second is `@` for bytes
/// that come at once, or a letter for pieces of so many. The rest is what the dev server sends.
///
/// # Panics
/// When the proxy does what it must not.
pub fn answer(data: &[u8]) {
    let [mode, cut, said @ ..] = data else { return };
    let (mode, cut, bytes) = (Mode::of(*mode), Cut::of(*cut), said.to_vec());
    let wanted = Wanted::of(said, mode);
    let is_reusable = wanted.leaves_nothing_behind(said);
    let (first, second) = stage::play(
        |near| client(near, mode),
        move |number, stream| {
            let said = (number == 0).then(|| bytes.clone());
            upstream(stream, said, cut, mode, is_reusable || number > 0)
        },
    );
    wanted.check(&first, mode);
    if let Some(second) = second {
        check_honest(&second);
    }
}

/// Sends a request, and another one if the answer to it was complete; returns both answers.
async fn client(mut near: UnixStream, mode: Mode) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut first = Vec::new();
    let request = mode.request();
    near.write_all(request.as_bytes())
        .await
        .expect("the proxy reads");
    let ended = read_until_quiet(&mut near, &mut first, QUIET).await;
    if ended {
        return (first, None);
    }
    if !is_complete(&first, mode) {
        // It may still be waiting for what never comes.
        read_until_quiet(&mut near, &mut first, PATIENCE).await;
        return (first, None);
    }
    let mut second = Vec::new();
    let request = b"GET /sock/app/second HTTP/1.1\r\nHost: localhost\r\n\r\n";
    near.write_all(request)
        .await
        .expect("the proxy goes on reading");
    read_until_quiet(&mut near, &mut second, PATIENCE).await;
    (first, Some(second))
}

/// Reads until the end, or until nothing has come for `quiet`; says whether it is the end.
async fn read_until_quiet(from: &mut UnixStream, all: &mut Vec<u8>, quiet: Duration) -> bool {
    loop {
        match timeout(quiet, from.read_buf(all)).await {
            Ok(Ok(length)) if length > 0 => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

fn is_complete(received: &[u8], mode: Mode) -> bool {
    let mut at = 0;
    loop {
        match responses::next(received, at, mode.method(), LineEnds::Strict, false) {
            responses::Next::Response(answer) if answer.is_interim() => at = answer.end,
            responses::Next::Response(answer) => {
                return answer.status != 101 && answer.ending == Ending::Whole && !answer.closes();
            }
            _ => return false,
        }
    }
}

/// A dev server that has `said` to say to the first request, if anything, and is honest for the rest.
async fn upstream(
    mut stream: UnixStream,
    mut said: Option<Vec<u8>>,
    cut: Cut,
    mode: Mode,
    is_reusable: bool,
) {
    let (mut heard, mut at) = (Vec::new(), 0);
    loop {
        while let model::Next::Request(request) = model::next(&heard, at, &FORWARDED) {
            at = request.end;
            if let Some(said) = said.take() {
                cut.send(&said, &mut stream).await;
                if mode.ends {
                    return;
                }
                continue;
            }
            assert_eq!(request.target, "/second", "asked again");
            assert!(
                is_reusable,
                "a connection was used again that nobody should trust"
            );
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n{HONEST}");
            // Whoever hears it no more is somebody else's business.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        // The client is the first to lose its patience.
        let more = timeout(PATIENCE * 2, stream.read_buf(&mut heard)).await;
        if !matches!(more, Ok(Ok(length)) if length > 0) {
            return;
        }
    }
}

/// What the client should get.
#[derive(Debug)]
struct Wanted {
    /// Statuses of what is passed on before the answer.
    interim: Vec<u16>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    /// The proxy's own: 502, or 504 where the dev server may still have had something to say.
    Own,
    /// The dev server's.
    Theirs(Response),
    /// The dev server's 101, and then these bytes.
    Switched(Response, Vec<u8>),
}

impl Wanted {
    fn of(said: &[u8], mode: Mode) -> Self {
        let (mut interim, mut at) = (Vec::new(), 0);
        let answer = loop {
            match responses::next(said, at, mode.method(), LineEnds::Lenient, mode.ends) {
                responses::Next::Response(answer) if answer.is_interim() => {
                    at = answer.end;
                    if answer.status != 100 && !mode.old {
                        interim.push(answer.status);
                    }
                }
                responses::Next::Response(answer) if answer.status == 101 => {
                    let asked = mode.upgrades
                        && model::elements(&answer.fields, "upgrade") == ["websocket"];
                    break if asked {
                        let rest = said[answer.end..].to_vec();
                        Answer::Switched(answer, rest)
                    } else {
                        Answer::Own
                    };
                }
                responses::Next::Response(answer) => break Answer::Theirs(answer),
                _ => break Answer::Own,
            }
        };
        Self { interim, answer }
    }

    /// Whether the answer is all that was said, so that the connection is good for another.
    fn leaves_nothing_behind(&self, said: &[u8]) -> bool {
        match &self.answer {
            Answer::Theirs(answer) => {
                answer.ending == Ending::Whole && answer.end == said.len() && !answer.closes()
            }
            Answer::Own | Answer::Switched(..) => false,
        }
    }

    fn check(&self, received: &[u8], mode: Mode) {
        let shown = || format!("`{}` for {self:#?}", received.escape_ascii());
        let (mut interim, mut at) = (Vec::new(), 0);
        let got = loop {
            match responses::next(received, at, mode.method(), LineEnds::Strict, true) {
                responses::Next::Response(answer) if answer.is_interim() => {
                    at = answer.end;
                    check_one_framing(&answer);
                    interim.push(answer.status);
                }
                responses::Next::Response(answer) => break answer,
                other => panic!("no answer: {other:?}: {}", shown()),
            }
        };
        assert_eq!(
            interim,
            self.interim,
            "what came before the answer: {}",
            shown()
        );
        check_one_framing(&got);
        let rest = &received[got.end..];
        match &self.answer {
            Answer::Own => {
                let json = got.body.starts_with(b"{\"error\":\"") || mode.head;
                assert!(matches!(got.status, 502 | 504) && json, "{}", shown());
                assert_eq!(got.ending, Ending::Whole, "{}", shown());
                assert!(rest.is_empty(), "bytes behind the answer: {}", shown());
            }
            Answer::Switched(theirs, bytes) => {
                assert_eq!(got.status, 101, "{}", shown());
                assert_eq!(rest, bytes, "the pipe down: {}", shown());
                check_fields(theirs, &got);
            }
            Answer::Theirs(theirs) => {
                assert_eq!(got.status, theirs.status, "{}", shown());
                assert!(rest.is_empty(), "bytes behind the answer: {}", shown());
                check_fields(theirs, &got);
                check_body(theirs, &got, mode);
            }
        }
    }
}

/// Whatever the status is: a reader who does not know it must not find two ways to read on.
fn check_one_framing(got: &Response) {
    let lengths = model::all(&got.fields, "content-length").len();
    let codings = model::all(&got.fields, "transfer-encoding").len();
    assert!(lengths + codings <= 1, "more than one framing: {got:#?}");
    let none = got.status < 200 || got.status == 204;
    assert!(
        !none || lengths + codings == 0,
        "a framing of nothing: {got:#?}"
    );
}

fn check_body(theirs: &Response, got: &Response, mode: Mode) {
    if theirs.ending == Ending::Whole {
        assert_eq!(got.ending, Ending::Whole, "was cut: {got:#?}");
        assert_eq!(got.body, theirs.body, "another body");
        assert!(
            is_part(&got.trailers, &theirs.trailers),
            "other trailers: {got:#?}"
        );
        let forbidden = got
            .trailers
            .iter()
            .any(|(name, _)| surgery::must_not_trail(name));
        assert!(!forbidden, "trailers that nobody may send: {got:#?}");
        return;
    }
    assert!(theirs.body.starts_with(&got.body), "another body");
    // Where the end of the connection is the end of the answer, only a reset tells, which these
    // sockets do not have.
    let untold = mode.old && got.until_close;
    assert!(
        got.ending != Ending::Whole || untold,
        "looks complete: {got:#?}"
    );
}

/// What is end to end reaches the client, but what would reach beyond one dev server.
fn check_fields(theirs: &Response, got: &Response) {
    const MOVED: [&str; 7] = [
        "content-location",
        "link",
        "location",
        "refresh",
        "service-worker-allowed",
        "set-cookie",
        "sourcemap",
    ];
    const ORIGIN_WIDE: [&str; 5] = [
        "alt-svc",
        "clear-site-data",
        "public-key-pins",
        "set-login",
        "strict-transport-security",
    ];
    let mut but = [&MOVED[..], &ORIGIN_WIDE].concat();
    if theirs.status < 200 || theirs.status == 204 {
        but.push("content-length");
    }
    let wanted = end_to_end(&theirs.fields, &but);
    but.retain(|name| MOVED.contains(name));
    let own = |name: &str| but.contains(&name) || surgery::HOP_BY_HOP.contains(&name);
    let fields: Lines = got
        .fields
        .iter()
        .filter(|(name, _)| !own(name))
        .cloned()
        .collect();
    assert_eq!(fields, wanted, "other fields");
    for cookie in model::all(&got.fields, "set-cookie") {
        let mut parts = cookie.split(';').map(|part| part.trim_matches([' ', '\t']));
        let name = parts
            .next()
            .and_then(|pair| pair.split('=').next())
            .unwrap_or_default();
        let name = name.trim_matches([' ', '\t']);
        let host = name.to_ascii_lowercase().starts_with("__host-");
        assert!(name != "__hpc_proxy" && !host, "a cookie of ours: {cookie}");
        for part in parts.map(str::to_ascii_lowercase) {
            let (key, value) = part.split_once('=').unwrap_or((&part, ""));
            let (key, value) = (
                key.trim_matches([' ', '\t']),
                value.trim_matches([' ', '\t']),
            );
            assert_ne!(key, "domain", "{cookie}");
            assert!(key != "path" || value.starts_with("/sock/app"), "{cookie}");
        }
    }
}

fn check_honest(second: &[u8]) {
    let shown = second.escape_ascii();
    match responses::next(second, 0, "GET", LineEnds::Strict, true) {
        responses::Next::Response(answer) => {
            let honest = answer.status == 200 && answer.body == HONEST.as_bytes();
            assert!(
                honest && answer.end == second.len(),
                "the next answer: `{shown}`"
            );
        }
        other => panic!("no next answer: {other:?}: `{shown}`"),
    }
}
