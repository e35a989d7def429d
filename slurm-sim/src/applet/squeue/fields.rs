//! The fields of squeue's formats.

use super::Row;
use crate::account;
use crate::applet::{Exit, Io};
use crate::clock::Time;
use crate::cluster::{Cluster, Node};
use crate::dependency;
use crate::format::Format;
use crate::hostlist;
use crate::job::{Job, MemoryMb, Reason, State};
use crate::units;

/// Reads a format.
pub(super) fn parse(text: &str, io: &mut Io<'_>) -> Result<Format, Exit> {
    let refuse = |what: &str| Exit::saying(1, format!("{REFUSAL}{what}"));
    let mut format = Format::parse(text).map_err(|rest| refuse(&rest))?;
    // What there is not is said, and stays as it is in each line.
    for stranger in format.settle(|letter| !header(letter).is_empty()) {
        io.complain(format!("{REFUSAL}{stranger}"));
    }
    Ok(format)
}

/// Reads the names of `--Format`; behind one that there is not, nothing is shown.
pub(super) fn parse_names(text: &str, io: &mut Io<'_>) -> Format {
    Format::of_names(text, letter).unwrap_or_else(|(understood, stranger)| {
        io.complain(format!("{REFUSAL}{stranger}"));
        understood
    })
}

const REFUSAL: &str = "squeue: error: Invalid job format specification: ";

/// The letter of a field by its long name, in lower case.
fn letter(name: &str) -> Option<char> {
    Some(match name {
        "account" => 'a',
        "jobid" => 'A',
        "jobarrayid" => 'i',
        "batchhost" => 'B',
        "numcpus" => 'C',
        "numnodes" => 'D',
        "endtime" => 'e',
        "dependency" => 'E',
        "arrayjobid" => 'F',
        "groupname" => 'g',
        "groupid" => 'G',
        "oversubscribe" => 'h',
        "name" => 'j',
        "comment" => 'k',
        "arraytaskid" => 'K',
        "timelimit" => 'l',
        "timeleft" => 'L',
        "minmemory" => 'm',
        "timeused" => 'M',
        "reqnodes" => 'n',
        "nodelist" => 'N',
        "command" => 'o',
        "partition" => 'P',
        "prioritylong" => 'Q',
        "qos" => 'q',
        "reason" => 'r',
        "reasonlist" => 'R',
        "starttime" => 'S',
        "state" => 'T',
        "statecompact" => 't',
        "username" => 'u',
        "userid" => 'U',
        "submittime" => 'V',
        "workdir" => 'Z',
        _ => return None,
    })
}

/// The heading of a field; empty if there is no such field.
pub(super) fn header(letter: char) -> &'static str {
    match letter {
        'a' => "ACCOUNT",
        'A' | 'i' => "JOBID",
        'b' => "TRES_PER_NODE",
        'B' => "EXEC_HOST",
        'c' => "MIN_CPUS",
        'C' => "CPUS",
        'd' => "MIN_TMP_DISK",
        'D' => "NODES",
        'e' => "END_TIME",
        'E' => "DEPENDENCY",
        'f' => "FEATURES",
        'F' => "ARRAY_JOB_ID",
        'g' | 'G' => "GROUP",
        'h' => "OVER_SUBSCRIBE",
        'j' => "NAME",
        'k' => "COMMENT",
        'K' => "ARRAY_TASK_ID",
        'l' => "TIME_LIMIT",
        'L' => "TIME_LEFT",
        'm' => "MIN_MEMORY",
        'M' => "TIME",
        'n' => "REQ_NODES",
        'N' => "NODELIST",
        'o' => "COMMAND",
        'p' | 'Q' => "PRIORITY",
        'P' => "PARTITION",
        'q' => "QOS",
        'r' => "REASON",
        'R' => "NODELIST(REASON)",
        'S' => "START_TIME",
        't' => "ST",
        'T' => "STATE",
        'H' => "SOCKETS_PER_NODE",
        'I' => "CORES_PER_SOCKET",
        'J' => "THREADS_PER_CORE",
        'O' => "CONTIGUOUS",
        'u' => "USER",
        'U' => "UID",
        'w' => "WCKEY",
        'W' => "LICENSES",
        'v' => "RESERVATION",
        'V' => "SUBMIT_TIME",
        'x' => "EXC_NODES",
        'X' => "CORE_SPEC",
        'y' => "NICE",
        'Y' => "SCHEDNODES",
        'z' => "S:C:T",
        'Z' => "WORK_DIR",
        _ => "",
    }
}

