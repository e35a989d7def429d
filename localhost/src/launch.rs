//! Runs a command in a private localhost, for a caller who waits for it.
//!
//! There are three processes. This one stands for the command before whoever started it: it passes
//! signals on, stops when the command stops, and ends as it ends. Its child, the guardian, is the
//! parent of the command, as the supervisor must be where only an ancestor may look into a process
//! (Yama, `ptrace_scope` 1). It stays as long as anything that the command started, which is cut off
//! from its ports otherwise.

use std::{
    io,
    net::Ipv4Addr,
    ops::RangeInclusive,
    os::fd::{AsFd, OwnedFd},
    process::Command,
};

use nix::{
    sys::{
        signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal},
        signalfd::{SfdFlags, SignalFd, siginfo},
    },
    unistd::{self, ForkResult, fork},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, PidfdFlags, WaitOptions, getpid, pidfd_open, set_child_subreaper, waitpid},
};
use thiserror::Error;

use crate::{
    decide::Policy,
    guardian::{self, Caller, Note},
    handover,
    lock::Key,
    map::PortMap,
    owners::Owners,
    probe::Features,
    quiet,
    supervisor::Settings,
    users,
};

/// What kind of private localhost it is.
#[derive(Debug)]
pub struct Plan {
    /// Where the user's servers will be: see [`crate::personal`].
    pub personal: [Ipv4Addr; 2],
    /// Ports that others are to reach.
    pub public: Vec<RangeInclusive<u16>>,
    /// Where private servers are written down. Without it a server whose port a stranger has gets
    /// none.
    pub map: Option<PortMap>,
    /// What opens locked servers.
    pub key: Option<Key>,
    /// Whether new servers are locked, which takes a key.
    pub locks: bool,
    /// What there is, as [`crate::probe`] found it.
    pub features: Features,
    /// Replaces sockets also where they can be taken, for tests.
    pub always_replaces: bool,
}

/// Why a command did not run.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// It cannot be started.
    #[error("cannot run the command")]
    Command(#[source] io::Error),
    /// This process cannot be divided.
    #[error("a process of several threads cannot start a private localhost")]
    Threads,
    /// Something that should work does not.
    #[error("cannot start a private localhost")]
    Start(#[source] io::Error),
    /// Whoever should say how the command ended is gone.
    #[error("the supervisor of the private localhost ended before the command began")]
    Guardian,
}

/// How a command ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// As a shell tells it: the status, or 128 and the number of the signal that ended it.
    pub code: u8,
}

impl Ended {
    fn of(status: i32) -> Self {
        let code = if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        };
        Self {
            code: code.to_le_bytes()[0],
        }
    }
}

/// Runs `command` to its end. The process must have one thread only. From when the command runs,
/// standard input, output and error are the command's alone, and this process has none.
///
/// # Errors
/// When the command did not run.
pub fn run(
    command: Command,
    plan: Plan,
    owners: impl FnOnce() -> Box<dyn Owners>,
) -> Result<Ended, LaunchError> {
    let start = |error: Errno| LaunchError::Start(error.into());
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(LaunchError::Threads);
    }
    // Whoever started us may not wish to hear of its children; we and the guardian must.
    // SAFETY: the default action is no function of ours.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }
        .map_err(|error| LaunchError::Start(error.into()))?;
    let (ours, guardians) = handover::pair().map_err(start)?;
    let process = pidfd_open(getpid(), PidfdFlags::empty()).map_err(start)?;
    // Whatever becomes of the guardian, the command stays a child of ours.
    set_child_subreaper(Some(getpid())).map_err(start)?;
    let mut signals_before = SigSet::empty();
    let passed_on = passed_on();
    let block = SigmaskHow::SIG_BLOCK;
    pthread_sigmask(block, Some(&passed_on), Some(&mut signals_before))
        .map_err(|error| LaunchError::Start(error.into()))?;
    let signals = SignalFd::with_flags(&passed_on, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|error| LaunchError::Start(error.into()))?;
    // SAFETY: there is one thread, so that all of the child's memory is as it should be.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            drop((ours, signals));
            let caller = Caller {
                words: guardians,
                process,
            };
            guardian::guard(command, settings(plan), owners, &caller, &signals_before)
        }
        Ok(ForkResult::Parent { child }) => {
            drop((guardians, process, plan, command));
            attend(&ours, &signals, child.as_raw())
        }
        Err(error) => Err(LaunchError::Start(error.into())),
    }
}

