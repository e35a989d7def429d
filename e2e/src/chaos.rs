//! A seeded random walk: users launch, serve, browse, reload and cancel, while faults fall.
//!
//! After each step a model tells what must be: each user sees exactly their own content, no lease,
//! tunnel or job is left over, and everything heals within its deadline. The same seed takes the same
//! steps: they are chosen by the dice and the model alone, and a step is over when the world is as the
//! model has it.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::{Cluster, Need};
use crate::ssh::Remote;
use crate::world::World;

mod check;
mod dice;
mod model;
mod step;
mod walk;
mod weather;

use dice::Dice;
use model::Model;
use step::{At, Step};

/// For each step. A network that was cut takes ssh 20 s to notice; the rest is for a busy machine.
const HEALS: Duration = Duration::from_secs(45);

/// Somebody got what is not theirs: there is nothing to wait for.
#[derive(Debug)]
struct LetIn(String);

impl fmt::Display for LetIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LetIn {}

/// A walk under way.
struct Walk {
    world: World,
    model: Model,
    containers: bool,
    /// Whether two users' servers on one node need ports of their own.
    shared_localhost: bool,
    /// A server that somebody else has on the node of a session.
    trap: Option<(At, Remote)>,
}

/// Takes steps for so long, each told to `tells` before and after; the number of steps.
///
/// # Errors
/// The step after which something was not as it must be.
pub async fn walk<C: Cluster>(
    cluster: &C,
    seed: u64,
    time: Duration,
    mut tells: impl FnMut(&str),
) -> Result<usize> {
    let mut dice = Dice::new(seed);
    let shared_localhost = cluster.meets(Need::SeveralUids) && dice.below(2) == 0;
    let plan = World::on(cluster).on_a_wire("alice");
    let world = if shared_localhost {
        plan.sharing_localhost().await?
    } else {
        plan.await?
    };
    let mut walk = Walk {
        world,
        model: Model::new(),
        containers: cluster.meets(Need::Containers),
        shared_localhost,
        trap: None,
    };
    let (start, mut steps) = (Instant::now(), 0);
    while start.elapsed() < time {
        let step = Step::next(&mut dice, &walk.model, walk.containers);
        let (told, begun) = (step.told(&walk.model), Instant::now());
        steps += 1;
        let line = format!("{steps:>4} {:>4}s  {told}", start.elapsed().as_secs());
        tells(&line);
        let taken = async {
            walk.takes(step).await?;
            walk.settles().await
        };
        taken.await.with_context(|| {
            let on = cluster.name();
            format!("step {steps}, {told}; again: just chaos SEED={seed} CLUSTER={on}")
        })?;
        tells(&format!("{:>11} after {:.1?}", "well", begun.elapsed()));
    }
    walk.world.ends_cleanly().await?;
    Ok(steps)
}
