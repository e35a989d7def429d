//! A dev server that is not there, does not answer, or goes away: what the client is told, and what is
//! tried again.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    peer::{Conn, Listener},
    row::{Met, Need, Row, story},
    stage::Stage,
    subject::unused_port,
    tables::{full_listener, with},
    wire::Message,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const A_MOMENT: Duration = Duration::from_millis(200);

pub(super) fn rows() -> Vec<Row> {
    let mut rows = unreachable();
    rows.extend(explained());
    rows.extend(gone());
    rows.extend(retried());
    rows
}

/// The answer for a port that nothing listens on.
fn nobody_home(stage: &Stage, method: &str, accept: &str) -> Result<(u16, Message)> {
    let port = unused_port()?;
    let request = format!(
        "{method} /port/{port}/x HTTP/1.1\r\n{{H}}Accept: {accept}\r\nConnection: close\r\n\r\n"
    );
    let answer = stage.asks(request)?.answer(method)?;
    Ok((port, answer))
}

fn unreachable() -> Vec<Row> {
    vec![
        story("91", "a port that nothing listens on is a 502", |stage| {
            let (_, answer) = nobody_home(stage, "GET", "*/*")?;
            let status = answer.head.status();
            ensure!(status == 502, "the client got {status}");
            Ok(Met::Pass)
        }),
        story(
            "91",
            "HEAD of a port that nothing listens on is a 502 without a body",
            |stage| {
                let (_, answer) = nobody_home(stage, "HEAD", "*/*")?;
                ensure!(answer.head.status() == 502);
                Ok(Met::Pass)
            },
        ),
        story(
            "91",
            "a body for a port that nothing listens on is not taken for a request",
            |stage| {
                let port = unused_port()?;
                let mut client = stage.asks(format!(
                    "POST /port/{port}/x HTTP/1.1\r\n{{H}}Content-Length: 9\r\n\r\nGET / HTT"
                ))?;
                ensure!(client.answer("POST")?.head.status() == 502);
                client.send(stage.fill(with("GET", "/x", "")))?;
                if client.end_within(A_MOMENT)?.is_some() && client.unread().is_empty() {
                    return Ok(Met::Pass);
                }
                let (mut server, _) = stage.accepts_head()?;
                server.send(OK)?;
                ensure!(client.answer("GET")?.head.status() == 200);
                Ok(Met::Pass)
            },
        ),
        story(
            "91",
            "a dev server that accepts no connections is a 504",
            |stage| {
                // A backlog of one that is full: further connections are neither refused nor accepted.
                let (listener, _taken) = full_listener()?;
                let full = stage.beside(Listener::Tcp(listener));
                let mut client = full.gets("/x")?;
                client.patience = Duration::from_secs(25);
                let status = client.answer("GET")?.head.status();
                ensure!(status == 504, "the client got {status}");
                Ok(Met::Pass)
            },
        )
        .waits(),
    ]
}

fn explained() -> Vec<Row> {
    let explains = |status: u16, target: &'static str, fields: &'static str| {
        move |stage: &Stage, accept: &str| -> Result<Message> {
            let port = unused_port()?;
            let target = target.replace("{U}", &port.to_string());
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Accept: {accept}\r\n\r\n"
            );
            let answer = stage.asks(request)?.answer("GET")?;
            let seen = answer.head.status();
            ensure!(seen == status, "the client got {seen}");
            let stored = answer.head.only("cache-control");
            ensure!(stored == Some(b"no-store"), "it may be stored: {stored:?}");
            Ok(answer)
        }
    };
    let mut rows = Vec::new();
    for (status, target, fields) in [
        (400, "/port/0/", "{T}"),
        (401, "{P}/x", ""),
        (404, "/nowhere", "{T}"),
        (502, "/port/{U}/x", "{T}"),
        (508, "/port/{O}/x", "{T}"),
    ] {
        let explain = explains(status, target, fields);
        rows.push(story(
            "91, S25",
            format!("{status} is a page for a browser"),
            move |stage| {
                let answer = explain(stage, "text/html,application/xhtml+xml,*/*;q=0.8")?;
                let media = answer.head.only("content-type").unwrap_or_default();
                ensure!(
                    media.starts_with(b"text/html"),
                    "it is `{}`",
                    media.escape_ascii()
                );
                let nosniff = answer.head.only("x-content-type-options");
                ensure!(nosniff == Some(b"nosniff"), "a browser may guess its type");
                ensure!(
                    answer.head.has("content-security-policy"),
                    "scripts may run in it"
                );
                ensure!(!answer.body.is_empty());
                Ok(Met::Pass)
            },
        ));
        let explain = explains(status, target, fields);
        rows.push(story(
            "91",
            format!("{status} is no page for a program"),
            move |stage| {
                let answer = explain(stage, "*/*")?;
                let media = answer.head.only("content-type").unwrap_or_default();
                let plain =
                    media.starts_with(b"application/json") || media.starts_with(b"text/plain");
                ensure!(plain, "it is `{}`", media.escape_ascii());
                Ok(Met::Pass)
            },
        ));
    }
    rows.push(story(
        "91",
        "the page about a port that nothing listens on names it",
        |stage| {
            for accept in ["text/html", "*/*"] {
                let (port, answer) = nobody_home(stage, "GET", accept)?;
                let body = String::from_utf8_lossy(&answer.body);
                ensure!(body.contains(&port.to_string()), "{accept}: {body}");
            }
            Ok(Met::Pass)
        },
    ));
    rows.into_iter()
        .map(|row| row.needs(&[Need::OwnPages]))
        .collect()
}

