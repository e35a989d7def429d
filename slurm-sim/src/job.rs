//! A job's record and the steps of its life. Pure: every step is told the time.
//! What a job may start on is `schedule`'s business; running it is `stepd`'s.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::{Account, OsIds};
use crate::clock::Time;
use crate::cluster::DEFAULT_MEMORY_MB_PER_CPU;
use crate::dependency::Dependency;
use crate::units::Limit;

/// What a job is doing, apart from whether it is still being ended (`Job::completing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum State {
    Pending,
    Running,
    Completed,
    Cancelled,
    Failed,
    Timeout,
    NodeFail,
}

impl State {
    pub(crate) const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Completed,
        Self::Cancelled,
        Self::Failed,
        Self::Timeout,
        Self::NodeFail,
    ];

    /// The long and the short name.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Pending => ("PENDING", "PD"),
            Self::Running => ("RUNNING", "R"),
            Self::Completed => ("COMPLETED", "CD"),
            Self::Cancelled => ("CANCELLED", "CA"),
            Self::Failed => ("FAILED", "F"),
            Self::Timeout => ("TIMEOUT", "TO"),
            Self::NodeFail => ("NODE_FAIL", "NF"),
        }
    }
}

/// Why a job waits, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    None,
    Resources,
    Priority,
    PartitionTimeLimit,
    PartitionConfig,
    PartitionNodeLimit,
    JobHeldUser,
    BeginTime,
    /// `scontrol requeuehold`.
    RequeuedInHeldState,
    /// Nodes that were asked for by name are out of service, or busy with those ahead.
    ReqNodeNotAvail,
    Dependency,
    DependencyNeverSatisfied,
    JobArrayTaskLimit,
    BadConstraints,
    NonZeroExitCode,
    JobLaunchFailure,
    TimeLimit,
    NodeDown,
}

/// Spelled as in squeue's `%r`, which is how most variants are named.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequeuedInHeldState => f.write_str("job requeued in held state"),
            _ => fmt::Debug::fmt(self, f),
        }
    }
}

/// How a batch process ended: its exit code, and the signal that killed it or zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) signal: i32,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.code, self.signal)
    }
}

/// What a node found out about a job that it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Exited(Exit),
    /// The working directory or the output file could not be had.
    LaunchFailed,
    /// The node, or what ran the job there, is gone.
    NodeLost,
}

/// Memory, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemoryMb {
    PerCpu(u64),
    PerNode(u64),
}

/// A task's place in its job array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArrayTask {
    /// The id that the whole array is known by.
    pub(crate) job: u32,
    pub(crate) task: u32,
    pub(crate) count: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) step: u32,
    /// How many tasks may run at once (`%4`).
    pub(crate) at_once: Option<u32>,
}

/// `--signal=[B:]SIG[@secs]`: a warning before the time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Warning {
    pub(crate) signal: i32,
    /// To the batch shell; without it only job steps are warned, and a batch-only job has none.
    pub(crate) batch: bool,
    pub(crate) before_secs: u64,
}

/// A signal on its way to a running job (`scancel --signal`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Knock {
    pub(crate) signal: i32,
    pub(crate) target: Target,
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Target {
    /// The batch shell alone.
    Batch,
    /// The batch shell's whole process group.
    Group,
    /// Steps, of which a batch script is none.
    Steps,
}

/// What was asked for at submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) partition: String,
    pub(crate) limit_minutes: Limit,
    pub(crate) node_count: u32,
    pub(crate) tasks: Option<u32>,
    pub(crate) cpus_per_task: Option<u32>,
    pub(crate) memory: MemoryMb,
    pub(crate) nodelist: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) dependency: Vec<Dependency>,
    pub(crate) account: Option<String>,
    pub(crate) qos: Option<String>,
    pub(crate) comment: Option<String>,
    /// Whole nodes, which nobody else gets a part of.
    pub(crate) exclusive: bool,
    /// The job ends where its dependency can never be satisfied.
    pub(crate) ends_if_never: bool,
    /// The most nodes, where that was said.
    pub(crate) most_nodes: Option<String>,
    pub(crate) requeue: bool,
    pub(crate) append_output: bool,
    pub(crate) warning: Option<Warning>,
    pub(crate) stdout: Option<String>,
    pub(crate) stderr: Option<String>,
    pub(crate) stdin: Option<String>,
    pub(crate) work_dir: PathBuf,
    pub(crate) submit_dir: PathBuf,
    pub(crate) command: Option<String>,
    pub(crate) script_args: Vec<String>,
    pub(crate) umask: u32,
}

