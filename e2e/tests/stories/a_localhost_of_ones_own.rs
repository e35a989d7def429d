//! Weather for a private localhost: what others on the node may do to it, what must not be in it, and
//! what is left without its supervisor.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Need};
use e2e::devserver::{LiveServer, page};
use e2e::eventually;
use e2e::story::Story;
use e2e::user::User;
use e2e::world::World;

/// Live Server notices a change within a quarter of a second.
const SOON: Duration = Duration::from_secs(10);

/// How long a connection is given that nobody answers.
const PATIENCE: &str = "--max-time 2";

/// curl(1): it took longer than it was given, and nobody listens.
const TIMED_OUT: i32 = 28;
const REFUSED: i32 = 7;

/// Somebody else sits on the user's port: on all addresses, on the user's personal one, on `::1`. The
/// user's server comes up all the same, and everybody who asks for it by its port finds it.
pub(crate) async fn squatters_are_no_obstacle(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).needing([Need::SeveralUids]).await?;
    let alice = world.user("alice");
    alice.opens_vscode().on("node01").await?;
    let own = personal(&alice).await?;

    for (port, squat) in [(5500, "0.0.0.0"), (5501, own.as_str()), (5502, "::1")] {
        let address = (squat, port);
        let squatter = world.gives_away("node01", address, "bob", "bob squats");
        let squatter = squatter.await?;
        let server = LiveServer::on(port).showing("alice has this page");
        let live = alice.runs(server.wherever()).await?;

        let shown = alice.browser().gets(&live.path("")).await?;
        shown.sees("alice has this page").lacks("squats");
        for name in ["localhost", "127.0.0.1", "[::1]"] {
            let curl = format!("curl --silent --show-error {PATIENCE} http://{name}:{port}/");
            let shown = alice.types(&curl).await?.join("\n");
            ensure!(shown.contains("alice has this page"), "{curl}: {shown}");
        }
        eventually!(10, "the manager's page lists it", {
            let list = alice.browser().gets("/").await?;
            list.shows(&format!("/port/{port}/"))
        })?;
        let asked = squatter.lines.so_far();
        ensure!(
            asked == ["listens"],
            "bob's at {squat} was asked: {asked:?}"
        );
    }
    world.ends_cleanly().await
}

/// Whoever knows the personal address still cannot open what is there: no answer comes. Its owner
/// can, from outside the job too, with the key.
pub(crate) async fn a_private_server_is_locked(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).needing([Need::SeveralUids]).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let session = alice.opens_vscode().on("node01").await?;
    let log = alice.job_log(&session).await?;
    ensure!(log.contains("), locked"), "{log}");
    let server = LiveServer::on(5500).showing("alice's secret").logging();
    let mut live = alice.runs(server).await?;
    let own = personal(&alice).await?;

    let curl = |name: &str| format!("curl --silent {PATIENCE} http://{name}:5500/?{name}");
    let key = "hpc-proxy exec --quiet --";
    let direct = curl(&own);
    for (user, command, expected) in [
        (&bob, direct.clone(), TIMED_OUT),
        // His key is another.
        (&bob, format!("{key} {direct}"), TIMED_OUT),
        (&bob, curl("127.0.0.1"), REFUSED),
        // The same to the kernel: she shows no key here.
        (&alice, direct.clone(), TIMED_OUT),
        (&alice, format!("{key} {}", curl("localhost")), 0),
    ] {
        let output = world.ssh().tries(user.name(), "node01", &command).await?;
        let name = user.name();
        ensure!(output.code == expected, "{name}: {command}: {output:?}");
        ensure!(
            output.stdout.contains("alice's secret") == (expected == 0),
            "{name}: {command}: {output:?}"
        );
    }
    let page = alice.browser().gets(&live.path("?last")).await?;
    page.sees("alice's secret");
    let last = |line: &str| line.contains("?last");
    live.terminal
        .lines
        .awaits(SOON, "the last request", last)
        .await?;
    let asked = live.terminal.lines.so_far();
    let strange = asked
        .iter()
        .any(|line| line.contains(&own[..]) && line.contains('?'));
    ensure!(!strange, "her server was asked by strangers: {asked:?}");
    world.ends_cleanly().await
}

