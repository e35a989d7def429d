//! Weather: a node freezes, falls off the network, or is slow to send; it comes back as it was.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Need};
use e2e::devserver::{LiveServer, Running};
use e2e::eventually;
use e2e::story::Story;
use e2e::user::{Session, User};
use e2e::world::World;

/// Long enough for a request to wait, short enough that nobody gives the node up.
const FOR_A_WHILE: Duration = Duration::from_secs(2);

/// No page of the manager may take longer, whatever the weather.
const PROMPT: Duration = Duration::from_secs(1);

/// Frozen: whoever asks waits, whoever works elsewhere does not notice, and it goes on as if nothing had
/// been.
pub(crate) async fn a_node_freezes_and_goes_on(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let hers = alice.opens_vscode().on("node01").await?;
    bob.opens_vscode().on("node02").await?;
    let live = alice.runs(LiveServer::on(5500).showing("hers")).await?;

    world.freezes("node01").await?;
    waits(&alice, &bob, &live).await?;
    world.thaws("node01").await?;
    is_as_it_was(&alice, &bob, &live, &hers).await?;
    world.ends_cleanly().await
}

/// Cut off: the same, as nothing says that it is gone.
pub(crate) async fn a_node_falls_off_the_network(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).needing([Need::Containers]).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let hers = alice.opens_vscode().on("node01").await?;
    bob.opens_vscode().on("node02").await?;
    let live = alice.runs(LiveServer::on(5500).showing("hers")).await?;

    world.cuts_off("node01").await?;
    waits(&alice, &bob, &live).await?;
    world.connects_again("node01").await?;
    is_as_it_was(&alice, &bob, &live, &hers).await?;
    world.ends_cleanly().await
}

/// Slow to send: a large answer comes late and whole, and does not keep small ones of others waiting.
pub(crate) async fn a_node_is_slow_to_send(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).needing([Need::Containers]).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let hers = alice.opens_vscode().on("node01").await?;
    bob.opens_vscode().on("node02").await?;
    let live = alice.runs(LiveServer::on(5500).showing("hers")).await?;
    let large = live.file("large.txt");
    let fill = format!("seq 60000 | head -c 200000 >{large} && sha256sum <{large}");
    let sum = alice.types(&fill).await?;

    world.slows_down("node01", 1000).await?;
    let start = Instant::now();
    let (browser, path) = (alice.browser(), live.path("large.txt"));
    let (page, quick) = tokio::join!(browser.gets(&path), is_prompt(&bob));
    let (page, took) = (page?, start.elapsed());
    quick?;
    ensure!(took > Duration::from_secs(1), "not slow at all: {took:?}");
    let expected: String = (1..=60_000).map(|number| format!("{number}\n")).collect();
    ensure!(
        page.body == expected.as_bytes()[..200_000],
        "changed on the way, {sum:?}: {page}"
    );
    world.speeds_up("node01").await?;
    is_as_it_was(&alice, &bob, &live, &hers).await?;
    world.ends_cleanly().await
}

/// Killed: her session ends and says why, all of it; his on the same node does not notice.
pub(crate) async fn a_proxy_is_killed(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (hers, his) = tokio::try_join!(async { alice.opens_vscode().on("node01").await }, async {
        bob.opens_vscode().on("node01").await
    },)?;
    world
        .kills("node01", "alice", e2e::faults::program::PROXY)
        .await?;
    let ended = alice.awaits("ended").await?;
    ensure!(ended.reason.is_some(), "no reason: {ended:?}");
    alice.browser().gets("/code/").await?.has_status(404);
    eventually!(10, "nothing of hers is left", {
        let published = alice.published().await?;
        let job = format!("job-{}", hers.job()?);
        ensure!(!published.contains(&format!("{job}.ide")), "{published}");
        let jobs = alice.on("login", "squeue -h --me -t R,CG -o %i").await?;
        ensure!(jobs.is_empty(), "{jobs}");
        Ok(())
    })?;
    let now = bob.session().await?;
    ensure!(now.phase == "connected" && now.job == his.job, "{now:?}");
    let next = alice.opens_vscode().on("node01").await?;
    ensure!(next.job != hers.job, "the same job: {next:?}");
    world.ends_cleanly().await
}

/// Her pages wait, or are refused; nothing else comes, and nobody else waits.
async fn waits(alice: &User<'_>, bob: &User<'_>, live: &Running) -> Result<()> {
    let path = live.path("");
    let page = alice.browser().gets(&path);
    if let Ok(page) = tokio::time::timeout(FOR_A_WHILE, page).await {
        let page = page?;
        ensure!([502, 503, 504].contains(&page.status), "{page}");
    }
    is_prompt(bob).await?;
    is_prompt(alice).await?;
    let now = alice.session().await?;
    ensure!(now.phase != "ended", "its job goes on: {now:?}");
    Ok(())
}

/// Their own page is, and their IDE where that is somewhere else.
async fn is_prompt(user: &User<'_>) -> Result<()> {
    let start = Instant::now();
    user.browser().gets("/").await?.has_status(200);
    let now = user.session().await?;
    if now.node.as_deref() == Some("node02") {
        let ide = now.ide.as_deref().context("no IDE")?;
        user.browser().gets(ide).await?.shows("IDE of bob")?;
    }
    let took = start.elapsed();
    ensure!(took < PROMPT, "{} waited for {took:?}", user.name());
    Ok(())
}

/// The same job serves the same page to her, and to nobody else.
async fn is_as_it_was(
    alice: &User<'_>,
    bob: &User<'_>,
    live: &Running,
    before: &Session,
) -> Result<()> {
    eventually!(25, "the page is back", {
        alice.browser().gets(&live.path("")).await?.shows("hers")
    })?;
    let well = |now: &Session| now.phase == "connected" && now.reason.is_none();
    let after = alice.awaits_session("no trouble is left", well).await?;
    ensure!(after.job()? == before.job()?, "another job: {after:?}");
    ensure!(after.ide == before.ide, "another IDE: {after:?}");
    let page = bob.browser().gets(&live.path("")).await?;
    page.lacks("hers");
    ensure!([403, 502].contains(&page.status), "{page}");
    Ok(())
}
