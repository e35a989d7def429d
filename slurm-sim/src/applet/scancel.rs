//! `scancel`: ends jobs, or sends them a signal.

use nix::sys::signal::Signal;

use super::job_word::JobWord;
use super::{Applet, Caller, Exit, Io, Result, UNREACHABLE, signal_number};
use crate::account;
use crate::clock::Time;
use crate::cluster::Cluster;
use crate::getopt::{Known, Operands, Parsed, flag, value};
use crate::job::{Job, Knock, State, Target};

const KNOWN: &[Known] = &[
    value("account", Some('A')),
    value("clusters", Some('M')),
    flag("batch", Some('b')),
    flag("full", Some('f')),
    flag("help", None),
    flag("me", None),
    value("jobname", None),
    value("name", Some('n')),
    value("nodelist", Some('w')),
    value("partition", Some('p')),
    value("qos", Some('q')),
    flag("quiet", Some('Q')),
    value("signal", Some('s')),
    value("state", Some('t')),
    flag("usage", None),
    value("user", Some('u')),
    flag("verbose", Some('v')),
    flag("version", Some('V')),
];

const FILTERS: [&str; 10] = [
    "account",
    "jobname",
    "me",
    "name",
    "nodelist",
    "partition",
    "qos",
    "state",
    "user",
    "wckey",
];

/// Slurm's exit codes: the error number, cut to a byte.
const DENIED: u8 = 210;
const NO_CONTROLLER: u8 = 8;
const NOT_NOW: u8 = 228;

pub(super) fn run(args: &[String], caller: &Caller, io: &mut Io<'_>) -> Result {
    let parsed = super::parse(Applet::Scancel, KNOWN, args, Operands::Anywhere, 1, io)?;
    if let Some(cluster) = parsed.value("clusters") {
        return Err(super::no_database(Applet::Scancel, cluster));
    }
    if parsed.operands.is_empty() && !FILTERS.iter().any(|name| parsed.has(name)) {
        return Err(Exit::saying(
            1,
            "scancel: error: No job identification provided",
        ));
    }
    let words = parsed
        .operands
        .iter()
        .flat_map(|word| word.split(','))
        .map(|word| {
            JobWord::parse(word)
                .ok_or_else(|| Exit::saying(1, format!("scancel: error: Invalid job id {word}")))
        });
    let words = words.collect::<std::result::Result<Vec<_>, _>>()?;
    let action = Action::from(&parsed)?;

    let spool = caller.spool();
    let Ok(cluster) = spool.ask() else {
        for word in &words {
            io.complain(format!(
                "scancel: error: Kill job error on job id {word}: {UNREACHABLE}"
            ));
        }
        if words.is_empty() {
            return Err(Exit::saying(
                1,
                format!("slurm_load_jobs error: {UNREACHABLE}"),
            ));
        }
        return Err(Exit::code(NO_CONTROLLER));
    };
    let filter = Filter::new(&parsed, caller, &cluster)?;
    let now = Time::now();
    let (messages, code) = spool
        .update(|cluster| {
            let (mut messages, mut code) = (Vec::new(), 0);
            for (name, ids) in filter.targets(cluster, &words) {
                if parsed.has("verbose") {
                    messages.push(format!("scancel: {} job {name}", action.verb()));
                }
                if ids
                    .iter()
                    .any(|id| !caller.owns(cluster, &cluster.jobs[id]))
                {
                    messages.push(format!(
                        "scancel: error: Kill job error on job id {name}: Access/permission denied"
                    ));
                    code = DENIED;
                    continue;
                }
                let jobs: Vec<&Job> = ids.iter().map(|id| &cluster.jobs[id]).collect();
                if let Some((why, exit)) = action.obstacle(&jobs) {
                    // A cancellation that comes too late is one, and is only talked about.
                    if exit != 0 || parsed.has("verbose") {
                        messages.push(format!(
                            "scancel: error: Kill job error on job id {name}: {why}"
                        ));
                    }
                    code = code.max(exit);
                }
                for id in ids {
                    action.apply(cluster.jobs.get_mut(&id).expect("it was found there"), now);
                }
            }
            (messages, code)
        })
        .map_err(super::unreachable(NO_CONTROLLER, "scancel: error: "))?;
    for message in messages {
        io.complain(message);
    }
    Ok(Exit::code(code))
}

/// Which jobs may be meant, apart from their ids.
struct Filter<'a> {
    user: Option<String>,
    state: Option<State>,
    parsed: &'a Parsed,
}

