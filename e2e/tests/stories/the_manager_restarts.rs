//! Weather: the manager is killed while people work, and comes back. Several sessions of one user, and
//! one that nobody uses.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::eventually;
use e2e::ports;
use e2e::story::Story;
use e2e::terminal::Terminal;
use e2e::world::World;

/// Killed in the middle of a WebSocket and started again: within five seconds the same browsers have
/// the same sessions, and no job is lost or doubled.
pub(crate) async fn the_manager_is_killed_and_comes_back(cluster: &impl Cluster) -> Story {
    let mut world = World::on(cluster).await?;
    let port = world.manager().port()?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (before, bobs) = (alice.opens_vscode().await?, bob.opens_vscode().await?);
    let live = alice
        .runs(LiveServer::on(5500).showing("still here"))
        .await?;
    let mut socket = alice.browser().connects(&live.path("/ws")).await?;
    let (jobs, bobs_jobs) = (alice.jobs().await?, bob.jobs().await?);
    ensure!(
        jobs.len() == 1 && bobs_jobs.len() == 1,
        "{jobs:?} {bobs_jobs:?}"
    );
    let path = live.path("");

    world.manager_is_killed()?;
    let soon = Duration::from_secs(5);
    let hung_up = tokio::time::timeout(soon, async { while socket.next().await.is_ok() {} });
    hung_up.await.context("the WebSocket hangs")?;
    world.manager_starts_again(port).await?;
    let start = Instant::now();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    eventually!(5, "the page is back", {
        alice.browser().gets(&path).await?.shows("still here")
    })?;
    let reopened = alice.browser().connects(&format!("{path}ws")).await;
    reopened.context("the WebSocket is not opened again")?;
    eventually!(5, "bob's session is back", {
        let now = bob.session().await?;
        ensure!(now.phase == "connected" && now.job == bobs.job, "{now:?}");
        Ok(())
    })?;
    ensure!(start.elapsed() < soon, "it took {:?}", start.elapsed());
    let after = alice.session().await?;
    ensure!(
        after.job == before.job && after.id == before.id,
        "{after:?}"
    );
    let jobs_after = (alice.jobs().await?, bob.jobs().await?);
    ensure!(jobs_after == (jobs, bobs_jobs), "{jobs_after:?}");
    world.ends_cleanly().await
}

/// The same for one user, whose tunnel begins at a port: the killed manager's ssh does not keep it.
pub(crate) async fn the_only_users_tunnel_comes_back(cluster: &impl Cluster) -> Story {
    let local_port = ports::free()?;
    let mut world = World::on(cluster).for_one("alice", local_port).await?;
    let port = world.manager().port()?;
    let before = world.user("alice").opens_vscode().await?;
    world.manager_is_killed()?;
    world.manager_starts_again(port).await?;
    let alice = world.user("alice");
    eventually!(5, "the session is back", {
        let now = alice.session().await?;
        ensure!(now.phase == "connected" && now.job == before.job, "{now:?}");
        Ok(())
    })?;
    ensure!(alice.jobs().await?.len() == 1, "{:?}", alice.jobs().await?);
    world.ends_cleanly().await
}

/// Two sessions at once, each with a dev server on the same port, and the browser goes from one to
/// the other and back. The end of the one is not that of the other.
pub(crate) async fn one_user_has_two_sessions(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    // A home is the same on all nodes: the sites are two, on the same port.
    let first = alice.opens_vscode().on("node01").await?;
    let live = alice
        .runs(LiveServer::on(5500).showing("the first"))
        .await?;
    let second = alice.opens_another_on("node02").await?;
    ensure!(
        second.id != first.id && second.job != first.job,
        "{second:?}"
    );
    ensure!(alice.jobs().await?.len() == 2, "{:?}", alice.jobs().await?);
    alice
        .runs_on(LiveServer::on(5501).showing("the second"), live.port())
        .await?;
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .sees("the second");
    let of = |id: &str| format!("/s/{id}{}", live.path(""));
    for (session, text) in [
        (&first, "the first"),
        (&second, "the second"),
        (&first, "the first"),
    ] {
        let page = alice.browser().gets(&of(session.id()?)).await?;
        page.sees(text);
        alice.browser().gets(&live.path("")).await?.sees(text);
    }
    let bobs = world.user("bob").browser().gets(&of(first.id()?)).await?;
    bobs.has_status(404);

    alice.cancels().await?;
    eventually!(20, "the other session serves", {
        let now = alice.session().await?;
        ensure!(now.id == second.id && now.phase == "connected", "{now:?}");
        alice
            .browser()
            .gets(&live.path(""))
            .await?
            .shows("the second")
    })?;
    world.ends_cleanly().await
}

/// A session is used as long as bytes go through it, if only those of a WebSocket; a page of the
/// manager that looks at it is no use of it.
pub(crate) async fn an_idle_session_is_cancelled(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).ending_the_idle_after("4s").await?;
    let alice = world.user("alice");
    let session = alice.opens_vscode().await?;
    let start = Instant::now();
    let ticks = "for _ in $(seq 14); do echo tick; sleep 0.5; done; echo last";
    let mut terminal = Terminal::open(alice.browser(), ticks).await?;
    let last = terminal
        .lines
        .awaits(Duration::from_secs(20), "the last line", |line| {
            line == "last"
        });
    last.await?;
    ensure!(start.elapsed() > Duration::from_secs(6), "too soon to tell");
    let now = alice.session().await?;
    ensure!(
        now.phase == "connected" && now.job == session.job,
        "{now:?}"
    );

    alice.dev_servers().await?.has_status(200);
    let end = eventually!(20, "the session has ended", {
        alice.browser().gets("/").await?.has_status(200);
        // While it ends, its proxy may already be gone.
        alice.dev_servers().await?;
        let now = alice.session().await?;
        ensure!(now.phase == "ended", "{now:?}");
        Ok(now)
    })?;
    let reason = end.reason.clone().unwrap_or_default();
    ensure!(reason.starts_with("it was idle for"), "{end:?}");
    let jobs = alice.on("login", "squeue -h --me -t PD,R -o %i").await?;
    ensure!(jobs.trim().is_empty(), "{jobs}");
    world.ends_cleanly().await
}
