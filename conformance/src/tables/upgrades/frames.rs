//! An open pipe: every byte both ways, and both kinds of end.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{A_MOMENT, AGREES, ASKS, Row, bare, masked, passes, pipe, shaken, story};
use crate::{
    peer::{Conn, End},
    row::Met,
    stage::Stage,
};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// Without its last part.
const OPEN_TEXT: u8 = 0x01;
const CONTINUED: u8 = 0x00;
const LAST: u8 = 0x80;
/// With the bit of an extension (RFC 7692).
const DEFLATED: u8 = 0xc1;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = identical();
    rows.extend(controls());
    rows.extend(ends());
    rows.extend(lasting());
    rows
}

fn identical() -> Vec<Row> {
    let both = |stage: &Stage, frames: &[(u8, &[u8])]| -> Result<Met> {
        let (mut client, mut server) = pipe(stage)?;
        for (first, payload) in frames {
            passes(&mut client, &mut server, &masked(*first, payload))?;
            passes(&mut server, &mut client, &bare(*first, payload))?;
        }
        Ok(Met::Pass)
    };
    vec![
        story("109", "text passes both ways", move |stage| {
            both(stage, &[(TEXT, "grüß dich".as_bytes())])
        }),
        story("109", "binary passes both ways", move |stage| {
            let all: Vec<u8> = (0..=255).collect();
            both(stage, &[(BINARY, &all)])
        }),
        story("109", "fragments pass as fragments", move |stage| {
            both(
                stage,
                &[
                    (OPEN_TEXT, b"a"),
                    (CONTINUED, b"b"),
                    (PING, b"p"),
                    (LAST, b"c"),
                ],
            )
        }),
        story("109", "empty frames pass", move |stage| {
            both(
                stage,
                &[(TEXT, b""), (BINARY, b""), (OPEN_TEXT, b""), (LAST, b"")],
            )
        }),
        story("109", "compressed frames pass", move |stage| {
            both(stage, &[(DEFLATED, b"\xf2H\xcd\xc9\xc9\x07\0")])
        }),
        story(
            "109",
            "frames that break the rules are between client and dev server",
            move |stage| both(stage, &[(0xff, b"?"), (CONTINUED, b""), (0xb3, b"x")]),
        ),
        story("109", "bytes that are no frames pass, too", |stage| {
            let (mut client, mut server) = pipe(stage)?;
            passes(&mut client, &mut server, b"GET / HTTP/1.1\r\n\r\n")?;
            passes(&mut server, &mut client, b"HTTP/1.1 200 OK\r\n\r\n\0\xff")?;
            Ok(Met::Pass)
        }),
        story("109", "16 MB pass to the dev server", |stage| {
            let (client, server) = pipe(stage)?;
            large(client, server, masked(BINARY, &pattern()))
        }),
        story("109", "16 MB pass to the client", |stage| {
            let (client, server) = pipe(stage)?;
            large(server, client, bare(BINARY, &pattern()))
        }),
        story(
            "112",
            "a frame right behind the client's handshake is not lost",
            |stage| {
                let early = masked(TEXT, b"early");
                let head = stage.fill(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n"));
                let mut client = stage.connect()?;
                client.send([head, early.clone()].concat())?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(format!("{AGREES}\r\n"))?;
                ensure!(client.head()?.status() == 101);
                ensure!(server.bytes(early.len())? == early);
                passes(&mut client, &mut server, &masked(TEXT, b"later"))?;
                Ok(Met::Pass)
            },
        ),
        story(
            "112, S17",
            "a frame behind the handshake waits for 101",
            |stage| {
                let early = masked(TEXT, b"early");
                let head = stage.fill(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n"));
                let mut client = stage.connect()?;
                client.send([head, early.clone()].concat())?;
                let (mut server, _) = stage.accepts_head()?;
                let heard = server.heard_within(A_MOMENT)?;
                ensure!(
                    heard.is_empty(),
                    "before 101 came `{}`",
                    heard.escape_ascii()
                );
                server.send(format!("{AGREES}\r\n"))?;
                ensure!(server.bytes(early.len())? == early);
                Ok(Met::Pass)
            },
        ),
        story("112", "a frame right behind 101 is not lost", |stage| {
            let early = bare(TEXT, b"early");
            let mut client = stage.asks(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n"))?;
            let (mut server, _) = stage.accepts_head()?;
            server.send([format!("{AGREES}\r\n").into_bytes(), early.clone()].concat())?;
            ensure!(client.head()?.status() == 101);
            ensure!(client.bytes(early.len())? == early);
            Ok(Met::Pass)
        }),
        story("112", "much right behind 101 is not lost", |stage| {
            let early = bare(BINARY, &[b'x'; 200_000]);
            let mut client = stage.asks(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n"))?;
            let (mut server, _) = stage.accepts_head()?;
            server.send([format!("{AGREES}\r\n").into_bytes(), early.clone()].concat())?;
            server.fin()?;
            ensure!(client.head()?.status() == 101);
            ensure!(client.bytes(early.len())? == early);
            ensure!(client.end_within(A_MOMENT * 5)?.is_some());
            Ok(Met::Pass)
        }),
    ]
}

fn pattern() -> Vec<u8> {
    (0..16 * 1024 * 1024_u32)
        .map(|index| (index * 31 / 7).to_le_bytes()[0])
        .collect()
}

fn large(mut from: Conn, mut to: Conn, frame: Vec<u8>) -> Result<Met> {
    let sent = frame.clone();
    let sender = thread::spawn(move || from.send(sent).map(|()| from));
    to.patience = Duration::from_secs(20);
    let got = to.bytes(frame.len())?;
    ensure!(got == frame, "other bytes came");
    sender
        .join()
        .map_err(|_| anyhow!("the sender panicked"))??;
    Ok(Met::Pass)
}

fn controls() -> Vec<Row> {
    let mut rows = vec![
        story(
            "110",
            "a client's ping is the dev server's to answer",
            |stage| {
                let (mut client, mut server) = pipe(stage)?;
                passes(&mut client, &mut server, &masked(PING, b"p"))?;
                let heard = client.heard_within(A_MOMENT)?;
                ensure!(
                    heard.is_empty(),
                    "the proxy answered `{}`",
                    heard.escape_ascii()
                );
                passes(&mut server, &mut client, &bare(PONG, b"p"))?;
                Ok(Met::Pass)
            },
        ),
        story(
            "110",
            "a dev server's ping is the client's to answer",
            |stage| {
                let (mut client, mut server) = pipe(stage)?;
                passes(&mut server, &mut client, &bare(PING, b"p"))?;
                let heard = server.heard_within(A_MOMENT)?;
                ensure!(
                    heard.is_empty(),
                    "the proxy answered `{}`",
                    heard.escape_ascii()
                );
                passes(&mut client, &mut server, &masked(PONG, b"p"))?;
                Ok(Met::Pass)
            },
        ),
    ];
    for code in [1000_u16, 1001, 1011, 3000, 4999] {
        let payload = [&code.to_be_bytes()[..], b"because"].concat();
        let to_server = payload.clone();
        rows.push(story(
            "111",
            format!("a client's close {code} reaches the dev server"),
            move |stage| {
                let (mut client, mut server) = pipe(stage)?;
                passes(&mut client, &mut server, &masked(CLOSE, &to_server))?;
                passes(&mut server, &mut client, &bare(CLOSE, &to_server))?;
                drop(server);
                ensure!(
                    client.end_within(A_MOMENT * 5)? == Some(End::Fin),
                    "the end was not clean"
                );
                Ok(Met::Pass)
            },
        ));
        rows.push(story(
            "111",
            format!("a dev server's close {code} reaches the client"),
            move |stage| {
                let (mut client, mut server) = pipe(stage)?;
                passes(&mut server, &mut client, &bare(CLOSE, &payload))?;
                passes(&mut client, &mut server, &masked(CLOSE, &payload))?;
                drop(server);
                ensure!(
                    client.end_within(A_MOMENT * 5)? == Some(End::Fin),
                    "the end was not clean"
                );
                Ok(Met::Pass)
            },
        ));
    }
    rows
}

/// The end arrives within a moment, without a frame that nobody sent.
fn ends_bare(conn: &mut Conn) -> Result<End> {
    let end = conn
        .end_within(A_MOMENT * 5)?
        .context("the other end is left open")?;
    ensure!(
        conn.unread().is_empty(),
        "before the end came `{}`",
        conn.unread().escape_ascii()
    );
    Ok(end)
}

fn abrupt(end: End) -> Met {
    match end {
        End::Reset => Met::Aim,
        End::Fin => Met::Other("as a FIN".into()),
    }
}

fn ends() -> Vec<Row> {
    vec![
        story("111", "a client's reset is no close frame", |stage| {
            let (client, mut server) = pipe(stage)?;
            client.reset();
            Ok(abrupt(ends_bare(&mut server)?))
        }),
        story("111", "a dev server's reset is no close frame", |stage| {
            let (mut client, server) = pipe(stage)?;
            server.reset();
            Ok(abrupt(ends_bare(&mut client)?))
        }),
        story(
            "111",
            "a client's end without a close frame gets none",
            |stage| {
                let (client, mut server) = pipe(stage)?;
                drop(client);
                ends_bare(&mut server)?;
                Ok(Met::Pass)
            },
        ),
        story(
            "111",
            "a dev server's end without a close frame gets none",
            |stage| {
                let (mut client, server) = pipe(stage)?;
                drop(server);
                ends_bare(&mut client)?;
                Ok(Met::Pass)
            },
        ),
        story(
            "111",
            "an end inside a frame is passed on behind its part",
            |stage| {
                let (mut client, mut server) = pipe(stage)?;
                let part = &bare(BINARY, b"hello")[..4];
                passes(&mut server, &mut client, part)?;
                drop(server);
                ends_bare(&mut client)?;
                Ok(Met::Pass)
            },
        ),
        story(
            "115, 107",
            "a client that sends no more can read on",
            |stage| {
                let (mut client, mut server) = pipe(stage)?;
                client.fin()?;
                ensure!(
                    server.end_within(A_MOMENT * 5)? == Some(End::Fin),
                    "the half-close was not passed on"
                );
                // Longer than the grace of a request's half-close.
                for _ in 0..3 {
                    thread::sleep(Duration::from_millis(600));
                    passes(&mut server, &mut client, &bare(TEXT, b"more"))?;
                }
                drop(server);
                ensure!(client.end_within(A_MOMENT * 5)?.is_some());
                Ok(Met::Pass)
            },
        )
        .waits(),
        story(
            "115",
            "a dev server that sends no more can read on",
            |stage| {
                let (mut client, mut server) = pipe(stage)?;
                server.fin()?;
                ensure!(
                    client.end_within(A_MOMENT * 5)? == Some(End::Fin),
                    "the half-close was not passed on"
                );
                for _ in 0..3 {
                    thread::sleep(Duration::from_millis(600));
                    passes(&mut client, &mut server, &masked(TEXT, b"more"))?;
                }
                drop(client);
                ensure!(server.end_within(A_MOMENT * 5)?.is_some());
                Ok(Met::Pass)
            },
        )
        .waits(),
        story(
            "115",
            "what was sent before a half-close arrives before it",
            |stage| {
                let (mut client, mut server) = pipe(stage)?;
                let last = masked(BINARY, &[b'x'; 100_000]);
                client.send(&last)?;
                client.fin()?;
                ensure!(server.bytes(last.len())? == last);
                ensure!(server.end_within(A_MOMENT * 5)? == Some(End::Fin));
                Ok(Met::Pass)
            },
        ),
    ]
}

fn lasting() -> Vec<Row> {
    vec![
        story("116", "an idle pipe stays", |stage| {
            let (mut client, mut server) = pipe(stage)?;
            let idle = stage.scaled(Duration::from_secs(4), Duration::from_secs(1800));
            let heard = client.heard_within(idle)?;
            ensure!(
                heard.is_empty(),
                "in the silence came `{}`",
                heard.escape_ascii()
            );
            passes(&mut server, &mut client, &bare(TEXT, b"still here"))?;
            passes(&mut client, &mut server, &masked(TEXT, b"and here"))?;
            Ok(Met::Pass)
        })
        .waits(),
        story(
            "116, S23",
            "many pipes at once take little memory each",
            |stage| {
                const PER_PIPE_BYTES: u64 = 128 * 1024;
                let own = stage.alone(&[])?;
                drop(pipe(&own)?);
                let before = own.proxy.resident_bytes()?;
                let count = stage.scaled(100, 1000);
                let mut pipes = Vec::new();
                for _ in 0..count {
                    let (client, server, _, _) = shaken(&own, "", "")?;
                    pipes.push((client, server));
                }
                for (client, server) in &mut pipes {
                    passes(client, server, &masked(TEXT, b"hello"))?;
                    passes(server, client, &bare(TEXT, b"hello"))?;
                }
                let grown = own.proxy.resident_bytes()?.saturating_sub(before);
                let each = grown / count;
                ensure!(each < PER_PIPE_BYTES, "each takes {each} bytes");
                Ok(Met::Pass)
            },
        )
        .alone(),
        story("126", "a busy pipe leaves room for requests", |stage| {
            let (mut client, mut server) = pipe(stage)?;
            // Nobody reads it: it fills up.
            server.send_within(&vec![0; 8 * 1024 * 1024], A_MOMENT)?;
            let start = Instant::now();
            for _ in 0..20 {
                let mut other = stage.gets("/x")?;
                let (mut answering, _) = stage.accepts_head()?;
                answering.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")?;
                ensure!(other.answer("GET")?.head.status() == 204);
            }
            let took = start.elapsed();
            ensure!(took < Duration::from_secs(3), "20 requests took {took:?}");
            client.heard_within(Duration::from_millis(1))?;
            Ok(Met::Pass)
        }),
    ]
}
