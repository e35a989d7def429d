//! Chromium by its own DevTools protocol: what WebDriver cannot see, every request of every frame
//! and worker, and what WebDriver is slow at, many private windows in one browser.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::child::{Child, Lifeline};
use crate::{chromium, eventually};

/// The first start of a browser on a busy machine.
const START_SECONDS: u64 = 30;

/// For one command; a page that hangs is a failure, not a wait.
const COMMAND: Duration = Duration::from_secs(20);

/// Beside those of every Chromium here: names that are not localhost and lead to this machine
/// alone, certificates of ours, and pages that go on working in a window that is not in front.
const FLAGS: [&str; 6] = [
    "--host-resolver-rules=MAP *.example.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, \
     EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
    "--ignore-certificate-errors",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-port=0",
];

/// Whoever is told what happens in a window.
pub trait Witness: Send + Sync {
    /// An event of the protocol, from the page, or from a frame or worker of it.
    fn sees(&self, method: &str, params: &Value);
}

type Wire = WebSocketStream<TcpStream>;
type Sight = Arc<dyn Witness>;

/// A browser with a fresh profile.
#[derive(Debug)]
pub struct DevTools {
    line: Arc<Line>,
    reader: JoinHandle<()>,
    process: Option<Child>,
}

/// A private window: cookies, storage and cache are its own.
#[derive(Debug)]
pub struct Window {
    line: Arc<Line>,
    context: String,
    session: String,
}

/// The one connection that all windows share.
struct Line {
    out: AsyncMutex<SplitSink<Wire, Message>>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    sights: Mutex<HashMap<String, Sight>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl DevTools {
    /// Starts one with its profile and log below `dir`.
    ///
    /// # Errors
    /// Chromium is missing or does not come up.
    pub async fn start(dir: &Path) -> Result<DevTools> {
        let profile = dir.join("profile");
        let mut args: Vec<String> = chromium::FLAGS.map(str::to_owned).to_vec();
        args.extend(FLAGS.map(str::to_owned));
        args.push(format!("--user-data-dir={}", profile.display()));
        args.push("about:blank".to_owned());
        let program = Path::new(chromium::program());
        let process = Child::start("chromium", Lifeline::Guarded, dir, program, args, &[])?;
        // Two lines, written at once: a port, and a path that is a secret.
        let door = profile.join("DevToolsActivePort");
        let door = eventually!(START_SECONDS, "Chromium's door for tools", {
            let door = std::fs::read_to_string(&door).with_context(|| process.log())?;
            let (port, path) = door.split_once('\n').context("half a door")?;
            Ok((port.trim().parse::<u16>()?, path.trim().to_owned()))
        })?;
        let (port, path) = door;
        let connection = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("ws://127.0.0.1:{port}{path}").into_client_request()?;
        // One message may hold a whole document.
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let (wire, _) =
            tokio_tungstenite::client_async_with_config(request, connection, Some(config)).await?;
        let (out, mut wire) = wire.split();
        let line = Arc::new(Line {
            out: AsyncMutex::new(out),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            sights: Mutex::default(),
        });
        let reader = tokio::spawn({
            let line = Arc::clone(&line);
            async move {
                while let Some(Ok(message)) = wire.next().await {
                    if let Ok(text) = message.to_text()
                        && let Ok(message) = serde_json::from_str(text)
                    {
                        line.takes(message).await;
                    }
                }
                // Whoever still waits learns that nothing will come.
                locked(&line.waiting).clear();
            }
        });
        Ok(DevTools {
            line,
            reader,
            process: Some(process),
        })
    }

    /// Opens a private window; `witness` is told of all that happens in it.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn opens(&self, witness: Sight) -> Result<Window> {
        let line = &self.line;
        let context = line
            .asks(None, "Target.createBrowserContext", json!({}))
            .await?;
        let context = text(&context, "browserContextId")?;
        let wish = json!({ "url": "about:blank", "browserContextId": context,
            "width": 1280, "height": 900, "newWindow": true });
        let target = line.asks(None, "Target.createTarget", wish).await?;
        let wish = json!({ "targetId": text(&target, "targetId")?, "flatten": true });
        let session = line.asks(None, "Target.attachToTarget", wish).await?;
        let session = text(&session, "sessionId")?;
        locked(&line.sights).insert(session.clone(), witness);
        for (method, params) in watching(true) {
            line.asks(Some(&session), method, params).await?;
        }
        Ok(Window {
            line: Arc::clone(line),
            context,
            session,
        })
    }

    /// Ends the browser.
    ///
    /// # Errors
    /// It does not end.
    pub async fn closes(mut self) -> Result<()> {
        // It may be gone before it has answered.
        let _ = self.line.asks(None, "Browser.close", json!({})).await;
        if let Some(mut process) = self.process.take() {
            process.awaits_end(COMMAND).await?;
        }
        Ok(())
    }
}

impl Drop for DevTools {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Window {
    /// Types an address and waits until the page's own load has ended, well or not.
    ///
    /// # Errors
    /// There is no such place.
    pub async fn goes_to(&self, address: &str) -> Result<()> {
        let gone = self
            .asks("Page.navigate", json!({ "url": address }))
            .await?;
        if let Some(error) = gone["errorText"].as_str() {
            bail!("`{address}` does not open: {error}");
        }
        Ok(())
    }

