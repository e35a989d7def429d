//! The proxy itself: decides who asks for what, and where it goes.

use std::{
    borrow::Cow,
    convert::Infallible,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, SET_COOKIE, VARY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use private_localhost::PortMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{self, Listener, Terms},
    answer::{Problem, Reader, counts, json},
    auth::{self, Nonce, Token},
    handover::Tickets,
    headers::{self, WEBSOCKET, cookie},
    hop::Hop,
    hostname::{Domain, Siblings},
    http1::{
        fields::Fields,
        framing::Framing,
        head::{RequestHead, ResponseHead},
        name::Name,
        target::{host_name, is_host},
    },
    link::Redeemed,
    markup,
    metrics::Metrics,
    ports::{self, Servers},
    private::Localhost,
    rewrite::{Prefix, View},
    route::{self, Route, RouteError, TargetPort, To},
    service::{Decision, Fault, Forward, Page, PageBody, Peer, Service, TooLong, shown},
    socket::Socket,
    transform::{Asked, Transform, Wanted},
    upstream::{DialError, Loopback, Target, owner::Owners},
};

mod own_host;
use own_host::{Named, across};

/// The cookie of a browser that came by a link: not for scripts, and not for requests that
/// another site makes.
const COOKIE_ATTRIBUTES: &str = "HttpOnly; SameSite=Lax; Path=/";
/// Below are services of the system, and no user's dev servers (S20). Those above, such as NFS or
/// Slurm's daemons, belong to other users than the proxy's, which rules them out like any other.
const LOWEST_PORT: u16 = 1024;

/// What a running proxy knows of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user whose servers it forwards to.
    pub uid: u32,
    /// Where it listens; 0 where only on a Unix socket.
    pub port: u16,
    /// This start of it; see [`auth::random_instance`].
    pub instance: String,
    /// The Slurm job it runs in.
    pub job: Option<String>,
    /// Names of the node that it runs on.
    pub hosts: Vec<String>,
}

/// Who must show what to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever knows the token.
    Token,
    /// Anybody who can connect.
    Anyone,
}

/// What a proxy is told to do.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who is served.
    pub access: Access,
    /// Protocols besides WebSocket that a client may switch to.
    pub upgrades: Vec<String>,
    /// Whether ports below 1024 are forwarded to.
    pub low_ports: bool,
    /// Whether the servers of the session are asked for their titles.
    pub titles: bool,
    /// The directory of Unix-socket servers, if there is one.
    pub sockets: Option<PathBuf>,
    /// Where this user's private servers are written down, if anywhere.
    pub private: Option<PortMap>,
    /// Below which domain every port has a host of its own, if any does.
    pub domain: Option<Domain>,
    /// Whose pages are rewritten.
    pub rewrite: Rewrite,
}

/// Whose pages are rewritten, so that their URLs hold below the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// How, for every server that is not excepted.
    pub all: Rewriting,
    /// The servers for which it is another.
    pub except: Vec<(TargetPort, Rewriting)>,
}

/// How pages are rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rewriting {
    /// Their URLs are moved, and routers in the page find an address without the prefix.
    #[default]
    Auto,
    /// Their URLs are moved.
    Urls,
    /// Not at all.
    Off,
}

impl Rewrite {
    fn of(&self, port: Option<TargetPort>) -> Rewriting {
        let mut except = self.except.iter();
        let found = except.find(|(excepted, _)| Some(*excepted) == port);
        found.map_or(self.all, |(_, how)| *how)
    }
}

/// Serves `listeners` until `stop`, then lets what is under way end within its grace. `token` is
/// what the proxy proves itself by, whatever `rules` ask of others.
pub async fn serve(
    listeners: Vec<Listener>,
    identity: Identity,
    token: Token,
    rules: Rules,
    terms: &Terms,
    stop: CancellationToken,
) {
    let metrics = Arc::new(Metrics::default());
    let proxy = Proxy::new(
        identity,
        token,
        rules,
        Owners::probe(),
        Arc::clone(&metrics),
    );
    accept::serve(listeners, proxy, metrics, terms, stop).await;
}

/// A proxy's rules and what it knows, as the engine asks it.
#[derive(Debug)]
pub struct Proxy {
    identity: Identity,
    token: Token,
    /// What a request must show, spelt once.
    header: String,
    cookie: String,
    rules: Rules,
    upgrades: Vec<String>,
    servers: Arc<Servers>,
    loopback: Loopback,
    redeemed: Redeemed,
    tickets: Tickets,
    metrics: Arc<Metrics>,
    started: Instant,
    strangers: Strangers,
}

