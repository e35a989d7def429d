//! Who asks for what: whose session it is, and whether it may be asked for from there. Requests
//! for `/port/N/*` and `/code/*` go to that user's proxy, byte for byte.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hpc_proxy::{
    answer::Reader,
    auth::same,
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
    header::{LOCATION, RETRY_AFTER, SET_COOKIE},
};

use crate::{
    auth::{By, Claims, Known, SignedIn, tokens::Refusal},
    front::Front,
    hop::{self, Place, Way},
    job::script::IdeKind,
    local_end::DialError,
    names::{HostName, UserName},
    origin::{self, Asker},
    port_hosts::PortHosts,
    problem::Problem,
    sessions::{Seen, Sessions},
    sign_in::{self, Form, LOGIN, LOGOUT, way_on},
    state::State,
    upstream::{ListError, Upstream},
    web,
};

pub use events::Streams;

/// How soon a program may ask again for what is not there yet, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("2");
/// A call's body says what a job is to have.
const LONGEST_CALL_BYTES: usize = 4096;
/// How long the manager's page waits for news of the dev servers: it is kept current once it is there.
const LIST_HASTE: Duration = Duration::from_millis(20);
/// The page that lists the dev servers of the selected session.
const PORTS: &str = "/port/";
/// The path under which the IDE is served.
const CODE: &str = "/code";

/// Answers requests. Clones are the same manager.
#[derive(Clone, Debug)]
pub struct Router {
    /// Everybody's sessions.
    pub sessions: Arc<Sessions>,
    /// Who has signed in.
    pub signed_in: Arc<SignedIn>,
    /// Names of this manager besides those of the loopback.
    pub hosts: Vec<HostName>,
    /// What browsers call it.
    pub front: Front,
    /// Where ports have host names of their own, if they do.
    pub port_hosts: Option<Arc<PortHosts>>,
    /// The pages that are kept current.
    pub streams: Streams,
}

impl Service for Router {
    type Target = Upstream;
    type View = Place;
    type DialError = DialError;
    type Call = Call;

    async fn decide(
        &self,
        head: &mut RequestHead,
        framing: Framing,
        peer: Peer,
        known: &mut bool,
    ) -> Decision<Self> {
        match self.route(head, framing, peer, known).await {
            Ok(Decision::Answer(page)) => {
                tell(head, peer, &page);
                Decision::Answer(self.set_apart(page, head))
            }
            Ok(decision) => decision,
            Err(problem) => Decision::Answer(self.refuse(&problem, head, peer)),
        }
    }

    async fn called(
        &self,
        call: Call,
        body: Result<Bytes, TooLong>,
        head: &RequestHead,
        peer: Peer,
    ) -> Page {
        let body = body.map_err(|error| Problem::BadCall(error.into()));
        let page = match (call, body) {
            (Call::Launch { user, another }, Ok(body)) => {
                self.launches(&user, another, &body, &head.fields)
            }
            (Call::SignIn, Ok(body)) => {
                let form = Form::parse(&body);
                let to = form.to.clone();
                match self.sign_in_by_token(form, head, peer).await {
                    Ok(response) => Ok(response.map(PageBody::Whole)),
                    Err(problem) => return self.refuse_to(&to, &problem, head, peer),
                }
            }
            (Call::SignOut(known), Ok(body)) => self.sign_out(known, &Form::parse(&body), head),
            (_, Err(problem)) => Err(problem),
        };
        match page {
            Ok(page) => {
                tell(head, peer, &page);
                self.set_apart(page, head)
            }
            Err(problem) => self.refuse(&problem, head, peer),
        }
    }

    async fn dial(&self, upstream: &Upstream) -> Result<(Upstream, Socket), DialError> {
        let socket = upstream.connect().await?;
        Ok((upstream.clone(), socket.noting(upstream.activity())))
    }

    fn edit(&self, place: &Place, fields: &mut Fields) {
        hop::inbound(fields, *place);
    }

