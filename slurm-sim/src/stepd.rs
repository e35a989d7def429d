//! One job on its node: starts the batch script, passes signals on as the kill mode says, sees to
//! it that nothing is left, and reports. A process of its own, and a child subreaper, so that its
//! descendants are exactly the job's. It talks to its node by lines: an [`Assignment`] and then
//! [`Order`]s come in, one [`Outcome`] goes out. When the input ends, so does the job: nobody is
//! there any more to answer for it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid};
use serde::{Deserialize, Serialize};

use crate::account::OsIds;
use crate::clock::Time;
use crate::cluster::{Cluster, KillMode};
use crate::job::{Exit, Job, Knock, Outcome, Target};
use crate::spool::Spool;
use crate::step::Launch;
use crate::{environment, output, processes, task};

/// How often to look for children that have ended.
const POLL: Duration = Duration::from_millis(10);

/// How often to look whether the last daemon of a job that is over has gone.
const CARETAKER_POLL: Duration = Duration::from_millis(200);

/// SIGKILL needs no longer, unless a process hangs in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What to run, and how.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) job: Job,
    pub(crate) node: String,
    pub(crate) spool: PathBuf,
    pub(crate) kill_mode: KillMode,
    pub(crate) kill_wait: Duration,
    pub(crate) variables: Vec<(String, String)>,
}

impl Assignment {
    pub(crate) fn new(cluster: &Cluster, job: &Job, node: &str, spool: &Spool) -> Self {
        Self {
            job: job.clone(),
            node: node.into(),
            spool: spool.root().into(),
            kill_mode: cluster.knobs.kill_mode,
            kill_wait: cluster.knobs.kill_wait,
            variables: environment::slurm_variables(cluster, job, node),
        }
    }
}

/// What a node tells a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    End(EndReason),
    Knock(Knock),
    /// Start a step, which the spool describes.
    Step(u32),
}

/// Why a job is ended; its output says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EndReason {
    Cancelled,
    TimeLimit,
    Requeue,
    NodeFailure,
}

impl EndReason {
    fn suffix(self) -> &'static str {
        match self {
            Self::Cancelled => "",
            Self::TimeLimit => " DUE TO TIME LIMIT",
            Self::Requeue => " DUE TO JOB REQUEUE",
            Self::NodeFailure => " DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS",
        }
    }
}

/// Runs the job that standard input assigns.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .context("cannot read the assignment")?;
    let assignment: Assignment = serde_json::from_str(&line).context("not an assignment")?;
    // A mask is inherited, whoever in our ancestry set it.
    SigSet::empty()
        .thread_set_mask()
        .context("cannot unblock signals")?;
    // Away from any terminal, whose Ctrl-C is not meant for jobs.
    nix::unistd::setsid().context("cannot start a session")?;
    nix::sys::prctl::set_child_subreaper(true).context("cannot become a subreaper")?;

    let launched = Running::launch(&assignment);
    // Only now: what came before changes ids, which is simpler with one thread.
    let orders = orders();
    let outcome = match launched {
        Ok(running) => running.see_to_its_end(&orders),
        Err(_) => Some(Outcome::LaunchFailed),
    };
    // Without an outcome the node is gone, and everything has been killed.
    let Some(outcome) = outcome else {
        return Ok(());
    };
    Spool::at(&assignment.spool).remove_script(&assignment.node, assignment.job.id);
    let mut report = serde_json::to_vec(&outcome)?;
    report.push(b'\n');
    io::stdout().write_all(&report)?;
    io::stdout().flush()?;
    if assignment.kill_mode == KillMode::Linuxproc {
        take_care_of_survivors(&orders);
    }
    Ok(())
}

/// Reads orders on a thread, so that they can be waited for with a timeout.
fn orders() -> Receiver<Order> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { return };
            let Ok(order) = serde_json::from_str(&line) else {
                continue;
            };
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Daemons may outlive their job (linuxproc), but not the cluster.
fn take_care_of_survivors(orders: &Receiver<Order>) {
    while !processes::descendants_of(Pid::this()).is_empty() {
        if orders.recv_timeout(CARETAKER_POLL) == Err(RecvTimeoutError::Disconnected) {
            processes::kill_descendants(KILL_DEADLINE);
            return;
        }
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {
        }
    }
}

