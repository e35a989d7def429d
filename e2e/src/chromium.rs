//! A real browser: Debian's Chromium, headless, behind its own chromedriver.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::wd::{Capabilities, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use crate::binaries::is_on_path;
use crate::child::{Child, Lifeline};
use crate::{eventually, evidence, ports};

/// The first start of a browser on a busy machine.
const START: Duration = Duration::from_secs(30);

/// No sandbox, as tests may run as root; no QUIC and no services of its own, as all it may
/// contact is on loopback; no shared memory, as containers have little.
pub(crate) const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// What it is called here: Debian's name, else Google's.
pub(crate) fn program() -> &'static str {
    if is_on_path("chromium") || !is_on_path("google-chrome") {
        "chromium"
    } else {
        "google-chrome"
    }
}

/// A browser window.
#[derive(Debug)]
pub struct Chromium {
    window: Client,
    driver: Child,
}

impl Chromium {
    /// Starts one with a fresh profile below `dir`.
    ///
    /// # Errors
    /// Chromium or chromedriver is missing or does not come up.
    pub async fn start(dir: &Path) -> Result<Chromium> {
        let program = Path::new("chromedriver");
        // Left to choose, it takes a port on one loopback address that an outgoing connection may
        // already have on the other.
        let port = ports::free()?;
        let mut driver = Child::start(
            "chromedriver",
            Lifeline::Guarded,
            dir,
            program,
            [format!("--port={port}")],
            &[],
        )?;
        loop {
            let line = driver
                .next_line(START)
                .await
                .context("hint: ./dev test installs it")?;
            if line.contains("started successfully on port ") {
                break;
            }
        }
        let profile: PathBuf = dir.join("chromium-profile");
        let mut args: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        args.push(format!("--user-data-dir={}", profile.display()));
        let wishes = json!({ "goog:chromeOptions": { "args": args } });
        let wishes: Capabilities = serde_json::from_value(wishes)?;
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wishes);
        let address = format!("http://127.0.0.1:{port}");
        let window = tokio::time::timeout(START, builder.connect(&address))
            .await
            .context("Chromium did not start in time")?
            .context("start Chromium")?;
        Ok(Chromium { window, driver })
    }

    /// Types an address and waits until the page has loaded.
    ///
    /// # Errors
    /// It does not load.
    pub async fn goes_to(&self, address: &str) -> Result<()> {
        self.window
            .goto(address)
            .await
            .context("open an address in Chromium")
    }

    /// The text shown by the first element that `selector` finds.
    ///
    /// # Errors
    /// There is none.
    pub async fn text_of(&self, selector: &str) -> Result<String> {
        let element = self.window.find(Locator::Css(selector)).await?;
        Ok(element.text().await?)
    }

    /// Waits until an element shows `text`, without touching the page.
    ///
    /// # Errors
    /// It did not within `seconds`; a screenshot is kept.
    pub async fn awaits_text(&self, seconds: u64, selector: &str, text: &str) -> Result<()> {
        let shown = eventually!(seconds, &format!("`{selector}` shows `{text}`"), {
            let shown = self.text_of(selector).await?;
            anyhow::ensure!(shown.contains(text), "it shows `{shown}`");
            Ok(())
        });
        self.shows_why(shown).await
    }

    /// Runs a script in the page and gives what it returns.
    ///
    /// # Errors
    /// It throws.
    pub async fn runs(&self, script: &str) -> Result<serde_json::Value> {
        self.window
            .execute(script, Vec::new())
            .await
            .context("run a script in Chromium")
    }

    /// Clicks on the first element that `selector` finds.
    ///
    /// # Errors
    /// There is none, or something hides it.
    pub async fn clicks(&self, selector: &str) -> Result<()> {
        let element = self.window.find(Locator::Css(selector)).await?;
        element.click().await.context("click in Chromium")
    }

    /// Types into whatever has the focus, key by key.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn types(&self, text: &str) -> Result<()> {
        let keys = text.chars().fold(keyboard(), |keys, value| {
            keys.then(KeyAction::Down { value })
                .then(KeyAction::Up { value })
        });
        let typed = self.window.perform_actions(keys).await;
        typed.context("type in Chromium")
    }

    /// Presses one key.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn presses(&self, key: Key) -> Result<()> {
        self.types(&char::from(key).to_string()).await
    }

    /// Opens a window beside this one, goes on in it, and gives the one before.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn opens_another_window(&self) -> Result<WindowHandle> {
        let before = self.window.window().await?;
        let another = self.window.new_window(true).await?;
        self.window.switch_to_window(another.handle).await?;
        Ok(before)
    }

    /// Goes on in this window, and gives the one before.
    ///
    /// # Errors
    /// It is closed.
    pub async fn turns_to(&self, window: &WindowHandle) -> Result<WindowHandle> {
        let before = self.window.window().await?;
        self.window.switch_to_window(window.clone()).await?;
        Ok(before)
    }

    /// Keeps a screenshot and adds where it is to the error of what was done, if it failed.
    ///
    /// # Errors
    /// What was done failed.
    pub async fn shows_why<T>(&self, done: Result<T>) -> Result<T> {
        match done {
            Ok(value) => Ok(value),
            Err(error) => Err(error.context(self.screenshot_for_a_person().await)),
        }
    }

    /// Closes the window and ends the browser.
    ///
    /// # Errors
    /// It does not close.
    pub async fn closes(self) -> Result<()> {
        self.window.close().await.context("close Chromium")?;
        // chromedriver says nothing of use by its exit status when asked to end by a signal.
        let _ = self.driver.end().await;
        Ok(())
    }

    /// Of every window.
    async fn screenshot_for_a_person(&self) -> String {
        let windows = self.window.windows().await.unwrap_or_default();
        let mut told = Vec::new();
        for (index, window) in windows.into_iter().enumerate() {
            told.push(match self.keeps_picture(window, index).await {
                Ok(path) => format!("screenshot: {}", path.display()),
                Err(error) => format!("no screenshot: {error:#}"),
            });
        }
        told.join(", ")
    }

    async fn keeps_picture(&self, window: WindowHandle, index: usize) -> Result<PathBuf> {
        self.window.switch_to_window(window).await?;
        let name = match index {
            0 => "chromium.png".to_owned(),
            _ => format!("chromium-{}.png", index + 1),
        };
        evidence::keep(&name, &self.window.screenshot().await?)
    }
}

fn keyboard() -> KeyActions {
    KeyActions::new("keyboard".to_owned())
}
