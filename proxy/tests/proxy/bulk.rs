//! Bulk, which does not take the way of small messages (splice(2)): whole and in order, however it is read.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::harness::{DEADLINE, Proxy, dev_server, read_head};

const BYTES: usize = 12_000_000;

/// No part of it is like another.
fn noise() -> Arc<[u8]> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let noise: Vec<u8> = std::iter::repeat_with(next)
        .take(BYTES / 8)
        .flatten()
        .collect();
    noise.into()
}

/// Sends `bytes` in parts of all sizes, with a rest now and then.
async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    let (mut rest, mut number) = (bytes, 0);
    while !rest.is_empty() {
        let length = [1_000_000, 300, 70_000, 1, 20_000, 5][number % 6].min(rest.len());
        to.write_all(&rest[..length]).await?;
        rest = &rest[length..];
        number += 1;
        if number.is_multiple_of(7) {
            sleep(Duration::from_millis(2)).await;
        }
    }
    Ok(())
}

/// Takes so many bytes, and does not hurry: what is on its way fills every buffer.
async fn take(from: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut taken = vec![0; length];
    for part in taken.chunks_mut(2_500_000) {
        sleep(Duration::from_millis(30)).await;
        timeout(DEADLINE, from.read_exact(part))
            .await
            .expect("more bytes")
            .unwrap();
    }
    taken
}

async fn ask(client: &mut TcpStream, proxy: &Proxy, port: u16, line: &str, fields: &str) {
    let token = &proxy.token;
    let path = line.replace('@', &format!("/port/{port}"));
    let head = format!("{path} HTTP/1.1\r\nHost: h\r\nX-Hpc-Proxy-Token: {token}\r\n{fields}\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
}

/// A dev server with all of the noise below `/`, which takes it by `POST`, and exchanges it after an upgrade.
async fn server(noise: Arc<[u8]>) -> u16 {
    dev_server(move |head, mut stream| {
        let noise = Arc::clone(&noise);
        async move {
            let mut head = Some(head);
            while let Some(asked) = head {
                if asked.starts_with("POST") {
                    assert!(take(&mut stream, BYTES).await == *noise);
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                } else if asked.to_ascii_lowercase().contains("upgrade: websocket") {
                    let switched =
                        "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                    stream.write_all(switched.as_bytes()).await.unwrap();
                    let (mut from, mut to) = stream.split();
                    let (taken, sent) = tokio::join!(take(&mut from, BYTES), send(&mut to, &noise));
                    sent.unwrap();
                    assert!(taken == *noise);
                    return;
                } else {
                    let length = noise.len();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    // A client may leave.
                    if send(&mut stream, &noise).await.is_err() {
                        return;
                    }
                }
                head = read_head(&mut stream).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_long_body_comes_whole_and_leaves_its_connection_good() {
    let (proxy, noise) = (Proxy::start().await, noise());
    let port = server(Arc::clone(&noise)).await;
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        ask(&mut client, &proxy, port, "GET @/", "").await;
        read_head(&mut client).await.unwrap();
        assert!(take(&mut client, BYTES).await == *noise);
    }
    let length = format!("Content-Length: {BYTES}\r\n");
    for _ in 0..2 {
        ask(&mut client, &proxy, port, "POST @/", &length).await;
        send(&mut client, &noise).await.unwrap();
        read_head(&mut client).await.unwrap();
        assert_eq!(take(&mut client, 5).await, b"whole");
    }
}

#[tokio::test]
async fn a_pipe_carries_bulk_both_ways_at_once() {
    let (proxy, noise) = (Proxy::start().await, noise());
    let port = server(Arc::clone(&noise)).await;
    let mut client = proxy.connect().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    ask(&mut client, &proxy, port, "GET @/", upgrade).await;
    read_head(&mut client).await.unwrap();
    let (mut from, mut to) = client.split();
    let (taken, sent) = tokio::join!(take(&mut from, BYTES), send(&mut to, &noise));
    sent.unwrap();
    assert!(taken == *noise);
    let end = timeout(DEADLINE, client.read(&mut [0])).await;
    assert_eq!(end.expect("its end").unwrap(), 0);
}

#[tokio::test]
async fn what_one_client_leaves_is_no_other_ones() {
    let (proxy, noise) = (Proxy::start().await, noise());
    let port = server(Arc::clone(&noise)).await;
    for _ in 0..4 {
        let mut leaves = proxy.connect().await;
        ask(&mut leaves, &proxy, port, "GET @/", "").await;
        read_head(&mut leaves).await.unwrap();
        take(&mut leaves, 100_000).await;
    }
    let mut stays = proxy.connect().await;
    ask(&mut stays, &proxy, port, "GET @/", "").await;
    read_head(&mut stays).await.unwrap();
    assert!(take(&mut stays, BYTES).await == *noise);
}
