//! An HTTP/1.1 message, read off its bytes as strictly as RFC 9112 lets a reader be. What it refuses, a
//! proxy under test must not have written.
//!
//! Pure: bytes in, values out. Sockets and deadlines are `peer`'s.

pub(crate) mod chunked;

use std::fmt;

use chunked::Chunked;

/// The largest head that a peer here takes: above every limit under test.
const HEAD_LIMIT_BYTES: usize = 256 * 1024;

/// One field line; the name as it was written, the value without the white space around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
}

/// A start line and its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) start: Vec<u8>,
    pub(crate) fields: Vec<Field>,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body, and nothing says otherwise.
    Empty,
    Length(u64),
    Chunked,
    /// Up to the end of the connection; only an answer may.
    Close,
}

/// A message, complete or as much of it as came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: Head,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Field>,
    /// Whether a chunk carried an extension.
    pub(crate) extended: bool,
}

/// Why bytes are no message: a constant phrase and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn fault<T>(what: &str, seen: &[u8]) -> Result<T, Fault> {
    Err(Fault(format!("{what}: `{}`", seen.escape_ascii())))
}

impl Head {
    /// The values of every field called `name`, in order.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let wanted = name.to_ascii_lowercase();
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(&wanted))
            .map(|field| field.value.as_slice())
    }

    /// The value of the only field called `name`.
    pub(crate) fn only(&self, name: &str) -> Option<&[u8]> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Whether a comma-separated field has `element`, in any case.
    pub(crate) fn lists(&self, name: &str, element: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|found| found.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
    }

    fn word(&self, index: usize) -> &[u8] {
        let mut words = self.start.splitn(3, |byte| *byte == b' ');
        words.nth(index).unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &[u8] {
        self.word(1)
    }

    /// The status of an answer; 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        let digits = std::str::from_utf8(self.word(1)).unwrap_or_default();
        digits.parse().unwrap_or_default()
    }

    /// Whether the sender ends the connection behind this message.
    pub(crate) fn says_close(&self) -> bool {
        self.lists("connection", "close")
    }
}

/// Reads a head and says how long it is, or nothing while it is incomplete.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Fault> {
    let mut head = Head::default();
    let mut at = 0;
    loop {
        let Some((line, next)) = line(bytes, at)? else {
            return if bytes.len() > HEAD_LIMIT_BYTES {
                fault("a head without an end", &bytes[..80])
            } else {
                Ok(None)
            };
        };
        let is_first = at == 0;
        at = next;
        if is_first {
            if line.is_empty() {
                return fault("an empty line before the start line", line);
            }
            head.start = line.to_vec();
        } else if line.is_empty() {
            return Ok(Some((head, at)));
        } else {
            head.fields.push(field(line)?);
        }
    }
}

/// The line at `at` without its end, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Fault> {
    let rest = &bytes[at..];
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return Ok(None);
    };
    match (rest[end], rest.get(end + 1)) {
        (b'\r', None) => Ok(None),
        (b'\r', Some(b'\n')) => Ok(Some((&rest[..end], at + end + 2))),
        (b'\r', Some(_)) => fault("a bare CR", &rest[..rest.len().min(end + 20)]),
        _ => fault("a bare LF", &rest[..rest.len().min(end + 20)]),
    }
}

fn field(line: &[u8]) -> Result<Field, Fault> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return fault("a folded line", line);
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return fault("a field without a colon", line);
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return fault("a field name that is no token", line);
    }
    let is_text = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
    if !value.iter().all(is_text) {
        return fault("a control byte in a field value", line);
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value
        .iter()
        .position(|b| !is_space(b))
        .unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|b| !is_space(b))
        .map_or(start, |at| at + 1);
    Ok(Field {
        name: String::from_utf8_lossy(name).into_owned(),
        value: value[start..end].to_vec(),
    })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// How the body of a request is framed (RFC 9112 section 6.3).
pub(crate) fn request_framing(head: &Head) -> Result<Framing, Fault> {
    let words: Vec<_> = head.start.split(|byte| *byte == b' ').collect();
    let sound = matches!(words[..], [method, target, version]
        if !method.is_empty() && method.iter().all(|byte| is_token(*byte))
            && !target.is_empty() && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
            && matches!(version, b"HTTP/1.1" | b"HTTP/1.0"));
    if !sound {
        return fault("no request line", &head.start);
    }
    stated_framing(head, Framing::Empty)
}

/// How the body of an answer to `method` is framed.
pub(crate) fn answer_framing(head: &Head, method: &str) -> Result<Framing, Fault> {
    let version = head.word(0);
    let digits = head.word(1);
    let has_reason = head.start.splitn(3, |byte| *byte == b' ').count() == 3;
    let sound = matches!(version, b"HTTP/1.1" | b"HTTP/1.0")
        && digits.len() == 3
        && digits.iter().all(u8::is_ascii_digit)
        && (100..600).contains(&head.status())
        && has_reason;
    if !sound {
        return fault("no status line", &head.start);
    }
    let status = head.status();
    let stated = stated_framing(head, Framing::Close)?;
    if status < 200 || status == 204 {
        if stated == Framing::Chunked {
            return fault("Transfer-Encoding where no body can be", &head.start);
        }
        return Ok(Framing::Empty);
    }
    Ok(if status == 304 || method == "HEAD" {
        Framing::Empty
    } else {
        stated
    })
}

