//! The API for the manager's own user, by a Unix socket in its directory: who may open that may do
//! all that the manager may, so it only remains to say for which user. No page, session or dev server
//! can be got here.

use bytes::Bytes;
use hpc_proxy::{
    http1::{fields::Fields, framing::Framing, head::RequestHead},
    service::{Decision, Fault, Page, Peer, Service, TooLong},
    socket::Socket,
};
use rustix::process::Uid;

use super::{Call, Router};
use crate::{
    auth::{By, Known},
    hop::Place,
    local_end::DialError,
    names::UserName,
    problem::Problem,
    upstream::Upstream,
};

/// The socket in the manager's directory.
pub const SOCKET: &str = "api.sock";
/// In which the manager's own user says for whom a call is.
pub const USER_FIELD: &str = "X-Hpc-Manager-User";

/// Answers calls of one user of this machine, for any user of the manager.
#[derive(Debug)]
pub struct Desk {
    router: Router,
    owner: Uid,
}

impl Desk {
    /// For whoever runs as `owner` (unix(7) `SO_PEERCRED`).
    pub fn new(router: Router, owner: Uid) -> Self {
        Self { router, owner }
    }

    async fn answers(&self, head: &RequestHead, peer: Peer) -> Result<Decision<Router>, Problem> {
        let uid = self.owner.as_raw();
        if peer != (Peer::Local { uid }) {
            return Err(Problem::NotTheOwner);
        }
        let user = self.named(&head.fields)?;
        self.router.is_known_here(&user)?;
        // As whoever shows a token: nobody's sign-in is asked about.
        let by = By::Bearer;
        let own = self.router.front.authority();
        self.router.call(head, Known { user, by }, own).await
    }

    fn named(&self, fields: &Fields) -> Result<UserName, Problem> {
        let mut all = fields.spelt(USER_FIELD);
        match (all.next(), all.next()) {
            (Some(name), None) => {
                let name = std::str::from_utf8(name).ok();
                name.and_then(|name| name.parse().ok())
                    .ok_or(Problem::WhichUser)
            }
            (None, _) => self.router.sessions.only_user().ok_or(Problem::WhichUser),
            (Some(_), Some(_)) => Err(Problem::WhichUser),
        }
    }
}

impl Service for Desk {
    type Target = Upstream;
    type View = Place;
    type DialError = DialError;
    type Call = Call;

    async fn decide(
        &self,
        head: &mut RequestHead,
        _framing: Framing,
        peer: Peer,
        known: &mut bool,
    ) -> Decision<Self> {
        match self.answers(head, peer).await {
            Ok(Decision::Answer(page)) => {
                *known = true;
                Decision::Answer(page)
            }
            Ok(Decision::Read { most_bytes, call }) => {
                *known = true;
                Decision::Read { most_bytes, call }
            }
            // No call leads on.
            Ok(Decision::Forward(_)) => {
                Decision::Answer(self.router.refuse(&Problem::NoSuchPage, head, peer))
            }
            Err(problem) => Decision::Answer(self.router.refuse(&problem, head, peer)),
        }
    }

    async fn called(
        &self,
        call: Call,
        body: Result<Bytes, TooLong>,
        head: &RequestHead,
        peer: Peer,
    ) -> Page {
        self.router.called(call, body, head, peer).await
    }

    async fn dial(&self, upstream: &Upstream) -> Result<(Upstream, Socket), DialError> {
        self.router.dial(upstream).await
    }

    fn edit(&self, place: &Place, fields: &mut Fields) {
        self.router.edit(place, fields);
    }

    async fn explain(&self, fault: Fault<DialError>, head: &RequestHead, peer: Peer) -> Page {
        self.router.refuse(&fault.into(), head, peer)
    }

    fn answered(&self, head: &RequestHead, peer: Peer, upstream: &Upstream, status: u16) {
        self.router.answered(head, peer, upstream, status);
    }
}
