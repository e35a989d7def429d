//! A connect that is made for its caller, on the caller's socket. Nothing may hold up the one who
//! does that for everybody: whatever is not over at once goes on in a thread of its own.

use std::{
    net::SocketAddr,
    os::unix::thread::JoinHandleExt,
    ptr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};
use rustix::{io::Errno, net::connect};

use crate::{
    fallback::Held,
    lock::Key,
    notify::{Answer, Listener},
};

/// On loopback a connection is there at once, or it waits for its server.
const AT_ONCE: Duration = Duration::from_millis(2);
/// Ends a connect that takes longer.
const TOO_LONG: Signal = Signal::SIGALRM;
/// Ends a connect in a thread, whose caller is gone.
const GIVEN_UP: Signal = Signal::SIGUSR1;
/// A thread calls the kernel and nothing else.
const STACK_BYTES: usize = 64 * 1024;
/// Each has a thread and a descriptor.
const MOST_AT_A_TIME: usize = 1000;

/// A connect to be made.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) id: u64,
    pub(crate) held: Held,
    pub(crate) to: SocketAddr,
    /// The key that the socket has got for it.
    pub(crate) key: Option<Key>,
}

impl Attempt {
    /// Makes it. A second time it waits for the end of the first.
    pub(crate) fn make(&self) -> Result<(), Errno> {
        connect(&self.held, &self.to)
    }

    /// Makes it if that takes no time; nothing when it has only begun.
    pub(crate) fn make_at_once(&self) -> Option<Result<(), Errno>> {
        set_alarm(AT_ONCE);
        let made = self.make();
        set_alarm(Duration::ZERO);
        (made != Err(Errno::INTR)).then_some(made)
    }

    /// What its caller is told, who has then got everything.
    pub(crate) fn settle(&self, listener: &Listener, made: Result<(), Errno>) -> Answer {
        // The socket has a connection by now, or may come to have it.
        const UNDER_WAY: [Errno; 4] = [
            Errno::INPROGRESS,
            Errno::ALREADY,
            Errno::ISCONN,
            Errno::INTR,
        ];
        let has_failed = made.is_err_and(|error| !UNDER_WAY.contains(&error));
        if has_failed && self.key.is_some() {
            Key::withdraw(&self.held, self.to);
        }
        let handed_over = if has_failed {
            Ok(())
        } else {
            self.held.hand_over(listener, self.id)
        };
        match handed_over.and(made) {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(error),
        }
    }
}

/// Connects that take their time.
#[derive(Debug, Default)]
pub(crate) struct Slow(Vec<Wait>);

#[derive(Debug)]
struct Wait {
    id: u64,
    thread: JoinHandle<()>,
}

impl Slow {
    /// Goes on with one in a thread, which answers its caller.
    pub(crate) fn start(
        &mut self,
        attempt: Attempt,
        listener: &Arc<Listener>,
    ) -> Result<(), Errno> {
        if self.0.len() >= MOST_AT_A_TIME {
            return Err(Errno::AGAIN);
        }
        let (id, listener) = (attempt.id, Arc::clone(listener));
        let thread = thread::Builder::new()
            .name("connect".into())
            .stack_size(STACK_BYTES)
            .spawn(move || see_through(&attempt, &listener))
            .map_err(|_| Errno::AGAIN)?;
        self.0.push(Wait { id, thread });
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets those that are over, and ends those that nobody waits for.
    pub(crate) fn tend(&mut self, listener: &Listener) {
        let (over, under_way) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|wait| wait.thread.is_finished());
        self.0 = under_way;
        for wait in over {
            // It does not panic, and there would be nothing to do about it.
            let _: thread::Result<()> = wait.thread.join();
        }
        for wait in &self.0 {
            if !listener.still_waits(wait.id) {
                // SAFETY: the thread was not joined, so that its number is its own; a handler for
                // the signal is there, which does nothing.
                unsafe { libc::pthread_kill(wait.thread.as_pthread_t(), GIVEN_UP as libc::c_int) };
            }
        }
    }
}

/// To the end of the connect, or of its caller.
fn see_through(attempt: &Attempt, listener: &Listener) {
    let set = |signal: Signal| SigSet::from_iter([signal]);
    // These cannot fail: the signals are known ones.
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set(TOO_LONG)), None);
    let _ = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set(GIVEN_UP)), None);
    let made = loop {
        match attempt.make() {
            // As the caller would see it. The connect goes on without either of us.
            Err(Errno::INTR) if !listener.still_waits(attempt.id) => return,
            Err(Errno::INTR) => {}
            made => break made,
        }
    };
    // Without the listener there is nobody to answer to.
    let _ = listener.answer(attempt.id, attempt.settle(listener, made));
}

/// Makes ready for the signals that end a connect. All other signals are to be blocked.
pub(crate) fn prepare_signals() -> Result<(), Errno> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        // Not `SA_RESTART`: the call shall end.
        SaFlags::empty(),
        SigSet::empty(),
    );
    for signal in [TOO_LONG, GIVEN_UP] {
        // SAFETY: the handler does nothing, which is safe at any time.
        unsafe { sigaction(signal, &action) }
            .map_err(|error| Errno::from_raw_os_error(error as i32))?;
    }
    pthread_sigmask(
        SigmaskHow::SIG_UNBLOCK,
        Some(&SigSet::from_iter([TOO_LONG])),
        None,
    )
    .map_err(|error| Errno::from_raw_os_error(error as i32))
}

/// Sends [`TOO_LONG`] after this time and again each time, until it is set to zero: the first one
/// may come before the call that it shall end.
fn set_alarm(time: Duration) {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: libc::suseconds_t::from(time.subsec_micros() as i32),
    };
    let timer = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: the kernel reads one structure, and is not asked for the old one.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
}
