//! Upgrades: raw after the handshake, in both directions, until either side ends.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async, connect_async,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::harness::{DEADLINE, Proxy, answer, dev_server, field};

type Client = WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

async fn open(proxy: &Proxy, port: u16) -> Result<Client, tungstenite::Error> {
    let url = proxy
        .url(&format!("/port/{port}/ws"))
        .replace("http:", "ws:");
    let mut request = url.into_client_request().unwrap();
    request
        .headers_mut()
        .insert("x-hpc-proxy-token", proxy.token.parse().unwrap());
    Ok(timeout(DEADLINE, connect_async(request))
        .await
        .expect("no hang")?
        .0)
}

/// A dev server that returns every message.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary())
                        && socket.send(message).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A raw handshake; the bytes behind it are the test's own.
fn handshake(proxy: &Proxy, port: u16) -> String {
    let token = &proxy.token;
    format!(
        "GET /port/{port}/ws HTTP/1.1\r\nHost: h\r\nX-Hpc-Proxy-Token: {token}\r\n\
         Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: a, b\r\n\r\n"
    )
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: b\r\n\r\n";

// Behaviour 109.
#[tokio::test]
async fn messages_of_every_kind_and_size_come_back() {
    let (proxy, port) = (Proxy::start().await, echo().await);
    let mut socket = open(&proxy, port).await.unwrap();
    for message in [
        Message::text(""),
        Message::text("grüße"),
        Message::binary(vec![0, 255]),
        Message::binary(vec![7; 5 << 20]),
    ] {
        socket.send(message.clone()).await.unwrap();
        let back = timeout(DEADLINE, socket.next())
            .await
            .expect("an echo")
            .unwrap()
            .unwrap();
        assert!(back == message);
    }
}

// Behaviour 111.
#[tokio::test]
async fn a_close_code_is_passed_on() {
    let (proxy, port) = (Proxy::start().await, echo().await);
    let mut socket = open(&proxy, port).await.unwrap();
    let close = CloseFrame {
        code: CloseCode::Library(4321),
        reason: "why".into(),
    };
    socket.close(Some(close.clone())).await.unwrap();
    let answered = timeout(DEADLINE, socket.next())
        .await
        .expect("an answer")
        .unwrap()
        .unwrap();
    assert_eq!(answered, Message::Close(Some(close)));
}

// Behaviours 108, 112.
#[tokio::test]
async fn bytes_right_behind_either_handshake_are_not_lost() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        assert_eq!(field(&head, "upgrade"), Some("websocket"));
        assert_eq!(
            field(&head, "sec-websocket-key"),
            Some("dGhlIHNhbXBsZSBub25jZQ==")
        );
        assert_eq!(field(&head, "sec-websocket-protocol"), Some("a, b"));
        stream
            .write_all(format!("{SWITCHED}from server").as_bytes())
            .await
            .unwrap();
        let mut got = [0; 11];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"from client");
        stream.write_all(b" got it").await.unwrap();
    })
    .await;
    let answered = proxy.raw(&(handshake(&proxy, port) + "from client")).await;
    let (head, rest) = answered.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(field(head, "sec-websocket-protocol"), Some("b"));
    assert_eq!(
        field(head, "sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(rest, "from server got it");
}

// Behaviour 115.
#[tokio::test]
async fn a_half_close_leaves_the_other_direction_open() {
    let proxy = Proxy::start().await;
    let port = dev_server(|_, mut stream| async move {
        stream.write_all(SWITCHED.as_bytes()).await.unwrap();
        let mut got = String::new();
        stream.read_to_string(&mut got).await.unwrap();
        stream
            .write_all(format!("after the end: {got}").as_bytes())
            .await
            .unwrap();
    })
    .await;
    let mut stream = proxy.connect().await;
    stream
        .write_all(handshake(&proxy, port).as_bytes())
        .await
        .unwrap();
    crate::harness::read_head(&mut stream).await.unwrap();
    stream.write_all(b"all I have").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut rest))
        .await
        .expect("its own end")
        .unwrap();
    assert_eq!(rest, "after the end: all I have");
}

