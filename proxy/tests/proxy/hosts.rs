//! Ports with a host of their own, `5500.localhost`: what is served there, to whom, and how a
//! browser that has signed in at the front gets there.

use hpc_proxy::auth::Token;

use tokio::io::AsyncWriteExt;

use crate::harness::{Proxy, answer, command, dev_server, echo_server, field};

/// A browser as far as one origin goes: its host and the cookie that it holds there.
struct Tab<'a> {
    proxy: &'a Proxy,
    host: String,
    cookie: Option<String>,
}

impl<'a> Tab<'a> {
    fn at(proxy: &'a Proxy, name: &str) -> Self {
        let host = format!("{name}:{}", proxy.record.port);
        Self {
            proxy,
            host,
            cookie: None,
        }
    }

    /// At the front, signed in.
    fn signed_in(proxy: &'a Proxy) -> Self {
        let token = Token::parse(proxy.token.as_bytes()).unwrap();
        Self {
            cookie: Some(format!("__hpc_proxy={}", token.cookie_value())),
            ..Self::at(proxy, "localhost")
        }
    }

    async fn sends(&self, start: &str, fields: &str) -> String {
        let host = &self.host;
        let cookie = self.cookie.as_ref();
        let cookie = cookie.map_or(String::new(), |cookie| format!("Cookie: {cookie}\r\n"));
        let request = format!(
            "{start} HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\n{fields}\r\n"
        );
        self.proxy.raw(&request).await
    }

    /// Opens a page, as by typing its address.
    async fn opens(&self, target: &str) -> String {
        self.sends(&format!("GET {target}"), "Accept: text/html\r\n")
            .await
    }

    /// Asks for an upgrade, as a page of `origin`.
    async fn connects(&self, origin: &str) -> String {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        self.sends("GET /ws", &format!("{upgrade}Origin: {origin}\r\n"))
            .await
    }
}

fn status(answered: &str) -> &str {
    answered.get(9..12).unwrap_or_default()
}

/// Where an answer sends its browser, which must be below `host`.
fn sent_on(answered: &str, host: &str) -> String {
    assert_eq!(status(answered), "303", "{answered}");
    let to = field(answered, "location").unwrap();
    let below = to
        .strip_prefix("//")
        .and_then(|rest| rest.strip_prefix(host));
    below
        .unwrap_or_else(|| panic!("{to} is not below {host}"))
        .to_owned()
}

/// Goes by the front to the host of `port`; what the front gave and where it led.
async fn handed_over<'a>(front: &Tab<'a>, port: u16, target: &str) -> (String, Tab<'a>) {
    let mut tab = Tab::at(front.proxy, &format!("{port}.localhost"));
    let open = sent_on(&tab.opens(target).await, &front.host);
    let enter = sent_on(&front.opens(&open).await, &tab.host);
    let entered = tab.opens(&enter).await;
    assert_eq!(sent_on(&entered, &tab.host), target);
    let cookie = field(&entered, "set-cookie").unwrap();
    assert!(
        cookie.ends_with("; HttpOnly; SameSite=Lax; Path=/"),
        "{cookie}"
    );
    tab.cookie = cookie.split(';').next().map(str::to_owned);
    (enter, tab)
}

// Behaviours 1, 32, 40 and 46, S12.
#[tokio::test]
async fn a_signed_in_browser_comes_to_a_port_of_its_own_host() {
    let proxy = Proxy::start().await;
    let port = echo_server().await;
    let front = Tab::signed_in(&proxy);
    let (enter, tab) = handed_over(&front, port, "//a/%2F?x=%20&y").await;

    let seen = tab.opens("//a/%2F?x=%20&y").await;
    assert_eq!(status(&seen), "200", "{seen}");
    let body = seen.split_once("\r\n\r\n").unwrap().1;
    assert!(
        body.starts_with("GET //a/%2F?x=%20&y HTTP/1.1\r\n"),
        "{body}"
    );
    assert_eq!(field(body, "host"), Some(&*format!("localhost:{port}")));
    assert_eq!(field(body, "x-forwarded-host"), Some(&*tab.host));
    for absent in ["x-forwarded-prefix", "cookie"] {
        assert_eq!(field(body, absent), None, "{body}");
    }
    let ticket = enter.split(['=', '&']).nth(1).unwrap();
    assert!(!body.contains(ticket) && ticket.len() > 64, "{body}");
    // What looks like a path of the proxy is the server's own there.
    let seen = tab.opens("/port/1/").await;
    assert!(seen.contains("\r\n\r\nGET /port/1/ HTTP/1.1\r\n"), "{seen}");
}

