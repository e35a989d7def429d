//! E. Streaming, timing, cancellation: nothing is held back, and an end on one side is one on the other.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    peer::Conn,
    row::{Met, Row, story},
    stage::{Stage, answer_in_parts, request_in_parts},
    tables::with,
};

mod endings;
mod volume;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
/// What behaviour 95 asks for.
const AT_ONCE: Duration = Duration::from_millis(50);
/// What a busy machine may add to it.
const SOON: Duration = Duration::from_millis(400);

pub(super) fn rows() -> Vec<Row> {
    let mut rows = delivery();
    rows.extend(duplex());
    rows.extend(long());
    rows.extend(endings::rows());
    rows.extend(volume::rows());
    rows
}

/// Whether each part arrives before the next is written, and how long the slowest took.
fn delivers(stage: &Stage, head: &str, parts: &[(&[u8], &[u8])]) -> Result<Met> {
    let mut client = stage.gets("/x")?;
    let (mut server, _) = stage.accepts_head()?;
    server.send(head)?;
    let (_, mut reader) = answer_in_parts(&mut client)?;
    let mut expected = Vec::new();
    let mut slowest = Duration::ZERO;
    for (written, body) in parts {
        // Apart, so that no earlier write pushes this one.
        sleep(Duration::from_millis(60));
        let start = Instant::now();
        server.send(written)?;
        expected.extend_from_slice(body);
        client.part(&mut reader, expected.len())?;
        slowest = slowest.max(start.elapsed());
    }
    ensure!(reader.body() == expected, "the parts came changed");
    ensure!(slowest < SOON, "a part took {slowest:?}");
    Ok(if slowest < AT_ONCE {
        Met::Aim
    } else {
        Met::Other(format!("after {slowest:?}"))
    })
}

fn delivery() -> Vec<Row> {
    let parts: &[(&[u8], &[u8])] = &[(b"one", b"one"), (b"two", b"two"), (b"3", b"3")];
    let chunks: &[(&[u8], &[u8])] = &[
        (b"3\r\none\r\n", b"one"),
        (b"3\r\ntwo\r\n", b"two"),
        (b"1\r\n3\r\n", b"3"),
    ];
    let events: &[(&[u8], &[u8])] = &[
        (b"9\r\ndata: 1\n\n\r\n", b"data: 1\n\n"),
        (b"9\r\ndata: 2\n\n\r\n", b"data: 2\n\n"),
        (b"9\r\ndata: 3\n\n\r\n", b"data: 3\n\n"),
        (b"9\r\ndata: 4\n\n\r\n", b"data: 4\n\n"),
        (b"9\r\ndata: 5\n\n\r\n", b"data: 5\n\n"),
    ];
    let gzip: &[(&[u8], &[u8])] = &[
        (
            b"a\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03\r\n",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        ),
        (b"1\r\n\xcb\r\n", b"\xcb"),
        (b"1\r\nH\r\n", b"H"),
    ];
    let row = |cites, name, head: &'static str, parts: &'static [(&[u8], &[u8])]| {
        story(cites, name, move |stage: &Stage| {
            delivers(stage, head, parts)
        })
        .alone()
    };
    vec![
        row("95", "events arrive when they are written", EVENTS, events),
        row(
            "96",
            "parts of a body of stated length arrive when they are written",
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
            parts,
        ),
        row(
            "97",
            "a page arrives as it is written",
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n",
            chunks,
        ),
        row(
            "96",
            "parts of a body up to the end arrive when they are written",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            parts,
        ),
        row(
            "99",
            "a compressed stream is not held back",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            gzip,
        ),
        row(
            "98",
            "the head arrives before a body of stated length",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            &[],
        ),
        row("98", "the head arrives before the first chunk", EVENTS, &[]),
        row(
            "98",
            "the head arrives before a body up to the end",
            "HTTP/1.0 200 OK\r\n\r\n",
            &[],
        ),
    ]
}

