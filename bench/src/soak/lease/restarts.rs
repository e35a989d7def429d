//! Two proxies in one home, started and ended in every order.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed, time::Duration};

use anyhow::Result;
use rustix::process::Signal;

use super::{JOBS, Shared};
use crate::{
    lease::Found,
    noise::Noise,
    proxy::{Lease, Program, Started},
    soak::Outcome,
};

/// A lease that is not complete by now has lost a file.
const PUBLISHED: Duration = Duration::from_secs(5);

/// A proxy whose lease is complete.
type Running = (Started, Lease);

/// The two proxies, and what is done to them.
pub(super) struct Restarts {
    programs: [Program; 2],
    running: [Option<Running>; 2],
    // Behind what runs in it, so that it is removed last.
    shared: Shared,
    /// How long the last start took.
    usual: Duration,
    noise: Noise,
    started: u64,
    terminated: u64,
    killed: u64,
    killed_early: u64,
    crossed: u64,
    pub(super) outcome: Outcome,
}

impl Restarts {
    /// Of a program, in the home that all see.
    pub(super) fn new(program: &Program, shared: Shared) -> Self {
        Self {
            programs: JOBS.map(|job| program.clone().in_job(job)),
            running: [None, None],
            shared,
            usual: Duration::from_millis(5),
            noise: Noise::new(1),
            started: 0,
            terminated: 0,
            killed: 0,
            killed_early: 0,
            crossed: 0,
            outcome: Outcome::default(),
        }
    }

    /// Starts and ends them so often, and on until all was read so often.
    pub(super) fn run(&mut self, restarts: u64, reads: u64) -> Result<()> {
        let mut round = 0;
        while self.started < restarts || self.shared.reads.load(Relaxed) < reads {
            if self.shared.stop.load(Relaxed) || self.outcome.faults.len() >= 10 {
                break;
            }
            let (one, other) = (round % 2, (round + 1) % 2);
            match self.noise.below(4) {
                0 | 1 => self.terminate(one, other)?,
                2 => self.kill(one)?,
                _ => self.cross(one, other)?,
            }
            if self.running[one].is_none() {
                if self.noise.below(4) == 0 {
                    self.kill_early(one)?;
                }
                self.start(one)?;
            }
            round += 1;
        }
        let names: BTreeSet<String> = self.shared.home.names().into_iter().collect();
        let litter = names.iter().filter(|name| name.ends_with(".new")).count();
        let Self {
            started,
            terminated,
            killed,
            killed_early,
            crossed,
            outcome,
            ..
        } = self;
        outcome.figure("starts", started);
        let ends = format!(
            "{terminated} by SIGTERM ({crossed} while the other started), {killed} by SIGKILL \
             ({killed_early} while starting)"
        );
        outcome.figure("ends", ends);
        outcome.figure("left by kills", format!("{litter} temporary files"));
        Ok(())
    }

    fn spawn(&mut self, slot: usize) -> Result<Started> {
        self.started += 1;
        self.programs[slot].spawn(self.shared.directory.path())
    }

    fn start(&mut self, slot: usize) -> Result<()> {
        let started = self.spawn(slot)?;
        let lease = started.awaits_lease_for(PUBLISHED)?;
        self.usual = lease.took;
        self.running[slot] = Some((started, lease));
        Ok(())
    }

    /// Until somewhere in the start that has just begun, or a little after it.
    fn sleep_within_a_start(&mut self) {
        let most = u64::try_from(self.usual.as_micros()).expect("a start took less than a year");
        std::thread::sleep(Duration::from_micros(self.noise.below(most * 5 / 4 + 1)));
    }

    /// A start that is cut short, anywhere.
    fn kill_early(&mut self, slot: usize) -> Result<()> {
        let mut started = self.spawn(slot)?;
        self.sleep_within_a_start();
        started.signal(Signal::KILL)?;
        started.awaits_end()?;
        self.killed += 1;
        self.killed_early += 1;
        Ok(())
    }

    fn kill(&mut self, slot: usize) -> Result<()> {
        if let Some((mut started, _)) = self.running[slot].take() {
            started.signal(Signal::KILL)?;
            started.awaits_end()?;
            self.killed += 1;
        }
        Ok(())
    }

    /// Asks one to end while the other stays: what is the other's must stay too.
    fn terminate(&mut self, slot: usize, other: usize) -> Result<()> {
        let Some((mut started, lease)) = self.running[slot].take() else {
            return Ok(());
        };
        let home = self.shared.home.clone();
        let (port, token) = (home.port(), home.token());
        started.signal(Signal::TERM)?;
        self.judge_end(&mut started)?;
        // The files without a name are the last starter's.
        let expected = match port {
            Found::Whole(port) if port == lease.record.port => Found::Nothing,
            other => other,
        };
        let found = home.port();
        let which = format!(
            "after the end of {} on port {}",
            started.name(),
            lease.record.port
        );
        self.outcome.must(found == expected, || {
            format!("the port file is `{found:?}`, not `{expected:?}`, {which}")
        });
        let expected = match token {
            Found::Whole(token) if token == lease.token => Found::Nothing,
            other => other,
        };
        self.outcome.must(home.token() == expected, || {
            format!("another token {which}")
        });
        self.judge_other(other, &which);
        Ok(())
    }

    /// Asks one to end just as the other starts: the files without a name end up the other's.
    fn cross(&mut self, slot: usize, other: usize) -> Result<()> {
        self.kill(other)?;
        let Some((mut ending, lease)) = self.running[slot].take() else {
            return Ok(());
        };
        let starting = self.spawn(other)?;
        self.sleep_within_a_start();
        ending.signal(Signal::TERM)?;
        self.judge_end(&mut ending)?;
        self.crossed += 1;
        match starting.awaits_lease_for(PUBLISHED) {
            Ok(lease) => self.running[other] = Some((starting, lease)),
            Err(error) => {
                let home = &self.shared.home;
                let (port, token) = (home.port(), home.token());
                let record = home.record_of(starting.name());
                self.outcome.faults.push(format!(
                    "{} lost a file as {} on port {} ended: port `{port:?}`, token `{token:?}`, \
                     record `{record:?}`: {error:#}",
                    starting.name(),
                    ending.name(),
                    lease.record.port,
                ));
            }
        }
        Ok(())
    }

    /// It ended well, and took its own files along.
    fn judge_end(&mut self, ending: &mut Started) -> Result<()> {
        let status = ending.awaits_end()?;
        self.terminated += 1;
        let (home, name) = (&self.shared.home, ending.name());
        let left = home.record_of(name) != Found::Nothing || home.token_of(name) != Found::Nothing;
        self.outcome.must(status.success(), || {
            format!("{name} ended with {status}: {}", ending.log().trim())
        });
        self.outcome
            .must(!left, || format!("{name} left its record or token"));
        Ok(())
    }

    /// The other's own files are what they were.
    fn judge_other(&mut self, other: usize, which: &str) {
        let Some((started, lease)) = &self.running[other] else {
            return;
        };
        let (home, name) = (&self.shared.home, started.name());
        let same = home.record_of(name) == Found::Whole(lease.record.clone())
            && home.token_of(name) == Found::Whole(lease.token.clone());
        self.outcome
            .must(same, || format!("{name} lost its record or token {which}"));
    }
}