// Behaviour 113.
#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let proxy = Proxy::start().await;
    let port = dev_server(|_, mut stream| async move {
        answer(&mut stream, "418 I'm a teapot", &["X-Kept: 1"], "no").await;
    })
    .await;
    let Err(tungstenite::Error::Http(refused)) = open(&proxy, port).await else {
        panic!("not refused");
    };
    assert_eq!(refused.status(), 418);
    assert_eq!(refused.headers()["x-kept"], "1");
}

// Behaviour 114.
#[tokio::test]
async fn a_server_that_leaves_before_its_answer_is_told() {
    let (proxy, port) = (Proxy::start().await, dev_server(|_, _| async {}).await);
    let Err(tungstenite::Error::Http(refused)) = open(&proxy, port).await else {
        panic!("not refused");
    };
    assert_eq!(refused.status(), 502);
}

// Behaviour 118.
#[tokio::test]
async fn a_switch_to_another_protocol_than_asked_is_refused() {
    let proxy = Proxy::start().await;
    let port = dev_server(|_, mut stream| async move {
        let switched = SWITCHED.replace("Upgrade: websocket", "Upgrade: h2c");
        stream.write_all(switched.as_bytes()).await.unwrap();
    })
    .await;
    let refused = proxy
        .raw(&handshake(&proxy, port).replace("keep-alive", "close"))
        .await;
    assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
}

// Behaviours 82, 117: h2c is not asked for, and a server that switches to it all the same is cut.
#[tokio::test]
async fn no_other_protocol_is_tunnelled() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        assert_eq!(field(&head, "upgrade"), None, "{head}");
        assert_eq!(field(&head, "http2-settings"), None, "{head}");
        let switched =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(switched.as_bytes()).await.unwrap();
    })
    .await;
    let token = &proxy.token;
    let refused = proxy
        .raw(&format!(
            "GET /port/{port}/ HTTP/1.1\r\nHost: h\r\nX-Hpc-Proxy-Token: {token}\r\n\
             Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        ))
        .await;
    assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
}

// Behaviour 111: an end that was none of the peer's will does not look like a proper one.
#[tokio::test]
async fn a_reset_of_one_side_is_one_of_the_other() {
    let proxy = Proxy::start().await;
    let (seen, mut upstream_end) = tokio::sync::mpsc::channel(1);
    let port = dev_server(move |head, mut stream| {
        let seen = seen.clone();
        async move {
            stream.write_all(SWITCHED.as_bytes()).await.unwrap();
            if head.contains("x-leave") {
                // Read to the end: what is left unread would be a reset by itself.
                assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 2);
                stream.set_zero_linger().unwrap();
            } else {
                let end = stream
                    .read(&mut [0; 16])
                    .await
                    .map_err(|error| error.kind());
                seen.send(end).await.unwrap();
            }
        }
    })
    .await;
    let reset = Err(std::io::ErrorKind::ConnectionReset);
    let ask = handshake(&proxy, port).replace("Host: h\r\n", "Host: h\r\nx-leave: 1\r\n");
    for (ask, server_leaves) in [(ask, true), (handshake(&proxy, port), false)] {
        let mut client = proxy.connect().await;
        client.write_all(ask.as_bytes()).await.unwrap();
        crate::harness::read_head(&mut client).await.unwrap();
        if server_leaves {
            client.write_all(b"go").await.unwrap();
            let end = timeout(DEADLINE, client.read(&mut [0; 16])).await;
            assert_eq!(end.expect("an end").map_err(|error| error.kind()), reset);
        } else {
            client.set_zero_linger().unwrap();
            drop(client);
            let end = timeout(DEADLINE, upstream_end.recv()).await;
            assert_eq!(end.expect("an end"), Some(reset));
        }
    }
}
