//! The table of raw exchanges, played by its own program, as counts of each section.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use super::Kind;
use crate::binaries;

/// How the rows of each section ended.
#[derive(Debug)]
pub struct Counts(BTreeMap<String, BTreeMap<String, usize>>);

/// As `conformance --json` calls them.
const VERDICTS: [&str; 4] = ["pass", "aim", "FAIL", "skip"];

#[derive(Deserialize)]
struct Report {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    section: String,
    verdict: String,
}

/// Plays the whole table against a program.
///
/// # Errors
/// It cannot be played.
pub async fn conformance(program: &Path, kind: Kind) -> Result<Counts> {
    let mut command = Command::new(binaries::conformance()?);
    let proxy = format!("PROXY={}", program.display());
    command.args([&proxy, "--kind", kind.name(), "--json"]);
    let output = command.kill_on_drop(true).output().await;
    let output = output.context("run conformance")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It ends with 1 where rows fail.
    ensure!(output.status.code().is_some_and(|code| code < 2), "{said}");
    let report: Report = serde_json::from_slice(&output.stdout).context("its report")?;
    let mut counts = BTreeMap::new();
    for row in report.rows {
        let section: &mut BTreeMap<_, _> = counts.entry(row.section).or_default();
        *section.entry(row.verdict).or_default() += 1;
    }
    Ok(Counts(counts))
}

impl Counts {
    /// How many rows failed.
    pub fn failed(&self) -> usize {
        self.all("FAIL")
    }

    fn all(&self, verdict: &str) -> usize {
        self.0.values().filter_map(|of| of.get(verdict)).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, counts: [usize; 4]| {
            write!(f, "  {name:<12}")?;
            counts.iter().try_for_each(|it| write!(f, "{it:>7}"))?;
            writeln!(f)
        };
        write!(f, "  {:<12}", "conformance")?;
        VERDICTS.iter().try_for_each(|it| write!(f, "{it:>7}"))?;
        writeln!(f)?;
        for (section, of) in &self.0 {
            line(
                f,
                section,
                VERDICTS.map(|it| of.get(it).copied().unwrap_or(0)),
            )?;
        }
        line(f, "all", VERDICTS.map(|it| self.all(it)))
    }
}
