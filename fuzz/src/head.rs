//! Heads, framings, chunks and what is done to fields.

use hpc_proxy::{
    headers,
    http1::{
        chunked::{self, Decoder, Step},
        fields::{Fields, is_token, is_value},
        framing::{self, Framing},
        head::{
            Limits, REQUEST_LIMITS, RESPONSE_LIMITS, RequestHead, ResponseHead, Scanner, Sender,
            read_trailers,
        },
        target,
    },
    rewrite::{Prefix, View},
    route::TargetPort,
};

use crate::{
    model::{self, CLIENTS, Ending, Lines, Next, latin1},
    responses::{self, LineEnds},
    surgery::{self, end_to_end, is_claim, others_cookies},
};

/// Any bytes as each part of a message.
///
/// # Panics
/// When the proxy reads one in another way than the model, or leaves what it must remove.
pub fn head(data: &[u8]) {
    request(data);
    response(data);
    chunks(data);
    trailers(data);
}

/// The head at the start of `bytes`, found at once, or in two pieces.
fn scanned(bytes: &[u8], sender: Sender, limits: &Limits) -> Option<usize> {
    let whole = Scanner::default().scan(bytes, sender, limits);
    let mut scanner = Scanner::default();
    let half = &bytes[..bytes.len() / 2];
    let parts = match scanner.scan(half, sender, limits) {
        Ok(None) => scanner.scan(bytes, sender, limits),
        done => done,
    };
    assert_eq!(whole, parts, "pieces read as another head");
    whole.ok().flatten()
}

fn lines(fields: &Fields) -> Lines {
    let lines = fields.iter().map(|field| {
        assert!(
            is_token(field.spelling) && is_value(field.value),
            "no field"
        );
        (
            latin1(field.spelling).to_ascii_lowercase(),
            latin1(field.value),
        )
    });
    lines.collect()
}

fn request(data: &[u8]) {
    // Empty lines before a request are the connection's business.
    if data.starts_with(b"\r\n") {
        return;
    }
    let mut head = RequestHead::default();
    let length = scanned(data, Sender::Client, &REQUEST_LIMITS);
    let read = length.is_some_and(|length| head.read(&data[..length]).is_ok());
    if read {
        check_written(&head);
    }
    let framing = framing::of_request(&head).ok().filter(|_| read);
    let settled = framing.filter(|_| target::settle(&mut head).is_ok());
    match (model::next(data, 0, &CLIENTS), settled) {
        (Next::Request(wanted), Some(framing)) => {
            assert_eq!(latin1(head.method()), wanted.method);
            assert_eq!(latin1(head.target()), wanted.target);
            let wanted_framing = match wanted.framing {
                model::Framing::None => Framing::None,
                model::Framing::Length(length) => Framing::Length(length),
                model::Framing::Chunked => Framing::Chunked,
            };
            assert_eq!(framing, wanted_framing);
            let upgrades = [headers::WEBSOCKET.to_owned()];
            let upgrade = headers::asked_upgrade(&head, framing, &upgrades);
            assert_eq!(upgrade.is_some(), wanted.asks_for_websocket());
            surgery(&head.fields);
        }
        (Next::Refused(_) | Next::Cut | Next::End, None) => {}
        (wanted, settled) => panic!("{wanted:?} is read as {settled:?}: {head:?}"),
    }
}

/// What is written reads the same, and is written the same again.
fn check_written(head: &RequestHead) {
    let mut written = Vec::new();
    head.write(&mut written);
    written.extend_from_slice(b"\r\n");
    let mut again = RequestHead::default();
    again.read(&written).expect("what is written can be read");
    assert_eq!(again.method(), head.method());
    assert_eq!(again.target(), head.target());
    assert_eq!(lines(&again.fields), lines(&head.fields));
    let mut written_again = Vec::new();
    again.write(&mut written_again);
    written_again.extend_from_slice(b"\r\n");
    assert_eq!(written, written_again);
}

fn surgery(fields: &Fields) {
    let before = lines(fields);
    let mut after = fields.clone();
    headers::strip_request_hop(&mut after);
    let mut wanted = end_to_end(&before, &[]);
    if model::elements(&before, "te").contains(&"trailers".to_owned()) {
        wanted.push(("te".to_owned(), "trailers".to_owned()));
        wanted.push(("connection".to_owned(), "te".to_owned()));
    }
    assert_eq!(lines(&after), wanted);

    headers::strip_claims(&mut after);
    wanted.retain(|(name, _)| !is_claim(name));
    assert_eq!(lines(&after), wanted);

    for name in ["__hpc_proxy", "__Host-__hpc_proxy"] {
        headers::strip_cookie(&mut after, name);
        assert_eq!(headers::cookie(&after, name).count(), 0);
    }
    assert_eq!(others_cookies(&lines(&after)), others_cookies(&wanted));
    let but_cookies = |mut lines: Lines| {
        lines.retain(|(name, _)| name != "cookie");
        lines
    };
    assert_eq!(but_cookies(lines(&after)), but_cookies(wanted));

    rewrite(fields);
}