    /// Runs the body of an async function in the page and gives what it returns.
    ///
    /// # Errors
    /// It throws, or the page goes away meanwhile.
    pub async fn runs(&self, body: &str) -> Result<Value> {
        let wish = json!({ "expression": format!("(async () => {{ {body} }})()"),
            "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let mut said = self.asks("Runtime.evaluate", wish).await?;
        if let Some(thrown) = said.get("exceptionDetails") {
            let what = thrown["exception"]["description"].as_str();
            bail!(
                "{}",
                what.or(thrown["text"].as_str()).unwrap_or("it throws")
            );
        }
        Ok(said["result"]["value"].take())
    }

    /// Clicks in the middle of the element that an expression of the page's gives.
    ///
    /// # Errors
    /// There is none, it is not to be seen, or it moves, as in a page that is still being laid out.
    pub async fn clicks(&self, element: &str) -> Result<()> {
        let place = self
            .runs(&format!(
                "const place = () => {{
                   const it = {element};
                   if (!it) throw new Error('nothing to click');
                   it.scrollIntoView({{ block: 'center', behavior: 'instant' }});
                   const box = it.getBoundingClientRect();
                   if (!box.width) throw new Error('it has no size');
                   return [box.x + box.width / 2, box.y + box.height / 2];
                 }};
                 const before = place();
                 await new Promise((moved) => setTimeout(moved, 100));
                 const now = place();
                 if (document.readyState === 'loading' || String(now) !== String(before))
                   throw new Error('it still moves');
                 return now;"
            ))
            .await?;
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let wish = json!({ "type": kind, "x": place[0], "y": place[1], "button": button,
                "clickCount": 1 });
            self.asks("Input.dispatchMouseEvent", wish).await?;
        }
        Ok(())
    }

    /// Types text into whatever has the focus.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn types(&self, text: &str) -> Result<()> {
        let wish = json!({ "text": text });
        self.asks("Input.insertText", wish).await.map(drop)
    }

    /// Presses Enter, with Shift where the page wants it.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn presses_enter(&self, shift: bool) -> Result<()> {
        // 8 is Shift in the protocol's set of modifiers.
        let modifiers = if shift { 8 } else { 0 };
        for kind in ["keyDown", "keyUp"] {
            let mut wish = json!({ "type": kind, "key": "Enter", "code": "Enter",
                "windowsVirtualKeyCode": 13, "modifiers": modifiers });
            if kind == "keyDown" && !shift {
                wish["text"] = json!("\r");
            }
            self.asks("Input.dispatchKeyEvent", wish).await?;
        }
        Ok(())
    }

    /// A picture of the page, as PNG in base64.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn picture(&self) -> Result<String> {
        let shot = self.asks("Page.captureScreenshot", json!({})).await?;
        text(&shot, "data")
    }

    /// Closes it, its cookies and all.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn closes(self) -> Result<()> {
        // Those of its frames and workers go with the browser.
        locked(&self.line.sights).remove(&self.session);
        let wish = json!({ "browserContextId": self.context });
        let line = &self.line;
        line.asks(None, "Target.disposeBrowserContext", wish)
            .await
            .map(drop)
    }

    async fn asks(&self, method: &str, params: Value) -> Result<Value> {
        self.line.asks(Some(&self.session), method, params).await
    }
}

/// What makes a page, or a frame or worker of one, tell all; what is not known there is refused.
fn watching(page: bool) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("Network.enable", json!({})),
        ("Runtime.enable", json!({})),
        (
            "Target.setAutoAttach",
            json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true }),
        ),
    ];
    if page {
        all.push(("Page.enable", json!({})));
        all.push(("Log.enable", json!({})));
        // Some pages pause their work where nobody looks.
        all.push((
            "Emulation.setFocusEmulationEnabled",
            json!({ "enabled": true }),
        ));
    }
    all
}

impl Line {
    async fn asks(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value> {
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
            bail!(
                "`{method}`: {}",
                error["message"].as_str().unwrap_or("refused")
            );
        }
        Ok(answer["result"].take())
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

    async fn takes(&self, mut message: Value) {
        if let Some(id) = message["id"].as_u64() {
            if let Some(tell) = locked(&self.waiting).remove(&id) {
                // Whoever asked may have given up.
                let _ = tell.send(message);
            }
            return;
        }
        let (Some(method), Some(session)) =
            (message["method"].as_str(), message["sessionId"].as_str())
        else {
            return;
        };
        let sight = locked(&self.sights).get(session).cloned();
        let Some(sight) = sight else { return };
        sight.sees(method, &message["params"]);
        match method {
            "Target.attachedToTarget" => {
                let Some(child) = message["params"]["sessionId"].as_str().map(str::to_owned) else {
                    return;
                };
                locked(&self.sights).insert(child.clone(), sight);
                let page = message["params"]["targetInfo"]["type"] == "iframe";
                let mut orders = watching(page);
                orders.push(("Runtime.runIfWaitingForDebugger", json!({})));
                for (method, params) in orders {
                    self.orders(&child, method, params).await;
                }
            }
            "Page.javascriptDialogOpening" => {
                let session = message["sessionId"].take();
                if let Some(session) = session.as_str() {
                    let yes = json!({ "accept": true });
                    self.orders(session, "Page.handleJavaScriptDialog", yes)
                        .await;
                }
            }
            _ => {}
        }
    }

    /// Says something whose answer nobody needs; the reader itself cannot wait for one.
    async fn orders(&self, session: &str, method: &str, params: Value) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // A target that is gone again is no fault of the page's.
        let _ = self.says(id, Some(session), method, params).await;
    }
}

fn text(value: &Value, name: &str) -> Result<String> {
    let text = value[name].as_str();
    ensure!(text.is_some(), "no `{name}` in {value}");
    Ok(text.unwrap_or_default().to_owned())
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
