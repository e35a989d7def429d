//! One side ends; when and how the other is told.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{EVENTS, OK, streaming};
use crate::{
    peer::{Conn, Listener},
    row::{Met, Row, story},
    stage::{Stage, answer_in_parts},
    tables::{full_listener, get, with},
};

/// A reset is passed on at once.
const AT_ONCE: Duration = Duration::from_millis(400);
/// A FIN is believed to be an abort after half a second, and passed on within another.
const AFTER_FIN: Duration = Duration::from_millis(1200);

pub(super) fn rows() -> Vec<Row> {
    let mut rows = aborts();
    rows.extend(uploads());
    rows.extend(half_closes());
    rows.into_iter().map(Row::alone).collect()
}

/// The dev server's connection ends within `time`.
fn ends(server: &mut Conn, time: Duration) -> Result<Met> {
    let start = Instant::now();
    server
        .end_within(4 * time)?
        .context("the dev server is left with a dead client")?;
    let took = start.elapsed();
    ensure!(took < time, "the dev server was told after {took:?}");
    Ok(Met::Pass)
}

fn aborts() -> Vec<Row> {
    vec![
        story(
            "100",
            "a client's reset before the answer ends the dev server's work",
            |stage| {
                let client = stage.gets("/x")?;
                let (mut server, _) = stage.accepts_head()?;
                client.reset();
                ends(&mut server, AT_ONCE)
            },
        ),
        story(
            "100, 107",
            "a client's end before the answer ends the dev server's work",
            |stage| {
                let client = stage.gets("/x")?;
                let (mut server, _) = stage.accepts_head()?;
                drop(client);
                ends(&mut server, AFTER_FIN)
            },
        ),
        story(
            "100",
            "a client's reset in a silent stream ends the dev server's work",
            |stage| {
                let (client, mut server) = streaming(stage)?;
                client.reset();
                ends(&mut server, AT_ONCE)
            },
        ),
        story(
            "100, 107",
            "a client's end in a silent stream ends the dev server's work",
            |stage| {
                let (client, mut server) = streaming(stage)?;
                drop(client);
                ends(&mut server, AFTER_FIN)
            },
        ),
        story(
            "100",
            "a client's reset while the answer flows ends the dev server's work",
            |stage| {
                let (client, mut server) = streaming(stage)?;
                server.send("5\r\nhello\r\n")?;
                // Its own answer is unread: a close is a reset.
                drop(client);
                ends(&mut server, AFTER_FIN)
            },
        ),
        story(
            "100",
            "a client's reset ends a connection that is still being made",
            |stage| {
                let (listener, _taken) = full_listener()?;
                let full = stage.beside(Listener::Tcp(listener));
                let client = full.gets("/x")?;
                let awaits = |wanted: bool, time: Duration| -> Result<()> {
                    let start = Instant::now();
                    while is_dialled(full.port)? != wanted {
                        ensure!(
                            start.elapsed() < time,
                            "is it being made: {}, after {time:?}",
                            !wanted
                        );
                        sleep(Duration::from_millis(10));
                    }
                    Ok(())
                };
                awaits(true, Duration::from_secs(2))?;
                client.reset();
                awaits(false, AT_ONCE)?;
                Ok(Met::Pass)
            },
        ),
        story(
            "100",
            "a client's reset ends a stream that is blocked",
            |stage| {
                let mut client = stage.gets("/x")?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(EVENTS)?;
                answer_in_parts(&mut client)?;
                let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
                while server.send_within(&chunk, Duration::from_millis(200))? == chunk.len() {}
                client.reset();
                // A blocked writer is told by its next write at the latest.
                let deadline = Instant::now() + AFTER_FIN;
                while server
                    .send_within(&chunk, Duration::from_millis(50))
                    .is_ok()
                {
                    ensure!(Instant::now() < deadline, "the dev server can write on");
                    ensure!(
                        server.end_within(Duration::from_millis(1))?.is_none()
                            || Instant::now() < deadline
                    );
                }
                Ok(Met::Pass)
            },
        ),
    ]
}

/// Whether somebody waits for a listener on this port of 127.0.0.1 to let them in (proc_pid_net(5):
/// addresses in hexadecimal, state 02 is SYN_SENT).
fn is_dialled(port: u16) -> Result<bool> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let remote = format!("0100007F:{port:04X}");
    Ok(table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(2);
        words.next() == Some(&remote) && words.next() == Some("02")
    }))
}

