//! From start to exit: what is published when, and how a proxy ends.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    accept_async, connect_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::harness::{DEADLINE, Proxy, command, dev_server, eventually, settings};

// Behaviours 128, 130; S30.
#[tokio::test]
async fn a_proxy_that_is_asked_to_stop_withdraws_its_lease() {
    for signal in ["TERM", "INT", "HUP", "USR1"] {
        let mut proxy = Proxy::start().await;
        assert_eq!(proxy.lease_files().len(), 4);
        proxy.signal(signal);
        assert_eq!(proxy.exit_code().await, Some(0), "{signal}");
        assert!(proxy.lease_files().is_empty(), "{signal}");
    }
}

// Somebody else there could be taken for the proxy by whoever looks for the node's name and gets both addresses.
#[tokio::test]
async fn its_port_is_its_own_by_ipv6_too() {
    use std::net::{Ipv6Addr, TcpListener as StdListener};
    if StdListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let proxy = Proxy::start().await;
    let own = format!("http://[::1]:{}/", proxy.record.port);
    let answer = reqwest::get(own).await.unwrap();
    assert_eq!(answer.status(), 401);
    let taken = StdListener::bind((Ipv6Addr::UNSPECIFIED, proxy.record.port)).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_killed_proxy_leaves_a_lease_that_nobody_answers_for() {
    let mut proxy = Proxy::start().await;
    proxy.signal("KILL");
    proxy.exit().await;
    assert_eq!(proxy.lease_files().len(), 4);
    proxy.get("/").send().await.unwrap_err();
}

/// What a script prints that runs `$HPC_PROXY` in a new home.
async fn in_bash(script: &str) -> String {
    let home = tempfile::TempDir::new().unwrap();
    let shell = tokio::process::Command::new("bash")
        .args(["-c", script])
        .env("HOME", home.path())
        .env("HPC_PROXY", env!("CARGO_BIN_EXE_hpc-proxy"))
        .envs(settings(home.path()))
        .output();
    let printed = timeout(DEADLINE, shell).await.expect("it ends").unwrap();
    String::from_utf8(printed.stdout).unwrap()
}

// A loop and `cat`, as job scripts have them.
#[tokio::test]
async fn a_plain_shell_loop_reads_the_port() {
    let script = r#"
        mkdir -p ~/.hpc-proxy
        "$HPC_PROXY" --port 0 --verbose 2>/dev/null &
        HPC_PROXY_PID=$!
        for i in {1..10}; do
          [ -f ~/.hpc-proxy/port ] && break
          sleep 0.5
        done
        HPC_PROXY_PORT=$(cat ~/.hpc-proxy/port 2>/dev/null || echo "")
        kill $HPC_PROXY_PID
        wait $HPC_PROXY_PID && echo "$HPC_PROXY_PORT"
    "#;
    let port: u16 = in_bash(script).await.trim().parse().unwrap();
    assert_ne!(port, 0);
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_exit() {
    let mut proxy = Proxy::start().await;
    let (go, wait) = mpsc::channel::<()>(1);
    let wait = std::sync::Arc::new(tokio::sync::Mutex::new(wait));
    let port = dev_server(move |_, mut stream| {
        let wait = wait.clone();
        async move {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
                .await
                .unwrap();
            wait.lock().await.recv().await;
            stream.write_all(b"done").await.unwrap();
        }
    })
    .await;
    let answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
    proxy.signal("TERM");
    // New connections are refused at once.
    let address = ("127.0.0.1", proxy.record.port);
    eventually("no new connections", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    go.send(()).await.unwrap();
    assert_eq!(answered.text().await.unwrap(), "done");
    assert_eq!(proxy.exit_code().await, Some(0));
}

// Behaviour 120.
#[tokio::test]
async fn a_websocket_lives_for_the_grace_period_and_no_longer() {
    let mut proxy = Proxy::start_with(&["--grace", "3s"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut socket = accept_async(listener.accept().await.unwrap().0)
            .await
            .unwrap();
        while let Some(Ok(message)) = socket.next().await {
            socket.send(message).await.unwrap();
        }
    });
    let url = proxy.url(&format!("/port/{port}/")).replace("http:", "ws:");
    let mut request = url.into_client_request().unwrap();
    request
        .headers_mut()
        .insert("x-hpc-proxy-token", proxy.token.parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    proxy.signal("TERM");
    eventually("a withdrawn lease", || proxy.lease_files().is_empty()).await;
    socket.send(Message::text("still here")).await.unwrap();
    let echoed = timeout(DEADLINE, socket.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(echoed, Message::text("still here"));
    assert_eq!(proxy.exit_code().await, Some(0));
    let last = timeout(DEADLINE, socket.next()).await.unwrap();
    let Some(Ok(Message::Close(Some(close)))) = last else {
        panic!("{last:?}");
    };
    assert_eq!(close.code, CloseCode::Away);
    assert!(!matches!(socket.next().await, Some(Ok(_))));
}

#[tokio::test]
async fn a_proxy_under_nohup_outlives_its_terminal() {
    let script = r#"
        trap "" HUP
        "$HPC_PROXY" 2>/dev/null & proxy=$!
        until [ -f ~/.hpc-proxy/port ]; do sleep 0.05; done
        kill -HUP $proxy; sleep 0.3; kill -0 $proxy && echo alive
        kill $proxy; wait $proxy
    "#;
    assert_eq!(in_bash(script).await, "alive\n");
}

// Behaviour 131.
#[tokio::test]
async fn a_taken_port_is_told_with_its_holder() {
    let proxy = Proxy::start().await;
    let home = tempfile::TempDir::new().unwrap();
    let port = proxy.record.port.to_string();
    let failed = command(home.path()).args(["--port", &port]).output();
    let failed = timeout(Duration::from_secs(5), failed)
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let told = String::from_utf8(failed.stderr).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    assert!(
        told.contains(&format!("`0.0.0.0:{port}`, which user `{uid}` holds")),
        "{told}"
    );
    assert!(told.contains("hint: "), "{told}");
    assert!(!home.path().join(".hpc-proxy").exists());
}

// S30: strangers do not keep a proxy that is asked to stop.
#[tokio::test]
async fn half_a_request_and_unread_answers_keep_nobody_from_stopping() {
    let mut proxy = Proxy::start().await;
    let mut half = proxy.connect().await;
    half.write_all(b"GET / HT").await.unwrap();
    // Refused again and again, and reads none of it.
    let deaf = proxy.connect().await;
    let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    for _ in 0..200 {
        let _ = deaf.try_write(requests.as_bytes());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let asked = std::time::Instant::now();
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code().await, Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    drop((half, deaf));
}
