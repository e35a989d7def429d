//! Weather: something claims to be the proxy and is not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Order};
use e2e::eventually;
use e2e::story::Story;
use e2e::user::User;
use e2e::world::World;
use serde_json::Value;

use super::the_tunnel_drops::tunnel_of;

/// A proxy that takes its time, so that a manager surely looks before its lease is there.
const SLOW_PROXY: &str = r#"
cat >slow-proxy <<'END'
#!/bin/sh
[ "$1" = free-port ] || [ "$1" = exec ] || sleep 1.5
exec @hpc-proxy@ "$@"
END
chmod +x slow-proxy
"#;

/// Puts the dead proxy's lease, in the new job's name, wherever that job's lease should be, once
/// before the job and again after its script has cleaned up.
const PLANT: &str = r#"
cd ~/.hpc-proxy
plant() { cp ~/token "$1.token" && cp ~/claimed "$1.json"; }
echo @stale@ >port; plant job-@job@; chmod 600 job-@job@.*
echo planted
while [ -e job-@job@.json ]; do sleep 0.01; done
plant job-@job@
echo planted again
cat
"#;

/// A killed proxy could not take its lease back. The next session does not believe it, not even
/// where it is in that session's name.
pub(crate) async fn a_stale_lease_is_not_believed(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).with_proxy("./slow-proxy").await?;
    let alice = world.user("alice");
    let slow_proxy = SLOW_PROXY.replace("@hpc-proxy@", &world.site().tools().hpc_proxy_word());
    alice.on("login", &slow_proxy).await?;
    let first = alice.opens_vscode().on("node01").await?;
    let (job, stale) = (first.job()?, first.proxy_port()?.to_string());

    // Ids are given in order.
    let next = (job.parse::<u64>()? + 1).to_string();
    let mut claimed = lease(&alice, job).await?;
    let proxy = claimed["pid"].clone();
    claimed["job_id"] = Value::from(next.clone());
    let token = format!("~/.hpc-proxy/job-{job}.token");
    let keep = format!("umask 077; cp {token} token; echo '{claimed}' >claimed");
    alice.on("login", &keep).await?;

    // With its batch script, which would have removed the lease in its stead.
    let kill = format!("kill -9 $(ps -o ppid= -p {proxy}) {proxy}");
    alice.on("node01", &kill).await?;
    alice.awaits("ended").await?;
    let left = format!("cat ~/.hpc-proxy/port; ls ~/.hpc-proxy/job-{job}.json");
    let left = alice.on("login", &left).await?;
    ensure!(
        left.starts_with(&stale),
        "a killed proxy took its lease back: {left}"
    );

    let plant = PLANT.replace("@job@", &next).replace("@stale@", &stale);
    let mut planter = world.ssh().starts("alice", "login", &plant)?;
    let soon = Duration::from_secs(10);
    planter
        .lines
        .awaits(soon, "a plant", |line| line == "planted")
        .await?;

    let second = alice.opens_vscode().on("node01").await?;
    ensure!(second.job()? == next, "planted for {next}: {second:?}");
    let port = second.proxy_port()?.to_string();
    ensure!(port != stale, "it believed the stale lease: {second:?}");
    let file = alice.on("login", "cat ~/.hpc-proxy/port").await?;
    ensure!(file.trim() == port, "{file} is not {port}");
    // Otherwise the story proves nothing: the lease was there to be believed.
    planter
        .lines
        .awaits(soon, "a plant", |line| line == "planted again")
        .await?;
    world.ends_cleanly().await
}

/// Listens where the proxy was, tells every byte it gets, and answers as if all were well.
const IMPOSTOR: &str = r#"
const server = require("net").createServer((socket) => {
  socket.on("error", () => {});
  socket.on("data", (bytes) => {
    console.log(JSON.stringify(bytes.toString("latin1")));
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nimpostor");
  });
});
const listen = () => server.listen(+process.argv[1], "0.0.0.0", () => console.log("listening"));
server.on("error", () => setTimeout(listen, 20));
process.stdin.on("end", () => process.exit()).resume();
listen();
"#;