/// A batch script on its way.
struct Running<'a> {
    assignment: &'a Assignment,
    batch: Pid,
    steps: Vec<Pid>,
    /// Whom SIGKILL was sent.
    killed: HashSet<Pid>,
    /// The job's standard error, for remarks.
    log: File,
}

impl<'a> Running<'a> {
    fn launch(assignment: &'a Assignment) -> anyhow::Result<Self> {
        let job = &assignment.job;
        let spool = Spool::at(&assignment.spool);
        let script = spool
            .load_script(job.id)
            .context("cannot read the script")?;
        let mut variables = spool
            .load_environment(job.id)
            .context("cannot read the environment")?;
        variables.extend(
            assignment
                .variables
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        let ids = (Uid::effective().is_root() && job.os.uid != 0).then_some(&job.os);
        let owner = ids.map(|ids| (ids.uid, ids.gid));
        let script = spool.install_script(&assignment.node, job.id, &script, owner)?;

        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(job.request.umask));
        let Files {
            stdin,
            stdout,
            stderr,
        } = as_user(ids, || Files::open(job))??;
        let log = stderr.try_clone()?;
        let child = Command::new("/proc/self/exe")
            .arg0("slurmstepd")
            .args(task::Args::spell(
                ids,
                &assignment.node,
                &script,
                &job.request.script_args,
            ))
            .env_clear()
            .envs(variables)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()?;
        let batch = Pid::from_raw(child.id().try_into().context("a pid fits")?);
        Ok(Self {
            assignment,
            batch,
            steps: vec![],
            killed: HashSet::new(),
            log,
        })
    }

    /// Waits for the batch script, following orders. `None` if the node went away.
    fn see_to_its_end(mut self, orders: &Receiver<Order>) -> Option<Outcome> {
        let mut kill_at: Option<Instant> = None;
        let exit = loop {
            if let Some(exit) = self.reap() {
                break exit;
            }
            if kill_at.is_some_and(|at| Instant::now() >= at) {
                self.kill();
            }
            match orders.recv_timeout(POLL) {
                Ok(Order::End(reason)) => {
                    self.remark(reason);
                    self.signal(Signal::SIGCONT);
                    self.signal(Signal::SIGTERM);
                    for step in &self.steps {
                        let _ = kill(*step, Signal::SIGTERM);
                    }
                    kill_at = Some(Instant::now() + self.assignment.kill_wait);
                }
                Ok(Order::Knock(knock)) => self.knock(knock),
                Ok(Order::Step(step)) => {
                    // `srun` sees that nobody connects, and that is all it can see.
                    let _ = self.start_step(step);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    processes::kill_descendants(KILL_DEADLINE);
                    return None;
                }
            }
        };
        // Whoever was told to end has until then, whatever became of the batch script.
        while !self.steps.is_empty() && kill_at.is_some_and(|at| Instant::now() < at) {
            thread::sleep(POLL);
            self.reap();
        }
        self.kill_steps();
        self.see_the_killed_off();
        if self.assignment.kill_mode == KillMode::Cgroup {
            processes::kill_descendants(KILL_DEADLINE);
        }
        Some(Outcome::Exited(exit))
    }

