//! Pages of 50 MB, several at a time, plain and in gzip, rewritten on their way: what is in memory of them
//! does not grow with their length.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use super::{Outcome, Soak, memory::watch, size};
use crate::{client::Connection, page::Checker, route::Route};

/// How long a page is.
const FULL_BYTES: u64 = 50_000_000;
/// How many are on their way at once: half of them plain, half in gzip.
const CLIENTS: u64 = 8;
/// How many each client asks for.
const PAGES: u64 = 5;
/// Which part of it all fills buffers and pools.
const WARM_UP: u64 = 10;
/// What the memory may grow by after that: a small part of one page, of which eight are on their way.
const GROWTH_BYTES: u64 = 6 << 20;
/// What is read at once.
const BUFFER_BYTES: usize = 64 * 1024;

pub(super) async fn run(soak: &Soak) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let bytes = soak.scaled(FULL_BYTES, 5_000_000);
    let proxy = soak.program.start()?;
    let (_server, target_port) = soak.peers.server().await?;
    let moved = Arc::new(AtomicU64::new(0));
    let before = proxy.process().usage()?;
    let start = Instant::now();

    let mut flows = JoinSet::new();
    for client in 0..CLIENTS {
        let path = match client % 2 {
            0 => format!("/page/{bytes}"),
            _ => format!("/gzip/{bytes}"),
        };
        let (route, moved) = (proxy.route(target_port), moved.clone());
        flows.spawn(async move {
            for page in 0..PAGES {
                let asked = ask(&route, &path, bytes, &moved).await;
                asked.with_context(|| format!("`{path}`, after `{page}`"))?;
            }
            anyhow::Ok(())
        });
    }
    let warm_up = CLIENTS * PAGES * bytes / WARM_UP;
    let memory = watch(proxy.process(), &moved, warm_up, flows).await;
    let (elapsed, moved) = (start.elapsed(), moved.load(Relaxed));
    let used = proxy.process().usage()?.since(before);

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let megabytes = moved as f64 / 1e6;
    let (seconds, cpu) = (elapsed.as_secs_f64(), used.cpu.as_secs_f64());
    outcome.figure(
        "moved",
        format!(
            "{} pages of {}, {CLIENTS} at once, {megabytes:.0} MB in {seconds:.1} s, all rows checked",
            CLIENTS * PAGES,
            size(bytes)
        ),
    );
    outcome.figure("proxy CPU", format!("{:.2} s/GB", cpu / megabytes * 1e3));
    outcome.judge(memory, GROWTH_BYTES);
    Ok(outcome)
}

/// Asks for one page as a browser does.
async fn ask(route: &Route, path: &str, bytes: u64, moved: &AtomicU64) -> Result<()> {
    let mut connection = Connection::open(route, BUFFER_BYTES).await?;
    let head = route.head("GET", path, "Sec-Fetch-Dest: document\r\n");
    connection.send(head.as_bytes()).await?;
    let mut checker = Checker::new(&route.prefix);
    let status = connection.answer(|part| {
        moved.fetch_add(part.len() as u64, Relaxed);
        checker.take(part)
    });
    let status = status.await?;
    ensure!(status == 200, "answered {status}");
    checker.end(bytes)
}
