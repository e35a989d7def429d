//! 3,000 programs that bind and connect in a private localhost under a storm of signals, and 1,500 that are
//! killed while they connect: the supervisor keeps nothing of them, and tells none anything wrong.

use std::{
    collections::BTreeMap,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};

use super::{Outcome, Soak, size};
use crate::process::Process;

/// How many are under the storm, and how many are killed.
const STORM: u64 = 3_000;
const KILLED: u64 = 1_500;
/// Ports that they take in turn, below the ephemeral ones.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 6_000;
/// A storm of full size takes a minute or two.
const DEADLINE: Duration = Duration::from_secs(600);
/// Helpers of calls whose program is gone end by then.
const SETTLES: Duration = Duration::from_secs(10);
/// What the list of private servers takes, and what an allocator keeps.
const GROWTH_BYTES: u64 = 1 << 20;

pub(super) async fn run(soak: &Soak) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let home = TempDir::new().context("a directory")?;
    let help = Command::new(soak.program.path())
        .args(["exec", "--help"])
        .output();
    if !help.await.is_ok_and(|help| help.status.success()) {
        outcome.needs = Some("a proxy that knows exec".to_owned());
        return Ok(outcome);
    }
    for (way, flags) in [
        ("sockets taken", &[][..]),
        ("sockets replaced", &["--replace-sockets"]),
    ] {
        outcome.figure(way, "");
        storm(soak, &home, flags, &mut outcome).await?;
    }
    Ok(outcome)
}

async fn storm(soak: &Soak, home: &TempDir, flags: &[&str], outcome: &mut Outcome) -> Result<()> {
    let mut storm = Storm::below_exec(soak, home, flags).await?;
    let Some(guardian) = storm.guardian() else {
        outcome.needs = Some("seccomp user notification".to_owned());
        return Ok(());
    };
    // Until the list of servers is as long as it gets, and every buffer has its size.
    storm.asks("storm 60").await?;
    storm.asks("kill 24").await?;
    let before = Held::settled(guardian, (usize::MAX, 1)).await?;

    let (storms, killed) = (soak.scaled(STORM, 300), soak.scaled(KILLED, 150));
    let said = storm.asks(&format!("storm {storms}")).await?;
    let seen = counts(&said)?;
    outcome.figure("programs under a storm", storms);
    let interrupted = seen.get("interrupted").copied().unwrap_or_default();
    outcome.figure("of these with an interrupted call", interrupted);
    for (what, number) in &seen {
        outcome.must(["ok", "interrupted"].contains(&what.as_str()), || {
            format!("{number} programs were told: {what}")
        });
    }
    outcome.must(seen.get("ok") == Some(&storms), || {
        format!("not all of {storms} were served: {said}")
    });
    let said = storm.asks(&format!("kill {killed}")).await?;
    outcome.figure("killed while they connected", &said);
    outcome.must(counts(&said)?.get("killed") == Some(&killed), || {
        format!("not all of {killed} were killed: {said}")
    });

    let after = Held::settled(guardian, (before.descriptors, before.threads)).await?;
    outcome.figure(
        "descriptors",
        format!("{} then {}", before.descriptors, after.descriptors),
    );
    outcome.figure(
        "threads",
        format!("{} then {}", before.threads, after.threads),
    );
    let [grown_from, to] = [before.bytes, after.bytes].map(size);
    outcome.figure("memory", format!("{grown_from} then {to}"));
    outcome.must(after.descriptors <= before.descriptors, || {
        format!(
            "{} descriptors, {} before",
            after.descriptors, before.descriptors
        )
    });
    outcome.must(after.threads <= before.threads, || {
        format!("{} threads, {} before", after.threads, before.threads)
    });
    outcome.must(after.bytes <= before.bytes + GROWTH_BYTES, || {
        format!("{to} of memory, {grown_from} before")
    });
    let said = storm.asks("one").await?;
    outcome.must(said == "ok", || format!("afterwards one is told: {said}"));
    Ok(())
}

/// `ok=3; connect: refused=1` as numbers by what was said.
fn counts(said: &str) -> Result<BTreeMap<String, u64>> {
    let parts = said.split("; ").map(|part| {
        let (what, number) = part.rsplit_once('=').with_context(|| said.to_owned())?;
        Ok((
            what.to_owned(),
            number.parse().with_context(|| said.to_owned())?,
        ))
    });
    parts.collect()
}

/// The program below exec that does it all; killed when dropped.
struct Storm {
    exec: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Storm {
    async fn below_exec(soak: &Soak, home: &TempDir, flags: &[&str]) -> Result<Self> {
        let script = home.path().join("storm.pl");
        fs::write(&script, include_str!("localhost/storm.pl")).context("write the script")?;
        let mut exec = Command::new(soak.program.path())
            .args(["exec", "--quiet", "--session"])
            .args(flags)
            .args(["--", "perl"])
            .arg(&script)
            .args([FIRST_PORT.to_string(), PORTS.to_string()])
            // A localhost that nothing else of this user's is in.
            .env("SLURM_JOB_ID", std::process::id().to_string())
            .env("HPC_PROXY_STATE_DIR", home.path().join("state"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start exec")?;
        let stdin = exec.stdin.take().context("its input")?;
        let stdout = BufReader::new(exec.stdout.take().context("its output")?).lines();
        let mut storm = Self {
            exec,
            stdin,
            stdout,
        };
        let said = storm.answer().await?;
        ensure!(said == "ready", "it said `{said}`");
        Ok(storm)
    }

    async fn asks(&mut self, what: &str) -> Result<String> {
        self.stdin.write_all(format!("{what}\n").as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<String> {
        let line = timeout(DEADLINE, self.stdout.next_line()).await;
        line.context("no answer in time")??.context("it has ended")
    }

    /// Who supervises: the child of exec that has the program for a child.
    fn guardian(&self) -> Option<Process> {
        let exec = self.exec.id()?;
        let children = format!("/proc/{exec}/task/{exec}/children");
        let children = fs::read_to_string(children).ok()?;
        let child = children.split_ascii_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim() != "perl").then_some(Process(child))
    }
}

/// What the supervisor holds.
struct Held {
    descriptors: usize,
    threads: usize,
    bytes: u64,
}

impl Held {
    fn now(process: Process) -> Result<Self> {
        let count = |what| {
            let listed = fs::read_dir(format!("/proc/{}/{what}", process.0));
            listed
                .map(Iterator::count)
                .context("look at the supervisor")
        };
        Ok(Self {
            descriptors: count("fd")?,
            threads: count("task")?,
            bytes: process.rss_bytes()?,
        })
    }

    /// Once it holds no more descriptors and threads than `most`, or does not get there.
    async fn settled(process: Process, most: (usize, usize)) -> Result<Self> {
        let deadline = Instant::now() + SETTLES;
        loop {
            sleep(Duration::from_millis(200)).await;
            let now = Self::now(process)?;
            let done = now.descriptors <= most.0 && now.threads <= most.1;
            if done || Instant::now() > deadline {
                return Ok(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_counted() {
        let seen = counts("interrupted=2; connect: a=b=1; ok=3000").unwrap();
        assert_eq!(seen["ok"], 3000);
        assert_eq!(seen["connect: a=b"], 1);
        assert!(counts("nothing").is_err());
    }
}
