//! The proxy itself: decides who asks for what, and forwards.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{HOST, LOCATION, SET_COOKIE},
    uri::{PathAndQuery, Scheme},
};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{self, Body},
    answer::{Problem, Reader, json},
    auth::{self, Nonce, TOKEN_HEADER, Token},
    forward::Forwarder,
    headers::{
        self, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PREFIX, X_FORWARDED_PROTO, cookie,
    },
    link::Redeemed,
    ports::{self, Listening},
    rewrite::{Prefix, View},
    route::{self, Route, TargetPort},
    upgrade::Pipes,
    upstream::{Loopback, owner::Owners},
};

/// The cookie of a browser that came by a link: not for scripts, and not for requests that
/// another site makes.
const COOKIE_ATTRIBUTES: &str = "HttpOnly; SameSite=Lax; Path=/";

/// What a running proxy knows of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user whose servers it forwards to.
    pub uid: u32,
    /// Where it listens.
    pub port: u16,
    /// This start of it; see [`auth::random_instance`].
    pub instance: String,
    /// The Slurm job it runs in.
    pub job: Option<String>,
}

/// Who must show what to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever knows the token.
    Token,
    /// Anybody who can connect.
    Anyone,
}

/// Serves `listener` until `stop`, then lets what is under way end within `grace`. `token` is what
/// the proxy proves itself by, whatever `access` asks of others.
pub async fn serve(
    listener: TcpListener,
    identity: Identity,
    token: Token,
    access: Access,
    stop: CancellationToken,
    grace: Duration,
) {
    let owners = Owners::probe();
    let pipes = Pipes::default();
    let proxy = Arc::new(Proxy {
        forwarder: Forwarder::new(Loopback::new(owners.clone(), identity.uid), pipes.clone()),
        loopback: Loopback::new(owners.clone(), identity.uid),
        owners,
        redeemed: Redeemed::default(),
        identity,
        token,
        access,
    });
    let answer = move |request, peer| {
        let proxy = Arc::clone(&proxy);
        async move { proxy.respond(request, peer).await }
    };
    let requests = accept::serve(listener, answer, stop.clone(), grace);
    let stopped_at = async {
        stop.cancelled().await;
        Instant::now()
    };
    let (requests, stopped_at) = tokio::join!(requests, stopped_at);
    // Last, since a connection that just ended may have become a pipe.
    let pipes = pipes
        .drain(grace.saturating_sub(stopped_at.elapsed()))
        .await;
    if requests > 0 || pipes > 0 {
        tracing::warn!(
            requests,
            pipes,
            "cut what did not end within the grace period"
        );
    }
}

struct Proxy {
    identity: Identity,
    token: Token,
    access: Access,
    owners: Owners,
    loopback: Loopback,
    forwarder: Forwarder<Loopback, Incoming>,
    redeemed: Redeemed,
}

/// Who asks. Only a manager's statements about earlier hops are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Manager,
    Browser,
    Anyone,
}

impl Proxy {
    async fn respond(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let reader = Reader::of(request.headers());
        let is_head = request.method() == Method::HEAD;
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        match self.route(request, peer).await {
            Ok(response) => {
                let status = response.status().as_u16();
                // Managers ask for proofs every few seconds.
                if path.starts_with("/_hpc-proxy/proof/") {
                    tracing::trace!(%peer, status, "proved");
                } else {
                    tracing::debug!(%peer, %method, path, status, "answered");
                }
                response
            }
            Err(problem) => {
                let own = match problem {
                    Problem::Dial(_) | Problem::OwnPort(_) => {
                        self.servers().await.unwrap_or_default()
                    }
                    _ => Vec::new(),
                };
                let answer = problem.answer(&own);
                let error = &problem as &dyn std::error::Error;
                tracing::debug!(%peer, %method, path, status = answer.status.as_u16(), error, "refused");
                let mut response = answer.into_response(reader);
                if is_head {
                    *response.body_mut() = Full::default();
                }
                response.map(Either::Right)
            }
        }
    }

