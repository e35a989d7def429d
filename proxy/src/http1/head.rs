//! Request and response heads: found in a stream of bytes, read strictly, written again.

use memchr::memchr;
use thiserror::Error;

use super::{
    fields::{Fields, Span, TOKEN, is_token, is_value},
    name::Name,
};

/// The versions that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
}

/// How long a head may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the request target.
    pub target_bytes: usize,
    /// Bytes of one field line.
    pub line_bytes: usize,
    /// Bytes of all field lines together.
    pub fields_bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// What a client may send (S22): a browser's heads have some two kilobytes and twenty fields.
pub const REQUEST_LIMITS: Limits = Limits {
    target_bytes: 16 * 1024,
    line_bytes: 16 * 1024,
    fields_bytes: 64 * 1024,
    fields: 100,
};

/// What a dev server may send: it is the user's own, and some set huge cookies.
pub const RESPONSE_LIMITS: Limits = Limits {
    target_bytes: 16 * 1024,
    line_bytes: 128 * 1024,
    fields_bytes: 256 * 1024,
    fields: 1000,
};

/// The longest method that is registered has 17 bytes (`UPDATEREDIRECTREF`).
const METHOD_BYTES: usize = 64;
/// `HTTP/1.1`.
const VERSION_BYTES: usize = 8;

/// Why bytes are not a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadHead {
    /// No start line of HTTP/1.
    #[error("the start line is malformed")]
    StartLine,
    /// Another version of HTTP.
    #[error("the version of HTTP is not spoken here")]
    Version,
    /// A field line that is none, or that could be read in two ways.
    #[error("a field line is malformed")]
    FieldLine,
    /// The target is too long.
    #[error("the request target is longer than {} bytes", REQUEST_LIMITS.target_bytes)]
    TargetTooLong,
    /// The fields are too many or too long.
    #[error("the header fields are too many or too long")]
    TooLarge,
}

/// Finds the end of a head in bytes that come bit by bit: each byte is looked at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    line_at: usize,
    looked_at: usize,
    lines: usize,
    first_line_end: usize,
}

/// Who sends a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A client: every line ends with CR LF.
    Client,
    /// A dev server: a bare LF ends a line too (RFC 9112 section 2.2). It is written again as
    /// CR LF, and browsers take it directly as well.
    Server,
}

impl Scanner {
    /// One for field lines without a start line before them.
    pub(super) fn behind_start_line() -> Self {
        Self {
            lines: 1,
            ..Self::default()
        }
    }

    /// The length of the head at the start of `bytes`, with its empty line, once it is all there.
    ///
    /// # Errors
    /// As soon as it cannot become a head within `limits`.
    pub fn scan(
        &mut self,
        bytes: &[u8],
        sender: Sender,
        limits: &Limits,
    ) -> Result<Option<usize>, BadHead> {
        if bytes.first().is_some_and(|byte| !TOKEN[usize::from(*byte)]) {
            return Err(BadHead::StartLine);
        }
        while let Some(found) = memchr(b'\n', &bytes[self.looked_at..]) {
            let newline = self.looked_at + found;
            let line = &bytes[self.line_at..newline];
            let line = match (line.strip_suffix(b"\r"), sender) {
                (Some(line), _) => line,
                (None, Sender::Server) => line,
                (None, Sender::Client) if self.lines == 0 => return Err(BadHead::StartLine),
                (None, Sender::Client) => return Err(BadHead::FieldLine),
            };
            let end = newline + 1;
            if self.lines == 0 {
                self.first_line_end = end;
            } else if line.is_empty() {
                return Ok(Some(end));
            }
            self.check(line.len(), end, limits)?;
            self.lines += 1;
            (self.line_at, self.looked_at) = (end, end);
            if self.lines > limits.fields + 1 {
                return Err(BadHead::TooLarge);
            }
        }
        self.looked_at = bytes.len();
        self.check(bytes.len() - self.line_at, bytes.len(), limits)?;
        Ok(None)
    }

    fn check(&self, line_bytes: usize, end: usize, limits: &Limits) -> Result<(), BadHead> {
        if self.lines == 0 {
            if line_bytes > limits.target_bytes + METHOD_BYTES + VERSION_BYTES + 2 {
                return Err(BadHead::TargetTooLong);
            }
        } else if line_bytes > limits.line_bytes || end - self.first_line_end > limits.fields_bytes
        {
            return Err(BadHead::TooLarge);
        }
        Ok(())
    }
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    method: Span,
    target: Span,
    /// The version of the client's.
    pub version: Version,
    /// Whether the target named the host; see [`super::target::settle`].
    pub is_absolute: bool,
    /// The fields.
    pub fields: Fields,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            method: Span::default(),
            target: Span::default(),
            version: Version::Http11,
            is_absolute: false,
            fields: Fields::new(),
        }
    }
}

