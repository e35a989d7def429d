//! Plan step 5, the rest of it: what a page names loads as well, byte for byte.

use anyhow::ensure;
use e2e::binaries;
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::story::Story;
use e2e::world::World;

/// Style sheet, script, image, a page below, and what is not there.
pub(crate) async fn its_assets_load_too(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    alice.opens_vscode().await?;
    let live = alice.runs(LiveServer::on(5500)).await?;

    for (name, content_type) in [
        ("css/site.css", "text/css"),
        ("js/site.js", "text/javascript"),
        ("img/logo.png", "image/png"),
    ] {
        let page = alice.browser().gets(&live.path(name)).await?;
        page.has_status(200).is_of_type(content_type);
        let file = std::fs::read(binaries::site().join(name))?;
        ensure!(
            page.body == file,
            "{name} came as {} of {} bytes",
            page.body.len(),
            file.len()
        );
    }
    let second = alice
        .browser()
        .gets(&live.path("pages/second.html"))
        .await?;
    second.sees("The second page");

    // A directory without its slash: the dev server's redirect must stay below the prefix.
    alice
        .browser()
        .gets(&live.path("pages"))
        .await?
        .sees("second.html");
    // A miss is the dev server's to answer.
    let missing = alice.browser().gets(&live.path("missing.css")).await?;
    missing.has_status(404).says("Cannot GET /missing.css");
    world.ends_cleanly().await
}