    /// Authentication comes before everything that depends on the target, so that a stranger
    /// learns nothing about routes or ports.
    async fn route(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response<Body>, Problem> {
        let target = request.uri().path_and_query().cloned();
        let route = target
            .as_ref()
            .ok_or(Problem::Route(route::RouteError::Malformed))
            .and_then(|target| Ok(route::parse(target.as_str().as_bytes())?));
        if let Ok(Route::Own(page)) = &route
            && let Some(response) = self.open_page(page, &request)?
        {
            return Ok(response.map(Either::Right));
        }
        let caller = self.caller(request.headers())?;
        if [Method::CONNECT, Method::TRACE].contains(request.method()) {
            return Err(Problem::Method);
        }
        let route = route?;
        let Some((port, rest)) = route.forwarded() else {
            return self
                .own_page(&route, request.method())
                .await
                .map(|page| page.map(Either::Right));
        };
        if port.get() == self.identity.port {
            return Err(Problem::OwnPort(port));
        }
        let is_read = [Method::GET, Method::HEAD].contains(request.method());
        if let Route::Bare(port, query) = route
            && is_read
            && !headers::asks_for_websocket(&request)
        {
            return Ok(redirect_to_slash(port, query).map(Either::Right));
        }
        self.forward(request, peer, caller, port, &rest).await
    }

    /// The two pages for those who have no token yet.
    fn open_page(
        &self,
        page: &str,
        request: &Request<Incoming>,
    ) -> Result<Option<Response<Full<Bytes>>>, Problem> {
        let token = &self.token;
        if request.method() != Method::GET {
            return Ok(None);
        }
        if let Some(nonce) = page
            .strip_prefix("proof/")
            .and_then(|hex| Nonce::parse(hex.as_bytes()))
        {
            let proof = token.prove(&nonce, &self.identity.instance, self.identity.port);
            return Ok(Some(json(
                &serde_json::to_value(proof).expect("two strings"),
            )));
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
        let cookie = format!(
            "{}={}; {COOKIE_ATTRIBUTES}",
            auth::COOKIE,
            token.cookie_value()
        );
        let cookie = HeaderValue::try_from(cookie).expect("hexadecimal and attributes");
        response.headers_mut().insert(SET_COOKIE, cookie);
        Ok(Some(response))
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let token = &self.token;
        let mut claims = headers.get_all(TOKEN_HEADER).iter();
        match (claims.next(), claims.next()) {
            (Some(claim), None) if token.matches(claim.as_bytes()) => Ok(Caller::Manager),
            (None, _)
                if cookie(headers, auth::COOKIE)
                    .is_some_and(|claim| token.matches_cookie(claim)) =>
            {
                Ok(Caller::Browser)
            }
            _ if self.access == Access::Anyone => Ok(Caller::Anyone),
            _ => Err(Problem::Unauthorised),
        }
    }

    async fn own_page(
        &self,
        route: &Route<'_>,
        method: &Method,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let no_such_path = Problem::Route(route::RouteError::NoSuchPath);
        if ![Method::GET, Method::HEAD].contains(method) {
            return Err(Problem::Method);
        }
        let mut response = match route {
            Route::Index => ports::index(&self.servers().await?),
            Route::Own("ports") => json(&serde_json::json!({ "ports": self.servers().await? })),
            Route::Own(_) | Route::Port(..) | Route::Bare(..) => return Err(no_such_path),
        };
        if method == Method::HEAD {
            *response.body_mut() = Full::default();
        }
        Ok(response)
    }

    async fn servers(&self) -> Result<Vec<Listening>, Problem> {
        let Identity { uid, port, job, .. } = &self.identity;
        ports::list(&self.owners, *uid, *port, job.as_deref())
            .await
            .map_err(|source| {
                let port = TargetPort::new(*port).expect("a bound port is not 0");
                crate::upstream::DialError::OwnerUnknown { port, source }.into()
            })
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        peer: IpAddr,
        caller: Caller,
        port: TargetPort,
        rest: &str,
    ) -> Result<Response<Body>, Problem> {
        let target = self.loopback.choose(port).await?;
        let rest = PathAndQuery::try_from(rest).map_err(|_| route::RouteError::Malformed)?;
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(target.authority());
        *request.uri_mut() = uri
            .path_and_query(rest)
            .build()
            .expect("all three parts are given");

        let hop = Hop::describe(request.headers(), peer, caller, port);
        let headers = request.headers_mut();
        headers::strip_cookie(headers, auth::COOKIE);
        // The token goes with these: its name begins as theirs do.
        headers::strip_forwarded(headers);
        hop.state(headers);
        let host = HeaderValue::try_from(target.host()).expect("a name and a number");
        headers.insert(HOST, host);

        let mut response = self.forwarder.forward(request).await?;
        View {
            prefix: &hop.prefix,
            port,
            public_host: hop.host.as_ref().and_then(|host| host.to_str().ok()),
            reserved_cookies: &[auth::COOKIE],
        }
        .rewrite(response.headers_mut());
        Ok(response.map(Either::Left))
    }
}

/// What a dev server is told about the way that a request came.
struct Hop {
    prefix: Prefix,
    host: Option<HeaderValue>,
    scheme: HeaderValue,
    chain: HeaderValue,
}

impl Hop {
    /// A manager's statements are taken where there is exactly one of each (S16); otherwise it is
    /// as this hop itself saw it.
    fn describe(headers: &HeaderMap, peer: IpAddr, caller: Caller, port: TargetPort) -> Self {
        let stated = |name| {
            let mut values = headers
                .get_all(name)
                .iter()
                .filter(|_| caller == Caller::Manager);
            values.next().filter(|_| values.next().is_none()).cloned()
        };
        let prefix = stated(X_FORWARDED_PREFIX)
            .and_then(|value| Prefix::parse(value.to_str().ok()?))
            .unwrap_or_else(|| Prefix::of(port));
        let peer = peer.to_string();
        let chain = stated(X_FORWARDED_FOR)
            .and_then(|chain| Some(format!("{}, {peer}", chain.to_str().ok()?)))
            .unwrap_or(peer);
        Self {
            prefix,
            host: stated(X_FORWARDED_HOST).or_else(|| headers.get(HOST).cloned()),
            scheme: stated(X_FORWARDED_PROTO).unwrap_or(HeaderValue::from_static("http")),
            chain: HeaderValue::try_from(chain).expect("field text and an address"),
        }
    }

    fn state(&self, headers: &mut HeaderMap) {
        let prefix = HeaderValue::try_from(self.prefix.as_str()).expect("a prefix is plain");
        headers.insert(X_FORWARDED_PREFIX, prefix);
        if let Some(host) = &self.host {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
        headers.insert(X_FORWARDED_PROTO, self.scheme.clone());
        headers.insert(X_FORWARDED_FOR, self.chain.clone());
    }
}

/// To `N/`, relative to `/port/N`, so that it holds behind any outer prefix too.
fn redirect_to_slash(port: TargetPort, query: &str) -> Response<Full<Bytes>> {
    redirect(StatusCode::PERMANENT_REDIRECT, &format!("{port}/{query}"))
}

fn redirect(status: StatusCode, to: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    let to = HeaderValue::try_from(to).expect("parts of a valid target");
    response.headers_mut().insert(LOCATION, to);
    response
}