/// How often strangers were refused since that was last written down.
#[derive(Debug, Default)]
struct Strangers {
    times: AtomicU64,
    /// After so many seconds it is written down again.
    from: AtomicU64,
}

impl Strangers {
    /// Notes one; how many there were, once a second.
    fn note(&self, now: Duration) -> Option<u64> {
        self.times.fetch_add(1, Ordering::Relaxed);
        let now = now.as_secs();
        if now < self.from.load(Ordering::Relaxed) {
            return None;
        }
        self.from.store(now + 1, Ordering::Relaxed);
        Some(self.times.swap(0, Ordering::Relaxed))
    }
}

/// Who asks. Only a manager's statements about earlier hops are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Manager,
    Browser,
    Anyone,
}

/// How an answer is seen by its browser.
#[derive(Debug)]
pub struct Seen {
    prefix: Prefix,
    /// Whether URLs are moved under the prefix; cookies always are.
    moves_urls: bool,
    port: Option<TargetPort>,
    host: Option<String>,
    siblings: Option<Siblings>,
    secure: bool,
    /// Nothing where every answer passes as it is.
    asked: Option<Box<Asked>>,
}

impl Seen {
    fn view(&self) -> View<'_> {
        View {
            prefix: &self.prefix,
            moves_urls: self.moves_urls,
            port: self.port,
            public_host: self.host.as_deref(),
            siblings: self.siblings.as_ref(),
            secure: self.secure,
            reserved_cookies: &auth::COOKIES,
        }
    }
}

impl Proxy {
    /// One that asks `owners` whose a server is.
    pub fn new(
        identity: Identity,
        token: Token,
        rules: Rules,
        owners: Owners,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut upgrades = vec![WEBSOCKET.to_owned()];
        upgrades.extend(rules.upgrades.iter().cloned());
        let private = Localhost::new(identity.uid, identity.job.as_deref(), rules.private.clone());
        Self {
            loopback: Loopback::new(
                owners.clone(),
                identity.uid,
                private.clone(),
                rules.sockets.clone(),
            ),
            servers: Arc::new(
                Servers::new(
                    owners,
                    identity.uid,
                    private,
                    vec![identity.port],
                    identity.job.clone(),
                )
                .asking_titles(rules.titles),
            ),
            header: token.reveal(),
            cookie: token.cookie_value(),
            redeemed: Redeemed::default(),
            tickets: Tickets::new(token.clone()),
            identity,
            token,
            rules,
            upgrades,
            metrics,
            started: Instant::now(),
            strangers: Strangers::default(),
        }
    }

