//! When a daemon is asked to stop.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Asks a daemon to stop: on SIGTERM, SIGINT or SIGHUP, and at the end of standard input if that
/// is its lifeline. The signals are caught and not blocked, for children would inherit the mask.
pub(crate) fn requests(until_stdin_closes: bool) -> anyhow::Result<Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    if until_stdin_closes {
        let sender = sender.clone();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while io::stdin().read(&mut buffer).is_ok_and(|n| n > 0) {}
            let _ = sender.send(());
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot start the runtime")?;
    let context = runtime.enter();
    let caught = |kind| signal(kind).context("cannot catch signals");
    let mut terminate = caught(SignalKind::terminate())?;
    let mut interrupt = caught(SignalKind::interrupt())?;
    let mut hangup = caught(SignalKind::hangup())?;
    drop(context);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        let _ = sender.send(());
    });
    Ok(receiver)
}
