//! A WebSocket from the browser's side: text in, text out, every wait with a deadline.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::Request;

/// For a handshake and for one message to be sent.
const DEADLINE: Duration = Duration::from_secs(10);

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: WebSocketStream<TcpStream>,
}

impl WebSocket {
    /// Shakes hands with `authority` (`host:port`).
    ///
    /// # Errors
    /// Anything but 101 is the server's refusal, told with its status.
    pub async fn open(authority: &str, request: Request) -> Result<WebSocket> {
        let shake = async {
            let connection = TcpStream::connect(authority).await?;
            let (stream, _) = tokio_tungstenite::client_async(request, connection).await?;
            anyhow::Ok(WebSocket { stream })
        };
        tokio::time::timeout(DEADLINE, shake)
            .await
            .with_context(|| format!("no WebSocket within {DEADLINE:?}"))?
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// The connection is lost, or the other side does not read.
    pub async fn says(&mut self, text: &str) -> Result<()> {
        tokio::time::timeout(DEADLINE, self.stream.send(Message::text(text)))
            .await
            .context("the WebSocket does not take our message")?
            .context("send on a WebSocket")
    }

    /// The next text message, however long it takes.
    ///
    /// # Errors
    /// The other side closed or is lost.
    pub async fn next(&mut self) -> Result<String> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(why))) => bail!("the WebSocket was closed: {why:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("read from a WebSocket"),
                None => bail!("the WebSocket ended"),
            }
        }
    }

    /// Reads on until a wanted message comes, and gives it.
    ///
    /// # Errors
    /// It did not come within `deadline`.
    pub async fn awaits(
        &mut self,
        deadline: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let (_, text) = self.hears(deadline, wanted).await?;
        Ok(text)
    }

    /// The same, with all that came before it.
    ///
    /// # Errors
    /// It did not come within `deadline`.
    pub async fn hears(
        &mut self,
        deadline: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(Vec<String>, String)> {
        let mut others = Vec::new();
        let read = async {
            loop {
                let text = self.next().await?;
                if wanted(&text) {
                    return anyhow::Ok(text);
                }
                others.push(text);
            }
        };
        match tokio::time::timeout(deadline, read).await {
            Ok(read) => Ok((others, read?)),
            Err(_) => bail!("no such message within {deadline:?}, only {others:?}"),
        }
    }
}
