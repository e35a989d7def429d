//! The last step before a batch script: a session of its own, the user's ids for good, and exec.
//! Its output is already the job's.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::unistd::{Gid, Pid, Uid};
use tokio::signal::unix::SignalKind;

use crate::account::OsIds;

/// Hidden command line between `stepd` and this.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The ids to take on, as JSON; without it the present ones stay.
    #[arg(long)]
    ids: Option<String>,
    #[arg(long)]
    node: String,
    script: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Args {
    /// The arguments that make [`run`] start `script`.
    pub(crate) fn spell(
        ids: Option<&OsIds>,
        node: &str,
        script: &Path,
        args: &[String],
    ) -> Vec<std::ffi::OsString> {
        let mut words: Vec<std::ffi::OsString> = vec!["task".into(), "--node".into(), node.into()];
        if let Some(ids) = ids {
            words.push("--ids".into());
            words.push(serde_json::to_string(ids).expect("plain numbers").into());
        }
        words.push("--".into());
        words.push(script.into());
        words.extend(args.iter().map(Into::into));
        words
    }
}

/// Becomes the batch script, or says in the job's output why not.
pub(crate) fn run(args: &Args) -> ExitCode {
    let errno = match become_user(args) {
        Ok(()) => {
            let error = Command::new(&args.script)
                .args(&args.args)
                .env("SLURM_TASK_PID", std::process::id().to_string())
                .exec();
            Errno::from_raw(error.raw_os_error().unwrap_or(0))
        }
        Err(errno) => errno,
    };
    let what = match interpreter(&args.script) {
        Some(name) if errno == Errno::ENOENT => format!("bad interpreter({name})"),
        _ => args.script.display().to_string(),
    };
    let _ = writeln!(
        io::stderr(),
        "slurmstepd-{}: error: execve(): {what}: {}",
        args.node,
        errno.desc()
    );
    // As slurmstepd does: the error number is the exit code.
    ExitCode::from(u8::try_from(errno as i32).unwrap_or(1))
}

fn become_user(args: &Args) -> Result<(), Errno> {
    // The session is stepd's, the process group its own.
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    forget_ignored_signals();
    if let Some(ids) = &args.ids {
        let ids: OsIds = serde_json::from_str(ids).map_err(|_| Errno::EINVAL)?;
        let groups: Vec<Gid> = ids.groups.iter().copied().map(Gid::from_raw).collect();
        nix::unistd::setgroups(&groups)?;
        nix::unistd::setgid(Gid::from_raw(ids.gid))?;
        nix::unistd::setuid(Uid::from_raw(ids.uid))?;
    }
    Ok(())
}

/// A batch script starts with no signal ignored, however its node's daemon was started. Exec resets
/// a signal that is caught, so catching does it.
fn forget_ignored_signals() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
    else {
        return;
    };
    let _context = runtime.enter();
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
    ] {
        let _ = tokio::signal::unix::signal(kind);
    }
}

fn interpreter(script: &Path) -> Option<String> {
    let mut line = String::new();
    BufReader::new(fs::File::open(script).ok()?)
        .read_line(&mut line)
        .ok()?;
    line.strip_prefix("#!")?
        .split_whitespace()
        .next()
        .map(str::to_owned)
}
