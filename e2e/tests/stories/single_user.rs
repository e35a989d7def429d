//! The manager for one user, whose tunnel ends at `HPC_PROXY_LOCAL_PORT`.

use std::net::TcpListener;

use anyhow::ensure;
use e2e::browser::Browser;
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::story::Story;
use e2e::world::World;
use e2e::{ports, processes};

/// The local end is where it was asked to be, and is of no use to whoever else finds it.
pub(crate) async fn the_tunnel_ends_at_the_configured_port(cluster: &impl Cluster) -> Story {
    let local_port = ports::free()?;
    let world = World::on(cluster).for_one("alice", local_port).await?;
    let alice = world.user("alice");
    let session = alice.opens_vscode().await?;
    let live = alice.runs(LiveServer::on(5500).showing("just me")).await?;
    alice.browser().gets(&live.path("")).await?.sees("just me");

    let node = session.node()?;
    let end = format!("{local_port}:{node}:{}", session.proxy_port()?);
    let manager = processes::below(world.manager().pid());
    let forwards: Vec<&str> = manager.iter().flat_map(|ssh| ssh.values_of("-L")).collect();
    let only = forwards.len() == 1 && forwards[0].ends_with(&end);
    ensure!(
        only && forwards[0].starts_with("127.0.0.1:"),
        "{forwards:?}, not {end}"
    );

    let neighbour = Browser::new(&format!("http://127.0.0.1:{local_port}"))?;
    neighbour
        .gets(&live.path(""))
        .await?
        .has_status(401)
        .lacks("just me");
    world.ends_cleanly().await
}

/// A taken port is told with its holder; nobody is killed for it, and freed it serves.
pub(crate) async fn a_taken_port_is_an_error_that_names_the_holder(
    cluster: &impl Cluster,
) -> Story {
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let local_port = holder.local_addr()?.port();
    let world = World::on(cluster).for_one("alice", local_port).await?;
    let alice = world.user("alice");
    alice.launches(serde_json::json!({})).await?;

    let me = format!("(pid {})", std::process::id());
    let reason = |now: &e2e::user::Session| {
        let reason = now.reason.clone().unwrap_or_default();
        reason.contains(&local_port.to_string()) && reason.contains(&me)
    };
    alice
        .awaits_session("the reason names the port and its holder", reason)
        .await?;
    drop(holder);
    alice.awaits("connected").await?;
    world.ends_cleanly().await
}
