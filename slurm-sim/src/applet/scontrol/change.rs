//! `scontrol hold`, `release`, `requeue` and `requeuehold`.

use std::time::Duration;

use crate::applet::{Caller, Exit, Io, Result};
use crate::clock::Time;
use crate::cluster::Cluster;
use crate::job::{Job, Reason, State};
use crate::spool::Spool;

/// What a command does to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Hold,
    Release,
    Requeue,
    RequeueHold,
}

const NO_SUCH_JOB: &str = "Invalid job id specified";

impl Verb {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "hold" => Self::Hold,
            "release" => Self::Release,
            "requeue" => Self::Requeue,
            "requeuehold" => Self::RequeueHold,
            _ => return None,
        })
    }

    /// What is said of a job for which it fails.
    fn complaint(self, why: &str, job: &str) -> String {
        let first = format!("{why} for job {job}");
        match self {
            Self::Hold | Self::Release => format!("{first}\nslurm_suspend error: {why}"),
            Self::Requeue | Self::RequeueHold => first,
        }
    }

    fn denied(self) -> &'static str {
        match self {
            Self::Hold | Self::Release => "Invalid user id",
            Self::Requeue | Self::RequeueHold => "Access/permission denied",
        }
    }

    fn apply(
        self,
        job: &mut Job,
        now: Time,
        delay: Duration,
    ) -> std::result::Result<(), &'static str> {
        match (self, job.state) {
            (Self::Hold, State::Pending) if !job.completing => {
                job.held = true;
                job.reason = Reason::JobHeldUser;
            }
            (Self::Release, State::Pending) => {
                job.held = false;
                job.reason = Reason::None;
            }
            // Nothing is held back of a job that runs.
            (Self::Hold | Self::Release, State::Pending | State::Running) => {}
            (Self::Hold | Self::Release, _) => return Err("Job has already finished"),
            (_, State::Pending) => return Err("Job is pending execution"),
            _ if !job.request.requeue => {
                return Err("Requested operation is presently disabled");
            }
            (Self::Requeue, _) => job.requeue(now, delay),
            (Self::RequeueHold, _) => {
                job.held = true;
                job.requeue(now, delay);
            }
        }
        Ok(())
    }
}

/// Does it to every job that is named.
pub(super) fn run(
    verb: Verb,
    jobs: &[&str],
    caller: &Caller,
    spool: &Spool,
    io: &mut Io<'_>,
) -> Result {
    let words: Vec<&str> = jobs.iter().flat_map(|word| word.split(',')).collect();
    let unheard = |word: &&str| verb.complaint("Unexpected message received", word);
    let complaints = match spool.ask() {
        Ok(_) => spool.update(|cluster| {
            let now = Time::now();
            let problem = |word: &&str| change(verb, word, caller, cluster, now).err();
            words.iter().filter_map(problem).collect::<Vec<_>>()
        }),
        Err(error) => Err(error),
    };
    // What it makes of a controller that does not answer.
    let complaints = complaints.unwrap_or_else(|_| words.iter().map(unheard).collect());
    for complaint in &complaints {
        io.complain(complaint);
    }
    Ok(Exit::code(u8::from(!complaints.is_empty())))
}

fn change(
    verb: Verb,
    word: &str,
    caller: &Caller,
    cluster: &mut Cluster,
    now: Time,
) -> std::result::Result<(), String> {
    let meant: Vec<u32> = match word.parse::<u32>() {
        Ok(id) => cluster.jobs_of(id).map(|job| job.id).collect(),
        Err(_) => vec![],
    };
    if meant.is_empty() {
        return Err(verb.complaint(NO_SUCH_JOB, word));
    }
    let delay = cluster.knobs.requeue_delay;
    for each in meant {
        if !caller.owns(cluster, &cluster.jobs[&each]) {
            return Err(verb.complaint(verb.denied(), word));
        }
        let job = cluster.jobs.get_mut(&each).expect("listed above");
        verb.apply(job, now, delay)
            .map_err(|why| verb.complaint(why, word))?;
    }
    Ok(())
}