#[tokio::test]
async fn a_ticket_is_good_once_and_for_its_host() {
    let proxy = Proxy::start().await;
    let port = echo_server().await;
    let front = Tab::signed_in(&proxy);
    let (used, tab) = handed_over(&front, port, "/").await;
    let again = tab.opens(&used).await;
    assert_eq!(status(&again), "403", "{again}");
    assert_eq!(field(&again, "set-cookie"), None, "{again}");

    let open = format!("/_hpc-proxy/open?name={port}&to=/");
    let fresh = sent_on(&front.opens(&open).await, &tab.host);
    for elsewhere in ["1.localhost", "localhost"] {
        let refused = Tab::at(&proxy, elsewhere).opens(&fresh).await;
        assert_eq!(field(&refused, "set-cookie"), None, "{refused}");
        assert!(["401", "403"].contains(&status(&refused)), "{refused}");
    }
    let code = fresh.split(['=', '&']).nth(1).unwrap();
    let login = format!("/_hpc-proxy/login?code={code}");
    assert_eq!(
        status(&Tab::at(&proxy, "localhost").opens(&login).await),
        "403"
    );
    assert_eq!(status(&tab.opens(&fresh).await), "303");
}

// S2: the answers are the same whether there is such a port or not.
#[tokio::test]
async fn a_stranger_is_sent_to_the_front_and_learns_nothing() {
    let proxy = Proxy::start().await;
    let port = echo_server().await;
    let front = format!("localhost:{}", proxy.record.port);
    for port in [port, 1, 65535] {
        let tab = Tab::at(&proxy, &format!("{port}.localhost"));
        let open = sent_on(&tab.opens("/a?b").await, &front);
        assert_eq!(open, format!("/_hpc-proxy/open?name={port}&to=/a%3Fb"));
        assert_eq!(
            status(&Tab::at(&proxy, "localhost").opens(&open).await),
            "401"
        );
        for (start, fields) in [
            ("GET /", ""),
            ("POST /", "Accept: text/html\r\nContent-Length: 0\r\n"),
            ("GET /", "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n"),
            ("GET /_hpc-proxy/ports", ""),
        ] {
            let refused = tab.sends(start, fields).await;
            assert_eq!(status(&refused), "401", "{start} {fields}: {refused}");
        }
        let origin = format!("http://{}", tab.host);
        assert_eq!(status(&tab.connects(&origin).await), "401");
    }
    let bad = Tab::at(&proxy, "0.localhost").opens("/").await;
    assert_eq!(status(&bad), "401", "{bad}");
}

#[tokio::test]
async fn a_cookie_is_good_for_its_own_host_alone() {
    let proxy = Proxy::start().await;
    let port = echo_server().await;
    let front = Tab::signed_in(&proxy);
    let (_, tab) = handed_over(&front, port, "/").await;
    for (host, cookie) in [
        (tab.host.clone(), &front.cookie),
        (front.host.clone(), &tab.cookie),
        (format!("1{}", tab.host), &tab.cookie),
        (
            tab.host.replacen("localhost", "example.org", 1),
            &tab.cookie,
        ),
    ] {
        let cookie = cookie.clone();
        let elsewhere = Tab {
            proxy: &proxy,
            host,
            cookie,
        };
        let refused = elsewhere.sends("GET /", "").await;
        assert_eq!(status(&refused), "401", "{}: {refused}", elsewhere.host);
    }
}

// S14 and behaviour 119.
#[tokio::test]
async fn an_upgrade_comes_from_a_page_of_ones_own_ports() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        let origin = field(&head, "origin").unwrap_or_default();
        let switched = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             X-Origin: {origin}\r\n\r\n"
        );
        stream.write_all(switched.as_bytes()).await.unwrap();
    })
    .await;
    let (_, tab) = handed_over(&Tab::signed_in(&proxy), port, "/").await;
    let at = proxy.record.port;
    let own = tab.connects(&format!("http://{}", tab.host)).await;
    assert_eq!(status(&own), "101", "{own}");
    assert_eq!(
        field(&own, "x-origin"),
        Some(&*format!("http://localhost:{port}"))
    );
    let sibling = tab.connects(&format!("http://5500.localhost:{at}")).await;
    assert_eq!(status(&sibling), "101", "{sibling}");
    for origin in [
        "null".to_owned(),
        "http://evil.example".to_owned(),
        format!("http://localhost:{at}"),
        format!("http://5500.localhost:{}", at ^ 1),
        format!("http://5500.localhost.evil.example:{at}"),
        format!("http://a.{}", tab.host),
    ] {
        let refused = tab.connects(&origin).await;
        assert_eq!(status(&refused), "403", "{origin}: {refused}");
    }
}

