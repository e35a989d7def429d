//! Requests and answers with bodies that fit a test, and what cannot be forwarded.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::harness::{Proxy, answer, dev_server, dev_server_on, echo_server, field, read_head};

// Behaviours 1, 9, 40.
#[tokio::test]
async fn a_dev_server_sees_its_own_paths_and_its_own_name() {
    let (proxy, port) = (Proxy::start().await, echo_server().await);
    let target = format!("/port/{port}/css/a%2Fb.css?v=1&v=%20+");
    let seen = proxy
        .get(&target)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        seen.starts_with("GET /css/a%2Fb.css?v=1&v=%20+ HTTP/1.1\r\n"),
        "{seen}"
    );
    assert_eq!(
        field(&seen, "host"),
        Some(format!("localhost:{port}").as_str())
    );
    assert_eq!(
        field(&seen, "x-forwarded-prefix"),
        Some(format!("/port/{port}").as_str())
    );
}

// Behaviour 7: what no HTTP library would send.
#[tokio::test]
async fn dots_stay_as_they_are() {
    let (proxy, port) = (Proxy::start().await, echo_server().await);
    let token = &proxy.token;
    let seen = proxy
        .raw(&format!(
            "GET /port/{port}/../../x HTTP/1.1\r\nHost: h\r\nX-Hpc-Proxy-Token: {token}\r\nConnection: close\r\n\r\n"
        ))
        .await;
    assert!(seen.contains("GET /../../x HTTP/1.1\r\n"), "{seen}");
}

