//! Slurm itself on a cluster of containers: Debian's slurmctld, slurmd and munge.

use std::path::Path;

use anyhow::{Context, Result};

use super::containers::{self, Kind, Running};
use super::scheduler::Scheduler;
use super::{Cluster, Need, Site};

mod freezer;

/// The kind that tells a job's processes by who started whom (`proctrack/linuxproc`).
#[derive(Clone, Copy, Debug)]
pub struct Slurm;

/// The kind that has them in a cgroup (`proctrack/cgroup`), as most clusters do.
#[derive(Clone, Copy, Debug)]
pub struct SlurmCgroup;

impl Cluster for Slurm {
    fn name(&self) -> &'static str {
        "slurm"
    }

    async fn start(&self, dir: &Path) -> Result<Box<dyn Site>> {
        let running = containers::start(dir, kind("linuxproc", 1)).await?;
        Ok(Box::new(well(running).await?))
    }
}

impl Cluster for SlurmCgroup {
    fn name(&self) -> &'static str {
        "slurm_cgroup"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Freezer]
    }

    fn leftovers(&self) -> Result<Vec<String>> {
        let cgroups = freezer::leftovers();
        let cgroups = cgroups.iter().map(|cgroup| cgroup.display().to_string());
        Ok(containers::leftovers()?
            .into_iter()
            .chain(cgroups)
            .collect())
    }

    fn meets(&self, need: Need) -> bool {
        need != Need::Freezer || freezer::is_there()
    }

    async fn start(&self, dir: &Path) -> Result<Box<dyn Site>> {
        let jobs = freezer::own_jobs();
        let kind = Kind {
            of_machine: &[freezer::HIERARCHY],
            at_the_end: Some(freezer::removal(jobs.clone())),
            has_jobs: Some(freezer::own_jobs_are),
            ..kind("cgroup", *jobs.start())
        };
        let running = well(containers::start(dir, kind).await?).await?;
        let left = freezer::jobs_of(&freezer::leftovers());
        if !left.is_empty() {
            running.administers(&freezer::removal(left)).await?;
        }
        Ok(Box::new(running))
    }
}

fn kind(proctrack: &str, first_job: u32) -> Kind {
    Kind {
        image: "hpc-proxy-e2e-slurm",
        scheduler: Scheduler::Slurm,
        // What Docker's seccomp profile goes by; no user gets the capability itself.
        capabilities: &["SYS_PTRACE"],
        shared: &["/home"],
        of_machine: &[],
        environment: vec![
            ("PROCTRACK", proctrack.to_owned()),
            ("FIRST_JOB", first_job.to_string()),
        ],
        at_the_end: None,
        has_jobs: None,
    }
}

/// Waits until every node can have jobs; three seconds are usual.
async fn well(running: Running) -> Result<Running> {
    const IDLE: &str = "timeout 60 bash -c '
        until [[ $(sinfo -h -p compute -o %D/%t) == 2/idle ]]; do sleep 0.1; done'";
    running
        .administers(IDLE)
        .await
        .context("the nodes are not idle")?;
    Ok(running)
}
