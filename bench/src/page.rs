//! A long page of a dev server's, row after row, and the check that it came with its URLs moved.

use anyhow::{Result, ensure};
use flate2::{Compress, Compression, Crc, FlushCompress};
use tokio::io::{AsyncWrite, AsyncWriteExt};

const HEAD: &str = "<!doctype html><head></head><body>\n";
const ROW: &str = "<tr><td style='background:url(/x)'><a href=/items/1>one</a></td></tr>\n";
/// So many rows are sent at once.
const BLOCK_ROWS: usize = 500;

/// In which coding it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// Packed block by block, each alone, so that one can be sent over and over.
    Gzip,
}

/// How many blocks a page of at least `bytes` bytes has.
fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil((BLOCK_ROWS * ROW.len()) as u64)
}

/// Sends a page of at least `bytes` bytes, with its head.
///
/// # Errors
/// The client is gone.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: u64, coding: Coding) -> Result<()> {
    let (block, blocks) = (ROW.repeat(BLOCK_ROWS), blocks(bytes));
    let (first, again, last, field) = match coding {
        Coding::Identity => (HEAD.into(), block.into_bytes(), Vec::new(), ""),
        Coding::Gzip => {
            let (first, again, last) = packed(block.as_bytes(), blocks)?;
            (first, again, last, "Content-Encoding: gzip\r\n")
        }
    };
    let length = first.len() as u64 + blocks * again.len() as u64 + last.len() as u64;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{field}Content-Length: {length}\r\n\r\n"
    );
    to.write_all(head.as_bytes()).await?;
    to.write_all(&first).await?;
    for _ in 0..blocks {
        to.write_all(&again).await?;
    }
    to.write_all(&last).await?;
    Ok(())
}

/// The page's beginning, `block`, and what ends it, in gzip (RFC 1952). What is flushed in full does not
/// refer to what came before, and can be repeated.
fn packed(block: &[u8], blocks: u64) -> Result<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let pack = |bytes: &[u8], flush| -> Result<Vec<u8>> {
        let mut packed = Vec::with_capacity(bytes.len() + 1024);
        Compress::new(Compression::fast(), false).compress_vec(bytes, &mut packed, flush)?;
        Ok(packed)
    };
    let mut first = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    first.append(&mut pack(HEAD.as_bytes(), FlushCompress::Full)?);
    let mut last = pack(b"", FlushCompress::Finish)?;
    let (mut all, mut one) = (Crc::new(), Crc::new());
    all.update(HEAD.as_bytes());
    one.update(block);
    for _ in 0..blocks {
        all.combine(&one);
    }
    last.extend_from_slice(&all.sum().to_le_bytes());
    last.extend_from_slice(&all.amount().to_le_bytes());
    Ok((first, pack(block, FlushCompress::Full)?, last))
}

/// Follows a page that should have come with its URLs below a prefix.
#[derive(Debug)]
pub struct Checker {
    row: Vec<u8>,
    /// The line that is not complete yet.
    line: Vec<u8>,
    lines: u64,
}

impl Checker {
    /// At the page's beginning.
    pub fn new(prefix: &str) -> Self {
        let row = ROW.replace("url(/", &format!("url({prefix}/"));
        let row = row.replace("href=/", &format!("href={prefix}/"));
        Self {
            row: row.into_bytes(),
            line: Vec::new(),
            lines: 0,
        }
    }

    /// Takes more of it.
    ///
    /// # Errors
    /// A row is not as it should be.
    pub fn take(&mut self, part: &[u8]) -> Result<()> {
        for line in part.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(line);
            if !line.ends_with(b"\n") {
                break;
            }
            let what = self.line.escape_ascii();
            match self.lines {
                0 => ensure!(
                    self.line.starts_with(b"<!doctype html><head><script "),
                    "a page begins with `{what}`"
                ),
                row => ensure!(self.line == self.row, "row `{row}` is `{what}`"),
            }
            self.lines += 1;
            self.line.clear();
        }
        Ok(())
    }

    /// The page has ended, which had at least `bytes` bytes as it was sent.
    ///
    /// # Errors
    /// Rows are missing, or are too many.
    pub fn end(&self, bytes: u64) -> Result<()> {
        let (rows, wanted) = (self.lines, 1 + blocks(bytes) * BLOCK_ROWS as u64);
        ensure!(rows == wanted, "`{rows}` lines of `{wanted}` came");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[tokio::test]
    async fn both_codings_are_of_the_same_page() {
        let mut bodies = Vec::new();
        for coding in [Coding::Identity, Coding::Gzip] {
            let mut answer = Vec::new();
            send(&mut answer, 100_000, coding).await.unwrap();
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
            bodies.push(answer.split_off(end.unwrap() + 4));
        }
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&bodies[1][..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked == bodies[0]);
        assert!(unpacked.len() >= 100_000 && bodies[1].len() < 10_000);
    }

    #[test]
    fn a_row_that_was_not_moved_is_seen() {
        let mut checker = Checker::new("/p");
        let begin = HEAD.replace("</head>", "<script src=x></script></head>");
        checker.take(begin.as_bytes()).unwrap();
        let row = String::from_utf8(checker.row.clone()).unwrap();
        assert!(row.contains("url(/p/x)") && row.contains("href=/p/items"));
        checker.take(&row.as_bytes()[..9]).unwrap();
        checker.take(&row.as_bytes()[9..]).unwrap();
        checker.take(ROW.as_bytes()).unwrap_err();
        checker.end(1).unwrap_err();
    }
}
