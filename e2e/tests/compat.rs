//! The quick ones of the dev servers; `just compat` runs them all, behind every front.

use anyhow::{Result, ensure};
use e2e::compat;
use e2e::compat::case::Case;
use e2e::compat::front::Front;

/// Each page's content, requests, live connection, round trip and live reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_dev_servers_work_behind_each_front() -> Result<()> {
    let matrix = compat::judge(Case::quick()?, &Front::OURS, |_, _, _| {}).await?;
    ensure!(matrix.is_good(), "\n{matrix}\n{}", matrix.complaints());
    Ok(())
}
