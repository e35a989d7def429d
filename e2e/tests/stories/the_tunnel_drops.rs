//! Weather: the way to the cluster breaks while everything on the cluster goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::Cluster;
use e2e::devserver::{LiveServer, Running, page};
use e2e::eventually;
use e2e::processes;
use e2e::story::Story;
use e2e::user::{Session, User};
use e2e::world::World;

const SOON: Duration = Duration::from_secs(10);

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
    let hung_up = tokio::time::timeout(SOON, async { while socket.next().await.is_ok() {} });
    hung_up.await.context("the WebSocket hangs")?;

    serves_again(&alice, &live, &before).await?;
    let healed = tunnel_of(&world).context("no tunnel")?;
    ensure!(healed.pid != tunnel.pid, "the same ssh");
    world.ends_cleanly().await
}

pub(crate) fn tunnel_of(world: &World) -> Option<processes::Process> {
    processes::below(world.manager().pid())
        .into_iter()
        .find(|ssh| !ssh.values_of("-L").is_empty())
}

/// The same job serves under the same address: what is there already, and what changes.
pub(crate) async fn serves_again(alice: &User<'_>, live: &Running, before: &Session) -> Result<()> {
    eventually!(25, "the page is back", {
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
    let mut socket = alice.browser().connects(&live.path("/ws")).await?;
    socket.awaits(SOON, |text| text == "connected").await?;
    alice
        .saves(&live.file("index.html"), &page("newer")?)
        .await?;
    socket.awaits(SOON, |text| text == "reload").await?;
    alice.browser().gets(&live.path("")).await?.sees("newer");
    let well = |now: &Session| now.phase == "connected" && now.reason.is_none();
    alice.awaits_session("no trouble is left", well).await?;
    Ok(())
}
