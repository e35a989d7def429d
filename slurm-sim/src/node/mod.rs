//! A node's daemon: says that the node lives, moves the cluster on, and runs the jobs that are
//! given to the node, each by a `stepd` of its own. Any node may do the controller's work; the
//! spool's lock makes it one at a time.

mod orders;
mod runs;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;

use self::orders::Orders;
use self::runs::{Run, Runs};
use crate::clock::Time;
use crate::cluster::{Cluster, Health};
use crate::job::{Exit, Outcome};
use crate::schedule;
use crate::spool::{Edition, Spool, SpoolError};
use crate::stepd::{Assignment, EndReason, Order};

/// How soon a node notices what others did.
const POLL: Duration = Duration::from_millis(20);

/// The longest time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often files of forgotten jobs are dropped.
const SWEEP: Duration = Duration::from_secs(10);

/// How long to wait for jobs to be gone when the node stops.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// Runs the daemon until it is asked to stop; then its jobs are ended.
pub(crate) fn run(spool: Spool, name: &str, stop: &Receiver<()>) -> anyhow::Result<()> {
    let cluster = spool.read().context("cannot read the cluster")?;
    cluster
        .node(name)
        .with_context(|| format!("`{name}` is not a node of this cluster"))?;
    // What ran here before has died with the daemon that ran it.
    spool
        .update(|cluster| lose_jobs_of(cluster, name))
        .context("cannot give up old jobs")?;
    let runs = Runs::new(spool.clone());
    let mut daemon = Daemon {
        spool,
        name: name.to_owned(),
        runs,
        seen: None,
    };
    let (mut beaten, mut swept) = (None::<Instant>, Instant::now());
    loop {
        if beaten.is_none_or(|at| at.elapsed() >= daemon.heartbeat()) {
            daemon.spool.beat(name).unwrap_or_else(warn);
            beaten = Some(Instant::now());
        }
        daemon.step().unwrap_or_else(warn);
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            if let Some((_, cluster)) = &daemon.seen {
                daemon.spool.sweep(cluster);
            }
        }
        match stop.recv_timeout(POLL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    daemon.runs.stop(STOP_DEADLINE);
    Ok(())
}

fn warn(error: SpoolError) {
    tracing::warn!(?error, "cannot use the spool");
}

fn lose_jobs_of(cluster: &mut Cluster, node: &str) {
    let (now, delay) = (Time::now(), cluster.knobs.requeue_delay);
    for job in cluster
        .jobs
        .values_mut()
        .filter(|job| job.batch_host() == Some(node))
    {
        job.finish(Outcome::NodeLost, now, delay);
    }
}

struct Daemon {
    spool: Spool,
    name: String,
    runs: Runs,
    /// The latest edition of the state, while nothing has made it stale.
    seen: Option<(Edition, Cluster)>,
}

impl Daemon {
    /// The time between two heartbeats.
    fn heartbeat(&self) -> Duration {
        let timeout = self
            .seen
            .as_ref()
            .map(|(_, cluster)| cluster.knobs.node_timeout);
        timeout.map_or(HEARTBEAT, |timeout| HEARTBEAT.min(timeout / 10))
    }

    /// Looks at the state once and does what it asks of this node.
    fn step(&mut self) -> Result<(), SpoolError> {
        let edition = self.spool.edition();
        if edition.is_none() || self.seen.as_ref().map(|(edition, _)| *edition) != edition {
            let cluster = self.spool.read()?;
            self.seen = edition.map(|edition| (edition, cluster));
        }
        let Some((_, cluster)) = &mut self.seen else {
            return Ok(());
        };
        let now = Time::now();
        let mut health = self.spool.health(cluster, now);
        // Whoever can look is well, however long it was kept from its heartbeat.
        health.insert(self.name.clone(), Health::Well);
        if schedule::tick(cluster, &health, now) {
            // There is something to do: now for good, on the state as it is under the lock.
            self.seen = None;
            let current = self.spool.update(|cluster| {
                schedule::tick(cluster, &health, now);
                cluster.clone()
            })?;
            return self.follow(&current);
        }
        let (edition, cluster) = self.seen.take().expect("it was there above");
        let followed = self.follow(&cluster);
        self.seen = Some((edition, cluster));
        followed
    }

    fn follow(&mut self, cluster: &Cluster) -> Result<(), SpoolError> {
        let orders = Orders::for_node(cluster, &self.name);
        for run in self.runs.active() {
            match orders.runs.get(&run) {
                Some(None) => {}
                Some(Some(reason)) => self.runs.end(run, *reason),
                // The controller has given this node up, and the job with it.
                None => self.runs.end(run, EndReason::NodeFailure),
            }
        }
        for (run, job) in &orders.assignments {
            if !self.runs.knows(*run) {
                let assignment = Assignment::new(cluster, job, &self.name, &self.spool);
                self.runs.start(*run, &assignment);
            }
        }
        let unborn = |(run, end): (&Run, &Option<EndReason>)| {
            (end.is_some() && !self.runs.knows(*run)).then_some(*run)
        };
        let unborn: Vec<Run> = orders.runs.iter().filter_map(unborn).collect();
        if !unborn.is_empty() || orders.knocks {
            self.settle(&unborn)?;
        }
        Ok(())
    }

    /// Ends the records of runs that were cancelled before they began, and passes signals on.
    fn settle(&mut self, unborn: &[Run]) -> Result<(), SpoolError> {
        let terminated = Outcome::Exited(Exit {
            code: 0,
            signal: nix::libc::SIGTERM,
        });
        let (mut knocks, mut steps) = (Vec::new(), Vec::new());
        self.spool.update(|cluster| {
            let (now, delay) = (Time::now(), cluster.knobs.requeue_delay);
            let mine = |job: &&mut crate::job::Job| job.batch_host() == Some(&self.name);
            for job in cluster.jobs.values_mut().filter(mine) {
                let run = (job.id, job.restarts);
                knocks.extend(job.knocks.drain(..).map(|knock| (run, knock)));
                steps.extend(job.waiting_steps.drain(..).map(|step| (run, step)));
                if unborn.contains(&run) {
                    job.finish(terminated, now, delay);
                }
            }
        })?;
        for (run, knock) in knocks {
            self.runs.order(run, Order::Knock(knock));
        }
        for (run, step) in steps {
            self.runs.order(run, Order::Step(step));
        }
        Ok(())
    }
}
