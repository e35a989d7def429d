//! `./dev demo` as a person sees it: its links work, its pages reload, and Ctrl-C leaves nothing.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::browser::Browser;
use e2e::devserver::page;
use e2e::processes;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Ten seconds are promised; what else runs on a test machine is not the demo's fault.
const START: Duration = Duration::from_secs(40);

/// Sessions cancelled, cluster down.
const END: Duration = Duration::from_secs(20);

/// What is printed for one user.
#[derive(Debug, Default)]
struct Act {
    link: String,
    addresses: Vec<String>,
    files: Vec<String>,
}

/// One after the other: both want the ports that people know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_what_it_says_and_ctrl_c_leaves_nothing_of_it() -> Result<()> {
    ends_while_it_starts()
        .await
        .context("Ctrl-C while it starts")?;
    shows_what_it_says().await
}

async fn shows_what_it_says() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut demo = start(dir.path())?;
    let acts = tokio::time::timeout(START, acts(&mut demo))
        .await
        .context("no links")??;

    for (act, shows) in [(&acts[0], "alice's page"), (&acts[1], "bob's page")] {
        let (origin, _) = act.link.split_once("/login").context("a sign-in link")?;
        let browser = Browser::new(origin)?;
        browser.opens(&act.link).await?.has_status(200);
        browser.opens(&act.addresses[0]).await?.sees(shows);
        for address in &act.addresses {
            let path = address
                .strip_prefix(origin)
                .context("an address of the manager")?;
            // The first page does not wait for the list of dev servers.
            e2e::eventually!(10, "the page lists the dev server", {
                let page = browser.gets("/").await?;
                ensure!(page.text().contains(path), "{page}");
                Ok(())
            })?;
        }

        let path = act.addresses[0].strip_prefix(origin).unwrap_or_default();
        let mut socket = browser.connects(&format!("{path}/ws")).await?;
        socket.awaits(END, |text| text == "connected").await?;
        std::fs::write(&act.files[0], page("changed by hand")?)?;
        socket.awaits(END, |text| text == "reload").await?;
        browser
            .opens(&act.addresses[0])
            .await?
            .sees("changed by hand");
    }

    interrupt(&demo)?;
    ends_without_a_trace(demo, dir.path()).await
}

async fn ends_while_it_starts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let demo = start(dir.path())?;
    e2e::eventually!(30, "the manager starts", {
        let manager = |process: &processes::Process| {
            process
                .args
                .first()
                .is_some_and(|program| program.ends_with("/hpc-manager"))
        };
        ensure!(processes::in_touch_with(dir.path()).iter().any(manager));
        Ok(())
    })?;
    interrupt(&demo)?;
    ends_without_a_trace(demo, dir.path()).await
}

/// With everything that it makes below `dir`.
fn start(dir: &Path) -> Result<Child> {
    Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start the demo")
}

/// Reads up to the last line. The pipe stays open: the demo would not survive its end.
async fn acts(demo: &mut Child) -> Result<Vec<Act>> {
    let stdout = demo.stdout.as_mut().context("piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut acts: Vec<Act> = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let last_word = line
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned();
        if line.contains("/login?code=") {
            acts.push(Act {
                link: last_word,
                ..Act::default()
            });
        } else if let Some(act) = acts.last_mut() {
            if line.contains("/port/") && last_word.starts_with("http") {
                act.addresses.push(last_word);
            } else if line.trim_start().starts_with("shows") {
                act.files.push(last_word);
            }
        }
        if line.contains("Ctrl-C") {
            ensure!(acts.len() == 2, "{acts:?}");
            return Ok(acts);
        }
    }
    let mut said = String::new();
    if let Some(mut stderr) = demo.stderr.take() {
        tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut said).await?;
    }
    anyhow::bail!("it ended early: {said}")
}

fn interrupt(demo: &Child) -> Result<()> {
    let pid = demo.id().context("it runs")?;
    let pid = Pid::from_raw(pid.try_into()?).context("a process id")?;
    Ok(kill_process(pid, Signal::INT)?)
}

async fn ends_without_a_trace(mut demo: Child, dir: &Path) -> Result<()> {
    let asked = Instant::now();
    let status = tokio::time::timeout(END, demo.wait())
        .await
        .context("it does not end")??;
    ensure!(
        status.success(),
        "it ended with {status} after {:?}",
        asked.elapsed()
    );
    e2e::eventually!(2, "nothing runs", {
        let left = processes::in_touch_with(dir);
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    let left: Vec<_> = dir
        .read_dir()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    ensure!(left.is_empty(), "left in the directory: {left:?}");
    Ok(())
}