    /// Authentication comes before everything that depends on the target, so that a stranger
    /// learns nothing about routes or ports (S2).
    async fn route(
        &self,
        head: &mut RequestHead,
        framing: Framing,
        peer: Peer,
        known: &mut bool,
    ) -> Result<Decision<Self>, Problem> {
        let named = self.own_host(&head.fields);
        if let Some(page) = self.open_page(head, named.as_ref())? {
            return Ok(Decision::Answer(page));
        }
        let caller = match self.caller(&head.fields, peer, named.as_ref()) {
            Ok(caller) => caller,
            Err(problem) => return self.to_front(head, named.as_ref()).ok_or(problem),
        };
        *known = true;
        self.check_host(head, caller)?;
        if [&b"CONNECT"[..], b"TRACE"].contains(&head.method()) || head.target() == b"*" {
            return Err(Problem::Method);
        }
        let reads = [&b"GET"[..], b"HEAD"].contains(&head.method());
        let upgrade = headers::asked_upgrade(head, framing, &self.upgrades).map(str::to_owned);
        let target = head.target().to_vec();
        let own_host = named.transpose()?;
        let (route, prefix_of): (_, fn(To<'_>) -> Prefix) = match own_host {
            None => (route::parse(&target)?, Prefix::of),
            Some(own) => match route::on_own_host(&target)? {
                (None, rest) => (Route::Below(To::Port(own), rest), |_| Prefix::root()),
                (Some(other), rest) => (Route::Below(To::Port(other), rest), Prefix::sibling),
            },
        };
        let (to, rest, prefix): (To<'_>, Vec<u8>, _) = match route {
            Route::Bare(to, query) if reads && upgrade.is_none() => {
                return Ok(Decision::Answer(redirect_to_slash(to, query)));
            }
            Route::Bare(to, query) => (to, format!("/{query}").into(), Some(prefix_of(to))),
            Route::Below(to, rest) => (to, rest.as_bytes().into(), Some(prefix_of(to))),
            Route::Whole(port) => (To::Port(port), target.clone(), None),
            route @ (Route::Index | Route::Own(_)) => {
                if let Route::Own(page) = route
                    && let Some(query) = page.strip_prefix("open?")
                    && reads
                {
                    return self.give_ticket(query, &head.fields).map(Decision::Answer);
                }
                return if reads {
                    let path = shown(head).1;
                    self.own_page(&route, path).await.map(Decision::Answer)
                } else {
                    Err(Problem::Method)
                };
            }
        };
        if prefix.is_some()
            && let Some(file) = rest.strip_prefix(markup::RESERVED.as_bytes())
        {
            return if reads {
                shim(file, &head.fields).map(Decision::Answer)
            } else {
                Err(Problem::Method)
            };
        }
        if let To::Port(port) = to {
            if port.get() == self.identity.port {
                return Err(Problem::OwnPort(port));
            }
            if port.get() < LOWEST_PORT && !self.rules.low_ports {
                return Err(Problem::SystemPort(port));
            }
        }
        if upgrade.is_some() && caller != Caller::Manager && is_foreign(&head.fields, own_host) {
            return Err(Problem::ForeignPage);
        }
        let hop = Hop::describe(&head.fields, peer, caller == Caller::Manager, prefix);
        if hop.prefix.as_ref().is_some_and(Prefix::is_sibling)
            && let Some(elsewhere) = across(&hop, head, to, &rest, upgrade.is_some())?
        {
            return Ok(Decision::Answer(elsewhere));
        }
        let target = self.loopback.choose(to).await?;

        let fields = &mut head.fields;
        if headers::goes_in_circles(fields) {
            return Err(Problem::Loop);
        }
        headers::strip_request_hop(fields);
        if let Some(protocol) = &upgrade {
            headers::set_upgrade(fields, protocol);
        }
        for name in auth::COOKIES {
            headers::strip_cookie(fields, name);
        }
        hop.state(fields, &target.host());
        head.set_target(&rest);

        let port = match to {
            To::Port(port) => Some(port),
            To::Socket(_) => None,
        };
        let siblings = hop.siblings(port);
        let how = self.rules.rewrite.of(port);
        let wanted = Wanted::of(&head.fields)
            .filter(|_| hop.prefix.is_some() && upgrade.is_none() && how != Rewriting::Off);
        let doors = how == Rewriting::Auto;
        let seen = Seen {
            siblings,
            moves_urls: hop.prefix.is_some(),
            secure: hop.is_secure(),
            asked: wanted.map(|wanted| Box::new(Asked::note(wanted, doors, head))),
            prefix: hop.prefix.unwrap_or_else(|| Prefix::whole(to)),
            port,
            host: hop.host.and_then(|host| String::from_utf8(host).ok()),
        };
        Ok(Decision::Forward(Forward {
            target,
            view: seen,
            upgrade,
        }))
    }

    /// The pages for those who have no token yet: proofs everywhere, links at the front, and tickets
    /// where they lead.
    fn open_page(
        &self,
        head: &RequestHead,
        named: Option<&Named>,
    ) -> Result<Option<Page>, Problem> {
        let token = &self.token;
        let page = std::str::from_utf8(head.target())
            .ok()
            .and_then(|target| target.strip_prefix(route::OWN_PAGES))
            .filter(|_| head.method() == b"GET");
        let Some(page) = page else { return Ok(None) };
        if let Some(nonce) = page
            .strip_prefix("proof/")
            .and_then(|hex| Nonce::parse(hex.as_bytes()))
        {
            let proof = token.prove(&nonce, &self.identity.instance, self.identity.port);
            return Ok(Some(whole(json(
                &serde_json::to_value(proof).expect("two strings"),
            ))));
        }
        if let Some(named) = named {
            let query = page.strip_prefix("enter?");
            let Some((query, port)) = query.zip(named.as_ref().ok()) else {
                return Ok(None);
            };
            return self.take_ticket(query, *port, &head.fields).map(Some);
        }
        let Some(query) = page.strip_prefix("login?") else {
            return Ok(None);
        };
        let parameter = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let code = parameter("code").ok_or(Problem::BadLink)?;
        self.redeemed
            .redeem(token, "", code, SystemTime::now())
            .map_err(|_| Problem::BadLink)?;
        let to = match parameter("port").and_then(|port| port.parse::<TargetPort>().ok()) {
            Some(port) => format!("/port/{port}/"),
            None => "/".to_owned(),
        };
        let mut response = redirect(StatusCode::SEE_OTHER, &to);
        let cookie = format!("{}={}; {COOKIE_ATTRIBUTES}", auth::COOKIE, self.cookie);
        let cookie = HeaderValue::try_from(cookie).expect("hexadecimal and attributes");
        response.headers_mut().insert(SET_COOKIE, cookie);
        Ok(Some(response))
    }

    fn caller(
        &self,
        fields: &Fields,
        peer: Peer,
        named: Option<&Named>,
    ) -> Result<Caller, Problem> {
        let mut claims = fields.all(Name::Token);
        match (claims.next(), claims.next()) {
            (Some(claim), None) if auth::same(self.header.as_bytes(), claim) => {
                return Ok(Caller::Manager);
            }
            (Some(_), _) => {}
            // The kernel says who it is: the same user, who could read the token as well. But their ssh may
            // bring a browser here, and with it any page.
            (None, _)
                if peer
                    == (Peer::Local {
                        uid: self.identity.uid,
                    }) =>
            {
                return Ok(Caller::Anyone);
            }
            (None, _) => {
                let own = match named {
                    None => Some(Cow::Borrowed(&self.cookie)),
                    Some(Ok(port)) => Some(Cow::Owned(self.token.host_cookie_value(*port))),
                    Some(Err(_)) => None,
                };
                // A dev server may have set another by that name, for a path of its own.
                let mut claims = cookie(fields, auth::COOKIE);
                if own.is_some_and(|own| claims.any(|claim| auth::same(own.as_bytes(), claim))) {
                    return Ok(Caller::Browser);
                }
            }
        }
        match self.rules.access {
            Access::Anyone => Ok(Caller::Anyone),
            Access::Token => Err(Problem::Unauthorised),
        }
    }

    /// A page of another site can have its name point here (S15). A cookie or the token is never
    /// sent along then; without either, the name is all that tells.
    fn check_host(&self, head: &RequestHead, caller: Caller) -> Result<(), Problem> {
        if caller != Caller::Anyone && !head.is_absolute || self.is_below_domain(&head.fields) {
            return Ok(());
        }
        let own = head.fields.get(Name::Host).is_none_or(|host| {
            let name = String::from_utf8_lossy(host_name(host)).to_ascii_lowercase();
            let name = name.strip_suffix('.').unwrap_or(&name);
            name == "localhost"
                || name.ends_with(".localhost")
                || name.parse::<IpAddr>().is_ok()
                || self
                    .identity
                    .hosts
                    .iter()
                    .any(|own| own.eq_ignore_ascii_case(name))
        });
        if own {
            Ok(())
        } else {
            Err(Problem::ForeignHost)
        }
    }

    async fn own_page(&self, route: &Route<'_>, path: &str) -> Result<Page, Problem> {
        let listed = async || {
            let servers = self.servers.list_with_titles().await;
            servers.map_err(Problem::NoList)
        };
        let page = match route {
            Route::Index => ports::index(&listed().await?, path),
            Route::Own("page.js") => ports::script(),
            Route::Own("ports") => json(&serde_json::json!({ "ports": listed().await? })),
            Route::Own("events") => {
                let events = ports::events(Arc::clone(&self.servers));
                let mut page = Response::new(PageBody::Pieces(events));
                for (name, value) in [
                    (CONTENT_TYPE, ports::EVENTS_CONTENT_TYPE),
                    (CACHE_CONTROL, "no-store"),
                ] {
                    page.headers_mut()
                        .insert(name, HeaderValue::from_static(value));
                }
                return Ok(page);
            }
            Route::Own("health") => json(&serde_json::json!({
                "status": "ok",
                "version": env!("CARGO_PKG_VERSION"),
                "instance": self.identity.instance,
                "job": self.identity.job,
                "uptime_seconds": self.started.elapsed().as_secs(),
            })),
            Route::Own("metrics") => counts(self.metrics.to_text("hpc_proxy")),
            _ => return Err(Problem::Route(RouteError::NoSuchPath)),
        };
        Ok(whole(page))
    }

    async fn refuse(&self, problem: Problem, head: &RequestHead, peer: Peer) -> Page {
        let own = if problem.wants_list() {
            self.servers.list().await.unwrap_or_default()
        } else {
            Vec::new()
        };
        let answer = problem.answer(&own);
        let (status, error) = (answer.status.as_u16(), &problem as &dyn std::error::Error);
        if matches!(problem, Problem::Unauthorised) {
            // Strangers do not fill the home: what they say is not written down, nor each time.
            if let Some(times) = self.strangers.note(self.started.elapsed()) {
                tracing::debug!(%peer, status, error, times, "refused");
            }
        } else {
            let (method, path) = shown(head);
            tracing::debug!(%peer, method, path, status, error, "refused");
        }
        let reader = Reader::of(head.fields.all(Name::Accept));
        whole(match reader {
            Reader::Person if problem.may_heal() && head.method() == b"GET" => {
                answer.into_waiting_page()
            }
            _ => answer.into_response(reader),
        })
    }
}

impl Service for Proxy {
    type Target = Target;
    type View = Seen;
    type DialError = DialError;
    type Call = Infallible;

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
                    let (method, path) = shown(head);
                    let status = page.status().as_u16();
                    // Managers ask for proofs every few seconds.
                    if path.starts_with("/_hpc-proxy/proof/") {
                        tracing::trace!(%peer, status, "proved");
                    } else {
                        tracing::debug!(%peer, method, path, status, "answered");
                    }
                }
                decision
            }
            Err(problem) => Decision::Answer(self.refuse(problem, head, peer).await),
        }
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

    async fn dial(&self, target: &Target) -> Result<(Target, Socket), DialError> {
        self.loopback.dial(target).await
    }

    fn transform(&self, seen: &Seen, answer: &mut ResponseHead) -> Option<Box<Transform>> {
        let asked = seen.asked.as_ref()?;
        asked.transform(&|| seen.view().prefixer_of_pages(), answer)
    }

    fn edit(&self, seen: &Seen, fields: &mut Fields) {
        seen.view().rewrite(fields);
    }

    async fn explain(&self, fault: Fault<DialError>, head: &RequestHead, peer: Peer) -> Page {
        self.refuse(fault.into(), head, peer).await
    }

    fn answered(&self, head: &RequestHead, peer: Peer, target: &Target, status: u16) {
        self.metrics.answered(status);
        let (method, path) = shown(head);
        tracing::debug!(%peer, method, %target, path, status, "answered");
    }
}

