//! A whole manager but for its ssh: raw clients, and a raw peer in place of a session's proxy.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::time::timeout;

use hpc_proxy::{
    accept,
    auth::{Nonce, Token},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    auth::{
        Ways, access_token::AccessToken, header::TrustedHeader, marks::Marks, mint, tokens::Tokens,
    },
    cluster::Ssh,
    ide::Ides,
    job::Resources,
    lease::Lease,
    local_end::{Address, Identity, LocalEnd},
    session::{Phase, driver::View},
    sessions::Terms,
    store::Store,
    token_command,
    transport::Transport,
    wish::Limits,
};

#[test]
fn a_root_is_a_whole_segment() {
    assert!(is_below("/port", "/port") && is_below("/port/5500/x", "/port"));
    assert!(!is_below("/portal", "/port") && !is_below("/", "/port"));
}

/// A manager with a connected session of alice's.
struct Front {
    address: SocketAddr,
    cookie: String,
    view: watch::Sender<View>,
    stop: CancellationToken,
    router: Router,
    _directory: tempfile::TempDir,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn alice() -> UserName {
    "alice".parse().unwrap()
}

fn identity() -> Identity {
    Identity {
        instance: "ab".into(),
        port: 40123,
        token: Token::parse("ab".repeat(32).as_bytes()).unwrap(),
    }
}

/// The view of a session that is connected through `address`.
fn connected(address: SocketAddr) -> View {
    let lease = Arc::new(Lease::example("node01".parse().unwrap(), identity()));
    let local_end = LocalEnd::new(Address::Tcp(address.port()), identity());
    View {
        phase: Phase::Connected {
            job: "7".parse().unwrap(),
            lease: Arc::clone(&lease),
        },
        upstream: Some(Upstream::new(local_end, lease, Arc::default())),
        ..View::of_new()
    }
}

impl Front {
    async fn of(proxy: SocketAddr) -> Self {
        Self::with(proxy, Ways::links()).await
    }

