//! Who asks for what: whose session it is, and whether it may be asked for from there. Requests
//! for `/port/N/*` and `/code/*` go to that user's proxy, byte for byte.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use hpc_proxy::{
    answer::{Reader, json},
    handover::OPEN,
    headers::{self, WEBSOCKET},
    http1::{fields::Fields, framing::Framing, head::RequestHead, name::Name},
    ports::Listening,
    route::{self, RouteError},
    service::{Decision, Fault, Forward, Page, PageBody, Peer, Service, TooLong, shown},
    socket::Socket,
};
use http::{
    HeaderValue, Response, StatusCode,
    header::{LOCATION, REFRESH, RETRY_AFTER, SET_COOKIE},
};
use serde::{Deserialize, Serialize};

use crate::{
    auth::SignedIn,
    front::Front,
    hop::{self, Way},
    job::script::IdeKind,
    local_end::DialError,
    names::{HostName, NodeName, UserName},
    origin,
    port_hosts::PortHosts,
    problem::Problem,
    sessions::Sessions,
    state::State,
    upstream::{ListError, Upstream},
    web,
};

/// How soon a page that waits loads again, in seconds.
const RELOAD_SECONDS: HeaderValue = HeaderValue::from_static("2");
/// A call's body names a node, no more.
const LONGEST_CALL_BYTES: usize = 4096;
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
    /// What browsers call it.
    pub front: Front,
    /// Where ports have host names of their own, if they do.
    pub port_hosts: Option<PortHosts>,
}

impl Service for Router {
    type Target = Upstream;
    type View = ();
    type DialError = DialError;
    /// A session for a user.
    type Call = UserName;

    async fn decide(
        &self,
        head: &mut RequestHead,
        framing: Framing,
        peer: Peer,
        known: &mut bool,
    ) -> Decision<Self> {
        match self.route(head, framing, peer, known).await {
            Ok(decision) => {
                if let Decision::Answer(page) = &decision {
                    tell(head, peer, page);
                }
                decision
            }
            Err(problem) => Decision::Answer(refuse(&problem, head, peer)),
        }
    }

    async fn called(
        &self,
        user: UserName,
        body: Result<Bytes, TooLong>,
        head: &RequestHead,
        peer: Peer,
    ) -> Page {
        let body = body.map_err(|error| Problem::BadCall(error.into()));
        match body.and_then(|body| wanted_node(&body)) {
            Ok(node) => {
                self.sessions.launch(&user, node);
                let page = self.accepted(&user);
                tell(head, peer, &page);
                page
            }
            Err(problem) => refuse(&problem, head, peer),
        }
    }

    async fn dial(&self, upstream: &Upstream) -> Result<(Upstream, Socket), DialError> {
        Ok((upstream.clone(), upstream.connect().await?))
    }

    fn edit(&self, (): &(), fields: &mut Fields) {
        hop::inbound(fields);
    }

    async fn explain(&self, fault: Fault<DialError>, head: &RequestHead, peer: Peer) -> Page {
        refuse(&fault.into(), head, peer)
    }

    fn answered(&self, head: &RequestHead, peer: Peer, upstream: &Upstream, status: u16) {
        let (method, path) = shown(head);
        tracing::debug!(%peer, method, path, %upstream, status, "answered");
    }
}

