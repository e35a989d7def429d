//! The runs of one node: each a `stepd` process, and a thread that waits for its report.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::clock::Time;
use crate::cluster::Cluster;
use crate::job::Outcome;
use crate::spool::Spool;
use crate::stepd::{Assignment, EndReason, Order};

/// How often to look whether the controller takes reports, and whether threads have ended.
const POLL: Duration = Duration::from_millis(20);

/// One run of a job, by the job's id and how often it was restarted: a requeued job is the same
/// job, but another run.
pub(super) type Run = (u32, u32);

/// Starts runs, tells them what to do, and has their ends reported to the spool.
pub(super) struct Runs {
    spool: Spool,
    table: Arc<Mutex<Table>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Table {
    active: BTreeMap<Run, Active>,
    /// Runs that have ended: an old edition of the state may still show them under way.
    done: BTreeSet<Run>,
}

/// A run that is under way, or whose stepd lingers for the daemons that the job has left.
struct Active {
    orders: ChildStdin,
    ending: bool,
}

impl Active {
    fn order(&mut self, order: Order) {
        let mut line = serde_json::to_vec(&order).expect("plain values");
        line.push(b'\n');
        // A stepd that has just ended needs no orders.
        let _ = self.orders.write_all(&line);
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runs {
    pub(super) fn new(spool: Spool) -> Self {
        Self {
            spool,
            table: Arc::default(),
            threads: vec![],
        }
    }

    /// Whether a run has been started here, ended or not.
    pub(super) fn knows(&self, run: Run) -> bool {
        let table = lock(&self.table);
        table.active.contains_key(&run) || table.done.contains(&run)
    }

    pub(super) fn active(&self) -> Vec<Run> {
        lock(&self.table).active.keys().copied().collect()
    }

    pub(super) fn start(&mut self, run: Run, assignment: &Assignment) {
        let watcher = Watcher {
            run,
            spool: self.spool.clone(),
            table: Arc::clone(&self.table),
        };
        match launch(assignment) {
            Ok((stepd, orders)) => {
                lock(&self.table).active.insert(
                    run,
                    Active {
                        orders,
                        ending: false,
                    },
                );
                self.threads
                    .push(thread::spawn(move || watcher.watch(stepd)));
            }
            Err(error) => {
                tracing::error!(
                    job = run.0,
                    error = format!("{error:#}"),
                    "cannot start a job"
                );
                self.threads
                    .push(thread::spawn(move || watcher.report(Outcome::LaunchFailed)));
            }
        }
    }

    /// Ends a run; saying it again changes nothing.
    pub(super) fn end(&self, run: Run, reason: EndReason) {
        if let Some(active) = lock(&self.table).active.get_mut(&run)
            && !std::mem::replace(&mut active.ending, true)
        {
            active.order(Order::End(reason));
        }
    }

    pub(super) fn order(&self, run: Run, order: Order) {
        if let Some(active) = lock(&self.table).active.get_mut(&run) {
            active.order(order);
        }
    }

    /// Ends every job: without their lifeline the stepds see to that.
    pub(super) fn stop(self, within: Duration) {
        lock(&self.table).active.clear();
        let deadline = Instant::now() + within;
        while self.threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
    }
}

fn launch(assignment: &Assignment) -> anyhow::Result<(Child, ChildStdin)> {
    let mut stepd = Command::new("/proc/self/exe")
        .arg0("slurmstepd")
        .arg("stepd")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start stepd")?;
    let mut orders = stepd.stdin.take().expect("piped");
    let mut line = serde_json::to_vec(assignment)?;
    line.push(b'\n');
    orders
        .write_all(&line)
        .context("cannot hand over the assignment")?;
    Ok((stepd, orders))
}

/// Waits for one stepd's report.
struct Watcher {
    run: Run,
    spool: Spool,
    table: Arc<Mutex<Table>>,
}

impl Watcher {
    fn watch(self, mut stepd: Child) {
        let stdout = stepd.stdout.take().expect("piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        let outcome = read
            .ok()
            .and_then(|_| serde_json::from_str::<Outcome>(&line).ok());
        let stopping = !lock(&self.table).active.contains_key(&self.run);
        match outcome {
            Some(outcome) => self.report(outcome),
            // It ended with the node, whose next daemon will say so.
            None if stopping => {}
            None => self.report(Outcome::NodeLost),
        }
        // It may linger, and ends at the latest when it is let go.
        let _ = stepd.wait();
        lock(&self.table).active.remove(&self.run);
    }

    /// Tells the controller, however long that takes to be up.
    fn report(&self, outcome: Outcome) {
        let (id, restarts) = self.run;
        let report = |cluster: &mut Cluster| {
            let (now, delay) = (Time::now(), cluster.knobs.requeue_delay);
            if !cluster.knobs.controller_up {
                return false;
            }
            if let Some(job) = cluster
                .jobs
                .get_mut(&id)
                .filter(|job| job.restarts == restarts)
            {
                job.finish(outcome, now, delay);
            }
            true
        };
        lock(&self.table).done.insert(self.run);
        loop {
            match self.spool.update(report) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(?error, "cannot report a job"),
            }
            thread::sleep(POLL);
        }
    }
}
