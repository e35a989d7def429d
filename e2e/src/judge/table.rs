//! How stories ended: each told to a verdict, whatever becomes of it, and the table of all.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::FutureExt;

use super::Lacks;

/// Far beyond any story's own deadlines: none of them is hung for long by whom it judges.
const DEADLINE: Duration = Duration::from_secs(90);

/// How a story ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must.
    Pass,
    /// What it lacked.
    Skip(String),
    /// What was seen instead.
    Fail(String),
}

/// A story that was told.
#[derive(Clone, Debug)]
pub struct Line {
    /// A sentence.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
}

/// All stories of one subject.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// In the order in which they were told.
    pub lines: Vec<Line>,
    only: String,
}

impl Table {
    /// For stories with `only` in their names.
    pub(super) fn with(only: &str) -> Table {
        Table {
            lines: Vec::new(),
            only: only.to_owned(),
        }
    }

    /// Tells one more story, if it is one of those.
    pub(super) async fn tells(
        &mut self,
        name: &'static str,
        story: impl Future<Output = Result<()>>,
    ) {
        if !name.contains(&self.only) {
            return;
        }
        let story = AssertUnwindSafe(tokio::time::timeout(DEADLINE, story)).catch_unwind();
        let end = match story.await {
            Ok(Ok(end)) => end,
            Ok(Err(late)) => Err(late).with_context(|| format!("no end within {DEADLINE:?}")),
            Err(panic) => Err(anyhow::anyhow!("{}", said(panic.as_ref()))),
        };
        let verdict = match end {
            Ok(()) => Verdict::Pass,
            Err(error) if error.is::<Lacks>() => Verdict::Skip(error.to_string()),
            Err(error) => Verdict::Fail(format!("{error:#}")),
        };
        self.lines.push(Line { name, verdict });
    }

    /// The stories that failed.
    pub fn failed(&self) -> Vec<&Line> {
        let failed = |line: &&Line| matches!(line.verdict, Verdict::Fail(_));
        self.lines.iter().filter(failed).collect()
    }
}

/// What a page's claims say when they do not hold.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { name, verdict } in &self.lines {
            match verdict {
                Verdict::Pass => writeln!(f, "  pass  {name}")?,
                Verdict::Skip(why) => writeln!(f, "  skip  {name} ({why})")?,
                Verdict::Fail(why) => writeln!(f, "  FAIL  {name}\n          {}", one_line(why))?,
            }
        }
        let count = |of: fn(&Verdict) -> bool| {
            let all = self.lines.iter();
            all.filter(|line| of(&line.verdict)).count()
        };
        writeln!(
            f,
            "  {} stories: {} pass, {} FAIL, {} skip",
            self.lines.len(),
            count(|it| matches!(it, Verdict::Pass)),
            count(|it| matches!(it, Verdict::Fail(_))),
            count(|it| matches!(it, Verdict::Skip(_))),
        )
    }
}

/// A reason as a table can hold it.
fn one_line(why: &str) -> String {
    const MOST: usize = 300;
    let line = why.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn each_end_has_its_verdict() {
        let mut table = Table::default();
        table.tells("one", async { Ok(()) }).await;
        table
            .tells("two", async { Err(Lacks("luck").into()) })
            .await;
        table.tells("three", async { bail!("no\n  way") }).await;
        table.tells("four", async { panic!("{}", "oh") }).await;
        let said = table.to_string();
        let wanted = "  pass  one\n  skip  two (needs: luck)\n  FAIL  three\n          no way\n  \
                      FAIL  four\n          oh\n  4 stories: 1 pass, 2 FAIL, 1 skip\n";
        assert_eq!(said, wanted);
        assert_eq!(table.failed().len(), 2);
    }
}