fn duplex() -> Vec<Row> {
    vec![
        story(
            "103, 66",
            "parts of an upload arrive when they are written",
            |stage| {
                let mut client =
                    stage.asks(with("POST", "/x", "Transfer-Encoding: chunked\r\n"))?;
                let mut server = stage.accepts()?;
                let (_, mut reader) = request_in_parts(&mut server)?;
                for (count, chunk) in [(3, "3\r\none\r\n"), (6, "3\r\ntwo\r\n"), (7, "1\r\n3\r\n")]
                {
                    client.send(chunk)?;
                    server.part(&mut reader, count)?;
                }
                ensure!(reader.body() == b"onetwo3");
                client.send("0\r\n\r\n")?;
                server.part(&mut reader, 7)?;
                server.send(OK)?;
                ensure!(client.answer("POST")?.body == b"ok");
                Ok(Met::Pass)
            },
        ),
        story(
            "103",
            "the head of an upload arrives before its body",
            |stage| {
                let mut client = stage.asks(with("POST", "/x", "Content-Length: 5\r\n"))?;
                let (mut server, _) = stage.accepts_head()?;
                client.send("hello")?;
                ensure!(server.bytes(5)? == b"hello");
                server.send(OK)?;
                ensure!(client.answer("POST")?.body == b"ok");
                Ok(Met::Pass)
            },
        ),
        story(
            "103",
            "an answer begins while the request goes on",
            |stage| {
                let mut client =
                    stage.asks(with("POST", "/x", "Transfer-Encoding: chunked\r\n"))?;
                let mut server = stage.accepts()?;
                let (_, mut up) = request_in_parts(&mut server)?;
                client.send("4\r\nping\r\n")?;
                server.part(&mut up, 4)?;
                server.send(EVENTS)?;
                let (_, mut down) = answer_in_parts(&mut client)?;
                for round in 1..4 {
                    server.send("4\r\npong\r\n")?;
                    client.part(&mut down, 4 * round)?;
                    client.send("4\r\nping\r\n")?;
                    server.part(&mut up, 4 * round + 4)?;
                }
                client.send("0\r\n\r\n")?;
                server.send("0\r\n\r\n")?;
                client.part(&mut down, 12)?;
                ensure!(down.body() == b"pongpongpong");
                Ok(Met::Pass)
            },
        ),
        story(
            "102",
            "an early answer reaches a client that still uploads",
            |stage| {
                let size = 32 * 1024 * 1024;
                let mut client =
                    stage.asks(with("POST", "/x", &format!("Content-Length: {size}\r\n")))?;
                let (mut server, _) = stage.accepts_head()?;
                let mut up = client.sender()?;
                let upload = std::thread::spawn(move || {
                    let block = vec![b'x'; 64 * 1024];
                    let mut sent = 0;
                    // It ends early when the proxy does not take any more.
                    while sent < size
                        && up
                            .send_within(&block, Duration::from_secs(2))
                            .is_ok_and(|n| n > 0)
                    {
                        sent += block.len();
                    }
                });
                server.send(
                    "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
                )?;
                server.fin()?;
                let answer = client.answer("POST")?;
                ensure!(answer.head.status() == 413 && answer.body == b"no");
                drop(server);
                drop(client);
                let deadline = Instant::now() + Duration::from_secs(8);
                while !upload.is_finished() {
                    ensure!(Instant::now() < deadline, "the upload hangs");
                    sleep(Duration::from_millis(10));
                }
                Ok(Met::Pass)
            },
        ),
        story(
            "102",
            "an early answer of a dev server that reads on reaches the client",
            |stage| {
                let mut client = stage.asks(with("POST", "/x", "Content-Length: 10\r\n"))?;
                let (mut server, _) = stage.accepts_head()?;
                client.send("hello")?;
                server.bytes(5)?;
                server.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")?;
                let answer = client.answer("POST")?;
                ensure!(answer.head.status() == 413 && answer.body == b"no");
                Ok(Met::Pass)
            },
        ),
    ]
}

