//! What a story returns, and how one is told: with a deadline, and skipped where its cluster
//! lacks what it needs.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, Need};

/// How a story ends. Its last line is `world.ends_cleanly().await`.
pub type Story = Result<()>;

/// Far beyond any story's own deadlines; it only bounds a harness that hangs.
const DEADLINE: Duration = Duration::from_secs(150);

/// The story cannot be told on this cluster. Not a failure, but said aloud.
#[derive(Debug)]
pub struct Skipped {
    /// What the cluster cannot offer.
    pub lacks: Vec<Need>,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("needs: ")?;
        for (index, need) in self.lacks.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{need}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Skipped {}

/// Runs a story of a cluster's to its end, where this machine has what every story on it needs.
///
/// # Errors
/// As of [`tell`].
pub async fn tell_on<C: Cluster>(cluster: &C, story: impl Future<Output = Story>) -> Story {
    let needs = cluster.needs().iter().copied();
    let lacks: Vec<Need> = needs.filter(|&need| !cluster.meets(need)).collect();
    tell(async {
        if lacks.is_empty() {
            story.await
        } else {
            Err(Skipped { lacks }.into())
        }
    })
    .await
}

/// Runs a story to its end.
///
/// # Errors
/// The story's own, or that it took longer than any story may. A skipped one is `Ok`.
#[expect(
    clippy::print_stderr,
    reason = "the reason of a skip belongs in the test's output"
)]
pub async fn tell(story: impl Future<Output = Story>) -> Story {
    let end = tokio::time::timeout(DEADLINE, story)
        .await
        .with_context(|| format!("the story did not end within {DEADLINE:?}"))?;
    match end {
        Err(error) => match error.downcast::<Skipped>() {
            Ok(skipped) => {
                eprintln!("skipped: {skipped}");
                Ok(())
            }
            Err(error) => Err(error),
        },
        told => told,
    }
}
