//! Content codings undone as the bytes come (RFC 9110 section 8.4.1), in steps of a bounded size: what a
//! few bytes unpack to is never in memory at once.

use std::{
    fmt,
    io::{Read, Write},
};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use thiserror::Error;

/// How much one step takes in, and about how much it brings out.
const STEP_BYTES: usize = 16 * 1024;
const MOST_BYTES: usize = 64 * 1024;
/// The largest window that an encoder may ask for (RFC 9659 section 3, RFC 8878 section 3.1.1.1.2).
const LARGEST_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// A block of Zstandard (RFC 8878 section 3.1.1.2.4), its header, and a checksum behind it.
const ZSTD_BLOCK_BYTES: usize = 3 + 128 * 1024 + 4;

/// The bytes are not coded as was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the coded body is malformed")]
pub struct BadCoding;

/// A coded body being unpacked.
pub struct Decoder(Coding);

enum Coding {
    Gzip(Box<GzDecoder<Vec<u8>>>),
    /// `deflate`, of which it is not known yet what the server means by it.
    Deflate,
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    Raw(Box<DeflateDecoder<Vec<u8>>>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(Box<Zstd>),
    /// Complete; what follows is nothing.
    Done,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Coding::Gzip(_) => "gzip",
            Coding::Deflate | Coding::Zlib(_) | Coding::Raw(_) => "deflate",
            Coding::Brotli(_) => "br",
            Coding::Zstd(_) => "zstd",
            Coding::Done => "done",
        })
    }
}

impl Decoder {
    /// For one coding; nothing where it is not known.
    pub fn of(coding: &[u8]) -> Option<Self> {
        let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
        Some(Self(if is("gzip") || is("x-gzip") {
            Coding::Gzip(Box::new(GzDecoder::new(Vec::new())))
        } else if is("deflate") {
            Coding::Deflate
        } else if is("br") {
            let memory = StandardAlloc::default;
            Coding::Brotli(Box::new(BrotliState::new(memory(), memory(), memory())))
        } else if is("zstd") {
            Coding::Zstd(Box::default())
        } else {
            return None;
        }))
    }

    /// Takes some of `coded` and appends some of what it holds to `out`; returns how much was taken. All
    /// that came is unpacked once nothing is taken and nothing comes out.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn step(&mut self, coded: &[u8], out: &mut Vec<u8>) -> Result<usize, BadCoding> {
        let some = &coded[..coded.len().min(STEP_BYTES)];
        match &mut self.0 {
            Coding::Gzip(decoder) => {
                let taken = write(decoder.as_mut(), some)?;
                Ok(self.bring(some, taken, out))
            }
            Coding::Zlib(decoder) => {
                let taken = write(decoder.as_mut(), some)?;
                Ok(self.bring(some, taken, out))
            }
            Coding::Raw(decoder) => {
                let taken = write(decoder.as_mut(), some)?;
                Ok(self.bring(some, taken, out))
            }
            Coding::Deflate => {
                // RFC 1950 section 2.2: the method. Some servers send what is inside alone.
                let Some(first) = some.first() else {
                    return Ok(0);
                };
                self.0 = if first & 0x0f == 8 && first >> 4 <= 7 {
                    Coding::Zlib(Box::new(ZlibDecoder::new(Vec::new())))
                } else {
                    Coding::Raw(Box::new(DeflateDecoder::new(Vec::new())))
                };
                self.step(coded, out)
            }
            Coding::Brotli(state) => {
                let (mut left, mut taken, mut total) = (some.len(), 0, 0);
                let (mut room, mut filled) = (MOST_BYTES, 0);
                let start = out.len();
                out.resize(start + MOST_BYTES, 0);
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut taken,
                    some,
                    &mut room,
                    &mut filled,
                    &mut out[start..],
                    &mut total,
                    state,
                );
                out.truncate(start + filled);
                match result {
                    BrotliResult::ResultFailure => return Err(BadCoding),
                    BrotliResult::ResultSuccess => self.0 = Coding::Done,
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                }
                Ok(taken)
            }
            Coding::Zstd(zstd) => zstd.step(some, out),
            Coding::Done => Ok(coded.len()),
        }
    }

    /// The body has ended: whether it was complete, as far as the coding tells (`deflate` does not).
    pub fn is_complete(&mut self) -> bool {
        match &mut self.0 {
            Coding::Gzip(decoder) => decoder.try_finish().is_ok(),
            Coding::Brotli(_) => false,
            Coding::Zstd(zstd) => zstd.frame.is_none() && zstd.kept.is_empty(),
            Coding::Deflate | Coding::Zlib(_) | Coding::Raw(_) | Coding::Done => true,
        }
    }

    /// Moves what was unpacked to `out`. A decoder that takes nothing and brings nothing is at its end;
    /// what follows there is no part of the body.
    fn bring(&mut self, coded: &[u8], taken: usize, out: &mut Vec<u8>) -> usize {
        let unpacked = match &mut self.0 {
            Coding::Gzip(decoder) => decoder.get_mut(),
            Coding::Zlib(decoder) => decoder.get_mut(),
            Coding::Raw(decoder) => decoder.get_mut(),
            Coding::Deflate | Coding::Brotli(_) | Coding::Zstd(_) | Coding::Done => return taken,
        };
        if taken == 0 && unpacked.is_empty() && !coded.is_empty() {
            self.0 = Coding::Done;
            return coded.len();
        }
        out.append(unpacked);
        taken
    }
}