/// What other nodes must reach stays in reach: the listeners of an MPI process, and those on a port
/// that the kernel chose. Beside them an ordinary dev server is nobody's but the user's.
pub(crate) async fn listeners_of_a_parallel_program_stay_in_reach(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).needing([Need::SeveralUids]).await?;
    let alice = world.user("alice");
    alice.opens_vscode().on("node01").await?;
    let node01 = alice.on("node01", "hostname -i").await?;

    for (env, port, expected) in [("PMI_RANK=0", 7000, 0), ("", 0, 0), ("", 7001, REFUSED)] {
        let mut server = alice
            .serves_in_vscode(env, "0.0.0.0", port, "rank 0")
            .await?;
        let port = server.port;
        let curl = format!("curl --silent {PATIENCE} http://{}:{port}/", node01.trim());
        let output = world.ssh().tries("alice", "node02", &curl).await?;
        ensure!(output.code == expected, "`{env}` {curl}: {output:?}");
        // By its port it is found in either case.
        let shown = alice.browser().gets(&format!("/port/{port}/")).await?;
        shown.sees("rank 0");
        let curl = format!("curl --silent {PATIENCE} http://localhost:{port}/");
        let shown = alice.types(&curl).await?.join("\n");
        ensure!(shown.contains("rank 0"), "`{env}` {curl}: {shown}");
        server
            .terminal
            .lines
            .awaits(SOON, "a request", |it| it == "asked")
            .await?;
    }
    world.ends_cleanly().await
}

/// `kill -9` of the supervisor: pages that are open go on, new servers and clients fail and say so,
/// and a new session is whole again.
pub(crate) async fn the_supervisor_is_killed(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).needing([Need::SeveralUids]).await?;
    let alice = world.user("alice");
    let session = alice.opens_vscode().on("node01").await?;
    let live = alice.runs(LiveServer::on(5500).showing("before")).await?;
    let mut socket = alice.browser().connects(&live.path("/ws")).await?;
    socket.awaits(SOON, |text| text == "connected").await?;

    alice
        .on("node01", "pkill -KILL --uid alice --exact localhost")
        .await
        .context("kill the supervisor")?;
    alice
        .saves(&live.file("index.html"), &page("after")?)
        .await?;
    socket.awaits(SOON, |text| text == "reload").await?;
    alice.browser().gets(&live.path("")).await?.sees("after");
    let now = alice.session().await?;
    ensure!(now.phase == "connected", "{now:?}");

    let new = alice.serves_in_vscode("", "127.0.0.1", 5501, "new").await;
    let why = format!(
        "{:#}",
        new.err().context("a server without its supervisor")?
    );
    ensure!(why.contains("ENOSYS"), "{why}");
    let client = alice
        .types("curl --show-error http://localhost:5500/")
        .await;
    ensure!(client.is_err(), "a client without its supervisor");

    alice.cancels().await?;
    alice.awaits("ended").await?;
    eventually!(15, "nothing is left on the node", {
        let left = alice.finds_a_listener("node01", 5500).await?;
        ensure!(!left, "the dev server is");
        Ok(())
    })?;
    let log = alice.job_log(&session).await?;
    ensure!(!log.contains("by itself"), "the IDE did not go on: {log}");
    alice.opens_vscode().on("node01").await?;
    let live = alice.runs(LiveServer::on(5500).showing("anew")).await?;
    alice.browser().gets(&live.path("")).await?.sees("anew");
    world.ends_cleanly().await
}

/// The address where her servers are, as programs find it.
async fn personal(user: &User<'_>) -> Result<String> {
    let said = user.types("echo \"$HPC_PROXY_LOCALHOST\"").await?;
    let address = said.into_iter().next().unwrap_or_default();
    ensure!(address.starts_with("127."), "no address: `{address}`");
    Ok(address)
}
