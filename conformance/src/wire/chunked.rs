//! The chunked coding (RFC 9112 section 7.1), taken in at any pace and without leniency.

use super::{Fault, Field, fault, field, line};

/// A size line longer than this is an attack, not an extension.
const LINE_LIMIT_BYTES: usize = 64 * 1024;

/// Where in the coding the reader is.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: State,
    pub(crate) trailers: Vec<Field>,
    pub(crate) extended: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Complete,
}

impl Chunked {
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Appends the data in `bytes` to `body` and says how many bytes were used up. A line that is not
    /// complete yet stays for the next time.
    pub(crate) fn take(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.state {
                State::Complete => return Ok(at),
                State::Data(0) => self.state = State::DataEnd,
                State::Data(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if taken == 0 {
                        return Ok(at);
                    }
                    body.extend_from_slice(&rest[..taken]);
                    self.state = State::Data(left - taken as u64);
                    at += taken;
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(at),
                    _ => return fault("chunk data without its end", &rest[..rest.len().min(20)]),
                },
                State::Size => {
                    let Some((text, next)) = bounded_line(bytes, at)? else {
                        return Ok(at);
                    };
                    let size_end = text.iter().position(|byte| *byte == b';');
                    self.extended |= size_end.is_some();
                    let size = size(&text[..size_end.unwrap_or(text.len())])?;
                    self.state = if size == 0 {
                        State::Trailers
                    } else {
                        State::Data(size)
                    };
                    at = next;
                }
                State::Trailers => {
                    let Some((text, next)) = bounded_line(bytes, at)? else {
                        return Ok(at);
                    };
                    at = next;
                    if text.is_empty() {
                        self.state = State::Complete;
                    } else {
                        self.trailers.push(field(text)?);
                    }
                }
            }
        }
    }
}

fn bounded_line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Fault> {
    let found = line(bytes, at)?;
    if found.is_none() && bytes.len() - at > LINE_LIMIT_BYTES {
        return fault("a line without an end", &bytes[at..at + 40]);
    }
    Ok(found)
}

fn size(digits: &[u8]) -> Result<u64, Fault> {
    let sound = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).unwrap_or_default();
    match u64::from_str_radix(text, 16) {
        Ok(size) if sound => Ok(size),
        _ => fault("a chunk size that is no number", digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_same_at_every_pace() {
        let text = b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-Sum: 1\r\n\r\nnext";
        for pace in 1..text.len() {
            let (mut chunked, mut body) = (Chunked::default(), Vec::new());
            let (mut start, mut end) = (0, 0);
            while !chunked.is_complete() {
                end = text.len().min(end + pace);
                start += chunked.take(&text[start..end], &mut body).unwrap();
            }
            assert_eq!(
                (&body[..], &text[start..]),
                (&b"hello!"[..], &b"next"[..]),
                "{pace}"
            );
            assert_eq!(chunked.trailers.len(), 1);
            assert!(chunked.extended);
        }
    }

    #[test]
    fn loose_chunks_are_faults() {
        for text in [
            "0x1\r\na\r\n",
            "+1\r\na\r\n",
            "-1\r\na\r\n",
            " 1\r\na\r\n",
            "\r\na\r\n",
            "1_0\r\na\r\n",
            "g\r\n",
            "10000000000000000\r\n",
            "1\nab\n",
            "1\rXa\r\n",
            "1\r\nab\r\n",
            "3\r\nab\r\n0\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
        ] {
            let taken = Chunked::default().take(text.as_bytes(), &mut Vec::new());
            assert!(taken.is_err(), "{text:?}");
        }
    }
}