impl Router {
    /// Where the request comes from is asked before who makes it, and that before anything else.
    async fn route(
        &self,
        head: &mut RequestHead,
        framing: Framing,
        peer: Peer,
        known: &mut bool,
    ) -> Result<Decision<Self>, Problem> {
        let upgrades = headers::asked_upgrade(head, framing, &[WEBSOCKET]).is_some();
        let hosts = self.port_hosts.as_ref();
        if let Some(name) = hosts.and_then(|hosts| hosts.named(&head.fields)) {
            let own = head.fields.get(Name::Host).unwrap_or_default();
            let own = String::from_utf8_lossy(own).into_owned();
            let way = self.way(&own, peer, Some("/"), upgrades);
            return self.on_own_host(head, name, way, known);
        }
        let own = origin::own_authority(&head.fields, &self.hosts)
            .ok_or(Problem::ForeignHost)?
            .to_owned();
        let reads = [&b"GET"[..], b"HEAD", b"OPTIONS"].contains(&head.method());
        if (upgrades || !reads) && origin::is_foreign(&head.fields, &own) {
            return Err(Problem::ForeignPage);
        }
        let target = std::str::from_utf8(head.target()).map_err(|_| RouteError::Malformed)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if let Some(asset) = web::asset(path) {
            return Ok(answer(web::response(asset)));
        }
        if path == "/login" {
            return self.sign_in(head.method(), query).map(answer);
        }
        let user = self
            .signed_in
            .user(&head.fields, self.front.cookie_name(), SystemTime::now())
            .filter(|user| self.sessions.knows(user))
            .ok_or(Problem::NotSignedIn)?;
        *known = true;
        if ["/port", "/absport", CODE]
            .iter()
            .any(|root| is_below(path, root))
        {
            let prefix = is_below(path, CODE).then_some(CODE);
            return self.forward(head, &user, self.way(&own, peer, prefix, upgrades));
        }
        if path == OPEN && head.method() == b"GET" {
            return self.give_ticket(&user, query, &own).map(Decision::Answer);
        }
        self.own_page(head, path, user, &own).await
    }

    async fn own_page(
        &self,
        head: &RequestHead,
        path: &str,
        user: UserName,
        own: &str,
    ) -> Result<Decision<Self>, Problem> {
        let reads = [&b"GET"[..], b"HEAD"].contains(&head.method());
        let read_only = Problem::Method {
            allowed: "GET, HEAD",
        };
        match path {
            "/" if reads => {
                let servers = self.servers(&user).await.unwrap_or_default();
                let address = |port| self.own_address(&user, port, own);
                let page = web::page(&user, &self.state(&user), servers.as_deref(), address);
                Ok(answer(web::response(page)))
            }
            "/api/v1/session" if reads => {
                Ok(answer(state_response(StatusCode::OK, &self.state(&user))))
            }
            "/api/v1/session" => {
                if !origin::may_call_api(&head.fields, own) {
                    return Err(Problem::ForeignPage);
                }
                self.change_session(head.method(), user)
            }
            "/api/v1/ports" if reads => {
                let servers = self.servers(&user).await?.unwrap_or_default();
                let ports: Vec<_> = servers
                    .iter()
                    .map(|server| Listed {
                        server,
                        address_of_its_own: self.own_address(&user, server.port, own),
                    })
                    .collect();
                Ok(answer(json(&serde_json::json!({ "ports": ports }))))
            }
            "/" | "/api/v1/ports" => Err(read_only),
            // Neither the server as a whole (RFC 9110 section 9.3.7) nor another host.
            _ if !path.starts_with('/') => Err(read_only),
            _ => Err(Problem::NoSuchPage),
        }
    }

    fn change_session(&self, method: &[u8], user: UserName) -> Result<Decision<Self>, Problem> {
        match method {
            b"POST" => Ok(Decision::Read {
                most_bytes: LONGEST_CALL_BYTES,
                call: user,
            }),
            b"DELETE" => {
                self.sessions.cancel(&user).ok_or(Problem::NoSession)?;
                Ok(Decision::Answer(self.accepted(&user)))
            }
            _ => Err(Problem::Method {
                allowed: "GET, HEAD, POST, DELETE",
            }),
        }
    }

