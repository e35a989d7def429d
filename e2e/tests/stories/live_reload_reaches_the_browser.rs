//! Plan step 6: a saved file reloads the page, through WebSockets under `/port/N/`.

use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::chromium::Chromium;
use e2e::cluster::Cluster;
use e2e::devserver::{BrowserSync, LiveServer, page};
use e2e::eventually;
use e2e::socketio::SocketIo;
use e2e::story::Story;
use e2e::world::World;

/// The dev servers notice a change within a quarter of a second.
const SOON: Duration = Duration::from_secs(10);

/// Live Server's two messages arrive: a page reloads, a style sheet is swapped in place.
pub(crate) async fn live_reload_reaches_the_browser(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    alice.opens_vscode().await?;
    let live = alice.runs(LiveServer::on(5500).showing("before")).await?;

    // Its script opens `location.pathname + '/ws'`, which makes two slashes.
    let mut socket = alice.browser().connects(&live.path("/ws")).await?;
    socket.awaits(SOON, |text| text == "connected").await?;

    alice
        .saves(&live.file("index.html"), &page("after")?)
        .await?;
    socket.awaits(SOON, |text| text == "reload").await?;
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .sees("after")
        .lacks("before");

    alice
        .saves(&live.file("css/site.css"), "body { color: green }")
        .await?;
    socket.awaits(SOON, |text| text == "refreshcss").await?;
    world.ends_cleanly().await
}

/// In a real browser, with nobody touching it.
pub(crate) async fn a_page_in_chromium_changes_by_itself(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    alice.opens_vscode().await?;
    let (live, chromium) = tokio::join!(
        alice.runs(LiveServer::on(5500).showing("version 0")),
        Chromium::start(world.dir()),
    );
    let (live, chromium) = (live?, chromium?);

    chromium
        .goes_to(&world.manager().another_link("alice").await?)
        .await?;
    // Chromium gives up what it loads when a network interface of this machine comes or goes, as other clusters' do.
    let address = alice.browser().address_of(&live.path(""));
    eventually!(40, "the page is there whole", {
        chromium.goes_to(&address).await?;
        chromium.awaits_text(5, "#message", "version 0").await?;
        chromium.awaits_text(5, "#script", "has run").await
    })?;
    let color = "return getComputedStyle(document.body).color";
    ensure!(
        chromium.runs(color).await? == "rgb(20, 60, 90)",
        "the style sheet is not applied"
    );
    chromium.runs("window.notReloaded = true").await?;

    // The page does not tell when its WebSocket is open: who is not heard saves once more.
    let mut versions = 1..;
    eventually!(30, "the page in Chromium changes", {
        let text = format!("version {}", versions.next().context("endless")?);
        alice.saves(&live.file("index.html"), &page(&text)?).await?;
        chromium.awaits_text(3, "#message", &text).await
    })?;
    let mark = chromium
        .runs("return window.notReloaded === undefined")
        .await?;
    ensure!(mark == true, "the page was changed but not reloaded");
    chromium.closes().await?;
    world.ends_cleanly().await
}

/// browser-sync speaks socket.io, which begins with polling and then becomes a WebSocket.
pub(crate) async fn browser_sync_reloads_under_the_prefix(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    alice.opens_vscode().await?;
    let sync = alice.runs(BrowserSync::on(3000).showing("before")).await?;
    // It says that it serves a moment before it listens.
    eventually!(10, "its page", {
        alice.browser().gets(&sync.path("")).await?.shows("before")
    })?;

    let path = sync.path("browser-sync/socket.io/");
    let mut socket = SocketIo::join(alice.browser(), &path, "/browser-sync").await?;
    // It does not tell when its watch has begun: who is not heard saves once more.
    let mut versions = 1..;
    eventually!(30, "browser-sync tells of the change", {
        let text = format!("version {}", versions.next().context("endless")?);
        alice.saves(&sync.file("index.html"), &page(&text)?).await?;
        socket
            .awaits_event(Duration::from_secs(3), "browser:reload")
            .await
    })?;
    alice.browser().gets(&sync.path("")).await?.sees("version ");
    world.ends_cleanly().await
}