    /// The same with other ways to be known, too.
    async fn with(proxy: SocketAddr, ways: Ways) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let login = Ssh {
            user: alice(),
            cluster: None,
            login: "alice@login".parse().unwrap(),
            config: None,
            key: None,
            transport: Transport::Login,
            hpc_proxy: "hpc-proxy".into(),
            squeue: None,
        };
        let terms = Terms {
            ides: Ides::example(&[]),
            resources: Resources::plain("1:00:00".parse().unwrap()),
            limits: Limits::default(),
            max_sessions: 4,
            idle_timeout: None,
        };
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let sessions =
            Sessions::new(vec![login], terms, directory.path(), 0, Arc::clone(&store)).unwrap();
        let (view, seen) = watch::channel(connected(proxy));
        sessions.put(&alice(), seen);
        let key = Token::random().unwrap();
        let marks = Marks::of(&store).unwrap();
        let domain = "apps.example.org".parse().unwrap();
        let signed_in = SignedIn::new(key.clone(), ways, marks.clone(), Arc::clone(&store));
        let signed_in = Arc::new(signed_in);
        let code = mint(&key, &alice(), SystemTime::now()).unwrap();
        let (_, secret) = signed_in.sign_in(&code, SystemTime::now()).unwrap();
        let router = Router {
            sessions: Arc::new(sessions),
            signed_in,
            hosts: Vec::new(),
            front: crate::front::Front::plain("localhost".into()),
            port_hosts: Some(Arc::new(PortHosts::new(domain, key, marks, store))),
            streams: Streams::default(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let terms = accept::Terms {
            max_connections: 16,
            grace: std::time::Duration::ZERO,
        };
        let (listeners, stopped) = (vec![listener.into()], stop.clone());
        let served = router.clone();
        tokio::spawn(async move {
            accept::serve(listeners, served, Arc::default(), &terms, stopped).await;
        });
        Self {
            address,
            cookie: format!("hpc_manager={secret}"),
            view,
            stop,
            router,
            _directory: directory,
        }
    }

    /// What comes back for a request of alice's browser, up to the end of the connection.
    async fn sends(&self, start: &str, fields: &str, body: &str) -> String {
        let cookie = format!("a=1; {}", self.cookie);
        self.sends_to("localhost", &cookie, start, fields, body)
            .await
    }

    /// The same for a browser that holds `cookie` at `host`.
    async fn sends_to(
        &self,
        host: &str,
        cookie: &str,
        start: &str,
        fields: &str,
        body: &str,
    ) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{start} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\
             {fields}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answered = String::new();
        stream.read_to_string(&mut answered).await.unwrap();
        answered
    }
}

/// A peer that knows `token`: proves itself on each connection, answers every request on it with
/// `answer`, and tells what it was asked, after the number of the connection.
async fn peer(token: Token, answer: &'static str) -> (SocketAddr, mpsc::Receiver<(u32, String)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = mpsc::channel(16);
    tokio::spawn(async move {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (tell, token) = (tell.clone(), token.clone());
            tokio::spawn(async move {
                while let Some(request) = head(&mut stream).await {
                    let answer = match request.strip_prefix("GET /_hpc-proxy/proof/") {
                        Some(rest) => proof(&token, rest.split(' ').next().unwrap()),
                        None => answer.to_owned(),
                    };
                    tell.send((number, request)).await.unwrap();
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (address, asked)
}

fn proof(token: &Token, nonce: &str) -> String {
    let Identity { instance, port, .. } = identity();
    let nonce = Nonce::parse(nonce.as_bytes()).unwrap();
    let body = serde_json::to_string(&token.prove(&nonce, &instance, port)).unwrap();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What comes up to an empty line, or up to the end if that is more than nothing.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => received.push(byte[0]),
            _ => break,
        }
    }
    (!received.is_empty()).then(|| String::from_utf8(received).unwrap())
}

/// What was asked so far, without the questions for proofs.
fn requests(asked: &mut mpsc::Receiver<(u32, String)>) -> Vec<(u32, String)> {
    let all = std::iter::from_fn(|| asked.try_recv().ok());
    all.filter(|(_, request)| !request.starts_with("GET /_hpc-proxy/proof/"))
        .collect()
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// S12 and S16.
#[tokio::test]
async fn a_request_goes_to_the_sessions_proxy_with_what_is_known() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    let claims = "X-Forwarded-For: 6.6.6.6\r\nx-hpc-manager: 1\r\nX-Kept: b\r\n";
    let answered = front.sends("GET /code/a%2Fb?x=%20", claims, "").await;
    assert!(answered.ends_with("\r\n\r\nok"), "{answered}");
    let (_, request) = requests(&mut asked).pop().unwrap();
    let token = identity().token.reveal();
    assert_eq!(
        request.replace(&token, "TOKEN"),
        "GET /port/34567/a%2Fb?x=%20 HTTP/1.1\r\n\
         Host: localhost\r\n\
         Cookie: a=1\r\n\
         X-Kept: b\r\n\
         X-Forwarded-Host: localhost\r\n\
         X-Forwarded-For: 127.0.0.1\r\n\
         X-Forwarded-Proto: http\r\n\
         X-Forwarded-Prefix: /code\r\n\
         X-Hpc-Proxy-Token: TOKEN\r\n\r\n"
    );
}

// Behaviours 81 and 83, S12.
#[tokio::test]
async fn hints_and_trailers_come_back_and_our_own_cookie_does_not() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\
        Set-Cookie: hpc_manager=x\r\nSet-Cookie: b=2\r\n\r\n\
        2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n";
    let (proxy, _asked) = peer(identity().token, answer).await;
    let front = Front::of(proxy).await;
    let answered = front.sends("GET /port/5500/", "TE: trailers\r\n", "").await;
    assert!(answered.starts_with("HTTP/1.1 103 "), "{answered}");
    assert!(
        answered.ends_with("2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"),
        "{answered}"
    );
    assert!(answered.contains("Set-Cookie: b=2"), "{answered}");
    assert!(!answered.contains("hpc_manager"), "{answered}");
}

// S7.
#[tokio::test]
async fn an_impostor_is_sent_nothing_of_a_request() {
    let (proxy, mut asked) = peer(Token::random().unwrap(), OK).await;
    let front = Front::of(proxy).await;
    let fields = "Content-Length: 6\r\n";
    let answered = front.sends("POST /port/5500/x", fields, "secret").await;
    assert!(answered.starts_with("HTTP/1.1 502 "), "{answered}");
    assert!(answered.contains("\"impostor\""), "{answered}");
    let (_, question) = asked.recv().await.unwrap();
    assert!(question.starts_with("GET /_hpc-proxy/proof/"), "{question}");
    assert!(asked.try_recv().is_err());
}

// S17.
#[tokio::test]
async fn a_connection_is_used_again_within_its_tunnel_only() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    for _ in 0..2 {
        front.sends("GET /port/5500/", "", "").await;
    }
    // To the same place, by the same names.
    front.view.send_replace(connected(proxy));
    front.sends("GET /port/5500/", "", "").await;
    let connections: Vec<_> = requests(&mut asked).iter().map(|(n, _)| *n).collect();
    assert_eq!(connections, [1, 1, 2]);
}

#[tokio::test]
async fn a_session_that_is_not_connected_is_waited_for() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    front.view.send_replace(View::of_new());
    let answered = front
        .sends("GET /port/5500/", "Accept: text/html\r\n", "")
        .await;
    assert!(answered.starts_with("HTTP/1.1 503 "), "{answered}");
    for field in ["\r\nretry-after: 2\r\n", "\r\nx-hpc-proxy-waiting: 1\r\n"] {
        assert!(answered.contains(field), "{answered}");
    }
    assert!(asked.try_recv().is_err());
}

const PAGE: &str = "Accept: text/html\r\n";
const OWN_HOST: &str = "5500--7.apps.example.org";

/// Where an answer sends its browser, which must be below `origin`.
fn sent_on(answered: &str, origin: &str) -> String {
    assert!(answered.starts_with("HTTP/1.1 303 "), "{answered}");
    let to = answered.split_once("\r\nlocation: ").unwrap().1;
    let to = to.split_once("\r\n").unwrap().0;
    let below = to.strip_prefix(origin).and_then(|to| to.strip_prefix('/'));
    format!("GET /{}", below.expect(to))
}

/// What alice's browser holds at the host of port 5500, and the request by which it got there.
async fn handed_over(front: &Front, target: &str) -> (String, String) {
    let first = front
        .sends_to(OWN_HOST, "a=1", &format!("GET {target}"), PAGE, "")
        .await;
    let open = sent_on(&first, "http://localhost");
    let enter = sent_on(
        &front.sends(&open, PAGE, "").await,
        &format!("http://{OWN_HOST}"),
    );
    let entered = front.sends_to(OWN_HOST, "a=1", &enter, PAGE, "").await;
    let onward = sent_on(&entered, &format!("//{OWN_HOST}"));
    assert_eq!(onward, format!("GET {target}"));
    let cookie = entered.split_once("\r\nset-cookie: ").unwrap().1;
    let (cookie, attributes) = cookie.split_once(';').unwrap();
    assert!(
        attributes.starts_with(" HttpOnly; SameSite=Lax; Path=/\r\n"),
        "{entered}"
    );
    (cookie.to_owned(), enter)
}

// S12 and S16.
#[tokio::test]
async fn a_browser_is_handed_over_to_a_host_of_a_port() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    let (cookie, _) = handed_over(&front, "//a%2Fb?x=%20").await;
    assert!(requests(&mut asked).is_empty());
    let cookie = format!("a=1; {cookie}");
    let answered = front
        .sends_to(OWN_HOST, &cookie, "GET //a%2Fb?x=%20", "", "")
        .await;
    assert!(answered.ends_with("\r\n\r\nok"), "{answered}");
    let (_, request) = requests(&mut asked).pop().unwrap();
    let token = identity().token.reveal();
    assert_eq!(
        request.replace(&token, "TOKEN"),
        "GET /port/5500//a%2Fb?x=%20 HTTP/1.1\r\n\
         Host: 5500--7.apps.example.org\r\n\
         Cookie: a=1\r\n\
         X-Forwarded-Host: 5500--7.apps.example.org\r\n\
         X-Forwarded-For: 127.0.0.1\r\n\
         X-Forwarded-Proto: http\r\n\
         X-Forwarded-Prefix: /\r\n\
         X-Hpc-Proxy-Token: TOKEN\r\n\r\n"
    );
}