fn settings(plan: Plan) -> Settings {
    Settings {
        policy: Policy {
            personal: plan.personal,
            uid: rustix::process::geteuid().as_raw(),
            first_user: users::first_ordinary(),
            public: plan.public,
        },
        locks: plan.locks && plan.key.is_some(),
        map: plan.map,
        key: plan.key,
        by_replacing: plan.always_replaces || plan.features.cannot_take.is_some(),
        is_steady: plan.features.is_steady,
    }
}

/// What is blocked here: all but what would tell of an error in this process.
fn passed_on() -> SigSet {
    let mut signals = SigSet::all();
    for own in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGTRAP,
        Signal::SIGSYS,
        Signal::SIGABRT,
    ] {
        signals.remove(own);
    }
    signals
}

/// Whether the command is to get a signal that came here.
fn is_for_command(signal: &siginfo, guardian: i32) -> bool {
    let number = signal.ssi_signo as libc::c_int;
    // The guardian lets us go on after the command did.
    let was_sent = signal.ssi_code <= 0 && signal.ssi_pid.cast_signed() != guardian;
    // What a terminal sends goes to the whole group, in which the command is; but the end of the
    // terminal is told to the leader of its session alone, which the command would be instead of us.
    // A session that began outside of the namespace has the number 0, which rustix takes for none.
    let leads = || unistd::getsid(None).is_ok_and(|id| id == unistd::getpid());
    let ends_session = number == libc::SIGHUP && leads();
    number != libc::SIGCHLD && (was_sent || ends_session)
}

/// Stands for the command until it ends.
fn attend(
    guardian: &OwnedFd,
    signals: &SignalFd,
    guardian_process: i32,
) -> Result<Ended, LaunchError> {
    let mut command = None;
    loop {
        let mut wanted = [
            PollFd::new(guardian, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut wanted, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(LaunchError::Start(error.into())),
        }
        let [has_note, has_signal] = wanted.map(|it| !it.revents().is_empty());
        if has_signal {
            while let Ok(Some(signal)) = signals.read_signal() {
                if is_for_command(&signal, guardian_process) {
                    // One that has ended gets no more.
                    let _ = handover::send(guardian, (0, signal.ssi_signo as i32), None);
                }
            }
        }
        if !has_note {
            continue;
        }
        match guardian::hear(guardian) {
            Some(Note::Started(pid)) => {
                command = Some(pid);
                // It is for others' sake; a reader may then wait longer.
                let _ = quiet::let_go(&[guardian.as_fd(), signals.as_fd()]);
            }
            Some(Note::NotStarted(error)) => return Err(LaunchError::Command(error)),
            Some(Note::Ended(status)) => return Ok(Ended::of(status)),
            None => match command.and_then(Pid::from_raw) {
                Some(command) => {
                    // It closes its files first, and gives its children away before it can be waited
                    // for: until then the command is not ours.
                    let guardian = Pid::from_raw(guardian_process);
                    while let Err(Errno::INTR) = waitpid(guardian, WaitOptions::empty()) {}
                    return attend_alone(command, signals);
                }
                None => return Err(LaunchError::Guardian),
            },
        }
    }
}

/// The same without the guardian, when somebody killed it. Then the command is a child of ours.
fn attend_alone(command: Pid, signals: &SignalFd) -> Result<Ended, LaunchError> {
    loop {
        match waitpid(Some(command), WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => {
                let _ = nix::sys::signal::raise(Signal::SIGSTOP);
            }
            Ok(Some((_, status))) => return Ok(Ended::of(status.as_raw())),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(LaunchError::Start(error.into())),
        }
        match poll(&mut [PollFd::new(signals, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(LaunchError::Start(error.into())),
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            if is_for_command(&signal, 0) {
                guardian::kill(command, signal.ssi_signo as i32);
            }
        }
    }
}