// Behaviours 27, 62, 63.
#[tokio::test]
async fn every_method_is_forwarded_with_its_body() {
    let (proxy, port) = (Proxy::start().await, echo_server().await);
    for method in [
        "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY",
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = proxy
            .request(method.clone(), &format!("/port/{port}/x"))
            .body("a body");
        let seen = request.send().await.unwrap().text().await.unwrap();
        assert!(seen.starts_with(&format!("{method} /x HTTP/1.1")), "{seen}");
        assert!(seen.ends_with("\r\n\r\na body"), "{seen}");
    }
    let seen = proxy
        .get(&format!("/port/{port}/"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(field(&seen, "content-length"), None, "{seen}");
    assert_eq!(field(&seen, "transfer-encoding"), None, "{seen}");
}

// Behaviours 24, 26.
#[tokio::test]
async fn methods_that_are_not_for_a_dev_server_are_refused() {
    let (proxy, port) = (Proxy::start().await, echo_server().await);
    let trace = proxy
        .request(Method::TRACE, &format!("/port/{port}/"))
        .send()
        .await
        .unwrap();
    assert_eq!(trace.status(), StatusCode::METHOD_NOT_ALLOWED);
    let token = &proxy.token;
    let connect = proxy
        .raw(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: h\r\nX-Hpc-Proxy-Token: {token}\r\nConnection: close\r\n\r\n"))
        .await;
    assert!(connect.starts_with("HTTP/1.1 405 "), "{connect}");
}

// Behaviours 2 to 5.
#[tokio::test]
async fn a_missing_slash_is_added_for_readers_only() {
    let (proxy, port) = (Proxy::start().await, echo_server().await);
    for query in ["", "?", "?x=1"] {
        let redirect = proxy
            .get(&format!("/port/{port}{query}"))
            .send()
            .await
            .unwrap();
        assert_eq!(redirect.status(), StatusCode::PERMANENT_REDIRECT);
        assert_eq!(redirect.headers()["location"], format!("{port}/{query}"));
    }
    let posted = proxy
        .request(Method::POST, &format!("/port/{port}?x"))
        .send()
        .await
        .unwrap();
    assert!(
        posted
            .text()
            .await
            .unwrap()
            .starts_with("POST /?x HTTP/1.1")
    );
}

// Behaviours 33, 34, 46, 48, S3, S16.
#[tokio::test]
async fn a_dev_server_gets_no_secret_and_no_connection_field() {
    let (proxy, port) = (Proxy::start().await, echo_server().await);
    let seen = proxy
        .get(&format!("/port/{port}/"))
        .header("Connection", "x-once")
        .header("X-Once", "1")
        .header("Proxy-Authorization", "Basic x")
        .header("Cookie", "a=1; __hpc_proxy=stolen; b=2")
        .header("Forwarded", "for=evil")
        .header("X-Real-IP", "1.2.3.4")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for gone in [
        "x-once",
        "proxy-authorization",
        "x-hpc-proxy-token",
        "forwarded",
        "x-real-ip",
    ] {
        assert_eq!(field(&seen, gone), None, "{seen}");
    }
    assert!(!seen.contains(&proxy.token));
    assert_eq!(field(&seen, "cookie"), Some("a=1; b=2"));
}

// Behaviours 43, 44, S16: with the token, one value of each is believed.
#[tokio::test]
async fn a_manager_tells_where_the_browser_sees_the_server() {
    let (proxy, port) = (Proxy::start().await, echo_server().await);
    let seen = proxy
        .get(&format!("/port/{port}/"))
        .header("X-Forwarded-For", "10.1.1.1")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "hpc.example.org")
        .header("X-Forwarded-Prefix", "/code")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(field(&seen, "x-forwarded-for"), Some("10.1.1.1, 127.0.0.1"));
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"));
    assert_eq!(field(&seen, "x-forwarded-host"), Some("hpc.example.org"));
    assert_eq!(field(&seen, "x-forwarded-prefix"), Some("/code"));
}

#[tokio::test]
async fn an_unauthenticated_hop_is_not_believed() {
    let (proxy, port) = (
        Proxy::start_with(&["--auth", "none"]).await,
        echo_server().await,
    );
    let request = proxy.anonymous(Method::GET, &format!("/port/{port}/"));
    let request = request
        .header("X-Forwarded-For", "10.1.1.1")
        .header("X-Forwarded-Prefix", "/x");
    let seen = request.send().await.unwrap().text().await.unwrap();
    assert_eq!(field(&seen, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(
        field(&seen, "x-forwarded-prefix"),
        Some(format!("/port/{port}").as_str())
    );
}

// Behaviours 73, 74, 87, 89.
#[tokio::test]
async fn an_answer_comes_back_whole_and_under_the_prefix() {
    let proxy = Proxy::start().await;
    let port = dev_server(|_, mut stream| async move {
        let fields = [
            "Location: /next",
            "Set-Cookie: a=1; Path=/",
            "Set-Cookie: b=2; Domain=example.org",
            "Connection: x-once",
            "X-Once: 1",
            "X-Kept: 1",
            "X-Kept: 2",
        ];
        answer(&mut stream, "302 Found", &fields, "moved").await;
    })
    .await;
    let answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
    assert_eq!(answered.status(), StatusCode::FOUND);
    let headers = answered.headers().clone();
    assert_eq!(headers["location"], format!("/port/{port}/next"));
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(
        cookies,
        [format!("a=1; Path=/port/{port}/").as_str(), "b=2"]
    );
    assert!(!headers.contains_key("x-once"));
    assert_eq!(
        headers.get_all("x-kept").iter().collect::<Vec<_>>(),
        ["1", "2"]
    );
    assert_eq!(answered.text().await.unwrap(), "moved");
}

// Behaviour 75.
#[tokio::test]
async fn a_head_request_gets_the_length_and_no_body() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        assert!(head.starts_with("HEAD "), "{head}");
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes())
            .await
            .unwrap();
    })
    .await;
    let answered = proxy
        .request(Method::HEAD, &format!("/port/{port}/"))
        .send()
        .await
        .unwrap();
    assert_eq!(answered.headers()["content-length"], "1234");
    assert_eq!(answered.text().await.unwrap(), "");
}

// Behaviour 122.
#[tokio::test]
async fn servers_are_found_on_either_loopback_address() {
    let proxy = Proxy::start().await;
    for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        let port = dev_server_on(address, |_, mut stream| async move {
            answer(&mut stream, "200 OK", &[], "here").await;
        })
        .await;
        let answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
        assert_eq!(answered.text().await.unwrap(), "here", "{address}");
    }
}

// Behaviour 106: one upstream connection serves many requests.
#[tokio::test]
async fn an_upstream_connection_is_used_again() {
    let (proxy, port) = (Proxy::start().await, counting_server().await);
    for request in 1..=50 {
        let answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
        assert_eq!(
            answered.text().await.unwrap(),
            format!("connection 1, request {request}")
        );
    }
}

// Behaviour 123: a connection to the old server never serves the new one's requests.
#[tokio::test]
async fn a_server_that_restarts_is_asked_anew() {
    let proxy = Proxy::start().await;
    let mut port = 0;
    for generation in ["first", "second"] {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while read_head(&mut stream).await.is_some() {
                answer(&mut stream, "200 OK", &[], generation).await;
            }
        });
        // The listener goes with the task; the connection to the first one idles in the pool.
        let answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
        assert_eq!(answered.text().await.unwrap(), generation);
        served.abort();
        let _ = served.await;
    }
}

