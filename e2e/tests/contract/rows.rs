//! The table: files of rows, each a sequence of commands with what they must say.
//!
//! ```text
//! == a job that is not there           a row begins; `[containers]` at its end: not where nodes
//!                                      share a host; `[real]`: what the mock does not simulate
//! $ squeue -j 99999                    what alice types; `bob$`, and `root#` on the controller's host
//! > ..                                 standard output
//! ! slurm_load_jobs error: ..          standard error
//! ? 1                                  the exit code, where it is not 0
//! ~$ squeue -h -j $J -o %T             until it says what follows
//! mock# slurm-sim control minute 1     root, on the mock alone; `real#` on real Slurm alone
//! ```

use anyhow::{Context, Result, bail, ensure};

/// Who types a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Alice,
    Bob,
    Root,
    RootOfMock,
    RootOfReal,
}

const PROMPTS: [(&str, Who); 5] = [
    ("$ ", Who::Alice),
    ("bob$ ", Who::Bob),
    ("root# ", Who::Root),
    ("mock# ", Who::RootOfMock),
    ("real# ", Who::RootOfReal),
];

/// One command and what it must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) who: Who,
    pub(crate) command: String,
    /// It is given again until it says that.
    pub(crate) until: bool,
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
    pub(crate) code: i32,
}

/// A line of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Nothing, or a remark.
    Remark(String),
    Step(Step),
}

/// A sequence of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Only where nodes are hosts of their own and users are accounts.
    pub(crate) containers: bool,
    /// Only on real Slurm: the mock does not simulate it.
    pub(crate) real: bool,
    pub(crate) items: Vec<Item>,
}

const CONTAINERS: &str = " [containers]";
const REAL: &str = " [real]";

/// Reads a file of rows; what stands before the first row is a preface.
pub(crate) fn parse(text: &str) -> Result<(String, Vec<Row>)> {
    let (mut preface, mut rows) = (String::new(), Vec::<Row>::new());
    for (line, number) in text.lines().zip(1..) {
        if let Some(name) = line.strip_prefix("== ") {
            let (containers, real) = (name.ends_with(CONTAINERS), name.ends_with(REAL));
            let plain = name.trim_end_matches(CONTAINERS).trim_end_matches(REAL);
            rows.push(Row {
                name: plain.to_owned(),
                containers,
                real,
                items: vec![],
            });
        } else if let Some(row) = rows.last_mut() {
            read(line, row).with_context(|| format!("line {number}: `{line}`"))?;
        } else {
            preface += line;
            preface.push('\n');
        }
    }
    Ok((preface, rows))
}

fn read(line: &str, row: &mut Row) -> Result<()> {
    if line.is_empty() || line.starts_with("# ") {
        row.items.push(Item::Remark(line.to_owned()));
        return Ok(());
    }
    let until = line.strip_prefix('~');
    let typed = until.unwrap_or(line);
    let prompt = PROMPTS
        .into_iter()
        .find_map(|(prompt, who)| Some((typed.strip_prefix(prompt)?, who)));
    if let Some((command, who)) = prompt {
        row.items.push(Item::Step(Step {
            who,
            command: command.to_owned(),
            until: until.is_some(),
            out: vec![],
            err: vec![],
            code: 0,
        }));
        return Ok(());
    }
    let Some(Item::Step(step)) = row.items.last_mut() else {
        bail!("this says something, but no command does");
    };
    let (mark, said) = line.split_at_checked(1).context("not ASCII")?;
    let said = said.strip_prefix(' ').unwrap_or(said).to_owned();
    match mark {
        ">" => step.out.push(said),
        "!" => step.err.push(said),
        "?" => step.code = said.parse().context("not an exit code")?,
        _ => bail!("neither a prompt nor `>`, `!` or `?`"),
    }
    ensure!(
        mark != ">" || step.err.is_empty(),
        "standard output stands first"
    );
    Ok(())
}

/// Writes rows as `parse` reads them.
pub(crate) fn write(preface: &str, rows: &[Row]) -> String {
    let mut text = preface.to_owned();
    for row in rows {
        let mark = match (row.containers, row.real) {
            (true, _) => CONTAINERS,
            (_, true) => REAL,
            _ => "",
        };
        text += &format!("== {}{mark}\n", row.name);
        for item in &row.items {
            match item {
                Item::Remark(remark) => text += &format!("{remark}\n"),
                Item::Step(step) => text += &write_step(step),
            }
        }
    }
    text
}

/// A command and what it must say, as in the table.
pub(crate) fn write_step(step: &Step) -> String {
    let prompt = PROMPTS.into_iter().find(|(_, who)| *who == step.who);
    let mut text = format!(
        "{}{}{}\n",
        if step.until { "~" } else { "" },
        prompt.map_or("", |(prompt, _)| prompt),
        step.command
    );
    for (mark, lines) in [('>', &step.out), ('!', &step.err)] {
        for line in lines {
            text += format!("{mark} {line}").trim_end_matches(' ');
            text.push('\n');
        }
    }
    if step.code != 0 {
        text += &format!("? {}\n", step.code);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Preface.\n\n== one [containers]\n# Why.\n$ echo x; false\n> x\n>\n! y\n? 1\n\n\
                        == two\n~bob$ squeue\nreal# true\n";

    #[test]
    fn what_was_written_reads_back() {
        let (preface, rows) = parse(TEXT).unwrap();
        assert_eq!(rows.len(), 2);
        assert!(rows[0].containers && !rows[1].containers);
        let Item::Step(step) = &rows[0].items[1] else {
            panic!("{:?}", rows[0].items);
        };
        assert_eq!(
            (&step.out[..], step.code),
            (&["x".into(), String::new()][..], 1)
        );
        assert_eq!(write(&preface, &rows), TEXT);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for bad in [
            "== a\n> x\n",
            "== a\n$ x\ny\n",
            "== a\n$ x\n! e\n> o\n",
            "== a\n$ x\n? one\n",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
