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

use crate::harness::{Proxy, answer, command, dev_server};

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
