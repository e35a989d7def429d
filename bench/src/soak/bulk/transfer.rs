//! One long message through the proxy, by one of all ways.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Result, anyhow, ensure};

use crate::{
    client::Connection,
    http::{ignore, keep},
    pattern::{Checker, MAX_PART, Pattern},
    route::Route,
};

/// What is read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Ways through the proxy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Down,
    DownChunked,
    Up,
    UpChunked,
    PipeDown,
    PipeUp,
}

/// All of them.
pub(super) const WAYS: [Way; 6] = [
    Way::Down,
    Way::DownChunked,
    Way::Up,
    Way::UpChunked,
    Way::PipeDown,
    Way::PipeUp,
];

/// One message of `bytes` bytes.
pub(super) struct Transfer<'a> {
    pub(super) route: &'a Route,
    pub(super) pattern: &'a Pattern,
    pub(super) moved: &'a AtomicU64,
    pub(super) bytes: u64,
}

impl Transfer<'_> {
    pub(super) async fn run(&self, way: Way) -> Result<()> {
        let bytes = self.bytes;
        let mut connection = Connection::open(self.route, BUFFER_BYTES).await?;
        match way {
            Way::Down => self.down(&mut connection, &format!("/bytes/{bytes}")).await,
            Way::DownChunked => {
                self.down(&mut connection, &format!("/chunked/{bytes}"))
                    .await
            }
            Way::Up => self.up(&mut connection, false).await,
            Way::UpChunked => self.up(&mut connection, true).await,
            Way::PipeDown => self.pipe_down(connection).await,
            Way::PipeUp => self.pipe_up(connection).await,
        }
    }

    async fn down(&self, connection: &mut Connection, path: &str) -> Result<()> {
        let mut checker = Checker::new(self.pattern);
        let status = connection.get(path, |part| {
            self.moved.fetch_add(part.len() as u64, Relaxed);
            checker.take(part)
        });
        let status = status.await?;
        ensure!(status == 200, "answered {status}");
        ensure!(
            checker.bytes() == self.bytes,
            "only `{}` bytes came",
            checker.bytes()
        );
        Ok(())
    }

    async fn up(&self, connection: &mut Connection, chunked: bool) -> Result<()> {
        let framing = match chunked {
            true => "Transfer-Encoding: chunked\r\n".to_owned(),
            false => format!("Content-Length: {}\r\n", self.bytes),
        };
        let head = self.route.head("POST", "/count", &framing);
        connection.send(head.as_bytes()).await?;
        let mut offset = 0;
        while offset < self.bytes {
            let part = self
                .pattern
                .part(offset, (self.bytes - offset).min(MAX_PART as u64));
            if chunked {
                connection
                    .send(format!("{:x}\r\n", part.len()).as_bytes())
                    .await?;
            }
            connection.send(part).await?;
            if chunked {
                connection.send(b"\r\n").await?;
            }
            offset += part.len() as u64;
            self.moved.fetch_add(part.len() as u64, Relaxed);
        }
        if chunked {
            connection.send(b"0\r\n\r\n").await?;
        }
        let mut answer = Vec::new();
        let status = connection.answer(keep(&mut answer));
        let status = status.await?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(
            answer == self.bytes.to_string(),
            "answered {status}: `{answer}`"
        );
        Ok(())
    }

    async fn pipe_down(&self, connection: Connection) -> Result<()> {
        let path = format!("/pour/{}", self.bytes);
        let switched = connection.upgrade(&path, ignore).await?;
        let mut socket = switched.map_err(|status| anyhow!("answered {status}"))?;
        let count = |bytes| {
            self.moved.fetch_add(bytes, Relaxed);
        };
        let bytes = socket.receive_pattern(self.pattern, count).await?;
        ensure!(bytes == self.bytes, "only `{bytes}` bytes came");
        Ok(())
    }

    async fn pipe_up(&self, connection: Connection) -> Result<()> {
        let switched = connection.upgrade("/drink", ignore).await?;
        let mut socket = switched.map_err(|status| anyhow!("answered {status}"))?;
        let count = |bytes| {
            self.moved.fetch_add(bytes, Relaxed);
        };
        socket.send_pattern(self.pattern, self.bytes, count).await?;
        let mut counted = Vec::new();
        ensure!(
            socket.receive(&mut counted).await?,
            "closed without a count"
        );
        let counted = String::from_utf8_lossy(&counted);
        ensure!(counted == self.bytes.to_string(), "answered `{counted}`");
        Ok(())
    }
}
