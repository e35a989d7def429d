//! The stories of a proxy: what the original's flags promise, and nothing of ours.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::person::{self, Person, Story};
use super::stage::{PortFile, Stage};
use super::table::Table;
use crate::binaries;
use crate::devserver::{BrowserSync, DevServer, LiveServer, page};
use crate::eventually;
use crate::socketio::SocketIo;

/// Tells those with `only` in their names.
pub async fn judge(stage: &Stage, only: &str) -> Table {
    let mut table = Table::with(only);
    let usual = publishes(stage, PortFile::Usual);
    let name = "it publishes its port as a number and takes it back";
    table.tells(name, usual).await;
    let moved = publishes(stage, PortFile::Moved);
    table.tells("--port-file moves the port file", moved).await;
    let story = with_alice(stage, live_server_and_assets);
    table
        .tells("Live Server and what its page names load", story)
        .await;
    let story = with_alice(stage, redirects_stay);
    table
        .tells("a redirect stays below the prefix", story)
        .await;
    let story = with_alice(stage, browser_sync);
    table
        .tells("browser-sync reloads by polling and WebSocket", story)
        .await;
    for story in Story::ALL {
        let told = with_alice(stage, async |alice| story.is_told_of(alice).await);
        table.tells(story.name(), told).await;
    }
    let story = two_users(stage);
    table
        .tells("two users with two proxies see their own", story)
        .await;
    let story = another_users_server(stage);
    table
        .tells("another user's server is not shown", story)
        .await;
    table
}

async fn with_alice(stage: &Stage, story: impl AsyncFnOnce(&Person) -> Result<()>) -> Result<()> {
    let proxy = stage.starts("alice", PortFile::Usual).await?;
    story(&proxy.person).await
}

async fn publishes(stage: &Stage, file: PortFile) -> Result<()> {
    stage.starts("alice", file).await?.ends().await
}

async fn live_server_and_assets(alice: &Person) -> Result<()> {
    let server = alice
        .runs(&LiveServer::on(5500).showing("her page"))
        .await?;
    let page = alice.browser.gets(&server.path("")).await?;
    page.sees("her page").is_of_type("text/html");
    for (name, content_type) in [
        ("css/site.css", "text/css"),
        ("js/site.js", "text/javascript"),
        ("img/logo.png", "image/png"),
    ] {
        let page = alice.browser.gets(&server.path(name)).await?;
        page.has_status(200).is_of_type(content_type);
        let file = std::fs::read(binaries::site().join(name))?;
        ensure!(page.body == file, "{name} came changed");
    }
    let missing = alice.browser.gets(&server.path("missing.css")).await?;
    missing.has_status(404).says("Cannot GET /missing.css");
    Ok(())
}

/// Live Server sends a directory without its slash to the one with it.
async fn redirects_stay(alice: &Person) -> Result<()> {
    let server = alice.runs(&LiveServer::on(5500)).await?;
    let page = alice.browser.gets(&server.path("pages")).await?;
    page.sees("second.html");
    Ok(())
}

async fn browser_sync(alice: &Person) -> Result<()> {
    let sync = BrowserSync::on(3000).showing("before");
    let server = alice.runs(&sync).await?;
    // It says that it serves before it listens.
    eventually!(10, "browser-sync serves", {
        let page = alice.browser.gets(&server.path("")).await?;
        page.shows("before")
    })?;
    let path = server.path("browser-sync/socket.io/");
    let mut socket = SocketIo::join(&alice.browser, &path, "/browser-sync").await?;
    let index = format!("{}/index.html", sync.site().dir());
    // It does not tell when its watch has begun: who is not heard saves once more.
    eventually!(30, "browser-sync tells of the change", {
        alice.saves(&index, &page("after")?).await?;
        let three = Duration::from_secs(3);
        socket.awaits_event(three, "browser:reload").await
    })?;
    let page = alice.browser.gets(&server.path("")).await?;
    page.sees("after");
    Ok(())
}

async fn two_users(stage: &Stage) -> Result<()> {
    let (alice, bob) = tokio::try_join!(
        stage.starts("alice", PortFile::Usual),
        stage.starts("bob", PortFile::Usual),
    )?;
    let people = [&alice.person, &bob.person];
    let mut servers = Vec::new();
    for person in people {
        for which in ["one", "other"] {
            let text = format!("{} has this {which}", person.name);
            let server = person.serves(&text).await?;
            servers.push((person, server, text));
        }
    }
    for (person, server, text) in &servers {
        let page = person.browser.gets(&server.path("")).await?;
        page.sees(text);
    }
    Ok(())
}

async fn another_users_server(stage: &Stage) -> Result<()> {
    let (alice, bob) = tokio::try_join!(
        stage.starts("alice", PortFile::Usual),
        stage.starts("bob", PortFile::Usual),
    )?;
    person::another_users_server_is_not_shown(&bob.person, &alice.person).await
}
