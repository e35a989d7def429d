//! A look at a page: by axe-core, on a narrow screen, and for a picture.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use e2e::devtools::Window;
use e2e::line::Witness;
use e2e::{binaries, eventually};
use serde_json::Value;

/// The rules of WCAG 2.2, levels A and AA, and axe-core's own good practice.
const RULES: &str = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']";
/// The narrowest screen without scrolling in two directions (WCAG 2.2, 1.4.10).
const NARROW: u32 = 320;
/// For a job to be queued, started and reached, on a busy machine.
const CHANGE_SECONDS: u64 = 30;

/// What pages say that goes wrong in them: scripts that throw, policies that are broken.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<Vec<String>>);

impl Complaints {
    pub(crate) fn are_none(&self) -> Result<()> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(all.is_empty(), "{all:#?}");
        Ok(())
    }
}

impl Witness for Complaints {
    fn sees(&self, method: &str, params: &Value) {
        let told = match method {
            "Runtime.exceptionThrown" => true,
            // A page that waits is told 502 time and again.
            "Log.entryAdded" => {
                params["entry"]["level"] == "error" && params["entry"]["source"] != "network"
            }
            _ => false,
        };
        if told {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(format!("{method}: {params}"));
        }
    }
}

/// A window, and where pictures of it are kept, if anywhere.
pub(crate) struct Look<'a> {
    pub(crate) window: &'a Window,
    kept: Option<&'a Path>,
    axe: String,
}

impl<'a> Look<'a> {
    pub(crate) fn at(window: &'a Window, kept: Option<&'a Path>) -> Result<Self> {
        let axe = binaries::fixture_cache().join("axe/node_modules/axe-core/axe.min.js");
        let axe = std::fs::read_to_string(&axe)
            .with_context(|| format!("`{}`\nhint: just fixtures", axe.display()))?;
        Ok(Self { window, kept, axe })
    }

    /// Waits until the element shows `text`.
    pub(crate) async fn awaits(&self, selector: &str, text: &str) -> Result<()> {
        let shown = format!(
            "return [...document.querySelectorAll({selector})].map((it) => it.innerText).join('\\n')"
        );
        eventually!(CHANGE_SECONDS, &format!("{selector} shows `{text}`"), {
            let shown = self.window.runs(&shown).await?;
            let shown = shown.as_str().unwrap_or_default();
            ensure!(shown.contains(text), "it shows `{shown}`");
            Ok(())
        })
    }

    /// Waits until there is no such element.
    pub(crate) async fn awaits_end_of(&self, selector: &str) -> Result<()> {
        let left = format!("return document.querySelectorAll({selector}).length");
        eventually!(CHANGE_SECONDS, &format!("{selector} goes"), {
            let left = self.window.runs(&left).await?;
            ensure!(left == 0, "{left} of them are there");
            Ok(())
        })
    }

    /// Expects `text` on the page, and the page to be one for everybody.
    pub(crate) async fn sees(&self, state: &str, text: &str) -> Result<()> {
        self.window.looks(1280, 800, false).await?;
        self.awaits("'body'", text).await?;
        self.finds_nothing_wrong(state).await?;
        self.is_kept(state, 1280, 800, false).await?;
        self.window.looks(NARROW, 800, true).await?;
        let wide =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        let wide = self.window.runs(wide).await?;
        ensure!(
            wide == 0,
            "`{state}` is {wide} pixels too wide for {NARROW}"
        );
        self.finds_nothing_wrong(&format!("{state}, dark")).await?;
        self.is_kept(&format!("{state}-dark"), 1280, 800, true)
            .await?;
        self.window.looks(1280, 800, false).await
    }

    async fn finds_nothing_wrong(&self, state: &str) -> Result<()> {
        let check = format!(
            "while (document.readyState !== 'complete') {{
               await new Promise((done) => setTimeout(done, 20));
             }}
             if (!window.axe) {{ {axe} }}
             const found = await axe.run(document, {{ resultTypes: ['violations'],
               runOnly: {{ type: 'tag', values: {RULES} }} }});
             return found.violations.map((it) => [it.id, it.help, it.nodes.map((node) =>
               [node.html, node.failureSummary])]);",
            axe = self.axe
        );
        let found = self.window.runs(&check).await;
        let found = found.with_context(|| format!("check `{state}`"))?;
        ensure!(found == Value::Array(Vec::new()), "`{state}`: {found:#}");
        Ok(())
    }

    /// Keeps a picture, where pictures are kept.
    pub(crate) async fn is_kept(
        &self,
        name: &str,
        width: u32,
        height: u32,
        dark: bool,
    ) -> Result<()> {
        let Some(kept) = self.kept else {
            return Ok(());
        };
        self.window.looks(width, height, dark).await?;
        let path: PathBuf = kept.join(format!("{name}.webp"));
        let picture = self.window.small_picture().await?;
        std::fs::write(&path, picture).with_context(|| path.display().to_string())
    }
}
