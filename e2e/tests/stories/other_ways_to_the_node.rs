//! Clusters whose nodes are reached by an ssh of the user's own, or by a step of the job: the proxy need
//! not listen for others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::eventually;
use e2e::processes::{self, Process};
use e2e::story::Story;
use e2e::user::{Session, User};
use e2e::world::World;

/// Live Server notices a change within a quarter of a second.
const SOON: Duration = Duration::from_secs(10);

/// All TCP listeners of a node, as proc_net_tcp(5) has them: an address, a colon, a port.
const LISTENERS: &str = "cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\" { print $2 }'";

/// `transport = "jump"`: everything works, and the proxy's port is open on its node's loopback only.
pub(crate) async fn the_proxy_listens_on_the_loopback_alone(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).over("jump").await?;
    let alice = world.user("alice");
    let session = works(&world, &alice, &["-L", "-W"]).await?;
    is_on_the_loopback(&alice, &session).await?;
    world.ends_cleanly().await
}

/// `transport = "srun"`: one step of the job carries all connections, and the login node forwards nothing.
pub(crate) async fn a_step_of_the_job_leads_to_the_proxy(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).over("srun").await?;
    let alice = world.user("alice");
    let session = works(&world, &alice, &["--overlap"]).await?;
    is_on_the_loopback(&alice, &session).await?;
    for forward in ["-L", "-W"] {
        ensure!(ssh_with(&world, forward).is_none(), "an ssh has {forward}");
    }
    world.ends_cleanly().await
}

/// `transport = "jump-socket"`: the same, and there is no port at all.
pub(crate) async fn the_proxy_listens_on_a_socket_alone(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).over("jump-socket").await?;
    let alice = world.user("alice");
    let session = works(&world, &alice, &["-L", "-W"]).await?;
    ensure!(session.proxy_port.is_none(), "{session:?}");
    let job = session.job()?;
    let about = format!("stat -c '%F %A' .hpc-proxy .hpc-proxy/job-{job}.sock");
    let about = alice.on("node01", &about).await?;
    ensure!(
        about == "directory drwx------\nsocket srw-------\n",
        "{about}"
    );
    alice.cancels().await?;
    alice.awaits("ended").await?;
    eventually!(10, "the socket goes with its job", {
        let left = alice.on("login", "ls .hpc-proxy").await?;
        ensure!(!left.contains(".sock"), "{left}");
        Ok(())
    })?;
    world.ends_cleanly().await
}

async fn is_on_the_loopback(alice: &User<'_>, session: &Session) -> Result<()> {
    let port = format!(":{:04X}", session.proxy_port()?);
    let listeners = alice.on("node01", LISTENERS).await?;
    let own: Vec<_> = listeners.lines().filter(|it| it.ends_with(&port)).collect();
    ensure!(own == [format!("0100007F{port}")], "{own:?}");
    Ok(())
}

/// A page and a WebSocket come through, and come back after each part of the way to the node is gone.
async fn works(world: &World, alice: &User<'_>, parts: &[&str]) -> Result<Session> {
    let session = alice.opens_vscode().on("node01").await?;
    let live = alice
        .runs(LiveServer::on(5500).showing("hello from afar"))
        .await?;
    let browser = alice.browser();
    browser.gets(&live.path("")).await?.sees("hello from afar");
    let mut socket = browser.connects(&live.path("/ws")).await?;
    alice
        .saves(&live.file("index.html"), &e2e::devserver::page("changed")?)
        .await?;
    socket.awaits(SOON, |text| text == "reload").await?;

    for part in parts {
        let ssh = ssh_with(world, part).with_context(|| format!("no ssh with {part}"))?;
        ssh.kill();
        eventually!(20, "the page is back", {
            browser.gets(&live.path("")).await?.shows("changed")?;
            let healed = ssh_with(world, part).context("no ssh yet")?;
            ensure!(healed.pid != ssh.pid, "the same ssh");
            Ok(())
        })?;
    }
    let after = alice.awaits("connected").await?;
    ensure!(after.job()? == session.job()?, "another job: {after:?}");
    Ok(session)
}

/// The ssh with this option, of its own or in what it runs.
fn ssh_with(world: &World, option: &str) -> Option<Process> {
    let has = |ssh: &Process| {
        ssh.args
            .iter()
            .any(|arg| arg.split(' ').any(|it| it == option))
    };
    processes::below(world.manager().pid())
        .into_iter()
        .find(has)
}
