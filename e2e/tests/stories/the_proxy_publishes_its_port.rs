//! The second step: the proxy starts and writes its port file.

use anyhow::{Context, ensure};
use e2e::cluster::Cluster;
use e2e::story::Story;
use e2e::world::World;

/// The port file is a number and a newline, and what lies beside it is nobody else's to read.
pub(crate) async fn the_proxy_publishes_its_port(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let session = alice.opens_vscode().await?;
    let (job, port) = (session.job()?, session.proxy_port()?);

    let file = alice.on("login", "cat ~/.hpc-proxy/port").await?;
    ensure!(file == format!("{port}\n"), "{file:?} is not {port}");

    let modes = "cd ~/.hpc-proxy && stat -c %a . token job-*.json job-*.token";
    ensure!(alice.on("login", modes).await? == "700\n600\n600\n600\n");
    let record = alice
        .on("login", &format!("cat ~/.hpc-proxy/job-{job}.json"))
        .await?;
    let record: serde_json::Value = serde_json::from_str(&record)?;
    ensure!(
        record["port"] == port && record["job_id"] == job,
        "{record}"
    );

    alice.cancels().await?;
    alice.awaits("ended").await?;
    e2e::eventually!(10, "the lease is withdrawn", {
        let left = alice.published().await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    world.ends_cleanly().await
}

/// The lines of a job script as sites have them, but for the program's place.
const LINES: &str = r#"
mkdir -p ~/.hpc-proxy
@hpc-proxy@ --port 0 --verbose &
HPC_PROXY_PID=$!

# Wait for proxy to write port file
for i in {1..10}; do
  [ -f ~/.hpc-proxy/port ] && break
  sleep 0.5
done

# Read proxy port for tunnel discovery
HPC_PROXY_PORT=$(cat ~/.hpc-proxy/port 2>/dev/null || echo "")
"#;

/// What a person would look at next; bash reaches a port without any tool.
const A_LOOK: &str = r#"
echo "port $HPC_PROXY_PORT"
exec 3<>"/dev/tcp/127.0.0.1/$HPC_PROXY_PORT"
printf 'GET /port/5500/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3
read -r answer <&3
echo "answer $answer"
kill "$HPC_PROXY_PID"; wait "$HPC_PROXY_PID"
echo "exit $?"
ls -A ~/.hpc-proxy
"#;

/// A job script that was written for the original works with this proxy.
pub(crate) async fn a_plain_shell_loop_finds_the_port(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let lines = LINES.replace("@hpc-proxy@", &world.site().tools().hpc_proxy_word());

    let said = alice.on("node01", &format!("{lines}{A_LOOK}")).await?;
    let said: Vec<&str> = said.lines().map(str::trim).collect();
    let port = said[0].strip_prefix("port ").context("no port")?;
    ensure!(port.parse::<u16>()? > 0, "{said:?}");
    // It is the proxy, and it does not serve whoever has no token.
    ensure!(said[1].starts_with("answer HTTP/1.1 401"), "{said:?}");
    ensure!(said[2..] == ["exit 0"], "{said:?}");
    world.ends_cleanly().await
}
