//! The proxy's memory while much goes through it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{task::JoinSet, time::sleep};

use super::{Outcome, size};
use crate::process::Process;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(20);
/// Nobody here pauses.
const STALLED: Duration = Duration::from_secs(20);

/// The peaks of the memory, during the warm-up and after it.
pub(super) struct Memory {
    warm: u64,
    most: u64,
    looks: u64,
}

impl Outcome {
    /// Tells of the memory, which may not have grown by more than this after the warm-up.
    pub(super) fn judge(&mut self, memory: Result<Memory>, growth_bytes: u64) {
        let Memory { warm, most, looks } = match memory {
            Ok(memory) => memory,
            Err(error) => return self.faults.push(format!("{error:#}")),
        };
        let (warm_size, most_size) = (size(warm), size(most));
        let figure = format!("{warm_size} when warm, {most_size} at most, {looks} looks");
        self.figure("proxy memory", figure);
        let growth = most.saturating_sub(warm);
        self.must(growth <= growth_bytes, || {
            format!("the memory grew by {}", size(growth))
        });
    }
}

/// Looks at the memory until all flows have ended.
pub(super) async fn watch(
    process: Process,
    moved: &AtomicU64,
    warm_up: u64,
    mut flows: JoinSet<Result<()>>,
) -> Result<Memory> {
    let mut memory = Memory {
        warm: 0,
        most: 0,
        looks: 0,
    };
    let (mut last, mut progress) = (0, Instant::now());
    loop {
        while let Some(ended) = flows.try_join_next() {
            ended.context("a flow")??;
        }
        let rss = process.rss_bytes()?;
        let now = moved.load(Relaxed);
        let peak = if now < warm_up {
            &mut memory.warm
        } else {
            &mut memory.most
        };
        *peak = rss.max(*peak);
        memory.looks += 1;
        if flows.is_empty() {
            return Ok(memory);
        }
        if now > last {
            (last, progress) = (now, Instant::now());
        }
        ensure!(
            progress.elapsed() < STALLED,
            "nothing has moved for {STALLED:?}, after `{now}`"
        );
        sleep(LOOK).await;
    }
}
