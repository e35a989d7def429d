//! The probe page in real browsers, through the proxy by path: each row is one way in which a page makes
//! a URL, connects, navigates, or asks for what it wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use e2e::compat::traffic::Traffic;
use e2e::engine::Engine;
use e2e::{binaries, eventually};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

#[derive(Debug, Deserialize)]
struct Results {
    arrived: BTreeMap<String, Vec<String>>,
    reports: BTreeMap<String, String>,
}

/// Rows of the page by name.
#[derive(Debug, Default)]
struct Judged {
    held: usize,
    broken: Vec<String>,
    /// What this browser does nowhere, as the page has found out.
    lacking: Vec<String>,
}

impl Results {
    fn judge(&self) -> Result<Judged> {
        let rows: Vec<(String, String, String)> = match self.reports.get("rows") {
            Some(rows) => serde_json::from_str(rows)?,
            None => Vec::new(),
        };
        let mut judged = Judged::default();
        for (row, side, short) in rows {
            let hit = format!("/hit/{short}.");
            let arrived = self.arrived[&side]
                .iter()
                .any(|path| path.starts_with(&hit));
            let lacks = self.reports.get(&format!("lacks: {row}"));
            match (arrived, lacks.map(String::as_str)) {
                (true, _) => judged.held += 1,
                (false, Some("true")) => judged.lacking.push(row),
                (false, _) => match self.reports.get(&format!("note: {row}")) {
                    Some(note) => judged.broken.push(format!("{row} ({note})")),
                    None => judged.broken.push(row),
                },
            }
        }
        let is_check = |row: &str| row.starts_with("check: ") || row.starts_with("door: ");
        for (row, said) in self.reports.iter().filter(|(row, _)| is_check(row)) {
            match said.as_str() {
                "true" => judged.held += 1,
                _ => judged.broken.push(format!("{row} ({said})")),
            }
        }
        Ok(judged)
    }
}

/// How often the page is opened while this machine's networks change under it.
const TRIES: usize = 4;

/// `rewrite`: whether the proxy does. `run`: which part of the page, and what else is asked of it.
async fn probe(engine: Engine, rewrite: &str, run: &str) -> Result<Judged> {
    for _ in 1..TRIES {
        let (judged, disturbed) = probe_once(engine, rewrite, run).await?;
        if !disturbed || judged.broken.is_empty() {
            return Ok(judged);
        }
    }
    Ok(probe_once(engine, rewrite, run).await?.0)
}

/// And whether the browser gave requests up for a reason that is no matter of the page's.
async fn probe_once(engine: Engine, rewrite: &str, run: &str) -> Result<(Judged, bool)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = tempfile::tempdir()?;
    let mut server = Command::new("node")
        .arg(root.join("fixtures/probe/server.js"))
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

    let browser = engine.start(dir.path()).await?;
    let traffic = Arc::new(Traffic::default());
    let window = browser.opens(Arc::clone(&traffic) as _).await?;
    // Servers are lenient to `localhost` alone.
    window
        .goes_to(&format!(
            "http://hpc.localhost:{port}/port/{own}/?run={run}"
        ))
        .await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    // On a busy machine: the page itself waits for what is missing, 20 seconds at each of some places.
    let results = eventually!(150, "the page is done", {
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
    browser.closes().await?;
    Ok((results.judge()?, traffic.was_disturbed()))
}

async fn every_mechanism_stays_in(engine: Engine, may_lack: &[&str]) -> Result<()> {
    let judged = probe(engine, "auto", "all").await?;
    let lacks = judged.lacking.iter();
    let is_known = |row: &String| may_lack.contains(&row.as_str());
    ensure!(
        judged.held > 175 && judged.broken.is_empty() && lacks.clone().all(is_known),
        "{judged:#?}"
    );
    Ok(())
}

async fn a_router_finds_its_place_in(engine: Engine) -> Result<()> {
    let judged = probe(engine, "auto", "doors").await?;
    ensure!(judged.held >= 4 && judged.broken.is_empty(), "{judged:#?}");
    Ok(())
}

// Else the rows would show nothing.
async fn without_the_shim_most_lead_out_in(engine: Engine) -> Result<()> {
    let judged = probe(engine, "off", "all&patience=5000").await?;
    ensure!(judged.broken.len() > 120, "{judged:#?}");
    Ok(())
}

mod chromium {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_mechanism_of_a_page_stays_below_its_prefix() -> Result<()> {
        every_mechanism_stays_in(Engine::Chromium, &[]).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_router_finds_its_place_through_the_doors() -> Result<()> {
        a_router_finds_its_place_in(Engine::Chromium).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_the_shim_most_mechanisms_lead_out_of_the_prefix() -> Result<()> {
        without_the_shim_most_lead_out_in(Engine::Chromium).await
    }
}

mod firefox {
    use super::*;

    /// By default it takes one import map for a document, which is ours where a script makes the page's, and
    /// follows no pings.
    const MAY_LACK: [&str; 2] = ["an import map of the page", "a.ping"];

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_mechanism_of_a_page_stays_below_its_prefix() -> Result<()> {
        if Engine::Firefox.is_lacking() {
            return Ok(());
        }
        every_mechanism_stays_in(Engine::Firefox, &MAY_LACK).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_router_finds_its_place_through_the_doors() -> Result<()> {
        if Engine::Firefox.is_lacking() {
            return Ok(());
        }
        a_router_finds_its_place_in(Engine::Firefox).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_the_shim_most_mechanisms_lead_out_of_the_prefix() -> Result<()> {
        if Engine::Firefox.is_lacking() {
            return Ok(());
        }
        without_the_shim_most_lead_out_in(Engine::Firefox).await
    }
}
