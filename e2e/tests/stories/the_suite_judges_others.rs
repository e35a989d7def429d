//! The stories that are told of any implementation, told of ours: it gets no help that others do not get.

use anyhow::ensure;
use e2e::cluster::Cluster;
use e2e::judge::{Kind, Stage, as_foreign, judge_manager, judge_proxy};
use e2e::story::Story;
use e2e::world::World;

/// Without a manager, as one would try it by hand.
pub(crate) async fn our_proxy_is_judged_as_any_other(cluster: &impl Cluster) -> Story {
    let stage = Stage::on(cluster, Kind::HpcProxy).await?;
    let table = judge_proxy(&stage, "").await;
    ensure!(table.failed().is_empty(), "\n{table}");
    stage.ends_cleanly().await
}

/// By its address, two people's cookies and an ssh to their node.
pub(crate) async fn our_manager_is_judged_as_any_other(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let foreign = as_foreign(&world).await?;
    let table = judge_manager(&foreign, "").await;
    ensure!(table.failed().is_empty(), "\n{table}");
    world.ends_cleanly().await
}
