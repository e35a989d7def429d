//! What a session is and how it changes: pure. [`driver`] asks, waits and acts.
//!
//! `Submitting -> Submitted -> Pending -> Running -> Listening -> Connected -> Ended`. A lost
//! tunnel goes back to `Running`, from where the lease is read anew; a requeue to `Pending`. Both
//! heal under the same URL. What Slurm does not tell changes nothing.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{
    job::{JobId, JobStatus},
    lease::Lease,
    names::NodeName,
};

pub mod driver;
pub mod id;
pub mod pace;
pub mod reconcile;
pub mod record;

/// How far a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// sbatch is asked.
    Submitting,
    /// Slurm has the job; how it fares is not known yet.
    Submitted {
        /// The job.
        job: JobId,
    },
    /// The job waits for its turn.
    Pending {
        /// The job.
        job: JobId,
        /// Slurm's word for what it waits for.
        reason: String,
    },
    /// The job runs; where its proxy listens is not known (any more).
    Running {
        /// The job.
        job: JobId,
        /// Where it runs.
        node: NodeName,
    },
    /// The proxy has published where it listens; the tunnel is being opened.
    Listening {
        /// The job.
        job: JobId,
        /// Where it runs, and where the proxy listens.
        lease: Arc<Lease>,
    },
    /// The proxy has proved itself through the tunnel.
    Connected {
        /// The job.
        job: JobId,
        /// Where it runs, and where the proxy listens.
        lease: Arc<Lease>,
    },
    /// It is to end; scancel is asked until it agrees.
    Cancelling {
        /// The job.
        job: JobId,
        /// Why, for a person.
        why: String,
    },
    /// Over, for good.
    Ended {
        /// The job, if there was one.
        job: Option<JobId>,
        /// Why, for a person.
        why: String,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// sbatch took the job.
    Submitted(JobId),
    /// sbatch did not.
    SubmitFailed(String),
    /// squeue answered.
    Polled(JobStatus),
    /// squeue did not: the controller or the login node is down.
    PollFailed(String),
    /// The lease was read.
    LeaseRead(Arc<Lease>),
    /// It could not be read, or is not to be believed.
    LeaseFailed(String),
    /// The proxy proved itself through the tunnel.
    TunnelUp,
    /// There is no tunnel (any more).
    TunnelLost(String),
    /// It is to end: why, for a person.
    CancelAsked(String),
    /// It is over, and was before anybody looked.
    FoundOver(String),
    /// scancel agreed.
    Cancelled,
    /// scancel did not.
    CancelFailed(String),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on.
    Nothing,
    /// Read the lease until there is one to believe; a tunnel that is open is of no use any more.
    ReadLease,
    /// Open the tunnel.
    OpenTunnel,
    /// Wait until the tunnel is lost.
    WatchTunnel,
    /// Drop the tunnel, and look for none.
    DropTunnel,
    /// Drop the tunnel and cancel the job.
    Cancel(JobId),
}

/// The phase after `event`, and what to do then.
pub fn step(phase: Phase, event: Event) -> (Phase, Action) {
    match (phase, event) {
        (phase @ Phase::Ended { .. }, _) => (phase, Action::Nothing),

        (Phase::Submitting, Event::Submitted(job)) => (Phase::Submitted { job }, Action::Nothing),
        (Phase::Submitting, Event::SubmitFailed(why)) => {
            (Phase::Ended { job: None, why }, Action::Nothing)
        }
        (phase, Event::FoundOver(why)) => {
            let job = phase.job();
            (Phase::Ended { job, why }, Action::DropTunnel)
        }
        // Whether there is a job to cancel is not known before sbatch has answered.
        (Phase::Submitting, _) => (Phase::Submitting, Action::Nothing),

        (Phase::Cancelling { job, why }, Event::Cancelled) => {
            let job = Some(job);
            (Phase::Ended { job, why }, Action::Nothing)
        }
        (Phase::Cancelling { job, why }, Event::CancelFailed(_)) => {
            (Phase::Cancelling { job, why }, Action::Cancel(job))
        }
        (phase, Event::Polled(status)) => polled(phase, status),
        (phase @ Phase::Cancelling { .. }, _) => (phase, Action::Nothing),
        (phase, Event::CancelAsked(why)) => match phase.job() {
            Some(job) => (Phase::Cancelling { job, why }, Action::Cancel(job)),
            None => (phase, Action::Nothing),
        },

        (Phase::Running { job, node }, Event::LeaseRead(lease)) if lease.node == node => {
            (Phase::Listening { job, lease }, Action::OpenTunnel)
        }
        (phase @ Phase::Running { .. }, Event::LeaseFailed(_)) => (phase, Action::ReadLease),
        (Phase::Listening { job, lease }, Event::TunnelUp) => {
            (Phase::Connected { job, lease }, Action::WatchTunnel)
        }
        (
            Phase::Listening { job, lease } | Phase::Connected { job, lease },
            Event::TunnelLost(_),
        ) => (
            Phase::Running {
                job,
                node: lease.node.clone(),
            },
            Action::ReadLease,
        ),
        (phase, _) => (phase, Action::Nothing),
    }
}

