//! A session's job, as Slurm's commands on the login node show it: submitted, asked about,
//! cancelled. What it means for the session is [`crate::session`]'s business.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU32,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use hpc_proxy::text::is_unprintable;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    cluster::{Cluster, Output, SshError},
    names::NodeName,
    session::id::SessionId,
};

mod queue;
mod resources;
pub mod script;

pub use queue::Due;
use queue::Queue;
pub use resources::{Gres, Memory, NotAnOption, OptionName, OptionValue, Resources, TimeLimit};

/// What squeue prints: fields without free text first, the reason (free text) last.
const SQUEUE_FORMAT: &str = "%i|%T|%N|%L|%r";

/// What Slurm's commands say when no controller takes their connection (slurm_errno.h,
/// `SLURMCTLD_COMMUNICATIONS_CONNECTION_ERROR`): nothing was done.
const NO_CONTROLLER: &str = "Unable to contact slurm controller (connect failure)";
const UNKNOWN_JOB: &str = "Invalid job id specified";
/// How long a cluster's controller is left alone between two questions about everybody's jobs.
const CLUSTER_PAUSE: Duration = Duration::from_secs(2);
/// Jobs in one command: Linux takes 128 KiB for an argument (execve(2)), and a number has ten digits.
const LONGEST_LIST: usize = 5000;
/// How much of a tool's words a person is shown.
const LONGEST_WORDS: usize = 400;

/// A job's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(NonZeroU32);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Text is not a job's number.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not a job number", .0.escape_debug())]
pub struct NotAJobId(String);

impl FromStr for JobId {
    type Err = NotAJobId;

    fn from_str(text: &str) -> Result<Self, NotAJobId> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| digits)
            .map(Self)
            .ok_or_else(|| NotAJobId(text.to_owned()))
    }
}

/// How a job fares, as squeue tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Waits for resources, for the first time or once more after a requeue.
    Pending {
        /// Slurm's word for what it waits for.
        reason: String,
    },
    /// Runs.
    Running {
        /// Where.
        node: NodeName,
    },
    /// On its way from one of the other states to another: completing, suspended, signalled.
    InBetween,
    /// Ended in a state that Slurm still knows: `CANCELLED`, `TIMEOUT`, `FAILED`.
    Finished {
        /// The state.
        state: String,
        /// Slurm's word for why.
        reason: String,
    },
    /// Slurm does not know it (any more).
    Gone,
}

/// A job that goes by the name of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// It.
    pub job: JobId,
    /// Whether it has not ended.
    pub lives: bool,
}

/// What squeue says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// How it fares.
    pub status: JobStatus,
    /// How long it may still run, where Slurm says.
    pub left: Option<Duration>,
}

/// Why a command about a job brought no answer. None of these says anything about the job.
#[derive(Debug, Error)]
pub enum JobError {
    /// ssh did not carry it.
    #[error("the login node cannot be reached")]
    Ssh(#[from] SshError),
    /// Nobody there decides about jobs at the moment.
    #[error("Slurm's controller does not answer {command}; the site may be at work on it")]
    ControllerDown {
        /// Which command.
        command: &'static str,
    },
    /// Slurm refused it.
    #[error("{command} failed with status {status}: {}", one_line(.stderr))]
    Refused {
        /// Which command.
        command: &'static str,
        /// Its exit status.
        status: i32,
        /// What it said.
        stderr: String,
    },
    /// The command succeeded, but said what cannot be understood.
    #[error("{command} answered `{}`", one_line(.stdout))]
    Unreadable {
        /// Which command.
        command: &'static str,
        /// What it said.
        stdout: String,
    },
}

/// Submits `script` for a session, on `node` if one is asked for.
///
/// # Errors
/// When there is no job, or (a broken connection) none that we would know of.
pub async fn submit(
    cluster: &Cluster,
    script: &str,
    id: &SessionId,
    resources: &Resources,
    node: Option<&NodeName>,
) -> Result<JobId, JobError> {
    let output = cluster
        .run(&submit_command(id, resources, node), script.as_bytes())
        .await?;
    submitted(&output)
}

/// The jobs that go by the session's name, as far as Slurm still knows them.
///
/// # Errors
/// When squeue did not say.
pub async fn find(cluster: &Cluster, id: &SessionId) -> Result<Vec<Named>, JobError> {
    let command = format!("squeue -h -t all --me --name={} -o '%i|%T'", id.job_name());
    named(&cluster.run(&command, b"").await?)
}

/// What squeue says of a job, or why it does not: a controller that is down is not a job that is gone.
pub type Answer = Result<Told, Arc<JobError>>;

/// Whose jobs an account asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Its own.
    Own,
    /// Those of all users of the cluster.
    Everybodys,
}