/// Writes some of `coded`, and what the decoder holds back of what came before.
fn write(decoder: &mut impl Write, coded: &[u8]) -> Result<usize, BadCoding> {
    if coded.is_empty() {
        // At most the window of Deflate, 32 KiB.
        decoder.flush().map_err(|_| BadCoding)?;
        return Ok(0);
    }
    decoder.write(coded).map_err(|_| BadCoding)
}

/// Zstandard (RFC 8878) is fed block by block: a few bytes may stand for 128 KiB each. The decoder holds
/// what it unpacked back as long as a later block may refer to it.
#[derive(Default)]
struct Zstd {
    decoder: FrameDecoder,
    /// Whether a frame is under way, and whether a checksum follows it.
    frame: Option<bool>,
    begun: bool,
    /// The header of a frame, or a block, that is not there whole.
    kept: Vec<u8>,
}

impl Zstd {
    fn step(&mut self, coded: &[u8], out: &mut Vec<u8>) -> Result<usize, BadCoding> {
        let start = out.len();
        let mut taken = 0;
        loop {
            self.drain(out)?;
            if out.len() > start {
                return Ok(taken);
            }
            let unit = match self.frame {
                None => header_bytes(&self.kept)?,
                Some(checksum) => block_bytes(&self.kept, checksum)?,
            };
            if let Some(length) = unit.filter(|length| *length <= self.kept.len()) {
                self.read(length)?;
                continue;
            }
            if taken == coded.len() {
                return Ok(taken);
            }
            let more = (ZSTD_BLOCK_BYTES - self.kept.len()).min(coded.len() - taken);
            self.kept.extend_from_slice(&coded[taken..taken + more]);
            taken += more;
        }
    }

    /// Reads one header or one block.
    fn read(&mut self, length: usize) -> Result<(), BadCoding> {
        let unit = &self.kept[..length];
        if self.frame.is_some() {
            let one = BlockDecodingStrategy::UptoBlocks(1);
            let complete = self
                .decoder
                .decode_blocks(unit, one)
                .map_err(|_| BadCoding)?;
            if complete {
                self.frame = None;
            }
        } else {
            self.decoder.set_max_window_size(LARGEST_WINDOW_BYTES);
            let begun = match std::mem::replace(&mut self.begun, true) {
                false => self.decoder.init(unit),
                true => self.decoder.reset(unit),
            };
            begun.map_err(|_| BadCoding)?;
            self.frame = Some(unit[4] & 4 != 0);
        }
        self.kept.drain(..length);
        Ok(())
    }

    /// What is ready.
    fn drain(&mut self, out: &mut Vec<u8>) -> Result<(), BadCoding> {
        if self.begun && self.decoder.can_collect() > 0 {
            let start = out.len();
            out.resize(start + MOST_BYTES, 0);
            let filled = self
                .decoder
                .read(&mut out[start..])
                .map_err(|_| BadCoding)?;
            out.truncate(start + filled);
        }
        Ok(())
    }
}

/// The length of a frame's header (RFC 8878 section 3.1.1.1), once it can be told.
fn header_bytes(kept: &[u8]) -> Result<Option<usize>, BadCoding> {
    const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    let there = kept.len().min(MAGIC.len());
    if kept[..there] != MAGIC[..there] {
        return Err(BadCoding);
    }
    Ok(kept.get(4).map(|descriptor| {
        let single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content = match (descriptor >> 6, single) {
            (0, single) => usize::from(single),
            (size, _) => 1 << size,
        };
        5 + usize::from(!single) + dictionary + content
    }))
}

/// The length of a block with its header (RFC 8878 section 3.1.1.2), and of the checksum behind the last
/// one.
fn block_bytes(kept: &[u8], checksum: bool) -> Result<Option<usize>, BadCoding> {
    let &[a, b, c, ..] = kept else {
        return Ok(None);
    };
    let header = u32::from_le_bytes([a, b, c, 0]);
    // A repeated byte is there once.
    let content = match header >> 1 & 3 {
        1 => 1,
        _ => (header >> 3) as usize,
    };
    let length = 3 + content + if header & 1 == 1 && checksum { 4 } else { 0 };
    if length > ZSTD_BLOCK_BYTES {
        return Err(BadCoding);
    }
    Ok(Some(length))
}
