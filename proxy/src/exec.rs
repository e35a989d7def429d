//! `hpc-proxy exec`: runs a command in a localhost of the user's own, as far as this node has what
//! that takes, and says how far.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, fs, io,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use hpc_proxy::{
    text::{chain, is_unprintable},
    upstream::owner::Owners as Kernel,
};
use private_localhost::{
    Features, Key, LaunchError, NoLock, Owner, Owners, Plan, Unavailable, personal, probe, try_lock,
};
use thiserror::Error;

use crate::cli::{Config, Exec, Isolation, Lock};

/// Where programs find an address of their user's own.
const LOCALHOST: &str = "HPC_PROXY_LOCALHOST";

/// Why a command was not run.
#[derive(Debug, Error)]
pub(crate) enum ExecError {
    #[error("cannot run `{}`", name.display())]
    Command { name: OsString, source: io::Error },
    #[error("there is no private localhost here")]
    Isolation(#[source] Unavailable),
    #[error("there is no lock here")]
    Lock(#[source] NotLocked),
    #[error("--session is for Slurm jobs, and this is none")]
    NoJob,
    #[error(transparent)]
    Launch(LaunchError),
}

/// Why servers are not locked.
#[derive(Debug, Error)]
pub(crate) enum NotLocked {
    #[error(transparent)]
    Kernel(#[from] NoLock),
    #[error("there is no place for the key")]
    NoPlace(#[from] io::Error),
}

impl ExecError {
    /// As env(1), nohup(1) and timeout(1) exit.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Command { .. } => 126,
            Self::Isolation(_) | Self::Lock(_) | Self::NoJob | Self::Launch(_) => 125,
        })
    }

    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "is it in a directory of $PATH? the command line of a shell goes behind `sh -c`"
            }
            Self::Command { .. } => "the command must be a program that may be executed",
            Self::Isolation(_) => "--isolation auto goes on without one",
            Self::Lock(_) => "--lock auto goes on without one",
            Self::NoJob => "leave it out, or say --job ID",
            Self::Launch(_) => "--isolation none runs the command without a private localhost",
        }
    }
}

/// Runs the command to its end, or becomes it.
pub(crate) fn run(config: &Config, exec: &Exec) -> Result<ExitCode, ExecError> {
    let session = match (exec.session, config.job.as_deref()) {
        (true, None) => return Err(ExecError::NoJob),
        (true, job) => job,
        (false, _) => None,
    };
    let personal = personal(rustix::process::geteuid().as_raw(), session);
    let found = match exec.isolation {
        Isolation::None => return become_it(exec, personal, &"as asked for"),
        Isolation::Auto | Isolation::Seccomp => probe(),
    };
    match (exec.isolation, found) {
        (_, Ok(features)) => run_privately(config, exec, personal, features),
        (_, Err(Unavailable::Supervised)) => {
            say(exec, format_args!("in a private localhost already"));
            Err(become_command(exec, None))
        }
        (Isolation::Seccomp, Err(error)) => Err(ExecError::Isolation(error)),
        (_, Err(error)) => become_it(exec, personal, &chain(&error)),
    }
}

/// Without a private localhost.
fn become_it(
    exec: &Exec,
    personal: [Ipv4Addr; 2],
    why: &dyn fmt::Display,
) -> Result<ExitCode, ExecError> {
    let [own, _] = personal;
    say(
        exec,
        format_args!(
            "localhost is shared with the other users of this node ({why}); {own} is yours"
        ),
    );
    Err(become_command(exec, Some(own)))
}

/// Comes back only when it fails.
fn become_command(exec: &Exec, own: Option<Ipv4Addr>) -> ExecError {
    let source = command(exec, own).exec();
    ExecError::Command {
        name: exec.command[0].clone(),
        source,
    }
}

