//! A proxy's process, from its start to its end.

use std::{
    fs,
    path::PathBuf,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    lease::{Home, Record, Watch},
    process::Process,
};

/// A start takes milliseconds; who has waited this long waits for ever.
const DEADLINE: Duration = Duration::from_secs(20);

/// A proxy's process.
#[derive(Debug)]
pub struct Started {
    pub(super) child: Child,
    pub(super) begun: Instant,
    pub(super) watch: Watch,
    pub(super) home: Home,
    pub(super) name: String,
    pub(super) log: PathBuf,
}

/// A published lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// What the record says.
    pub record: Record,
    /// What a request must carry.
    pub token: String,
    /// How long it took from just before the start.
    pub took: Duration,
}

impl Started {
    /// Waits until port, token and record are there and agree.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub fn awaits_lease(&self) -> Result<Lease> {
        self.awaits_lease_for(DEADLINE)
    }

    /// The same, with a deadline from its start on.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub fn awaits_lease_for(&self, deadline: Duration) -> Result<Lease> {
        loop {
            if let Some((record, token)) = self.home.complete(&self.name, self.child.id()) {
                return Ok(Lease {
                    record,
                    token,
                    took: self.begun.elapsed(),
                });
            }
            if self.begun.elapsed() > deadline || self.has_ended() {
                bail!("the proxy published no lease: {}", self.log().trim());
            }
            self.watch.wait(Duration::from_millis(100))?;
        }
    }

    /// What the files about it are called: `job-ID` or `host-NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// It has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("an id of a process")?, signal).context("signal the proxy")
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It has not, in time.
    pub fn awaits_end(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().context("wait for the proxy")? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        bail!(
            "the proxy has not ended within {DEADLINE:?}: {}",
            self.log().trim()
        )
    }

    /// A zombie, until it is waited for.
    fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
