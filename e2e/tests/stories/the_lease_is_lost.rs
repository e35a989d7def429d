//! Weather: somebody tidies up in their home while a session runs.

use anyhow::{Context, ensure};
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::eventually;
use e2e::story::Story;
use e2e::world::World;

use super::the_tunnel_drops::tunnel_of;

/// All that was published is deleted: the session goes on over the tunnel that it has, and finds its
/// proxy again once that is lost, too.
pub(crate) async fn a_deleted_lease_comes_back(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let before = alice.opens_vscode().await?;
    let live = alice
        .runs(LiveServer::on(5500).showing("still here"))
        .await?;
    let published = alice.published().await?;
    let secrets = format!("cat ~/.hpc-proxy/job-{}.[jti]*", before.job()?);
    let secret = alice.on("login", &secrets).await?;

    alice.on("login", "rm -r ~/.hpc-proxy").await?;
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .sees("still here");
    let now = alice.session().await?;
    ensure!(now.phase == "connected", "it looked at the lease: {now:?}");

    tunnel_of(&world).context("no tunnel")?.kill();
    eventually!(20, "the page is back", {
        alice
            .browser()
            .gets(&live.path(""))
            .await?
            .shows("still here")
    })?;
    alice.browser().connects(&live.path("/ws")).await?;
    let after = alice.awaits("connected").await?;
    ensure!(after.job()? == before.job()?, "another job: {after:?}");
    ensure!(after.ide == before.ide, "another IDE: {after:?}");
    let again = alice.published().await?;
    ensure!(again == published, "{again} is there again of {published}");
    ensure!(
        alice.on("login", &secrets).await? == secret,
        "other contents"
    );
    let modes = "stat -c %a ~/.hpc-proxy ~/.hpc-proxy/* | sort | uniq";
    let modes = alice.on("login", modes).await?;
    ensure!(modes == "600\n700\n", "others may look: {modes}");
    world.ends_cleanly().await
}
