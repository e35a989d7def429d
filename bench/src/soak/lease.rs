//! 1,000 restarts in one home, which readers watch: never half a file, and nobody removes what is
//! another's (behaviours 128, 129, 130).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Outcome, Soak};
use crate::lease::{Found, Home};

mod restarts;

use restarts::Restarts;

/// Starts of a proxy, in all.
const RESTARTS: u64 = 1_000;
/// Of each file, at least.
const READS: u64 = 10_000;
/// Two proxies of one user, in two jobs, share a home.
const JOBS: [&str; 2] = ["101", "102"];
/// Threads that read.
const READERS: usize = 2;

pub(super) async fn run(soak: &Soak) -> Result<Outcome> {
    let directory = TempDir::with_prefix("hpc-bench-").context("make a home")?;
    let (restarts, reads) = (soak.scaled(RESTARTS, 40), soak.scaled(READS, 400));
    let stop = Stop(Arc::new(AtomicBool::new(false)));
    let shared = Shared {
        home: Home::at(directory.path()),
        directory: Arc::new(directory),
        stop: stop.0.clone(),
        reads: Arc::default(),
        nothing: Arc::default(),
    };
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let shared = shared.clone();
            tokio::task::spawn_blocking(move || shared.read_on())
        })
        .collect();
    let (program, driven) = (soak.program.clone(), shared.clone());
    let driving = tokio::task::spawn_blocking(move || {
        let mut restarting = Restarts::new(&program, driven);
        restarting.run(restarts, reads)?;
        anyhow::Ok(restarting.outcome)
    });
    let outcome = driving.await.context("the restarts")?;
    drop(stop);
    let mut broken = Vec::new();
    for reader in readers {
        broken.extend(reader.await.context("a reader")?);
    }
    let mut outcome = outcome?;
    outcome.figure("reads of each file", shared.reads.load(Relaxed));
    outcome.figure(
        "of these, no file",
        format!("{}, of six files", shared.nothing.load(Relaxed)),
    );
    outcome.figure("half files", broken.len());
    outcome.must(broken.is_empty(), || format!("half a file: {}", broken[0]));
    Ok(outcome)
}

/// Stops the threads when dropped, as on Ctrl-C.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// What all threads see.
#[derive(Clone)]
struct Shared {
    directory: Arc<TempDir>,
    home: Home,
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    nothing: Arc<AtomicU64>,
}

impl Shared {
    /// Reads all files again and again; returns those that were neither whole nor missing.
    fn read_on(&self) -> Vec<String> {
        let mut broken = Vec::new();
        while !self.stop.load(Relaxed) {
            let home = &self.home;
            self.judge(home.port(), &mut broken);
            self.judge(home.token(), &mut broken);
            for job in JOBS {
                self.judge(home.record_of(&format!("job-{job}")), &mut broken);
                self.judge(home.token_of(&format!("job-{job}")), &mut broken);
            }
            self.reads.fetch_add(1, Relaxed);
        }
        broken
    }

    fn judge<T>(&self, found: Found<T>, broken: &mut Vec<String>) {
        match found {
            Found::Whole(_) => {}
            Found::Nothing => {
                self.nothing.fetch_add(1, Relaxed);
            }
            Found::Broken(how) => broken.push(how),
        }
    }
}
