//! One dev server as data: how its manual starts it, and what a person then does with its page.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::binaries;

/// A dev server to be judged, as `fixtures/NAME/case.toml` describes it.
///
/// Expressions and scripts run in the page. They may use `$(selector)`, `$text(selector, part)` for
/// the first element that shows a text, `deep(selector)` for one in a shadow tree, and `mark`, a text that is another one each time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The directory's name.
    #[serde(skip)]
    pub name: String,
    /// Whose packages it uses, where not its own.
    pub packages: Option<String>,
    /// Whose files it serves, where not its own.
    pub site: Option<String>,
    /// Whether it is quick and light enough for every test run.
    #[serde(default)]
    pub quick: bool,
    /// Run first in the copied directory, such as a database's making.
    pub prepare: Option<String>,
    /// How its manual starts it. `{port}` is where it is to listen; `{port2}` and `{port3}` are free, too.
    pub start: String,
    /// In what it says, what tells that it serves; by default that it answers at all.
    pub ready: Option<String>,
    /// What is opened, below its root.
    #[serde(default)]
    pub open: String,
    /// True once the page shows what it should.
    pub content: String,
    /// The live connection that it keeps.
    pub live: Option<Live>,
    /// A round trip, step by step.
    #[serde(default)]
    pub trip: Vec<Step>,
    /// A file that is edited, and what the page then shows by itself.
    pub reload: Option<Reload>,
    /// Parts of addresses whose failure its manual would not call one.
    #[serde(default)]
    pub may_fail: Vec<String>,
    /// Beginnings of foreign addresses that it tries, with or without a proxy.
    #[serde(default)]
    pub may_call: Vec<String>,
}

/// A connection that stays open, or is opened again and again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// By what.
    pub by: LiveBy,
    /// A part of its address.
    #[serde(default)]
    pub at: String,
}

/// What a live connection is made of.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LiveBy {
    /// A WebSocket.
    Websocket,
    /// Server-sent events, by `EventSource` or `fetch`.
    Events,
    /// Requests one after the other.
    Polling,
}

/// What a person does next.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Runs a script.
    Do(String),
    /// Waits until an expression is true.
    Until(String),
    /// Clicks on the element that an expression gives.
    Click(String),
    /// Types a text; `{mark}` in it is replaced.
    Type(String),
    /// Presses Enter, or `shift`.
    Enter(Shift),
    /// Opens another page of the server, by its address.
    Open(String),
}

/// Whether a key is pressed together with Shift.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Shift {
    /// Alone.
    Plain,
    /// With it.
    Shift,
}

/// A change on disk that a page shows without being told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// The file.
    pub file: PathBuf,
    /// What is replaced in it by `mark`.
    pub text: String,
    /// True once the page shows the change.
    pub until: String,
    /// Whether the page is patched rather than loaded anew.
    #[serde(default)]
    pub in_place: bool,
    /// Whether the server restarts, and is away meanwhile.
    #[serde(default)]
    pub restarts: bool,
    /// A person has to load the page, the root's, anew: that the change comes is judged, not that it comes by
    /// itself.
    #[serde(default)]
    pub by_hand: bool,
}

impl Case {
    /// The named ones, or all.
    ///
    /// # Errors
    /// There is no such case, or one is written wrongly.
    pub fn named(names: &[String]) -> Result<Vec<Case>> {
        let mut all = Case::all()?;
        for name in names {
            ensure!(
                all.iter().any(|case| &case.name == name),
                "there is no case `{name}`\nhint: {}",
                all.iter()
                    .map(|case| case.name.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            );
        }
        if !names.is_empty() {
            all.retain(|case| names.contains(&case.name));
        }
        Ok(all)
    }

    /// Those of every test run.
    ///
    /// # Errors
    /// One is written wrongly.
    pub fn quick() -> Result<Vec<Case>> {
        let mut all = Case::all()?;
        all.retain(|case| case.quick);
        Ok(all)
    }

    fn all() -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for entry in binaries::fixtures().read_dir().context("read `fixtures`")? {
            let dir = entry?.path();
            let file = dir.join("case.toml");
            if !file.exists() {
                continue;
            }
            let text = std::fs::read_to_string(&file)?;
            let name = dir
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            cases.push(Case::parse(name, &text).with_context(|| file.display().to_string())?);
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }

    fn parse(name: &str, text: &str) -> Result<Case> {
        let mut case: Case = toml::from_str(text)?;
        name.clone_into(&mut case.name);
        if let Some(reload) = &case.reload
            && !reload.until.contains("mark")
        {
            bail!("`reload.until` does not look for `mark`");
        }
        Ok(case)
    }

    /// Its sources.
    pub fn sources(&self) -> PathBuf {
        binaries::fixtures().join(self.site.as_ref().unwrap_or(&self.name))
    }

    /// The fixture whose packages it uses.
    pub fn owner(&self) -> &str {
        self.packages.as_ref().unwrap_or(&self.name)
    }

    /// Where its packages may be: in the cache, or beside the lock file where stories have them.
    pub fn package_dirs(&self) -> [PathBuf; 2] {
        [binaries::fixture_cache(), binaries::fixtures()].map(|dir| dir.join(self.owner()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_written_well_and_six_are_quick() {
        let all = Case::all().unwrap();
        assert!(all.len() >= 6, "{}", all.len());
        assert_eq!(Case::quick().unwrap().len(), 6);
    }

    #[test]
    fn a_word_that_means_nothing_is_an_error() {
        let text = "start = 'x'\ncontent = 'true'\nreloads = true\n";
        assert!(Case::parse("x", text).is_err());
        assert!(Case::parse("x", &text.replace("reloads = true\n", "")).is_ok());
    }

    #[test]
    fn a_reload_that_would_be_true_before_the_edit_is_an_error() {
        let text =
            "start = 'x'\ncontent = 'true'\n[reload]\nfile = 'a'\ntext = 'b'\nuntil = 'true'\n";
        assert!(Case::parse("x", text).is_err());
    }
}