impl RequestHead {
    /// Reads `head`, which ends with its empty line (see [`Scanner`]), in place of what was here.
    ///
    /// # Errors
    /// When it is not a request head of HTTP/1 (RFC 9112 sections 2 to 5).
    pub fn read(&mut self, head: &[u8]) -> Result<(), BadHead> {
        self.fields.load(head);
        (self.method, self.target) = (Span::default(), Span::default());
        let line_end = line_end(head, 0);
        let mut parts = head[..line_end.0].splitn(3, |byte| *byte == b' ');
        let (Some(method), Some(target), Some(version)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(BadHead::StartLine);
        };
        // Spaces and control bytes never, nor a fragment, which no client may send (RFC 9112
        // section 3.2); nor bytes that are no ASCII, which the next hop might take for another path.
        let plain = |byte: &u8| (b'!'..=b'~').contains(byte) && *byte != b'#';
        if !is_token(method)
            || method.len() > METHOD_BYTES
            || target.is_empty()
            || !target.iter().all(plain)
        {
            return Err(BadHead::StartLine);
        }
        if target.len() > REQUEST_LIMITS.target_bytes {
            return Err(BadHead::TargetTooLong);
        }
        self.version = version_of(version)?;
        self.is_absolute = false;
        let target_at = method.len() + 1;
        self.method = Span::between(0, method.len());
        self.target = Span::between(target_at, target_at + target.len());
        read_fields(head, line_end.1, &mut self.fields)
    }

    /// The method.
    pub fn method(&self) -> &[u8] {
        self.fields.text(self.method)
    }

    /// The request target.
    pub fn target(&self) -> &[u8] {
        self.fields.text(self.target)
    }

    /// Asks for another target: `/`, `!` to `~`, no `#`.
    pub fn set_target(&mut self, target: &[u8]) {
        self.target = self.fields.store(target);
    }

    /// Whether nothing is changed by it (RFC 9110 section 9.2.2), so that it may be sent twice.
    pub fn is_idempotent(&self) -> bool {
        matches!(
            self.method(),
            b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE"
        )
    }

    /// Writes it as a head of HTTP/1.1, without the empty line behind it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method());
        out.push(b' ');
        out.extend_from_slice(self.target());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        self.fields.write(out);
    }
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The status code, 100 to 999.
    pub status: u16,
    reason: Span,
    /// The version of the server's.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            status: 200,
            reason: Span::default(),
            version: Version::Http11,
            fields: Fields::new(),
        }
    }
}

impl ResponseHead {
    /// Reads `head`, which ends with its empty line (see [`Scanner`]), in place of what was here.
    ///
    /// # Errors
    /// When it is not a response head of HTTP/1 (RFC 9112 sections 2, 4 and 5).
    pub fn read(&mut self, head: &[u8]) -> Result<(), BadHead> {
        self.fields.load(head);
        self.reason = Span::default();
        let (end, next) = line_end(head, 0);
        let line = &head[..end];
        let (version, rest) = line
            .split_at_checked(VERSION_BYTES)
            .ok_or(BadHead::StartLine)?;
        self.version = version_of(version)?;
        // The reason, and even the space before it, may be missing.
        let (status, reason) = match rest {
            [b' ', status @ ..] if status.len() == 3 => (status, &b""[..]),
            [b' ', a, b, c, b' ', reason @ ..] => (&[*a, *b, *c][..], reason),
            _ => return Err(BadHead::StartLine),
        };
        self.status = std::str::from_utf8(status)
            .ok()
            .filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|status| status.parse().ok())
            .filter(|status| *status >= 100)
            .ok_or(BadHead::StartLine)?;
        if !is_value(reason) {
            return Err(BadHead::StartLine);
        }
        self.reason = Span::between(end - reason.len(), end);
        read_fields(head, next, &mut self.fields)
    }

    /// Writes it as a head of HTTP/1.1, without the empty line behind it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let digit = |value: u16| b'0' + (value % 10) as u8;
        let status = self.status;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
        out.extend_from_slice(self.fields.text(self.reason));
        out.extend_from_slice(b"\r\n");
        self.fields.write(out);
    }
}

