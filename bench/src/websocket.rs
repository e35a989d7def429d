//! WebSockets as far as both ends here need them (RFC 6455): whole frames, echoes, and streams of the
//! pattern.

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    http::read_exactly,
    pattern::{Checker, MAX_PART, Pattern},
};

/// What a request for a WebSocket carries: the key of RFC 6455 section 1.3.
pub const REQUEST_FIELDS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The key in [`REQUEST_FIELDS`], to be compared.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What proves that the key was read, from the same section.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a dev server answers to [`REQUEST_FIELDS`].
pub const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A frame in one piece, binary (section 5.2).
const BINARY: u8 = 0x82;
/// The frame that ends a WebSocket in good order.
const CLOSE: u8 = 0x88;

/// One end of a WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: BufReader<TcpStream>,
    /// A client's frames are masked (section 5.3); with a mask of zeros, which leaves the bytes as
    /// they are and costs no one any time.
    masks: bool,
}

impl WebSocket {
    /// The end that asked.
    pub fn of_client(stream: BufReader<TcpStream>) -> Self {
        Self {
            stream,
            masks: true,
        }
    }

    /// The end that was asked.
    pub fn of_server(stream: BufReader<TcpStream>) -> Self {
        Self {
            stream,
            masks: false,
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut frame = self.frame(BINARY, payload.len());
        frame.extend_from_slice(payload);
        self.stream
            .write_all(&frame)
            .await
            .context("send a message")
    }

    /// Says that no more will come.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send_close(&mut self) -> Result<()> {
        let frame = self.frame(CLOSE, 0);
        self.stream.write_all(&frame).await.context("send a close")
    }

    /// Takes the next message into `payload`; false at the end.
    ///
    /// # Errors
    /// The connection broke, or ended without a close in the middle of a frame.
    pub async fn receive(&mut self, payload: &mut Vec<u8>) -> Result<bool> {
        payload.clear();
        let Some((length, mask)) = self.next_frame().await? else {
            return Ok(false);
        };
        ensure!(length <= 1 << 24, "a message of `{length}` bytes");
        payload.resize(usize::try_from(length)?, 0);
        self.stream
            .read_exact(payload)
            .await
            .context("read a message")?;
        if mask != [0; 4] {
            payload
                .iter_mut()
                .zip(mask.iter().cycle())
                .for_each(|(byte, mask)| *byte ^= mask);
        }
        Ok(true)
    }

    /// Sends a message and expects it back.
    ///
    /// # Errors
    /// It does not come back, or not the same.
    pub async fn echoes(&mut self, payload: &[u8]) -> Result<()> {
        self.send(payload).await?;
        let mut back = Vec::new();
        ensure!(self.receive(&mut back).await?, "closed instead of an echo");
        ensure!(back == payload, "an echo of other bytes");
        Ok(())
    }

    /// Sends `bytes` bytes of the pattern in long messages, and a close; `moved` is told of each.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send_pattern(
        &mut self,
        pattern: &Pattern,
        bytes: u64,
        moved: impl Fn(u64),
    ) -> Result<()> {
        let mut offset = 0;
        while offset < bytes {
            let part = pattern.part(offset, (bytes - offset).min(MAX_PART as u64));
            let head = self.frame(BINARY, part.len());
            self.stream
                .write_all(&head)
                .await
                .context("send a frame's head")?;
            self.stream.write_all(part).await.context("send a frame")?;
            offset += part.len() as u64;
            moved(part.len() as u64);
        }
        self.send_close().await
    }

    /// Takes messages up to the close, which must be the pattern; returns their bytes. `moved` is
    /// told of each.
    ///
    /// # Errors
    /// They are not.
    pub async fn receive_pattern(&mut self, pattern: &Pattern, moved: impl Fn(u64)) -> Result<u64> {
        let mut checker = Checker::new(pattern);
        while let Some((length, mask)) = self.next_frame().await? {
            ensure!(mask == [0; 4], "a mask that nobody here sends");
            read_exactly(&mut self.stream, length, &mut |part| checker.take(part)).await?;
            moved(length);
        }
        Ok(checker.bytes())
    }

    fn frame(&self, opcode: u8, length: usize) -> Vec<u8> {
        let masked = if self.masks { 0x80 } else { 0 };
        let mut frame = vec![opcode];
        match length {
            0..126 => frame.push(masked | u8::try_from(length).expect("below 126")),
            126..=0xFFFF => {
                frame.push(masked | 126);
                frame.extend(u16::try_from(length).expect("16 bits").to_be_bytes());
            }
            _ => {
                frame.push(masked | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if self.masks {
            frame.extend([0; 4]);
        }
        frame
    }

    /// The length and the mask of the next binary frame; nothing at a close or the connection's end.
    async fn next_frame(&mut self) -> Result<Option<(u64, [u8; 4])>> {
        let mut opcode = [0];
        if self
            .stream
            .read(&mut opcode)
            .await
            .context("read a frame")?
            == 0
        {
            return Ok(None);
        }
        let second = self
            .stream
            .read_u8()
            .await
            .context("read a frame's length")?;
        let length = match second & 0x7F {
            126 => u64::from(
                self.stream
                    .read_u16()
                    .await
                    .context("a length of 16 bits")?,
            ),
            127 => self
                .stream
                .read_u64()
                .await
                .context("a length of 64 bits")?,
            short => u64::from(short),
        };
        let mut mask = [0; 4];
        if second & 0x80 != 0 {
            self.stream
                .read_exact(&mut mask)
                .await
                .context("read a mask")?;
        }
        match opcode[0] {
            BINARY => Ok(Some((length, mask))),
            CLOSE => Ok(None),
            other => bail!("a frame that nobody here sends: `{other:#x}`"),
        }
    }
}
