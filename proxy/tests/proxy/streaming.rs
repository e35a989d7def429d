//! Bodies that take their time: nothing is held back, and an end on one side is one on the other.

use std::time::Duration;

use reqwest::{Body, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::harness::{DEADLINE, Proxy, answer, dev_server, read_head};

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

async fn ask(proxy: &Proxy, port: u16) -> TcpStream {
    let mut stream = proxy.connect().await;
    let token = &proxy.token;
    let request =
        format!("GET /port/{port}/ HTTP/1.1\r\nHost: h\r\nX-Hpc-Proxy-Token: {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// A dev server that begins an event stream and is silent from then on; tells when it is left.
async fn silent_events() -> (u16, mpsc::Receiver<()>) {
    let (left, seen) = mpsc::channel(1);
    let port = dev_server(move |_, mut stream| {
        let left = left.clone();
        async move {
            stream.write_all(CHUNKED.as_bytes()).await.unwrap();
            assert!(read_head(&mut stream).await.is_none());
            left.send(()).await.unwrap();
        }
    });
    (port.await, seen)
}

// Behaviours 95, 98: each event arrives while the next is not written yet.
#[tokio::test]
async fn events_arrive_one_by_one() {
    let proxy = Proxy::start().await;
    let (next, events) = mpsc::channel::<&str>(1);
    let events = std::sync::Arc::new(tokio::sync::Mutex::new(events));
    let port = dev_server(move |_, mut stream| {
        let events = events.clone();
        async move {
            stream.write_all(CHUNKED.as_bytes()).await.unwrap();
            while let Some(event) = events.lock().await.recv().await {
                let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                stream.write_all(chunk.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let mut answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
    assert_eq!(answered.headers()["content-type"], "text/event-stream");
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        next.send(event).await.unwrap();
        let chunk = timeout(DEADLINE, answered.chunk())
            .await
            .expect("not held back")
            .unwrap();
        assert_eq!(chunk.unwrap(), event);
    }
}

// Behaviour 96.
#[tokio::test]
async fn a_body_of_known_length_is_not_held_back_either() {
    let proxy = Proxy::start().await;
    let port = dev_server(|_, mut stream| async move {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let mut answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
    let chunk = timeout(DEADLINE, answered.chunk())
        .await
        .expect("not held back")
        .unwrap();
    assert_eq!(chunk.unwrap(), "first");
}

// Behaviours 66, 103: the server answers each part while the request goes on.
#[tokio::test]
async fn both_directions_flow_at_once() {
    let proxy = Proxy::start().await;
    let port = dev_server(|_, mut stream| async move {
        stream.write_all(CHUNKED.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        loop {
            // Chunks come as they are sent; this server returns the raw lines.
            let length = stream.read(&mut buffer).await.unwrap();
            if length == 0 {
                return;
            }
            let chunk = [
                format!("{length:x}\r\n").as_bytes(),
                &buffer[..length],
                b"\r\n",
            ]
            .concat();
            stream.write_all(&chunk).await.unwrap();
        }
    })
    .await;
    let (parts, body) = mpsc::channel::<Result<&str, std::io::Error>>(1);
    let body = Body::wrap_stream(futures_util::stream::unfold(body, |mut body| async move {
        body.recv().await.map(|part| (part, body))
    }));
    let request = proxy
        .request(reqwest::Method::POST, &format!("/port/{port}/"))
        .body(body);
    let mut answered = timeout(DEADLINE, request.send())
        .await
        .expect("an early answer")
        .unwrap();
    for part in ["one", "two", "three"] {
        parts.send(Ok(part)).await.unwrap();
        let mut seen = Vec::new();
        while !seen
            .windows(part.len())
            .any(|window| window == part.as_bytes())
        {
            let chunk = timeout(DEADLINE, answered.chunk())
                .await
                .expect("not held back")
                .unwrap();
            seen.extend_from_slice(&chunk.expect("the answer goes on"));
        }
    }
}

// Behaviour 102.
#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_still_sends() {
    let proxy = Proxy::start().await;
    let port = dev_server(|_, mut stream| async move {
        answer(
            &mut stream,
            "413 Content Too Large",
            &["Connection: close"],
            "too much",
        )
        .await;
        let _ = stream.shutdown().await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let endless = futures_util::stream::unfold((), |()| async {
        sleep(Duration::from_millis(1)).await;
        Some((Ok::<_, std::io::Error>("x".repeat(1024)), ()))
    });
    let request = proxy.request(reqwest::Method::POST, &format!("/port/{port}/"));
    let answered = timeout(DEADLINE, request.body(Body::wrap_stream(endless)).send()).await;
    assert_eq!(
        answered.expect("no deadlock").unwrap().status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

// Behaviour 100.
#[tokio::test]
async fn a_client_that_leaves_takes_the_upstream_connection_with_it() {
    let proxy = Proxy::start().await;
    let (port, mut seen) = silent_events().await;
    let mut client = ask(&proxy, port).await;
    assert!(
        read_head(&mut client)
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    drop(client);
    timeout(Duration::from_secs(1), seen.recv())
        .await
        .expect("within a second")
        .unwrap();
}

// Behaviour 93.
#[tokio::test]
async fn a_body_that_is_cut_does_not_look_complete() {
    let proxy = Proxy::start().await;
    for head in [
        CHUNKED.to_owned() + "5\r\nfirst\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst".to_owned(),
    ] {
        let port = dev_server(move |_, mut stream| {
            let head = head.clone();
            async move { stream.write_all(head.as_bytes()).await.unwrap() }
        })
        .await;
        let answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
        answered.text().await.unwrap_err();
    }
}

// Behaviour 61.
#[tokio::test]
async fn an_upload_that_is_cut_does_not_look_complete() {
    let proxy = Proxy::start().await;
    let (ended, mut seen) = mpsc::channel::<Vec<u8>>(1);
    let port = dev_server(move |_, mut stream| {
        let ended = ended.clone();
        async move {
            let mut body = Vec::new();
            let _ = stream.read_to_end(&mut body).await;
            ended.send(body).await.unwrap();
        }
    })
    .await;
    let mut client = proxy.connect().await;
    let token = &proxy.token;
    let request = format!(
        "POST /port/{port}/ HTTP/1.1\r\nHost: h\r\nX-Hpc-Proxy-Token: {token}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    drop(client);
    let body = timeout(DEADLINE, seen.recv()).await.expect("cut").unwrap();
    assert!(
        !body.ends_with(b"0\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&body)
    );
}

// Behaviour 105: what a client does not read stays with the server.
#[tokio::test]
async fn a_slow_reader_holds_the_server_back() {
    let proxy = Proxy::start().await;
    let (written, mut progress) = mpsc::unbounded_channel::<usize>();
    let port = dev_server(move |_, mut stream| {
        let written = written.clone();
        async move {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let block = vec![b'x'; 1 << 16];
            while stream.write_all(&block).await.is_ok() {
                let _ = written.send(block.len());
            }
        }
    })
    .await;
    let client = ask(&proxy, port).await;
    let mut total = 0;
    while let Ok(Some(bytes)) = timeout(Duration::from_millis(500), progress.recv()).await {
        total += bytes;
        assert!(total < 100 << 20, "the proxy swallows what nobody reads");
    }
    drop(client);
}

// S17: what a server would not take is still the body of its own request, and not of the next.
#[tokio::test]
async fn a_body_that_is_refused_halfway_ends_where_it_said() {
    let home = tempfile::TempDir::new().unwrap();
    let sockets = home.path().join("sockets");
    std::fs::create_dir(&sockets).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&sockets, private).unwrap();
    let listener = tokio::net::UnixListener::bind(sockets.join("app")).unwrap();
    let (asked, mut asks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let head = String::from_utf8(head).unwrap();
                asked.send(head.lines().next().unwrap().to_owned()).unwrap();
                // It reads no more, and answers late.
                rustix::net::shutdown(&stream, rustix::net::Shutdown::Read)?;
                sleep(Duration::from_millis(500)).await;
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer.as_bytes()).await
            });
        }
    });
    let proxy = Proxy::start_with(&["--socket-dir", sockets.to_str().unwrap()]).await;
    let mut client = proxy.connect().await;
    let token = &proxy.token;
    let head = |line: &str, length: usize| {
        format!(
            "POST {line} HTTP/1.1\r\nHost: h\r\nX-Hpc-Proxy-Token: {token}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    client
        .write_all(head("/sock/app/a", 1000).as_bytes())
        .await
        .unwrap();
    sleep(Duration::from_millis(100)).await;
    client.write_all(&[b'A'; 200]).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    client.write_all(&[b'A'; 800]).await.unwrap();
    client
        .write_all(head("/sock/app/b", 0).as_bytes())
        .await
        .unwrap();
    let mut seen = Vec::new();
    while let Ok(Some(line)) = timeout(Duration::from_secs(2), asks.recv()).await {
        seen.push(line);
    }
    // Were the first part not counted, the second request would be taken for the body's rest.
    assert_eq!(seen, ["POST /a HTTP/1.1", "POST /b HTTP/1.1"]);
}

// Behaviour 107: who reads slowly has not gone.
#[tokio::test]
async fn a_slow_reader_that_sends_no_more_gets_its_answer() {
    const LENGTH: usize = 30_000_000;
    let proxy = Proxy::start().await;
    let port = dev_server(|_, mut stream| async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; LENGTH]).await.unwrap();
    })
    .await;
    let mut client = ask(&proxy, port).await;
    let head = read_head(&mut client).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    sleep(Duration::from_millis(200)).await;
    client.shutdown().await.unwrap();
    sleep(Duration::from_millis(1200)).await;
    let mut body = Vec::new();
    let read = timeout(DEADLINE, client.read_to_end(&mut body)).await;
    read.expect("its end").unwrap();
    assert_eq!(body.len(), LENGTH);
}

// Behaviour 100: also of a client that has sent more than is read ahead.
#[tokio::test]
async fn a_reset_is_heard_behind_many_requests() {
    let proxy = Proxy::start().await;
    let (port, mut seen) = silent_events().await;
    let mut client = ask(&proxy, port).await;
    read_head(&mut client).await.unwrap();
    client
        .write_all(&"GET / HTTP/1.1\r\n\r\n".repeat(5000).into_bytes())
        .await
        .unwrap();
    sleep(Duration::from_millis(100)).await;
    client.set_zero_linger().unwrap();
    drop(client);
    timeout(Duration::from_secs(1), seen.recv())
        .await
        .expect("within a second")
        .unwrap();
}
