//! HTTP/1 requests as RFC 9112 writes them, read in the plainest way: what the proxy is held against.
//!
//! It shares no code with the proxy and looks at whole texts, with no thought for speed. It refuses
//! all that could be read in two ways, and the little more that a proxy of ours must refuse: heads that
//! are too long, `Content-Length: 05`. What becomes of a request is not its business.

use std::net::Ipv6Addr;

/// Bytes of a method and of a request target.
const METHOD: usize = 64;
const TARGET: usize = 16 * 1024;

/// How much there may be: bytes of a line, bytes of all lines, and lines.
pub(crate) struct Room(pub(crate) usize, pub(crate) usize, pub(crate) usize);

/// What a client of the proxy may send.
pub(crate) const CLIENTS: Room = Room(16 * 1024, 64 * 1024, 100);
/// What a dev server may get: the proxy states some more.
pub(crate) const FORWARDED: Room = Room(20 * 1024, 128 * 1024, 110);
/// What follows a last chunk.
const TRAILERS: Room = Room(8 * 1024, 16 * 1024, 50);
/// Bytes of the line that begins a chunk, and digits of its size.
const CHUNK_LINE: usize = 4096;
const CHUNK_DIGITS: usize = 15;

/// Field lines in their order: names in lowercase, each byte a character (Latin-1).
pub(crate) type Lines = Vec<(String, String)>;

/// What is at some place of a client's bytes.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing more.
    End,
    /// The beginning of a head.
    Cut,
    /// No request.
    Refused(&'static str),
    /// A request, perhaps without all of its body.
    Request(Request),
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Whole,
    Cut,
    Refused,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// In origin form where it was in absolute form.
    pub(crate) target: String,
    pub(crate) absolute: bool,
    /// Of the target in absolute form, else of the field.
    pub(crate) host: Option<String>,
    /// HTTP/1.0.
    pub(crate) old: bool,
    pub(crate) fields: Lines,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Lines,
    pub(crate) ending: Ending,
    /// Where it begins and ends; in the middle of what is refused, or at the end of what is cut.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What a client expects (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    None,
    Continue,
    Unknown,
}

impl Request {
    /// The values of all fields called `name`.
    pub(crate) fn all<'a>(&'a self, name: &str) -> Vec<&'a str> {
        all(&self.fields, name)
    }

    /// The elements of all fields called `name`, in lowercase.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        elements(&self.fields, name)
    }

    /// Whether the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        self.old
            || self.method == "CONNECT"
            || self.elements("connection").contains(&"close".to_owned())
    }

    pub(crate) fn expectation(&self) -> Expectation {
        let expected = self.all("expect");
        match expected.as_slice() {
            _ if self.old => Expectation::None,
            [] => Expectation::None,
            [only] if only.eq_ignore_ascii_case("100-continue") => {
                if matches!(self.framing, Framing::None | Framing::Length(0)) {
                    Expectation::None
                } else {
                    Expectation::Continue
                }
            }
            _ => Expectation::Unknown,
        }
    }

    /// Whether it properly asks for a WebSocket (RFC 9110 section 7.8).
    pub(crate) fn asks_for_websocket(&self) -> bool {
        self.method == "GET"
            && !self.old
            && matches!(self.framing, Framing::None | Framing::Length(0))
            && self.elements("connection").contains(&"upgrade".to_owned())
            && self.elements("upgrade") == ["websocket"]
    }
}

/// The values of all of `lines` called `name`.
pub(crate) fn all<'a>(lines: &'a Lines, name: &str) -> Vec<&'a str> {
    let found = lines.iter().filter(|(found, _)| found == name);
    found.map(|(_, value)| value.as_str()).collect()
}