impl Request {
    pub(crate) fn task_count(&self) -> u32 {
        self.tasks.unwrap_or(self.node_count)
    }

    pub(crate) fn cpus(&self) -> u32 {
        self.task_count()
            .saturating_mul(self.cpus_per_task.unwrap_or(1))
    }

    pub(crate) fn tasks_per_node(&self) -> u32 {
        self.task_count().div_ceil(self.node_count.max(1))
    }

    pub(crate) fn cpus_per_node(&self) -> u32 {
        self.tasks_per_node()
            .saturating_mul(self.cpus_per_task.unwrap_or(1))
    }

    pub(crate) fn memory_mb_per_node(&self) -> u64 {
        match self.memory {
            MemoryMb::PerNode(mb) => mb,
            MemoryMb::PerCpu(mb) => mb.saturating_mul(self.cpus_per_node().into()),
        }
    }
}

/// One job, or one task of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: u32,
    pub(crate) array: Option<ArrayTask>,
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) os: OsIds,
    pub(crate) request: Request,
    pub(crate) submit_host: String,
    pub(crate) submit_session: i32,
    pub(crate) submitted: Time,
    /// Not to be started before.
    pub(crate) eligible: Time,
    pub(crate) started: Option<Time>,
    pub(crate) ended: Option<Time>,
    pub(crate) state: State,
    /// `state` is decided, but the node is still ending the job's processes.
    pub(crate) completing: bool,
    pub(crate) reason: Reason,
    pub(crate) exit: Exit,
    pub(crate) held: bool,
    pub(crate) nodes: Vec<String>,
    pub(crate) restarts: u32,
    pub(crate) knocks: Vec<Knock>,
    /// How many steps it has had.
    pub(crate) steps: u32,
    /// Steps that its node has still to start.
    pub(crate) waiting_steps: Vec<u32>,
    /// The warning of `--signal` has been sent in this run.
    pub(crate) warned: bool,
}

impl Request {
    /// That of a script without options, submitted in `directory`.
    pub(crate) fn plain(partition: &str, minutes: u32, directory: &Path) -> Self {
        Self {
            partition: partition.into(),
            limit_minutes: Some(minutes.into()),
            node_count: 1,
            tasks: None,
            cpus_per_task: None,
            memory: MemoryMb::PerCpu(DEFAULT_MEMORY_MB_PER_CPU),
            nodelist: vec![],
            exclude: vec![],
            dependency: vec![],
            account: None,
            qos: None,
            comment: None,
            exclusive: false,
            ends_if_never: false,
            most_nodes: None,
            requeue: true,
            append_output: false,
            warning: None,
            stdout: None,
            stderr: None,
            stdin: None,
            work_dir: directory.to_owned(),
            submit_dir: directory.to_owned(),
            command: None,
            script_args: vec![],
            umask: 0o22,
        }
    }
}

impl Job {
    /// One that waits, as it is when it was submitted on the login node.
    pub(crate) fn pending(
        id: u32,
        name: String,
        account: Account,
        os: OsIds,
        request: Request,
        submitted: Time,
    ) -> Self {
        Self {
            id,
            array: None,
            name,
            user: account.name,
            uid: account.uid,
            gid: account.gid,
            os,
            request,
            submit_host: "login".into(),
            submit_session: 1,
            submitted,
            eligible: submitted,
            started: None,
            ended: None,
            state: State::Pending,
            completing: false,
            reason: Reason::None,
            exit: Exit::default(),
            held: false,
            nodes: vec![],
            restarts: 0,
            knocks: vec![],
            steps: 0,
            waiting_steps: vec![],
            warned: false,
        }
    }

    /// Where it stands among all jobs, the tasks of an array in their order.
    pub(crate) fn place(&self) -> (u32, u32) {
        let array = self.array.as_ref();
        array.map_or((self.id, 0), |array| (array.job, array.task))
    }

    /// The node that runs the batch script.
    pub(crate) fn batch_host(&self) -> Option<&str> {
        self.nodes.first().map(String::as_str)
    }

    /// Whether it holds processors and memory of its nodes.
    pub(crate) fn occupies(&self) -> bool {
        self.completing || self.state == State::Running
    }

    /// Over and done with; only its record is left.
    pub(crate) fn is_finished(&self) -> bool {
        !self.completing && !matches!(self.state, State::Pending | State::Running)
    }