// Behaviours 87 and 89.
#[tokio::test]
async fn only_what_is_local_to_the_node_moves_in_an_answer() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        let to = head.split(['?', ' ']).nth(2).unwrap().to_owned();
        let location = format!("Location: {to}");
        let cookie = "Set-Cookie: a=1; Domain=localhost; Path=/x";
        answer(&mut stream, "302 Found", &[&location, cookie], "").await;
    })
    .await;
    let at = proxy.record.port;
    let (_, tab) = handed_over(&Tab::signed_in(&proxy), port, "/").await;
    for (before, after) in [
        ("/x".to_owned(), "/x".to_owned()),
        (format!("http://localhost:{port}/x"), "/x".to_owned()),
        (
            "http://127.0.0.1:8000/x".to_owned(),
            format!("//8000.localhost:{at}/x"),
        ),
        (
            format!("http://{}/x", tab.host),
            format!("http://{}/x", tab.host),
        ),
        ("http://example.org/x".into(), "http://example.org/x".into()),
    ] {
        let moved = tab.opens(&format!("/?{before}")).await;
        assert_eq!(
            field(&moved, "location"),
            Some(&*after),
            "{before}: {moved}"
        );
        assert_eq!(field(&moved, "set-cookie"), Some("a=1; Path=/x"));
    }
}

// S15 and S20: no other name and no other port is reached in this way.
#[tokio::test]
async fn other_names_stand_for_the_front_and_no_port_is_special() {
    let proxy = Proxy::start_with(&["--auth", "none", "--host-suffix", "Apps.Example.org"]).await;
    let (port, own) = (echo_server().await, proxy.record.port);
    for (name, expected) in [
        (format!("{port}.apps.example.org"), "200"),
        (format!("{port}.APPS.example.ORG"), "200"),
        ("apps.example.org".to_owned(), "404"),
        (format!("{port}.localhost"), "404"),
        (format!("{port}.apps.example.org.evil.org"), "421"),
        (format!("{port}.evil.org"), "421"),
        (format!("a.{port}.apps.example.org"), "421"),
        ("a.apps.example.org".to_owned(), "421"),
        (format!("0{port}.apps.example.org"), "400"),
        ("65536.apps.example.org".to_owned(), "400"),
        ("80.apps.example.org".to_owned(), "403"),
        (format!("{own}.apps.example.org"), "508"),
    ] {
        let answered = Tab::at(&proxy, &name).sends("GET /x", "").await;
        assert_eq!(status(&answered), expected, "{name}: {answered}");
    }
    let own = Tab::at(&proxy, &format!("{port}.apps.example.org"));
    let page = own.sends("GET /_hpc-proxy/ports", "").await;
    assert_eq!(status(&page), "404", "{page}");
}

#[tokio::test]
async fn a_domain_can_be_switched_off_and_must_be_one() {
    let proxy = Proxy::start_with(&["--auth", "none", "--host-suffix", ""]).await;
    let port = echo_server().await;
    let tab = Tab::at(&proxy, &format!("{port}.localhost"));
    assert_eq!(status(&tab.sends("GET /x", "").await), "404");
    assert_eq!(
        status(&tab.opens("/_hpc-proxy/open?name=5500&to=/").await),
        "404"
    );
    let refused = command(proxy.home.path())
        .args(["--host-suffix", "*.localhost"])
        .output()
        .await
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

// A manager states where its browser sees a port: at a host of its own, by the prefix of a root.
#[tokio::test]
async fn a_manager_that_knows_more_is_believed() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        assert_eq!(field(&head, "x-forwarded-prefix"), None, "{head}");
        assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "{head}");
        let fields = [
            "Location: http://localhost:8000/x",
            "Set-Cookie: a=1; Path=/",
        ];
        answer(&mut stream, "302 Found", &fields, "").await;
    })
    .await;
    let asked = |host: String| {
        proxy
            .get(&format!("/port/{port}/a"))
            .header("X-Forwarded-Host", host)
            .header("X-Forwarded-Prefix", "/")
    };
    let own = asked(format!("{port}--7.apps.example.org"))
        .send()
        .await
        .unwrap();
    assert_eq!(own.headers()["location"], "//8000--7.apps.example.org/x");
    assert_eq!(own.headers()["set-cookie"], "a=1; Path=/");
    let nameless = asked("hpc.example.org".into()).send().await.unwrap();
    let location = &nameless.headers()["location"];
    assert_eq!(location, "//hpc.example.org/port/8000/x");
}

