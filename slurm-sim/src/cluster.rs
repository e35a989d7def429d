//! The whole state of a cluster: what it consists of, how it is tuned, and every job it knows.
//! A value only; `spool` keeps it on disk, `schedule` moves it on.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::clock::Time;
use crate::job::Job;

/// Slurm's version whose behaviour was recorded.
pub(crate) const VERSION: &str = "slurm-wlm 22.05.8";

/// The memory of a job that does not say, per processor.
pub(crate) const DEFAULT_MEMORY_MB_PER_CPU: u64 = 100;

/// A compute node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) cpus: u32,
    pub(crate) memory_mb: u64,
    /// No new jobs here.
    pub(crate) drained: bool,
    /// Out of service by an administrator's word.
    pub(crate) put_down: bool,
    /// Why it is drained or put down, and since when; only root says so.
    pub(crate) reason: Option<(String, Time)>,
}

impl Node {
    /// Whether an administrator lets it have no new jobs.
    pub(crate) fn is_out(&self) -> bool {
        self.drained || self.put_down
    }
}

/// A partition: nodes under a common time limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) default: bool,
    pub(crate) nodes: Vec<String>,
    pub(crate) max_minutes: u64,
    pub(crate) default_minutes: u64,
}

/// Who a job's processes are, and so whom a signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum KillMode {
    /// As with proctrack/cgroup: only the batch process is asked, everything else is killed.
    Cgroup,
    /// As with proctrack/linuxproc: the batch process and its children are asked; daemons survive.
    Linuxproc,
}

/// What the harness can tune. The defaults are those of the recorded cluster, but for the waits
/// that would only cost a test time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Knobs {
    pub(crate) queue_delay: Duration,
    pub(crate) kill_mode: KillMode,
    pub(crate) kill_wait: Duration,
    pub(crate) requeue_delay: Duration,
    pub(crate) min_job_age: Duration,
    pub(crate) node_timeout: Duration,
    /// How long a minute of a time limit takes.
    pub(crate) minute: Duration,
    /// How late a time limit is enforced.
    pub(crate) limit_lateness: Duration,
    pub(crate) controller_up: bool,
    /// Whether one can log in, where the login node's SSH server is ours.
    pub(crate) sshd_up: bool,
    /// How long a command tries to reach a controller that is down.
    pub(crate) controller_wait: Duration,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            queue_delay: Duration::from_millis(100),
            kill_mode: KillMode::Cgroup,
            kill_wait: Duration::from_secs(5),
            requeue_delay: Duration::from_secs(120),
            min_job_age: Duration::from_secs(300),
            node_timeout: Duration::from_secs(30),
            minute: Duration::from_secs(60),
            limit_lateness: Duration::ZERO,
            controller_up: true,
            sshd_up: true,
            controller_wait: Duration::from_millis(200),
        }
    }
}

/// What is known of a node from its heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// Silent, but not long enough to give up on it (`idle*`).
    Silent,
    /// Given up (`down*`).
    Down,
    /// Never heard of (`unk`).
    Unknown,
}

/// What jobs hold of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) cpus: u32,
    pub(crate) memory_mb: u64,
}

/// What jobs hold of every node by name.
pub(crate) type Usage<'a> = BTreeMap<&'a str, Used>;

/// The health of every node by name.
pub(crate) type Healths = BTreeMap<String, Health>;

impl Health {
    pub(crate) fn from_heartbeat(last: Option<Time>, now: Time, timeout: Duration) -> Self {
        match last.map(|last| now.since(last)) {
            None => Self::Unknown,
            Some(age) if age < timeout / 3 => Self::Well,
            Some(age) if age < timeout => Self::Silent,
            Some(_) => Self::Down,
        }
    }
}

/// Everything there is to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    /// The host that the controller claims to run on.
    pub(crate) login: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) partitions: Vec<Partition>,
    /// The accounts of an embedded cluster; a cluster without any uses those of the system.
    pub(crate) virtual_users: Vec<Account>,
    pub(crate) knobs: Knobs,
    pub(crate) next_id: u32,
    pub(crate) jobs: BTreeMap<u32, Job>,
}

impl Cluster {
    /// The recorded cluster's shape: `compute` on every node, `debug` on the first.
    pub(crate) fn new(nodes: Vec<Node>, virtual_users: Vec<Account>, knobs: Knobs) -> Self {
        let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        let partition =
            |name: &str, default, nodes: &[String], max_minutes, default_minutes| Partition {
                name: name.into(),
                default,
                nodes: nodes.to_vec(),
                max_minutes,
                default_minutes,
            };
        Self {
            name: "sim".into(),
            login: "login".into(),
            partitions: vec![
                partition("compute", true, &names, 24 * 60, 60),
                partition("debug", false, &names[..names.len().min(1)], 30, 30),
            ],
            nodes,
            virtual_users,
            knobs,
            next_id: 1,
            jobs: BTreeMap::new(),
        }
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    pub(crate) fn partition(&self, name: &str) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.name == name)
    }

    pub(crate) fn default_partition(&self) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.default)
    }

    /// What jobs hold of every node now; a node that is not in it is free.
    pub(crate) fn usage(&self) -> Usage<'_> {
        let mut usage = Usage::new();
        let sizes: BTreeMap<&str, u32> = self
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node.cpus))
            .collect();
        for job in self.jobs.values().filter(|job| job.occupies()) {
            for node in &job.nodes {
                let used = usage.entry(node).or_default();
                used.cpus += match sizes.get(node.as_str()) {
                    Some(all) if job.request.exclusive => *all,
                    _ => job.request.cpus_per_node(),
                };
                used.memory_mb += job.request.memory_mb_per_node();
            }
        }
        usage
    }

    /// Processors that a job holds of a node of its.
    pub(crate) fn cpus_held(&self, job: &Job, node: &str) -> u32 {
        match self.node(node) {
            Some(node) if job.request.exclusive => node.cpus,
            _ => job.request.cpus_per_node(),
        }
    }

    /// Processors and megabytes of a node that jobs hold now.
    pub(crate) fn occupied(&self, node: &str) -> (u32, u64) {
        let used = self.usage().get(node).copied().unwrap_or_default();
        (used.cpus, used.memory_mb)
    }

    /// The jobs that an id on a command line means: one job, or every task of an array.
    pub(crate) fn jobs_of(&self, id: u32) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| match &job.array {
            Some(array) if array.job == id => true,
            _ => job.id == id,
        })
    }

    pub(crate) fn take_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}
