//! The dev server of all loads. It says as little as it can, and checks what it is sent.
//!
//! | request | answer |
//! |---|---|
//! | `GET /small` | [`SMALL`](super::SMALL) |
//! | `GET /ten` | [`TEN`](super::TEN) |
//! | `GET /page` | [`PAGE`](super::PAGE) |
//! | `GET /bytes/N`, `GET /chunked/N` | N bytes of the pattern |
//! | `GET /page/N`, `GET /gzip/N` | a page of at least N bytes, as it is and coded; see `page.rs` |
//! | `POST /count` | how many bytes of the pattern the body was; 400 when it was anything else |
//! | `/echo` as a WebSocket | every message |
//! | `/pour/N` as a WebSocket | N bytes of the pattern, then a close |
//! | `/drink` as a WebSocket | after a close, how many bytes of the pattern came before |

use std::{net::Ipv4Addr, rc::Rc};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};

use super::{PAGE, SMALL, TEN, commands, say};
use crate::{
    http::{Framing, field, read_body, read_head},
    page::{self, Coding},
    pattern::{Checker, MAX_PART, Pattern},
    websocket::{KEY, SWITCH, WebSocket},
};

/// An idle WebSocket needs few; a bulk body fills it again and again.
const BUFFER_BYTES: usize = 16 * 1024;

pub(super) async fn run() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("listen")?;
    say(&listener.local_addr()?.port().to_string())?;
    let pattern = Rc::new(Pattern::new());
    let tasks = LocalSet::new();
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await.context("accept")?;
            let pattern = pattern.clone();
            spawn_local(async move {
                // Clients come and go as they like; those that mind count it themselves.
                let _ = serve(stream, &pattern).await;
            });
        }
    };
    let mut commands = commands();
    tasks
        .run_until(async {
            tokio::select! {
                failed = accepting => failed,
                _ = commands.recv() => bail!("a dev server takes no commands"),
            }
        })
        .await
}

async fn serve(stream: TcpStream, pattern: &Pattern) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
    let mut head = Vec::new();
    while read_head(&mut stream, &mut head).await? {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = std::str::from_utf8(line).context("a request line")?;
        let path = line.split(' ').nth(1).context("a target")?;
        if field(&head, "upgrade").is_some() {
            ensure!(
                field(&head, "sec-websocket-key") == Some(KEY),
                "another key"
            );
            stream.write_all(SWITCH.as_bytes()).await?;
            return speak(WebSocket::of_server(stream), path, pattern).await;
        }
        let last = field(&head, "connection").is_some_and(|value| value == "close");
        answer(&mut stream, &head, path, pattern).await?;
        if last {
            break;
        }
    }
    Ok(())
}

async fn answer(
    stream: &mut BufReader<TcpStream>,
    head: &[u8],
    path: &str,
    pattern: &Pattern,
) -> Result<()> {
    if let Some(bytes) = path.strip_prefix("/bytes/") {
        let bytes = bytes.parse()?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        return pour(stream, pattern, bytes, false).await;
    }
    if let Some(bytes) = path.strip_prefix("/chunked/") {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await?;
        return pour(stream, pattern, bytes.parse()?, true).await;
    }
    if path == "/page" {
        let page = PAGE.as_bytes();
        let length = page.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), page].concat()).await?;
        return Ok(());
    }
    if let Some(bytes) = path.strip_prefix("/page/") {
        return page::send(stream, bytes.parse()?, Coding::Identity).await;
    }
    if let Some(bytes) = path.strip_prefix("/gzip/") {
        return page::send(stream, bytes.parse()?, Coding::Gzip).await;
    }
    let (status, body) = match path {
        "/small" => ("200 OK", SMALL.to_owned()),
        "/ten" => ("200 OK", (*TEN).to_owned()),
        "/count" => {
            let mut checker = Checker::new(pattern);
            let counted =
                read_body(stream, Framing::of(head)?, &mut |part| checker.take(part)).await;
            match counted {
                Ok(()) => ("200 OK", checker.bytes().to_string()),
                Err(error) => ("400 Bad Request", format!("{error:#}")),
            }
        }
        _ => ("404 Not Found", path.to_owned()),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    Ok(())
}

/// Sends `bytes` bytes of the pattern as a body; its head is out.
async fn pour(
    stream: &mut BufReader<TcpStream>,
    pattern: &Pattern,
    bytes: u64,
    chunked: bool,
) -> Result<()> {
    let mut offset = 0;
    while offset < bytes {
        let part = pattern.part(offset, (bytes - offset).min(MAX_PART as u64));
        if chunked {
            stream
                .write_all(format!("{:x}\r\n", part.len()).as_bytes())
                .await?;
        }
        stream.write_all(part).await?;
        if chunked {
            stream.write_all(b"\r\n").await?;
        }
        offset += part.len() as u64;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

async fn speak(mut socket: WebSocket, path: &str, pattern: &Pattern) -> Result<()> {
    match path {
        "/echo" => {
            let mut message = Vec::new();
            while socket.receive(&mut message).await? {
                socket.send(&message).await?;
                // Thousands of sockets are idle after one long message.
                message = Vec::new();
            }
            socket.send_close().await
        }
        "/drink" => {
            let counted = match socket.receive_pattern(pattern, |_| ()).await {
                Ok(bytes) => bytes.to_string(),
                Err(error) => format!("{error:#}"),
            };
            socket.send(counted.as_bytes()).await
        }
        _ => {
            let bytes = path
                .strip_prefix("/pour/")
                .context("a path of a WebSocket")?;
            socket.send_pattern(pattern, bytes.parse()?, |_| ()).await
        }
    }
}
