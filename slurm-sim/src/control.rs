//! What the harness does to a cluster: makes it, tunes it, breaks it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::account::{Account, FIRST_VIRTUAL_UID};
use crate::clock::Time;
use crate::cluster::{Cluster, KillMode, Knobs, Node};
use crate::spool::Spool;
use crate::{fill, hostlist};

/// Seconds, with decimals.
fn seconds(text: &str) -> Result<Duration, String> {
    let secs: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(secs).map_err(|error| error.to_string())
}

/// How a new cluster is tuned.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct KnobArgs {
    /// How long every job waits before it may start, in seconds.
    #[arg(long, value_parser = seconds, value_name = "SECS")]
    queue_delay: Option<Duration>,
    /// Whom a cancelled job's signals reach.
    #[arg(long)]
    kill_mode: Option<KillMode>,
    /// How long after SIGTERM a job is killed, in seconds.
    #[arg(long, value_parser = seconds, value_name = "SECS")]
    kill_wait: Option<Duration>,
    /// How long a requeued job waits before it may start again, in seconds.
    #[arg(long, value_parser = seconds, value_name = "SECS")]
    requeue_delay: Option<Duration>,
    /// How long a finished job is remembered, in seconds.
    #[arg(long, value_parser = seconds, value_name = "SECS")]
    min_job_age: Option<Duration>,
    /// How long a node may be silent before it is given up, in seconds.
    #[arg(long, value_parser = seconds, value_name = "SECS")]
    node_timeout: Option<Duration>,
    /// How long a minute of a job's time limit takes, in seconds.
    #[arg(long, value_parser = seconds, value_name = "SECS")]
    minute: Option<Duration>,
    /// How long a command tries to reach a controller that is down, in seconds (Slurm: about 10).
    #[arg(long, value_parser = seconds, value_name = "SECS")]
    controller_wait: Option<Duration>,
}

impl KnobArgs {
    fn knobs(&self) -> Knobs {
        let default = Knobs::default();
        Knobs {
            queue_delay: self.queue_delay.unwrap_or(default.queue_delay),
            kill_mode: self.kill_mode.unwrap_or(default.kill_mode),
            kill_wait: self.kill_wait.unwrap_or(default.kill_wait),
            requeue_delay: self.requeue_delay.unwrap_or(default.requeue_delay),
            min_job_age: self.min_job_age.unwrap_or(default.min_job_age),
            node_timeout: self.node_timeout.unwrap_or(default.node_timeout),
            minute: self.minute.unwrap_or(default.minute),
            controller_wait: self.controller_wait.unwrap_or(default.controller_wait),
            ..default
        }
    }
}

/// The shape of a new cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShapeArgs {
    /// The nodes' names, a host list.
    #[arg(long, default_value = "node[01-02]")]
    nodes: String,
    /// Processors of each node.
    #[arg(long, default_value_t = 4)]
    cpus: u32,
    /// Megabytes of each node.
    #[arg(long, default_value_t = 2000, value_name = "MB")]
    mem: u64,
    /// Virtual users: commands then act for $SLURM_SIM_USER, whatever account runs them.
    #[arg(long, value_delimiter = ',')]
    users: Vec<String>,
    #[command(flatten)]
    knobs: KnobArgs,
}

impl ShapeArgs {
    pub(crate) fn users(&self) -> &[String] {
        &self.users
    }

    pub(crate) fn node_names(&self) -> anyhow::Result<Vec<String>> {
        hostlist::expand(&self.nodes)
            .with_context(|| format!("`{}` is not a host list", self.nodes))
    }

    /// The cluster, with no jobs; the virtual users live below `homes`.
    pub(crate) fn cluster(&self, homes: &Path, users: &[String]) -> anyhow::Result<Cluster> {
        let node = |name| Node {
            name,
            cpus: self.cpus,
            memory_mb: self.mem,
            drained: false,
            put_down: false,
            reason: None,
        };
        let nodes = self.node_names()?.into_iter().map(node).collect();
        let users = (FIRST_VIRTUAL_UID..).zip(users).map(|(id, name)| Account {
            name: name.clone(),
            uid: id,
            gid: id,
            home: homes.join(name).display().to_string(),
        });
        Ok(Cluster::new(nodes, users.collect(), self.knobs.knobs()))
    }
}

