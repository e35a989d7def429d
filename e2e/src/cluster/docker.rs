//! The mock Slurm on a cluster of containers.

use std::path::Path;

use anyhow::Result;

use super::containers::{self, Kind};
use super::scheduler::Scheduler;
use super::{Cluster, Site};

/// The kind. Users may look into their own processes, as they may on a node that is no container.
#[derive(Clone, Copy, Debug)]
pub struct Docker;

/// The same confined to what containers usually may, which is less.
#[derive(Clone, Copy, Debug)]
pub struct DockerConfined;

impl Cluster for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn start(&self, dir: &Path) -> Result<Box<dyn Site>> {
        // What Docker's seccomp profile goes by; no user gets the capability itself.
        start(dir, &["SYS_PTRACE"]).await
    }
}

impl Cluster for DockerConfined {
    fn name(&self) -> &'static str {
        "docker_confined"
    }

    fn takes_sockets(&self) -> Option<bool> {
        Some(false)
    }

    async fn start(&self, dir: &Path) -> Result<Box<dyn Site>> {
        start(dir, &[]).await
    }
}

async fn start(dir: &Path, capabilities: &'static [&str]) -> Result<Box<dyn Site>> {
    let kind = Kind {
        image: "hpc-proxy-e2e",
        scheduler: Scheduler::Mock,
        capabilities,
        shared: &["/home", "/var/spool/slurm-sim"],
        of_machine: &[],
        environment: Vec::new(),
        at_the_end: None,
        has_jobs: None,
    };
    Ok(Box::new(containers::start(dir, kind).await?))
}
