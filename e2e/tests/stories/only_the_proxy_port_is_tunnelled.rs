//! Plan step 3: the proxy's port, and that alone, is tunnelled.

use anyhow::ensure;
use e2e::cluster::Cluster;
use e2e::devserver::{BrowserSync, LiveServer};
use e2e::processes;
use e2e::story::Story;
use e2e::world::World;

/// With VS Code and two dev servers in use there is one forward, and it leads to the proxy.
pub(crate) async fn only_the_proxy_port_is_tunnelled(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let session = alice.opens_vscode().on("node01").await?;
    let live = alice.runs(LiveServer::on(5500)).await?;
    let sync = alice.runs(BrowserSync::on(3000)).await?;
    alice.browser().gets(&live.path("")).await?.has_status(200);
    alice.browser().gets(&sync.path("")).await?.has_status(200);

    let target = format!(":node01:{}", session.proxy_port()?);
    let manager = processes::below(world.manager().pid());
    let forwards: Vec<&str> = manager.iter().flat_map(|ssh| ssh.values_of("-L")).collect();
    ensure!(
        forwards.len() == 1 && forwards[0].ends_with(&target),
        "{forwards:?}, not {target}"
    );
    let others = ["-R", "-D", "-W"];
    ensure!(
        manager
            .iter()
            .all(|ssh| others.iter().all(|way| ssh.values_of(way).is_empty()))
    );
    world.ends_cleanly().await
}
