//! Who is served: tokens, cookies, one-time links, and proofs of identity.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hpc_proxy::auth::{Nonce, Proof, Token};
use reqwest::{Method, StatusCode};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Proxy, answer, command, dev_server, read_head};

// S2: for every method and shape of path the answer is the same, and nobody is asked.
#[tokio::test]
async fn without_the_token_nothing_is_reached_or_learnt() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let port = dev_server(move |_, mut stream| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { answer(&mut stream, "200 OK", &[], "secret").await }
    })
    .await;
    let proxy = Proxy::start().await;
    let wrong = Token::random().unwrap().reveal();
    let mut answers = HashSet::new();
    for target in [
        format!("/port/{port}/"),
        format!("/port/{port}"),
        "/port/1/".into(),
        "/port/x/".into(),
        format!("/port/{}/", proxy.record.port),
        "/".into(),
        "/nowhere".into(),
        "/_hpc-proxy/ports".into(),
        "/_hpc-proxy/proof/nonsense".into(),
    ] {
        for method in [
            Method::GET,
            Method::POST,
            Method::OPTIONS,
            Method::TRACE,
            Method::DELETE,
        ] {
            for token in [
                None,
                Some(""),
                Some(wrong.as_str()),
                Some(&proxy.token[..63]),
            ] {
                let mut request = proxy.anonymous(method.clone(), &target);
                if let Some(token) = token {
                    request = request.header("X-Hpc-Proxy-Token", token);
                }
                let refused = request.send().await.unwrap();
                assert_eq!(
                    refused.status(),
                    StatusCode::UNAUTHORIZED,
                    "{method} {target}"
                );
                answers.insert(refused.text().await.unwrap());
            }
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

// S2, behaviour 121.
#[tokio::test]
async fn an_upgrade_without_the_token_is_an_ordinary_refusal() {
    let proxy = Proxy::start().await;
    let refused = proxy
        .raw(
            "GET /port/5500/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .await;
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
}

// Behaviour 48.
#[tokio::test]
async fn two_tokens_are_none() {
    let proxy = Proxy::start().await;
    let twice = proxy
        .get("/")
        .header("X-Hpc-Proxy-Token", &proxy.token)
        .send()
        .await
        .unwrap();
    assert_eq!(twice.status(), StatusCode::UNAUTHORIZED);
}

// S7, S8: the proxy answers a question that only the holder of the token could.
#[tokio::test]
async fn the_proxy_proves_itself_to_anybody_who_asks() {
    let proxy = Proxy::start().await;
    let nonce = Nonce::random().unwrap();
    let target = format!("/_hpc-proxy/proof/{}", nonce.to_hex());
    let answered = proxy.anonymous(Method::GET, &target).send().await.unwrap();
    let proof: Proof = serde_json::from_str(&answered.text().await.unwrap()).unwrap();
    let token = Token::parse(proxy.token.as_bytes()).unwrap();
    assert!(token.verify(&proof, &nonce, &proxy.record.instance, proxy.record.port));
}

#[tokio::test]
async fn a_link_signs_a_browser_in_once() {
    let proxy = Proxy::start().await;
    let printed = command(proxy.home.path())
        .args(["url", "5500"])
        .output()
        .await
        .unwrap();
    let link = String::from_utf8(printed.stdout).unwrap().trim().to_owned();
    assert!(!link.contains(&proxy.token), "{link}");

    let signed_in = proxy.client.get(&link).send().await.unwrap();
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER);
    assert_eq!(signed_in.headers()["location"], "/port/5500/");
    let cookie = signed_in.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    assert!(!cookie.contains(&proxy.token), "{cookie}");

    let cookie = cookie.split(';').next().unwrap();
    let page = proxy
        .anonymous(Method::GET, "/")
        .header("Cookie", cookie)
        .send()
        .await
        .unwrap();
    assert_eq!(page.status(), StatusCode::OK);

    let again = proxy.client.get(&link).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::FORBIDDEN);
    assert!(!again.headers().contains_key("set-cookie"));
}

#[tokio::test]
async fn without_authentication_only_this_machine_is_served() {
    let proxy = Proxy::start_with(&["--auth", "none"]).await;
    assert_eq!(
        proxy.record.addresses,
        ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
    let page = proxy.anonymous(Method::GET, "/").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
}

// S22: strangers cannot keep out whoever has the token, nor push them out.
#[tokio::test]
async fn strangers_make_room_for_whoever_has_the_token() {
    let proxy = Proxy::start_with(&["--max-connections", "8"]).await;
    // Kept by the client for its next request.
    assert_eq!(
        proxy
            .get("/_hpc-proxy/health")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    let mut strangers = Vec::new();
    for _ in 0..50 {
        let mut stranger = proxy.connect().await;
        stranger.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        strangers.push(stranger);
    }
    let token = &proxy.token;
    let ask =
        format!("GET /_hpc-proxy/health HTTP/1.1\r\nHost: h\r\nX-Hpc-Proxy-Token: {token}\r\n");
    let answered = proxy.raw(&format!("{ask}Connection: close\r\n\r\n")).await;
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    // The oldest strangers went, and the first client stayed.
    assert_eq!(strangers[0].read(&mut [0; 16]).await.unwrap_or(0), 0);
    let metrics = proxy.get("/_hpc-proxy/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let opened = "hpc_proxy_connections_total 52\n";
    assert!(metrics.contains(opened), "{metrics}");

    // Nobody makes room for strangers where all have shown the token.
    drop(strangers);
    let mut known = Vec::new();
    for _ in 0..7 {
        let mut client = proxy.connect().await;
        client
            .write_all(format!("{ask}\r\n").as_bytes())
            .await
            .unwrap();
        assert!(
            read_head(&mut client)
                .await
                .unwrap()
                .starts_with("HTTP/1.1 200 ")
        );
        known.push(client);
    }
    let turned_away = proxy.raw("").await;
    assert!(turned_away.starts_with("HTTP/1.1 503 "), "{turned_away}");
    drop(known);
}

// S14: a page of another site cannot open a WebSocket with the browser's cookie.
#[tokio::test]
async fn an_upgrade_by_cookie_comes_from_a_page_of_the_same_origin() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        assert!(head.contains("Upgrade: websocket"), "{head}");
        let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\n\r\n";
        stream.write_all(switched.as_bytes()).await.unwrap();
    })
    .await;
    let cookie = Token::parse(proxy.token.as_bytes()).unwrap().cookie_value();
    for (origin, status) in [
        ("Origin: http://localhost:1\r\n", "101"),
        ("Origin: https://LOCALHOST:1\r\n", "101"),
        ("", "101"),
        ("Origin: http://evil.example\r\n", "403"),
        ("Origin: http://localhost:2\r\n", "403"),
        ("Origin: null\r\n", "403"),
        (
            "Origin: http://localhost:1\r\nOrigin: http://evil.example\r\n",
            "403",
        ),
    ] {
        let ask = format!(
            "GET /port/{port}/ HTTP/1.1\r\nHost: localhost:1\r\n{origin}Cookie: __hpc_proxy={cookie}\r\n\
             Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let answered = proxy.raw(&ask).await;
        assert_eq!(answered.get(9..12), Some(status), "{origin}{answered}");
    }
}

// Behaviours 65 and 102: what is refused early is refused audibly, however much is still sent.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_sends_all_before_it_listens() {
    let proxy = Proxy::start().await;
    let body = vec![b'x'; 8 << 20];
    for (head, status) in [
        (format!("Content-Length: {}\r\n", body.len()), "401"),
        ("Content-Length: +5\r\n".to_owned(), "400"),
    ] {
        let mut client = proxy.connect().await;
        let head = format!("POST /port/5500/ HTTP/1.1\r\nHost: h\r\n{head}\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        // As one that does not look: the answer is long there.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        client.write_all(&body).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.get(9..12), Some(status), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}
