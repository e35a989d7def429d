//! What a proxy costs that does nothing, or holds what does nothing: a start, memory, idle time.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::{
    peer::Peers, process::Usage, proxy::Program, samples::Samples, sockets, subject::Subject,
};

/// After a start, before anything is measured: whatever it still does is done by then.
const SETTLED: Duration = Duration::from_secs(1);
/// What each socket echoes once.
const MESSAGE_BYTES: usize = 16 * 1024;

/// From just before exec to the complete lease, in milliseconds.
///
/// # Errors
/// One did not start.
pub fn starts(program: &Program, times: usize) -> Result<Samples> {
    // The first brings the program in from the disk.
    program.start()?;
    let times: Result<Vec<Duration>> = (0..times)
        .map(|_| Ok(program.start()?.lease.took))
        .collect();
    Ok(times?.into_iter().collect())
}

/// Memory after a start, in bytes.
#[derive(Clone, Debug)]
pub struct Resident {
    /// VmRSS.
    pub rss: Samples,
    /// PSS, where we may look.
    pub pss: Samples,
}

/// Memory after a start, of several.
///
/// # Errors
/// One did not start.
#[expect(clippy::cast_precision_loss, reason = "bytes, far below 2^53")]
pub async fn resident(program: &Program, times: usize) -> Result<Resident> {
    let proxies = (0..times)
        .map(|_| program.start())
        .collect::<Result<Vec<_>>>()?;
    sleep(SETTLED).await;
    let (mut rss, mut pss) = (Vec::new(), Vec::new());
    for proxy in &proxies {
        rss.push(proxy.process().rss_bytes()? as f64);
        pss.extend(proxy.process().pss_bytes().map(|bytes| bytes as f64));
    }
    Ok(Resident {
        rss: rss.into_iter().collect(),
        pss: pss.into_iter().collect(),
    })
}

/// What a proxy uses while nobody asks it for anything.
///
/// # Errors
/// It did not start.
pub async fn idle(program: &Program, time: Duration) -> Result<Usage> {
    let proxy = program.start()?;
    sleep(SETTLED).await;
    let before = proxy.process().usage()?;
    sleep(time).await;
    Ok(proxy.process().usage()?.since(before))
}

/// Memory for WebSockets, in bytes of VmRSS.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// How many were open.
    pub sockets: u64,
    /// For each, before anything was said on it.
    pub unused_each: u64,
    /// For each, after one message of 16 KiB and back.
    pub used_each: u64,
    /// In all, after they were closed.
    pub kept: u64,
}

/// Memory for `number` WebSockets.
///
/// # Errors
/// Not all could be opened, or not all lived.
pub async fn held(subject: &Subject, peers: &Peers, number: u64) -> Result<Held> {
    let subject = match subject {
        Subject::HpcProxy(program) => Subject::HpcProxy(
            program
                .clone()
                .with_if_known("--max-connections", number + 100)?,
        ),
        other => other.clone(),
    };
    let (_server, target_port) = peers.server().await?;
    let proxy = subject.start(target_port)?;
    let route = proxy.route.clone();
    // The first one brings in pages that are no socket's.
    drop(sockets::open(&route, 1).await);
    sleep(SETTLED).await;
    let rss = || proxy.rss_bytes();
    let before = rss()?;
    let (mut open, failures) = sockets::open(&route, number).await;
    ensure!(
        open.len() as u64 == number,
        "only {} sockets: {failures:?}",
        open.len()
    );
    sleep(SETTLED).await;
    let unused = rss()?;
    let echoed = sockets::echo(&mut open, MESSAGE_BYTES).await;
    ensure!(echoed == number, "only {echoed} of {number} sockets echoed");
    sleep(SETTLED).await;
    let used = rss()?;
    drop(open);
    sleep(2 * SETTLED).await;
    Ok(Held {
        sockets: number,
        unused_each: unused.saturating_sub(before) / number,
        used_each: used.saturating_sub(before) / number,
        kept: rss()?.saturating_sub(before),
    })
}