#[tokio::test]
async fn a_ticket_works_once_and_for_its_host_only() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    let (_, used) = handed_over(&front, "/").await;
    let open = "GET /_hpc-proxy/open?name=5500--7&to=/";
    let opened = front.sends(open, PAGE, "").await;
    let fresh = sent_on(&opened, &format!("http://{OWN_HOST}"));
    let other = "5501--7.apps.example.org";
    for (host, enter) in [(OWN_HOST, &used), (other, &fresh)] {
        let refused = front.sends_to(host, "a=1", enter, PAGE, "").await;
        assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
        assert!(!refused.contains("set-cookie"), "{refused}");
    }
    let entered = front.sends_to(OWN_HOST, "a=1", &fresh, PAGE, "").await;
    assert!(entered.contains("set-cookie"), "{entered}");
    assert!(requests(&mut asked).is_empty());
}

// S32: whether another's session or none, the answer is the same.
#[tokio::test]
async fn no_ticket_leads_to_another_session() {
    let (proxy, _asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    for name in ["5500--8", "5500--0", "5500", "5500--7-7"] {
        let open = format!("GET /_hpc-proxy/open?name={name}&to=/");
        let refused = front.sends(&open, "", "").await;
        assert!(refused.starts_with("HTTP/1.1 403 "), "{name}: {refused}");
        assert!(refused.contains("\"not-your-session\""), "{refused}");
    }
    for query in [
        "",
        "?",
        "?name=5500--7",
        "?name=5500--7&to=x",
        "?name=x&to=/",
    ] {
        let open = format!("GET /_hpc-proxy/open{query}");
        let refused = front.sends(&open, "", "").await;
        assert!(refused.starts_with("HTTP/1.1 404 "), "{query}: {refused}");
    }
}

#[tokio::test]
async fn a_cookie_opens_its_own_host_and_nothing_else() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    let (there, _) = handed_over(&front, "/").await;
    for (host, cookie, start) in [
        // The manager's own cookie, wherever it came from.
        (OWN_HOST, &front.cookie, "GET /"),
        ("localhost", &there, "GET /"),
        ("localhost", &there, "GET /port/5500/"),
        ("localhost", &there, "GET /api/v1/session"),
        (
            "localhost",
            &there,
            "GET /_hpc-proxy/open?name=5500--7&to=/",
        ),
        ("5501--7.apps.example.org", &there, "GET /"),
        ("5500--8.apps.example.org", &there, "GET /"),
    ] {
        let refused = front.sends_to(host, cookie, start, "", "").await;
        assert!(
            refused.starts_with("HTTP/1.1 401 "),
            "{host} {start}: {refused}"
        );
    }
    for host in ["5500.apps.example.org", "apps.example.org", "x.localhost"] {
        let refused = front.sends_to(host, &there, "GET /", "", "").await;
        assert!(refused.starts_with("HTTP/1.1 421 "), "{host}: {refused}");
    }
    // What belongs to the proxy is nobody's path there.
    let own = front
        .sends_to(OWN_HOST, &there, "GET /_hpc-proxy/ports", "", "")
        .await;
    assert!(own.starts_with("HTTP/1.1 404 "), "{own}");
    assert!(requests(&mut asked).is_empty());
}