/// The scheduler's word is the last on whether and where a job runs.
fn polled(phase: Phase, status: JobStatus) -> (Phase, Action) {
    let Some(job) = phase.job() else {
        return (phase, Action::Nothing);
    };
    let cancelling = matches!(phase, Phase::Cancelling { .. });
    match status {
        JobStatus::Finished { .. } | JobStatus::Gone if cancelling => {
            let Phase::Cancelling { why, .. } = phase else {
                return (phase, Action::Nothing);
            };
            let job = Some(job);
            (Phase::Ended { job, why }, Action::DropTunnel)
        }
        JobStatus::Finished { state, reason } => {
            let why = match reason.as_str() {
                "None" | "" => format!("Slurm says {state}"),
                _ => format!("Slurm says {state} ({reason})"),
            };
            (
                Phase::Ended {
                    job: Some(job),
                    why,
                },
                Action::DropTunnel,
            )
        }
        JobStatus::Gone => (
            Phase::Ended {
                job: Some(job),
                why: "its job is over".into(),
            },
            Action::DropTunnel,
        ),
        _ if cancelling => (phase, Action::Nothing),
        JobStatus::Pending { reason } => {
            let action = if phase.node().is_some() {
                Action::DropTunnel
            } else {
                Action::Nothing
            };
            (Phase::Pending { job, reason }, action)
        }
        JobStatus::Running { node } if phase.node() == Some(&node) => (phase, Action::Nothing),
        JobStatus::Running { node } => (Phase::Running { job, node }, Action::ReadLease),
        JobStatus::InBetween => (phase, Action::Nothing),
    }
}

impl Phase {
    /// The job, from the moment that there is one.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::Submitting => None,
            Self::Submitted { job }
            | Self::Pending { job, .. }
            | Self::Running { job, .. }
            | Self::Listening { job, .. }
            | Self::Connected { job, .. }
            | Self::Cancelling { job, .. } => Some(*job),
            Self::Ended { job, .. } => *job,
        }
    }

    /// Where the job runs, while it does.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Running { node, .. } => Some(node),
            _ => self.lease().map(|lease| &lease.node),
        }
    }

    /// Where the proxy listens, while that is believed.
    pub fn lease(&self) -> Option<&Arc<Lease>> {
        match self {
            Self::Listening { lease, .. } | Self::Connected { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    /// The name of the phase.
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Submitting | Self::Submitted { .. } => PhaseName::Submitted,
            Self::Pending { .. } => PhaseName::Pending,
            Self::Running { .. } => PhaseName::Running,
            Self::Listening { .. } => PhaseName::Listening,
            Self::Connected { .. } => PhaseName::Connected,
            Self::Cancelling { .. } => PhaseName::Cancelling,
            Self::Ended { .. } => PhaseName::Ended,
        }
    }
}

/// A phase by name, as programs see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseName {
    /// There is no session.
    None,
    /// [`Phase::Submitting`] or [`Phase::Submitted`].
    Submitted,
    /// [`Phase::Pending`].
    Pending,
    /// [`Phase::Running`].
    Running,
    /// [`Phase::Listening`].
    Listening,
    /// [`Phase::Connected`].
    Connected,
    /// [`Phase::Cancelling`].
    Cancelling,
    /// [`Phase::Ended`].
    Ended,
}

