//! Plan steps 4 and 5: Live Server runs in VS Code, and `/port/5500/` shows it.

use anyhow::ensure;
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::eventually;
use e2e::story::Story;
use e2e::world::World;

/// The page is there, and the user's own page knows the way.
pub(crate) async fn live_server_is_served_under_its_port(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    alice.opens_vscode().await?;
    let live = alice
        .runs(LiveServer::on(5500).showing("hello from alice"))
        .await?;

    let page = alice.browser().gets(&live.path("")).await?;
    page.sees("hello from alice").is_of_type("text/html");
    page.sees("Live reload enabled"); // Live Server's own script came along.

    let port = live.port();
    let listed = alice.dev_servers().await?.json::<serde_json::Value>()?;
    let ports = listed["ports"].as_array().into_iter().flatten();
    let ports: Vec<_> = ports.map(|entry| &entry["port"]).collect();
    ensure!(
        ports.iter().any(|&listed| *listed == port),
        "{port} is not in {listed}"
    );
    eventually!(10, "the page lists it", {
        let list = alice.browser().gets("/").await?;
        list.shows(&format!("/port/{port}/"))
    })?;
    world.ends_cleanly().await
}