impl<'a> Filter<'a> {
    fn new(
        parsed: &'a Parsed,
        caller: &Caller,
        cluster: &Cluster,
    ) -> std::result::Result<Self, Exit> {
        let user = match parsed.value("user") {
            Some(name) => match account::named(name, &cluster.virtual_users) {
                Some(known) => Some(known),
                None => {
                    return Err(Exit::saying(
                        1,
                        format!("scancel: error: Invalid user name: {name}"),
                    ));
                }
            },
            None => parsed.has("me").then(|| caller.account(cluster).name),
        };
        Ok(Self {
            user,
            state: parsed.value("state").map(parse_state).transpose()?,
            parsed,
        })
    }

    fn admits(&self, job: &Job) -> bool {
        let is = |option: &str, actual: Option<&str>| {
            self.parsed
                .value(option)
                .is_none_or(|wanted| actual == Some(wanted))
        };
        self.user.as_ref().is_none_or(|user| *user == job.user)
            && self.state.is_none_or(|state| state == job.state)
            && is("name", Some(&job.name))
            && is("jobname", Some(&job.name))
            && is("partition", Some(&job.request.partition))
            && is("account", job.request.account.as_deref())
            && is("qos", job.request.qos.as_deref())
            && self
                .parsed
                .value("nodelist")
                .is_none_or(|node| job.nodes.iter().any(|n| n == node))
    }

    /// What to act on: the jobs of each word that the filter admits, or without words all that it
    /// admits, others' too: whether one may is for the controller to say.
    fn targets(&self, cluster: &Cluster, words: &[JobWord]) -> Vec<(String, Vec<u32>)> {
        if words.is_empty() {
            return cluster
                .jobs
                .values()
                .filter(|job| !job.is_finished() && self.admits(job))
                .map(|job| (job.id.to_string(), vec![job.id]))
                .collect();
        }
        words
            .iter()
            .filter_map(|word| {
                let ids: Vec<u32> = word.jobs(cluster).map(|job| job.id).collect();
                let admitted = |id: &u32| self.admits(&cluster.jobs[id]);
                let kept: Vec<u32> = ids.iter().copied().filter(admitted).collect();
                (ids.is_empty() || !kept.is_empty()).then(|| (word.to_string(), kept))
            })
            .collect()
    }
}

enum Action {
    Cancel,
    Knock(Knock),
}

impl Action {
    fn from(parsed: &Parsed) -> std::result::Result<Self, Exit> {
        let Some(name) = parsed.value("signal") else {
            let signal = Signal::SIGKILL as i32;
            let target = Target::Batch;
            return Ok(match parsed.has("batch") {
                true => Self::Knock(Knock { signal, target }),
                false => Self::Cancel,
            });
        };
        // Any number is taken but zero, and one that is no signal reaches nobody.
        let number = name.parse::<i32>().ok().filter(|&number| number > 0);
        let signal = signal_number(name)
            .or(number)
            .ok_or_else(|| Exit::saying(1, format!("Unknown job signal: {name}")))?;
        let target = match (parsed.has("full"), parsed.has("batch")) {
            (true, _) => Target::Group,
            (_, true) => Target::Batch,
            _ if signal == Signal::SIGKILL as i32 => return Ok(Self::Cancel),
            _ => Target::Steps,
        };
        Ok(Self::Knock(Knock { signal, target }))
    }

    fn verb(&self) -> String {
        match self {
            Self::Cancel => "Terminating".into(),
            Self::Knock(Knock { signal, .. }) => format!("Signal {signal} to"),
        }
    }

    /// Why it can do nothing for these jobs, and the exit code of that.
    fn obstacle(&self, jobs: &[&Job]) -> Option<(&'static str, u8)> {
        const UNKNOWN: &str = "Invalid job id specified";
        let all = |is: fn(&Job) -> bool| jobs.iter().all(|job| is(job));
        match self {
            Self::Cancel if jobs.is_empty() => Some((UNKNOWN, 0)),
            Self::Cancel if all(Job::is_finished) => {
                Some(("Job/step already completing or completed", 0))
            }
            Self::Cancel => None,
            _ if all(Job::is_finished) => Some((UNKNOWN, 1)),
            _ if all(|job| job.state == State::Pending) => {
                Some(("Job can not be altered now, try again later", NOT_NOW))
            }
            _ => None,
        }
    }

    fn apply(&self, job: &mut Job, now: Time) {
        match self {
            Self::Cancel => job.cancel(now),
            Self::Knock(knock) if job.state == State::Running => job.knocks.push(*knock),
            // A pending job has nobody to signal yet.
            Self::Knock(_) => {}
        }
    }
}

fn parse_state(name: &str) -> std::result::Result<State, Exit> {
    let upper = name.to_ascii_uppercase();
    State::ALL
        .into_iter()
        .find(|state| state.names().0 == upper || state.names().1 == upper)
        .ok_or_else(|| {
            Exit::saying(
                1,
                format!(
                    "Invalid job state specified: {name}\n\
                     Valid job states are PENDING, RUNNING, and SUSPENDED"
                ),
            )
        })
}
