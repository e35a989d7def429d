//! A client of HTTP/1.1, which checks what it is told.

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    http::{Framing, field, read_body, read_head, status},
    route::Route,
    websocket::{ACCEPT, REQUEST_FIELDS, WebSocket},
};

/// A client's connection, one request after the other.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    route: Route,
    head: Vec<u8>,
}

impl Connection {
    /// Connects; reads are `buffer_bytes` long at most.
    ///
    /// # Errors
    /// Nobody accepts.
    pub async fn open(route: &Route, buffer_bytes: usize) -> Result<Self> {
        let stream = TcpStream::connect(route.address).await.context("connect")?;
        stream.set_nodelay(true).context("switch TCP_NODELAY on")?;
        Ok(Self {
            stream: BufReader::with_capacity(buffer_bytes, stream),
            route: route.clone(),
            head: Vec::new(),
        })
    }

    /// Sends a request without a body, and takes its answer.
    ///
    /// # Errors
    /// There is no whole answer, or `take` refuses it.
    pub async fn get(&mut self, path: &str, take: impl FnMut(&[u8]) -> Result<()>) -> Result<u16> {
        let head = self.route.head("GET", path, "");
        self.send(head.as_bytes()).await?;
        self.answer(take).await
    }

    /// Sends bytes of a request: its head, or more of its body.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("send a request")
    }

    /// Takes the next answer, and returns its status.
    ///
    /// # Errors
    /// There is no whole answer, or `take` refuses it.
    pub async fn answer(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<u16> {
        if !read_head(&mut self.stream, &mut self.head)
            .await
            .context("read an answer")?
        {
            bail!(Unanswered);
        }
        let status = status(&self.head)?;
        read_body(&mut self.stream, Framing::of(&self.head)?, &mut take).await?;
        Ok(status)
    }

    /// Whether the other side will close after the answer that was just taken.
    pub fn closes(&self) -> bool {
        field(&self.head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Waits for the other side to close.
    ///
    /// # Errors
    /// It sends something instead.
    pub async fn ends(&mut self) -> Result<()> {
        let more = self.stream.fill_buf().await.context("await the end")?;
        ensure!(more.is_empty(), "more than an answer");
        Ok(())
    }

    /// The head of the answer that was just taken.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Asks for a WebSocket. Anything but a switch is an answer, as [`Self::get`] takes it.
    ///
    /// # Errors
    /// There is no whole answer.
    pub async fn upgrade(
        mut self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<std::result::Result<WebSocket, u16>> {
        let head = self.route.head("GET", path, REQUEST_FIELDS);
        self.send(head.as_bytes()).await?;
        if !read_head(&mut self.stream, &mut self.head)
            .await
            .context("read an answer")?
        {
            bail!(Unanswered);
        }
        let status = status(&self.head)?;
        if status != 101 {
            read_body(&mut self.stream, Framing::of(&self.head)?, &mut take).await?;
            return Ok(Err(status));
        }
        let accept = field(&self.head, "sec-websocket-accept");
        ensure!(accept == Some(ACCEPT), "a switch with the key `{accept:?}`");
        Ok(Ok(WebSocket::of_client(self.stream)))
    }
}

/// The other side closed instead of answering.
#[derive(Debug)]
pub struct Unanswered;

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was closed without an answer")
    }
}

impl std::error::Error for Unanswered {}
