//! Messages of HTTP/1.1 as far as a well-behaved client or dev server needs them, by hand: what is measured is the
//! proxy, and what is checked are bytes.

use std::io;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Longer heads than this come from no one here.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Reads up to and with the empty line behind a head into `head`; false when the peer closed before.
///
/// # Errors
/// The connection broke, or the head is cut or too long.
pub async fn read_head(
    from: &mut (impl AsyncBufRead + Unpin),
    head: &mut Vec<u8>,
) -> io::Result<bool> {
    head.clear();
    loop {
        let start = head.len();
        if from.read_until(b'\n', head).await? == 0 {
            return match head.is_empty() {
                true => Ok(false),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        if &head[start..] == b"\r\n" {
            return Ok(true);
        }
        if head.len() > MAX_HEAD_BYTES {
            return Err(io::Error::other("a head without an end"));
        }
    }
}

/// The value of the first field called `name`.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The status of an answer.
///
/// # Errors
/// This is not the head of one.
pub fn status(head: &[u8]) -> Result<u16> {
    let digits = head
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    digits
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("no answer of HTTP/1.1: `{}`", head.escape_ascii()))
}

/// How a body's end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After a chunk of length 0.
    Chunked,
}

impl Framing {
    /// As a head says it; without a word, there is no body.
    ///
    /// # Errors
    /// The length is not a number.
    pub fn of(head: &[u8]) -> Result<Self> {
        if field(head, "transfer-encoding").is_some() {
            return Ok(Self::Chunked);
        }
        let length = field(head, "content-length").unwrap_or("0");
        let length = length
            .parse()
            .with_context(|| format!("`{length}` is no length"))?;
        Ok(Self::Length(length))
    }
}

/// Reads a body to its end and hands its bytes to `take` as they come.
///
/// # Errors
/// It ends too early, is framed wrongly, or `take` refuses.
pub async fn read_body(
    from: &mut (impl AsyncBufRead + Unpin),
    framing: Framing,
    take: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    match framing {
        Framing::Length(length) => read_exactly(from, length, take).await,
        Framing::Chunked => loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)
                .await
                .context("a chunk's length")?;
            let digits = std::str::from_utf8(&line).unwrap_or_default().trim_end();
            let length = u64::from_str_radix(digits, 16)
                .with_context(|| format!("`{}` is no chunk's length", line.escape_ascii()))?;
            read_exactly(from, length, take).await?;
            line.clear();
            from.read_until(b'\n', &mut line)
                .await
                .context("a chunk's end")?;
            ensure!(
                line == b"\r\n",
                "a chunk ends with `{}`",
                line.escape_ascii()
            );
            if length == 0 {
                return Ok(());
            }
        },
    }
}

/// Hands the next `length` bytes to `take` as they come.
///
/// # Errors
/// There are not so many, or `take` refuses.
pub async fn read_exactly(
    from: &mut (impl AsyncBufRead + Unpin),
    mut length: u64,
    take: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    while length > 0 {
        let buffer = from.fill_buf().await.context("read a body")?;
        ensure!(!buffer.is_empty(), "a body ends `{length}` bytes early");
        let part = usize::try_from(length).map_or(buffer.len(), |length| length.min(buffer.len()));
        take(&buffer[..part])?;
        from.consume(part);
        length -= part as u64;
    }
    Ok(())
}

/// What takes a body and keeps it in `body`.
pub fn keep(body: &mut Vec<u8>) -> impl FnMut(&[u8]) -> Result<()> {
    |part| {
        body.extend_from_slice(part);
        Ok(())
    }
}

/// What takes a body that nobody wants.
///
/// # Errors
/// None.
pub fn ignore(_: &[u8]) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(framing: Framing, mut bytes: &[u8]) -> Result<String> {
        let mut body = Vec::new();
        read_body(&mut bytes, framing, &mut keep(&mut body)).await?;
        ensure!(bytes.is_empty(), "more than the body was read or less");
        Ok(String::from_utf8(body)?)
    }

    #[tokio::test]
    async fn a_body_ends_where_its_framing_says() {
        let chunks = b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(body(Framing::Chunked, chunks).await.unwrap(), "abcd");
        assert_eq!(body(Framing::Length(3), b"abc").await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_body_that_is_cut_is_an_error() {
        body(Framing::Length(4), b"abc").await.unwrap_err();
        body(Framing::Chunked, b"3\r\nabc\r\n").await.unwrap_err();
        body(Framing::Chunked, b"3\r\nabc").await.unwrap_err();
        body(Framing::Chunked, b"3\r\nabcd\r\n0\r\n\r\n")
            .await
            .unwrap_err();
    }

    #[tokio::test]
    async fn a_head_is_read_alone() {
        let mut bytes: &[u8] = b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\nrest";
        let mut head = Vec::new();
        assert!(read_head(&mut bytes, &mut head).await.unwrap());
        assert_eq!(
            (status(&head).unwrap(), field(&head, "a")),
            (204, Some("b"))
        );
        assert_eq!(bytes, b"rest");
    }
}
