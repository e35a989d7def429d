//! Calls about sessions, below `/api/v1/`, and which session serves a browser.

use std::num::ParseIntError;

use bytes::Bytes;
use hpc_proxy::{
    answer::json,
    headers,
    http1::{fields::Fields, head::RequestHead},
    ports::Listening,
    route::RouteError,
    service::{Decision, Page, PageBody},
};
use http::{HeaderValue, Response, StatusCode, header::SET_COOKIE};

use serde::Serialize;

use super::{
    Call, LONGEST_CALL_BYTES, Router, answer, redirect,
    routes::{self, Endpoint},
    servers,
};
use crate::{
    auth::Known,
    names::UserName,
    origin,
    problem::Problem,
    session::id::SessionId,
    sessions::{LaunchError, Seen},
    sign_in::way_back,
    state::State,
    web,
    wish::Wish,
};

/// What the API is, in the terms of OpenAPI 3.1. The tests hold every answer against it.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");
/// Below it a session is named, which serves the browser from then on.
const CHOOSE: &str = "/s/";
/// Below it a session is named, whose log a person reads.
const LOG: &str = "/log/";
/// How much of a job's output is shown.
const LOG_BYTES: usize = 32 * 1024;

impl Router {
    /// The session that serves a user's browser.
    pub(super) fn selected(&self, user: &UserName, fields: &Fields) -> Option<Seen> {
        self.sessions.selected(user, self.choice(fields).as_ref())
    }

    /// The session that a browser wants to be served by.
    pub(super) fn choice(&self, fields: &Fields) -> Option<SessionId> {
        let mut chosen = headers::cookie(fields, self.front.choice_name());
        chosen.find_map(|id| std::str::from_utf8(id).ok()?.parse().ok())
    }

    /// How that session stands.
    pub(super) fn state(&self, user: &UserName, fields: &Fields) -> State {
        State::of(self.selected(user, fields).as_ref())
    }

    /// Answers a call.
    pub(super) async fn call(
        &self,
        head: &RequestHead,
        who: Known,
        own: &str,
    ) -> Result<Decision<Self>, Problem> {
        let user = who.user.clone();
        let target = std::str::from_utf8(head.target()).map_err(|_| RouteError::Malformed)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (route, id) = routes::find(path).ok_or(Problem::NoSuchPage)?;
        let endpoint = route.endpoint(head.method())?;
        let reads = [&b"GET"[..], b"HEAD"].contains(&head.method());
        if !reads && !origin::may_call_api(&head.fields, own) {
            return Err(Problem::ForeignPage);
        }
        let launch = |another| Decision::Read {
            most_bytes: LONGEST_CALL_BYTES,
            call: Call::Launch {
                user: user.clone(),
                another,
            },
        };
        match endpoint {
            Endpoint::Document => Ok(answer(web::response((
                "application/json",
                DOCUMENT.to_owned(),
            )))),
            Endpoint::Events => self.events(head, who, own),
            Endpoint::Ports => self.ports(&user, &head.fields, own).await.map(answer),
            Endpoint::Selected => {
                let state = self.state(&user, &head.fields);
                Ok(answer(told(StatusCode::OK, &state)))
            }
            Endpoint::LaunchOne => Ok(launch(false)),
            Endpoint::CancelSelected => {
                let seen = self.selected(&user, &head.fields);
                self.cancels(&user, &seen.ok_or(Problem::NoSession)?.id)
            }
            Endpoint::List => Ok(answer(self.listed(&user, &head.fields))),
            Endpoint::Launch => Ok(launch(true)),
            Endpoint::Show => {
                let seen = self.named(&user, id)?;
                Ok(answer(told(StatusCode::OK, &State::of(Some(&seen)))))
            }
            Endpoint::Cancel => {
                let seen = self.named(&user, id)?;
                self.cancels(&user, &seen.id)
            }
            Endpoint::Log => {
                let seen = self.named(&user, id)?;
                match from(query)? {
                    Some(from) => self.log_from(&user, &seen, from).await.map(answer),
                    None => self.log(&user, &seen).await.map(answer),
                }
            }
        }
    }

    async fn ports(
        &self,
        user: &UserName,
        fields: &Fields,
        own: &str,
    ) -> Result<Response<Bytes>, Problem> {
        let seen = self.selected(user, fields);
        let servers = servers(seen.as_ref()).await?.unwrap_or_default();
        let addresses = self.addresses(own);
        let address = |port| addresses.of(seen.as_ref()?, port);
        let listed = |server| Listed::new(server, &address);
        let ports: Vec<_> = servers.iter().map(listed).collect();
        Ok(json(&serde_json::json!({ "ports": ports })))
    }

