//! A browser's door for tools, whichever of the two protocols it speaks: a WebSocket on which
//! numbered commands go out, and their answers and events of all kinds come in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::child::Child;

/// For one command; a page that hangs is a failure, not a wait.
const COMMAND: Duration = Duration::from_secs(20);

/// Whoever is told what happens in a window.
pub trait Witness: Send + Sync {
    /// An event of the browser's protocol, from the page, or from a frame or worker of it.
    fn sees(&self, method: &str, params: &Value);
}

type Wire = WebSocketStream<TcpStream>;

/// Where commands go out.
pub(crate) struct Line {
    out: AsyncMutex<SplitSink<Wire, Message>>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
}

/// Where events come in; answers reach whoever waits for them while it is read.
pub(crate) struct Events(SplitStream<Wire>);

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Line {
    /// Connects to a browser on this machine.
    pub(crate) async fn open(port: u16, path: &str) -> Result<(Line, Events)> {
        let connection = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("ws://127.0.0.1:{port}{path}").into_client_request()?;
        // One message may hold a whole document.
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let (wire, _) =
            tokio_tungstenite::client_async_with_config(request, connection, Some(config)).await?;
        let (out, events) = wire.split();
        let line = Line {
            out: AsyncMutex::new(out),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        };
        Ok((line, Events(events)))
    }

    /// Says something and waits for the answer; `session` is for the protocol that has them.
    pub(crate) async fn asks(
        &self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> Result<Value> {
        let (tell, told) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.waiting).insert(id, tell);
        let answer = async {
            self.says(id, session, method, params).await?;
            told.await.context("the browser is gone")
        };
        let answer = tokio::time::timeout(COMMAND, answer).await;
        locked(&self.waiting).remove(&id);
        let mut answer = answer.with_context(|| format!("`{method}` took long"))??;
        if let Some(error) = answer.get("error") {
            let why = error["message"].as_str().or(answer["message"].as_str());
            bail!("`{method}`: {}", why.unwrap_or("refused"));
        }
        Ok(answer["result"].take())
    }

    /// Says something whose answer nobody needs; whoever reads the events cannot wait for one.
    pub(crate) async fn orders(&self, session: Option<&str>, method: &str, params: Value) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // A target that is gone again is no fault of the page's.
        let _ = self.says(id, session, method, params).await;
    }

    async fn says(
        &self,
        id: u64,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> Result<()> {
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut out = self.out.lock().await;
        Ok(out.send(Message::text(message.to_string())).await?)
    }
}

/// A browser that runs, and whoever hears what it tells.
#[derive(Debug)]
pub(crate) struct Running {
    reader: JoinHandle<()>,
    process: Option<Child>,
}

impl Running {
    pub(crate) fn new(process: Child, reader: JoinHandle<()>) -> Running {
        Running {
            reader,
            process: Some(process),
        }
    }

    /// Ends it by the command that `method` names.
    pub(crate) async fn ends(mut self, line: &Line, method: &str) -> Result<()> {
        // It may be gone before it has answered.
        let _ = line.asks(None, method, json!({})).await;
        if let Some(mut process) = self.process.take() {
            process.awaits_end(COMMAND).await?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Events {
    /// The next event; none once the browser is gone.
    pub(crate) async fn next(&mut self, line: &Line) -> Option<Value> {
        while let Some(Ok(message)) = self.0.next().await {
            let Ok(text) = message.to_text() else {
                continue;
            };
            let Ok(message) = serde_json::from_str::<Value>(text) else {
                continue;
            };
            let Some(id) = message["id"].as_u64() else {
                return Some(message);
            };
            if let Some(tell) = locked(&line.waiting).remove(&id) {
                // Whoever asked may have given up.
                let _ = tell.send(message);
            }
        }
        // Whoever still waits learns that nothing will come.
        locked(&line.waiting).clear();
        None
    }
}

pub(crate) fn text(value: &Value, name: &str) -> Result<String> {
    let text = value[name].as_str();
    ensure!(text.is_some(), "no `{name}` in {value}");
    Ok(text.unwrap_or_default().to_owned())
}

pub(crate) fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