/// The elements of all of `lines` called `name`, in lowercase, without empty ones.
pub(crate) fn elements(lines: &Lines, name: &str) -> Vec<String> {
    let joined = all(lines, name).join(",").to_ascii_lowercase();
    let elements = joined
        .split(',')
        .map(|element| element.trim_matches([' ', '\t']));
    elements
        .filter(|element| !element.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Each byte as a character.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Where `wanted` is in `bytes`.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// Reads what begins at `from`.
pub(crate) fn next(bytes: &[u8], from: usize, room: &Room) -> Next {
    let mut start = from;
    // RFC 9112 section 2.2: empty lines before a request are read over.
    while bytes[start..].starts_with(b"\r\n") {
        start += 2;
    }
    if start == bytes.len() {
        return Next::End;
    }
    let Some(length) = find(&bytes[start..], b"\r\n\r\n") else {
        return Next::Cut;
    };
    let head = latin1(&bytes[start..start + length]);
    match read_head(&head, room) {
        Err(why) => Next::Refused(why),
        Ok(mut request) => {
            request.start = start;
            request.read_body(bytes, start + length + 4);
            Next::Request(request)
        }
    }
}

fn read_head(head: &str, room: &Room) -> Result<Request, &'static str> {
    let (start_line, lines) = match head.split_once("\r\n") {
        Some((start_line, lines)) => (start_line, Some(lines)),
        None => (head, None),
    };
    let [method, target, version] = start_line.split(' ').collect::<Vec<_>>()[..] else {
        return Err("a request line has three words");
    };
    if !is_token(method) || method.len() > METHOD {
        return Err("no method");
    }
    if target.is_empty() || !target.chars().all(|c| ('!'..='~').contains(&c) && c != '#') {
        return Err("no target");
    }
    if target.len() > TARGET {
        return Err("too long a target");
    }
    let old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return Err("another version"),
    };
    let fields = match lines {
        Some(lines) => read_lines(lines.split("\r\n"), room)?,
        None => Lines::new(),
    };

    let hosts = all(&fields, "host");
    let mut host = match hosts.as_slice() {
        [] if old => None,
        [one] if is_host(one) => Some((*one).to_owned()),
        _ => return Err("not one host"),
    };
    let (mut target, mut absolute) = (target.to_owned(), false);
    if method == "CONNECT" {
        if !is_host(&target) {
            return Err("CONNECT to no host");
        }
    } else if target.to_ascii_lowercase().starts_with("http://") {
        let rest = &target["http://".len()..];
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !is_host(authority) {
            return Err("no authority");
        }
        (host, absolute) = (Some(authority.to_owned()), true);
        let slash = if path.starts_with('/') { "" } else { "/" };
        target = format!("{slash}{path}");
    } else if !target.starts_with('/') && (target != "*" || method != "OPTIONS") {
        return Err("no form of a target");
    }

    let framing = framing(&fields, old)?;
    Ok(Request {
        method: method.to_owned(),
        target,
        absolute,
        host,
        old,
        fields,
        framing,
        body: Vec::new(),
        trailers: Lines::new(),
        ending: Ending::Whole,
        start: 0,
        end: 0,
    })
}

/// What `fields` say of a body (RFC 9112 section 6), if they say one thing.
pub(crate) fn framing(fields: &Lines, old: bool) -> Result<Framing, &'static str> {
    let lengths = all(fields, "content-length");
    let codings = all(fields, "transfer-encoding");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Framing::None),
        ([length], []) => match length.parse::<u64>() {
            // As it is written by whoever writes numbers.
            Ok(number) if number.to_string() == **length => Ok(Framing::Length(number)),
            _ => Err("no length"),
        },
        ([], [coding]) if !old && coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        _ => Err("more than one framing, or none that is known"),
    }
}

/// Field lines (RFC 9112 section 5) without their ends.
pub(crate) fn read_lines<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    room: &Room,
) -> Result<Lines, &'static str> {
    let mut read = Lines::new();
    let mut bytes = 0;
    for line in lines {
        let length = line.chars().count();
        bytes += length + 2;
        if length > room.0 || bytes > room.1 || read.len() == room.2 {
            return Err("too many or too long fields");
        }
        let (name, value) = line.split_once(':').ok_or("a field line without a colon")?;
        // Also where a line continues the one before it: no name begins with a space.
        if !is_token(name) {
            return Err("no field name");
        }
        if !is_text(value) {
            return Err("no field value");
        }
        let value = value.trim_matches([' ', '\t']);
        read.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    Ok(read)
}

