//! `scontrol update`: changes a job of the caller's, or takes a node out of service and back.

use crate::applet::{Caller, Exit, Io, Result, unreachable};
use crate::clock::Time;
use crate::cluster::Cluster;
use crate::job::Job;
use crate::spool::Spool;
use crate::{hostlist, units};

/// `Name=value`, as given and with the name in lower case.
struct Pair<'a> {
    word: &'a str,
    name: String,
    value: &'a str,
}

fn refuse(message: impl Into<String>) -> Exit {
    Exit::saying(1, message)
}

fn unsupported(pair: &Pair<'_>) -> Exit {
    let word = pair.word;
    refuse(format!(
        "Update of this parameter is not supported: {word}\nRequest aborted"
    ))
}

pub(super) fn run(words: &[&str], caller: &Caller, spool: &Spool, _io: &mut Io<'_>) -> Result {
    let pairs: Vec<Pair<'_>> = words
        .iter()
        .map(|word| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            Pair {
                word,
                name: name.to_ascii_lowercase(),
                value,
            }
        })
        .collect();
    let Some((what, changes)) = pairs.split_first() else {
        return Err(refuse("too few arguments for keyword:update"));
    };
    let prepared = match what.name.as_str() {
        "job" | "jobid" => Prepared::Job(what.value, job_changes(changes)?),
        "node" | "nodename" => Prepared::Node(what.value, node_change(changes)?),
        _ => {
            return Err(refuse(
                "No valid entity in update command\nInput line must include \"NodeName\", \"PartitionName\", \"Reservation\", \"JobId\", or \"SlurmctldDebug\"",
            ));
        }
    };
    spool
        .ask()
        .map_err(unreachable(1, "slurm_update error: "))?;
    spool
        .update(|cluster| prepared.apply(caller, cluster))
        .map_err(unreachable(1, "slurm_update error: "))?
}

enum Prepared<'a> {
    Job(&'a str, Vec<JobChange<'a>>),
    Node(&'a str, NodeChange<'a>),
}

impl Prepared<'_> {
    fn apply(&self, caller: &Caller, cluster: &mut Cluster) -> Result {
        match self {
            Self::Job(id, changes) => {
                let fail = |why: &str| refuse(format!("{why} for job {id}"));
                let found = id.parse().ok().filter(|id| cluster.jobs.contains_key(id));
                let key: u32 = found.ok_or_else(|| fail("Invalid job id specified"))?;
                if !caller.owns(cluster, &cluster.jobs[&key]) {
                    return Err(fail("Invalid user id"));
                }
                let admin = caller.account(cluster).uid == 0;
                let mut job = cluster.jobs[&key].clone();
                for change in changes {
                    change.apply(&mut job, cluster, admin).map_err(fail)?;
                }
                cluster.jobs.insert(key, job);
            }
            Self::Node(list, change) => {
                let fail = |why: &str| refuse(format!("slurm_update error: {why}"));
                if caller.account(cluster).uid != 0 {
                    return Err(fail("Invalid user id"));
                }
                let names = hostlist::expand(list).unwrap_or_default();
                if names.is_empty() || names.iter().any(|name| cluster.node(name).is_none()) {
                    return Err(fail("Invalid node name specified"));
                }
                let named = |name: &String| names.contains(name);
                for node in cluster.nodes.iter_mut().filter(|node| named(&node.name)) {
                    node.drained = change.drained;
                    node.put_down = change.put_down;
                    node.reason = change.reason.map(|why| (why.to_owned(), Time::now()));
                }
            }
        }
        Ok(Exit::OK)
    }
}

enum JobChange<'a> {
    Name(&'a str),
    Comment(&'a str),
    Partition(&'a str),
    /// Minutes, and whether they come on top.
    Limit(Option<u64>, bool),
}

fn job_changes<'a>(pairs: &[Pair<'a>]) -> std::result::Result<Vec<JobChange<'a>>, Exit> {
    let change = |pair: &Pair<'a>| {
        Ok(match pair.name.as_str() {
            "name" | "jobname" => JobChange::Name(pair.value),
            "comment" => JobChange::Comment(pair.value),
            "partition" => JobChange::Partition(pair.value),
            "timelimit" => {
                let more = pair.value.strip_prefix('+');
                let limit = units::parse_limit(more.unwrap_or(pair.value));
                let invalid = || refuse("scontrol: error: Invalid TimeLimit value");
                JobChange::Limit(limit.ok_or_else(invalid)?, more.is_some())
            }
            _ => return Err(unsupported(pair)),
        })
    };
    pairs.iter().map(change).collect()
}

impl JobChange<'_> {
    fn apply(
        &self,
        job: &mut Job,
        cluster: &Cluster,
        admin: bool,
    ) -> std::result::Result<(), &'static str> {
        match *self {
            Self::Name(name) => job.name = name.to_owned(),
            Self::Comment(text) => job.request.comment = Some(text.to_owned()),
            Self::Partition(name) => {
                let partition = cluster.partition(name);
                partition.ok_or("Invalid partition name specified")?;
                job.request.partition = name.to_owned();
            }
            Self::Limit(minutes, more) => {
                let known = job.request.limit_minutes;
                let wanted = if more {
                    known.zip(minutes).map(|(known, minutes)| known + minutes)
                } else {
                    minutes
                };
                let longer = known.is_some_and(|known| wanted.is_none_or(|wanted| wanted > known));
                // Once it runs, only an administrator gives it more.
                if longer && job.occupies() && !admin {
                    return Err("Access/permission denied");
                }
                job.request.limit_minutes = wanted;
            }
        }
        Ok(())
    }
}

struct NodeChange<'a> {
    drained: bool,
    put_down: bool,
    reason: Option<&'a str>,
}

fn node_change<'a>(pairs: &[Pair<'a>]) -> std::result::Result<NodeChange<'a>, Exit> {
    let (mut state, mut reason) = (None, None);
    for pair in pairs {
        match pair.name.as_str() {
            "state" => state = Some(pair),
            "reason" => reason = Some(pair.value),
            _ => return Err(unsupported(pair)),
        }
    }
    let wanted = state.map(|pair| pair.value.to_ascii_uppercase());
    let (drained, put_down) = match wanted.as_deref() {
        Some("DRAIN") => (true, false),
        Some("DOWN") => (false, true),
        Some("RESUME" | "UNDRAIN" | "IDLE") => (false, false),
        Some(_) => {
            let word = state.map_or("", |pair| pair.word);
            return Err(refuse(format!(
                "Invalid input: {word}\nRequest aborted\n\
                 Valid states are: NoResp DRAIN FAIL FUTURE RESUME POWER_DOWN POWER_UP UNDRAIN\n\
                 Not all states are valid given a node's prior state"
            )));
        }
        None => return Err(refuse("No changes specified")),
    };
    if (drained || put_down) && reason.is_none() {
        return Err(refuse(
            "You must specify a reason when DOWNING or DRAINING a node. Request denied",
        ));
    }
    Ok(NodeChange {
        drained,
        put_down,
        reason: reason.filter(|_| drained || put_down),
    })
}
