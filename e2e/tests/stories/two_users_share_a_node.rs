//! The seventh step: two users share a node, and neither is in the other's way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Need};
use e2e::devserver::{BrowserSync, LiveServer, Running, page};
use e2e::eventually;
use e2e::socketio::SocketIo;
use e2e::story::Story;
use e2e::user::User;
use e2e::websocket::WebSocket;
use e2e::world::World;

/// The dev servers notice a change within a quarter of a second.
const SOON: Duration = Duration::from_secs(10);

/// Both have Live Server on 5500 and browser-sync on 3000 with its own pages
/// on 3001, started as their manuals say. Each sees only their own, and a saved file reloads the
/// page of whoever saved it.
pub(crate) async fn two_users_have_the_same_ports(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (hers, his) = tokio::try_join!(async { alice.opens_vscode().on("node01").await }, async {
        bob.opens_vscode().on("node01").await
    },)?;
    for (user, session) in [(&alice, &hers), (&bob, &his)] {
        let log = user.job_log(session).await?;
        let how = match cluster.takes_sockets() {
            Some(true) => "(seccomp), ",
            Some(false) => "(seccomp, replacing sockets), ",
            None => "(seccomp",
        };
        let line = log.lines().find(|line| line.contains("private localhost"));
        ensure!(line.is_some_and(|line| line.contains(how)), "{log}");
    }

    let ports = [world.port(5500)?, world.port(3000)?, world.port(3001)?];
    let (hers, his) = tokio::try_join!(
        Servers::of(&alice, "alice has this page", ports),
        Servers::of(&bob, "bob has this page", ports),
    )?;
    for (user, own, foreign) in [
        (&alice, "alice has this page", "bob has"),
        (&bob, "bob has this page", "alice has"),
    ] {
        let [live, sync, ui] = ports.map(|port| format!("/port/{port}/"));
        for path in [&live, &sync] {
            user.browser().gets(path).await?.sees(own).lacks(foreign);
        }
        // It compresses its page whether one can read that or not; the page's script it does not.
        let pages = user.browser().gets(&ui).await?;
        pages.has_status(200).is_of_type("text/html");
        let script = user.browser().gets(&format!("{ui}js/app.js")).await?;
        script.sees("BrowserSync");
        eventually!(10, "the page lists them", {
            let list = user.browser().gets("/").await?;
            list.shows(&live)?;
            list.shows(&sync)?;
            list.shows(&ui)
        })?;
    }

    // She saves pages, he saves style sheets, at the same time: each browser hears of its own kind.
    let (mut at_hers, mut at_his) = (hers.sockets().await?, his.sockets().await?);
    for round in 1..=2 {
        let text = format!("alice, version {round}");
        let color = format!("body {{ opacity: 0.{round} }}");
        tokio::try_join!(
            hers.save_and_hear(&mut at_hers, "index.html", page(&text)?),
            his.save_and_hear(&mut at_his, "css/site.css", color),
        )?;
    }
    let at = hers.live.path("");
    let page = alice.browser().gets(&at).await?;
    page.sees("alice, version 2");
    let page = bob.browser().gets(&at).await?;
    page.sees("bob has this page").lacks("alice");
    world.ends_cleanly().await
}

/// One user's, with the same content in both.
struct Servers<'a> {
    user: &'a User<'a>,
    live: Running,
    sync: Running,
}

/// The sockets of open pages, one of each server.
struct Sockets {
    live: WebSocket,
    sync: SocketIo,
}

impl<'a> Servers<'a> {
    async fn of(user: &'a User<'a>, text: &str, ports: [u16; 3]) -> Result<Self> {
        let [live, sync, ui] = ports;
        let (live, sync) = tokio::try_join!(
            user.runs_on(LiveServer::on(5500).everywhere().showing(text), live),
            user.runs_on(BrowserSync::on(3000).with_ui(ui).showing(text), sync),
        )?;
        Ok(Self { user, live, sync })
    }

    async fn sockets(&self) -> Result<Sockets> {
        let browser = self.user.browser();
        let mut live = browser.connects(&self.live.path("/ws")).await?;
        live.awaits(SOON, |text| text == "connected").await?;
        let path = self.sync.path("browser-sync/socket.io/");
        let sync = SocketIo::join(browser, &path, "/browser-sync").await?;
        Ok(Sockets { live, sync })
    }

    /// In both sites, and both pages hear of that and of nothing else.
    async fn save_and_hear(&self, at: &mut Sockets, file: &str, text: String) -> Result<()> {
        let [in_live, in_sync] = match file {
            "index.html" => ["reload", "browser:reload"],
            _ => ["refreshcss", "file:reload"],
        };
        self.user.saves(&self.live.file(file), &text).await?;
        let (others, _) = at.live.hears(SOON, |text| text == in_live).await?;
        ensure!(others.iter().all(|it| it == in_live), "heard {others:?}");
        // It does not tell when its watch has begun: who is not heard saves once more.
        eventually!(30, "browser-sync tells of the change", {
            self.user.saves(&self.sync.file(file), &text).await?;
            at.sync.awaits_event(Duration::from_secs(3), in_sync).await
        })
        .context("browser-sync")?;
        Ok(())
    }
}

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
    for (user, own, other) in [(&alice, 5500, 5501), (&bob, 5501, 5500)] {
        eventually!(10, "the list holds one's own", {
            let list = user.browser().gets("/").await?;
            list.lacks(&format!("/port/{other}/"));
            list.shows(&format!("/port/{own}/"))
        })?;
    }

    // One's end is not the other's.
    alice.cancels().await?;
    alice.awaits("ended").await?;
    bob.browser()
        .gets(&his.path(""))
        .await?
        .sees("bob has this page");
    world.ends_cleanly().await
}