/// The proxy dies and a stranger takes its port: they get neither the token nor a request.
pub(crate) async fn an_impostor_on_the_old_port_gets_nothing(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let session = alice.opens_vscode().on("node01").await?;
    let (job, port) = (session.job()?, session.proxy_port()?);
    let record = lease(&alice, job).await?;
    let token = alice
        .on("login", &format!("cat ~/.hpc-proxy/job-{job}.token"))
        .await?;

    // Its batch script would notice and end the job; it is made to miss it.
    let kill = format!(
        "kill -STOP $(ps -o ppid= -p {0}) && kill -9 {0}",
        record["pid"]
    );
    alice.on("node01", &kill).await?;
    let program = format!("node -e '{IMPOSTOR}' {port}");
    let mut impostor = world.ssh().starts(bob.name(), "node01", &program)?;
    impostor
        .lines
        .awaits(Duration::from_secs(10), "its start", |line| {
            line == "listening"
        })
        .await?;

    let mut attempts = 0..;
    eventually!(10, "the manager asks the impostor who it is", {
        let attempt: u32 = attempts.next().context("endless")?;
        let page = alice
            .browser()
            .gets(&format!("/port/5500/private-{attempt}"))
            .await?;
        ensure!(
            (400..600).contains(&page.status),
            "served by somebody: {page}"
        );
        page.lacks("impostor");
        let heard = impostor.lines.so_far();
        // A few times, as the manager may be on its way back to a wait for the proxy.
        ensure!(attempt >= 5 && heard.len() > 1, "it heard {heard:?}");
        Ok(())
    })?;
    let heard = impostor.lines.so_far()[1..].join("\n");
    ensure!(!heard.contains(token.trim()), "it was given the token");
    ensure!(
        !heard.contains("private"),
        "it was given a request: {heard}"
    );
    ensure!(
        !heard.to_lowercase().contains("cookie"),
        "it was given cookies: {heard}"
    );
    ensure!(
        heard.contains("/_hpc-proxy/proof/"),
        "it was asked something else: {heard}"
    );
    world.ends_cleanly().await
}

/// The job moves and a stranger takes the port that its proxy had: they are asked for a proof at most,
/// and for nothing once the session is elsewhere.
pub(crate) async fn an_impostor_where_the_job_was_hears_nothing(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let first = alice.opens_vscode().await?;
    ensure!(first.node()? == "node01", "not the first node: {first:?}");
    let token = format!("cat ~/.hpc-proxy/job-{}.token", first.job()?);
    let old_token = alice.on("login", &token).await?;
    // He waits there already when the proxy ends.
    let program = format!("node -e '{IMPOSTOR}' {}", first.proxy_port()?);
    let mut impostor = world.ssh().starts(bob.name(), "node01", &program)?;

    world.site().orders(Order::Drain("node01")).await?;
    world.site().orders(Order::RequeueSoon).await?;
    let requeue = format!("scontrol requeue {}", first.job()?);
    alice.on("login", &requeue).await?;
    let listening = |line: &str| line == "listening";
    let soon = Duration::from_secs(10);
    impostor.lines.awaits(soon, "its start", listening).await?;
    let mut attempts = 0..;
    let second = eventually!(30, "the session is on node02", {
        let attempt: u32 = attempts.next().context("endless")?;
        let path = format!("/port/5500/private-{attempt}");
        alice.browser().gets(&path).await?.lacks("impostor");
        let now = alice.session().await?;
        ensure!(now.phase != "ended", "{now:?}");
        let moved = now.phase == "connected" && now.node.as_deref() == Some("node02");
        ensure!(moved, "{now:?}");
        Ok(now)
    })?;

    let on_the_way = impostor.lines.so_far().len();
    let new_token = alice.on("login", &token).await?;
    ensure!(new_token != old_token, "the old proxy's token serves on");
    // The tunnel is opened anew, and leads where the job is.
    tunnel_of(&world).context("no tunnel")?.kill();
    let ide = second.ide.as_deref().context("no IDE")?;
    eventually!(20, "the IDE is back", {
        alice.browser().gets("/port/5500/private").await?;
        alice.browser().gets(ide).await?.shows("on node02")
    })?;
    let heard = impostor.lines.so_far();
    ensure!(heard.len() == on_the_way, "asked after the move: {heard:?}");
    let stray = |line: &&String| !line.contains("/_hpc-proxy/proof/") && !listening(line);
    let stray: Vec<_> = heard.iter().filter(stray).collect();
    ensure!(stray.is_empty(), "it heard more than a question: {stray:?}");
    let heard = heard.join("\n");
    for secret in [&old_token, &new_token] {
        ensure!(!heard.contains(secret.trim()), "it was given a token");
    }
    world.ends_cleanly().await
}

async fn lease(user: &User<'_>, job: &str) -> Result<Value> {
    let record = user
        .on("login", &format!("cat ~/.hpc-proxy/job-{job}.json"))
        .await?;
    serde_json::from_str(&record).with_context(|| format!("not a record: {record}"))
}