/// Who asks squeue about jobs, for all who wait for an answer.
#[derive(Debug)]
pub struct Watch {
    cluster: Arc<Cluster>,
    whose: Whose,
    queue: Queue<Answer>,
}

impl Watch {
    /// As this account.
    pub fn new(cluster: Arc<Cluster>, whose: Whose) -> Self {
        let queue = match whose {
            Whose::Own => Queue::default(),
            // There is always somebody who launches.
            Whose::Everybodys => Queue::with_pause(CLUSTER_PAUSE),
        };
        Self {
            cluster,
            whose,
            queue,
        }
    }

    /// What squeue says of `job` once an answer is due: never older than this call.
    pub async fn told(&self, job: JobId, due: &Due) -> Answer {
        let ask = |jobs| poll(&self.cluster, self.whose, jobs);
        self.queue.told(job, due, ask).await
    }

    /// Its account.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

/// Asks how `jobs` fare, in as few commands as hold them.
async fn poll(
    cluster: &Cluster,
    whose: Whose,
    mut jobs: BTreeSet<JobId>,
) -> BTreeMap<JobId, Answer> {
    let mut answers = BTreeMap::new();
    if jobs.len() > 1 {
        let all: Vec<JobId> = jobs.iter().copied().collect();
        for some in all.chunks(LONGEST_LIST) {
            match cluster.run(&list_command(some, whose), b"").await {
                Ok(output) => answers.extend(listed(some, &output)),
                Err(error) => {
                    let error = Arc::new(error.into());
                    answers.extend(some.iter().map(|job| (*job, Err(Arc::clone(&error)))));
                }
            }
        }
    }
    // Of a list squeue passes over what it does not know; alone it says so.
    jobs.retain(|job| !answers.contains_key(job));
    for job in jobs {
        answers.insert(job, poll_one(cluster, job).await.map_err(Arc::new));
    }
    answers
}

async fn poll_one(cluster: &Cluster, job: JobId) -> Result<Told, JobError> {
    let command = format!("squeue -h -t all -j {job} -o '{SQUEUE_FORMAT}'");
    status(job, &cluster.run(&command, b"").await?)
}

/// Cancels the job; one that is gone counts as cancelled.
///
/// # Errors
/// When scancel failed, so that the job may still run.
pub async fn cancel(cluster: &Cluster, job: JobId) -> Result<(), JobError> {
    let output = cluster.run(&format!("scancel {job}"), b"").await?;
    if output.status == 0 {
        Ok(())
    } else {
        Err(refused("scancel", &output))
    }
}

/// What the job said last in its output, the script's own word before what its programs said.
///
/// # Errors
/// When ssh does not carry the question.
pub async fn last_words(cluster: &Cluster, job: JobId) -> Result<String, SshError> {
    let output = cluster
        .run(&format!("tail -n 20 {}", log_file(&job.to_string())), b"")
        .await?;
    let own = format!("job {job}: ");
    let own_word = output
        .stdout
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(&own));
    let last_word = own_word.or_else(|| output.stdout.lines().next_back());
    Ok(one_line(last_word.unwrap_or_default()))
}

/// What the job and its programs have printed, `most_bytes` of it: from a byte on, or the end.
///
/// # Errors
/// When ssh does not carry the question.
pub async fn log(
    cluster: &Cluster,
    job: JobId,
    from: Option<u64>,
    most_bytes: usize,
) -> Result<Log, SshError> {
    let output = cluster
        .run(&log_command(job, from, most_bytes), b"")
        .await?;
    Ok(logged(&output.stdout))
}

/// A part of what a job has printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Log {
    /// At which byte it begins: not where it was asked for if the job has begun anew since.
    pub from: u64,
    /// At which byte the next part begins.
    pub next: u64,
    /// What was printed, without what is no text.
    pub text: String,
}

