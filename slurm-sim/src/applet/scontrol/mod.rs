//! `scontrol`: shows what the controller knows, and changes jobs and nodes.

mod change;
mod show;
mod update;

use std::fs;

use self::change::Verb;

use super::{Applet, Caller, Exit, Io, Result, unreachable};
use crate::cluster::Cluster;
use crate::getopt::{Known, Operands, flag, value};
use crate::spool::Spool;

const KNOWN: &[Known] = &[
    flag("all", Some('a')),
    value("clusters", Some('M')),
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
    if let Some(cluster) = parsed.value("clusters") {
        return Err(super::no_database(Applet::Scontrol, cluster));
    }
    let words: Vec<&str> = parsed.operands.iter().map(String::as_str).collect();
    let spool = caller.spool();
    match words[..] {
        [] => Err(Exit::saying(
            1,
            "scontrol: error: interactive mode is not simulated",
        )),
        ["show", ref what @ ..] => show::run(what, parsed.has("oneliner"), caller, io),
        ["ping"] => match spool.read() {
            Ok(cluster) => Ok(ping(&cluster, io)),
            Err(_) => {
                io.say("Slurmctld(primary) at login is DOWN");
                Err(Exit::code(1))
            }
        },
        ["version"] => {
            io.say(crate::cluster::VERSION);
            Ok(Exit::OK)
        }
        ["update", ref words @ ..] => update::run(words, caller, &spool, io),
        ["write", "batch_script", ref words @ ..] => write_script(words, caller, &spool, io),
        [word, ref jobs @ ..] => match Verb::parse(word) {
            None => Err(Exit::saying(1, format!("invalid keyword: {word}"))),
            Some(_) if jobs.is_empty() => {
                let message = format!("too few arguments for keyword:{word}");
                Err(Exit::saying(1, message))
            }
            Some(verb) => change::run(verb, jobs, caller, &spool, io),
        },
    }
}

fn ping(cluster: &Cluster, io: &mut Io<'_>) -> Exit {
    let (host, up) = (&cluster.login, cluster.knobs.controller_up);
    io.say(format!(
        "Slurmctld(primary) at {host} is {}",
        if up { "UP" } else { "DOWN" }
    ));
    Exit::code(u8::from(!up))
}

/// `write batch_script ID [FILE]`: to a file, or to standard output for `-`.
fn write_script(words: &[&str], caller: &Caller, spool: &Spool, io: &mut Io<'_>) -> Result {
    let ([id], file) = words.split_at_checked(1).unwrap_or((&[], &[])) else {
        return Err(Exit::saying(1, "too few arguments for keyword:write"));
    };
    let cluster = spool
        .ask()
        .map_err(unreachable(1, "job script retrieval failed: "))?;
    let refused = |code, why| {
        let message = format!("job script retrieval failed: {why}");
        Exit::saying(code, message)
    };
    let job = id.parse().ok().and_then(|id: u32| cluster.jobs.get(&id));
    let job = job.ok_or_else(|| refused(1, "Invalid job id specified"))?;
    if !caller.owns(&cluster, job) {
        return Err(refused(0, "Invalid user id"));
    }
    let script = spool
        .load_script(job.id)
        .map_err(|_| refused(1, "Invalid job id specified"))?;
    if file == ["-"] {
        let _ = io.out.write_all(&script);
        return Ok(Exit::OK);
    }
    let name = file
        .first()
        .map_or_else(|| format!("slurm-{id}.sh"), |&name| name.to_owned());
    fs::write(caller.directory.join(&name), script)
        .map_err(|error| Exit::saying(1, format!("failed to open file `{name}`: {error}")))?;
    io.say(format!("batch script for job {id} written to {name}"));
    Ok(Exit::OK)
}
