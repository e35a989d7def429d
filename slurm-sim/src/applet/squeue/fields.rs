//! The fields of squeue's formats.

use super::Row;
use crate::account;
use crate::applet::Exit;
use crate::clock::Time;
use crate::cluster::Cluster;
use crate::format::Format;
use crate::hostlist;
use crate::job::{Job, MemoryMb, Reason, State};
use crate::units;

/// Reads a format, refusing fields that squeue does not have.
pub(super) fn parse(text: &str) -> Result<Format, Exit> {
    let refuse = |what: &str| {
        Exit::saying(
            1,
            format!("squeue: error: Invalid job format specification: {what}"),
        )
    };
    let format = Format::parse(text).map_err(|rest| refuse(&rest))?;
    let unknown = format.letters().find(|&letter| header(letter).is_empty());
    match unknown {
        Some(unknown) => Err(refuse(&unknown.to_string())),
        None => Ok(format),
    }
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
        'u' | 'U' => "USER",
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
        'A' => job.id.to_string(),
        'i' => row.id(),
        'B' => job.batch_host().map_or_else(|| "n/a".into(), str::to_owned),
        'c' => request.cpus_per_task.unwrap_or(1).to_string(),
        'C' => request.cpus().to_string(),
        'd' | 'y' => "0".into(),
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
        'h' => "OK".into(),
        'j' => job.name.clone(),
        'k' => or_null(&request.comment),
        'K' => match &job.array {
            Some(_) if !row.tasks.is_empty() => hostlist::ranges(&row.tasks),
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
        'r' => job.reason.to_string(),
        'R' if shows_reason(job) => format!("({})", job.reason),
        'R' => hostlist::compress(&job.nodes),
        'S' => start(job, now).map_or_else(|| "N/A".into(), |at| at.to_string()),
        't' => job.state_names().1.into(),
        'T' => job.state_names().0.into(),
        'u' => job.user.clone(),
        'U' => job.uid.to_string(),
        'V' => job.submitted.to_string(),
        'x' => hostlist::compress(&request.exclude),
        'z' => "*:*:*".into(),
        'Z' => request.work_dir.display().to_string(),
        'b' | 'X' => "N/A".into(),
        _ => null(),
    }
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
    job.started.or_else(|| put_off.then_some(job.eligible))
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
        || job.state == State::Cancelled && job.nodes.is_empty() && job.reason != Reason::None
}