fn run_privately(
    config: &Config,
    exec: &Exec,
    personal: [Ipv4Addr; 2],
    features: Features,
) -> Result<ExitCode, ExecError> {
    let [own, _] = personal;
    let map = config.state_dir.private_servers();
    let key = match &map {
        Ok(map) => Key::of_user(map.directory()).map_err(NotLocked::NoPlace),
        Err(error) => Err(NotLocked::NoPlace(io::Error::other(error.to_string()))),
    };
    let locked = match exec.lock {
        Lock::Off => Ok(false),
        Lock::Auto | Lock::On => match &key {
            Ok(_) => try_lock().map(|()| true).map_err(NotLocked::Kernel),
            Err(_) => Ok(false),
        },
    };
    let (key, locked) = match (key, locked) {
        (Ok(key), locked) => (Some(key), locked),
        (Err(error), Ok(false)) if exec.lock != Lock::Off => (None, Err(error)),
        (Err(_), locked) => (None, locked),
    };
    let lock = match locked {
        Ok(true) => "locked".to_owned(),
        Ok(false) => "not locked".to_owned(),
        Err(error) if exec.lock == Lock::On => return Err(ExecError::Lock(error)),
        Err(error) => format!("not locked: {}", chain(&error)),
    };
    let locks = lock == "locked";
    say(
        exec,
        format_args!("private localhost at {own} ({features}), {lock}"),
    );
    if is_privileged(&exec.command[0]) {
        let name = Path::new(&exec.command[0]).display();
        say(
            exec,
            format_args!(
                "`{name}` gets no privileges here; run `hpc-proxy exec` inside it instead"
            ),
        );
    }
    let plan = Plan {
        personal,
        public: exec.public.clone(),
        map: map.ok(),
        key,
        locks,
        features,
        always_replaces: exec.replace_sockets,
    };
    let ask = || -> Box<dyn Owners> { Box::new(Asked(Kernel::probe())) };
    match private_localhost::run(command(exec, Some(own)), plan, ask) {
        Ok(ended) => Ok(ExitCode::from(ended.code)),
        Err(LaunchError::Command(source)) => Err(ExecError::Command {
            name: exec.command[0].clone(),
            source,
        }),
        Err(error) => Err(ExecError::Launch(error)),
    }
}

fn command(exec: &Exec, own: Option<Ipv4Addr>) -> Command {
    let [name, arguments @ ..] = &exec.command[..] else {
        unreachable!("the command line has a command");
    };
    let mut command = Command::new(name);
    command.args(arguments);
    if let Some(own) = own {
        command.env(LOCALHOST, own.to_string());
    }
    command
}

/// The kernel, as those who supervise ask it.
struct Asked(Kernel);

impl Owners for Asked {
    fn listener(&self, address: SocketAddr) -> io::Result<Option<Owner>> {
        let found = self.0.listener_now(address)?;
        Ok(found.map(|socket| Owner {
            uid: socket.uid,
            inode: socket.inode,
            address: socket.address,
            is_full: socket.is_full,
        }))
    }
}

/// Whether a program asks for the privileges of its file's owner, which no process under a filter
/// gets (`PR_SET_NO_NEW_PRIVS`).
fn is_privileged(name: &OsStr) -> bool {
    const SET_ID: u32 = 0o6000;
    let is_set =
        |path: &Path| fs::metadata(path).is_ok_and(|it| it.is_file() && it.mode() & SET_ID != 0);
    if Path::new(name).components().count() > 1 {
        return is_set(Path::new(name));
    }
    let directories = env::var_os("PATH").unwrap_or_default();
    let mut files = env::split_paths(&directories).map(|directory| directory.join(name));
    files
        .find(|file: &PathBuf| file.is_file())
        .is_some_and(|file| is_set(&file))
}

/// One line, before the command has its say.
fn say(exec: &Exec, line: fmt::Arguments<'_>) {
    if !exec.quiet {
        let line = line.to_string().replace(is_unprintable, "\u{fffd}");
        // Nobody is left to tell it to when stderr is closed.
        let _ = writeln!(io::stderr(), "hpc-proxy: {line}");
    }
}