/// As it is spelt in JSON.
impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use hpc_proxy::auth::Token;
    use proptest::prelude::*;

    use super::*;
    use crate::local_end::Identity;

    fn job() -> JobId {
        "7".parse().unwrap()
    }

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn lease(on: &str) -> Arc<Lease> {
        let token = Token::parse("ab".repeat(32).as_bytes()).unwrap();
        Arc::new(Lease::example(
            node(on),
            Identity {
                instance: "i".into(),
                port: 40123,
                token,
            },
        ))
    }

    fn running(on: &str) -> Event {
        Event::Polled(JobStatus::Running { node: node(on) })
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Phase {
        events
            .into_iter()
            .fold(Phase::Submitting, |phase, event| step(phase, event).0)
    }

    fn connected() -> Phase {
        after([
            Event::Submitted(job()),
            running("node01"),
            Event::LeaseRead(lease("node01")),
            Event::TunnelUp,
        ])
    }

    #[test]
    fn a_session_starts_step_by_step() {
        assert_eq!(
            connected(),
            Phase::Connected {
                job: job(),
                lease: lease("node01")
            }
        );
    }

    #[test]
    fn a_lost_tunnel_reads_the_lease_anew() {
        let (phase, action) = step(connected(), Event::TunnelLost("x".into()));
        assert_eq!(
            phase,
            Phase::Running {
                job: job(),
                node: node("node01")
            }
        );
        assert_eq!(action, Action::ReadLease);
    }

    #[test]
    fn a_requeued_job_drops_its_tunnel_and_gets_another() {
        let pending = Event::Polled(JobStatus::Pending {
            reason: "BeginTime".into(),
        });
        let (phase, action) = step(connected(), pending);
        assert_eq!(action, Action::DropTunnel);
        let (phase, action) = step(phase, running("node02"));
        assert_eq!(action, Action::ReadLease);
        // From the earlier run.
        let (phase, action) = step(phase, Event::LeaseRead(lease("node01")));
        assert_eq!(action, Action::Nothing);
        let (_, action) = step(phase, Event::LeaseRead(lease("node02")));
        assert_eq!(action, Action::OpenTunnel);
    }

    #[test]
    fn a_job_that_moved_between_two_polls_gets_another_tunnel() {
        let (phase, action) = step(connected(), running("node02"));
        assert_eq!(
            phase,
            Phase::Running {
                job: job(),
                node: node("node02")
            }
        );
        assert_eq!(action, Action::ReadLease);
    }

    #[test]
    fn a_controller_that_is_down_changes_nothing() {
        let down = Event::PollFailed("controller down".into());
        assert_eq!(step(connected(), down), (connected(), Action::Nothing));
    }

    #[test]
    fn a_job_that_ended_takes_the_session_with_it() {
        let finished = JobStatus::Finished {
            state: "TIMEOUT".into(),
            reason: "TimeLimit".into(),
        };
        let (phase, action) = step(connected(), Event::Polled(finished));
        let why = "Slurm says TIMEOUT (TimeLimit)".into();
        assert_eq!(
            phase,
            Phase::Ended {
                job: Some(job()),
                why
            }
        );
        assert_eq!(action, Action::DropTunnel);
    }

    #[test]
    fn a_cancel_is_asked_until_slurm_agrees() {
        let (phase, action) = step(connected(), Event::CancelAsked("enough".into()));
        assert_eq!(action, Action::Cancel(job()));
        let (phase, action) = step(phase, Event::CancelFailed("down".into()));
        assert_eq!(action, Action::Cancel(job()));
        let (phase, _) = step(phase, running("node01"));
        assert!(!phase.is_over());
        for end in [Event::Cancelled, Event::Polled(JobStatus::Gone)] {
            let (job, why) = (Some(job()), "enough".into());
            assert_eq!(step(phase.clone(), end).0, Phase::Ended { job, why });
        }
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let on = || prop::sample::select(vec!["node01", "node02"]);
        prop_oneof![
            Just(Event::Submitted(job())),
            Just(Event::SubmitFailed("no".into())),
            on().prop_map(running),
            Just(Event::Polled(JobStatus::Pending {
                reason: "Resources".into()
            })),
            Just(Event::Polled(JobStatus::InBetween)),
            Just(Event::Polled(JobStatus::Gone)),
            Just(Event::Polled(JobStatus::Finished {
                state: "FAILED".into(),
                reason: "x".into()
            })),
            Just(Event::PollFailed("down".into())),
            on().prop_map(|on| Event::LeaseRead(lease(on))),
            Just(Event::LeaseFailed("stale".into())),
            Just(Event::TunnelUp),
            Just(Event::TunnelLost("gone".into())),
            Just(Event::CancelAsked("enough".into())),
            Just(Event::FoundOver("gone".into())),
            Just(Event::Cancelled),
            Just(Event::CancelFailed("down".into())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn every_history_keeps_the_rules(events in prop::collection::vec(any_event(), 0..40)) {
            let mut phase = Phase::Submitting;
            // What a driver that obeys the actions has.
            let (mut tunnel_open, mut job_cancelled) = (false, false);
            for event in events {
                let before = phase.clone();
                let (after, action) = step(before.clone(), event.clone());
                match &action {
                    Action::Nothing => {}
                    Action::OpenTunnel => tunnel_open = true,
                    Action::WatchTunnel => prop_assert!(tunnel_open),
                    Action::ReadLease | Action::DropTunnel => tunnel_open = false,
                    Action::Cancel(cancelled) => {
                        prop_assert_eq!(before.job(), Some(*cancelled));
                        tunnel_open = false;
                        job_cancelled = true;
                    }
                }

                if before.is_over() {
                    prop_assert_eq!(&after, &before, "nothing leaves Ended");
                    prop_assert_eq!(&action, &Action::Nothing);
                }
                if matches!(after, Phase::Connected { .. }) {
                    prop_assert!(after.node().is_some() && after.lease().is_some());
                }
                prop_assert_eq!(after.lease().is_some(), tunnel_open, "a tunnel has a lease");
                if let Some(job) = before.job() {
                    prop_assert_eq!(after.job(), Some(job), "a job is never forgotten");
                }
                if matches!(event, Event::PollFailed(_)) {
                    prop_assert_eq!(&after, &before, "silence of the controller means nothing");
                }
                // A job that may still run is left to itself only if Slurm says that it is over.
                let slurm_said = matches!(
                    event,
                    Event::Polled(JobStatus::Gone | JobStatus::Finished { .. })
                        | Event::FoundOver(_)
                );
                if after.is_over() && !before.is_over() && before.job().is_some() {
                    prop_assert!(slurm_said || job_cancelled, "a job is left behind");
                }
                if matches!(before, Phase::Cancelling { .. }) {
                    let only_ends = matches!(after, Phase::Cancelling { .. } | Phase::Ended { .. });
                    prop_assert!(only_ends);
                }
                phase = after;
            }
        }
    }
}