    fn accepted(&self, user: &UserName) -> Page {
        state_response(StatusCode::ACCEPTED, &self.state(user)).map(PageBody::Whole)
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
            Err(ListError::Dial(error)) => Err(Fault::Dial(error).into()),
            Err(error) => {
                tracing::warn!(%user, error = &error as &dyn std::error::Error, "no list of servers");
                Ok(None)
            }
        }
    }

    fn upstream(&self, user: &UserName) -> Result<Upstream, Problem> {
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

    fn sign_in(&self, method: &[u8], query: &str) -> Result<Response<Bytes>, Problem> {
        if method != b"GET" {
            return Err(Problem::Method { allowed: "GET" });
        }
        let code = query.split('&').find_map(|pair| pair.strip_prefix("code="));
        let (user, secret) = self
            .signed_in
            .sign_in(code.unwrap_or_default(), SystemTime::now())
            .map_err(Problem::BadLink)?;
        tracing::info!(%user, "signed in");
        let mut response = redirect(StatusCode::SEE_OTHER, "/")?;
        let cookie =
            HeaderValue::try_from(self.front.cookie(&secret)).expect("hexadecimal and attributes");
        response.headers_mut().insert(SET_COOKIE, cookie);
        Ok(response)
    }

    fn forward(
        &self,
        head: &mut RequestHead,
        user: &UserName,
        way: Way<'_>,
    ) -> Result<Decision<Self>, Problem> {
        let target = std::str::from_utf8(head.target()).map_err(|_| RouteError::Malformed)?;
        if target == CODE || target.starts_with("/code?") {
            let slashed = target.replacen(CODE, "/code/", 1);
            return redirect(StatusCode::PERMANENT_REDIRECT, &slashed).map(answer);
        }
        if matches!(target, "/port" | "/port/") {
            return redirect(StatusCode::SEE_OTHER, "/").map(answer);
        }
        let upstream = self.upstream(user)?;
        let target = match target.strip_prefix(CODE) {
            Some(rest) => format!("/port/{}{rest}", upstream.lease().ide_port),
            None => target.to_owned(),
        };
        self.send(head, upstream, &target, way)
    }

    fn way<'a>(
        &self,
        own: &'a str,
        peer: Peer,
        prefix: Option<&'a str>,
        upgrades: bool,
    ) -> Way<'a> {
        Way {
            own,
            scheme: self.front.scheme(),
            peer,
            prefix,
            upgrades,
        }
    }

    fn send(
        &self,
        head: &mut RequestHead,
        upstream: Upstream,
        target: &str,
        way: Way<'_>,
    ) -> Result<Decision<Self>, Problem> {
        // Only to refuse early: the proxy reads it again.
        route::parse(target.as_bytes())?;
        hop::outbound(&mut head.fields, way, &upstream.lease().proxy.token);
        head.set_target(target.as_bytes());
        Ok(Decision::Forward(Forward {
            target: upstream,
            view: (),
            upgrade: way.upgrades.then(|| WEBSOCKET.to_owned()),
        }))
    }
}

/// A dev server as the API lists it.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    server: &'a Listening,
    /// Its address on a host of its own, where there are such.
    #[serde(skip_serializing_if = "Option::is_none")]
    address_of_its_own: Option<String>,
}

fn answer(response: Response<Bytes>) -> Decision<Router> {
    Decision::Answer(response.map(PageBody::Whole))
}

fn tell(head: &RequestHead, peer: Peer, page: &Page) {
    let (method, path) = shown(head);
    tracing::debug!(%peer, method, path, status = page.status().as_u16(), "answered");
}

fn refuse(problem: &Problem, head: &RequestHead, peer: Peer) -> Page {
    let answer = problem.answer();
    let (method, path) = shown(head);
    let (status, error) = (answer.status.as_u16(), problem as &dyn std::error::Error);
    tracing::debug!(%peer, method, path, status, error, "refused");
    let mut response = answer.into_response(Reader::of(head.fields.all(Name::Accept)));
    if matches!(problem, Problem::NotReady { .. }) {
        response.headers_mut().insert(RETRY_AFTER, RELOAD_SECONDS);
        response.headers_mut().insert(REFRESH, RELOAD_SECONDS);
    }
    response.map(PageBody::Whole)
}

/// Whether `path` is `root` or below it.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The node that a call asks for: an empty body asks for none.
fn wanted_node(body: &[u8]) -> Result<Option<NodeName>, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Call {
        node: Option<String>,
    }
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let call: Call =
        serde_json::from_slice(body).map_err(|error| Problem::BadCall(error.into()))?;
    let node = call.node.map(|node| node.parse()).transpose();
    node.map_err(|error: crate::names::NotAName| Problem::BadCall(error.into()))
}

fn state_response(status: StatusCode, state: &State) -> Response<Bytes> {
    let mut response = json(&serde_json::to_value(state).expect("strings and numbers"));
    *response.status_mut() = status;
    response
}

fn redirect(status: StatusCode, to: &str) -> Result<Response<Bytes>, Problem> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let to = HeaderValue::try_from(to).map_err(|_| RouteError::Malformed)?;
    response.headers_mut().insert(LOCATION, to);
    Ok(response)
}

mod own_host;
#[cfg(test)]
mod tests;
