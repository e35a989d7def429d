//! What the proxy withstands: scenarios that each say what they saw, and whether that is good enough.

use std::{fmt::Display, time::Duration};

use anyhow::Result;
use clap::ValueEnum;

use crate::{peer::Peers, proxy::Program};

mod bulk;
mod lease;
mod localhost;
mod memory;
mod owners;
mod pages;
mod slow;
mod websockets;

/// A scenario, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// 10,000 WebSockets that do nothing.
    Websockets,
    /// 2,000 slow clients, and a good one.
    Slow,
    /// 100 GB through one process.
    Bulk,
    /// Pages of 50 MB, several at a time, rewritten on their way.
    Pages,
    /// 1,000 restarts under the eyes of readers.
    Lease,
    /// A target port that changes hands every few milliseconds. Needs root.
    Owners,
    /// 3,000 programs in a private localhost under a storm of signals, and 1,500 that are killed.
    Localhost,
}

/// What all scenarios are given.
#[derive(Clone, Debug)]
pub struct Soak {
    /// The proxy under test.
    pub program: Program,
    /// Where dev servers and crowds come from.
    pub peers: Peers,
    /// Which part of the full size: 1 is all of it.
    pub scale: f64,
}

impl Soak {
    /// `full` at this scale, but at least `least`.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts, far below 2^53"
    )]
    fn scaled(&self, full: u64, least: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(least)
    }

    /// A time at this scale, between `least` and `full`.
    fn time(&self, full: Duration, least: Duration) -> Duration {
        full.mul_f64(self.scale.clamp(0.0, 1.0)).max(least)
    }

    /// Runs a scenario.
    ///
    /// # Errors
    /// It could not be run to its end; what it found to be wrong is in the outcome.
    pub async fn run(&self, scenario: Scenario) -> Result<Outcome> {
        match scenario {
            Scenario::Websockets => websockets::run(self).await,
            Scenario::Slow => slow::run(self).await,
            Scenario::Bulk => bulk::run(self).await,
            Scenario::Pages => pages::run(self).await,
            Scenario::Lease => lease::run(self).await,
            Scenario::Owners => owners::run(self).await,
            Scenario::Localhost => localhost::run(self).await,
        }
    }
}

/// What a scenario saw.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Names and values, in the order of the story.
    pub figures: Vec<(String, String)>,
    /// What should not have been.
    pub faults: Vec<String>,
    /// What it lacked, if it could not be run here.
    pub needs: Option<String>,
}

impl Outcome {
    fn figure(&mut self, name: &str, value: impl Display) {
        self.figures.push((name.to_owned(), value.to_string()));
    }

    /// A fault, unless it `holds`.
    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(otherwise());
        }
    }
}

/// Kilobytes, or megabytes where there are many.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{} KiB", bytes / 1024),
        10_000_000..10_000_000_000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}