    /// The long and the short name of what listings show as its state.
    pub(crate) fn state_names(&self) -> (&'static str, &'static str) {
        if self.completing {
            ("COMPLETING", "CG")
        } else {
            self.state.names()
        }
    }

    /// Falls with every submission, as with Slurm's basic priority plugin.
    pub(crate) fn priority(&self) -> u32 {
        if self.held {
            0
        } else {
            4_294_901_760 - self.id
        }
    }

    /// When its time limit is over, if it runs and has one. `minute` is how long a minute of the
    /// limit really takes.
    pub(crate) fn deadline(&self, minute: Duration) -> Option<Time> {
        let minutes = u32::try_from(self.request.limit_minutes?).unwrap_or(u32::MAX);
        Some(self.started? + minute.saturating_mul(minutes))
    }

    pub(crate) fn start(&mut self, nodes: Vec<String>, now: Time) {
        self.nodes = nodes;
        self.started = Some(now);
        self.ended = None;
        self.state = State::Running;
        self.reason = Reason::None;
        self.warned = false;
        self.knocks.clear();
        self.waiting_steps.clear();
    }

    pub(crate) fn cancel(&mut self, now: Time) {
        match self.state {
            // A requeued job that is still being ended must not come back.
            State::Pending if self.completing => self.state = State::Cancelled,
            State::Pending => {
                self.state = State::Cancelled;
                self.ended = Some(now);
            }
            State::Running => self.wind_up(State::Cancelled, Reason::None, now),
            _ => {}
        }
    }

    pub(crate) fn time_out(&mut self, now: Time) {
        if self.state == State::Running {
            self.wind_up(State::Timeout, Reason::TimeLimit, now);
        }
    }

    /// Sends a job back to the queue, one that runs or one that is over.
    pub(crate) fn requeue(&mut self, now: Time, delay: Duration) {
        if self.state == State::Running {
            self.wind_up(State::Pending, Reason::None, now);
        } else if self.is_finished() {
            self.back_to_the_queue(now, delay);
        }
    }

    fn wind_up(&mut self, state: State, reason: Reason, now: Time) {
        self.state = state;
        self.reason = reason;
        self.completing = true;
        self.ended = Some(now);
    }

    /// The node has nothing of this run left.
    pub(crate) fn finish(&mut self, outcome: Outcome, now: Time, requeue_delay: Duration) {
        if !self.occupies() {
            return;
        }
        match outcome {
            Outcome::Exited(exit) => self.exit = exit,
            // Recorded so: it is no signal.
            Outcome::LaunchFailed => {
                self.exit = Exit {
                    code: 0,
                    signal: 53,
                }
            }
            Outcome::NodeLost => {}
        }
        let lost = outcome == Outcome::NodeLost;
        match self.state {
            State::Pending => return self.back_to_the_queue(now, requeue_delay),
            State::Running if lost && self.request.requeue => {
                return self.back_to_the_queue(now, requeue_delay);
            }
            State::Running => {
                (self.state, self.reason) = match outcome {
                    Outcome::NodeLost => {
                        // Recorded: whatever became of its processes.
                        self.exit = Exit {
                            code: 0,
                            signal: nix::libc::SIGTERM,
                        };
                        (State::NodeFail, Reason::NodeDown)
                    }
                    Outcome::LaunchFailed => (State::Failed, Reason::JobLaunchFailure),
                    Outcome::Exited(Exit { code: 0, signal: 0 }) => {
                        (State::Completed, Reason::None)
                    }
                    Outcome::Exited(Exit { signal: 0, .. }) => {
                        (State::Failed, Reason::NonZeroExitCode)
                    }
                    Outcome::Exited(_) => (State::Failed, Reason::JobLaunchFailure),
                };
            }
            _ => {}
        }
        self.completing = false;
        self.ended = Some(now);
    }

