//! Weather: the way in is shut, cut or slow, while everything on the nodes goes on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::cluster::Cluster;
use e2e::devserver::{LiveServer, Running};
use e2e::eventually;
use e2e::story::Story;
use e2e::user::{Session, User};
use e2e::world::World;
use serde_json::json;

use crate::the_tunnel_drops::serves_again;

const SOON: Duration = Duration::from_secs(10);

/// No page of the manager may take longer, whatever the weather.
const PROMPT: Duration = Duration::from_secs(1);

/// Half a minute, and enough that even a question that was on its way is given up: ssh needs 20 s to
/// notice, and 10 s for another try.
const CUT: Duration = Duration::from_secs(33);

/// The login node's sshd ends with every connection, and comes back: so do the sessions.
pub(crate) async fn the_login_nodes_sshd_is_restarted(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (hers, his) = tokio::try_join!(async { alice.opens_vscode().await }, async {
        bob.opens_vscode().on("node02").await
    },)?;
    let live = alice
        .runs(LiveServer::on(5500).showing("still here"))
        .await?;
    let mut socket = alice.browser().connects(&live.path("/ws")).await?;
    socket.awaits(SOON, |text| text == "connected").await?;

    world.restarts_sshd().await?;
    let hung_up = tokio::time::timeout(SOON, async { while socket.next().await.is_ok() {} });
    hung_up.await.context("the WebSocket hangs")?;
    serves_again(&alice, &live, &hers).await?;
    let after = bob.awaits("connected").await?;
    ensure!(after.job()? == his.job()?, "another job: {after:?}");
    bob.browser()
        .gets(his.ide.as_deref().unwrap_or_default())
        .await?
        .sees("IDE of bob");

    let queue = alice.on("login", "squeue -h -t all -o '%i %T'").await?;
    let jobs: BTreeSet<&str> = queue.lines().collect();
    let (hers, his) = (
        format!("{} RUNNING", hers.job()?),
        format!("{} RUNNING", his.job()?),
    );
    ensure!(
        jobs == BTreeSet::from([hers.as_str(), his.as_str()]),
        "lost or doubled: {queue}"
    );
    world.ends_cleanly().await
}

/// For half a minute nothing from alice's account comes through, and nothing is refused either. In the
/// meantime bob launches a session on a login node that takes four seconds for each command.
pub(crate) async fn one_is_cut_off_while_another_logs_in_slowly(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).on_a_wire("alice").await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let before = alice.opens_vscode().await?;
    let live = alice
        .runs(LiveServer::on(5500).showing("still here"))
        .await?;
    alice
        .browser()
        .gets(&live.path(""))
        .await?
        .sees("still here");
    bob.on("login", "echo 'sleep 4' >~/.bashrc").await?;

    tokio::try_join!(is_cut_off(&world, &alice, &live), launches_slowly(&bob),)?;
    serves_again(&alice, &live, &before).await?;
    let queue = alice.on("login", "squeue -h -t all -o '%u %T'").await?;
    let mut jobs: Vec<&str> = queue.lines().collect();
    jobs.sort_unstable();
    ensure!(
        jobs == ["alice RUNNING", "bob RUNNING"],
        "lost or doubled: {queue}"
    );
    // The end of this world need not be slow as well.
    let tidy = "cd; mv .bashrc slow; exit";
    bob.on("login", tidy).await?;
    world.ends_cleanly().await
}

/// What a person sees who is cut off: at first nothing new, then what is wrong; never an end.
async fn is_cut_off(world: &World, alice: &User<'_>, live: &Running) -> Result<()> {
    let start = Instant::now();
    world.wire().cut();
    let late = live.path("late");
    let request = alice.browser().gets(&late);
    let looks = async {
        let mut known = None;
        while start.elapsed() < CUT {
            let now = prompt_look(alice).await?;
            ensure!(now.phase != "ended", "its job goes on: {now:?}");
            let reason = now.reason.unwrap_or_default();
            if says_why(&reason) {
                known.get_or_insert_with(|| start.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let known = known.context("nobody said what is wrong")?;
        ensure!(known < Duration::from_secs(25), "told after {known:?}");
        let words = "the login node cannot be reached";
        alice.browser().gets("/").await?.sees(words);
        let waiting = alice.browser().gets(&live.path("")).await?;
        waiting.has_status(503);
        ensure!(says_why(&waiting.text()), "{waiting}");
        anyhow::Ok(())
    };
    let (answer, looked) = tokio::join!(request, looks);
    looked?;
    // Whoever asked before it was known is answered as well.
    let answer = answer?;
    ensure!([502, 503, 504].contains(&answer.status), "{answer}");
    world.wire().mend();
    Ok(())
}

/// Of whichever part notices: the first two do so sooner, the last tells more.
fn says_why(text: &str) -> bool {
    [
        "the network or a host is down",
        "the connection to the login node broke",
        "the login node cannot be reached",
    ]
    .iter()
    .any(|words| text.contains(words))
}

async fn launches_slowly(bob: &User<'_>) -> Result<()> {
    bob.launches(json!({})).await?;
    let mut phases = Vec::new();
    eventually!(40, "bob's session is connected", {
        let now = prompt_look(bob).await?;
        ensure!(now.phase != "ended", "{now:?}");
        if phases.last() != Some(&now.phase) {
            phases.push(now.phase.clone());
        }
        ensure!(now.phase == "connected", "{now:?}");
        Ok(())
    })?;
    ensure!(
        phases.len() >= 3 && phases[0] == "submitted",
        "no progress was shown: {phases:?}"
    );
    Ok(())
}

/// Opens their page, and asks how their session stands: both come at once.
async fn prompt_look(user: &User<'_>) -> Result<Session> {
    let start = Instant::now();
    user.browser().gets("/").await?.has_status(200);
    let now = user.session().await?;
    let took = start.elapsed();
    ensure!(took < PROMPT, "the page took {took:?}");
    Ok(now)
}
