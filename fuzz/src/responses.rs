//! HTTP/1 responses, read as plainly as [`crate::model`] reads requests.

use crate::model::{self, Ending, Framing, Lines, Room, find, latin1};

/// As much as a dev server may send.
const FIELDS: Room = Room(128 * 1024, 256 * 1024, 1000);
const STATUS_LINE: usize = 16 * 1024 + 64 + 8 + 2;

/// What is at some place of a server's bytes.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing more.
    End,
    /// The beginning of a head.
    Cut,
    /// No response.
    #[expect(dead_code, reason = "whoever reads of a failure is told why")]
    Refused(&'static str),
    /// A response, perhaps without all of its body.
    Response(Response),
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// HTTP/1.0.
    pub(crate) old: bool,
    pub(crate) fields: Lines,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Lines,
    pub(crate) ending: Ending,
    /// Whether it ends with the connection.
    pub(crate) until_close: bool,
    /// Where it ends.
    pub(crate) end: usize,
}

/// Which line ends there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEnds {
    /// CR LF.
    Strict,
    /// A LF alone as well (RFC 9112 section 2.2), but in chunks.
    Lenient,
}

impl Response {
    /// Whether more is to come before the answer.
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// Whether the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        self.old
            || self.until_close
            || model::elements(&self.fields, "connection").contains(&"close".to_owned())
    }
}

/// Reads the answer to a request of `method` that begins at `from`. After the last byte the
/// connection has ended if `ended`.
pub(crate) fn next(
    bytes: &[u8],
    from: usize,
    method: &str,
    line_ends: LineEnds,
    ended: bool,
) -> Next {
    if from == bytes.len() {
        return Next::End;
    }
    let Some((lines, length)) = head(&bytes[from..], line_ends) else {
        return Next::Cut;
    };
    match read(bytes, from + length, &lines, method, ended) {
        Ok(response) => Next::Response(response),
        Err(why) => Next::Refused(why),
    }
}

/// The lines of a head without their ends, and its length with the empty line.
fn head(bytes: &[u8], line_ends: LineEnds) -> Option<(Vec<String>, usize)> {
    if line_ends == LineEnds::Strict {
        let length = find(bytes, b"\r\n\r\n")?;
        let head = latin1(&bytes[..length]);
        return Some((head.split("\r\n").map(str::to_owned).collect(), length + 4));
    }
    let (mut lines, mut length) = (Vec::new(), 0);
    loop {
        let newline = find(&bytes[length..], b"\n")?;
        let line = latin1(&bytes[length..length + newline]);
        let line = line.strip_suffix('\r').unwrap_or(&line);
        length += newline + 1;
        if line.is_empty() && !lines.is_empty() {
            return Some((lines, length));
        }
        lines.push(line.to_owned());
    }
}

fn read(
    bytes: &[u8],
    from: usize,
    lines: &[String],
    method: &str,
    ended: bool,
) -> Result<Response, &'static str> {
    let (status_line, lines) = lines.split_first().ok_or("nothing")?;
    if status_line.chars().count() > STATUS_LINE {
        return Err("too long a status line");
    }
    let (old, rest) = if let Some(rest) = status_line.strip_prefix("HTTP/1.1 ") {
        (false, rest)
    } else if let Some(rest) = status_line.strip_prefix("HTTP/1.0 ") {
        (true, rest)
    } else {
        return Err("no version");
    };
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    if status.len() != 3 || !status.chars().all(|c| c.is_ascii_digit()) || status.starts_with('0') {
        return Err("no status");
    }
    if !model::is_text(reason) {
        return Err("no reason");
    }
    let status: u16 = status.parse().map_err(|_| "no status")?;
    let fields = model::read_lines(lines.iter().map(String::as_str), &FIELDS)?;

    let mut response = Response {
        status,
        old,
        fields,
        body: Vec::new(),
        trailers: Lines::new(),
        ending: Ending::Whole,
        until_close: false,
        end: from,
    };
    if status < 200 {
        return Ok(response);
    }
    let framing = model::framing(&response.fields, old)?;
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok(response);
    }
    match framing {
        Framing::Chunked => {
            let chunks = model::read_chunks(bytes, from);
            response.end = chunks.end;
            response.ending = chunks.ending;
            response.body = chunks.data;
            response.trailers = chunks.trailers;
        }
        Framing::Length(length) => {
            let there = (bytes.len() - from) as u64;
            if length > there {
                response.ending = Ending::Cut;
            }
            response.end += length.min(there) as usize;
            response.body = bytes[from..response.end].to_vec();
        }
        Framing::None => {
            response.until_close = true;
            response.ending = if ended { Ending::Whole } else { Ending::Cut };
            response.end = bytes.len();
            response.body = bytes[from..].to_vec();
        }
    }
    Ok(response)
}
