//! The chunked transfer coding (RFC 9112 section 7.1): read strictly, written plainly.

use memchr::memchr;
use thiserror::Error;

use super::{
    fields::{Fields, is_value},
    head::{self, Limits, Scanner, Sender},
    name::Name,
};

/// Digits of a chunk's size: more than any chunk needs, and no overflow.
const SIZE_DIGITS: usize = 15;
/// Bytes of the line that a chunk begins with; extensions are read over.
const SIZE_LINE_BYTES: usize = 4096;
/// What may follow the last chunk.
const TRAILER_LIMITS: Limits = Limits {
    target_bytes: 0,
    line_bytes: 8 * 1024,
    fields_bytes: 16 * 1024,
    fields: 50,
};

/// The bytes are not chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the chunked body is malformed")]
pub struct BadChunk;

/// What the next bytes of a chunked body are.
#[derive(Debug)]
pub enum Step {
    /// Skip `skip` bytes; then come `length` bytes of data.
    Data {
        /// Bytes of framing before the data.
        skip: usize,
        /// Bytes of data that are there.
        length: usize,
    },
    /// Skip as many bytes; more are needed to go on.
    More(usize),
    /// Skip as many bytes; the body ends there, with these trailer fields.
    End(usize, Fields),
}

/// A chunked body being read.
#[derive(Debug, Default)]
pub struct Decoder(State);

#[derive(Debug, Default)]
enum State {
    /// At the line that begins a chunk.
    #[default]
    Size,
    /// In a chunk, with so many bytes to come, at least one.
    Data(u64),
    /// At the line end behind a chunk.
    DataEnd,
    /// Behind the last chunk's line.
    Trailers,
}

impl Decoder {
    /// Looks at the next bytes. All that a step skips, and its data, must be taken off before
    /// the next one.
    ///
    /// # Errors
    /// When they are not chunks: the size is anything but some hexadecimal digits, a line does
    /// not end with CR LF, or a trailer is no field.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, BadChunk> {
        let mut skip = 0;
        loop {
            let rest = &bytes[skip..];
            match self.0 {
                State::Size => {
                    let Some((size, line_bytes)) = size_line(rest)? else {
                        return Ok(Step::More(skip));
                    };
                    skip += line_bytes;
                    self.0 = if size == 0 {
                        State::Trailers
                    } else {
                        State::Data(size)
                    };
                }
                State::Data(left) => {
                    if rest.is_empty() {
                        return Ok(Step::More(skip));
                    }
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.0 = match left - length as u64 {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    return Ok(Step::Data { skip, length });
                }
                State::DataEnd => {
                    if !b"\r\n".starts_with(&rest[..rest.len().min(2)]) {
                        return Err(BadChunk);
                    }
                    if rest.len() < 2 {
                        return Ok(Step::More(skip));
                    }
                    skip += 2;
                    self.0 = State::Size;
                }
                State::Trailers => {
                    return Ok(match trailers(rest)? {
                        Some((fields, length)) => Step::End(skip + length, fields),
                        None => Step::More(skip),
                    });
                }
            }
        }
    }
}

/// The size that the line at the start of `bytes` says, and the line's length, once it is there.
fn size_line(bytes: &[u8]) -> Result<Option<(u64, usize)>, BadChunk> {
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let next = bytes.get(digits);
    if digits > SIZE_DIGITS || (digits == 0 && next.is_some()) {
        return Err(BadChunk);
    }
    // An extension begins with a semicolon; white space before it is for old and odd senders, and
    // for whoever wants two readers to disagree.
    if !matches!(next, None | Some(b';' | b'\r')) {
        return Err(BadChunk);
    }
    let Some(newline) = memchr(b'\n', bytes) else {
        // What is there must still be able to become a line.
        let open = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        return if bytes.len() > SIZE_LINE_BYTES || !is_value(open) {
            Err(BadChunk)
        } else {
            Ok(None)
        };
    };
    let line = bytes[..newline].strip_suffix(b"\r").ok_or(BadChunk)?;
    if line.len() > SIZE_LINE_BYTES || !is_value(line) {
        return Err(BadChunk);
    }
    let size = std::str::from_utf8(&line[..digits])
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(BadChunk)?;
    Ok(Some((size, newline + 1)))
}

/// The trailer fields at the start of `bytes`, and their length with the empty line, once they are
/// all there.
fn trailers(bytes: &[u8]) -> Result<Option<(Fields, usize)>, BadChunk> {
    let mut fields = Fields::new();
    if bytes.starts_with(b"\r\n") {
        return Ok(Some((fields, 2)));
    }
    if bytes.is_empty() || bytes == b"\r" {
        return Ok(None);
    }
    let found = Scanner::behind_start_line()
        .scan(bytes, Sender::Client, &TRAILER_LIMITS)
        .map_err(|_| BadChunk)?;
    let Some(length) = found else {
        return Ok(None);
    };
    head::read_trailers(&bytes[..length], &mut fields).map_err(|_| BadChunk)?;
    Ok(Some((fields, length)))
}

