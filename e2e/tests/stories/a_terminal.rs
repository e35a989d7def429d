//! A session without the manager's page: `hpc-manager` at a terminal of the manager's machine.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::binaries;
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::story::Story;
use e2e::world::World;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(40);

/// Examined, launched and waited for, listed, opened by a link, followed, and cancelled.
pub(crate) async fn a_session_is_had_from_a_terminal(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (manager, alice) = (world.manager(), world.user("alice"));
    let says = async |args: &[&str]| {
        let output = manager.tool(args)?.output();
        let output = timeout(DEADLINE, output).await.context("it hangs")??;
        let said = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{args:?}: {text}{said}");
        anyhow::Ok(text)
    };

    let ssh_config = world.site().ssh_config().display().to_string();
    let proxy = binaries::hpc_proxy()?.display().to_string();
    let doctor = [
        "doctor",
        "--login",
        "alice@login",
        "--ssh-config",
        &ssh_config,
    ];
    let doctor = [&doctor[..], &["--hpc-proxy-command", &proxy]].concat();
    let found = says(&doctor).await?;
    let well = found.lines().all(|line| line.starts_with("ok "));
    let runs = found.contains("a manager runs here");
    ensure!(
        well && runs && found.contains("lets tunnels through"),
        "{found}"
    );

    let id = says(&["launch", "--user=alice", "--time=1:00:00", "--wait"]).await?;
    let id = id.trim();
    // Her browser finds that one.
    let session = alice.opens_vscode().await?;
    ensure!(
        session.id()? == id && session.phase == "connected",
        "{session:?}, not {id}"
    );
    let listed = says(&["ls", "--user=alice"]).await?;
    let line = format!("{id}  connected  {}", session.job()?);
    ensure!(listed.contains(&line), "{listed}");
    ensure!(!says(&["ls", "--user=bob"]).await?.contains(id));

    // A browser that nobody knows becomes alice's by it, and nobody else's does.
    let live = alice
        .runs(LiveServer::on(5500).showing("by a link"))
        .await?;
    let port = live.port().to_string();
    let link = says(&["open", "--user=alice", "--print", "--port", &port, id]).await?;
    let stranger = world.stranger()?;
    stranger.opens(link.trim()).await?.sees("by a link");
    let again = world.stranger()?;
    again.opens(link.trim()).await?.has_status(403);
    let ide = says(&["open", "--user=alice", "--print", session.job()?]).await?;
    let opened = world.stranger()?.opens(ide.trim()).await?;
    opened.has_status(200);

    let mut follows = manager.tool(&["logs", "--user=alice", "--follow"])?;
    let follows = follows.stdout(Stdio::piped()).kill_on_drop(true);
    let mut follows = follows.spawn().context("start `logs`")?;
    let stdout = follows.stdout.take().context("piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let log = format!(".hpc-proxy/job-{}.log", session.job()?);
    for word in ["comes later", "and later still"] {
        alice.on("login", &format!("echo {word} >>{log}")).await?;
        let comes = async {
            while let Some(line) = lines.next_line().await? {
                if line == word {
                    return Ok(());
                }
            }
            anyhow::bail!("the log ends before `{word}`")
        };
        let comes = timeout(DEADLINE, comes).await;
        comes.with_context(|| format!("`{word}` does not come"))??;
    }

    ensure!(says(&["cancel", "--user=alice", id]).await?.trim() == id);
    let rest = async { while let Ok(Some(_)) = lines.next_line().await {} };
    timeout(DEADLINE, rest)
        .await
        .context("the log has no end")?;
    let status = timeout(DEADLINE, follows.wait())
        .await
        .context("it stays")??;
    ensure!(status.success(), "{status}");
    alice.awaits("ended").await?;
    world.ends_cleanly().await
}
