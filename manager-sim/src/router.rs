//! Who asks for what: whose session it is, and whether it may be asked for from there. Requests
//! for `/port/N/*` and `/code/*` go to that user's proxy, byte for byte.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use bytes::Bytes;
use hpc_proxy::{
    accept::Body,
    answer::{Reader, json},
    headers::asks_for_websocket,
    ports::Listening,
    route::{self, RouteError},
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{LOCATION, REFRESH, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE},
    uri::{Authority, PathAndQuery},
};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use crate::{
    auth::{COOKIE, SignedIn},
    hop,
    job::script::IdeKind,
    names::{HostName, NodeName, UserName},
    origin,
    problem::Problem,
    sessions::Sessions,
    state::State,
    upstream::Upstream,
    web,
};

/// How soon a page that waits loads again, in seconds.
const RELOAD_SECONDS: HeaderValue = HeaderValue::from_static("2");
/// A call's body names a node, no more.
const LONGEST_CALL_BYTES: usize = 4096;
/// For pages of ours and for requests by a person's own click; not for scripts.
const COOKIE_ATTRIBUTES: &str = "HttpOnly; SameSite=Lax; Path=/";
/// The path under which the IDE is served.
const CODE: &str = "/code";

/// Answers requests.
#[derive(Debug)]
pub struct Router {
    /// Everybody's sessions.
    pub sessions: Arc<Sessions>,
    /// Who has signed in.
    pub signed_in: SignedIn,
    /// Names of this manager besides those of the loopback.
    pub hosts: Vec<HostName>,
}

impl Router {
    /// Answers one request, whatever it is.
    pub async fn respond(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let reader = Reader::of(request.headers());
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        match self.route(request, peer).await {
            Ok(response) => {
                tracing::debug!(%peer, %method, path, status = response.status().as_u16(), "answered");
                response
            }
            Err(problem) => {
                let answer = problem.answer();
                let error = &problem as &dyn std::error::Error;
                tracing::debug!(%peer, %method, path, status = answer.status.as_u16(), error, "refused");
                let waits = matches!(problem, Problem::NotReady { .. });
                let mut response = answer.into_response(reader);
                response.headers_mut().remove(WWW_AUTHENTICATE);
                if waits {
                    response.headers_mut().insert(RETRY_AFTER, RELOAD_SECONDS);
                    response.headers_mut().insert(REFRESH, RELOAD_SECONDS);
                }
                response.map(Either::Right)
            }
        }
    }

    /// Where the request comes from is asked before who makes it, and that before anything else.
    async fn route(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response<Body>, Problem> {
        let own = origin::own_authority(request.uri(), request.headers(), &self.hosts)
            .ok_or(Problem::ForeignHost)?;
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        let upgrades = asks_for_websocket(&request);
        if (upgrades || !reads) && origin::is_foreign(request.headers(), &own) {
            return Err(Problem::ForeignPage);
        }
        let path = request.uri().path();
        if let Some(asset) = web::asset(path) {
            return Ok(web::response(asset).map(Either::Right));
        }
        if path == "/login" {
            return self
                .sign_in(&request)
                .map(|response| response.map(Either::Right));
        }
        let user = self
            .signed_in
            .user(request.headers(), SystemTime::now())
            .filter(|user| self.sessions.knows(user))
            .ok_or(Problem::NotSignedIn)?;
        if is_below(path, "/port") || is_below(path, CODE) {
            return self.forward(request, &user, &own, peer).await;
        }
        self.own_page(request, &user, &own)
            .await
            .map(|response| response.map(Either::Right))
    }

    async fn own_page(
        &self,
        request: Request<Incoming>,
        user: &UserName,
        own: &Authority,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        match request.uri().path() {
            "/" if reads => {
                let servers = self.servers(user).await.unwrap_or_default();
                Ok(web::response(web::page(
                    user,
                    &self.state(user),
                    servers.as_deref(),
                )))
            }
            "/" => Err(Problem::Method {
                allowed: "GET, HEAD",
            }),
            "/api/v1/session" if reads => Ok(state_response(StatusCode::OK, &self.state(user))),
            "/api/v1/session" => {
                if !origin::may_call_api(request.headers(), own) {
                    return Err(Problem::ForeignPage);
                }
                self.change_session(request, user).await
            }
            "/api/v1/ports" if reads => {
                let servers = self.servers(user).await?.unwrap_or_default();
                Ok(json(&serde_json::json!({ "ports": servers })))
            }
            "/api/v1/ports" => Err(Problem::Method {
                allowed: "GET, HEAD",
            }),
            _ => Err(Problem::NoSuchPage),
        }
    }

    async fn change_session(
        &self,
        request: Request<Incoming>,
        user: &UserName,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        match *request.method() {
            Method::POST => {
                let node = wanted_node(request.into_body()).await?;
                self.sessions.launch(user, node);
            }
            Method::DELETE => {
                self.sessions.cancel(user).ok_or(Problem::NoSession)?;
            }
            _ => {
                return Err(Problem::Method {
                    allowed: "GET, HEAD, POST, DELETE",
                });
            }
        }
        Ok(state_response(StatusCode::ACCEPTED, &self.state(user)))
    }

    fn state(&self, user: &UserName) -> State {
        State::of(self.sessions.view(user).as_ref())
    }

    /// The user's dev servers, where there is a proxy to ask.
    async fn servers(&self, user: &UserName) -> Result<Option<Vec<Listening>>, Problem> {
        let Ok(upstream) = self.upstream(user) else {
            return Ok(None);
        };
        match upstream.servers().await {
            Ok(servers) => Ok(Some(servers)),
            Err(crate::upstream::AskError::Forward(error)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%user, error = &error as &dyn std::error::Error, "no list of servers");
                Ok(None)
            }
        }
    }