// S14.
#[tokio::test]
async fn another_site_connects_to_no_host_of_a_port() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    let (cookie, _) = handed_over(&front, "/").await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (start, more) in [("GET /ws", upgrade), ("POST /", "Content-Length: 0\r\n")] {
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost",
            "http://5500--8.apps.example.org",
            "http://5500--7.apps.example.org:1",
        ] {
            let fields = format!("{more}Origin: {origin}\r\n");
            let refused = front.sends_to(OWN_HOST, &cookie, start, &fields, "").await;
            assert!(
                refused.starts_with("HTTP/1.1 403 "),
                "{start} {origin}: {refused}"
            );
        }
    }
    assert!(requests(&mut asked).is_empty());
    for origin in [OWN_HOST, "8000--7.apps.example.org"] {
        let fields = format!("Content-Length: 0\r\nOrigin: http://{origin}\r\n");
        let answered = front
            .sends_to(OWN_HOST, &cookie, "POST /", &fields, "")
            .await;
        assert!(answered.ends_with("\r\n\r\nok"), "{origin}: {answered}");
    }
}

#[tokio::test]
async fn only_a_person_is_sent_to_sign_in() {
    let (proxy, _asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    for (start, fields) in [
        ("GET /", "Accept: */*\r\n"),
        ("GET /", "Accept: text/html\r\nSec-Fetch-Mode: no-cors\r\n"),
        ("POST /", "Accept: text/html\r\nContent-Length: 0\r\n"),
    ] {
        let refused = front.sends_to(OWN_HOST, "a=1", start, fields, "").await;
        assert!(refused.starts_with("HTTP/1.1 401 "), "{start}: {refused}");
    }
}

// Behaviour 29.
#[tokio::test]
async fn a_path_that_a_server_knows_itself_goes_on_whole() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    front.sends("GET /absport/8000/a?b", "", "").await;
    let (_, request) = requests(&mut asked).pop().unwrap();
    assert!(request.starts_with("GET /absport/8000/a?b HTTP/1.1\r\n"));
    assert!(!request.contains("X-Forwarded-Prefix"), "{request}");
}

