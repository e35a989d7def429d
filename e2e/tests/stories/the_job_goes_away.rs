//! Weather: Slurm takes the job away.

use anyhow::ensure;
use e2e::cluster::{Cluster, Order};
use e2e::devserver::LiveServer;
use e2e::eventually;
use e2e::processes;
use e2e::story::Story;
use e2e::user::User;
use e2e::world::World;

/// Cancelled: the page says so, and nothing of it is left on the node or on the way.
pub(crate) async fn the_job_is_cancelled(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let session = alice.opens_vscode().on("node01").await?;
    let live = alice.runs(LiveServer::on(5500).showing("for now")).await?;
    let proxy = proxy_pid(&alice, session.job()?).await?;

    alice
        .on("login", &format!("scancel {}", session.job()?))
        .await?;
    let ended = alice.awaits("ended").await?;
    ensure!(ended.reason.is_some(), "no reason: {ended:?}");
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .has_status(404)
        .lacks("for now");

    eventually!(15, "nothing is left on the node", {
        let look = format!("kill -0 {proxy} 2>/dev/null && echo runs; :");
        ensure!(alice.on("node01", &look).await?.is_empty(), "the proxy is");
        let published = alice.published().await?;
        ensure!(published.is_empty(), "{published} is");
        ensure!(
            !alice.finds_a_listener("node01", live.port()).await?,
            "the dev server is"
        );
        Ok(())
    })?;
    // Slurm tells the batch shell alone; the IDE hears of it too, with time to save what it has open.
    let log = alice.job_log(&session).await?;
    let told = |line: &str| line.contains("ide_stand_in") && line.contains("asked to stop");
    ensure!(log.lines().any(told), "the IDE was not told: {log}");
    let tunnels = processes::below(world.manager().pid());
    ensure!(
        tunnels.iter().all(|ssh| ssh.values_of("-L").is_empty()),
        "{tunnels:?}"
    );

    // And one can start over.
    let next = alice.opens_vscode().await?;
    ensure!(next.job()? != session.job()?);
    world.ends_cleanly().await
}

/// Requeued: the same job comes up elsewhere, and the same address works again.
pub(crate) async fn the_job_is_requeued_to_another_node(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let first = alice.opens_vscode().await?;
    ensure!(
        first.node()? == "node01",
        "jobs land on the first node: {first:?}"
    );
    let server = LiveServer::on(5500).showing("wherever it runs");
    let live = alice.runs(server.clone()).await?;
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .sees("wherever it runs");

    let job = first.job()?;
    world.site().orders(Order::Drain("node01")).await?;
    world.site().orders(Order::RequeueSoon).await?;
    alice
        .on("login", &format!("scontrol requeue {job}"))
        .await?;
    let moved = |now: &e2e::user::Session| {
        now.phase == "connected" && now.node.as_deref() == Some("node02")
    };
    let second = alice
        .awaits_session("the session is on node02", moved)
        .await?;
    ensure!(second.job()? == job, "another job: {second:?}");

    // VS Code is a new one; its terminal starts the server again.
    alice
        .browser()
        .gets(second.ide.as_deref().unwrap_or_default())
        .await?
        .sees("on node02");
    let again = alice.starts(&server, live.port()).await?;
    ensure!(again.path("") == live.path(""));
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .sees("wherever it runs");
    world.ends_cleanly().await
}

/// A node dies with all that ran on it: the same job comes up elsewhere, and the same address leads to
/// what runs there and to nothing else.
pub(crate) async fn a_node_dies_and_its_job_moves(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let first = alice.opens_vscode().await?;
    ensure!(first.node()? == "node01", "not the first node: {first:?}");
    let lost = LiveServer::on(5500).showing("what ran on node01");
    let live = alice.runs(lost).await?;
    alice.browser().gets(&live.path("")).await?.sees("node01");

    world.site().orders(Order::RequeueSoon).await?;
    world.loses("node01").await?;
    world.site().orders(Order::GiveUp("node01")).await?;
    let moved = |now: &e2e::user::Session| {
        now.phase == "connected" && now.node.as_deref() == Some("node02")
    };
    let second = alice
        .awaits_session("the session is on node02", moved)
        .await?;
    ensure!(second.job()? == first.job()?, "another job: {second:?}");
    ensure!(second.ide != first.ide, "the old IDE's token: {second:?}");
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .has_status(502)
        .lacks("what ran on node01");

    let ide = second.ide.as_deref().unwrap_or_default();
    alice.browser().gets(ide).await?.sees("on node02");
    let server = LiveServer::on(5500).showing("what runs on node02");
    let again = alice.runs_on(server, live.port()).await?;
    ensure!(again.path("") == live.path(""));
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .sees("what runs on node02")
        .lacks("what ran on node01");
    alice.browser().connects(&live.path("/ws")).await?;
    let queue = alice.on("login", "squeue -h -t all -o '%i %T %N'").await?;
    ensure!(
        queue == format!("{} RUNNING node02\n", first.job()?),
        "lost or doubled: {queue}"
    );
    world.ends_cleanly().await
}

async fn proxy_pid(user: &User<'_>, job: &str) -> anyhow::Result<u64> {
    let record = user
        .on("login", &format!("cat ~/.hpc-proxy/job-{job}.json"))
        .await?;
    let record: serde_json::Value = serde_json::from_str(&record)?;
    record["pid"]
        .as_u64()
        .ok_or_else(|| anyhow::anyhow!("no pid in {record}"))
}