fn long() -> Vec<Row> {
    vec![
        story("104", "an upload may take its time", |stage| {
            let rounds = stage.scaled(6, 90);
            let length = format!("Content-Length: {}\r\n", rounds * 5);
            let mut client = stage.asks(with("POST", "/x", &length))?;
            let (mut server, _) = stage.accepts_head()?;
            for _ in 0..rounds {
                sleep(Duration::from_millis(500));
                client.send("hello")?;
                ensure!(server.bytes(5)? == b"hello");
            }
            server.send(OK)?;
            ensure!(client.answer("POST")?.body == b"ok");
            Ok(Met::Pass)
        })
        .waits(),
        story("104", "events may be far apart", |stage| {
            let silence = stage.scaled(Duration::from_secs(3), Duration::from_secs(600));
            let mut client = stage.gets("/x")?;
            let (mut server, _) = stage.accepts_head()?;
            server.send(EVENTS)?;
            let (_, mut reader) = answer_in_parts(&mut client)?;
            let heard = client.heard_within(silence)?;
            ensure!(
                heard.is_empty(),
                "in the silence came `{}`",
                heard.escape_ascii()
            );
            server.send("2\r\nhi\r\n")?;
            client.part(&mut reader, 2)?;
            ensure!(reader.body() == b"hi");
            Ok(Met::Pass)
        })
        .waits(),
        story("104", "a dev server may think before it answers", |stage| {
            let silence = stage.scaled(Duration::from_secs(3), Duration::from_secs(90));
            let mut client = stage.gets("/x")?;
            let (mut server, _) = stage.accepts_head()?;
            ensure!(
                client.end_within(silence)?.is_none(),
                "the client was given up"
            );
            server.send(OK)?;
            ensure!(client.answer("GET")?.body == b"ok");
            Ok(Met::Pass)
        })
        .waits(),
        story(
            "106",
            "a thousand requests use one connection to the dev server",
            |stage| {
                let mut client = stage.gets("/x")?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(OK)?;
                client.answer("GET")?;
                let request = stage.fill(with("GET", "/x", ""));
                for _ in 1..1000 {
                    client.send(&request)?;
                    server.head()?;
                    server.send(OK)?;
                    ensure!(client.answer("GET")?.body == b"ok");
                }
                stage.nobody_connects(Duration::from_millis(10))?;
                Ok(Met::Pass)
            },
        ),
        story(
            "106",
            "an idle connection that the dev server closes costs nobody a request",
            |stage| {
                for _ in 0..5 {
                    let mut client = stage.gets("/1")?;
                    let (mut server, _) = stage.accepts_head()?;
                    server.send(OK)?;
                    client.answer("GET")?;
                    drop(server);
                    client.send(stage.fill(with("GET", "/2", "")))?;
                    let (mut server, _) = stage.accepts_head()?;
                    server.send(OK)?;
                    let status = client.answer("GET")?.head.status();
                    ensure!(status == 200, "the client got {status}");
                }
                Ok(Met::Pass)
            },
        ),
        story(
            "106, 92",
            "an idle connection that the dev server closed costs no POST",
            |stage| {
                let mut client = stage.gets("/1")?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(OK)?;
                client.answer("GET")?;
                drop(server);
                // Long enough to be noticed: this is not the race of behaviour 92.
                sleep(Duration::from_millis(100));
                client.send(stage.fill(with("POST", "/2", "Content-Length: 5\r\n") + "hello"))?;
                let mut server = stage.accepts()?;
                ensure!(server.request()?.body == b"hello");
                server.send(OK)?;
                let status = client.answer("POST")?.head.status();
                ensure!(status == 200, "the client got {status}");
                Ok(Met::Pass)
            },
        ),
        story(
            "106",
            "a client's connection is kept between requests",
            |stage| {
                let mut client = stage.gets("/1")?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(OK)?;
                client.answer("GET")?;
                ensure!(
                    client.end_within(Duration::from_secs(2))?.is_none(),
                    "it was closed"
                );
                Ok(Met::Pass)
            },
        )
        .waits(),
    ]
}

/// An event stream that has begun.
fn streaming(stage: &Stage) -> Result<(Conn, Conn)> {
    let mut client = stage.gets("/x")?;
    let (mut server, _) = stage.accepts_head()?;
    server.send(EVENTS)?;
    server.send("2\r\nhi\r\n")?;
    let (_, mut reader) = answer_in_parts(&mut client)?;
    client.part(&mut reader, 2)?;
    Ok((client, server))
}
