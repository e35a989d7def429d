//! Either of the two browsers that pages are looked at with, by the same words.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use crate::devtools::DevTools;
use crate::firefox::Firefox;
use crate::line::Witness;
use crate::{devtools, firefox};

/// A kind of browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Debian's Chromium.
    Chromium,
    /// Debian's Firefox.
    Firefox,
}

impl Engine {
    /// By its name.
    pub fn named(name: &str) -> Option<Engine> {
        let mut all = [Engine::Chromium, Engine::Firefox].into_iter();
        all.find(|engine| engine.to_string() == name)
    }

    /// Whether a test of it has to be skipped here, said aloud. Chromium is what every test run needs;
    /// Firefox is there where the system has it as a package.
    #[expect(
        clippy::print_stderr,
        reason = "whoever runs the tests has to hear of it"
    )]
    pub fn is_lacking(self) -> bool {
        let lacks = self == Engine::Firefox && !firefox::is_installed();
        if lacks {
            eprintln!("skipped: this machine lacks {}", firefox::PROGRAM);
        }
        lacks
    }

    /// Starts one with a fresh profile below `dir`.
    ///
    /// # Errors
    /// It is missing or does not come up.
    pub async fn start(self, dir: &Path) -> Result<Running> {
        Ok(match self {
            Engine::Chromium => Running::Chromium(DevTools::start(dir).await?),
            Engine::Firefox => Running::Firefox(Firefox::start(dir).await?),
        })
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Engine::Chromium => "chromium",
            Engine::Firefox => "firefox",
        })
    }
}

/// A running browser.
#[derive(Debug)]
pub enum Running {
    /// By its DevTools.
    Chromium(DevTools),
    /// By WebDriver BiDi.
    Firefox(Firefox),
}

/// A private window of one.
#[derive(Debug)]
pub enum Window {
    /// By its DevTools.
    Chromium(devtools::Window),
    /// By WebDriver BiDi.
    Firefox(firefox::Window),
}

/// `each!(self => browser, what is done with it)`.
macro_rules! each {
    ($kind:ident, $it:expr => $name:ident, $what:expr) => {
        match $it {
            $kind::Chromium($name) => $what,
            $kind::Firefox($name) => $what,
        }
    };
}

impl Running {
    /// Opens a private window; `witness` is told of all that happens in it.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn opens(&self, witness: Arc<dyn Witness>) -> Result<Window> {
        Ok(match self {
            Running::Chromium(it) => Window::Chromium(it.opens(witness).await?),
            Running::Firefox(it) => Window::Firefox(it.opens(witness).await?),
        })
    }

    /// Ends the browser.
    ///
    /// # Errors
    /// It does not end.
    pub async fn closes(self) -> Result<()> {
        each!(Running, self => it, it.closes().await)
    }
}

impl Window {
    /// Types an address and waits until the page's own load has ended, well or not.
    ///
    /// # Errors
    /// There is no such place.
    pub async fn goes_to(&self, address: &str) -> Result<()> {
        each!(Window, self => it, it.goes_to(address).await)
    }

    /// Runs the body of an async function in the page and gives what it returns.
    ///
    /// # Errors
    /// It throws, or the page goes away meanwhile.
    pub async fn runs(&self, body: &str) -> Result<Value> {
        each!(Window, self => it, it.runs(body).await)
    }

    /// Clicks in the middle of the element that an expression of the page's gives.
    ///
    /// # Errors
    /// There is none, it is not to be seen, or it moves, as in a page that is still being laid out.
    pub async fn clicks(&self, element: &str) -> Result<()> {
        each!(Window, self => it, it.clicks(element).await)
    }

    /// Types text into whatever has the focus.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn types(&self, text: &str) -> Result<()> {
        each!(Window, self => it, it.types(text).await)
    }

    /// Presses Enter, with Shift where the page wants it.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn presses_enter(&self, shift: bool) -> Result<()> {
        each!(Window, self => it, it.presses_enter(shift).await)
    }

    /// A picture of the page, as PNG in base64.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn picture(&self) -> Result<String> {
        each!(Window, self => it, it.picture().await)
    }

    /// Closes it, its cookies and all.
    ///
    /// # Errors
    /// The browser does not play along.
    pub async fn closes(self) -> Result<()> {
        each!(Window, self => it, it.closes().await)
    }
}

/// A script that brings an element into view and gives its middle, once it stays there. A browser has no ear
/// for the mouse before it has painted.
pub(crate) fn place_of(element: &str) -> String {
    format!(
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
         if (!performance.getEntriesByName('first-contentful-paint').length)
           throw new Error('nothing is painted yet');
         if (document.readyState === 'loading' || String(now) !== String(before))
           throw new Error('it still moves');
         return now;"
    )
}