/// Says where the part begins and ends, and then the part. The file may grow meanwhile.
fn log_command(job: JobId, from: Option<u64>, most_bytes: usize) -> String {
    let file = log_file(&job.to_string());
    let from = match from {
        // More is no number to a shell, nor the length of a file.
        Some(from) => {
            let from = from.min(i64::MAX.unsigned_abs());
            format!("$(({from}>size?0:{from}))")
        }
        None => format!("$((size>{most_bytes}?size-{most_bytes}:0))"),
    };
    format!(
        "size=$(wc -c <{file}) && from={from} && \
         size=$((size-from>{most_bytes}?from+{most_bytes}:size)) && echo $from $size && \
         tail -c +$((from+1)) {file} | head -c $((size-from))"
    )
}

fn logged(output: &str) -> Log {
    let read = || {
        let (place, text) = output.split_once('\n')?;
        let (from, next) = place.split_once(' ')?;
        Some(Log {
            from: from.parse().ok()?,
            next: next.parse().ok()?,
            text: text.to_owned(),
        })
    };
    // No file yet.
    read().unwrap_or_default()
}

/// The directory must be there before the job: Slurm fails a job whose output it cannot open.
fn submit_command(id: &SessionId, resources: &Resources, node: Option<&NodeName>) -> String {
    format!(
        "mkdir -p -m 700 .hpc-proxy && sbatch --parsable --job-name={} --output={} {}",
        id.job_name(),
        log_file("%j"),
        resources.options(node),
    )
}

fn log_file(job: &str) -> String {
    format!(".hpc-proxy/job-{job}.log")
}

/// `sbatch --parsable` prints `ID` or `ID;CLUSTER`.
fn submitted(output: &Output) -> Result<JobId, JobError> {
    if output.status != 0 {
        return Err(refused("sbatch", output));
    }
    let id = output.stdout.trim().split(';').next().unwrap_or_default();
    id.parse().map_err(|_| unreadable("sbatch", output))
}

/// A job that finished and was not yet forgotten leaves squeue silent with status 0, a forgotten
/// one makes it fail with these words; any other failure is the controller's, not the job's.
fn status(job: JobId, output: &Output) -> Result<Told, JobError> {
    const GONE: Told = Told {
        status: JobStatus::Gone,
        left: None,
    };
    if output.status != 0 {
        return if output.status == 1 && output.stderr.contains(UNKNOWN_JOB) {
            Ok(GONE)
        } else {
            Err(refused("squeue", output))
        };
    }
    if output.stdout.trim().is_empty() {
        return Ok(GONE);
    }
    output
        .stdout
        .lines()
        .find_map(|line| status_line(job, line))
        .ok_or_else(|| unreadable("squeue", output))
}

/// By `--me` the controller looks at one user's jobs only; for a list alone it sends those of everybody.
fn list_command(jobs: &[JobId], whose: Whose) -> String {
    let jobs: Vec<_> = jobs.iter().map(ToString::to_string).collect();
    let jobs = jobs.join(",");
    let me = match whose {
        Whose::Own => "--me ",
        Whose::Everybodys => "",
    };
    format!("squeue -h -t all {me}-j {jobs} -o '{SQUEUE_FORMAT}'")
}

/// What a list says of `jobs`: of all of them that squeue failed, else of those in it.
fn listed(jobs: &[JobId], output: &Output) -> BTreeMap<JobId, Answer> {
    if output.status != 0 {
        // That may be a single one.
        if output.stderr.contains(UNKNOWN_JOB) {
            return BTreeMap::new();
        }
        // To ask about each alone would only keep the controller busier.
        let error = Arc::new(refused("squeue", output));
        let failed = jobs.iter().map(|job| (*job, Err(Arc::clone(&error))));
        return failed.collect();
    }
    let told = |job: &JobId| {
        let mut lines = output.stdout.lines();
        let told = lines.find_map(|line| status_line(*job, line))?;
        Some((*job, Ok(told)))
    };
    jobs.iter().filter_map(told).collect()
}

/// One line in [`SQUEUE_FORMAT`], if it is about this job and makes sense.
fn status_line(job: JobId, line: &str) -> Option<Told> {
    let mut fields = line.splitn(5, '|');
    let (id, state, node, left, reason) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
        one_line(fields.next()?),
    );
    if id.parse() != Ok(job) {
        return None;
    }
    let status = match state {
        "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED"
        | "SPECIAL_EXIT" => JobStatus::Pending { reason },
        "RUNNING" => JobStatus::Running {
            node: node.parse().ok()?,
        },
        state if ENDED.contains(&state) => JobStatus::Finished {
            state: state.to_owned(),
            reason,
        },
        _ => JobStatus::InBetween,
    };
    // `UNLIMITED`, `NOT_SET` and `INVALID` are no time.
    let left = left.parse().ok().map(|left: TimeLimit| left.duration());
    Some(Told { status, left })
}

