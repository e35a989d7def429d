//! The process between the one that waits and the command: the command's parent, everybody's
//! supervisor, the last to leave.

use std::{
    convert::Infallible,
    env, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use nix::{
    sys::{
        signal::{self, SigHandler, SigSet, SigmaskHow, pthread_sigmask},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{ForkResult, fork},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{
        Pid, Resource, Rlimit, Signal, WaitOptions, getpid, getrlimit, pidfd_send_signal,
        set_child_subreaper, setpgid, setrlimit, wait,
    },
};

use crate::{
    connecting, filter, handover,
    notify::Listener,
    owners::Owners,
    quiet,
    supervisor::{Settings, Supervisor},
};

/// What the guardian tells of the command.
#[derive(Debug)]
pub(crate) enum Note {
    /// It runs, under this number.
    Started(i32),
    /// It does not.
    NotStarted(io::Error),
    /// It ended, as wait(2) tells it.
    Ended(i32),
}

const STARTED: u8 = 1;
const NOT_STARTED: u8 = 2;
const ENDED: u8 = 3;

/// Who waits for the command.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Where it hears of the command, and tells what signals there are for it.
    pub(crate) words: OwnedFd,
    /// Its process.
    pub(crate) process: OwnedFd,
}

/// Waits for the next note; nothing when the guardian is gone.
pub(crate) fn hear(guardian: &OwnedFd) -> Option<Note> {
    let ((kind, number), _) = handover::receive(guardian).ok()??;
    match kind {
        STARTED => Some(Note::Started(number)),
        NOT_STARTED => Some(Note::NotStarted(io::Error::from_raw_os_error(number))),
        ENDED => Some(Note::Ended(number)),
        _ => None,
    }
}

/// What the child tells before it becomes the command.
const UNDER_FILTER: u8 = 1;
const UNDER_STEADY_FILTER: u8 = 2;
const FAILED: u8 = 3;

/// Starts the command and stays until nothing is left of it.
pub(crate) fn guard(
    command: Command,
    settings: Settings,
    owners: impl FnOnce() -> Box<dyn Owners>,
    caller: &Caller,
    signals: &SigSet,
) -> ! {
    let status = match try_guard(command, settings, owners, caller, signals) {
        Ok(()) => 0,
        Err(error) => {
            tell(caller, NOT_STARTED, error.raw_os_error());
            1
        }
    };
    // SAFETY: ends the process, and nothing of it runs any more. What its parent had to undo at its
    // end, its parent undoes.
    unsafe { libc::_exit(status) }
}

fn try_guard(
    command: Command,
    settings: Settings,
    owners: impl FnOnce() -> Box<dyn Owners>,
    caller: &Caller,
    signals: &SigSet,
) -> Result<(), Errno> {
    // Orphans stay descendants.
    set_child_subreaper(Some(getpid()))?;
    set_mask(&SigSet::all())?;
    let children = SignalFd::with_flags(
        &SigSet::from_iter([signal::Signal::SIGCHLD]),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )
    .map_err(errno)?;
    let (ours, childs) = handover::pair()?;
    // SAFETY: there is one thread, so that all of the child's memory is as it should be.
    let pid = match unsafe { fork() }.map_err(errno)? {
        ForkResult::Child => {
            drop(ours);
            become_command(command, &childs, signals)
        }
        ForkResult::Parent { child } => Pid::from_raw(child.as_raw()).ok_or(Errno::CHILD)?,
    };
    drop(childs);
    // What is sent to the command's group is not for us, while the terminal's session still is: a
    // command whose parent is in another one cannot be stopped from the terminal.
    let _ = setpgid(None, None);
    let _ = rustix::thread::set_name(c"localhost");
    // Not to hold up who wants to unmount it.
    let _ = env::set_current_dir("/");
    let _ = quiet::let_go(&[
        caller.words.as_fd(),
        caller.process.as_fd(),
        children.as_fd(),
        ours.as_fd(),
    ]);
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files.maximum,
            ..files
        },
    );
    connecting::prepare_signals()?;
    let mut guardian = Guardian {
        caller: Some(caller),
        command: pid,
        is_running: true,
        begins: None,
        children,
        supervisor: None,
    };
    match handover::receive(&ours)? {
        Some(((kind, _), Some(listener))) => {
            let settings = Settings {
                is_steady: kind == UNDER_STEADY_FILTER,
                ..settings
            };
            let listener = Listener::new(listener);
            guardian.supervisor = Some(Supervisor::new(listener, settings, owners()));
            guardian.begins = Some(ours);
        }
        Some(((FAILED, error), None)) => guardian.tell(NOT_STARTED, error),
        Some(_) | None => {}
    }
    guardian.stay()
}

/// The child: puts itself under the filter and becomes the command.
fn become_command(mut command: Command, guardian: &OwnedFd, signals: &SigSet) -> ! {
    let Err(error) = try_become(&mut command, guardian, signals);
    let number = error.raw_os_error().unwrap_or(libc::EINVAL);
    let _ = handover::send(guardian, (FAILED, number), None);
    // SAFETY: ends the process, and nothing of it runs any more.
    unsafe { libc::_exit(127) }
}

