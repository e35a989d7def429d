//! How a session stands, as programs and the page see it.

use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    job::script::IdeKind,
    names::ClusterName,
    session::{Phase, PhaseName, driver::View, id::SessionId},
    sessions::Seen,
    wish::Wish,
};

/// The answer of `GET /api/v1/session`, and of each in `GET /api/v1/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Which it is.
    pub id: Option<SessionId>,
    /// How far it is.
    pub phase: PhaseName,
    /// The job's number.
    pub job: Option<String>,
    /// Where the job runs.
    pub node: Option<String>,
    /// Why it waits or has ended, or what keeps it.
    pub reason: Option<String>,
    /// The first half of the reason: what Slurm or this manager did, or waits for.
    #[serde(skip)]
    pub why: Option<String>,
    /// The second half: what keeps the manager from knowing more, or from going on.
    #[serde(skip)]
    pub trouble: Option<String>,
    /// What people call its IDE.
    #[serde(skip)]
    pub ide_title: String,
    /// Whether that is one of several.
    #[serde(skip)]
    pub has_choice: bool,
    /// Whether hpc-proxy runs beside the IDE. Without, it is never connected.
    pub has_proxy: bool,
    /// The path that opens the IDE.
    pub ide: Option<String>,
    /// The port that the proxy has on the node, if it has one.
    pub proxy_port: Option<u16>,
    /// Where, if clusters have names.
    pub cluster: Option<ClusterName>,
    /// What was asked for.
    pub wish: Option<Wish>,
    /// Since when it is there.
    pub created: Option<Timestamp>,
    /// How many seconds Slurm leaves it.
    pub seconds_left: Option<u64>,
    /// For how many seconds nothing has gone through it.
    pub seconds_idle: Option<u64>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            id: None,
            phase: PhaseName::None,
            job: None,
            node: None,
            reason: None,
            why: None,
            trouble: None,
            ide_title: String::new(),
            has_choice: false,
            has_proxy: true,
            ide: None,
            proxy_port: None,
            cluster: None,
            wish: None,
            created: None,
            seconds_left: None,
            seconds_idle: None,
        }
    }
}

impl State {
    /// That of a session, or of none.
    pub fn of(seen: Option<&Seen>) -> Self {
        let Some(seen) = seen else {
            return Self::default();
        };
        let View {
            phase,
            trouble,
            upstream,
            ends,
            ..
        } = &seen.view;
        let left = ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        let why = match phase {
            Phase::Pending { reason, .. } => Some(reason.clone()),
            Phase::Ended { why, .. } => Some(why.clone()),
            _ => None,
        };
        let reason: Vec<String> = why.clone().into_iter().chain(trouble.clone()).collect();
        Self {
            id: Some(seen.id.clone()),
            phase: phase.name(),
            job: phase.job().map(|job| job.to_string()),
            node: phase.node().map(ToString::to_string),
            reason: (!reason.is_empty()).then(|| reason.join(": ")),
            why,
            trouble: trouble.clone(),
            ide_title: seen.ide.title.clone(),
            has_choice: seen.ide.is_one_of_several,
            has_proxy: seen.ide.kind != IdeKind::Other,
            ide: upstream
                .as_ref()
                .map(|upstream| format!("/code/{}", upstream.lease().ide.query())),
            proxy_port: phase.lease().and_then(|lease| lease.door.port()),
            cluster: seen.cluster.clone(),
            wish: Some(seen.wish.clone()),
            created: Some(seen.created),
            seconds_left: left.filter(|_| !phase.is_over()).map(|left| left.as_secs()),
            seconds_idle: upstream.as_ref().map(|_| seen.activity.idle().as_secs()),
        }
    }

    /// Whether there is a session that has not ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self.phase, PhaseName::None | PhaseName::Ended)
    }
}
