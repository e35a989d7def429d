//! 100 GB through one process, both ways and in every framing, with no more memory than at the start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{task::JoinSet, time::sleep};

use super::{Outcome, Soak, size};
use crate::{descriptors, pattern::Pattern, process::Process};

mod transfer;

use transfer::{Transfer, WAYS};

/// All that is to go through, over all ways.
const FULL_BYTES: u64 = 100_000_000_000;
/// Long enough for whatever piles up per message to be seen.
const MOST_PER_MESSAGE: u64 = 2_000_000_000;
/// The first of it may bring in pages and fill pools: a twentieth, or this much.
const WARM_UP: u64 = 20;
const WARM_UP_BYTES: u64 = 100_000_000;
/// What the memory may grow by after that: less than any one message.
const GROWTH_BYTES: u64 = 4 << 20;
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(20);
/// Nobody here pauses.
const STALLED: Duration = Duration::from_secs(20);

pub(super) async fn run(soak: &Soak) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let each = soak.scaled(FULL_BYTES, 60_000_000) / WAYS.len() as u64;
    let message = (each / 4).min(MOST_PER_MESSAGE);
    let proxy = soak.program.start()?;
    descriptors::raise()?;
    let (_server, target_port) = soak.peers.server().await?;
    let (pattern, moved) = (Arc::new(Pattern::new()), Arc::new(AtomicU64::new(0)));
    let before = proxy.process().usage()?;
    let start = Instant::now();

    let mut flows = JoinSet::new();
    for way in WAYS {
        let (route, pattern, moved) = (proxy.route(target_port), pattern.clone(), moved.clone());
        flows.spawn(async move {
            let mut done = 0;
            while done < each {
                let bytes = message.min(each - done);
                let transfer = Transfer {
                    route: &route,
                    pattern: &pattern,
                    moved: &moved,
                    bytes,
                };
                transfer
                    .run(way)
                    .await
                    .with_context(|| format!("{way:?}, after `{done}`"))?;
                done += bytes;
            }
            anyhow::Ok(())
        });
    }
    let all = each * WAYS.len() as u64;
    let warm = (all / WARM_UP).max(WARM_UP_BYTES).min(all / 2);
    let memory = watch(proxy.process(), &moved, warm, flows).await;
    let memory = memory.inspect_err(|error| outcome.faults.push(format!("{error:#}")));
    let (elapsed, moved) = (start.elapsed(), moved.load(Relaxed));
    let used = proxy.process().usage()?.since(before);

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let gigabytes = moved as f64 / 1e9;
    let (seconds, cpu) = (elapsed.as_secs_f64(), used.cpu.as_secs_f64());
    outcome.figure(
        "moved",
        format!("{gigabytes:.1} GB in {seconds:.0} s, all bytes checked"),
    );
    outcome.figure(
        "speed",
        format!("{:.2} GB/s, all ways at once", gigabytes / seconds),
    );
    outcome.figure("proxy CPU", format!("{:.2} s/GB", cpu / gigabytes));
    if let Ok(Memory { warm, most, looks }) = memory {
        let figure = format!(
            "{} when warm, {} at most, {looks} looks",
            size(warm),
            size(most)
        );
        outcome.figure("proxy memory", figure);
        let growth = most.saturating_sub(warm);
        outcome.must(growth <= GROWTH_BYTES, || {
            format!("the memory grew by {}", size(growth))
        });
    }
    Ok(outcome)
}

/// The peaks of the memory, during the warm-up and after it.
pub(super) struct Memory {
    pub(super) warm: u64,
    pub(super) most: u64,
    pub(super) looks: u64,
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
