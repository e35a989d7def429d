//! The plan's scope: VS Code only. JupyterLab and RStudio bring a port proxy of their own.

use anyhow::ensure;
use e2e::cluster::Cluster;
use e2e::eventually;
use e2e::story::Story;
use e2e::world::World;
use serde_json::json;

/// Every program of this user on this node, known by its home.
const PROGRAMS: &str = r#"
grep -lzx "HOME=$HOME" /proc/[0-9]*/environ 2>/dev/null |
  while read -r file; do readlink "${file%environ}exe"; done
: # some have ended by now
"#;

/// Their jobs run, and no hpc-proxy with them.
pub(crate) async fn another_ide_gets_no_proxy(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster)
        .with_another_ide("touch started; sleep 60")
        .await?;
    let alice = world.user("alice");
    alice.launches(json!({ "node": "node01" })).await?;
    alice.awaits("running").await?;
    eventually!(10, "the IDE has started", {
        alice.on("login", "ls started").await
    })?;

    let programs = alice.on("node01", PROGRAMS).await?;
    let runs = |name: &str| programs.lines().any(|path| path.ends_with(name));
    ensure!(runs("/sleep") && !runs("/hpc-proxy"), "{programs}");
    ensure!(alice.published().await?.is_empty());
    let session = alice.session().await?;
    ensure!(
        session.phase == "running" && session.proxy_port.is_none(),
        "{session:?}"
    );
    let page = alice.browser().gets("/port/5500/").await?;
    ensure!(page.status == 404, "{page}");
    world.ends_cleanly().await
}
