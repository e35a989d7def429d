//! The probe page in real Chromium, through the proxy by path: each row is one way in which a page makes
//! a URL, connects, navigates, or asks for what it wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use e2e::{binaries, chromium::Chromium, eventually};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

#[derive(Debug, Deserialize)]
struct Results {
    arrived: BTreeMap<String, Vec<String>>,
    reports: BTreeMap<String, String>,
}

impl Results {
    /// The rows that hold, and those that do not.
    fn judge(&self) -> Result<(Vec<String>, Vec<String>)> {
        let rows: Vec<(String, String, String)> = match self.reports.get("rows") {
            Some(rows) => serde_json::from_str(rows)?,
            None => Vec::new(),
        };
        let hits = rows.into_iter().map(|(row, side, short)| {
            let hit = format!("/hit/{short}.");
            let holds = self.arrived[&side]
                .iter()
                .any(|path| path.starts_with(&hit));
            (row, holds)
        });
        let checks = self
            .reports
            .iter()
            .filter(|(row, _)| row.contains(": ") && !row.starts_with("note"));
        let checks = checks.map(|(row, said)| (format!("{row} ({said})"), said == "true"));
        let (held, broken): (Vec<_>, Vec<_>) = hits.chain(checks).partition(|(_, holds)| *holds);
        let names = |rows: Vec<(String, bool)>| rows.into_iter().map(|(row, _)| row).collect();
        Ok((names(held), names(broken)))
    }
}

/// `rewrite`: whether the proxy does. `tags`: whether the page comes with the shim. `run`: which part of the
/// page.
async fn probe(rewrite: &str, tags: &str, run: &str) -> Result<(Vec<String>, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = tempfile::tempdir()?;
    let mut server = Command::new("node")
        .arg(root.join("fixtures/probe/server.js"))
        .arg(root.join("proxy/src/shim/shim.js"))
        .arg(tags)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("node")?;
    let stdout = server.stdout.take().context("stdout of node")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    let line = line.context("the ports of the server")?;
    let (own, _) = line.split_once(' ').context("two ports")?;
    let _proxy = Command::new(binaries::hpc_proxy()?)
        .args(["--auth", "none", "--rewrite", rewrite])
        .env("HOME", dir.path())
        .env("HPC_PROXY_ALLOW_ROOT", "1")
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let file = dir.path().join(".hpc-proxy/port");
    let port = eventually!(20, "the proxy listens", {
        Ok::<_, anyhow::Error>(std::fs::read_to_string(&file)?.trim().to_owned())
    })?;

    let chromium = Chromium::start(dir.path()).await?;
    // Servers are lenient to `localhost` alone.
    chromium
        .goes_to(&format!(
            "http://hpc.localhost:{port}/port/{own}/?run={run}"
        ))
        .await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let results = eventually!(60, "the page is done", {
        let answer = client
            .get(format!("http://127.0.0.1:{own}/results"))
            .send()
            .await?;
        let results: Results = serde_json::from_slice(&answer.bytes().await?)?;
        ensure!(
            results.reports.contains_key(""),
            "{} rows so far",
            results.reports.len()
        );
        Ok::<_, anyhow::Error>(results)
    })?;
    chromium.closes().await?;
    results.judge()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mechanism_of_a_page_stays_below_its_prefix() -> Result<()> {
    let (held, broken) = probe("auto", "bare", "all").await?;
    ensure!(
        held.len() > 75 && broken.is_empty(),
        "{} rows hold; broken: {broken:#?}",
        held.len()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_finds_its_place_through_the_doors() -> Result<()> {
    let (held, broken) = probe("auto", "bare", "doors").await?;
    ensure!(held.len() >= 4 && broken.is_empty(), "broken: {broken:#?}");
    Ok(())
}

// Else the rows would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_shim_most_mechanisms_lead_out_of_the_prefix() -> Result<()> {
    let (held, broken) = probe("off", "bare", "all").await?;
    ensure!(
        broken.len() > 120,
        "{} rows hold without it: {held:#?}",
        held.len()
    );
    Ok(())
}
