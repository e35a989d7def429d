//! 10,000 idle WebSockets: all are opened, all live, and each costs little.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{sleep, timeout};

use super::{Outcome, Soak, size};
use crate::{client::Connection, descriptors, http::ignore, sockets};

/// All that is wanted.
const FULL: u64 = 10_000;
/// Each costs the proxy the client's connection and the dev server's.
const DESCRIPTORS_EACH: u64 = 2;
/// A handshake takes less than a millisecond.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn run(soak: &Soak) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let wanted = soak.scaled(FULL, 50);
    let number = wanted.min(descriptors::connections(DESCRIPTORS_EACH));
    let program = soak
        .program
        .clone()
        .with_if_known("--max-connections", number + 100)?;
    let proxy = program.start()?;
    descriptors::raise()?;
    let (_server, target_port) = soak.peers.server().await?;
    let route = proxy.route(target_port);
    // The first request brings in pages that are no socket's.
    timeout(
        DEADLINE,
        Connection::open(&route, 512).await?.get("/small", ignore),
    )
    .await??;
    let before = proxy.process().rss_bytes()?;

    let (mut sockets, failures) = sockets::open(&route, number).await;
    let open = sockets.len() as u64;
    sleep(soak.time(Duration::from_secs(20), Duration::from_secs(1))).await;
    let after = proxy.process().rss_bytes()?;
    let each = after.saturating_sub(before) / open.max(1);
    let echoed = sockets::echo(&mut sockets, 32).await;

    let most = descriptors::most();
    outcome.figure(
        "sockets open",
        format!("{open} of {number} tried, {wanted} wanted"),
    );
    if number < wanted {
        let why = format!("a process may have {most} descriptors here, a socket needs 2");
        outcome.figure("fewer than wanted", why);
    }
    if let Some(limit) = proxy.process().descriptor_limit() {
        outcome.figure(
            "descriptors of the proxy",
            format!("{limit}, at most {most}"),
        );
    }
    outcome.figure("alive at the end", echoed);
    outcome.figure(
        "proxy memory",
        format!("{} before, {} after", size(before), size(after)),
    );
    outcome.figure("memory per socket", format!("{each} bytes"));
    outcome.must(open == number, || {
        let first = failures.first().map_or("no reason", String::as_str);
        format!("only {open} of {number} could be opened: {first}")
    });
    outcome.must(echoed == open, || format!("only {echoed} of {open} echoed"));
    Ok(outcome)
}
