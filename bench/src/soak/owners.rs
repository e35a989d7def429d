//! A target port that changes hands every few milliseconds between the user's dev server, a
//! stranger's and nobody: not one byte goes to the stranger or comes from them (S4, S5, S6).

use std::{
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{Outcome, Soak};
use crate::{descriptors, peer::Role};

mod clients;
mod tenancy;

use clients::{Clients, Seen, Way};
use tenancy::Tenancy;

/// Requests in all.
const REQUESTS: u64 = 100_000;
/// The user, to whom the proxy and a dev server belong; nobody's account.
const USER: u32 = 60_001;
/// The stranger.
const STRANGER: u32 = 60_002;
/// What is in every answer of the user's server.
const OWN: &str = "the user's own server says";
/// What is in every answer of the stranger's.
const FOREIGN: &str = "a stranger's server says";

/// All who ask at once.
const CLIENTS: [Way; 12] = [
    Way::KeepAlive,
    Way::KeepAlive,
    Way::KeepAlive,
    Way::KeepAlive,
    Way::KeepAlive,
    Way::NewConnection,
    Way::NewConnection,
    Way::NewConnection,
    Way::NewConnection,
    Way::WebSocket,
    Way::WebSocket,
    Way::WebSocket,
];

pub(super) async fn run(soak: &Soak) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if !rustix::process::geteuid().is_root() {
        outcome.needs = Some("root, to be several users".to_owned());
        return Ok(outcome);
    }
    let programs = TempDir::with_prefix("hpc-bench-").context("make a directory")?;
    let all_may_enter = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(programs.path(), all_may_enter).context("open it to all")?;
    let proxy = soak
        .program
        .clone()
        .copied_to(programs.path())?
        .by(USER)
        .start()?;
    let peers = soak.peers.clone().copied_to(programs.path())?;
    let target_port = free_port()?;
    let role = |name: &str, forward| Role::Tenant {
        port: target_port,
        name: name.into(),
        forward,
    };
    let own = peers.clone().by(USER).start(&role(OWN, false)).await?;
    let foreign = peers.by(STRANGER).start(&role(FOREIGN, true)).await?;
    descriptors::raise()?;

    let requests = soak.scaled(REQUESTS, 2_000);
    let clients = Arc::new(Clients::new(proxy.route(target_port), requests));
    let mut asking = JoinSet::new();
    for (number, way) in CLIENTS.into_iter().enumerate() {
        let clients = clients.clone();
        asking.spawn(async move { clients.ask(number, way).await });
    }
    let mut tenancy = Tenancy::between(own, foreign);
    let over = AtomicBool::new(false);
    let asked = async {
        asking.join_all().await;
        over.store(true, Relaxed);
        Ok(())
    };
    tokio::try_join!(tenancy.change_until(&over), asked)?;
    let foreign = tenancy.foreign.ask("report").await?;
    let (connections, bytes) = foreign.split_once(' ').context("two numbers")?;

    let Seen { counts, faults } = clients.seen();
    let (changes, seizures) = (tenancy.changes, tenancy.seizures);
    let figure = format!("{changes}, {seizures} with no time between");
    outcome.figure("changes of hands", figure);
    for (what, count) in &counts {
        outcome.figure(what, count);
    }
    outcome.figure(
        "the stranger's server",
        format!("{connections} connections, {bytes} bytes"),
    );
    outcome.faults = faults;
    outcome.must(bytes == "0", || {
        format!("the stranger's server was sent {bytes} bytes")
    });
    for needed in ["answered 200", "answered 403", "switched"] {
        let there = counts.contains_key(needed);
        outcome.must(there, || {
            format!("nothing was ever {needed}: this has shown nothing")
        });
    }
    Ok(outcome)
}

/// Below the ports that outgoing connections are given, one of which could be this otherwise.
fn free_port() -> Result<u16> {
    let start = 20_000 + u16::try_from(std::process::id() % 10_000).expect("below 10000");
    (start..32_000)
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .context("a free port")
}
