//! Runs rows on a cluster and tells what differs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::Site;

use crate::pattern::{Line, Variables, compare, generalise, is_equal};
use crate::rows::{Item, Row, Step, Who, write_step};
use crate::shell::{Said, Shell};

/// A time limit of real Slurm's takes a minute and a half.
const STEP: Duration = Duration::from_secs(170);

const POLL: Duration = Duration::from_millis(50);

/// What rows may set.
const VARIABLES: &str = "for V in HOME PWD $(compgen -v | grep -E '^[A-Z]$'); do \
    [ $V = V ] || printf '%s %s\\n' $V \"${!V}\"; done";

/// Ends every job, and returns when the cluster is as it was.
const CLEAN: &str = "scancel --me; until [ -z \"$(squeue -h --me)\" ]; do sleep 0.05; done; \
    until [ \"$(sinfo -h -o %t | sort -u)\" = idle ]; do sleep 0.05; done";

/// Which kind of Slurm this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The mock; `containers` if its nodes are hosts.
    Mock {
        containers: bool,
    },
    Real,
}

/// A cluster that rows are run on.
pub(crate) struct Bench<'a> {
    site: &'a dyn Site,
    kind: Kind,
    alice: Shell,
    bob: Shell,
    variables: Variables,
    /// How long a command may take to say what it is to say in the end.
    patience: Duration,
}

impl<'a> Bench<'a> {
    pub(crate) async fn new(site: &'a dyn Site, kind: Kind, patience: Duration) -> Result<Self> {
        let mut bench = Self {
            site,
            kind,
            alice: Shell::of("alice", site.ssh_config())?,
            bob: Shell::of("bob", site.ssh_config())?,
            variables: Variables::new(),
            patience,
        };
        for shell in [&mut bench.alice, &mut bench.bob] {
            let said = shell.run(include_str!("prelude.sh"), STEP).await?;
            ensure!(said == Said::default(), "the prelude failed: {said:?}");
        }
        Ok(bench)
    }

    /// Whether a row can be run here.
    pub(crate) fn holds(&self, row: &Row) -> bool {
        match self.kind {
            Kind::Mock { containers } => !row.real && (containers || !row.containers),
            Kind::Real => true,
        }
    }

    /// Runs a row. Gives the row as it was answered, and what differed from it.
    pub(crate) async fn check(&mut self, row: &Row, number: usize) -> Result<(Row, String)> {
        self.clean().await.context("clean up")?;
        self.variables.clear();
        let fresh = format!("fresh row{number}");
        self.alice.run(&fresh, STEP).await?;
        self.bob.run(&fresh, STEP).await?;
        self.learn(Who::Alice).await?;
        let (mut answered, mut differences) = (row.clone(), String::new());
        for item in &mut answered.items {
            if let Item::Step(step) = item
                && self.concerns(step.who)
            {
                self.take(step, &mut differences).await?;
            }
        }
        if !differences.is_empty() {
            differences.insert_str(0, &format!("== {}\n", row.name));
        }
        Ok((answered, differences))
    }

    /// Ends what a row has left.
    pub(crate) async fn clean(&mut self) -> Result<()> {
        self.alice.run("scancel --me", STEP).await?;
        self.bob.run(CLEAN, STEP).await?;
        self.alice.run(CLEAN, STEP).await.map(drop)
    }

    fn concerns(&self, who: Who) -> bool {
        match who {
            Who::RootOfMock => self.kind != Kind::Real,
            Who::RootOfReal => self.kind == Kind::Real,
            Who::Alice | Who::Bob | Who::Root => true,
        }
    }

