//! Debian's Firefox, headless, by WebDriver BiDi, which it speaks without a driver of its own
//! (<https://w3c.github.io/webdriver-bidi/>).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::binaries::is_on_path;
use crate::child::{Child, Lifeline};
use crate::line::{Line, Running, Witness, locked, text};
use crate::{engine, eventually};

/// What it is called in Debian. Elsewhere `firefox` may be a snap, which has no access to our profiles.
pub(crate) const PROGRAM: &str = "firefox-esr";

/// The first start of a browser on a busy machine.
const START_SECONDS: u64 = 30;

/// Settings beside those that Firefox chooses by itself where it is driven, such as no updates. What a page can
/// notice is left as people have it.
const PREFERENCES: [(&str, &str); 8] = [
    // Every name leads to this machine, as all that pages may contact is on it.
    ("network.dns.forceResolve", "\"127.0.0.1\""),
    ("network.proxy.type", "0"),
    // Interfaces that come and go, as containers' do, are no matter of the page's.
    ("network.notify.changed", "false"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("toolkit.telemetry.enabled", "false"),
    ("browser.aboutwelcome.enabled", "false"),
];

type Sight = Arc<dyn Witness>;

/// A browser with a fresh profile.
#[derive(Debug)]
pub struct Firefox {
    door: Arc<Door>,
    running: Running,
}

/// A private window: cookies, storage and cache are its own.
#[derive(Debug)]
pub struct Window {
    door: Arc<Door>,
    user: String,
    context: String,
}

/// The one connection that all windows share.
struct Door {
    line: Line,
    /// By the window, and by the frames in it, which are told of with it.
    sights: Mutex<HashMap<String, (Sight, Within)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Window,
    Frame,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// Whether this machine has it.
pub(crate) fn is_installed() -> bool {
    is_on_path(PROGRAM)
}

impl Firefox {
    /// Starts one with its profile and log below `dir`.
    ///
    /// # Errors
    /// Firefox is missing or does not come up.
    pub async fn start(dir: &Path) -> Result<Firefox> {
        let profile = dir.join("firefox-profile");
        std::fs::create_dir_all(&profile).context("a directory for the profile")?;
        let mut wishes = String::new();
        for (name, value) in PREFERENCES {
            writeln!(wishes, "user_pref(\"{name}\", {value});")?;
        }
        std::fs::write(profile.join("user.js"), wishes)?;
        let args = [
            "--headless".into(),
            "--no-remote".into(),
            "--profile".into(),
            profile.clone().into_os_string(),
            "--remote-debugging-port=0".into(),
        ];
        // It refuses a home of somebody else's, which root often has.
        let home = dir.display().to_string();
        let env = [("HOME", home.as_str()), ("MOZ_CRASHREPORTER_DISABLE", "1")];
        let program = Path::new(PROGRAM);
        let process = Child::start("firefox", Lifeline::Guarded, dir, program, args, &env)?;
        let door = profile.join("WebDriverBiDiServer.json");
        let port = eventually!(START_SECONDS, "Firefox's door for tools", {
            let door = std::fs::read(&door).with_context(|| process.log())?;
            let door: Value = serde_json::from_slice(&door)?;
            let port = door["ws_port"].as_u64().context("a port")?;
            Ok(u16::try_from(port)?)
        })?;
        let (line, mut events) = Line::open(port, "/session").await?;
        let door = Arc::new(Door {
            line,
            sights: Mutex::default(),
        });
        let reader = tokio::spawn({
            let door = Arc::clone(&door);
            async move {
                while let Some(event) = events.next(&door.line).await {
                    door.takes(&event);
                }
            }
        });
        let firefox = Firefox {
            door,
            running: Running::new(process, reader),
        };
        let line = &firefox.door.line;
        let wish = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true, "unhandledPromptBehavior": { "default": "accept" } } } });
        line.asks(None, "session.new", wish).await?;
        let wish = json!({ "events": ["network", "log.entryAdded", "browsingContext.contextCreated",
            "browsingContext.navigationCommitted"] });
        line.asks(None, "session.subscribe", wish).await?;
        Ok(firefox)
    }

    /// Opens a private window; `witness` is told of all that happens in it.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn opens(&self, witness: Sight) -> Result<Window> {
        let Door { line, sights } = &*self.door;
        let user = line
            .asks(None, "browser.createUserContext", json!({}))
            .await?;
        let user = text(&user, "userContext")?;
        let wish = json!({ "type": "tab", "userContext": user });
        let made = line.asks(None, "browsingContext.create", wish).await?;
        let context = text(&made, "context")?;
        locked(sights).insert(context.clone(), (witness, Within::Window));
        let wish = json!({ "context": context, "viewport": { "width": 1280, "height": 900 } });
        line.asks(None, "browsingContext.setViewport", wish).await?;
        Ok(Window {
            door: Arc::clone(&self.door),
            user,
            context,
        })
    }

    /// Ends the browser.
    ///
    /// # Errors
    /// It does not end.
    pub async fn closes(self) -> Result<()> {
        self.running.ends(&self.door.line, "browser.close").await
    }
}