// Behaviours 17, 20, 31, 91: every refusal says what is the matter, in both forms.
#[tokio::test]
async fn refusals_speak_to_programs_and_to_people() {
    let proxy = Proxy::start().await;
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let dies = dev_server(|_, _| async {}).await;
    let own = proxy.record.port;
    for (target, status, code) in [
        ("/port/0/".to_owned(), StatusCode::BAD_REQUEST, "bad-port"),
        (
            "/port/5500x/".to_owned(),
            StatusCode::BAD_REQUEST,
            "bad-port",
        ),
        ("/nowhere".to_owned(), StatusCode::NOT_FOUND, "no-such-path"),
        (
            "/_hpc-proxy/nowhere".to_owned(),
            StatusCode::NOT_FOUND,
            "no-such-path",
        ),
        (
            format!("/port/{free}/"),
            StatusCode::BAD_GATEWAY,
            "nothing-listens",
        ),
        (
            format!("/port/{dies}/"),
            StatusCode::BAD_GATEWAY,
            "upstream-died",
        ),
        (
            format!("/port/{own}/"),
            StatusCode::LOOP_DETECTED,
            "own-port",
        ),
    ] {
        let told = proxy.get(&target).send().await.unwrap();
        assert_eq!(told.status(), status, "{target}");
        assert_eq!(told.headers()["cache-control"], "no-store");
        let told: Value = serde_json::from_str(&told.text().await.unwrap()).unwrap();
        assert_eq!(told["error"], code, "{target}");

        let page = proxy
            .get(&target)
            .header("Accept", "text/html")
            .send()
            .await
            .unwrap();
        assert_eq!(page.status(), status, "{target}");
        assert_eq!(page.headers()["x-content-type-options"], "nosniff");
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        let page = page.text().await.unwrap();
        assert!(page.contains("<h1") && !page.contains(code), "{page}");
    }
}

// Behaviour 124.
#[tokio::test]
async fn a_server_that_starts_late_is_found() {
    let proxy = Proxy::start().await;
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let target = format!("/port/{}/", address.port());
    assert_eq!(
        proxy.get(&target).send().await.unwrap().status(),
        StatusCode::BAD_GATEWAY
    );
    dev_server_on(&address.to_string(), |_, mut stream| async move {
        answer(&mut stream, "200 OK", &[], "up").await;
    })
    .await;
    assert_eq!(
        proxy
            .get(&target)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "up"
    );
}

#[tokio::test]
async fn the_index_links_to_the_users_own_servers() {
    let (proxy, port) = (Proxy::start().await, echo_server().await);
    for target in ["/", "/port", "/port/"] {
        let page = proxy
            .get(target)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert!(page.contains(&format!("href=\"port/{port}/\"")), "{page}");
    }
    let listed = proxy
        .get("/_hpc-proxy/ports")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let found = listed["ports"]
        .as_array()
        .unwrap()
        .iter()
        .find(|found| found["port"] == port);
    assert_eq!(found.unwrap()["pid"], std::process::id());
}

async fn counting_server() -> u16 {
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    dev_server(move |_, mut stream| {
        let connection = connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        async move {
            for request in 1.. {
                let told = format!("connection {connection}, request {request}");
                answer(&mut stream, "200 OK", &[], &told).await;
                if read_head(&mut stream).await.is_none() {
                    return;
                }
            }
        }
    })
    .await
}

// Behaviours 70 and 71: what a server says unasked is never taken for the next answer, however soon
// that is asked for.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_nobodys() {
    let proxy = Proxy::start().await;
    let port = dev_server(|mut head, mut stream| async move {
        loop {
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let surplus = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";
            let length = target.len();
            let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}");
            // In two writes, so that the second comes at any moment.
            let sent = async {
                stream.write_all(whole.as_bytes()).await?;
                stream.write_all(surplus.as_bytes()).await
            };
            if sent.await.is_err() {
                return;
            }
            match read_head(&mut stream).await {
                Some(next) => head = next,
                None => return,
            }
        }
    })
    .await;
    for number in 0..500 {
        let target = format!("/port/{port}/{number}");
        let answered = proxy.get(&target).send().await.unwrap();
        assert_eq!(answered.text().await.unwrap(), format!("/{number}"));
    }
}