/// Where the spool is.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpoolArgs {
    /// The spool directory.
    #[arg(long, env = "SLURM_SIM_SPOOL", default_value = crate::spool::DEFAULT)]
    spool: PathBuf,
}

impl SpoolArgs {
    pub(crate) fn spool(&self) -> anyhow::Result<Spool> {
        let path = std::path::absolute(&self.spool).context("cannot find the spool")?;
        Ok(Spool::at(path))
    }
}

/// Whether a daemon answers.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Daemon {
    Up,
    Down,
}

/// One turn of a knob.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Turn {
    /// How long every job waits before it may start.
    QueueDelay {
        #[arg(value_parser = seconds)]
        secs: Duration,
    },
    /// Stops the controller from answering, or lets it answer again.
    Controller { state: Daemon },
    /// How long a command tries to reach a controller that is down.
    ControllerWait {
        #[arg(value_parser = seconds)]
        secs: Duration,
    },
    /// Ends the login node's SSH server with every connection, or starts it anew; of a cluster that
    /// `slurm-sim up` runs.
    Sshd { state: Daemon },
    /// Whom a job's signals reach; for jobs that start from now on.
    KillMode { mode: KillMode },
    /// How long after SIGTERM a job is killed; for jobs that start from now on.
    KillWait {
        #[arg(value_parser = seconds)]
        secs: Duration,
    },
    /// How long a requeued job waits before it may start again.
    RequeueDelay {
        #[arg(value_parser = seconds)]
        secs: Duration,
    },
    /// How long a finished job is remembered.
    MinJobAge {
        #[arg(value_parser = seconds)]
        secs: Duration,
    },
    /// How long a node may be silent before it is given up.
    NodeTimeout {
        #[arg(value_parser = seconds)]
        secs: Duration,
    },
    /// How long a minute of a job's time limit takes.
    Minute {
        #[arg(value_parser = seconds)]
        secs: Duration,
    },
    /// How late a time limit is enforced.
    LimitLateness {
        #[arg(value_parser = seconds)]
        secs: Duration,
    },
    /// Puts jobs into the queue that have no processes, as many running as there is room for: a picture of
    /// a large site to measure commands against. No node's daemon may run beside it.
    Fill {
        #[arg(long, value_name = "N")]
        jobs: u32,
    },
    /// Gives a node no new jobs.
    Drain { node: String },
    /// Gives it jobs again.
    Resume { node: String },
}

/// Turns one knob.
pub(crate) fn turn(spool: &Spool, turn: &Turn) -> anyhow::Result<()> {
    let known = spool
        .update(|cluster| {
            let knobs = &mut cluster.knobs;
            match turn {
                Turn::QueueDelay { secs } => knobs.queue_delay = *secs,
                Turn::Controller { state } => {
                    knobs.controller_up = matches!(state, Daemon::Up);
                }
                Turn::Sshd { state } => knobs.sshd_up = matches!(state, Daemon::Up),
                Turn::ControllerWait { secs } => knobs.controller_wait = *secs,
                Turn::KillMode { mode } => knobs.kill_mode = *mode,
                Turn::KillWait { secs } => knobs.kill_wait = *secs,
                Turn::RequeueDelay { secs } => knobs.requeue_delay = *secs,
                Turn::MinJobAge { secs } => knobs.min_job_age = *secs,
                Turn::NodeTimeout { secs } => knobs.node_timeout = *secs,
                Turn::Minute { secs } => knobs.minute = *secs,
                Turn::LimitLateness { secs } => knobs.limit_lateness = *secs,
                Turn::Fill { jobs } => fill::fill(cluster, *jobs, Time::now()),
                Turn::Drain { node } | Turn::Resume { node } => {
                    let found = cluster.nodes.iter_mut().find(|known| known.name == *node);
                    let Some(found) = found else {
                        return Some(node.clone());
                    };
                    found.drained = matches!(turn, Turn::Drain { .. });
                    found.put_down &= found.drained;
                    found.reason = found
                        .drained
                        .then(|| ("drained by the harness".to_owned(), Time::now()));
                }
            }
            None
        })
        .context("cannot change the cluster")?;
    if let Some(stranger) = known {
        bail!("`{stranger}` is not a node of this cluster");
    }
    Ok(())
}
