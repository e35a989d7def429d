//! Weather: the port in the address is not one that shows something.

use std::time::Duration;

use anyhow::ensure;
use e2e::cluster::{Cluster, Need};
use e2e::devserver::LiveServer;
use e2e::story::Story;
use e2e::world::World;

/// Nothing listens: a page that says so, and data for a script.
pub(crate) async fn nothing_listens(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let early = alice.browser().gets("/port/5500/").await?;
    early.has_status(404).is_of_type("text/html");

    let session = alice.opens_vscode().await?;
    let port = world.site().port(5500)?;
    let page = alice.browser().gets(&format!("/port/{port}/")).await?;
    page.has_status(502)
        .is_of_type("text/html")
        .says(&port.to_string());
    let data = alice.browser().fetches(&format!("/port/{port}/")).await?;
    data.has_status(502).is_of_type("application/json");

    for wrong in ["/port/0/", "/port/65536/", "/port/abc/", "/port/-1/"] {
        alice.browser().gets(wrong).await?.has_status(400);
    }
    // Its own port would be a loop.
    let own = format!("/port/{}/", session.proxy_port()?);
    alice.browser().gets(&own).await?.has_status(508);
    world.ends_cleanly().await
}

/// Somebody else's server on the same node: a refusal, and not one byte between the two.
pub(crate) async fn it_is_not_my_server(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster)
        .needing([Need::SeveralUids])
        .sharing_localhost()
        .await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    tokio::try_join!(async { alice.opens_vscode().on("node01").await }, async {
        bob.opens_vscode().on("node01").await
    },)?;
    let mut his = bob
        .runs(LiveServer::on(5501).showing("bob's secret").logging())
        .await?;

    let page = alice.browser().gets(&his.path("hers")).await?;
    page.has_status(403).is_of_type("text/html").lacks("secret");
    alice
        .browser()
        .fetches(&his.path("hers"))
        .await?
        .has_status(403)
        .lacks("secret");
    ensure!(
        alice.browser().connects(&his.path("/ws")).await.is_err(),
        "a WebSocket to bob's"
    );

    // His own request comes last, so whatever of hers arrived would be told before it.
    bob.browser()
        .gets(&his.path("?his-own"))
        .await?
        .sees("secret");
    let own = |line: &str| line.contains("his-own");
    his.terminal
        .lines
        .awaits(Duration::from_secs(5), "his own request", own)
        .await?;
    let requests: Vec<String> = his.terminal.lines.so_far();
    let hers = requests
        .iter()
        .any(|line| line.contains("hers") || line.contains("/ws"));
    ensure!(!hers, "bob's server was asked: {requests:?}");
    world.ends_cleanly().await
}