/// Whether a trailer may be passed on (RFC 9110 section 6.5.1): nothing that frames, routes,
/// authenticates, or that a recipient would have had to know before the body.
pub fn may_trail(name: Name) -> bool {
    matches!(name, Name::Other | Name::Link | Name::SourceMap)
}

/// Stands before a chunk whose size is not known yet.
pub const SIZE_TO_COME: [u8; 10] = *b"00000000\r\n";

/// Sets the size in the [`SIZE_TO_COME`] at the end of `before`. Zeros may lead (RFC 9112 section 7.1).
pub fn set_size(before: &mut [u8], length: usize) {
    let digits = before.len() - SIZE_TO_COME.len()..before.len() - 2;
    let mut left = length;
    for digit in before[digits].iter_mut().rev() {
        *digit = DIGITS[left & 15];
        left >>= 4;
    }
    debug_assert_eq!(left, 0, "a chunk of {length} bytes");
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes the line that begins a chunk of `length` bytes.
pub fn write_size(length: usize, out: &mut Vec<u8>) {
    let mut shift = usize::BITS;
    while shift > 4 && length >> (shift - 4) == 0 {
        shift -= 4;
    }
    while shift > 0 {
        shift -= 4;
        out.push(DIGITS[length >> shift & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailer fields.
pub fn write_end(trailers: &Fields, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    trailers.write(out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All data of a body that comes in pieces, and how many bytes of it were its own; nothing
    /// where it is not complete.
    fn decode(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, BadChunk> {
        let (mut decoder, mut data) = (Decoder::default(), Vec::new());
        let (mut waiting, mut taken) = (Vec::new(), 0);
        for piece in pieces {
            waiting.extend_from_slice(piece);
            loop {
                let (used, more) = match decoder.step(&waiting)? {
                    Step::Data { skip, length } => {
                        data.extend_from_slice(&waiting[skip..skip + length]);
                        (skip + length, false)
                    }
                    Step::More(skip) => (skip, true),
                    Step::End(skip, _) => return Ok(Some((data, taken + skip))),
                };
                waiting.drain(..used);
                taken += used;
                if more {
                    break;
                }
            }
        }
        Ok(None)
    }

    // Behaviours 59 to 61.
    #[test]
    fn chunks_are_read_strictly() {
        let whole = b"5\r\nhello\r\n1;ext=\"x\"\r\n!\r\n0\r\nX-A: 1\r\n\r\nnext";
        assert_eq!(
            decode(&[whole]),
            Ok(Some((b"hello!".to_vec(), whole.len() - 4)))
        );
        for bad in [
            &b"0x1\r\na\r\n"[..],
            b"+1\r\na\r\n",
            b"-1\r\n",
            b" 1\r\na\r\n",
            b"1 \r\na\r\n",
            b"1_0\r\n",
            b"\r\n",
            b";x\r\n",
            b"1\na\r\n",
            b"1\rX",
            b"1;a\nb\r\n",
            b"1;\x00\r\n",
            b"ffffffffffffffffff\r\n",
            b"1\r\nab\r\n",
            b"2\r\na\r\n0\r\n\r\n",
            b"1\r\na\n",
            b"0\r\nX-A : 1\r\n\r\n",
            b"0\r\nX-A: 1\n\r\n",
            b"0\r\n\n",
        ] {
            assert_eq!(decode(&[bad]), Err(BadChunk), "{}", bad.escape_ascii());
        }
        for cut in [
            &b""[..],
            b"5",
            b"5\r",
            b"5\r\nhel",
            b"5\r\nhello\r",
            b"0\r\n",
            b"0\r\n\r",
            b"0\r\nX",
        ] {
            assert_eq!(decode(&[cut]), Ok(None), "{}", cut.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6), at in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            for chunk in &chunks {
                if chunk.len() % 2 == 0 {
                    write_size(chunk.len(), &mut out);
                } else {
                    out.extend_from_slice(&SIZE_TO_COME);
                    set_size(&mut out, chunk.len());
                }
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
            write_end(&Fields::new(), &mut out);
            let (first, second) = out.split_at(at.index(out.len() + 1));
            prop_assert_eq!(decode(&[first, second]), Ok(Some((chunks.concat(), out.len()))));
        }

        #[test]
        fn no_bytes_panic(first: Vec<u8>, second: Vec<u8>) {
            let _ = decode(&[&first, &second]);
        }

        /// Where the pieces part makes no difference.
        #[test]
        fn pieces_read_as_the_whole(
            text in prop::collection::vec(prop::sample::select(&b"0123a\r\n\r\n\r\n;x:"[..]), 0..60),
            at in any::<prop::sample::Index>(),
        ) {
            let (first, second) = text.split_at(at.index(text.len() + 1));
            let (whole, parts) = (decode(&[&text]), decode(&[first, second]));
            prop_assert_eq!(whole, parts);
        }
    }
}
