//! The table: a line per row, and what was seen where it was not what it must be.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::tables;

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be; of several accepted outcomes, one that is not the strictest, and which.
    Pass(Option<String>),
    /// The strictest of several accepted outcomes.
    Aim,
    /// What was expected and what was seen.
    Fail(String),
    /// What it lacked.
    Skip(String),
}

/// A row that was played.
#[derive(Clone, Debug)]
pub struct Line {
    /// Section, behaviour and a running number.
    pub id: String,
    /// The behaviours and requirements that it stands for.
    pub cites: &'static str,
    /// A sentence.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub elapsed: Duration,
}

/// The whole table.
#[derive(Clone, Debug)]
pub struct Report {
    /// A line per row, in the table's order.
    pub lines: Vec<Line>,
    /// How long all took.
    pub elapsed: Duration,
}

impl Report {
    /// The rows that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Line> {
        self.lines
            .iter()
            .filter(|line| matches!(line.verdict, Verdict::Fail(_)))
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            let (verdict, why) = line.verdict.parts();
            json!({
                "id": line.id,
                "section": tables::section(&line.id),
                "cites": line.cites,
                "name": line.name,
                "verdict": verdict,
                "why": why,
                "milliseconds": u64::try_from(line.elapsed.as_millis()).unwrap_or(u64::MAX),
            })
        });
        json!({ "rows": lines.collect::<Vec<_>>(), "seconds": self.elapsed.as_secs_f64() })
    }
}

impl Verdict {
    fn parts(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Pass(which) => ("pass", which.as_deref()),
            Self::Aim => ("aim", None),
            Self::Fail(why) => ("FAIL", Some(why)),
            Self::Skip(why) => ("skip", Some(why)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Line) -> usize| self.lines.iter().map(of).max().unwrap_or(0);
        let id_width = width(|line| line.id.len());
        let cites_width = width(|line| line.cites.len());
        for line in &self.lines {
            let Line {
                id, cites, name, ..
            } = line;
            let (verdict, why) = line.verdict.parts();
            write!(
                f,
                "{id:id_width$}  {cites:cites_width$}  {verdict:4}  {name}"
            )?;
            match (&line.verdict, why) {
                (Verdict::Fail(_), Some(why)) => writeln!(f, "\n      {why}")?,
                (_, Some(why)) => writeln!(f, " ({why})")?,
                (_, None) => writeln!(f)?,
            }
        }
        let count = |of: &str| {
            self.lines
                .iter()
                .filter(|it| it.verdict.parts().0 == of)
                .count()
        };
        writeln!(
            f,
            "{} rows in {:.1} s: {} pass, {} aim, {} FAIL, {} skip",
            self.lines.len(),
            self.elapsed.as_secs_f64(),
            count("pass"),
            count("aim"),
            count("FAIL"),
            count("skip"),
        )
    }
}