fn version_of(text: &[u8]) -> Result<Version, BadHead> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(BadHead::Version)
        }
        _ => Err(BadHead::StartLine),
    }
}

/// Reads the field lines from `at` up to the empty line.
fn read_fields(head: &[u8], mut at: usize, fields: &mut Fields) -> Result<(), BadHead> {
    loop {
        let (end, next) = line_end(head, at);
        if end == at {
            return Ok(());
        }
        let line = &head[at..end];
        // A line that begins with white space would continue the one before (obs-fold): its name
        // is no token. So is one with white space before the colon.
        let colon = memchr(b':', line).ok_or(BadHead::FieldLine)?;
        let (value_at, value_end) = trimmed(head, at + colon + 1, end);
        if !is_token(&line[..colon]) || !is_value(&head[value_at..value_end]) {
            return Err(BadHead::FieldLine);
        }
        fields.push_at(
            Span::between(at, at + colon),
            Span::between(value_at, value_end),
        );
        at = next;
    }
}

/// The part of `head[at..end]` without the spaces and tabs around it, and no other white space
/// (RFC 9110 section 5.6.3).
fn trimmed(head: &[u8], mut at: usize, mut end: usize) -> (usize, usize) {
    let blank = |byte: u8| byte == b' ' || byte == b'\t';
    while at < end && blank(head[at]) {
        at += 1;
    }
    while at < end && blank(head[end - 1]) {
        end -= 1;
    }
    (at, end)
}

/// Reads trailer fields, lines with their ends and the empty line behind the last.
///
/// # Errors
/// When a line is no field line.
pub fn read_trailers(lines: &[u8], fields: &mut Fields) -> Result<(), BadHead> {
    fields.load(lines);
    read_fields(lines, 0, fields)
}

/// Where the line from `at` ends, without and with its line end. There is one: see [`Scanner`].
fn line_end(head: &[u8], at: usize) -> (usize, usize) {
    let newline = memchr(b'\n', &head[at..]).map_or(head.len(), |found| at + found);
    let end = if newline > at && head[newline - 1] == b'\r' {
        newline - 1
    } else {
        newline
    };
    (end, (newline + 1).min(head.len()))
}