    /// Takes in whatever has ended; the batch script's exit if that has.
    fn reap(&mut self) -> Option<Exit> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.batch => {
                    return Some(Exit { code, signal: 0 });
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.batch => {
                    return Some(Exit {
                        code: 0,
                        signal: signal as i32,
                    });
                }
                Ok(status) if status.pid().is_some() => {
                    self.steps.retain(|step| Some(*step) != status.pid());
                }
                _ => return None,
            }
        }
    }

    fn start_step(&mut self, step: u32) -> anyhow::Result<()> {
        let Assignment {
            job, node, spool, ..
        } = self.assignment;
        let ids = (Uid::effective().is_root() && job.os.uid != 0).then(|| job.os.clone());
        let launch = Launch {
            request: Spool::at(spool).take_step(job.id, step, job.os.uid)?,
            ids,
            node: node.clone(),
            job: job.id,
            step,
            kill_wait: self.assignment.kill_wait,
        };
        let mut child = Command::new("/proc/self/exe")
            .arg0("slurmstepd")
            .arg("step")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        self.steps
            .push(Pid::from_raw(child.id().try_into().context("a pid fits")?));
        let stdin = child.stdin.take().context("piped")?;
        Ok(serde_json::to_writer(stdin, &launch)?)
    }

    /// No step outlives its job, whatever the kill mode.
    fn kill_steps(&self) {
        for step in &self.steps {
            for pid in processes::descendants_of(*step) {
                let _ = kill(pid, Signal::SIGKILL);
            }
            let _ = kill(*step, Signal::SIGKILL);
        }
    }

    /// The processes that the kill mode lets a signal reach: in a cgroup job the batch process
    /// alone; else also its descendants, but not daemons, which have lost their kinship.
    fn reached(&self) -> Vec<Pid> {
        let mut pids = vec![self.batch];
        if self.assignment.kill_mode == KillMode::Linuxproc {
            pids.extend(processes::descendants_of(self.batch));
        }
        pids
    }

    fn signal(&self, signal: Signal) {
        for pid in self.reached() {
            let _ = kill(pid, signal);
        }
    }

    fn kill(&mut self) {
        self.killed.extend(self.reached());
        self.signal(Signal::SIGKILL);
        if self.assignment.kill_mode == KillMode::Cgroup {
            for pid in processes::descendants_of(Pid::this()) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }

    /// A job is over when those are gone that had to go with it.
    fn see_the_killed_off(&mut self) {
        let start = Instant::now();
        while start.elapsed() < KILL_DEADLINE {
            self.reap();
            let left = processes::descendants_of(Pid::this());
            if !left.iter().any(|pid| self.killed.contains(pid)) {
                return;
            }
            thread::sleep(POLL);
        }
    }

    fn knock(&self, knock: Knock) {
        let Ok(signal) = Signal::try_from(knock.signal) else {
            return;
        };
        let _ = match knock.target {
            Target::Batch => kill(self.batch, signal),
            Target::Group => killpg(self.batch, signal),
            Target::Steps => {
                for step in &self.steps {
                    for pid in processes::descendants_of(*step) {
                        let _ = kill(pid, signal);
                    }
                }
                Ok(())
            }
        };
    }

    fn remark(&mut self, reason: EndReason) {
        let line = format!(
            "slurmstepd-{node}: error: *** JOB {id} ON {node} CANCELLED AT {now}{why} ***\n",
            node = self.assignment.node,
            id = self.assignment.job.id,
            now = Time::now(),
            why = reason.suffix(),
        );
        // The job's disk may be full; that is no reason not to end it.
        let _ = self.log.write_all(line.as_bytes());
    }
}

/// A job's standard streams.
struct Files {
    stdin: File,
    stdout: File,
    stderr: File,
}

impl Files {
    /// Opens them as the job's user would, from its working directory.
    fn open(job: &Job) -> io::Result<Self> {
        std::env::set_current_dir(&job.request.work_dir)?;
        let create = |path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|file| {
                    if job.request.append_output {
                        Ok(file)
                    } else {
                        file.set_len(0).map(|()| file)
                    }
                })
        };
        let stdin = File::open(output::stdin_path(job))?;
        let stdout = create(output::stdout_path(job))?;
        let stderr = match output::stderr_path(job) {
            Some(path) if path != output::stdout_path(job) => create(path)?,
            _ => stdout.try_clone()?,
        };
        Ok(Self {
            stdin,
            stdout,
            stderr,
        })
    }
}

/// Does something with the rights of the job's user, then takes root's back.
fn as_user<T>(ids: Option<&OsIds>, work: impl FnOnce() -> T) -> anyhow::Result<T> {
    let Some(ids) = ids else {
        return Ok(work());
    };
    let own = nix::unistd::getgroups()?;
    let groups: Vec<Gid> = ids.groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups)?;
    nix::unistd::setegid(Gid::from_raw(ids.gid))?;
    nix::unistd::seteuid(Uid::from_raw(ids.uid))?;
    let result = work();
    nix::unistd::seteuid(Uid::from_raw(0))?;
    nix::unistd::setegid(Gid::from_raw(0))?;
    nix::unistd::setgroups(&own)?;
    Ok(result)
}
