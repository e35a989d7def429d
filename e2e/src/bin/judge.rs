//! A result table of any proxy and any manager: `just judge [PROXY=path] [MANAGER=url]`.
//!
//! What is judged is in the environment: `E2E_PROXY`, a program with the original's flags, and its
//! `E2E_PROXY_KIND` where its name does not tell (`hpc-proxy`, `original`, `nginx`); `E2E_MANAGER`, an address with
//! what [`Foreign::told_by`] wants to know, or a program with our manager's flags. Where nothing is named, ours are
//! judged. `E2E_CLUSTER` is `embedded` or `docker`, `E2E_ONLY` words in stories' names, without conformance.

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use e2e::binaries;
use e2e::cluster::{Cluster, Docker, Embedded};
use e2e::judge::{
    Foreign, Kind, Stage, Table, as_foreign, conformance, judge_manager, judge_proxy,
};
use e2e::world::World;

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "it speaks to a person")]
async fn main() -> ExitCode {
    // A story that panics is a line of the table.
    std::panic::set_hook(Box::new(|_| {}));
    let judged = match setting("E2E_CLUSTER").as_deref() {
        None | Some("embedded") => judge(&Embedded).await,
        Some("docker") => judge(&Docker).await,
        Some(other) => Err(anyhow!(
            "E2E_CLUSTER is `{other}`, not `embedded` or `docker`"
        )),
    };
    match judged {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing failed.
async fn judge(cluster: &impl Cluster) -> Result<bool> {
    let (proxy, manager) = (setting("E2E_PROXY"), setting("E2E_MANAGER"));
    let mut good = true;
    if proxy.is_some() || manager.is_none() {
        good &= the_proxy(cluster).await?;
    }
    match manager {
        Some(url) if url.contains("://") => {
            let foreign = Foreign::told_by(setting).context("see docs/judging.md")?;
            foreign.is_in_reach().await?;
            good &= shows(&url, &judge_manager(&foreign, &only()).await);
        }
        manager if manager.is_some() || proxy.is_none() => good &= a_manager(cluster).await?,
        _ => {}
    }
    Ok(good)
}

#[expect(clippy::print_stdout, reason = "it speaks to a person")]
async fn the_proxy(cluster: &impl Cluster) -> Result<bool> {
    let program = binaries::hpc_proxy()?;
    ensure!(program.is_file(), "no program `{}`", program.display());
    let kind = Kind::of(&program, setting("E2E_PROXY_KIND").as_deref())?;
    let stage = Stage::on(cluster, kind).await?;
    let table = judge_proxy(&stage, &only()).await;
    stage.ends_cleanly().await?;
    let title = format!(
        "{} ({}), {}",
        program.display(),
        kind.name(),
        cluster.name()
    );
    let good = shows(&title, &table);
    if !only().is_empty() {
        return Ok(good);
    }
    let counts = conformance(&program, kind).await?;
    println!("{counts}");
    Ok(good && counts.failed() == 0)
}

/// Ours, or a program of its flags.
async fn a_manager(cluster: &impl Cluster) -> Result<bool> {
    let program = binaries::hpc_manager()?;
    let world = World::on(cluster).quiet().await?;
    let foreign = as_foreign(&world).await?;
    let table = judge_manager(&foreign, &only()).await;
    world.ends_cleanly().await?;
    let title = format!("{}, {}", program.display(), cluster.name());
    Ok(shows(&title, &table))
}

fn only() -> String {
    setting("E2E_ONLY").unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "it speaks to a person")]
fn shows(title: &str, table: &Table) -> bool {
    println!("{title}\n{table}");
    table.failed().is_empty()
}
