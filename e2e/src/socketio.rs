//! A socket.io client as browsers have it: opened by long polling, then upgraded to a WebSocket.
//!
//! Engine.IO protocol 4 below Socket.IO protocol 5, only as much as browser-sync needs. Written
//! by hand so that each step of the handshake passes the proxy under a path of our choice.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde::Deserialize;

use crate::browser::Browser;
use crate::websocket::WebSocket;

/// For each step of the handshake.
const STEP: Duration = Duration::from_secs(10);

/// A joined namespace.
#[derive(Debug)]
pub struct SocketIo {
    socket: WebSocket,
    /// What precedes an event of our namespace: `42/browser-sync,`.
    event: String,
}

#[derive(Deserialize)]
struct Opened {
    sid: String,
    upgrades: Vec<String>,
}

impl SocketIo {
    /// Opens a session at `path` (`/port/3000/browser-sync/socket.io/`) and joins `namespace`.
    ///
    /// # Errors
    /// A step of the handshake went wrong; the chain tells which.
    pub async fn join(browser: &Browser, path: &str, namespace: &str) -> Result<SocketIo> {
        let polling = format!("{path}?EIO=4&transport=polling");
        let open = browser.fetches(&polling).await.context("open by polling")?;
        let opened: Opened = open
            .text()
            .strip_prefix('0')
            .and_then(|json| serde_json::from_str(json).ok())
            .with_context(|| format!("not an open packet: {open}"))?;
        ensure!(
            opened.upgrades.iter().any(|to| to == "websocket"),
            "it offers no WebSocket: {:?}",
            opened.upgrades
        );

        let session = format!("&sid={}", opened.sid);
        let polling = format!("{polling}{session}");
        let connect = format!("40{namespace},");
        let text = [("content-type", "text/plain;charset=UTF-8")];
        let joined = browser
            .sends(Method::POST, &polling, &text, &connect)
            .await
            .context("join by polling")?;
        ensure!(joined.text() == "ok", "the join was not taken: {joined}");
        let answer = browser.fetches(&polling).await.context("poll")?;
        ensure!(answer.text().starts_with(&connect), "not joined: {answer}");

        let upgrade = format!("{path}?EIO=4&transport=websocket{session}");
        let mut socket = browser.connects(&upgrade).await?;
        socket.says("2probe").await?;
        socket
            .awaits(STEP, |text| text == "3probe")
            .await
            .context("probe")?;
        socket.says("5").await?;
        Ok(SocketIo {
            socket,
            event: format!("42{namespace},"),
        })
    }

    /// Waits for an event and gives it as JSON: `["browser:reload"]`.
    ///
    /// # Errors
    /// It did not come within `deadline`.
    pub async fn awaits_event(&mut self, deadline: Duration, name: &str) -> Result<String> {
        let quoted = format!("[\"{name}\"");
        let mut others = Vec::new();
        let read = async {
            loop {
                let packet = self.socket.next().await?;
                if packet == "2" {
                    // Whoever does not answer a ping is taken for dead.
                    self.socket.says("3").await?;
                } else if let Some(event) = packet.strip_prefix(&self.event)
                    && event.starts_with(&quoted)
                {
                    return anyhow::Ok(event.to_owned());
                } else {
                    others.push(packet);
                }
            }
        };
        match tokio::time::timeout(deadline, read).await {
            Ok(read) => read,
            Err(_) => bail!("no `{name}` within {deadline:?}, only {others:?}"),
        }
    }
}
