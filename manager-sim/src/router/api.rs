//! Calls about sessions, below `/api/v1/`, and which session serves a browser.

use bytes::Bytes;
use hpc_proxy::{
    answer::json,
    headers,
    http1::{fields::Fields, head::RequestHead},
    service::{Decision, Page, PageBody},
};
use http::{HeaderValue, Response, StatusCode, header::SET_COOKIE};

use super::{Call, LONGEST_CALL_BYTES, Router, answer, redirect};
use crate::{
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

/// All sessions of the user.
pub(super) const ALL: &str = "/api/v1/sessions";
/// The session that serves the browser.
pub(super) const SELECTED: &str = "/api/v1/session";
/// Below it a session is named, which serves the browser from then on.
const CHOOSE: &str = "/s/";
/// Below it a session is named, whose log a person reads.
const LOG: &str = "/log/";
/// How much of a job's output is shown.
const LOG_BYTES: usize = 32 * 1024;

impl Router {
    /// The session that serves a user's browser.
    pub(super) fn selected(&self, user: &UserName, fields: &Fields) -> Option<Seen> {
        let mut chosen = headers::cookie(fields, self.front.choice_name());
        let chosen = chosen.find_map(|id| std::str::from_utf8(id).ok()?.parse().ok());
        self.sessions.selected(user, chosen.as_ref())
    }

    /// How that session stands.
    pub(super) fn state(&self, user: &UserName, fields: &Fields) -> State {
        State::of(self.selected(user, fields).as_ref())
    }

    /// Answers a call about sessions.
    pub(super) async fn call(
        &self,
        head: &RequestHead,
        path: &str,
        user: UserName,
        own: &str,
    ) -> Result<Decision<Self>, Problem> {
        let method = head.method();
        let reads = [&b"GET"[..], b"HEAD"].contains(&method);
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
        if path == SELECTED {
            return match method {
                _ if reads => {
                    let state = self.state(&user, &head.fields);
                    Ok(answer(told(StatusCode::OK, &state)))
                }
                b"POST" => Ok(launch(false)),
                b"DELETE" => {
                    let seen = self.selected(&user, &head.fields);
                    self.cancels(&user, &seen.ok_or(Problem::NoSession)?.id)
                }
                _ => Err(method_of("GET, HEAD, POST, DELETE")),
            };
        }
        if path == ALL {
            return match method {
                _ if reads => Ok(answer(self.listed(&user, &head.fields))),
                b"POST" => Ok(launch(true)),
                _ => Err(method_of("GET, HEAD, POST")),
            };
        }
        let named = path
            .strip_prefix(ALL)
            .and_then(|rest| rest.strip_prefix('/'));
        let (id, page) = named.map_or(("", None), |named| match named.split_once('/') {
            Some((id, page)) => (id, Some(page)),
            None => (named, None),
        });
        let seen = self.named(&user, id)?;
        match (page, method) {
            (None, _) if reads => Ok(answer(told(StatusCode::OK, &State::of(Some(&seen))))),
            (None, b"DELETE") => self.cancels(&user, &seen.id),
            (None, _) => Err(method_of("GET, HEAD, DELETE")),
            (Some("log"), _) if reads => self.log(&user, &seen).await.map(answer),
            (Some("log"), _) => Err(method_of("GET, HEAD")),
            (Some(_), _) => Err(Problem::NoSuchPage),
        }
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
        let selected = self.selected(user, fields);
        let lives = selected.filter(|seen| !another && !seen.view.phase.is_over());
        let id = match lives {
            Some(seen) => seen.id,
            None => self.sessions.launch(user, wish).map_err(Problem::from)?,
        };
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
        let log = self.sessions.log(user, seen, LOG_BYTES).await;
        let log = log.map_err(Problem::NoLog)?.ok_or(Problem::NoJob)?;
        Ok(web::response(("text/plain; charset=utf-8", log)))
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

fn method_of(allowed: &'static str) -> Problem {
    Problem::Method { allowed }
}

fn told(status: StatusCode, state: &State) -> Response<Bytes> {
    let mut response = json(&serde_json::to_value(state).expect("strings and numbers"));
    *response.status_mut() = status;
    response
}