    /// Has the session that a path below [`CHOOSE`] names serve the browser, and sends it on.
    pub(super) fn choose(&self, target: &str, user: &UserName) -> Option<Result<Page, Problem>> {
        let named = target.strip_prefix(CHOOSE)?;
        let end = named.find(['/', '?']).unwrap_or(named.len());
        let (id, rest) = named.split_at(end);
        let choose = || {
            let seen = self.named(user, id)?;
            let mut page = redirect(StatusCode::SEE_OTHER, way_back(rest))?;
            let cookie = self.front.choice(seen.id.as_str());
            let cookie = HeaderValue::try_from(cookie).map_err(|_| Problem::NoSuchSession)?;
            page.headers_mut().insert(SET_COOKIE, cookie);
            Ok(page.map(PageBody::Whole))
        };
        Some(choose())
    }

    /// Launches what a call's body asks for: another session, or one if none lives.
    pub(super) fn launches(
        &self,
        user: &UserName,
        another: bool,
        body: &[u8],
        fields: &Fields,
    ) -> Result<Page, Problem> {
        let wish = Wish::parse(body).map_err(|error| Problem::BadCall(error.into()))?;
        let choice = self.choice(fields);
        let launched = self.sessions.launch(user, wish, choice.as_ref(), another);
        let id = launched.map_err(Problem::from)?;
        Ok(self.accepted(user, &id))
    }

    fn cancels(&self, user: &UserName, id: &SessionId) -> Result<Decision<Self>, Problem> {
        if !self.sessions.cancel(user, id) {
            return Err(Problem::NoSuchSession);
        }
        Ok(Decision::Answer(self.accepted(user, id)))
    }

    fn accepted(&self, user: &UserName, id: &SessionId) -> Page {
        let state = State::of(self.sessions.find(user, id).as_ref());
        told(StatusCode::ACCEPTED, &state).map(PageBody::Whole)
    }

    /// S32: another's session is no session.
    fn named(&self, user: &UserName, id: &str) -> Result<Seen, Problem> {
        let id: SessionId = id.parse().map_err(|_| Problem::NoSuchSession)?;
        self.sessions.find(user, &id).ok_or(Problem::NoSuchSession)
    }

    fn listed(&self, user: &UserName, fields: &Fields) -> Response<Bytes> {
        let all = self.sessions.list(user);
        let all: Vec<_> = all.iter().map(|seen| State::of(Some(seen))).collect();
        json(&serde_json::json!({
            "user": user,
            "sessions": all,
            "selected": self.selected(user, fields).map(|seen| seen.id),
        }))
    }

    /// A session's log for a person, at an address that a window may open: no call may be one.
    pub(super) async fn log_page(
        &self,
        path: &str,
        user: &UserName,
    ) -> Option<Result<Response<Bytes>, Problem>> {
        let id = path.strip_prefix(LOG)?;
        Some(match self.named(user, id) {
            Ok(seen) => self.log(user, &seen).await,
            Err(problem) => Err(problem),
        })
    }

    async fn log(&self, user: &UserName, seen: &Seen) -> Result<Response<Bytes>, Problem> {
        let log = self.sessions.log(user, seen, None, LOG_BYTES).await;
        let log = log.map_err(Problem::NoLog)?.ok_or(Problem::NoJob)?;
        Ok(web::response(("text/plain; charset=utf-8", log.text)))
    }

    async fn log_from(
        &self,
        user: &UserName,
        seen: &Seen,
        from: Option<u64>,
    ) -> Result<Response<Bytes>, Problem> {
        let log = self.sessions.log(user, seen, from, LOG_BYTES).await;
        let log = log.map_err(Problem::NoLog)?.ok_or(Problem::NoJob)?;
        Ok(json(&serde_json::to_value(log).expect("text and numbers")))
    }
}

/// A dev server as the API lists it.
#[derive(Serialize)]
pub(super) struct Listed<'a> {
    #[serde(flatten)]
    server: &'a Listening,
    /// Its address on a host of its own, where there are such.
    #[serde(skip_serializing_if = "Option::is_none")]
    address_of_its_own: Option<String>,
}

impl<'a> Listed<'a> {
    pub(super) fn new(server: &'a Listening, address: &dyn Fn(u16) -> Option<String>) -> Self {
        let address_of_its_own = address(server.port);
        Self {
            server,
            address_of_its_own,
        }
    }
}

impl From<LaunchError> for Problem {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::UnknownUser(user) => Self::UnknownUser(user),
            LaunchError::TooMany(most) => Self::TooMany(most),
            LaunchError::Refused(refused) => Self::Refused(refused),
            LaunchError::NoRandom(error) => Self::BadLink(error.into()),
        }
    }
}

/// Where in a log somebody reads, if they say: from a byte on, or the end.
fn from(query: &str) -> Result<Option<Option<u64>>, Problem> {
    let mut pairs = query.split('&');
    match pairs.find_map(|pair| pair.strip_prefix("from=")) {
        None => Ok(None),
        Some("end") => Ok(Some(None)),
        Some(byte) => {
            let byte = byte.parse();
            let byte = byte.map_err(|error: ParseIntError| Problem::BadCall(error.into()))?;
            Ok(Some(Some(byte)))
        }
    }
}

fn told(status: StatusCode, state: &State) -> Response<Bytes> {
    let mut response = json(&serde_json::to_value(state).expect("strings and numbers"));
    *response.status_mut() = status;
    response
}