/// What a dev server may say stays below its prefix, and in the form of fields.
fn rewrite(fields: &Fields) {
    let prefix = Prefix::parse("/port/5500").expect("a prefix");
    let view = View {
        prefix: &prefix,
        port: TargetPort::new(5500),
        moves_urls: true,
        public_host: Some("hpc.example.org"),
        siblings: None,
        secure: false,
        reserved_cookies: &["__hpc_proxy"],
    };
    let mut once = fields.clone();
    view.rewrite(&mut once);
    for (name, value) in lines(&once) {
        match name.as_str() {
            "service-worker-allowed" => assert!(value.starts_with("/port/5500"), "{value}"),
            "clear-site-data" | "strict-transport-security" => {
                panic!("{name} reaches beyond the prefix")
            }
            "location" if value.starts_with('/') && !value.starts_with("//") => {
                assert!(value.starts_with("/port/5500"), "{value}");
            }
            "set-cookie" => {
                for part in value.split(';').skip(1).map(str::to_ascii_lowercase) {
                    let (key, path) = part.split_once('=').unwrap_or((&part, ""));
                    let (key, path) = (key.trim_ascii(), path.trim_ascii());
                    assert_ne!(key, "domain", "{value}");
                    assert!(key != "path" || path.starts_with("/port/5500"), "{value}");
                }
            }
            _ => {}
        }
    }
    let mut twice = once.clone();
    view.rewrite(&mut twice);
    for name in ["location", "set-cookie"] {
        let of = |fields: &Fields| {
            let lines = lines(fields);
            let values = model::all(&lines, name).into_iter().map(str::to_owned);
            values.collect::<Vec<_>>()
        };
        assert_eq!(of(&once), of(&twice), "moved twice");
    }
}

fn response(data: &[u8]) {
    let mut head = ResponseHead::default();
    let length = scanned(data, Sender::Server, &RESPONSE_LIMITS);
    let read = length.is_some_and(|length| head.read(&data[..length]).is_ok());
    if read {
        let mut written = Vec::new();
        head.write(&mut written);
        written.extend_from_slice(b"\r\n");
        let mut again = ResponseHead::default();
        again.read(&written).expect("what is written can be read");
        assert_eq!(
            (again.status, lines(&again.fields)),
            (head.status, lines(&head.fields))
        );
        assert_eq!(memchr_count(&written, b'\n'), lines(&head.fields).len() + 2);
        rewrite(&head.fields);
    }
    let framed = |method: &str| {
        framing::of_response(&head, method.as_bytes())
            .ok()
            .filter(|_| read)
    };
    for method in ["GET", "HEAD"] {
        let framing = framed(method);
        match responses::next(data, 0, method, LineEnds::Lenient, false) {
            // The framing of an interim answer is nobody's business.
            responses::Next::Response(wanted) if wanted.status < 200 => assert!(read),
            responses::Next::Response(wanted) => {
                assert_eq!(head.status, wanted.status);
                assert_eq!(lines(&head.fields), wanted.fields);
                let framing = framing.expect("it has one framing");
                assert_eq!(framing == Framing::UntilClose, wanted.until_close);
            }
            _ => assert!(framing.is_none(), "{framing:?} of {head:?}"),
        }
    }
}

fn memchr_count(bytes: &[u8], wanted: u8) -> usize {
    bytes.iter().filter(|byte| **byte == wanted).count()
}

/// A chunked body: all of its data, how it ends, and what of `data` is its own.
fn decoded(pieces: &[&[u8]]) -> (Vec<u8>, Ending, usize) {
    let (mut decoder, mut data) = (Decoder::default(), Vec::new());
    let (mut waiting, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let Ok(step) = decoder.step(&waiting) else {
                return (data, Ending::Refused, taken);
            };
            let (used, more) = match step {
                Step::Data { skip, length } => {
                    data.extend_from_slice(&waiting[skip..skip + length]);
                    (skip + length, false)
                }
                Step::More(skip) => (skip, true),
                Step::End(skip, fields) => {
                    lines(&fields);
                    return (data, Ending::Whole, taken + skip);
                }
            };
            waiting.drain(..used);
            taken += used;
            if more {
                break;
            }
        }
    }
    (data, Ending::Cut, taken)
}

fn chunks(bytes: &[u8]) {
    let (data, ending, length) = decoded(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let (data_of_pieces, ending_of_pieces, length_of_pieces) = decoded(&[first, second]);
    assert_eq!(
        (&data, ending),
        (&data_of_pieces, ending_of_pieces),
        "pieces read otherwise"
    );
    let wanted = model::read_chunks(bytes, 0);
    if ending == Ending::Whole || wanted.ending == Ending::Whole {
        assert_eq!((ending, length), (wanted.ending, wanted.end));
        assert_eq!((length_of_pieces, data), (length, wanted.data));
    } else {
        assert!(data == wanted.data, "other data before the end");
    }

    // What is written is read.
    let mut written = Vec::new();
    for chunk in bytes.chunks(1 + bytes.len() / 3) {
        chunked::write_size(chunk.len(), &mut written);
        written.extend_from_slice(chunk);
        written.extend_from_slice(b"\r\n");
    }
    chunked::write_end(&Fields::new(), &mut written);
    assert_eq!(
        decoded(&[&written]),
        (bytes.to_vec(), Ending::Whole, written.len())
    );
}

fn trailers(data: &[u8]) {
    let mut fields = Fields::new();
    if read_trailers(data, &mut fields).is_err() {
        return;
    }
    lines(&fields);
    fields.retain(|field| chunked::may_trail(field.name) && !headers::is_claim(field));
    for (name, _) in lines(&fields) {
        assert!(!surgery::must_not_trail(&name), "{name}");
    }
}
