//! The pages that the proxy answers itself: health, metrics, and the list that keeps itself current.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::{net::TcpListener, time::timeout};

use crate::harness::{DEADLINE, Proxy, echo_server};

#[tokio::test]
async fn health_names_the_instance() {
    let proxy = Proxy::start().await;
    let told = proxy.get("/_hpc-proxy/health").send().await.unwrap();
    assert_eq!(told.status(), StatusCode::OK);
    let told: Value = serde_json::from_str(&told.text().await.unwrap()).unwrap();
    assert_eq!(told["status"], "ok");
    assert_eq!(told["instance"], proxy.record.instance.as_str());
}

#[tokio::test]
async fn metrics_count_what_was_done() {
    let (proxy, port) = (Proxy::start().await, echo_server().await);
    for _ in 0..3 {
        let body = proxy
            .request(Method::POST, &format!("/port/{port}/"))
            .body("0123456789");
        body.send().await.unwrap().text().await.unwrap();
    }
    proxy
        .anonymous(Method::GET, "/_hpc-proxy/metrics")
        .send()
        .await
        .unwrap();
    let told = proxy.get("/_hpc-proxy/metrics").send().await.unwrap();
    assert_eq!(
        told.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let told = told.text().await.unwrap();
    for line in [
        "hpc_proxy_answers_total{from=\"dev-server\",class=\"2xx\"} 3",
        "hpc_proxy_answers_total{from=\"proxy\",class=\"4xx\"} 1",
        "hpc_proxy_upstream_connections_total{kind=\"new\"} 1",
        "hpc_proxy_upstream_connections_total{kind=\"reused\"} 2",
        "hpc_proxy_bytes_total{direction=\"up\"} 30",
        "hpc_proxy_pipes 0",
    ] {
        assert!(told.lines().any(|told| told == line), "{line} in {told}");
    }
}

#[tokio::test]
async fn a_server_that_starts_appears_in_the_list_by_itself() {
    let proxy = Proxy::start().await;
    let mut events = proxy.get("/_hpc-proxy/events").send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let first = timeout(DEADLINE, events.chunk()).await.expect("at once");
    assert!(first.unwrap().unwrap().starts_with(b"data: "));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = format!("port/{}/", listener.local_addr().unwrap().port());
    let mut told = String::new();
    while !told.contains(&link) {
        let event = timeout(DEADLINE, events.chunk()).await.expect("in time");
        told.push_str(&String::from_utf8_lossy(&event.unwrap().unwrap()));
    }
}

// S30: an open list does not keep a proxy that is asked to stop.
#[tokio::test]
async fn an_open_list_ends_with_the_proxy() {
    let mut proxy = Proxy::start().await;
    let mut events = proxy.get("/_hpc-proxy/events").send().await.unwrap();
    events.chunk().await.unwrap();
    let asked = std::time::Instant::now();
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code().await, Some(0));
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    while let Ok(Some(_)) = events.chunk().await {}
}