    async fn explain(&self, fault: Fault<DialError>, head: &RequestHead, peer: Peer) -> Page {
        self.refuse(&fault.into(), head, peer)
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
        let claims = self.signed_in.take_claims(&mut head.fields, peer)?;
        let upgrades = headers::asked_upgrade(head, framing, &[WEBSOCKET]).is_some();
        let hosts = self.port_hosts.as_ref();
        if let Some(name) = hosts.and_then(|hosts| hosts.named(&head.fields)) {
            let own = head.fields.get(Name::Host).unwrap_or_default();
            let own = String::from_utf8_lossy(own).into_owned();
            let way = Way {
                place: Place::OwnHost,
                ..self.way(&own, peer, Some("/"), upgrades)
            };
            let claimed = self.signed_in.claimed(claims, peer).await?;
            return self.on_own_host(head, name, way, claimed, known);
        }
        let own = origin::own_authority(&head.fields, &self.hosts)
            .ok_or(Problem::ForeignHost)?
            .to_owned();
        let target = std::str::from_utf8(head.target()).map_err(|_| RouteError::Malformed)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let is_handed_over = path == OPEN && origin::is_frame_of_a_sibling(&head.fields);
        if origin::is_foreign(&head.fields, &own)
            || (origin::is_read_elsewhere(&head.fields, head.method()) && !is_handed_over)
        {
            return Err(Problem::ForeignPage);
        }
        if let Some(asset) = web::asset(path) {
            if origin::is_for_a_worker(&head.fields) {
                return Err(Problem::ForeignPage);
            }
            return Ok(answer(web::response(asset)));
        }
        if [LOGIN, LOGOUT].contains(&path) {
            return self.at_the_door(head, path, query, &own);
        }
        let who = self.who(claims, peer, head).await?;
        let user = who.user.clone();
        *known = true;
        let roots = ["/port", "/absport", CODE];
        if path != PORTS && roots.iter().any(|root| is_below(path, root)) {
            let prefix = is_below(path, CODE).then_some(CODE);
            return self.forward(head, &user, self.way(&own, peer, prefix, upgrades));
        }
        if let Some(page) = self.choose(target, &user) {
            return page.map(Decision::Answer);
        }
        if path == OPEN && head.method() == b"GET" {
            if !origin::navigates(&head.fields) {
                return Err(Problem::NotOurPage);
            }
            return self.give_ticket(&who, query, &own).map(Decision::Answer);
        }
        let key = self.admit(head, path, &who, &own)?;
        self.own_page(head, path, who, key, &own).await
    }

    /// Lets only the manager's own page and people do what is the manager's own business, and not a
    /// dev server's page, which has the same origin and so the same cookie (S11). The key for the page
    /// that is given, if it is to have one.
    fn admit(
        &self,
        head: &RequestHead,
        path: &str,
        who: &Known,
        own: &str,
    ) -> Result<Option<String>, Problem> {
        // No page has it, and whoever has it needs no page.
        if who.by == By::Bearer {
            return Ok(None);
        }
        let key = self.signed_in.page_key(who);
        if let Some(shown) = origin::page_key(&head.fields) {
            let is_ours = same(key.as_bytes(), shown);
            return is_ours.then_some(Some(key)).ok_or(Problem::NotOurPage);
        }
        let reads = [&b"GET"[..], b"HEAD"].contains(&head.method());
        match origin::asker(&head.fields) {
            _ if is_below(path, "/api") => Err(Problem::NotOurPage),
            Asker::Script => Err(Problem::NotOurPage),
            Asker::Window if !reads => Err(Problem::NotOurPage),
            Asker::Window => Ok(Some(key)),
            // Nobody says so there, and without the key the page would be of no use.
            Asker::Unsaid if !origin::is_trustworthy(self.front.scheme(), own) => Ok(Some(key)),
            Asker::Unsaid => Ok(None),
        }
    }

    /// Marks an answer of the manager's own as one that no page of another origin shows or keeps a
    /// handle on. Redirects only lead on.
    fn set_apart(&self, mut page: Page, head: &RequestHead) -> Page {
        let hosts = self.port_hosts.as_ref();
        if hosts.is_none_or(|hosts| hosts.named(&head.fields).is_none()) {
            let leads_on = page.status().is_redirection();
            web::set_apart(page.headers_mut(), leads_on);
        }
        page
    }

