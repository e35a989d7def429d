//! Weather: the way to the cluster breaks while everything on the cluster goes on.

use anyhow::{Context, ensure};
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::eventually;
use e2e::processes;
use e2e::story::Story;
use e2e::world::World;

/// The tunnel's `ssh` dies: requests fail at once rather than hang, and soon work again, with the
/// same job and under the same address.
pub(crate) async fn the_tunnel_drops_and_heals(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let before = alice.opens_vscode().await?;
    let live = alice
        .runs(LiveServer::on(5500).showing("still here"))
        .await?;
    let mut socket = alice.browser().connects(&live.path("/ws")).await?;
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .sees("still here");

    let tunnel = tunnel_of(&world).context("no tunnel")?;
    tunnel.kill();
    // Whoever waits for a reload learns that none can come.
    let soon = std::time::Duration::from_secs(5);
    let hung_up = tokio::time::timeout(soon, async { while socket.next().await.is_ok() {} });
    hung_up.await.context("the WebSocket hangs")?;

    eventually!(20, "the page is back", {
        let page = alice.browser().gets(&live.path("")).await?;
        let refused = [502, 503].contains(&page.status);
        ensure!(
            page.status == 200 || refused,
            "neither there nor refused: {page}"
        );
        page.shows("still here")
    })?;
    let after = alice.awaits("connected").await?;
    ensure!(after.job()? == before.job()?, "another job: {after:?}");
    let healed = tunnel_of(&world).context("no tunnel")?;
    ensure!(healed.pid != tunnel.pid, "the same ssh");
    world.ends_cleanly().await
}

pub(crate) fn tunnel_of(world: &World) -> Option<processes::Process> {
    processes::below(world.manager().pid())
        .into_iter()
        .find(|ssh| !ssh.values_of("-L").is_empty())
}
