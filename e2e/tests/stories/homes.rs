//! Weather: homes are full, cannot be written to, or are seen late, as on a file server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Need, Order};
use e2e::devserver::{LiveServer, page};
use e2e::eventually;
use e2e::story::Story;
use e2e::user::User;
use e2e::world::World;
use serde_json::json;

use super::the_tunnel_drops::tunnel_of;

const SOON: Duration = Duration::from_secs(10);

/// Full: what runs serves on, a launch fails and says so, and what was deleted meanwhile comes back whole
/// once there is room.
pub(crate) async fn the_homes_are_full(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).needing([Need::Containers]).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let before = alice.opens_vscode().await?;
    let live = alice.runs(LiveServer::on(5500).showing("hers")).await?;
    let published = alice.published().await?;
    let secrets = format!("cat ~/.hpc-proxy/job-{}.[jti]*", before.job()?);
    let secret = alice.on("login", &secrets).await?;

    world.fills_the_homes().await?;
    alice.browser().gets(&live.path("")).await?.sees("hers");
    bob.launches(json!({})).await?;
    let refused = bob.awaits("ended").await?;
    ensure!(refused.reason.is_some(), "no reason: {refused:?}");
    alice.on("login", "rm -r ~/.hpc-proxy/job-*").await?;
    // What the deleted files took is taken up as well.
    world.fills_the_homes().await?;
    let now = alice.session().await?;
    ensure!(now.phase == "connected" && now.job == before.job, "{now:?}");

    world.makes_room().await?;
    tunnel_of(&world).context("no tunnel")?.kill();
    eventually!(25, "the page is back", {
        alice.browser().gets(&live.path("")).await?.shows("hers")
    })?;
    let (again, its_secret) = (alice.published().await?, alice.on("login", &secrets).await?);
    ensure!(
        again == published && its_secret == secret,
        "{again} of {published}"
    );
    let his = bob.opens_vscode().await?;
    bob.browser().gets(&live.path("")).await?.lacks("hers");
    ensure!(his.job != before.job, "her job: {his:?}");
    world.ends_cleanly().await
}

/// Read-only: the same, for one home. Her session ends when she says so, and the other's is not touched.
pub(crate) async fn a_home_is_read_only(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).needing([Need::Containers]).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let before = alice.opens_vscode().await?;
    let live = alice.runs(LiveServer::on(5500).showing("hers")).await?;

    world.makes_read_only("alice").await?;
    let writes = alice.on("login", "touch ~/it 2>&1 || :").await?;
    ensure!(writes.contains("Read-only file system"), "{writes}");
    alice.browser().gets(&live.path("")).await?.sees("hers");
    bob.opens_vscode().await?;
    tunnel_of(&world).context("no tunnel")?.kill();
    eventually!(25, "the page is back", {
        alice.browser().gets(&live.path("")).await?.shows("hers")
    })?;
    let now = alice.awaits("connected").await?;
    ensure!(now.job == before.job, "another job: {now:?}");
    alice.cancels().await?;
    alice.awaits("ended").await?;
    alice.launches(json!({})).await?;
    let refused = alice.awaits("ended").await?;
    ensure!(refused.reason.is_some(), "no reason: {refused:?}");

    world.makes_writable("alice").await?;
    let next = alice.opens_vscode().await?;
    ensure!(next.job != before.job, "an old job: {next:?}");
    let now = bob.session().await?;
    ensure!(now.phase == "connected", "his ended: {now:?}");
    world.ends_cleanly().await
}

/// Seen late: a session is connected as soon as the login node sees it, and one that moved is not looked
/// for where it was, though its old lease is still to be seen.
pub(crate) async fn a_lease_is_seen_late(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).needing([Need::Containers]).await?;
    let alice = world.user("alice");
    world
        .shows_leases_late("alice", Duration::from_secs(3))
        .await?;
    let first = alice.opens_vscode().await?;
    ensure!(first.node()? == "node01", "not the first node: {first:?}");
    is_seen_late(&alice).await?;
    let lease = format!("~/.hpc-proxy/job-{}.json", first.job()?);
    let late = alice.on("login", &format!("cat {lease}")).await?;

    world.site().orders(Order::Drain("node01")).await?;
    world.site().orders(Order::RequeueSoon).await?;
    let requeue = format!("scontrol requeue {}", first.job()?);
    alice.on("login", &requeue).await?;
    let moved = |now: &e2e::user::Session| {
        now.phase == "connected" && now.node.as_deref() == Some("node02")
    };
    let second = alice
        .awaits_session("the session is on node02", moved)
        .await?;
    ensure!(second.job == first.job, "another job: {second:?}");
    ensure!(second.ide != first.ide, "the old IDE's token: {second:?}");
    let now = alice.on("node02", &format!("cat {lease}")).await?;
    ensure!(late != now, "the old lease is the new one");
    let ide = second.ide.as_deref().context("no IDE")?;
    alice.browser().gets(ide).await?.sees("on node02");
    world.shows_leases_at_once("alice").await?;
    world.ends_cleanly().await
}

/// The copy is made anew at some time: of three files, one at least is not seen at once.
async fn is_seen_late(alice: &User<'_>) -> Result<()> {
    let (mut late, look) = (false, "cat ~/.hpc-proxy/mark.log 2>/dev/null; :");
    for mark in ["1", "2", "3"] {
        let write = format!("echo {mark} >~/.hpc-proxy/mark.log");
        alice.on("node01", &write).await?;
        late |= alice.on("login", look).await?.trim() != mark;
    }
    ensure!(late, "the login node sees all at once");
    eventually!(10, "the login node sees what is there", {
        let seen = alice.on("login", look).await?;
        ensure!(seen.trim() == "3", "{seen}");
        Ok(())
    })
}

/// Dated by a clock that is an hour fast, or a day slow: the lease is found and believed by what it proves, a
/// page that changes is seen to change, and whoever starts anew is not misled.
pub(crate) async fn a_clock_is_off(cluster: &impl Cluster) -> Story {
    let mut world = World::on(cluster).await?;
    let manager_port = world.manager().port()?;
    let alice = world.user("alice");
    let before = alice.opens_vscode().await?;
    let live = alice.runs(LiveServer::on(5500).showing("hers")).await?;
    let (path, file) = (live.path(""), live.file("index.html"));

    world.misdates("alice", 3600).await?;
    tunnel_of(&world).context("no tunnel")?.kill();
    eventually!(25, "the page is back", {
        alice.browser().gets(&path).await?.shows("hers")
    })?;
    world.misdates("alice", -86_400).await?;
    world.manager_is_killed()?;
    world.manager_starts_again(manager_port).await?;
    let alice = world.user("alice");
    eventually!(25, "the page is back", {
        alice.browser().gets(&path).await?.shows("hers")
    })?;
    let after = alice.awaits("connected").await?;
    ensure!(after.job == before.job, "another job: {after:?}");
    ensure!(after.ide == before.ide, "another IDE: {after:?}");
    let mut socket = alice.browser().connects(&live.path("/ws")).await?;
    socket.awaits(SOON, |text| text == "connected").await?;
    alice.saves(&file, &page("newer")?).await?;
    socket.awaits(SOON, |text| text == "reload").await?;
    alice.browser().gets(&path).await?.sees("newer");
    world.stranger()?.gets(&path).await?.lacks("newer");

    alice.cancels().await?;
    alice.awaits("ended").await?;
    let next = alice.opens_vscode().await?;
    ensure!(next.job != before.job, "an old job: {next:?}");
    alice.browser().gets(&path).await?.lacks("newer");
    world.ends_cleanly().await
}