    /// Who makes a request to the manager itself.
    async fn who(&self, claims: Claims, peer: Peer, head: &RequestHead) -> Result<Known, Problem> {
        let who = match self.signed_in.claimed(claims, peer).await? {
            Some(who) => Some(who),
            None => self.by_cookie(head)?,
        };
        let who = who.ok_or_else(|| self.not_signed_in())?;
        self.is_known_here(&who.user)?;
        Ok(who)
    }

    fn by_cookie(&self, head: &RequestHead) -> Result<Option<Known>, Problem> {
        let (cookie, now) = (self.front.cookie_name(), SystemTime::now());
        Ok(self.signed_in.user(&head.fields, cookie, now)?)
    }

    fn not_signed_in(&self) -> Problem {
        Problem::NotSignedIn(self.signed_in.ways().clone())
    }

    fn is_known_here(&self, user: &UserName) -> Result<(), Problem> {
        if self.sessions.knows(user) {
            Ok(())
        } else {
            Err(Problem::UnknownUser(user.clone()))
        }
    }

    async fn own_page(
        &self,
        head: &RequestHead,
        path: &str,
        who: Known,
        key: Option<String>,
        own: &str,
    ) -> Result<Decision<Self>, Problem> {
        let Known { user, by } = who;
        self.sessions.look(&user);
        let reads = [&b"GET"[..], b"HEAD"].contains(&head.method());
        let read_only = Problem::Method {
            allowed: "GET, HEAD",
        };
        if reads && let Some(log) = self.log_page(path, &user).await {
            return log.map(answer);
        }
        match path {
            "/" | PORTS if reads => {
                let known = Known { user, by };
                Ok(answer(
                    self.page(head, path, &known, key.as_deref(), own).await,
                ))
            }
            path if is_below(path, "/api") => self.call(head, Known { user, by }, own).await,
            "/" | PORTS => Err(read_only),
            // Neither the server as a whole (RFC 9110 section 9.3.7) nor another host.
            _ if !path.starts_with('/') => Err(read_only),
            _ => Err(Problem::NoSuchPage),
        }
    }

    /// A page of the user's: of their sessions, or of their dev servers.
    async fn page(
        &self,
        head: &RequestHead,
        path: &str,
        known: &Known,
        key: Option<&str>,
        own: &str,
    ) -> Response<Bytes> {
        let user = &known.user;
        let seen = self.selected(user, &head.fields);
        // A page must come, whatever became of the way to the node.
        let servers = match upstream(seen.as_ref()) {
            Ok(upstream) => upstream.servers_soon(LIST_HASTE).await,
            Err(_) => None,
        };
        let addresses = self.addresses(own);
        let address = |port| addresses.of(seen.as_ref()?, port);
        let all = self.sessions.list(user);
        let all: Vec<_> = all.iter().map(|seen| State::of(Some(seen))).collect();
        let shown = web::Shown {
            user,
            signs_out: matches!(known.by, By::Cookie(_)),
            key,
            live: web::Live {
                selected: &State::of(seen.as_ref()),
                sessions: &all,
                servers: servers.as_deref(),
            },
            terms: self.sessions.terms(),
            clusters: &self.sessions.clusters(user),
        };
        web::response(match path {
            PORTS => web::ports(&shown, &address),
            _ => web::page(&shown, &address),
        })
    }

