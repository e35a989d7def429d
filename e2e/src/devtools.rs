//! Chromium by its own DevTools protocol: what WebDriver cannot see, every request of every frame
//! and worker, and what WebDriver is slow at, many private windows in one browser.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::child::{Child, Lifeline};
use crate::line::{Line, Running, Witness, locked, text};
use crate::{chromium, engine, eventually};

/// The first start of a browser on a busy machine.
const START_SECONDS: u64 = 30;

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

type Sight = Arc<dyn Witness>;

/// A browser with a fresh profile.
#[derive(Debug)]
pub struct DevTools {
    door: Arc<Door>,
    running: Running,
}

/// A private window: cookies, storage and cache are its own.
#[derive(Debug)]
pub struct Window {
    door: Arc<Door>,
    context: String,
    session: String,
}

/// The one connection that all windows share.
struct Door {
    line: Line,
    sights: Mutex<HashMap<String, Sight>>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
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
        let (line, mut events) = Line::open(port, &path).await?;
        let door = Arc::new(Door {
            line,
            sights: Mutex::default(),
        });
        let reader = tokio::spawn({
            let door = Arc::clone(&door);
            async move {
                while let Some(event) = events.next(&door.line).await {
                    door.takes(event).await;
                }
            }
        });
        Ok(DevTools {
            door,
            running: Running::new(process, reader),
        })
    }

    /// Opens a private window; `witness` is told of all that happens in it.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn opens(&self, witness: Sight) -> Result<Window> {
        let Door { line, sights } = &*self.door;
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
        locked(sights).insert(session.clone(), witness);
        for (method, params) in watching(true) {
            line.asks(Some(&session), method, params).await?;
        }
        Ok(Window {
            door: Arc::clone(&self.door),
            context,
            session,
        })
    }

    /// Ends the browser.
    ///
    /// # Errors
    /// It does not end.
    pub async fn closes(self) -> Result<()> {
        self.running.ends(&self.door.line, "Browser.close").await
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
        let place = self.runs(&engine::place_of(element)).await?;
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

    /// Looks at the page on a screen of so many CSS pixels, in the dark or not.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn looks(&self, width: u32, height: u32, dark: bool) -> Result<()> {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": width < 500 });
        self.asks("Emulation.setDeviceMetricsOverride", screen)
            .await?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.asks("Emulation.setEmulatedMedia", media)
            .await
            .map(drop)
    }

    /// A small picture of the page, as WebP.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn small_picture(&self) -> Result<Vec<u8>> {
        let wish = json!({ "format": "webp", "quality": 70 });
        let shot = self.asks("Page.captureScreenshot", wish).await?;
        Ok(STANDARD.decode(text(&shot, "data")?)?)
    }

    /// Presses and releases a key that types nothing, such as `Tab` or `Escape`.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn presses(&self, key: &str, code: u32) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let wish =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.asks("Input.dispatchKeyEvent", wish).await?;
        }
        Ok(())
    }

    /// Closes it, its cookies and all.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn closes(self) -> Result<()> {
        // Those of its frames and workers go with the browser.
        locked(&self.door.sights).remove(&self.session);
        let wish = json!({ "browserContextId": self.context });
        let line = &self.door.line;
        line.asks(None, "Target.disposeBrowserContext", wish)
            .await
            .map(drop)
    }

    async fn asks(&self, method: &str, params: Value) -> Result<Value> {
        self.door
            .line
            .asks(Some(&self.session), method, params)
            .await
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

impl Door {
    async fn takes(&self, mut message: Value) {
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
                    self.line.orders(Some(&child), method, params).await;
                }
            }
            "Page.javascriptDialogOpening" => {
                let session = message["sessionId"].take();
                let yes = json!({ "accept": true });
                self.line
                    .orders(session.as_str(), "Page.handleJavaScriptDialog", yes)
                    .await;
            }
            _ => {}
        }
    }
}
