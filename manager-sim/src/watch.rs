//! What the manager tells whoever watches over it: whether it is well, and what it counts. It has a place of
//! its own to listen, where no browser and no dev server's page comes, and nobody is asked who they are.

use std::{convert::Infallible, fmt::Write, sync::Arc};

use bytes::Bytes;
use hpc_proxy::{
    answer::{counts, json},
    http1::{fields::Fields, framing::Framing, head::RequestHead},
    metrics::Metrics,
    service::{Decision, Fault, Page, PageBody, Peer, Service, TooLong, shown},
    socket::Socket,
};
use http::{Response, StatusCode};

use crate::{session::PhaseName, sessions::Sessions};

/// Answers `GET /health` and `GET /metrics`.
#[derive(Debug)]
pub struct Watch {
    /// Everybody's sessions.
    pub sessions: Arc<Sessions>,
    /// What the manager counts where browsers come in.
    pub metrics: Arc<Metrics>,
}

impl Watch {
    fn answer(&self, head: &RequestHead) -> Response<Bytes> {
        let (method, path) = shown(head);
        match (method, path) {
            ("GET" | "HEAD", "/health") => json(&serde_json::json!({
                "status": "ok",
                "version": env!("CARGO_PKG_VERSION"),
                "sessions": self.phases().map(|(_, count)| count).sum::<usize>(),
            })),
            ("GET" | "HEAD", "/metrics") => counts(self.to_text()),
            _ => {
                let mut page = json(&serde_json::json!({
                    "error": format!("there is no `{path}` here"),
                    "hint": "GET /health or GET /metrics",
                }));
                *page.status_mut() = StatusCode::NOT_FOUND;
                page
            }
        }
    }

    /// How many sessions there are of each phase, those that have ended left out.
    fn phases(&self) -> impl Iterator<Item = (PhaseName, usize)> {
        const ALIVE: [PhaseName; 6] = [
            PhaseName::Submitted,
            PhaseName::Pending,
            PhaseName::Running,
            PhaseName::Listening,
            PhaseName::Connected,
            PhaseName::Cancelling,
        ];
        let all = self.sessions.phases();
        ALIVE
            .into_iter()
            .map(move |phase| (phase, all.iter().filter(|found| **found == phase).count()))
    }

    /// The counts in the text format of Prometheus, version 0.0.4.
    fn to_text(&self) -> String {
        let mut text = self.metrics.to_text("hpc_manager");
        text += "# HELP hpc_manager_sessions Sessions that have not ended.\n\
                 # TYPE hpc_manager_sessions gauge\n";
        for (phase, count) in self.phases() {
            let _ = writeln!(text, "hpc_manager_sessions{{phase=\"{phase}\"}} {count}");
        }
        text
    }
}

fn whole(page: Response<Bytes>) -> Page {
    page.map(PageBody::Whole)
}

impl Service for Watch {
    type Target = Nowhere;
    type View = ();
    type DialError = Infallible;
    type Call = Infallible;

    async fn decide(
        &self,
        head: &mut RequestHead,
        _: Framing,
        _: Peer,
        _: &mut bool,
    ) -> Decision<Self> {
        Decision::Answer(whole(self.answer(head)))
    }

    async fn called(
        &self,
        call: Infallible,
        _: Result<Bytes, TooLong>,
        _: &RequestHead,
        _: Peer,
    ) -> Page {
        match call {}
    }

    async fn dial(&self, to: &Nowhere) -> Result<(Nowhere, Socket), Infallible> {
        match to.0 {}
    }

    fn edit(&self, (): &(), _: &mut Fields) {}

    async fn explain(&self, fault: Fault<Infallible>, _: &RequestHead, peer: Peer) -> Page {
        tracing::debug!(%peer, error = &fault as &dyn std::error::Error, "bad request");
        let mut page = json(&serde_json::json!({ "error": fault.to_string() }));
        *page.status_mut() = StatusCode::BAD_REQUEST;
        whole(page)
    }

    fn answered(&self, _: &RequestHead, _: Peer, to: &Nowhere, _: u16) {
        match to.0 {}
    }
}

/// Nothing goes on from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nowhere(Infallible);

impl std::fmt::Display for Nowhere {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {}
    }
}
