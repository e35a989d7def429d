//! How it all ends: in good order, or not.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::eventually;
use e2e::processes;
use e2e::story::Story;
use e2e::world::World;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// For a whole run of one story, as for any story.
const RUN: Duration = Duration::from_secs(60);

/// Asked to end, the manager cancels its sessions and takes its tunnels along.
pub(crate) async fn the_end_leaves_nothing_behind(cluster: &impl Cluster) -> Story {
    let mut world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.opens_vscode().await?;
    bob.opens_vscode().await?;
    let live = alice.runs(LiveServer::on(5500)).await?;
    let port = live.port();
    let state_dir = world.manager().state_dir().to_owned();

    world.manager_ends().await?;
    let alice = world.user("alice");
    let queue = alice.on("login", "squeue -h -t PD,R -o '%i %T'").await?;
    ensure!(queue.is_empty(), "jobs go on: {queue}");
    eventually!(15, "homes and nodes are as before", {
        let published = alice.published().await?;
        ensure!(published.is_empty(), "{published} is left");
        ensure!(
            !alice.finds_a_listener("node01", port).await?,
            "the dev server goes on"
        );
        Ok(())
    })?;
    let left = processes::in_touch_with(&state_dir);
    ensure!(left.is_empty(), "left running: {left:?}");
    world.ends_cleanly().await
}

/// Says that it is ready, and waits to be killed.
#[expect(clippy::print_stdout, reason = "its parent reads it")]
pub(crate) async fn a_run_to_be_killed(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    alice.opens_vscode().await?;
    let _live = alice.runs(LiveServer::on(5500)).await?;
    println!("{READY}");
    std::future::pending().await
}

const READY: &str = "ready to be killed";

/// `kill -9` of a test process: no process of it goes on, and the next run finds a clean table.
pub(crate) async fn a_killed_run_disturbs_no_other(cluster: &impl Cluster) -> Story {
    // Everything of both runs is below a directory of this test's own.
    let dir = tempfile::tempdir()?;
    let mut victim = run(dir.path(), cluster, "a_run_to_be_killed", &["--ignored"])?;
    let ready = async {
        let mut lines = BufReader::new(victim.stdout.take().context("piped")?).lines();
        while let Some(line) = lines.next_line().await? {
            // libtest writes the test's name before it, on the same line.
            if line.ends_with(READY) {
                return Ok(());
            }
        }
        bail!("it ended too early")
    };
    tokio::time::timeout(RUN, ready)
        .await
        .context("it never was ready")??;
    victim.start_kill()?;
    victim.wait().await?;

    eventually!(10, "nothing on this machine goes on", {
        let left = processes::in_touch_with(dir.path());
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    ensure!(
        dir.path().read_dir()?.next().is_some(),
        "the victim had no time to clean up"
    );

    let next = run(
        dir.path(),
        cluster,
        "live_server_is_served_under_its_port",
        &[],
    )?;
    let next = tokio::time::timeout(RUN, next.wait_with_output())
        .await
        .context("it hangs")??;
    let said = [next.stdout, next.stderr].concat();
    ensure!(next.status.success(), "{}", String::from_utf8_lossy(&said));
    let left: Vec<OsString> = dir
        .path()
        .read_dir()?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    ensure!(left.is_empty(), "left in the directory: {left:?}");
    let left = cluster.leftovers()?;
    ensure!(left.is_empty(), "left on the cluster: {left:?}");
    Ok(())
}

/// Another run of this very program.
fn run(dir: &std::path::Path, cluster: &impl Cluster, story: &str, args: &[&str]) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            &format!("{}::{story}", cluster.name()),
            "--nocapture",
        ])
        .args(args)
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("run this program")
}
