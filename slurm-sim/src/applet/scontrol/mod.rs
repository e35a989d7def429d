//! `scontrol`: shows what the controller knows, and holds, releases and requeues jobs.

mod show;

use super::{Applet, Caller, Exit, Io, Result, unreachable};
use crate::clock::Time;
use crate::cluster::Cluster;
use crate::getopt::{Known, Operands, flag};
use crate::job::{Job, Reason, State};
use crate::spool::Spool;

const KNOWN: &[Known] = &[
    flag("all", Some('a')),
    flag("details", Some('d')),
    flag("help", Some('h')),
    flag("oneliner", Some('o')),
    flag("quiet", Some('Q')),
    flag("usage", None),
    flag("verbose", Some('v')),
    flag("version", Some('V')),
];

pub(super) fn run(args: &[String], caller: &Caller, io: &mut Io<'_>) -> Result {
    let parsed = super::parse(Applet::Scontrol, KNOWN, args, Operands::Anywhere, 1, io)?;
    let words: Vec<&str> = parsed.operands.iter().map(String::as_str).collect();
    let spool = caller.spool();
    match words[..] {
        [] => Err(Exit::saying(
            1,
            "scontrol: error: interactive mode is not simulated",
        )),
        ["show", ref what @ ..] => show::run(what, parsed.has("oneliner"), caller, io),
        ["ping"] => Ok(ping(&spool, io)),
        ["version"] => {
            io.say(crate::cluster::VERSION);
            Ok(Exit::OK)
        }
        [verb @ ("hold" | "release" | "requeue"), ref jobs @ ..] => {
            if jobs.is_empty() {
                return Err(Exit::saying(
                    1,
                    format!("too few arguments for keyword:{verb}"),
                ));
            }
            change(verb, jobs, caller, &spool, io)
        }
        [verb, ..] => Err(Exit::saying(1, format!("invalid keyword: {verb}"))),
    }
}

fn ping(spool: &Spool, io: &mut Io<'_>) -> Exit {
    let cluster = spool.read().ok();
    let host = cluster.as_ref().map_or("login", |cluster| &cluster.login);
    let up = cluster
        .as_ref()
        .is_some_and(|cluster| cluster.knobs.controller_up);
    io.say(format!(
        "Slurmctld(primary) at {host} is {}",
        if up { "UP" } else { "DOWN" }
    ));
    Exit::code(u8::from(!up))
}

fn change(verb: &str, jobs: &[&str], caller: &Caller, spool: &Spool, io: &mut Io<'_>) -> Result {
    let mut ids = Vec::new();
    for word in jobs.iter().flat_map(|word| word.split(',')) {
        ids.push(
            word.parse::<u32>()
                .ok()
                .filter(|&id| id > 0)
                .ok_or_else(|| {
                    Exit::saying(1, format!("Invalid job id specified for job {word}"))
                })?,
        );
    }
    spool
        .ask()
        .map_err(unreachable(1, "slurm_load_jobs error: "))?;
    let complaints = spool
        .update(|cluster| {
            let now = Time::now();
            let problem = |id: &u32| change_one(verb, *id, caller, cluster, now).err();
            ids.iter().filter_map(problem).collect::<Vec<_>>()
        })
        .map_err(unreachable(1, "slurm_load_jobs error: "))?;
    for complaint in &complaints {
        io.complain(complaint);
    }
    Ok(Exit::code(u8::from(!complaints.is_empty())))
}

fn change_one(
    verb: &str,
    id: u32,
    caller: &Caller,
    cluster: &mut Cluster,
    now: Time,
) -> std::result::Result<(), String> {
    let meant: Vec<u32> = cluster.jobs_of(id).map(|job| job.id).collect();
    if meant.is_empty() {
        return Err(if verb == "requeue" {
            format!("Invalid job id specified for job {id}")
        } else {
            "slurm_load_jobs error: Invalid job id specified".to_owned()
        });
    }
    for each in meant {
        if !caller.owns(cluster, &cluster.jobs[&each]) {
            return Err(format!("Access/permission denied for job {id}"));
        }
        let job = cluster.jobs.get_mut(&each).expect("listed above");
        apply(verb, job, now).map_err(|why| format!("{why} for job {id}"))?;
    }
    Ok(())
}

fn apply(verb: &str, job: &mut Job, now: Time) -> std::result::Result<(), &'static str> {
    match (verb, job.state) {
        ("hold", State::Pending) if !job.completing => {
            job.held = true;
            job.reason = Reason::JobHeldUser;
        }
        ("release", State::Pending) => {
            job.held = false;
            job.reason = Reason::None;
        }
        ("requeue", State::Running) if !job.request.requeue => {
            return Err("Requested operation is presently disabled");
        }
        ("requeue", State::Running) => job.requeue(now),
        ("requeue", State::Pending) => return Err("Job is pending execution"),
        _ => return Err("Job/step already completing or completed"),
    }
    Ok(())
}
