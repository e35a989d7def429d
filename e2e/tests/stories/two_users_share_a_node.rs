//! Plan step 7: two users share a node, and neither is in the other's way.

use anyhow::ensure;
use e2e::cluster::{Cluster, Need};
use e2e::devserver::LiveServer;
use e2e::story::Story;
use e2e::world::World;

/// Both work, each under an address of their own, and each is refused the other's.
pub(crate) async fn two_users_share_a_node(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster)
        .needing([Need::SeveralUids])
        .sharing_localhost()
        .await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (hers, his) = tokio::try_join!(async { alice.opens_vscode().on("node01").await }, async {
        bob.opens_vscode().on("node01").await
    },)?;
    ensure!(
        hers.proxy_port()? != his.proxy_port()?,
        "one port for two proxies"
    );

    let (hers, his) = tokio::try_join!(
        alice.runs(LiveServer::on(5500).showing("alice has this page")),
        bob.runs(LiveServer::on(5501).showing("bob has this page")),
    )?;
    alice
        .browser()
        .gets(&hers.path(""))
        .await?
        .sees("alice has this page");
    bob.browser()
        .gets(&his.path(""))
        .await?
        .sees("bob has this page");

    alice
        .browser()
        .gets(&his.path(""))
        .await?
        .has_status(403)
        .lacks("bob has this page");
    bob.browser()
        .gets(&hers.path(""))
        .await?
        .has_status(403)
        .lacks("alice has this page");

    // Each list holds one's own and nothing else.
    alice
        .browser()
        .gets("/")
        .await?
        .sees("/port/5500/")
        .lacks("/port/5501/");
    bob.browser()
        .gets("/")
        .await?
        .sees("/port/5501/")
        .lacks("/port/5500/");

    // One's end is not the other's.
    alice.cancels().await?;
    alice.awaits("ended").await?;
    bob.browser()
        .gets(&his.path(""))
        .await?
        .sees("bob has this page");
    world.ends_cleanly().await
}
