//! One table of commands and what Slurm answers, run against every Slurm that there is: the mock,
//! embedded and in containers, and the real one, from which it was recorded.
//!
//! `CONTRACT_RECORD=DIR` writes each group's rows to a file there as the cluster answered them.
//! `CONTRACT_ROWS=WORDS` runs only the rows whose names hold them.

mod check;
mod pattern;
mod rows;
mod shell;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::Cluster;

use crate::check::{Bench, Kind};

/// How long a command may take to say what it is to say in the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same where that is recorded.
const RECORDED: Duration = Duration::from_secs(3);

/// Runs a group of rows on a cluster of its own, where there can be such a cluster.
#[expect(
    clippy::print_stderr,
    reason = "the reason of a skip belongs in the test's output"
)]
async fn holds<C: Cluster>(cluster: &C, kind: Kind, group: &str, text: &str) -> Result<()> {
    if let Some(lack) = cluster.needs().iter().find(|&&need| !cluster.meets(need)) {
        eprintln!("skipped: needs: {lack}");
        return Ok(());
    }
    let (preface, all) = rows::parse(text).with_context(|| group.to_owned())?;
    let wanted = std::env::var("CONTRACT_ROWS").unwrap_or_default();
    let dir = e2e::owner::directory()?;
    let site = cluster.start(dir.path()).await?;
    let record = std::env::var_os("CONTRACT_RECORD");
    // What is not in the table yet is not waited for.
    let patience = if record.is_some() { RECORDED } else { PATIENCE };
    let mut bench = Bench::new(&*site, kind, patience).await?;
    let (mut answered, mut differences) = (Vec::new(), String::new());
    for (number, row) in all.iter().enumerate() {
        if !bench.holds(row) || !row.name.contains(&wanted) {
            answered.push(row.clone());
            continue;
        }
        let (row, different) = bench
            .check(row, number)
            .await
            .with_context(|| format!("{group}: {}", row.name))?;
        answered.push(row);
        differences += &different;
    }
    bench.clean().await?;
    drop(bench);
    site.stop().await?;
    if let Some(to) = record {
        let file = Path::new(&to).join(format!("{group}.rows"));
        std::fs::write(&file, rows::write(&preface, &answered))
            .with_context(|| format!("write `{}`", file.display()))?;
    }
    ensure!(
        differences.is_empty(),
        "{} answers otherwise:\n{differences}",
        cluster.name()
    );
    Ok(())
}

macro_rules! on {
    ($name:ident $cluster:expr, $kind:expr; $($group:ident)+) => {
        mod $name {
            use super::check::Kind;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $group() -> anyhow::Result<()> {
                    let text = include_str!(concat!("rows/", stringify!($group), ".rows"));
                    super::holds(&$cluster, $kind, stringify!($group), text).await
                }
            )+
        }
    };
}

on! { embedded e2e::cluster::Embedded, Kind::Mock { containers: false };
sbatch squeue scancel sinfo scontrol steps arrays runs faults signals_cgroup signals_linuxproc }
on! { docker e2e::cluster::Docker, Kind::Mock { containers: true };
sbatch squeue scancel sinfo scontrol steps arrays runs faults signals_cgroup signals_linuxproc }
on! { slurm e2e::cluster::Slurm, Kind::Real;
sbatch squeue scancel sinfo scontrol steps arrays runs faults signals_linuxproc }
on! { slurm_cgroup e2e::cluster::SlurmCgroup, Kind::Real;
signals_cgroup }