    /// Takes one step; `step` becomes what was answered.
    async fn take(&mut self, step: &mut Step, differences: &mut String) -> Result<()> {
        let started = Instant::now();
        loop {
            let said = self.run(step.who, &step.command).await?;
            self.learn(step.who).await?;
            let (out, err) = (lines(&said.out), lines(&said.err));
            let compared = [
                (">", compare(&step.out, &out, &self.variables)),
                ("!", compare(&step.err, &err, &self.variables)),
            ];
            let equal = compared.iter().all(|(_, lines)| is_equal(lines)) && said.code == step.code;
            if equal {
                return Ok(());
            }
            if step.until && started.elapsed() < self.patience {
                tokio::time::sleep(POLL).await;
                continue;
            }
            *differences += &describe(step, &compared, said.code);
            let general = |line: String| generalise(&line, &self.variables);
            step.out = merged(&compared[0].1, &general);
            step.err = merged(&compared[1].1, &general);
            step.code = said.code;
            return Ok(());
        }
    }

    async fn run(&mut self, who: Who, command: &str) -> Result<Said> {
        match who {
            Who::Alice => self.alice.run(command, STEP).await,
            Who::Bob => self.bob.run(command, STEP).await,
            Who::Root | Who::RootOfMock | Who::RootOfReal => {
                let set: String = self
                    .variables
                    .iter()
                    .filter(|(name, _)| name.len() == 1)
                    .map(|(name, value)| format!("{name}='{value}'; "))
                    .collect();
                let inner = format!("{set}{command}").replace('\'', r"'\''");
                // `administers` wants commands that do well: how it ended is part of what is said.
                let line = format!(
                    "out=$(mktemp); err=$(mktemp); bash -c '{inner}' >$out 2>$err; \
                     echo $?; wc -l <$out; cat $out $err; rm -f $out $err"
                );
                split(&self.site.administers(&line).await?)
            }
        }
    }

    /// Learns what a shell has set, and tells the other one.
    async fn learn(&mut self, who: Who) -> Result<()> {
        let (speaker, listener) = match who {
            Who::Bob => (&mut self.bob, &mut self.alice),
            _ => (&mut self.alice, &mut self.bob),
        };
        let said = speaker.run(VARIABLES, STEP).await?;
        let mut tell = String::new();
        for (name, value) in said.out.lines().filter_map(|line| line.split_once(' ')) {
            // A home and a directory are alice's.
            if name.len() > 1 && who == Who::Bob {
                continue;
            }
            if name.len() == 1 && self.variables.get(name).is_none_or(|known| known != value) {
                write!(tell, "{name}='{value}'; ")?;
            }
            self.variables.insert(name.to_owned(), value.to_owned());
        }
        if !tell.is_empty() {
            listener.run(&tell, STEP).await?;
        }
        Ok(())
    }
}

fn split(text: &str) -> Result<Said> {
    let mut parts = text.splitn(3, '\n');
    let (Some(code), Some(count), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("not what was to be said: `{text}`");
    };
    let count = count.trim().parse().context("not a number")?;
    let mut all = rest.split_inclusive('\n');
    Ok(Said {
        code: code.parse().context("not a number")?,
        out: all.by_ref().take(count).collect(),
        err: all.collect(),
    })
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// What was said, in the words of the table where it had them.
fn merged(lines: &[Line], general: &dyn Fn(String) -> String) -> Vec<String> {
    lines
        .iter()
        .filter_map(|line| match line {
            Line::Same(line) => Some(line.clone()),
            Line::Missing(_) => None,
            Line::Unexpected(line) => Some(general(line.clone())),
        })
        .collect()
}

fn describe(step: &Step, compared: &[(&str, Vec<Line>)], code: i32) -> String {
    let bare = Step {
        out: vec![],
        err: vec![],
        code: 0,
        ..step.clone()
    };
    let mut text = format!("  {}", write_step(&bare));
    for (mark, lines) in compared {
        for line in lines {
            let (sign, line) = match line {
                Line::Same(line) => (' ', line),
                Line::Missing(line) => ('-', line),
                Line::Unexpected(line) => ('+', line),
            };
            text += &format!("{sign} {mark} {line}\n");
        }
    }
    if code != step.code {
        text += &format!("- ? {}\n+ ? {code}\n", step.code);
    }
    text
}