fn try_become(
    command: &mut Command,
    guardian: &OwnedFd,
    signals: &SigSet,
) -> io::Result<Infallible> {
    let installed = filter::install()?;
    let kind = if installed.is_steady {
        UNDER_STEADY_FILTER
    } else {
        UNDER_FILTER
    };
    handover::send(guardian, (kind, 0), Some(&installed.listener))?;
    drop(installed);
    // The Rust runtime ignores it, and what is ignored stays so in the command.
    // SAFETY: the default action is no function of ours.
    unsafe { signal::signal(signal::Signal::SIGPIPE, SigHandler::SigDfl) }?;
    set_mask(signals)?;
    Err(command.exec())
}

struct Guardian<'a> {
    /// Who waits for the command.
    caller: Option<&'a Caller>,
    command: Pid,
    is_running: bool,
    /// Closed when the child became the command.
    begins: Option<OwnedFd>,
    children: SignalFd,
    supervisor: Option<Supervisor>,
}

/// What there is to see to.
struct Events {
    call: PollFlags,
    beginning: bool,
    word: bool,
    child: bool,
}

impl Guardian<'_> {
    /// Serves until there are no more children: all that the command started are ours by then.
    fn stay(&mut self) -> Result<(), Errno> {
        loop {
            let events = self.wait()?;
            if events.beginning {
                self.begin();
            }
            if events.word {
                self.pass_on();
            }
            if events.child && !self.reap()? {
                return Ok(());
            }
            if let Some(supervisor) = &mut self.supervisor {
                supervisor.tend();
                if events.call.contains(PollFlags::IN) {
                    supervisor.serve()?;
                } else if !events.call.is_empty() {
                    // Nobody is under the filter any more. Who is left needs but a parent.
                    self.supervisor = None;
                }
            }
        }
    }

    fn wait(&self) -> Result<Events, Errno> {
        let listener = self.supervisor.as_ref().map(Supervisor::listener);
        let places = [
            listener.map(AsFd::as_fd),
            self.begins.as_ref().map(AsFd::as_fd),
            self.caller.map(|caller| caller.words.as_fd()),
            Some(self.children.as_fd()),
        ];
        let mut wanted: Vec<PollFd<'_>> = places
            .iter()
            .flatten()
            .map(|place| PollFd::from_borrowed_fd(*place, PollFlags::IN))
            .collect();
        let patience = self.supervisor.as_ref().and_then(Supervisor::patience);
        let patience = patience.map(|it| it.try_into().expect("a short time"));
        match poll(&mut wanted, patience.as_ref()) {
            // What is there is found the next time.
            Err(Errno::INTR) => wanted.iter_mut().for_each(PollFd::clear_revents),
            polled => {
                polled?;
            }
        }
        let mut found = wanted.iter().map(PollFd::revents);
        let [call, beginning, word, child] = places.map(|place| {
            place
                .and_then(|_| found.next())
                .unwrap_or(PollFlags::empty())
        });
        Ok(Events {
            call,
            beginning: !beginning.is_empty(),
            word: !word.is_empty(),
            child: !child.is_empty(),
        })
    }

    /// The child became the command, or says why not.
    fn begin(&mut self) {
        let Some(child) = self.begins.take() else {
            return;
        };
        match handover::receive(&child) {
            Ok(Some(((_, error), _))) => self.tell(NOT_STARTED, error),
            Ok(None) | Err(_) => self.tell(STARTED, self.command.as_raw_pid()),
        }
    }

    /// A signal for the command, or the end of who waits for it: by SIGKILL, which could not be
    /// passed on otherwise.
    fn pass_on(&mut self) {
        let Some(caller) = self.caller else {
            return;
        };
        let signal = match handover::receive(&caller.words) {
            Ok(Some(((_, signal), _))) => signal,
            Ok(None) | Err(_) => {
                self.caller = None;
                libc::SIGKILL
            }
        };
        if self.is_running {
            kill(self.command, signal);
        }
    }

    /// Sees to children that ended or stopped, and says whether there are others.
    fn reap(&mut self) -> Result<bool, Errno> {
        while let Ok(Some(_)) = self.children.read_signal() {}
        loop {
            let all = WaitOptions::UNTRACED | WaitOptions::CONTINUED;
            let (pid, status) = match wait(WaitOptions::NOHANG | all) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(true),
                Err(Errno::CHILD) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            if pid != self.command || !self.is_running {
                continue;
            }
            if status.stopped() || status.continued() {
                self.stop_or_go_on(status.stopped());
                continue;
            }
            // First things first.
            self.begin();
            self.is_running = false;
            self.tell(ENDED, status.as_raw());
        }
    }

    /// Whoever waits for our caller sees of it what it would see of the command. Both signals come
    /// from here, so that they arrive in the order of what they tell.
    fn stop_or_go_on(&self, stops: bool) {
        if let Some(caller) = self.caller {
            let signal = if stops { Signal::STOP } else { Signal::CONT };
            // One that is gone need not know.
            let _ = pidfd_send_signal(&caller.process, signal);
        }
    }

    fn tell(&self, kind: u8, number: i32) {
        if let Some(caller) = self.caller {
            tell(caller, kind, number);
        }
    }
}

fn tell(caller: &Caller, kind: u8, number: i32) {
    // One that is gone need not know.
    let _ = handover::send(&caller.words, (kind, number), None);
}

/// Sends a signal to a child that was not waited for, so that the number is its own.
pub(crate) fn kill(child: Pid, signal: i32) {
    // SAFETY: sends a signal, and touches no memory.
    unsafe { libc::kill(child.as_raw_pid(), signal) };
}

fn set_mask(mask: &SigSet) -> Result<(), Errno> {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(mask), None).map_err(errno)
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}