/// The states of a job that has ended for good (squeue(1), JOB STATE CODES).
const ENDED: [&str; 10] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
];

/// The jobs that squeue lists, a line each. A line that is no job's makes the whole unreadable: a job
/// that is overlooked would be left behind.
fn named(output: &Output) -> Result<Vec<Named>, JobError> {
    if output.status != 0 {
        return Err(refused("squeue", output));
    }
    let read = |line: &str| {
        let (job, state) = line.split_once('|')?;
        Some(Named {
            job: job.parse().ok()?,
            lives: !ENDED.contains(&state),
        })
    };
    let lines = output.stdout.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty());
    let named: Option<Vec<_>> = lines.map(read).collect();
    named.ok_or_else(|| unreadable("squeue", output))
}

fn refused(command: &'static str, output: &Output) -> JobError {
    if output.stderr.contains(NO_CONTROLLER) {
        return JobError::ControllerDown { command };
    }
    JobError::Refused {
        command,
        status: output.status,
        stderr: output.stderr.clone(),
    }
}

fn unreadable(command: &'static str, output: &Output) -> JobError {
    JobError::Unreadable {
        command,
        stdout: output.stdout.clone(),
    }
}

/// Several lines of a tool's words as one that can be shown: without what a terminal or browser would
/// act on, and not too long.
pub(crate) fn one_line(text: &str) -> String {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .enumerate();
    let words = lines.flat_map(|(number, line)| {
        let between = if number == 0 { "" } else { "; " };
        between.chars().chain(line.chars())
    });
    let mut shown = words.filter(|c| !is_unprintable(*c));
    let mut line: String = shown.by_ref().take(LONGEST_WORDS).collect();
    if shown.next().is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tools_words_are_one_short_line_that_can_be_shown() {
        assert_eq!(one_line("a\n\n  b \r\n"), "a; b");
        assert_eq!(one_line("\u{1b}[2J<b>\u{202e}x\0"), "[2J<b>x");
        let long = one_line(&"x".repeat(1 << 20));
        assert_eq!(long.chars().count(), LONGEST_WORDS + 1);
        assert!(long.ends_with('…'));
        assert_eq!(one_line(&"x".repeat(LONGEST_WORDS)).len(), LONGEST_WORDS);
    }

    fn output(status: i32, stdout: &str, stderr: &str) -> Output {
        Output {
            status,
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    fn job() -> JobId {
        "46".parse().unwrap()
    }

    #[test]
    fn sbatch_names_the_job() {
        assert_eq!(submitted(&output(0, "46\n", "")).unwrap(), job());
        assert_eq!(
            submitted(&output(0, "46;sim\n", "sbatch: warning\n")).unwrap(),
            job()
        );
        assert!(matches!(
            submitted(&output(0, "", "")),
            Err(JobError::Unreadable { .. })
        ));
        let refusal = submitted(&output(1, "", "sbatch: error: one\nsbatch: error: two\n"));
        assert_eq!(
            refusal.unwrap_err().to_string(),
            "sbatch failed with status 1: sbatch: error: one; sbatch: error: two"
        );
    }

    // The recorded answers of real squeue.
    #[test]
    fn squeue_tells_how_the_job_fares() {
        let says = |stdout: &str| status(job(), &output(0, stdout, "")).unwrap().status;
        assert_eq!(
            says("46|PENDING||4:00:00|Resources\n"),
            JobStatus::Pending {
                reason: "Resources".into()
            }
        );
        let node: NodeName = "node01".parse().unwrap();
        assert_eq!(
            says("46|RUNNING|node01|3:59:30|None\n"),
            JobStatus::Running { node }
        );
        assert_eq!(
            says("46|COMPLETING|node01|0:00|TimeLimit\n"),
            JobStatus::InBetween
        );
        assert_eq!(
            says("46|TIMEOUT|node01|0:00|TimeLimit\n"),
            JobStatus::Finished {
                state: "TIMEOUT".into(),
                reason: "TimeLimit".into()
            }
        );
    }

    #[test]
    fn squeue_tells_how_long_the_job_may_run() {
        let left = |text: &str| {
            let line = format!("46|RUNNING|node01|{text}|None\n");
            status(job(), &output(0, &line, "")).unwrap().left
        };
        assert_eq!(left("59:30"), Some(Duration::from_secs(3570)));
        assert_eq!(left("1-02:00:00"), Some(Duration::from_secs(26 * 3600)));
        for none in ["UNLIMITED", "INVALID", "NOT_SET", ""] {
            assert_eq!(left(none), None, "{none}");
        }
    }

    #[test]
    fn jobs_are_found_by_their_name_and_none_is_overlooked() {
        let found = named(&output(0, "46|RUNNING\n45|CANCELLED\n\n", "")).unwrap();
        let expected = [(46, true), (45, false)].map(|(number, lives)| Named {
            job: number.to_string().parse().unwrap(),
            lives,
        });
        assert_eq!(found, expected);
        assert!(named(&output(0, "", "")).unwrap().is_empty());
        assert!(named(&output(1, "", "Unable to contact slurm controller")).is_err());
        assert!(named(&output(0, "46|RUNNING\nmotd\n", "")).is_err());
    }

    #[test]
    fn a_dead_controller_is_not_a_job_that_is_gone() {
        let gone = [
            output(0, "", ""),
            output(1, "", "slurm_load_jobs error: Invalid job id specified\n"),
        ];
        for output in gone {
            assert_eq!(status(job(), &output).unwrap().status, JobStatus::Gone);
        }
        let down = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n";
        assert!(matches!(
            status(job(), &output(1, "", down)),
            Err(JobError::ControllerDown { command: "squeue" })
        ));
        for output in [output(255, "", ""), output(127, "", "not found")] {
            assert!(matches!(
                status(job(), &output),
                Err(JobError::Refused { .. })
            ));
        }
    }

    #[test]
    fn a_list_tells_of_the_jobs_in_it() {
        let jobs: [JobId; 3] = ["46", "47", "48"].map(|job| job.parse().unwrap());
        let command = |whose| list_command(&jobs, whose);
        assert!(command(Whose::Own).contains(" --me -j 46,47,48 "));
        assert!(command(Whose::Everybodys).contains(" all -j 46,47,48 "));
        let of = |output| {
            let answers = listed(&jobs, &output).into_iter();
            let of = answers.map(|(job, answer)| (job.to_string(), answer.is_ok()));
            of.collect::<Vec<_>>()
        };
        let list =
            "48|RUNNING|node01|1:00|None\n46|PENDING||1:00|Priority\n49|RUNNING|node01|1:00|None\n";
        let expected = [("46".to_owned(), true), ("48".to_owned(), true)];
        assert_eq!(of(output(0, list, "")), expected);
        // What is not told is asked about alone, never taken for gone.
        assert_eq!(of(output(0, "", "")), []);
        let unknown = "slurm_load_jobs error: Invalid job id specified\n";
        assert_eq!(of(output(1, "", unknown)), []);
        let down = format!("slurm_load_jobs error: {NO_CONTROLLER}\n");
        assert_eq!(of(output(1, "", &down)).len(), 3);
        let busy = "slurm_load_jobs error: Socket timed out on send/recv operation\n";
        assert_eq!(of(output(1, "", busy)).len(), 3);
    }

    // S19.
    #[test]
    fn free_text_and_other_jobs_lines_do_not_mislead() {
        let hostile = "45|RUNNING|node09|1:00|None\n46|PENDING||INVALID|a|RUNNING|node01\x1b[31m\n";
        assert_eq!(
            status(job(), &output(0, hostile, "")).unwrap().status,
            JobStatus::Pending {
                reason: "a|RUNNING|node01[31m".into()
            }
        );
        for nonsense in [
            "46|RUNNING|-oProxyCommand=id|1:00|None\n",
            "motd\n",
            "460|RUNNING|node01|1:00|\n",
        ] {
            assert!(
                status(job(), &output(0, nonsense, "")).is_err(),
                "{nonsense}"
            );
        }
    }

    #[test]
    fn a_job_number_is_digits() {
        assert_eq!(job().to_string(), "46");
        for bad in ["", "0", "+1", "-1", "1_2", "99999999999"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_of_squeue_panics_or_ends_a_job_by_its_words(stdout in ".{1,80}|46\\|[A-Z]{0,9}\\|.{0,20}") {
            let told = status(job(), &output(0, &stdout, ""));
            if told.is_ok_and(|told| told.status == JobStatus::Gone) {
                prop_assert!(stdout.trim().is_empty());
            }
        }
    }
}