/// What a field shows of a job.
pub(super) fn cell(letter: char, cluster: &Cluster, row: &Row<'_>, now: Time) -> String {
    let job = row.job;
    let request = &job.request;
    let null = || "(null)".to_owned();
    let or_null = |text: &Option<String>| text.clone().unwrap_or_else(null);
    match letter {
        'a' => or_null(&request.account),
        // A task that waits has no number of its own yet.
        'A' => match &job.array {
            Some(array) if job.state == State::Pending => array.job.to_string(),
            _ => job.id.to_string(),
        },
        'i' => row.id(),
        'B' => job.batch_host().map_or_else(|| "n/a".into(), str::to_owned),
        'c' => request.cpus_per_task.unwrap_or(1).to_string(),
        'C' if request.exclusive && !job.nodes.is_empty() => {
            let held = job.nodes.iter().map(|node| cluster.cpus_held(job, node));
            held.sum::<u32>().to_string()
        }
        'C' => request.cpus().to_string(),
        'd' | 'O' | 'y' => "0".into(),
        'E' => dependency::show(job, cluster),
        'D' => job.nodes.len().max(request.node_count as usize).to_string(),
        'e' => job
            .ended
            .or_else(|| job.deadline(cluster.knobs.minute))
            .map_or_else(|| "N/A".into(), |at| at.to_string()),
        'F' => job
            .array
            .as_ref()
            .map_or(job.id, |array| array.job)
            .to_string(),
        'g' => account::group_name(job.gid, &cluster.virtual_users),
        'G' => job.gid.to_string(),
        'h' if request.exclusive => "NO".into(),
        'h' => "OK".into(),
        'j' => job.name.clone(),
        'k' => or_null(&request.comment),
        'K' => match &job.array {
            Some(array) if !row.tasks.is_empty() => row.tasks(array),
            Some(array) => array.task.to_string(),
            None => "N/A".into(),
        },
        'l' => limit(job),
        'L' => left(cluster, job, now),
        'm' => match request.memory {
            MemoryMb::PerCpu(mb) | MemoryMb::PerNode(mb) => units::memory(mb),
        },
        'M' => units::span(run_secs(job, now)),
        'n' => hostlist::compress(&request.nodelist),
        'N' => hostlist::compress(&job.nodes),
        'o' => or_null(&request.command),
        'p' => format!("{:.14}", f64::from(job.priority()) / f64::from(u32::MAX)),
        'P' => request.partition.clone(),
        'q' => or_null(&request.qos),
        'Q' => job.priority().to_string(),
        'r' => reason(cluster, job),
        'R' if shows_reason(job) => format!("({})", reason(cluster, job)),
        'R' => hostlist::compress(&job.nodes),
        'S' => start(job, now).map_or_else(|| "N/A".into(), |at| at.to_string()),
        't' => job.state_names().1.into(),
        'T' => job.state_names().0.into(),
        'u' => job.user.clone(),
        'U' => job.uid.to_string(),
        'V' => job.submitted.to_string(),
        'x' => hostlist::compress(&request.exclude),
        'H' | 'I' | 'J' => "*".into(),
        'z' => "*:*:*".into(),
        'Z' => request.work_dir.display().to_string(),
        'b' | 'X' => "N/A".into(),
        _ => null(),
    }
}

/// Why it waits, or how it ended.
pub(in crate::applet) fn reason(cluster: &Cluster, job: &Job) -> String {
    if job.reason != Reason::ReqNodeNotAvail {
        return job.reason.to_string();
    }
    let out = |name: &&String| cluster.node(name).is_some_and(Node::is_out);
    let nodes: Vec<&String> = job.request.nodelist.iter().filter(out).collect();
    let nodes = hostlist::compress(&nodes);
    format!("ReqNodeNotAvail, UnavailableNodes:{nodes}")
}

/// Seconds that the job has run, or ran.
pub(in crate::applet) fn run_secs(job: &Job, now: Time) -> u64 {
    job.started.map_or(0, |started| {
        job.ended.unwrap_or(now).since(started).as_secs()
    })
}

/// When the job started, or is put to start.
pub(in crate::applet) fn start(job: &Job, now: Time) -> Option<Time> {
    let put_off = job.state == State::Pending && job.eligible > now;
    // One that was cancelled before it ran is shown as if it had begun to end then.
    let never = job.state == State::Cancelled && !job.completing;
    job.started
        .or_else(|| put_off.then_some(job.eligible))
        .or(job.ended.filter(|_| never))
}

fn limit(job: &Job) -> String {
    job.request
        .limit_minutes
        .map_or_else(|| "UNLIMITED".into(), |minutes| units::span(minutes * 60))
}

fn left(cluster: &Cluster, job: &Job, now: Time) -> String {
    let Some(deadline) = job.deadline(cluster.knobs.minute) else {
        return limit(job);
    };
    let until = job.ended.unwrap_or(now);
    if until > deadline {
        "INVALID".into()
    } else {
        units::span(deadline.since(until).as_secs())
    }
}

fn shows_reason(job: &Job) -> bool {
    matches!(job.state, State::Pending | State::Failed | State::Timeout) && !job.completing
}
