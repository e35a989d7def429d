//! That the judge can tell: each of its stories fails of a proxy, and of a manager, that does it wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::child::{Child, Lifeline};
use e2e::cluster::Embedded;
use e2e::judge::{Foreign, Kind, Stage, Table, judge_manager, judge_proxy};
use e2e::{binaries, eventually};
use futures_util::{StreamExt, TryStreamExt, stream};

/// They mostly wait.
const AT_ONCE: usize = 4;

/// What `fixtures/judge/like-the-original` may do wrong, and words in the name of the story that must notice.
const OF_PROXIES: [(&str, &str); 12] = [
    ("publishes-an-address", "it publishes its port"),
    ("leaves-its-file", "it publishes its port"),
    ("ignores--port-file", "--port-file"),
    ("keeps-prefix", "what its page names load"),
    ("no-upgrades", "Live Server reloads"),
    ("no-upgrades", "browser-sync"),
    ("buffers", "server-sent events"),
    ("damages", "large bodies"),
    ("hangs", "without a server"),
    ("says-nothing", "without a server"),
    ("never-refuses", "what is no port"),
    ("one-target", "two users"),
];

/// The same where it stands for a manager.
const OF_MANAGERS: [(&str, &str); 6] = [
    ("one-target", "their own server"),
    ("no-upgrades", "Live Server reloads"),
    ("buffers", "server-sent events"),
    ("damages", "large bodies"),
    ("says-nothing", "without a server"),
    ("never-refuses", "what is no port"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_story_notices_a_proxy_that_does_it_wrong() -> Result<()> {
    let mut stage = Stage::on(&Embedded, Kind::Original).await?;
    stage.with_command(&format!("'{}'", naive().display()));
    // It rewrites nothing, and on this cluster all users are one.
    let table = judge_proxy(&stage, "").await;
    assert_eq!(
        failed(&table),
        ["a redirect stays below the prefix"],
        "\n{table}"
    );
    stage.ends_cleanly().await?;
    let noticed = stream::iter(OF_PROXIES).map(|(fault, story)| is_noticed(fault, story));
    noticed.buffer_unordered(AT_ONCE).try_collect().await
}

async fn is_noticed(fault: &str, story: &str) -> Result<()> {
    let mut stage = Stage::on(&Embedded, Kind::Original).await?;
    stage.with_command(&format!("FAULT={fault} '{}'", naive().display()));
    let table = judge_proxy(&stage, story).await;
    is_one_failure(&table, fault)?;
    stage.ends_cleanly().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_story_notices_a_manager_that_does_it_wrong() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (child, foreign) = manager(dir.path(), "").await?;
    let table = judge_manager(&foreign, "").await;
    // It asks nobody who they are.
    let open = [
        "a stranger is refused",
        "a page of another site gets no WebSocket",
        "its cookies do not reach a dev server",
    ];
    assert_eq!(failed(&table), open, "\n{table}");
    child.end().await?;
    for (fault, story) in OF_MANAGERS {
        let (child, foreign) = manager(dir.path(), fault).await?;
        let table = judge_manager(&foreign, story).await;
        is_one_failure(&table, fault)?;
        child.end().await?;
    }
    Ok(())
}

fn naive() -> PathBuf {
    binaries::fixtures().join("judge/like-the-original")
}

fn is_one_failure(table: &Table, fault: &str) -> Result<()> {
    let one = table.lines.len() == 1 && failed(table).len() == 1;
    ensure!(one, "{fault} is not noticed:\n{table}");
    Ok(())
}

fn failed(table: &Table) -> Vec<&'static str> {
    table.failed().iter().map(|line| line.name).collect()
}

/// The naive proxy as a manager, before which everybody is the same, on a node that is this machine.
async fn manager(dir: &Path, fault: &str) -> Result<(Child, Foreign)> {
    let home = dir.display().to_string();
    let (file, env) = (
        dir.join("port"),
        [("HOME", home.as_str()), ("FAULT", fault)],
    );
    let args = ["--port-file".into(), file.clone().into_os_string()];
    let child = Child::start("naive", Lifeline::Guarded, dir, &naive(), args, &env)?;
    let port: u16 = eventually!(10, "it publishes its port", {
        Ok(std::fs::read_to_string(&file)?.trim().parse()?)
    })?;
    let live_server = binaries::fixture("live-server")?;
    let run = format!("env -C '{home}' sh -c");
    let settings = BTreeMap::from([
        ("E2E_MANAGER", format!("http://127.0.0.1:{port}")),
        ("E2E_MANAGER_ALICE", "Cookie: session=of-alice".to_owned()),
        ("E2E_MANAGER_BOB", "Cookie: session=of-bob".to_owned()),
        ("E2E_MANAGER_ALICE_RUN", run.clone()),
        ("E2E_MANAGER_BOB_RUN", run),
        ("E2E_LIVE_SERVER", format!("'{}'", live_server.display())),
    ]);
    let foreign = Foreign::told_by(|name| settings.get(name).cloned());
    Ok((child, foreign.context("what is told of it")?))
}
