//! A minute of the random walk; `just chaos` walks longer, and on containers.

use std::time::Duration;

use e2e::chaos::walk;
use e2e::cluster::Embedded;
use e2e::story::{Story, tell};

/// Long enough for a few of each kind of step.
const SEED: u64 = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_work_while_faults_fall() -> Story {
    let tells = |line: &str| println!("{line}");
    tell(async {
        walk(&Embedded, SEED, Duration::from_secs(60), tells)
            .await
            .map(drop)
    })
    .await
}
