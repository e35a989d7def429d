//! `sbatch`: reads a script and its options, and puts a job into the queue.

mod array;
mod options;
mod script;
mod submission;

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use self::options::Options;
use self::submission::{Accepted, Submission};
use super::{Applet, Caller, Exit, Io, Result, unreachable};
use crate::clock::Time;
use crate::getopt::Operands;
use crate::job::Job;
use crate::spool::Spool;

/// How often `--wait` looks.
const WAIT_POLL: Duration = Duration::from_millis(50);

const FAILED: &str = "sbatch: error: Batch job submission failed: ";

pub(super) fn run(args: &[String], caller: &Caller, io: &mut Io<'_>) -> Result {
    let parsed = super::parse(
        Applet::Sbatch,
        options::KNOWN,
        args,
        Operands::EndOptions,
        255,
        io,
    )?;
    if !caller.variables.contains_key(OsStr::new("PATH")) {
        io.complain("sbatch: error: No PATH environment variable");
    }
    if parsed.has("mem") && parsed.has("mem-per-cpu") {
        return Err(Exit::saying(
            1,
            "sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.",
        ));
    }
    let wrap = parsed.value("wrap").map(str::to_owned);
    if wrap.is_some() && !parsed.operands.is_empty() {
        return Err(Exit::saying(
            1,
            "sbatch: error: Script arguments not permitted with --wrap option",
        ));
    }
    let (script, source) = match &wrap {
        Some(command) => (script::wrapped(command), Source::Wrap),
        None => read_script(parsed.operands.first(), caller, io)?,
    };
    // The command line wins over the environment, and that over the script's own lines.
    let mut options = Options::default();
    let lines = script::option_lines(&script).map_err(|stranger| {
        let why = format!("Invalid directive found in batch script: {stranger}");
        Exit::saying(255, format!("sbatch: error: {why}"))
    })?;
    let in_script = super::parse(
        Applet::Sbatch,
        options::KNOWN,
        &lines,
        Operands::Anywhere,
        255,
        io,
    )?;
    let now = Time::now();
    options.apply(&in_script.options, now)?;
    options.apply(&options::from_environment(caller), now)?;
    options.apply(&parsed.options, now)?;

    let spool = caller.spool();
    let controller = |error| unreachable(1, FAILED)(error);
    spool.ask().map_err(controller)?;
    let submission = Submission {
        args: parsed.operands.get(1..).unwrap_or_default().to_vec(),
        script,
        source,
        options,
        caller,
        now,
    };
    let answer = spool
        .update(|cluster| submission.submit(cluster, &spool))
        .map_err(controller)?;
    let ids = match answer? {
        Accepted::Queued(ids) => ids,
        Accepted::OnlyTested(line) => return Err(Exit::saying(0, line)),
    };
    let id = ids[0];
    if submission.options.quiet {
        // Not even the number.
    } else if submission.options.parsable {
        io.say(id.to_string());
    } else {
        io.say(format!("Submitted batch job {id}"));
    }
    if submission.options.wait {
        let _ = io.out.flush();
        return Ok(Exit::code(wait_for(&spool, &ids)));
    }
    Ok(Exit::OK)
}

/// Where the script came from.
enum Source {
    Wrap,
    Stdin,
    File { name: String, path: String },
}

fn read_script(
    operand: Option<&String>,
    caller: &Caller,
    io: &mut Io<'_>,
) -> std::result::Result<(Vec<u8>, Source), Exit> {
    let (bytes, source) = match operand.map(String::as_str) {
        None => {
            let mut bytes = Vec::new();
            io.input.read_to_end(&mut bytes).map_err(|error| {
                Exit::saying(
                    1,
                    format!("sbatch: error: Error reading batch script: {error}"),
                )
            })?;
            (bytes, Source::Stdin)
        }
        Some(name) => {
            let path = find_script(name, caller);
            let bytes = match fs::read(&path) {
                // It opens, but there is nothing in it to read.
                Err(error) if error.kind() == ErrorKind::IsADirectory => vec![],
                read => read.map_err(|_| {
                    Exit::saying(1, format!("sbatch: error: Unable to open file {name}"))
                })?,
            };
            let file_name = Path::new(name).file_name().unwrap_or(OsStr::new(name));
            let source = Source::File {
                name: file_name.to_string_lossy().into_owned(),
                path: path.display().to_string(),
            };
            (bytes, source)
        }
    };
    script::check(&bytes).map_err(|message| Exit::saying(1, message))?;
    Ok((bytes, source))
}

/// A script is looked for in the working directory, then along the path.
fn find_script(name: &str, caller: &Caller) -> std::path::PathBuf {
    let here = caller.directory.join(name);
    if name.contains('/') || here.exists() {
        return here;
    }
    let path = caller
        .variables
        .get(OsStr::new("PATH"))
        .cloned()
        .unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or(here)
}

/// Waits until every job has ended; the worst exit code, 1 for a killed one.
fn wait_for(spool: &Spool, ids: &[u32]) -> u8 {
    loop {
        if let Ok(cluster) = spool.ask() {
            let jobs: Vec<&Job> = ids.iter().filter_map(|id| cluster.jobs.get(id)).collect();
            if jobs.iter().all(|job| job.is_finished()) {
                let code = |job: &&Job| match job.exit.signal {
                    0 => job.exit.code,
                    _ => 1,
                };
                return u8::try_from(jobs.iter().map(code).max().unwrap_or(0)).unwrap_or(u8::MAX);
            }
        }
        thread::sleep(WAIT_POLL);
    }
}