fn is_token(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

pub(crate) fn is_text(text: &str) -> bool {
    text.chars().all(|c| c == '\t' || (c >= ' ' && c != '\x7f'))
}

/// `host` or `host:port` (RFC 3986 section 3.2), and never nothing.
pub(crate) fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, ""),
    };
    if port.len() > 5 || !port.chars().all(|c| c.is_ascii_digit()) {
        return false;
    }
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let mut parts = host.split('%');
            let plain = |text: &str| {
                text.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+;=".contains(c))
            };
            let encoded = |text: &str| {
                text.chars().take(2).filter(char::is_ascii_hexdigit).count() == 2 && plain(text)
            };
            !host.is_empty() && parts.next().is_some_and(plain) && parts.all(encoded)
        }
    }
}

impl Request {
    fn read_body(&mut self, bytes: &[u8], from: usize) {
        self.end = from;
        match self.framing {
            Framing::None => {}
            Framing::Length(length) => {
                let there = (bytes.len() - from) as u64;
                if length > there {
                    self.ending = Ending::Cut;
                }
                self.end += length.min(there) as usize;
                self.body = bytes[from..self.end].to_vec();
            }
            Framing::Chunked => {
                let body = read_chunks(bytes, from);
                self.end = body.end;
                self.ending = body.ending;
                self.body = body.data;
                self.trailers = body.trailers;
            }
        }
    }
}

/// A chunked body (RFC 9112 section 7.1).
pub(crate) struct Chunks {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Lines,
    pub(crate) ending: Ending,
    pub(crate) end: usize,
}

pub(crate) fn read_chunks(bytes: &[u8], from: usize) -> Chunks {
    let mut body = Chunks {
        data: Vec::new(),
        trailers: Lines::new(),
        ending: Ending::Whole,
        end: from,
    };
    body.ending = loop {
        let rest = &bytes[body.end..];
        let Some(length) = find(rest, b"\r\n") else {
            break Ending::Cut;
        };
        let line = latin1(&rest[..length]);
        let (digits, extension) = line.split_at(line.find(';').unwrap_or(line.len()));
        let sound = !digits.is_empty()
            && digits.len() <= CHUNK_DIGITS
            && digits.chars().all(|c| c.is_ascii_hexdigit())
            && length <= CHUNK_LINE
            && is_text(extension);
        let size = u64::from_str_radix(digits, 16);
        let (true, Ok(size)) = (sound, size) else {
            break Ending::Refused;
        };
        body.end += length + 2;
        let rest = &bytes[body.end..];
        if size == 0 {
            break body.read_trailers(bytes);
        }
        if size > rest.len() as u64 {
            body.data.extend(rest);
            body.end = bytes.len();
            break Ending::Cut;
        }
        let (data, rest) = rest.split_at(size as usize);
        body.data.extend(data);
        body.end += data.len();
        match rest {
            [b'\r', b'\n', ..] => body.end += 2,
            [] | [b'\r'] => break Ending::Cut,
            _ => break Ending::Refused,
        }
    };
    body
}

impl Chunks {
    fn read_trailers(&mut self, bytes: &[u8]) -> Ending {
        let rest = &bytes[self.end..];
        if rest.starts_with(b"\r\n") {
            self.end += 2;
            return Ending::Whole;
        }
        let Some(length) = find(rest, b"\r\n\r\n") else {
            return Ending::Cut;
        };
        let lines = latin1(&rest[..length]);
        match read_lines(lines.split("\r\n"), &TRAILERS) {
            Ok(trailers) => {
                self.trailers = trailers;
                self.end += length + 4;
                Ending::Whole
            }
            Err(_) => Ending::Refused,
        }
    }
}