/// Whether a page of another origin than the one that it asks makes this request, as far as the
/// browser says (S14). Where ports have hosts of their own, each is home to the others.
fn is_foreign(fields: &Fields, own_host: Option<TargetPort>) -> bool {
    let host = fields.get(Name::Host).unwrap_or_default();
    let siblings = own_host.and_then(|port| Siblings::of(host, port));
    fields.all(Name::Origin).any(|origin| {
        let named = origin
            .strip_prefix(b"http://")
            .or_else(|| origin.strip_prefix(b"https://"));
        let is_sibling = |named| siblings.as_ref().is_some_and(|all| all.has(named));
        !named.is_some_and(|named| {
            is_host(named) && (named.eq_ignore_ascii_case(host) || is_sibling(named))
        })
    })
}

fn whole(page: Response<Bytes>) -> Page {
    page.map(PageBody::Whole)
}

/// The script that a rewritten page begins with.
fn shim(file: &[u8], fields: &Fields) -> Result<Page, Problem> {
    let name = file.split(|byte| *byte == b'?').next().unwrap_or_default();
    let caching = if name == markup::shim_name().as_bytes() {
        "public, max-age=31536000, immutable"
    } else if name.starts_with(b"shim-") {
        // A page of an older version that a browser kept.
        "no-store"
    } else {
        return Err(Problem::Route(RouteError::NoSuchPath));
    };
    let (body, packed) = markup::shim_for(fields);
    let mut response = Response::new(PageBody::Whole(body));
    if packed {
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
    for (name, value) in [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CACHE_CONTROL, caching),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (VARY, "accept-encoding"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// To `N/`, relative to `/port/N`, so that it holds behind any outer prefix too.
fn redirect_to_slash(to: To<'_>, query: &str) -> Page {
    let path = to.to_string();
    let segment = path.rsplit('/').next().unwrap_or_default();
    redirect(
        StatusCode::PERMANENT_REDIRECT,
        &format!("{segment}/{query}"),
    )
}

fn redirect(status: StatusCode, to: &str) -> Page {
    let mut response = Response::new(PageBody::Whole(Bytes::new()));
    *response.status_mut() = status;
    let to = HeaderValue::try_from(to).expect("parts of a valid target");
    response.headers_mut().insert(LOCATION, to);
    response
}
