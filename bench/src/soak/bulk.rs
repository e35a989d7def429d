//! 100 GB through one process, both ways and in every framing, with no more memory than at the start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::{Outcome, Soak, memory::watch};
use crate::{descriptors, pattern::Pattern};

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
    outcome.judge(memory, GROWTH_BYTES);
    Ok(outcome)
}