    fn back_to_the_queue(&mut self, now: Time, delay: Duration) {
        self.state = State::Pending;
        self.completing = false;
        self.reason = if self.held {
            Reason::RequeuedInHeldState
        } else {
            Reason::BeginTime
        };
        self.exit = Exit::default();
        self.restarts += 1;
        self.nodes.clear();
        self.started = None;
        self.ended = None;
        self.eligible = now + delay;
        self.knocks.clear();
        self.waiting_steps.clear();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn job(id: u32) -> Job {
        let account = Account {
            name: "alice".into(),
            uid: 2001,
            gid: 2001,
            home: "/home/alice".into(),
        };
        let os = OsIds {
            uid: 2001,
            gid: 2001,
            groups: vec![],
        };
        let request = Request::plain("compute", 60, account.home.as_ref());
        Job::pending(id, "demo".into(), account, os, request, Time(0))
    }

    const DELAY: Duration = Duration::from_secs(120);

    fn exited(code: i32, signal: i32) -> Outcome {
        Outcome::Exited(Exit { code, signal })
    }

    fn running() -> Job {
        let mut job = job(1);
        job.start(vec!["node01".into()], Time(1000));
        job
    }

    #[test]
    fn the_way_it_ended_decides_state_and_reason() {
        for (outcome, state, reason) in [
            (exited(0, 0), State::Completed, Reason::None),
            (exited(3, 0), State::Failed, Reason::NonZeroExitCode),
            (exited(0, 9), State::Failed, Reason::JobLaunchFailure),
            (
                Outcome::LaunchFailed,
                State::Failed,
                Reason::JobLaunchFailure,
            ),
        ] {
            let mut job = running();
            job.finish(outcome, Time(2000), DELAY);
            assert_eq!((job.state, job.reason), (state, reason), "{outcome:?}");
        }
    }

    #[test]
    fn a_cancelled_job_is_completing_until_its_node_is_rid_of_it() {
        let mut job = running();
        job.cancel(Time(2000));
        assert_eq!(job.state_names(), ("COMPLETING", "CG"));
        job.finish(exited(0, 15), Time(3000), DELAY);
        assert_eq!(job.state_names(), ("CANCELLED", "CA"));
        assert_eq!(job.exit.to_string(), "0:15");
    }

    #[test]
    fn a_held_job_keeps_its_reason_when_cancelled() {
        let mut job = job(1);
        job.reason = Reason::JobHeldUser;
        job.cancel(Time(5));
        assert_eq!(
            (job.state, job.reason),
            (State::Cancelled, Reason::JobHeldUser)
        );
        assert!(job.is_finished());
    }

    #[test]
    fn a_requeued_job_waits_for_its_begin_time_under_the_same_id() {
        let mut job = running();
        job.requeue(Time(2000), DELAY);
        assert_eq!(job.state_names().1, "CG");
        job.finish(exited(0, 15), Time(3000), DELAY);
        assert_eq!((job.state, job.reason), (State::Pending, Reason::BeginTime));
        assert_eq!((job.restarts, job.eligible, job.id), (1, Time(123_000), 1));
        assert!(job.nodes.is_empty());
    }

    #[test]
    fn a_job_cancelled_while_being_requeued_stays_cancelled() {
        let mut job = running();
        job.requeue(Time(2000), DELAY);
        job.cancel(Time(2500));
        job.finish(exited(0, 15), Time(3000), DELAY);
        assert_eq!(job.state, State::Cancelled);
        assert!(job.is_finished());
    }

    #[test]
    fn a_lost_node_requeues_the_job_unless_that_was_declined() {
        let mut willing = running();
        willing.finish(Outcome::NodeLost, Time(2000), DELAY);
        assert_eq!(willing.state, State::Pending);

        let mut declining = running();
        declining.request.requeue = false;
        declining.finish(Outcome::NodeLost, Time(2000), DELAY);
        assert_eq!(
            (declining.state, declining.reason),
            (State::NodeFail, Reason::NodeDown)
        );
    }

    proptest! {
        #[test]
        fn nothing_but_a_requeue_leaves_a_finished_state(steps in proptest::collection::vec(0u8..6, 1..12)) {
            let mut job = running();
            let mut finished: Option<State> = None;
            for step in steps {
                match step {
                    0 => job.cancel(Time(2)),
                    1 => job.time_out(Time(2)),
                    2 => {
                        job.requeue(Time(2), DELAY);
                        finished = None;
                    }
                    3 => job.finish(exited(0, 0), Time(2), DELAY),
                    4 => job.finish(exited(1, 0), Time(2), DELAY),
                    _ => job.finish(Outcome::NodeLost, Time(2), DELAY),
                }
                if let Some(state) = finished {
                    prop_assert_eq!(job.state, state);
                }
                if job.is_finished() {
                    finished = Some(job.state);
                }
                prop_assert!(!job.occupies() || !job.nodes.is_empty());
            }
        }
    }
}
