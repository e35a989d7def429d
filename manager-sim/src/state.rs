//! How a session stands, as programs and the page see it.

use serde::Serialize;

use crate::session::{Phase, PhaseName, driver::View};

/// The answer of `GET /api/v1/session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// How far it is.
    pub phase: PhaseName,
    /// The job's number.
    pub job: Option<String>,
    /// Where the job runs.
    pub node: Option<String>,
    /// Why it waits or has ended, or what keeps it.
    pub reason: Option<String>,
    /// The path that opens the IDE.
    pub ide: Option<String>,
    /// The port that the proxy has on the node, if it has one.
    pub proxy_port: Option<u16>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: PhaseName::None,
            job: None,
            node: None,
            reason: None,
            ide: None,
            proxy_port: None,
        }
    }
}

impl State {
    /// That of a session, or of none.
    pub fn of(view: Option<&View>) -> Self {
        let Some(View {
            phase,
            trouble,
            upstream,
            ..
        }) = view
        else {
            return Self::default();
        };
        let why = match phase {
            Phase::Pending { reason, .. } => Some(reason.clone()),
            Phase::Ended { why, .. } => Some(why.clone()),
            _ => None,
        };
        let reason: Vec<String> = why.into_iter().chain(trouble.clone()).collect();
        Self {
            phase: phase.name(),
            job: phase.job().map(|job| job.to_string()),
            node: phase.node().map(ToString::to_string),
            reason: (!reason.is_empty()).then(|| reason.join(": ")),
            ide: upstream
                .as_ref()
                .map(|upstream| format!("/code/{}", upstream.lease().ide.query())),
            proxy_port: phase.lease().and_then(|lease| lease.door.port()),
        }
    }

    /// Whether there is a session that has not ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self.phase, PhaseName::None | PhaseName::Ended)
    }
}