fn stated_framing(head: &Head, otherwise: Framing) -> Result<Framing, Fault> {
    let encodings: Vec<_> = head.all("transfer-encoding").collect();
    let lengths: Vec<_> = head.all("content-length").collect();
    match (&encodings[..], &lengths[..]) {
        ([], []) => Ok(otherwise),
        ([], [length]) => {
            let text = std::str::from_utf8(length).unwrap_or_default();
            let canonical = text.bytes().all(|byte| byte.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'));
            match text.parse() {
                Ok(length) if canonical => Ok(Framing::Length(length)),
                _ => fault("Content-Length that is no number", length),
            }
        }
        ([encoding], []) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([encoding, ..], []) => fault("Transfer-Encoding that is not `chunked`", encoding),
        ([], [length, ..]) => fault("several Content-Length", length),
        ([_, ..], [length, ..]) => fault("Content-Length beside Transfer-Encoding", length),
    }
}

/// Takes a body in as it comes.
pub(crate) struct Reader {
    message: Message,
    left: u64,
    chunked: Chunked,
}

impl Reader {
    pub(crate) fn new(head: Head, framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => length,
            _ => 0,
        };
        let message = Message {
            head,
            framing,
            body: Vec::new(),
            trailers: Vec::new(),
            extended: false,
        };
        Self {
            message,
            left,
            chunked: Chunked::default(),
        }
    }

    /// Takes what belongs to the message and says how many bytes that was.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self.message.framing {
            Framing::Empty => Ok(0),
            Framing::Length(_) => {
                let taken = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                self.message.body.extend_from_slice(&bytes[..taken]);
                self.left -= taken as u64;
                Ok(taken)
            }
            Framing::Chunked => self.chunked.take(bytes, &mut self.message.body),
            Framing::Close => {
                self.message.body.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    /// Whether the message is complete; `ended` says that no more can come.
    pub(crate) fn is_complete(&self, ended: bool) -> bool {
        match self.message.framing {
            Framing::Empty => true,
            Framing::Length(_) => self.left == 0,
            Framing::Chunked => self.chunked.is_complete(),
            Framing::Close => ended,
        }
    }

    /// The body so far.
    pub(crate) fn body(&self) -> &[u8] {
        &self.message.body
    }

    pub(crate) fn into_message(self) -> Message {
        let mut message = self.message;
        message.trailers = self.chunked.trailers;
        message.extended = self.chunked.extended;
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(Head, usize)>, Fault> {
        head(text.as_bytes())
    }

    fn framing_of(fields: &str, method: Option<&str>, status: u16) -> Result<Framing, Fault> {
        let start = match method {
            Some(_) => format!("HTTP/1.1 {status} x"),
            None => "GET / HTTP/1.1".to_owned(),
        };
        let (head, _) = read(&format!("{start}\r\n{fields}\r\n"))?.expect("it is complete");
        match method {
            Some(method) => answer_framing(&head, method),
            None => request_framing(&head),
        }
    }

    #[test]
    fn a_head_is_read_to_its_end_and_no_further() {
        let text = "GET /a HTTP/1.1\r\nHost: h\r\nX-A: \t b c \r\nx-a:\r\n\r\nrest";
        let (head, length) = read(text).unwrap().unwrap();
        assert_eq!(&text[length..], "rest");
        assert_eq!(head.target(), b"/a");
        assert_eq!(head.all("X-A").collect::<Vec<_>>(), [&b"b c"[..], b""]);
        assert_eq!(head.only("host"), Some(&b"h"[..]));
        assert_eq!(head.only("x-a"), None);
    }

    #[test]
    fn every_shorter_part_of_a_head_is_incomplete() {
        let text = "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n";
        for length in 0..text.len() {
            assert_eq!(read(&text[..length]), Ok(None), "{length}");
        }
    }

    #[test]
    fn loose_heads_are_faults() {
        for text in [
            "\r\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nX: a\nb\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nX : a\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_request_says_its_length_once() {
        assert_eq!(framing_of("", None, 0), Ok(Framing::Empty));
        assert_eq!(
            framing_of("Content-Length: 5\r\n", None, 0),
            Ok(Framing::Length(5))
        );
        assert_eq!(
            framing_of("Transfer-Encoding: Chunked\r\n", None, 0),
            Ok(Framing::Chunked)
        );
        for loose in [
            "Content-Length: 05\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(framing_of(loose, None, 0).is_err(), "{loose:?}");
        }
    }

    #[test]
    fn some_answers_have_no_body_whatever_they_say() {
        let length = "Content-Length: 5\r\n";
        assert_eq!(framing_of("", Some("GET"), 200), Ok(Framing::Close));
        assert_eq!(framing_of(length, Some("GET"), 200), Ok(Framing::Length(5)));
        assert_eq!(framing_of(length, Some("HEAD"), 200), Ok(Framing::Empty));
        assert_eq!(framing_of(length, Some("GET"), 304), Ok(Framing::Empty));
        assert_eq!(framing_of("", Some("GET"), 204), Ok(Framing::Empty));
        assert!(framing_of("Transfer-Encoding: chunked\r\n", Some("GET"), 204).is_err());
        assert!(framing_of("", Some("GET"), 99).is_err());
    }

    #[test]
    fn a_body_ends_where_its_length_says() {
        let mut reader = Reader::new(Head::default(), Framing::Length(5));
        assert_eq!(reader.take(b"hel"), Ok(3));
        assert!(!reader.is_complete(true));
        assert_eq!(reader.take(b"lo and more"), Ok(2));
        assert!(reader.is_complete(false));
        assert_eq!(reader.into_message().body, b"hello");
    }
}
