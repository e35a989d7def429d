//! Slurm's commands. Each is a function from arguments, caller and spool to output and exit code.

mod accounting;
mod job_word;
mod sbatch;
mod scancel;
mod scontrol;
mod sinfo;
mod squeue;
mod srun;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use crate::account::{self, Account, OsIds};
use crate::cluster::{Cluster, VERSION};
use crate::environment::Variables;
use crate::getopt::{self, Known, Operands, Parsed};
use crate::job::Job;
use crate::spool::{self, Spool, SpoolError};

/// The commands that this program plays, by the name it is called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applet {
    Sbatch,
    Squeue,
    Scancel,
    Sinfo,
    Scontrol,
    Srun,
    Sacct,
    Sacctmgr,
}

impl Applet {
    pub(crate) const ALL: [Self; 8] = [
        Self::Sbatch,
        Self::Squeue,
        Self::Scancel,
        Self::Sinfo,
        Self::Scontrol,
        Self::Srun,
        Self::Sacct,
        Self::Sacctmgr,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sbatch => "sbatch",
            Self::Squeue => "squeue",
            Self::Scancel => "scancel",
            Self::Sinfo => "sinfo",
            Self::Scontrol => "scontrol",
            Self::Srun => "srun",
            Self::Sacct => "sacct",
            Self::Sacctmgr => "sacctmgr",
        }
    }

    pub(crate) fn named(name: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|applet| name == applet.name())
    }

    /// Plays the command and returns its exit code.
    pub(crate) fn run(self, args: &[OsString], caller: &Caller, io: &mut Io<'_>) -> u8 {
        let args: Vec<String> = args
            .iter()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        let result = match self {
            Self::Sbatch => sbatch::run(&args, caller, io),
            Self::Squeue => squeue::run(&args, caller, io),
            Self::Scancel => scancel::run(&args, caller, io),
            Self::Sinfo => sinfo::run(&args, caller, io),
            Self::Scontrol => scontrol::run(&args, caller, io),
            Self::Srun => srun::run(&args, caller, io),
            Self::Sacct => accounting::sacct(),
            Self::Sacctmgr => accounting::sacctmgr(),
        };
        let result = result.unwrap_or_else(|exit| exit);
        if !result.message.is_empty() {
            let _ = writeln!(io.err, "{}", result.message);
        }
        let _ = io.out.flush();
        result.code
    }
}

/// Who calls a command, from where, with what in the environment.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) variables: Variables,
    pub(crate) directory: PathBuf,
    pub(crate) umask: u32,
    pub(crate) host: String,
    pub(crate) session: i32,
}

impl Caller {
    /// The caller as this process finds it.
    pub(crate) fn here() -> io::Result<Self> {
        let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        nix::sys::stat::umask(umask);
        let variables: Variables = std::env::vars_os().collect();
        let host = match variables.get(OsStr::new("SLURM_SIM_HOST")) {
            Some(host) => host.clone(),
            None => nix::unistd::gethostname()?,
        };
        Ok(Self {
            directory: std::env::current_dir()?,
            umask: umask.bits(),
            host: host.to_string_lossy().into_owned(),
            session: nix::unistd::getsid(None).map_or(0, nix::unistd::Pid::as_raw),
            variables,
        })
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(OsStr::new(name))?.to_str()
    }

    fn spool(&self) -> Spool {
        let path = self.variables.get(OsStr::new("SLURM_SIM_SPOOL"));
        Spool::at(path.map_or(OsStr::new(spool::DEFAULT), OsString::as_os_str))
    }

    fn account(&self, cluster: &Cluster) -> Account {
        let claimed = self.variables.get(OsStr::new("SLURM_SIM_USER"));
        account::acting(&cluster.virtual_users, claimed.map(OsString::as_os_str))
    }

    fn os_ids(&self, account: &Account) -> OsIds {
        account::os_ids(&account.name)
    }

    /// Whether the caller may do something to a job: its owner and root may.
    fn owns(&self, cluster: &Cluster, job: &Job) -> bool {
        let account = self.account(cluster);
        account.name == job.user || account.uid == 0
    }
}

/// A command's standard streams.
pub(crate) struct Io<'a> {
    pub(crate) input: &'a mut dyn Read,
    pub(crate) out: &'a mut dyn Write,
    pub(crate) err: &'a mut dyn Write,
}

impl Io<'_> {
    fn say(&mut self, line: impl AsRef<str>) {
        // A reader that has gone away wants no more lines.
        let _ = writeln!(self.out, "{}", line.as_ref());
    }

    fn complain(&mut self, line: impl AsRef<str>) {
        let _ = writeln!(self.err, "{}", line.as_ref());
    }
}

/// How a command ends: its exit code, and what it says last on standard error.
#[derive(Debug, PartialEq, Eq)]
struct Exit {
    message: String,
    code: u8,
}

impl Exit {
    const OK: Self = Self::code(0);

    const fn code(code: u8) -> Self {
        Self {
            message: String::new(),
            code,
        }
    }

    fn saying(code: u8, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code,
        }
    }
}

type Result = std::result::Result<Exit, Exit>;

/// What every command says of another cluster: only a database would know it.
fn no_database(program: Applet, cluster: &str) -> Exit {
    let program = program.name();
    Exit::saying(
        1,
        format!(
            "{program}: error: Problem talking to database\n\
             {program}: error: '{cluster}' can't be reached now, or it is an invalid entry for \
             --cluster.  Use 'sacctmgr list clusters' to see available clusters."
        ),
    )
}

/// What every command says of a controller that it cannot reach.
const UNREACHABLE: &str = "Unable to contact slurm controller (connect failure)";

/// Parses options; `--version` and `--help` end every command.
fn parse(
    program: Applet,
    known: &[Known],
    args: &[String],
    placement: Operands,
    usage_code: u8,
    io: &mut Io<'_>,
) -> std::result::Result<Parsed, Exit> {
    let parsed = getopt::parse(program.name(), known, args, placement)
        .map_err(|message| Exit::saying(usage_code, message))?;
    if parsed.has("version") {
        io.say(VERSION);
        return Err(Exit::OK);
    }
    if parsed.has("help") || parsed.has("usage") {
        io.say(format!("Usage: {} [OPTIONS...]", program.name()));
        return Err(Exit::OK);
    }
    Ok(parsed)
}

/// Whatever is wrong with the spool, to a command it is a controller that does not answer.
fn unreachable(code: u8, prefix: &str) -> impl FnOnce(SpoolError) -> Exit {
    move |_| Exit::saying(code, format!("{prefix}{UNREACHABLE}"))
}

/// The number of a signal given as `USR1`, `SIGUSR1` or `10`.
fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    full.parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|signal| signal as i32)
}