    fn upstream(&self, user: &UserName) -> Result<Arc<Upstream>, Problem> {
        let view = self
            .sessions
            .view(user)
            .filter(|view| !view.phase.is_over());
        let view = view.ok_or(Problem::NoSession)?;
        if view.kind == IdeKind::Other {
            return Err(Problem::NoProxy);
        }
        let phase = view.phase.name();
        view.upstream.ok_or(Problem::NotReady {
            phase,
            trouble: view.trouble,
        })
    }

    fn sign_in(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Problem> {
        if request.method() != Method::GET {
            return Err(Problem::Method { allowed: "GET" });
        }
        let query = request.uri().query().unwrap_or_default();
        let code = query.split('&').find_map(|pair| pair.strip_prefix("code="));
        let (user, secret) = self
            .signed_in
            .sign_in(code.unwrap_or_default(), SystemTime::now())
            .map_err(Problem::BadLink)?;
        tracing::info!(%user, "signed in");
        let mut response = redirect(StatusCode::SEE_OTHER, "/")?;
        let cookie = format!("{COOKIE}={secret}; {COOKIE_ATTRIBUTES}");
        let cookie = HeaderValue::try_from(cookie).expect("hexadecimal and attributes");
        response.headers_mut().insert(SET_COOKIE, cookie);
        Ok(response)
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        user: &UserName,
        own: &Authority,
        peer: IpAddr,
    ) -> Result<Response<Body>, Problem> {
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", PathAndQuery::as_str)
            .to_owned();
        if target == CODE || target.starts_with("/code?") {
            let slashed = target.replacen(CODE, "/code/", 1);
            return Ok(redirect(StatusCode::PERMANENT_REDIRECT, &slashed)?.map(Either::Right));
        }
        if matches!(target.as_str(), "/port" | "/port/") {
            return Ok(redirect(StatusCode::SEE_OTHER, "/")?.map(Either::Right));
        }
        let upstream = self.upstream(user)?;
        let (target, prefix) = match target.strip_prefix(CODE) {
            Some(rest) => (
                format!("/port/{}{rest}", upstream.lease().ide_port),
                Some(CODE),
            ),
            None => (target, None),
        };
        // Only to refuse early: the proxy reads it again.
        route::parse(target.as_bytes())?;
        let target = PathAndQuery::try_from(target).map_err(|_| RouteError::Malformed)?;
        hop::outbound(request.headers_mut(), own, peer, prefix);
        let mut response = upstream.forward(request, target).await?;
        hop::inbound(response.headers_mut());
        Ok(response.map(Either::Left))
    }
}

/// Whether `path` is `root` or below it.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The node that a call asks for: an empty body asks for none.
async fn wanted_node(body: Incoming) -> Result<Option<NodeName>, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Call {
        node: Option<String>,
    }
    let body = Limited::new(body, LONGEST_CALL_BYTES)
        .collect()
        .await
        .map_err(Problem::BadCall)?;
    let body = body.to_bytes();
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let call: Call =
        serde_json::from_slice(&body).map_err(|error| Problem::BadCall(error.into()))?;
    let node = call.node.map(|node| node.parse()).transpose();
    node.map_err(|error: crate::names::NotAName| Problem::BadCall(error.into()))
}

fn state_response(status: StatusCode, state: &State) -> Response<Full<Bytes>> {
    let mut response = json(&serde_json::to_value(state).expect("strings and numbers"));
    *response.status_mut() = status;
    response
}

fn redirect(status: StatusCode, to: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    let to = HeaderValue::try_from(to).map_err(|_| RouteError::Malformed)?;
    response.headers_mut().insert(LOCATION, to);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_a_whole_segment() {
        assert!(is_below("/port", "/port") && is_below("/port/5500/x", "/port"));
        assert!(!is_below("/portal", "/port") && !is_below("/", "/port"));
    }
}