#[tokio::test]
async fn a_page_asks_for_another_port_through_its_own_host() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    let (cookie, _) = handed_over(&front, "/").await;
    let start = "GET /_hpc-proxy/port/35729/livereload.js?a";
    front.sends_to(OWN_HOST, &cookie, start, "", "").await;
    let (_, request) = requests(&mut asked).pop().unwrap();
    assert!(
        request.starts_with("GET /port/35729/livereload.js?a HTTP/1.1\r\n"),
        "{request}"
    );
    for stated in [
        "X-Forwarded-Host: 5500--7.apps.example.org",
        "X-Forwarded-Prefix: /_hpc-proxy/port/35729",
    ] {
        assert!(request.contains(&format!("\r\n{stated}\r\n")), "{request}");
    }
}

/// Links, and a front on this machine.
fn with_a_front() -> Ways {
    let from = vec!["127.0.0.1".parse().unwrap()];
    Ways {
        header: Some(TrustedHeader::new("Remote-User", from).unwrap()),
        ..Ways::links()
    }
}

/// Links, and a token of alice's.
fn with_a_token(directory: &std::path::Path) -> (Ways, AccessToken) {
    let file = directory.join("tokens.toml");
    let now = jiff::Timestamp::now();
    let token = token_command::add(&file, "laptop".parse().unwrap(), alice(), 1, now).unwrap();
    let tokens = Some(Arc::new(Tokens::open(&file).unwrap()));
    let ways = Ways {
        tokens,
        ..Ways::links()
    };
    (ways, token)
}

// S3 and S16.
#[tokio::test]
async fn nothing_that_says_who_it_is_reaches_a_dev_server() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let directory = tempfile::tempdir().unwrap();
    let (tokens, token) = with_a_token(directory.path());
    let ways = Ways {
        tokens: tokens.tokens,
        ..with_a_front()
    };
    let front = Front::with(proxy, ways).await;
    let ours = token.reveal();
    let hosts = ["localhost", OWN_HOST];
    let claims = [
        format!("Authorization: Bearer {ours}\r\n"),
        format!("Authorization: bearer\t{ours}\r\nAuthorization: Basic x\r\n"),
        format!("Remote-User: alice\r\nAuthorization: Bearer {ours}\r\n"),
        "remote-user: alice\r\n".to_owned(),
    ];
    for (host, path) in hosts.into_iter().zip(["/port/5500/", "/"]) {
        for claim in &claims {
            let start = format!("GET {path}");
            let answered = front.sends_to(host, "a=1", &start, claim, "").await;
            assert!(
                answered.ends_with("\r\n\r\nok"),
                "{host} {claim}: {answered}"
            );
            assert!(
                !answered.to_lowercase().contains("set-cookie"),
                "{answered}"
            );
            let (_, request) = requests(&mut asked).pop().unwrap();
            let sent = request.to_lowercase();
            assert!(
                !sent.contains("hpcm_") && !sent.contains("remote-user"),
                "{request}"
            );
            assert_eq!(
                sent.contains("authorization: basic x"),
                claim.contains("Basic")
            );
        }
    }
    // What a dev server wants to know is its own business.
    let theirs = "Authorization: Bearer eyJhbGciOi\r\n";
    front.sends("GET /port/5500/", theirs, "").await;
    let (_, request) = requests(&mut asked).pop().unwrap();
    assert!(request.contains(theirs), "{request}");
}

