//! What is published, for whom, and by which of several proxies.

use std::{
    collections::HashSet,
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{SOON, port_file, published_files};
use crate::{
    peer::{Address, Conn},
    row::{Met, Row, story},
    subject::{await_start, exit_within, hpc_proxy::published},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = leases();
    rows.extend(ports());
    rows
}

fn leases() -> Vec<Row> {
    vec![
        story(
            "128",
            "the port is published once it is listened on, and whole",
            |stage| {
                for _ in 0..3 {
                    let home = tempfile::TempDir::new()?;
                    let file = port_file(home.path());
                    let mut child = stage.cast.subject.launch().spawn(home.path())?;
                    let first = await_start(&mut child, home.path(), || fs::read(&file).ok());
                    let checked = first.and_then(|content| {
                        let text = String::from_utf8(content)?;
                        let port: u16 = text.strip_suffix('\n').context("not whole")?.parse()?;
                        Conn::to(&Address::Tcp(([127, 0, 0, 1], port).into()))
                            .context("nobody listens")?;
                        let (_, token) = published(home.path()).context("the token came later")?;
                        ensure!(token.len() >= 43, "the token is short");
                        Ok(())
                    });
                    let _ = child.kill();
                    child.wait()?;
                    checked?;
                }
                Ok(Met::Pass)
            },
        ),
        story(
            "128",
            "the port is whole in ten thousand readings",
            |stage| {
                let home = tempfile::TempDir::new()?;
                let file = port_file(home.path());
                let mut first = stage.cast.subject.launch().spawn(home.path())?;
                await_start(&mut first, home.path(), || published(home.path()))?;
                let mut second = stage.cast.subject.launch().spawn(home.path())?;
                let mut broken = None;
                for _ in 0..10_000 {
                    let text = fs::read_to_string(&file).unwrap_or_else(|error| error.to_string());
                    let whole = text
                        .strip_suffix('\n')
                        .is_some_and(|port| port.parse::<u16>().is_ok());
                    if !whole && broken.is_none() {
                        broken = Some(text);
                    }
                }
                for child in [&mut first, &mut second] {
                    let _ = child.kill();
                    child.wait()?;
                }
                ensure!(broken.is_none(), "it read `{broken:?}`");
                Ok(Met::Pass)
            },
        ),
        story(
            "129",
            "a second proxy of a job does not lose its record to the first",
            |stage| {
                let home = tempfile::TempDir::new()?;
                let launch = || {
                    stage
                        .cast
                        .subject
                        .launch()
                        .environment("SLURM_JOB_ID", "42")
                };
                let mut first = launch().spawn(home.path())?;
                await_start(&mut first, home.path(), || published(home.path()))?;
                let before = fs::read(port_file(home.path()))?;
                let mut second = launch().spawn(home.path())?;
                // Either it takes over, or it refuses.
                let deadline = Instant::now() + SOON;
                let refused = loop {
                    if let Some(status) = second.try_wait()? {
                        break Some(status);
                    }
                    if published(home.path()).is_some()
                        && fs::read(port_file(home.path()))? != before
                    {
                        break None;
                    }
                    ensure!(
                        Instant::now() < deadline,
                        "the second neither takes over nor ends"
                    );
                    sleep(Duration::from_millis(5));
                };
                let (loser, winner, met) = match refused {
                    Some(status) => {
                        ensure!(!status.success(), "it gave up with 0");
                        (None, &mut first, Met::Other("it refuses".into()))
                    }
                    None => (
                        Some(&mut first),
                        &mut second,
                        Met::Other("it takes over".into()),
                    ),
                };
                if let Some(loser) = loser {
                    terminate(loser)?;
                }
                let kept = published(home.path());
                terminate(winner)?;
                ensure!(kept.is_some(), "the record of the one that runs is gone");
                Ok(met)
            },
        ),
        story(
            "128, S9",
            "what is published is for its user alone",
            |stage| {
                use std::os::unix::fs::MetadataExt;
                let home = stage.proxy.home();
                for path in published_files(home) {
                    let mode = fs::metadata(&path)?.mode() & 0o777;
                    let is_secret = !path.ends_with("port");
                    ensure!(mode & 0o022 == 0, "`{}` is {mode:o}", path.display());
                    ensure!(
                        !is_secret || mode & 0o077 == 0,
                        "`{}` is {mode:o}",
                        path.display()
                    );
                }
                let mode = fs::metadata(home.join(".hpc-proxy"))?.mode() & 0o777;
                ensure!(mode & 0o077 == 0, "the directory is {mode:o}");
                Ok(Met::Pass)
            },
        ),
    ]
}

fn terminate(child: &mut std::process::Child) -> Result<()> {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, Signal::TERM)?;
    exit_within(child, SOON)?.context("it runs on")?;
    Ok(())
}

fn ports() -> Vec<Row> {
    vec![
        story("131", "a taken port is told with its holder", |stage| {
            let home = tempfile::TempDir::new()?;
            let port = stage.proxy.port.to_string();
            let mut child = stage
                .cast
                .subject
                .launch()
                .flags(&["--port", &port])
                .spawn(home.path())?;
            let status = exit_within(&mut child, SOON)?.context("it runs on")?;
            ensure!(status.code() == Some(1), "it ended with {status}");
            let log = fs::read_to_string(home.path().join("log"))?;
            let uid = rustix::process::geteuid().as_raw().to_string();
            ensure!(log.contains(&port), "the port is not named: {log}");
            ensure!(log.contains(&uid), "its holder is not named: {log}");
            ensure!(
                published_files(home.path()).is_empty(),
                "it published something"
            );
            Ok(Met::Pass)
        }),
        story("131", "proxies on any port do not collide", |stage| {
            let started: Vec<_> = (0..5).map(|_| stage.alone(&[])).collect::<Result<_>>()?;
            let ports: HashSet<_> = started.iter().map(|own| own.proxy.port).collect();
            ensure!(ports.len() == started.len(), "they listen on {ports:?}");
            Ok(Met::Pass)
        }),
    ]
}