// Behaviours 29 and 32: for a server that has its path configured, and so writes it itself.
#[tokio::test]
async fn a_server_with_a_base_path_of_its_own_is_left_to_it() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        let base = head.split(['?', ' ']).nth(1).unwrap().to_owned();
        let location = format!("Location: {base}x");
        let deeper = format!("Set-Cookie: b=1; Path={base}x");
        let referer = format!("X-Referer: {}", field(&head, "referer").unwrap_or_default());
        let origin = format!("X-Origin: {}", field(&head, "origin").unwrap_or_default());
        let fields = [
            &*location,
            "Link: </x>; rel=preload",
            "Set-Cookie: a=1; Path=/",
            &deeper,
            &referer,
            &origin,
        ];
        answer(&mut stream, "302 Found", &fields, &head).await;
    })
    .await;
    let (base, front) = (format!("/absport/{port}/"), proxy.url(""));
    let answered = proxy
        .get(&format!("{base}?a"))
        .header("Origin", &front)
        .header("Referer", format!("{front}{base}page"))
        .header("X-Forwarded-Prefix", format!("/absport/{port}"))
        .send()
        .await
        .unwrap();
    let fields = answered.headers().clone();
    let local = format!("http://localhost:{port}");
    assert_eq!(fields["location"], *format!("{base}x"));
    assert_eq!(fields["link"], "</x>; rel=preload");
    assert_eq!(fields["x-origin"], *local);
    assert_eq!(fields["x-referer"], *format!("{local}{base}page"));
    let cookies: Vec<_> = fields.get_all("set-cookie").into_iter().cloned().collect();
    let confined = [format!("a=1; Path={base}"), format!("b=1; Path={base}x")];
    assert_eq!(cookies, confined);
    let head = answered.text().await.unwrap();
    assert!(
        head.starts_with(&format!("GET {base}?a HTTP/1.1\r\n")),
        "{head}"
    );
    assert_eq!(field(&head, "x-forwarded-prefix"), None, "{head}");
}

// A page has a cookie of its own host alone; through that it reaches other ports as on localhost.
#[tokio::test]
async fn a_page_connects_to_another_port_and_does_not_read_it() {
    let proxy = Proxy::start().await;
    let (port, other) = (echo_server().await, echo_server().await);
    let (_, tab) = handed_over(&Tab::signed_in(&proxy), port, "/").await;
    let own = format!("http://{}", tab.host);
    let start = format!("GET /_hpc-proxy/port/{other}//a?b");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for fields in [
        format!("{upgrade}Origin: {own}\r\n"),
        format!("Sec-Fetch-Dest: script\r\nOrigin: {own}\r\nReferer: {own}/page?c\r\n"),
    ] {
        let seen = tab.sends(&start, &fields).await;
        assert_eq!(status(&seen), "200", "{seen}");
        let body = seen.split_once("\r\n\r\n").unwrap().1;
        assert!(body.starts_with("GET //a?b HTTP/1.1\r\n"), "{body}");
        let page = format!("http://localhost:{port}");
        assert_eq!(field(body, "host"), Some(&*format!("localhost:{other}")));
        assert_eq!(field(body, "origin"), Some(&*page));
        assert!(
            ["", &format!("{page}/page?c")].contains(&field(body, "referer").unwrap_or_default())
        );
        assert_eq!(field(body, "cookie"), None, "{body}");
    }
    for (start, fields) in [
        (start.clone(), ""),
        (start.clone(), "Sec-Fetch-Dest: empty\r\n"),
        (
            start.clone(),
            "Sec-Fetch-Dest: script\r\nSec-Fetch-Dest: empty\r\n",
        ),
        (
            start.clone(),
            "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n",
        ),
        (
            start.replace("GET", "POST"),
            "Sec-Fetch-Dest: script\r\nContent-Length: 0\r\n",
        ),
    ] {
        let refused = tab.sends(&start, fields).await;
        assert_eq!(status(&refused), "403", "{fields}: {refused}");
        assert!(
            refused.contains("\"other-port\"") || fields.contains("html"),
            "{refused}"
        );
    }
    let elsewhere = tab.opens(&start["GET ".len()..]).await;
    let sibling = format!("{other}.localhost:{}", proxy.record.port);
    assert_eq!(sent_on(&elsewhere, &sibling), "//a?b");
    // Whose page it is, is known, or there is no such way.
    let unnamed = proxy
        .get(&format!("/port/{other}/"))
        .header("X-Forwarded-Prefix", format!("/_hpc-proxy/port/{other}"));
    assert_eq!(unnamed.send().await.unwrap().status(), 404);
    // Nobody comes in this way who could not otherwise.
    let stranger = Tab::at(&proxy, &format!("{port}.localhost"));
    assert_eq!(status(&stranger.sends(&start, upgrade).await), "401");
    let evil = format!("{upgrade}Origin: http://evil.example\r\n");
    assert_eq!(status(&tab.sends(&start, &evil).await), "403");
    let at = proxy.record.port;
    let itself = format!("GET /_hpc-proxy/port/{at}/");
    assert_eq!(status(&tab.sends(&itself, upgrade).await), "508");
}