    /// Signing in, by a link or by the form, and out again.
    fn at_the_door(
        &self,
        head: &RequestHead,
        path: &str,
        query: &str,
        own: &str,
    ) -> Result<Decision<Self>, Problem> {
        let tokens = self.signed_in.ways().tokens.is_some();
        let code = query.split('&').find_map(|pair| pair.strip_prefix("code="));
        match (path, head.method()) {
            (LOGOUT, b"POST") | (LOGIN, b"POST") if !origin::may_send_form(&head.fields, own) => {
                Err(Problem::ForeignPage)
            }
            (LOGOUT, b"POST") => Ok(Decision::Read {
                most_bytes: sign_in::LONGEST_FORM_BYTES,
                // Who is several users at once has no page of ours, and must get out.
                call: Call::SignOut(self.by_cookie(head).unwrap_or_default()),
            }),
            (LOGOUT, b"GET") => {
                let who = self.by_cookie(head).unwrap_or_default();
                let key = who
                    .map(|who| self.admit(head, path, &who, own))
                    .transpose()?;
                Ok(answer(sign_in::way_out(key.flatten().as_deref())))
            }
            (LOGIN, b"POST") if tokens => Ok(Decision::Read {
                most_bytes: sign_in::LONGEST_FORM_BYTES,
                call: Call::SignIn,
            }),
            (LOGIN, b"GET") if tokens && code.is_none() => {
                Ok(answer(sign_in::page("With a token of this manager.", "/")))
            }
            (LOGIN, b"GET") => self
                .sign_in_by_link(code.unwrap_or_default(), &way_on(query), head)
                .map(answer),
            (LOGOUT, _) => Err(Problem::Method {
                allowed: "GET, POST",
            }),
            _ if tokens => Err(Problem::Method {
                allowed: "GET, POST",
            }),
            _ => Err(Problem::Method { allowed: "GET" }),
        }
    }

    fn sign_out(
        &self,
        known: Option<Known>,
        form: &Form,
        head: &RequestHead,
    ) -> Result<Page, Problem> {
        if let Some(known) = known {
            let key = self.signed_in.page_key(&known);
            let shown = form.page.as_deref().unwrap_or_default();
            if !same(key.as_bytes(), shown.as_bytes()) {
                return Err(Problem::NotOurPage);
            }
        }
        let cookie = self.front.cookie_name();
        self.signed_in.sign_out(&head.fields, cookie);
        let mut response = redirect(StatusCode::SEE_OTHER, "/")?;
        set_cookie(&mut response, &self.front.no_cookie());
        Ok(response.map(PageBody::Whole))
    }

    /// Refuses to make somebody else of a browser that is signed in: it may be a page's doing.
    fn is_nobody_else(&self, user: &UserName, head: &RequestHead) -> Result<(), Problem> {
        match self.by_cookie(head)? {
            Some(known) if known.user != *user => Err(Problem::SignedInAs(known.user)),
            _ => Ok(()),
        }
    }

    fn sign_in_by_link(
        &self,
        code: &str,
        to: &str,
        head: &RequestHead,
    ) -> Result<Response<Bytes>, Problem> {
        if !self.signed_in.ways().links {
            return Err(Problem::NoLinks);
        }
        if origin::asker(&head.fields) == Asker::Script {
            return Err(Problem::NotOurPage);
        }
        if let Some(user) = SignedIn::named(code) {
            self.is_nobody_else(&user, head)?;
        }
        let (user, secret) = self
            .signed_in
            .sign_in(code, SystemTime::now())
            .map_err(Problem::BadLink)?;
        tracing::info!(%user, "signed in");
        let mut response = redirect(StatusCode::SEE_OTHER, to)?;
        set_cookie(&mut response, &self.front.cookie(&secret));
        Ok(response)
    }

    async fn sign_in_by_token(
        &self,
        form: Form,
        head: &RequestHead,
        peer: Peer,
    ) -> Result<Response<Bytes>, Problem> {
        let tokens = self.signed_in.ways().tokens.as_ref();
        let (Some(token), Some(tokens)) = (form.token, tokens) else {
            return Err(Refusal::Unknown.into());
        };
        let grant = tokens.check(token, peer).await?;
        let user = grant.user.clone();
        self.is_known_here(&user)?;
        self.is_nobody_else(&user, head)?;
        let secret = self
            .signed_in
            .sign_in_by(grant, SystemTime::now())
            .map_err(|error| Problem::BadLink(error.into()))?;
        tracing::info!(%user, "signed in");
        let mut response = redirect(StatusCode::SEE_OTHER, &form.to)?;
        set_cookie(&mut response, &self.front.cookie(&secret));
        Ok(response)
    }

    fn refuse(&self, problem: &Problem, head: &RequestHead, peer: Peer) -> Page {
        let target = match head.method() {
            b"GET" => std::str::from_utf8(head.target()).unwrap_or_default(),
            _ => "/",
        };
        self.refuse_to(target, problem, head, peer)
    }

