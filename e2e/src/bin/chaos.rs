//! A long random walk: `chaos [SEED=N] [MINUTES=N] [CLUSTER=embedded|docker]`.
//!
//! Without a seed it takes one from the clock, and says which.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use e2e::chaos::walk;
use e2e::cluster::{Docker, Embedded, Slurm, SlurmCgroup};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it speaks to a person")]
async fn main() -> Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let (mut seed, mut minutes) = (u64::from(since.subsec_nanos()), 10.0);
    let mut cluster = "embedded".to_owned();
    for word in std::env::args().skip(1) {
        let number = || format!("`{word}` is no number");
        match word.split_once('=') {
            Some(("SEED", value)) => seed = value.parse().with_context(number)?,
            Some(("MINUTES", value)) => minutes = value.parse().with_context(number)?,
            Some(("CLUSTER", value)) => cluster = value.to_owned(),
            _ => bail!(
                "not SEED=N, MINUTES=N or CLUSTER=embedded|docker|slurm|slurm_cgroup: `{word}`"
            ),
        }
    }
    let time = Duration::try_from_secs_f64(60.0 * minutes).context("MINUTES")?;
    println!("SEED={seed} MINUTES={minutes} CLUSTER={cluster}");
    let tells = |line: &str| println!("{line}");
    let steps = match cluster.as_str() {
        "embedded" => walk(&Embedded, seed, time, tells).await?,
        "docker" => walk(&Docker, seed, time, tells).await?,
        "slurm" => walk(&Slurm, seed, time, tells).await?,
        "slurm_cgroup" => walk(&SlurmCgroup, seed, time, tells).await?,
        other => bail!("no cluster `{other}`"),
    };
    println!("{steps} steps, and all is well");
    Ok(())
}