#[tokio::test]
async fn a_front_is_believed_over_a_cookie() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::with(proxy, with_a_front()).await;
    let (cookie, _) = handed_over(&front, "/").await;
    let bob = "Remote-User: bob\r\n";
    for (host, cookie) in [("localhost", &front.cookie), (OWN_HOST, &cookie)] {
        let refused = front
            .sends_to(host, cookie, "GET /port/5500/", bob, "")
            .await;
        assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
        assert!(refused.contains("\"unknown-user\""), "{refused}");
    }
    assert!(requests(&mut asked).is_empty());
}

#[tokio::test]
async fn whoever_signs_out_is_known_nowhere() {
    let (proxy, mut asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    let (cookie, _) = handed_over(&front, "/").await;
    let opens = async || front.sends_to(OWN_HOST, &cookie, "GET /", "", "").await;
    assert!(opens().await.ends_with("\r\n\r\nok"));
    let open = "GET /_hpc-proxy/open?name=5500--7&to=/";
    let opened = front.sends(open, PAGE, "").await;
    let enter = sent_on(&opened, &format!("http://{OWN_HOST}"));
    let window = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let page = front.sends("GET /logout", window, "").await;
    let (_, key) = page.split_once("name=\"page\" value=\"").unwrap();
    let form = format!("page={}", key.split_once('"').unwrap().0);
    let fields = format!(
        "Origin: http://localhost\r\nContent-Length: {}\r\n",
        form.len()
    );
    let out = front.sends("POST /logout", &fields, &form).await;
    assert!(out.contains("set-cookie: hpc_manager=; "), "{out}");
    requests(&mut asked);
    assert!(opens().await.starts_with("HTTP/1.1 401 "));
    // Nor by a ticket that was on its way.
    let entered = front.sends_to(OWN_HOST, "a=1", &enter, PAGE, "").await;
    let late = entered.split_once("\r\nset-cookie: ").unwrap().1;
    let late = late.split_once(';').unwrap().0;
    let refused = front.sends_to(OWN_HOST, late, "GET /", "", "").await;
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    assert!(requests(&mut asked).is_empty());
}

// It would be sent to the dev server.
#[tokio::test]
async fn nobody_is_asked_for_a_token_at_the_host_of_a_port() {
    let (proxy, _asked) = peer(identity().token, OK).await;
    let directory = tempfile::tempdir().unwrap();
    let front = Front::with(proxy, with_a_token(directory.path()).0).await;
    let asks = async |host, fields| front.sends_to(host, "a=1", "POST /x", fields, "").await;
    assert!(asks("localhost", PAGE).await.contains("<form"));
    let bearer = format!("{PAGE}Authorization: Bearer hpcm_x\r\n");
    for fields in [PAGE, &bearer] {
        let refused = asks(OWN_HOST, fields).await;
        assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
        assert!(!refused.contains("<form"), "{refused}");
    }
}

#[tokio::test]
async fn a_token_gets_no_cookie_of_a_port_that_would_outlive_it() {
    let (proxy, _asked) = peer(identity().token, OK).await;
    let directory = tempfile::tempdir().unwrap();
    let (ways, token) = with_a_token(directory.path());
    let front = Front::with(proxy, ways).await;
    let bearer = format!("Authorization: Bearer {}\r\n", token.reveal());
    let open = "GET /_hpc-proxy/open?name=5500--7&to=/";
    let refused = front.sends_to("localhost", "a=1", open, &bearer, "").await;
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
}

/// The status of a call by a socket of the manager's, whose owner has another user's number by `off`.
async fn called_at_a_desk(off: u32, fields: &str, path: &str) -> String {
    let front = Front::of(nobody().await).await;
    let directory = tempfile::tempdir().unwrap();
    let path_of = directory.path().join(desk::SOCKET);
    let listener = tokio::net::UnixListener::bind(&path_of).unwrap();
    let own = rustix::process::geteuid().as_raw();
    let owner = rustix::process::Uid::from_raw(own + off);
    let desk = desk::Desk::new(front.router.clone(), owner);
    let terms = accept::Terms {
        max_connections: 4,
        grace: std::time::Duration::ZERO,
    };
    let (listeners, stop) = (vec![listener.into()], front.stop.clone());
    tokio::spawn(async move { accept::serve(listeners, desk, Arc::default(), &terms, stop).await });
    let mut stream = tokio::net::UnixStream::connect(&path_of).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// An address where nothing listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn the_managers_own_user_alone_calls_by_its_socket() {
    let path = "/api/v1/sessions";
    let ours = called_at_a_desk(0, "", path).await;
    assert!(ours.starts_with("HTTP/1.1 200 "), "{ours}");
    let theirs = called_at_a_desk(1, "", path).await;
    assert!(
        theirs.starts_with("HTTP/1.1 403 ") && theirs.contains("not-the-owner"),
        "{theirs}"
    );
}

#[tokio::test]
async fn nothing_but_the_api_is_had_by_the_socket_and_for_users_alone() {
    for path in [
        "/",
        "/port/5500/",
        "/code/",
        "/s/x/",
        "/login",
        "/logout",
        "/assets/manager.js",
    ] {
        let answer = called_at_a_desk(0, "", path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    for (user, status) in [("alice", 200), ("mallory", 403), ("a b", 400), ("", 400)] {
        let fields = format!("X-Hpc-Manager-User: {user}\r\n");
        let answer = called_at_a_desk(0, &fields, "/api/v1/sessions").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{user}: {answer}"
        );
    }
    let twice = "X-Hpc-Manager-User: alice\r\nX-Hpc-Manager-User: alice\r\n";
    let answer = called_at_a_desk(0, twice, "/api/v1/sessions").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

/// The key of alice's page, as her browser is given it.
async fn page_key(front: &Front) -> String {
    let page = front.sends("GET /", WINDOW, "").await;
    let (_, key) = page
        .split_once("name=\"hpc-manager-page\" content=\"")
        .expect(&page);
    key.split_once('"').unwrap().0.to_owned()
}

const WINDOW: &str = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";

/// Reads until `holds`; what came until then, or until the end.
async fn until(stream: &mut TcpStream, holds: impl Fn(&str) -> bool) -> String {
    let mut received = Vec::new();
    let reading = async {
        while !holds(&String::from_utf8_lossy(&received)) {
            if stream.read_buf(&mut received).await.unwrap() == 0 {
                break;
            }
        }
    };
    timeout(Duration::from_secs(20), reading).await.unwrap();
    String::from_utf8(received).unwrap()
}

// S11.
#[tokio::test]
async fn only_our_page_reads_the_stream_of_events_and_the_list_of_ports() {
    let (proxy, _asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    let script = "Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nX-Hpc-Manager-Page: ab\r\n";
    for (start, fields) in [
        ("GET /api/v1/events", ""),
        ("GET /api/v1/events", WINDOW),
        ("GET /api/v1/events", script),
        ("GET /port/", script),
    ] {
        let refused = front.sends(start, fields, "").await;
        assert!(refused.starts_with("HTTP/1.1 403 "), "{start}: {refused}");
    }
    let ports = front.sends("GET /port/", WINDOW, "").await;
    assert!(
        ports.contains("<h1>alice&#39;s dev servers</h1>"),
        "{ports}"
    );
}

#[tokio::test]
async fn a_stream_tells_each_change_and_ends_with_the_sign_in() {
    let (proxy, _asked) = peer(identity().token, OK).await;
    let front = Front::of(proxy).await;
    let key = page_key(&front).await;
    let mut stream = TcpStream::connect(front.address).await.unwrap();
    let request = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\n\
         X-Hpc-Manager-Page: {key}\r\n\r\n",
        front.cookie
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let first = until(&mut stream, |all| all.contains("\"phase\":\"connected\"")).await;
    assert!(first.contains("content-type: text/event-stream"), "{first}");
    front.view.send_replace(View::of_new());
    until(&mut stream, |all| all.contains("\"phase\":\"submitted\"")).await;

    let form = format!("page={key}");
    let fields = format!(
        "Origin: http://localhost\r\nContent-Length: {}\r\n",
        form.len()
    );
    front.sends("POST /logout", &fields, &form).await;
    let last = until(&mut stream, |all| all.ends_with("0\r\n\r\n")).await;
    assert!(last.ends_with("0\r\n\r\n"), "{last}");
}