    /// Says what is the matter. A person who has to sign in, and can by a token, is given the form,
    /// and goes on to `target` from there.
    fn refuse_to(&self, target: &str, problem: &Problem, head: &RequestHead, peer: Peer) -> Page {
        let page = self.set_apart(refuse(problem, head, peer), head);
        let hosts = self.port_hosts.as_ref();
        let is_of_a_port = hosts.is_some_and(|hosts| hosts.named(&head.fields).is_some());
        let may_sign_in = matches!(problem, Problem::NotSignedIn(_) | Problem::BadToken(_))
            && self.signed_in.ways().tokens.is_some()
            && !is_of_a_port;
        if !may_sign_in || Reader::of(head.fields.all(Name::Accept)) == Reader::Program {
            return page;
        }
        let told = problem.answer();
        let message = match problem {
            // The form itself is the next step.
            Problem::NotSignedIn(_) => told.message,
            _ => format!("{} {}", told.message, told.hint),
        };
        let mut form = sign_in::page(&message, target);
        *form.status_mut() = page.status();
        for (name, value) in page.headers() {
            form.headers_mut().entry(name).or_insert(value.clone());
        }
        form.map(PageBody::Whole)
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
        if target == "/port" {
            return redirect(StatusCode::PERMANENT_REDIRECT, PORTS).map(answer);
        }
        let upstream = upstream(self.selected(user, &head.fields).as_ref())?;
        let target = match target.strip_prefix(CODE) {
            Some(rest) => format!("{}{rest}", upstream.lease().ide.path()),
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
            place: Place::OurOrigin,
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
        upstream.activity().touch();
        hop::outbound(&mut head.fields, way, &upstream.lease().proxy.token);
        head.set_target(target.as_bytes());
        Ok(Decision::Forward(Forward {
            target: upstream,
            view: way.place,
            upgrade: way.upgrades.then(|| WEBSOCKET.to_owned()),
        }))
    }
}

/// The dev servers of a session, where there is a proxy to ask.
async fn servers(seen: Option<&Seen>) -> Result<Option<Vec<Listening>>, Problem> {
    let Ok(upstream) = upstream(seen) else {
        return Ok(None);
    };
    match upstream.servers().await {
        Ok(servers) => Ok(Some(servers)),
        Err(ListError::Dial(error)) => Err(Fault::Dial(error).into()),
        Err(_) => Ok(None),
    }
}

/// What a request with a body asks of the manager itself.
#[derive(Debug)]
pub enum Call {
    /// A session.
    Launch {
        /// Whose.
        user: UserName,
        /// Whether there is to be another where one lives.
        another: bool,
    },
    /// To be signed in by a token.
    SignIn,
    /// To be signed out, whoever it is.
    SignOut(Option<Known>),
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
    let reader = Reader::of(head.fields.all(Name::Accept));
    let mut response = match reader {
        Reader::Person if problem.may_heal() && head.method() == b"GET" => {
            answer.into_waiting_page()
        }
        _ => answer.into_response(reader),
    };
    if problem.may_heal() {
        response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
    }
    response.map(PageBody::Whole)
}

/// Whether `path` is `root` or below it.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The way to a session's proxy.
fn upstream(seen: Option<&Seen>) -> Result<Upstream, Problem> {
    let seen = seen.filter(|seen| !seen.view.phase.is_over());
    let Seen { view, ide, .. } = seen.ok_or(Problem::NoSession)?;
    if ide.kind == IdeKind::Other {
        return Err(Problem::NoProxy);
    }
    view.upstream.clone().ok_or_else(|| Problem::NotReady {
        phase: view.phase.name(),
        trouble: view.trouble.clone(),
    })
}

fn set_cookie(response: &mut Response<Bytes>, cookie: &str) {
    let cookie = HeaderValue::try_from(cookie).expect("hexadecimal and attributes");
    response.headers_mut().insert(SET_COOKIE, cookie);
}

fn redirect(status: StatusCode, to: &str) -> Result<Response<Bytes>, Problem> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let to = HeaderValue::try_from(to).map_err(|_| RouteError::Malformed)?;
    response.headers_mut().insert(LOCATION, to);
    Ok(response)
}

mod api;
pub mod desk;
mod events;
mod own_host;
pub mod routes;
#[cfg(test)]
mod tests;