fn gone() -> Vec<Row> {
    let is_502 = |stage: &Stage, method: &str, end: fn(Conn) -> Result<()>| -> Result<Met> {
        let mut client = stage.asks(with(method, "/x", "Content-Length: 0\r\n"))?;
        let (server, _) = stage.accepts_head()?;
        end(server)?;
        let status = client.answer(method)?.head.status();
        ensure!(status == 502, "the client got {status}");
        stage.nobody_connects(A_MOMENT)?;
        Ok(Met::Pass)
    };
    let mut rows = Vec::new();
    for method in ["GET", "POST"] {
        rows.push(story(
            "92",
            format!("an end instead of an answer to {method} is a 502, not tried again"),
            move |stage| {
                is_502(stage, method, |server| {
                    drop(server);
                    Ok(())
                })
            },
        ));
        rows.push(story(
            "92",
            format!("a reset instead of an answer to {method} is a 502, not tried again"),
            move |stage| {
                is_502(stage, method, |server| {
                    server.reset();
                    Ok(())
                })
            },
        ));
        rows.push(story(
            "92",
            format!("half a head instead of an answer to {method} is a 502, not tried again"),
            move |stage| {
                is_502(stage, method, |mut server| {
                    Ok(server.send("HTTP/1.1 200 OK\r\nX-A")?)
                })
            },
        ));
    }
    rows
}

/// A client and a dev server with one exchange behind them, and a second request on its way.
fn again(stage: &Stage, method: &str, fields: &str) -> Result<(Conn, Conn)> {
    let mut client = stage.gets("/1")?;
    let (mut server, _) = stage.accepts_head()?;
    server.send(OK)?;
    ensure!(client.answer("GET")?.body == b"ok");
    client.send(stage.fill(with(method, "/2", fields)))?;
    server.head()?;
    Ok((client, server))
}

fn retried() -> Vec<Row> {
    let mut rows = Vec::new();
    for method in ["GET", "HEAD", "OPTIONS"] {
        rows.push(story(
            "92",
            format!("{method} over a connection that ends unused is tried again"),
            move |stage| {
                let (mut client, server) = again(stage, method, "")?;
                drop(server);
                let (mut fresh, head) = stage.accepts_head()?;
                ensure!(head.target() == b"/2");
                fresh.send(if method == "HEAD" {
                    &OK[..OK.len() - 2]
                } else {
                    OK
                })?;
                let status = client.answer(method)?.head.status();
                ensure!(status == 200, "the client got {status}");
                Ok(Met::Pass)
            },
        ));
    }
    for (method, fields) in [
        ("POST", "Content-Length: 0\r\n"),
        ("POST", "Content-Length: 5\r\n"),
        ("PATCH", "Content-Length: 0\r\n"),
    ] {
        let name = format!("{method} with {} is never tried again", fields.trim_end());
        rows.push(story("92", name, move |stage| {
            let (mut client, mut server) = again(stage, method, fields)?;
            if fields.contains('5') {
                client.send("hello")?;
                server.bytes(5)?;
            }
            drop(server);
            let status = client.answer(method)?.head.status();
            ensure!(status == 502, "the client got {status}");
            stage.nobody_connects(A_MOMENT)?;
            Ok(Met::Pass)
        }));
    }
    rows.push(story(
        "92",
        "a request is tried again once, not twice",
        |stage| {
            let (mut client, server) = again(stage, "GET", "")?;
            drop(server);
            let (fresh, _) = stage.accepts_head()?;
            drop(fresh);
            let status = client.answer("GET")?.head.status();
            ensure!(status == 502, "the client got {status}");
            stage.nobody_connects(A_MOMENT)?;
            Ok(Met::Pass)
        },
    ));
    rows.push(story(
        "92",
        "a request that began to be answered is not tried again",
        |stage| {
            let (mut client, mut server) = again(stage, "GET", "")?;
            server.send("HTTP/1.1 200")?;
            drop(server);
            let status = client.answer("GET")?.head.status();
            ensure!(status == 502, "the client got {status}");
            stage.nobody_connects(A_MOMENT)?;
            Ok(Met::Pass)
        },
    ));
    rows.push(story(
        "92",
        "a GET with a body is not tried again",
        |stage| {
            let (mut client, mut server) = again(stage, "GET", "Content-Length: 5\r\n")?;
            client.send("hello")?;
            server.bytes(5)?;
            drop(server);
            let status = client.answer("GET")?.head.status();
            ensure!(status == 502, "the client got {status}");
            stage.nobody_connects(A_MOMENT)?;
            Ok(Met::Pass)
        },
    ));
    rows
}