impl Window {
    /// Types an address and waits until the page's own load has ended, well or not.
    ///
    /// # Errors
    /// There is no such place.
    pub async fn goes_to(&self, address: &str) -> Result<()> {
        let wish = json!({ "context": self.context, "url": address, "wait": "interactive" });
        let gone = self.asks("browsingContext.navigate", wish).await;
        gone.map(drop)
            .with_context(|| format!("`{address}` does not open"))
    }

    /// Runs the body of an async function in the page and gives what it returns.
    ///
    /// # Errors
    /// It throws, or the page goes away meanwhile.
    pub async fn runs(&self, body: &str) -> Result<Value> {
        // As JSON, which both protocols' other users know; `undefined` has none.
        let expression =
            format!("(async () => JSON.stringify(await (async () => {{ {body} }})()) ?? 'null')()");
        let wish = json!({ "target": { "context": self.context }, "expression": expression,
            "awaitPromise": true, "userActivation": true });
        let said = match self.asks("script.evaluate", wish).await {
            Err(error) if is_of_a_page_that_left(&error) => bail!("the page navigated: {error:#}"),
            said => said?,
        };
        if said["type"] != "success" {
            let what = said["exceptionDetails"]["text"].as_str();
            bail!("{}", what.unwrap_or("it throws"));
        }
        Ok(serde_json::from_str(&text(&said["result"], "value")?)?)
    }

    /// Clicks in the middle of the element that an expression of the page's gives.
    ///
    /// # Errors
    /// There is none, it is not to be seen, or it moves, as in a page that is still being laid out.
    pub async fn clicks(&self, element: &str) -> Result<()> {
        let place = self.runs(&engine::place_of(element)).await?;
        let [Some(x), Some(y)] = [0, 1].map(|axis| place[axis].as_f64().map(f64::round)) else {
            bail!("`{place}` is no place");
        };
        self.acts(json!({ "type": "pointer", "id": "mouse", "actions": [
            { "type": "pointerMove", "x": x, "y": y },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ] }))
        .await
    }

    /// Types text into whatever has the focus.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn types(&self, text: &str) -> Result<()> {
        let keys: Vec<String> = text.chars().map(String::from).collect();
        let presses = keys.iter().flat_map(|key| [down(key), up(key)]);
        self.presses(presses.collect()).await
    }

    /// Presses Enter, with Shift where the page wants it.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn presses_enter(&self, shift: bool) -> Result<()> {
        // WebDriver's names for the two keys (<https://w3c.github.io/webdriver/#keyboard-actions>).
        let (enter, held) = ("\u{e007}", "\u{e008}");
        let mut keys = vec![down(enter), up(enter)];
        if shift {
            keys.insert(0, down(held));
            keys.push(up(held));
        }
        self.presses(keys).await
    }

    /// A picture of the page, as PNG in base64.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn picture(&self) -> Result<String> {
        let wish = json!({ "context": self.context });
        let shot = self.asks("browsingContext.captureScreenshot", wish).await?;
        text(&shot, "data")
    }

    /// Closes it, its cookies and all.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn closes(self) -> Result<()> {
        // Those of its frames go with the browser.
        locked(&self.door.sights).remove(&self.context);
        let wish = json!({ "userContext": self.user });
        self.asks("browser.removeUserContext", wish).await.map(drop)
    }

    async fn presses(&self, keys: Vec<Value>) -> Result<()> {
        self.acts(json!({ "type": "key", "id": "keyboard", "actions": keys }))
            .await
    }

    async fn acts(&self, source: Value) -> Result<()> {
        let wish = json!({ "context": self.context, "actions": [source] });
        self.asks("input.performActions", wish).await.map(drop)
    }

    async fn asks(&self, method: &str, params: Value) -> Result<Value> {
        self.door.line.asks(None, method, params).await
    }
}

fn down(key: &str) -> Value {
    json!({ "type": "keyDown", "value": key })
}

fn up(key: &str) -> Value {
    json!({ "type": "keyUp", "value": key })
}

/// Firefox has no word of its own for it.
fn is_of_a_page_that_left(error: &anyhow::Error) -> bool {
    let error = error.to_string();
    ["destroyed before query", "no such frame", "realm"]
        .iter()
        .any(|sign| error.contains(sign))
}

impl Door {
    fn takes(&self, event: &Value) {
        let (Some(method), params) = (event["method"].as_str(), &event["params"]) else {
            return;
        };
        let context = params["context"]
            .as_str()
            .or(params["source"]["context"].as_str());
        let Some(context) = context else { return };
        let mut sights = locked(&self.sights);
        if method == "browsingContext.contextCreated"
            && let Some(parent) = params["parent"].as_str()
            && let Some((sight, _)) = sights.get(parent).cloned()
        {
            sights.insert(context.to_owned(), (sight, Within::Frame));
        }
        let Some((sight, within)) = sights.get(context).cloned() else {
            return;
        };
        drop(sights);
        if !(within == Within::Frame && method == "browsingContext.navigationCommitted") {
            sight.sees(method, params);
        }
    }
}
