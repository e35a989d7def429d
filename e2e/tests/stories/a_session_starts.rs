//! Plan step 1: start a VS Code session.

use anyhow::ensure;
use e2e::cluster::Cluster;
use e2e::story::Story;
use e2e::world::World;
use serde_json::json;

/// A session is one job on the wanted node, with VS Code behind the manager.
pub(crate) async fn a_session_starts_where_it_is_wanted(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    ensure!(alice.session().await?.phase == "none");

    let session = alice.opens_vscode().on("node02").await?;
    ensure!(session.node()? == "node02", "{session:?}");
    let job = session.job()?;
    let queue = alice.on("login", "squeue -h -o '%i %u %T %N'").await?;
    ensure!(
        queue.trim() == format!("{job} alice RUNNING node02"),
        "{queue}"
    );

    let ide = alice.browser().gets("/code/").await?;
    ide.sees("IDE of alice on node02");
    let said = alice
        .types("hostname=$SLURMD_NODENAME; echo on $hostname in job $SLURM_JOB_ID")
        .await?;
    ensure!(said[0] == format!("on node02 in job {job}"), "{said:?}");
    alice
        .browser()
        .gets("/")
        .await?
        .sees("node02")
        .sees("/code/");

    // One session is enough, however often one clicks.
    let again = alice.launches(json!({})).await?;
    ensure!(again.job()? == job, "a second job: {again:?}");
    world.ends_cleanly().await
}

/// Whoever has not signed in learns nothing, and nobody can order in a user's name.
pub(crate) async fn nothing_is_shown_without_a_sign_in(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, stranger) = (world.user("alice"), world.stranger()?);
    alice.opens_vscode().await?;

    for path in [
        "/",
        "/port/5500/",
        "/code/",
        "/api/v1/session",
        "/api/v1/ports",
    ] {
        stranger.gets(path).await?.has_status(401).lacks("alice");
    }
    ensure!(stranger.connects("/code/terminal").await.is_err());

    // A link works once.
    let used = world.manager().first_link("alice")?;
    stranger.opens(used).await?.has_status(403);
    stranger
        .opens(&world.manager().another_link("alice").await?)
        .await?
        .sees("alice");

    // A foreign page, and a form, which can send cookies but no field of its own.
    let path = "/api/v1/session";
    let foreign = [
        ("x-hpc-manager", "1"),
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    for forged in [&foreign[..], &[]] {
        let page = alice
            .browser()
            .sends(reqwest::Method::DELETE, path, forged, "")
            .await?;
        page.has_status(403);
    }
    ensure!(alice.session().await?.phase == "connected");
    world.ends_cleanly().await
}
