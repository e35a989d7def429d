//! What becomes of a session that was kept, after what squeue shows under its name: pure.
//!
//! A job is never submitted again for it, and never cancelled unless its user wanted that. Jobs of
//! other names are not looked at.

use std::time::Duration;

use super::record::Stage;
use crate::job::{JobId, Named};

/// How long after sbatch was asked its job may still appear: a command that lost its manager may go
/// on at the login node, where sbatch asks a controller that takes no job now again for two minutes.
pub const APPEARS_WITHIN: Duration = Duration::from_secs(150);

/// What to do about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with this job.
    Adopt(JobId),
    /// Go on to cancel this job.
    CancelAgain(JobId),
    /// Nothing is known yet: ask squeue again.
    LookAgain,
    /// There is no job, or none any more.
    Over(&'static str),
}

/// What to do about a session at `stage` whose name `found` jobs have, `since` so long after sbatch was asked at
/// the latest.
pub fn decide(stage: &Stage, found: &[Named], since: Duration) -> Verdict {
    match stage {
        Stage::Asked => match newest(found) {
            Some(job) => Verdict::Adopt(job),
            None if since < APPEARS_WITHIN => Verdict::LookAgain,
            None => Verdict::Over(
                "the manager lost sight of it while it was submitted, and Slurm has no such job",
            ),
        },
        Stage::Submitted { job } if has(found, *job) => Verdict::Adopt(*job),
        Stage::Submitted { .. } => Verdict::Over("its job ended while the manager was not looking"),
        Stage::Cancelling { job, .. } if has(found, *job) => Verdict::CancelAgain(*job),
        Stage::Cancelling { .. } => Verdict::Over("it was cancelled"),
        Stage::Ended { .. } => Verdict::Over("it ended before"),
    }
}

/// The job that lives before one that does not, and the later one of two.
fn newest(found: &[Named]) -> Option<JobId> {
    let newest = found.iter().max_by_key(|named| (named.lives, named.job));
    newest.map(|named| named.job)
}

fn has(found: &[Named], job: JobId) -> bool {
    found.iter().any(|named| named.job == job)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn job(number: u32) -> JobId {
        number.to_string().parse().unwrap()
    }

    fn named(number: u32, lives: bool) -> Named {
        Named {
            job: job(number),
            lives,
        }
    }

    fn submitted(number: u32) -> Stage {
        Stage::Submitted { job: job(number) }
    }

    fn cancelling(number: u32) -> Stage {
        Stage::Cancelling {
            job: job(number),
            why: "x".into(),
        }
    }

    #[test]
    fn a_job_that_was_submitted_unseen_is_found_by_its_name() {
        let found = [named(7, true)];
        assert_eq!(
            decide(&Stage::Asked, &found, Duration::ZERO),
            Verdict::Adopt(job(7))
        );
        let found = [named(9, false), named(7, true), named(8, false)];
        assert_eq!(
            decide(&Stage::Asked, &found, APPEARS_WITHIN),
            Verdict::Adopt(job(7))
        );
    }

    // The command may still be on its way.
    #[test]
    fn a_job_that_is_not_there_yet_is_waited_for_and_never_submitted_again() {
        assert_eq!(
            decide(&Stage::Asked, &[], Duration::ZERO),
            Verdict::LookAgain
        );
        assert!(matches!(
            decide(&Stage::Asked, &[], APPEARS_WITHIN),
            Verdict::Over(_)
        ));
    }

    #[test]
    fn a_number_alone_leads_to_no_job() {
        // Another cluster in the place of the first counts from one again.
        let verdict = decide(&submitted(7), &[named(8, true)], Duration::ZERO);
        assert!(matches!(verdict, Verdict::Over(_)));
        assert_eq!(
            decide(&submitted(7), &[named(7, true)], Duration::ZERO),
            Verdict::Adopt(job(7))
        );
    }

    #[test]
    fn a_cancel_that_was_asked_is_asked_again() {
        let verdict = decide(&cancelling(7), &[named(7, true)], Duration::ZERO);
        assert_eq!(verdict, Verdict::CancelAgain(job(7)));
        assert!(matches!(
            decide(&cancelling(7), &[], Duration::ZERO),
            Verdict::Over(_)
        ));
    }

    fn any_stage() -> impl Strategy<Value = Stage> {
        let ended = |job_number: Option<u32>| Stage::Ended {
            job: job_number.map(job),
            why: String::new(),
            at: Timestamp::UNIX_EPOCH,
        };
        prop_oneof![
            Just(Stage::Asked),
            (1..6u32).prop_map(submitted),
            (1..6u32).prop_map(cancelling),
            prop::option::of(1..6u32).prop_map(ended),
        ]
    }

    proptest! {
        #[test]
        fn only_what_squeue_shows_is_gone_on_with(
            stage in any_stage(),
            found in prop::collection::vec((1..6u32, any::<bool>()), 0..5),
            age in 0..120u64,
        ) {
            let found: Vec<_> = found.into_iter().map(|(number, lives)| named(number, lives)).collect();
            let verdict = decide(&stage, &found, Duration::from_secs(age));
            match (&stage, &verdict) {
                (_, Verdict::Adopt(job)) => prop_assert!(has(&found, *job)),
                (Stage::Cancelling { job: wanted, .. }, Verdict::CancelAgain(job)) => {
                    prop_assert!(job == wanted && has(&found, *job));
                }
                (_, Verdict::CancelAgain(_)) => prop_assert!(false, "nobody wanted that"),
                (Stage::Asked, Verdict::LookAgain) => prop_assert!(found.is_empty()),
                (_, Verdict::LookAgain) => prop_assert!(false, "squeue has said it"),
                (Stage::Submitted { job } | Stage::Cancelling { job, .. }, Verdict::Over(_)) => {
                    prop_assert!(!has(&found, *job), "a job is left behind");
                }
                (Stage::Asked, Verdict::Over(_)) => prop_assert!(found.is_empty()),
                (Stage::Ended { .. }, Verdict::Over(_)) => {}
            }
        }
    }
}