/// Whether `fields` say that the connection ends with this message (RFC 9112 section 9.3).
pub fn closes(version: Version, fields: &Fields) -> bool {
    version == Version::Http10
        || fields
            .elements(Name::Connection)
            .any(|option| option.eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(text: &[u8]) -> Result<RequestHead, BadHead> {
        let mut scanner = Scanner::default();
        let mut head = RequestHead::default();
        match scanner.scan(text, Sender::Client, &REQUEST_LIMITS)? {
            Some(length) => head.read(&text[..length]).map(|()| head),
            None => panic!("incomplete: {}", text.escape_ascii()),
        }
    }

    fn response(text: &[u8]) -> Result<ResponseHead, BadHead> {
        let mut scanner = Scanner::default();
        let mut head = ResponseHead::default();
        match scanner.scan(text, Sender::Server, &RESPONSE_LIMITS)? {
            Some(length) => head.read(&text[..length]).map(|()| head),
            None => panic!("incomplete: {}", text.escape_ascii()),
        }
    }

    fn written(head: &RequestHead) -> String {
        let mut out = Vec::new();
        head.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_written_as_it_was_read() {
        let text = "PROPFIND /a%2Fb?x=%20|{} HTTP/1.1\r\nHost: h\r\nx-A:  1 \t\r\nX-a:\r\n\r\n";
        let head = request(text.as_bytes()).unwrap();
        assert_eq!(head.method(), b"PROPFIND");
        assert_eq!(head.target(), b"/a%2Fb?x=%20|{}");
        assert_eq!(
            written(&head),
            "PROPFIND /a%2Fb?x=%20|{} HTTP/1.1\r\nHost: h\r\nx-A: 1\r\nX-a: \r\n"
        );
    }

    // Behaviours 13, 16, 27, 51 to 53.
    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        use BadHead::{FieldLine, StartLine, Version};
        for (text, why) in [
            (&b"GET /  HTTP/1.1\r\n\r\n"[..], StartLine),
            (b"GET  / HTTP/1.1\r\n\r\n", StartLine),
            (b"GET\t/ HTTP/1.1\r\n\r\n", StartLine),
            (b"GET /\r\n\r\n", StartLine),
            (b" GET / HTTP/1.1\r\n\r\n", StartLine),
            (b"G(T / HTTP/1.1\r\n\r\n", StartLine),
            (b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n", StartLine),
            (b"GET /#a HTTP/1.1\r\n\r\n", StartLine),
            (b"GET / HTTP/1.1\n\r\n", StartLine),
            (b"GET / http/1.1\r\n\r\n", StartLine),
            (b"GET / HTTP/1.1 \r\n\r\n", StartLine),
            (b"GET / HTTP/2.0\r\n\r\n", Version),
            (b"GET / HTTP/1.1\r\nA: 1\nB: 2\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\n A: 1\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\nA : 1\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\n: 1\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\nA\x85: 1\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\nA: a\0b\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\nA: a\rb\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\nA: a\r\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\nA: \x0cchunked\r\n\r\n", FieldLine),
            (b"GET / HTTP/1.1\r\nA\r\n\r\n", FieldLine),
        ] {
            assert_eq!(request(text).unwrap_err(), why, "{}", text.escape_ascii());
        }
    }

    // Behaviours 30 and 50.
    #[test]
    fn heads_are_as_long_as_the_limits_say_and_no_longer() {
        let target = |bytes: usize| {
            let rest = "a".repeat(bytes - 1);
            request(format!("GET /{rest} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
        };
        assert!(target(16 * 1024).is_ok());
        assert_eq!(target(16 * 1024 + 1).unwrap_err(), BadHead::TargetTooLong);
        assert_eq!(target(100_000).unwrap_err(), BadHead::TargetTooLong);

        let fields = |count: usize, bytes: usize| {
            let value = "a".repeat(bytes - 3);
            let lines = format!("A: {value}\r\n").repeat(count);
            request(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes())
        };
        assert!(fields(100, 10).is_ok());
        assert_eq!(fields(101, 10).unwrap_err(), BadHead::TooLarge);
        assert!(fields(3, 16 * 1024).is_ok());
        assert_eq!(fields(1, 16 * 1024 + 1).unwrap_err(), BadHead::TooLarge);
        assert_eq!(fields(5, 15 * 1024).unwrap_err(), BadHead::TooLarge);
    }

    // Behaviour 72.
    #[test]
    fn a_response_needs_a_status_of_three_digits() {
        for text in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 299\r\n\r\n",
            "HTTP/1.1 200 \n\n",
        ] {
            assert!(response(text.as_bytes()).is_ok(), "{text:?}");
        }
        for text in [
            "HTTP/1.1 99 x\r\n\r\n",
            "HTTP/1.1 099 x\r\n\r\n",
            "HTTP/1.1 1000 x\r\n\r\n",
            "HTTP/1.1 2x0 x\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/3.0 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n",
        ] {
            assert!(response(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    proptest! {
        /// Bit by bit or at once, the end is found in the same place, and nothing panics.
        #[test]
        fn the_end_is_where_it_is_however_the_bytes_come(
            text in prop::collection::vec(prop::sample::select(&b"GET / HTTP/1.1:\r\n\r\n\r\n"[..]), 0..80),
            at in any::<prop::sample::Index>(),
        ) {
            let whole = Scanner::default().scan(&text, Sender::Client, &REQUEST_LIMITS);
            let mut scanner = Scanner::default();
            let at = at.index(text.len() + 1);
            let first = scanner.scan(&text[..at], Sender::Client, &REQUEST_LIMITS);
            let parts = match first {
                Ok(None) => scanner.scan(&text, Sender::Client, &REQUEST_LIMITS),
                other => other,
            };
            prop_assert_eq!(whole, parts);
        }

        /// Whatever is read is written as a head that reads the same.
        #[test]
        fn what_is_written_reads_the_same(
            text in "[A-Z]{1,6} /[!-~]{0,12} HTTP/1.[01]\r\n([!-~]{1,6}:[ -~]{0,8}\r\n){0,4}\r\n"
        ) {
            if let Ok(head) = request(text.as_bytes()) {
                let again = written(&head) + "\r\n";
                let read_again = request(again.as_bytes()).unwrap();
                prop_assert_eq!(written(&read_again) + "\r\n", again);
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = RequestHead::default().read(&bytes);
            let _ = ResponseHead::default().read(&bytes);
            let _ = read_trailers(&bytes, &mut Fields::new());
        }
    }
}
