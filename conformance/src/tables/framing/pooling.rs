//! What one connection must not do to the next request over it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{
    peer::Conn,
    row::{Met, Row, story},
    stage::Stage,
    tables::get,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Long enough for a proxy to do what it should not.
const A_MOMENT: Duration = Duration::from_millis(150);

pub(super) fn rows() -> Vec<Row> {
    vec![
        story(
            "64, S17",
            "a second request is not given to the dev server early",
            |stage| {
                let mut client = stage.asks(get("/1") + &get("/2"))?;
                let (mut server, _) = stage.accepts_head()?;
                let early = server.heard_within(A_MOMENT)?;
                ensure!(
                    early.is_empty(),
                    "before the answer came `{}`",
                    early.escape_ascii()
                );
                server.send(OK)?;
                ensure!(client.answer("GET")?.body == b"ok");
                let mut server = next_request(stage, server)?;
                server.send(OK)?;
                ensure!(client.answer("GET")?.body == b"ok");
                Ok(Met::Pass)
            },
        ),
        story(
            "71, S17",
            "an answer that nobody asked for is nobody's",
            |stage| {
                let (mut client, mut server) = after_one_exchange(stage)?;
                server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")?;
                std::thread::sleep(A_MOMENT);
                client.send(stage.fill(get("/2")))?;
                let (mut fresh, _) = stage.accepts_head().context("over another connection")?;
                fresh.send(OK)?;
                let answer = client.answer("GET")?;
                ensure!(
                    answer.body == b"ok",
                    "it was answered `{}`",
                    answer.body.escape_ascii()
                );
                let end = server.end_within(Duration::from_secs(2))?;
                ensure!(
                    end.is_some(),
                    "the connection with the stray answer was kept"
                );
                Ok(Met::Pass)
            },
        ),
        story("71, S17", "bytes on an idle connection end it", |stage| {
            let (mut client, mut server) = after_one_exchange(stage)?;
            server.send("x")?;
            std::thread::sleep(A_MOMENT);
            client.send(stage.fill(get("/2")))?;
            let (mut fresh, _) = stage.accepts_head().context("over another connection")?;
            fresh.send(OK)?;
            ensure!(client.answer("GET")?.body == b"ok");
            Ok(Met::Pass)
        }),
        story(
            "71",
            "a stray 408 before the dev server closes is no answer",
            |stage| {
                let (mut client, mut server) = after_one_exchange(stage)?;
                server.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
                drop(server);
                std::thread::sleep(A_MOMENT);
                client.send(stage.fill(get("/2")))?;
                let (mut fresh, _) = stage.accepts_head().context("over another connection")?;
                fresh.send(OK)?;
                ensure!(client.answer("GET")?.head.status() == 200);
                Ok(Met::Pass)
            },
        ),
    ]
}

/// A client and a dev server that have had one exchange.
fn after_one_exchange(stage: &Stage) -> Result<(Conn, Conn)> {
    let mut client = stage.gets("/1")?;
    let (mut server, _) = stage.accepts_head()?;
    server.send(OK)?;
    ensure!(client.answer("GET")?.body == b"ok");
    Ok((client, server))
}

/// The dev server's side of the next request, over whichever connection it comes.
fn next_request(stage: &Stage, mut before: Conn) -> Result<Conn> {
    if before
        .end_or_bytes_within(Duration::from_secs(1))?
        .is_none()
        && !before.unread().is_empty()
    {
        before.head()?;
        return Ok(before);
    }
    Ok(stage.accepts_head()?.0)
}
