//! The quick ones of the dev servers; `just compat` runs them all, behind every front.

use anyhow::{Result, ensure};
use e2e::compat;
use e2e::compat::case::Case;
use e2e::compat::front::Front;
use e2e::engine::Engine;

/// Each page's content, requests, live connection, round trip and live reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_dev_servers_work_behind_each_front() -> Result<()> {
    work_in(Engine::Chromium, &Front::OURS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_dev_servers_work_in_firefox_too() -> Result<()> {
    if Engine::Firefox.is_lacking() {
        return Ok(());
    }
    // `just compat --browser firefox` takes the time to look behind each.
    work_in(Engine::Firefox, &[Front::Path, Front::Manager]).await
}

async fn work_in(engine: Engine, fronts: &[Front]) -> Result<()> {
    let matrix = compat::judge(Case::quick()?, engine, fronts, |_, _, _| {}).await?;
    ensure!(matrix.is_good(), "\n{matrix}\n{}", matrix.complaints());
    Ok(())
}