fn uploads() -> Vec<Row> {
    let begun = |stage: &Stage, fields: &str, part: &str| -> Result<(Conn, Conn)> {
        let mut client = stage.asks(with("POST", "/x", fields))?;
        let (mut server, _) = stage.accepts_head()?;
        client.send(part)?;
        server.bytes(part.len()).context("the dev server's part")?;
        Ok((client, server))
    };
    vec![
        story(
            "101",
            "a reset in an upload of stated length ends the dev server's work",
            move |stage| {
                let (client, mut server) = begun(stage, "Content-Length: 10\r\n", "hello")?;
                client.reset();
                ends(&mut server, AT_ONCE)
            },
        ),
        story(
            "101",
            "an end in an upload of stated length ends the dev server's work",
            move |stage| {
                let (client, mut server) = begun(stage, "Content-Length: 10\r\n", "hello")?;
                drop(client);
                ends(&mut server, AFTER_FIN)?;
                ensure!(server.unread().is_empty(), "it got more than was sent");
                Ok(Met::Pass)
            },
        ),
        story(
            "101",
            "a reset in a chunked upload is not its last chunk",
            move |stage| {
                let fields = "Transfer-Encoding: chunked\r\n";
                let (client, mut server) = begun(stage, fields, "5\r\nhello\r\n")?;
                client.reset();
                ends(&mut server, AT_ONCE)?;
                ensure!(
                    server.unread().is_empty(),
                    "it got `{}`",
                    server.unread().escape_ascii()
                );
                Ok(Met::Pass)
            },
        ),
        story(
            "101",
            "an end in a chunked upload is not its last chunk",
            move |stage| {
                let fields = "Transfer-Encoding: chunked\r\n";
                let (client, mut server) = begun(stage, fields, "5\r\nhello\r\n")?;
                drop(client);
                ends(&mut server, AFTER_FIN)?;
                ensure!(
                    server.unread().is_empty(),
                    "it got `{}`",
                    server.unread().escape_ascii()
                );
                Ok(Met::Pass)
            },
        ),
    ]
}

fn half_closes() -> Vec<Row> {
    let half_closed = |stage: &Stage, text: String| -> Result<Conn> {
        let mut client = stage.asks(text)?;
        client.fin()?;
        Ok(client)
    };
    vec![
        story(
            "107",
            "a client that sends no more is answered",
            move |stage| {
                let mut client = half_closed(stage, get("/x"))?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(OK)?;
                ensure!(client.answer("GET")?.body == b"ok");
                ensure!(
                    client.end_within(AFTER_FIN)?.is_some(),
                    "its connection was kept"
                );
                Ok(Met::Pass)
            },
        ),
        story(
            "107",
            "an answer that begins soon after a client's FIN is delivered in full",
            move |stage| {
                let mut client = half_closed(stage, get("/x"))?;
                let (mut server, _) = stage.accepts_head()?;
                sleep(Duration::from_millis(200));
                server.send(EVENTS)?;
                let (_, mut reader) = answer_in_parts(&mut client)?;
                for count in 1..4 {
                    sleep(Duration::from_millis(500));
                    server
                        .send("5\r\nhello\r\n")
                        .context("the dev server was cut off")?;
                    client.part(&mut reader, 5 * count)?;
                }
                server.send("0\r\n\r\n")?;
                client.part(&mut reader, 15)?;
                Ok(Met::Pass)
            },
        ),
        story("107", "an upload's FIN is no abort", move |stage| {
            let text = with("POST", "/x", "Content-Length: 5\r\n") + "hello";
            let mut client = half_closed(stage, text)?;
            let mut server = stage.accepts()?;
            ensure!(server.request()?.body == b"hello");
            sleep(Duration::from_millis(200));
            server.send(OK)?;
            ensure!(client.answer("POST")?.body == b"ok");
            Ok(Met::Pass)
        }),
        story(
            "107",
            "a request without an answer long after a client's FIN is an abort",
            move |stage| {
                let mut client = half_closed(stage, get("/x"))?;
                let (mut server, _) = stage.accepts_head()?;
                ends(&mut server, AFTER_FIN)?;
                ensure!(
                    client.end_within(AFTER_FIN)?.is_some(),
                    "the client is left waiting"
                );
                Ok(Met::Pass)
            },
        ),
    ]
}
