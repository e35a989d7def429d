//! Interim answers: `Expect: 100-continue` on its way up, 100 and 103 on their way down.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    exchange::{forwarded, sends},
    peer::Conn,
    row::{Met, Row, row, story},
    stage::Stage,
    tables::with,
    want::{own, request},
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
/// Shorter than the second that a proxy may wait for a dev server's 100.
const A_MOMENT: Duration = Duration::from_millis(300);

pub(super) fn rows() -> Vec<Row> {
    let mut rows = continues();
    rows.extend(unmet());
    rows.extend(early_hints());
    rows
}

fn expecting(stage: &Stage) -> Result<Conn> {
    let fields = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    stage.asks(with("POST", "/x", fields))
}

fn continues() -> Vec<Row> {
    vec![
        story(
            "78",
            "the client gets 100 when the dev server says it, and not before",
            |stage| {
                let mut client = expecting(stage)?;
                let (mut server, head) = stage.accepts_head()?;
                ensure!(
                    head.lists("expect", "100-continue"),
                    "the dev server was not told"
                );
                let early = client.heard_within(A_MOMENT)?;
                ensure!(
                    early.is_empty(),
                    "too early came `{}`",
                    early.escape_ascii()
                );
                server.send(CONTINUE)?;
                ensure!(client.answer("POST")?.head.status() == 100);
                client.send("hello")?;
                ensure!(server.bytes(5)? == b"hello");
                server.send(OK)?;
                ensure!(client.answer("POST")?.head.status() == 200);
                Ok(Met::Pass)
            },
        ),
        story(
            "78",
            "the client gets 100 after a while from a dev server that knows none",
            |stage| {
                let mut client = expecting(stage)?;
                let (mut server, _) = stage.accepts_head()?;
                ensure!(client.answer("POST")?.head.status() == 100);
                client.send("hello")?;
                ensure!(server.bytes(5)? == b"hello");
                server.send(OK)?;
                ensure!(client.answer("POST")?.head.status() == 200);
                Ok(Met::Pass)
            },
        ),
        story(
            "78",
            "a client that does not wait is not made to",
            |stage| {
                let mut client = expecting(stage)?;
                client.send("hello")?;
                let (mut server, _) = stage.accepts_head()?;
                ensure!(server.bytes(5)? == b"hello");
                server.send(OK)?;
                let answer = past_100(&mut client)?;
                ensure!(answer == 200, "it was answered {answer}");
                Ok(Met::Pass)
            },
        ),
        story("78", "chunks wait for 100, too", |stage| {
            let fields = "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n";
            let mut client = stage.asks(with("POST", "/x", fields))?;
            let (mut server, head) = stage.accepts_head()?;
            server.send(CONTINUE)?;
            ensure!(client.answer("POST")?.head.status() == 100);
            client.send("5\r\nhello\r\n0\r\n\r\n")?;
            let framing =
                crate::wire::request_framing(&head).map_err(|f| anyhow::anyhow!("{f}"))?;
            ensure!(server.body(head, framing)?.body == b"hello");
            server.send(OK)?;
            ensure!(client.answer("POST")?.head.status() == 200);
            Ok(Met::Pass)
        }),
        story("78", "a client gets one 100, not two", |stage| {
            let mut client = expecting(stage)?;
            let (mut server, _) = stage.accepts_head()?;
            ensure!(client.answer("POST")?.head.status() == 100, "after a while");
            server.send(CONTINUE)?;
            client.send("hello")?;
            ensure!(server.bytes(5)? == b"hello");
            server.send(OK)?;
            let status = client.answer("POST")?.head.status();
            ensure!(status == 200, "then came {status}");
            Ok(Met::Pass)
        }),
        story("78", "a body after 100 may come in parts", |stage| {
            let mut client = expecting(stage)?;
            let (mut server, _) = stage.accepts_head()?;
            server.send(CONTINUE)?;
            ensure!(client.answer("POST")?.head.status() == 100);
            client.send("he")?;
            ensure!(server.bytes(2)? == b"he");
            client.send("llo")?;
            ensure!(server.bytes(3)? == b"llo");
            server.send(OK)?;
            ensure!(client.answer("POST")?.head.status() == 200);
            Ok(Met::Pass)
        }),
    ]
}

fn unmet() -> Vec<Row> {
    let mut rows = Vec::new();
    for line in [
        "417 No",
        "413 Too Large",
        "401 Who",
        "302 There",
        "200 OK",
        "500 Oh",
    ] {
        rows.push(story(
            "78",
            format!("{line} instead of 100 ends the exchange unread"),
            move |stage| {
                let mut client = expecting(stage)?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(format!("HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nno"))?;
                let answer = client.answer("POST")?;
                ensure!(
                    answer
                        .head
                        .start
                        .starts_with(format!("HTTP/1.1 {}", &line[..3]).as_bytes())
                );
                ensure!(answer.body == b"no");
                let end = client.end_within(Duration::from_secs(2))?;
                ensure!(end.is_some(), "the client's connection stayed open");
                let heard = server.heard_within(A_MOMENT)?;
                ensure!(
                    heard.is_empty(),
                    "the dev server got `{}`",
                    heard.escape_ascii()
                );
                Ok(Met::Pass)
            },
        ));
    }
    rows.push(story("78", "an HTTP/1.0 client never gets 100", |stage| {
        let fields = "Expect: 100-continue\r\nContent-Length: 5\r\n";
        let mut client = stage.asks(format!("POST {{P}}/x HTTP/1.0\r\n{{H}}{fields}\r\nhello"))?;
        let mut server = stage.accepts()?;
        server.send(CONTINUE)?;
        ensure!(server.request()?.body == b"hello");
        server.send(OK)?;
        let status = client.answer("POST")?.head.status();
        ensure!(status == 200, "it was answered {status}");
        Ok(Met::Pass)
    }));
    for (name, text) in [
        ("HEAD", with("HEAD", "/x", "Expect: 100-continue\r\n")),
        (
            "GET without a body",
            with("GET", "/x", "Expect: 100-continue\r\n"),
        ),
        (
            "POST with an empty body",
            with(
                "POST",
                "/x",
                "Expect: 100-continue\r\nContent-Length: 0\r\n",
            ),
        ),
    ] {
        rows.push(story(
            "79",
            format!("an expectation of {name} does not hang"),
            move |stage| {
                let mut client = stage.asks(&text)?;
                let method = text.split(' ').next().unwrap_or_default();
                let mut server = stage.accepts()?;
                server.request()?;
                server.send(if method == "HEAD" {
                    &OK[..OK.len() - 2]
                } else {
                    OK
                })?;
                let mut answer = client.answer(method)?;
                if answer.head.status() == 100 {
                    answer = client.answer(method)?;
                }
                ensure!(answer.head.status() == 200);
                Ok(Met::Pass)
            },
        ));
    }
    let expects = |value: &str| {
        let post = request("POST", "/x").length("hello");
        sends(
            with(
                "POST",
                "/x",
                &format!("Expect: {value}\r\nContent-Length: 5\r\n"),
            ) + "hello",
        )
        .wants(
            forwarded(post.clone())
                .answers(vec![own(&[417])])
                .got(Vec::new())
                .named("417")
                .open_or_closed(),
        )
        .or(forwarded(post.field(format!("Expect: {value}"))).open_or_closed())
    };
    rows.push(row(
        "80",
        "an unknown expectation is refused or forwarded",
        expects("x-magic"),
    ));
    rows.push(row(
        "80",
        "100-continue among others is refused or forwarded",
        expects("100-continue, x-magic"),
    ));
    rows
}

/// The status of the final answer.
fn past_100(client: &mut Conn) -> Result<u16> {
    let status = client.answer("POST")?.head.status();
    Ok(if status == 100 {
        client.answer("POST")?.head.status()
    } else {
        status
    })
}

fn early_hints() -> Vec<Row> {
    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    vec![
        story(
            "81",
            "103 reaches the client before the answer is known",
            |stage| {
                let mut client = stage.gets("/x")?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(HINT)?;
                let hinted =
                    client.end_or_bytes_within(A_MOMENT)?.is_none() && !client.unread().is_empty();
                if hinted {
                    let hint = client.answer("GET")?;
                    ensure!(hint.head.status() == 103);
                    ensure!(hint.head.has("link"), "its Link was lost");
                }
                server.send(OK)?;
                ensure!(client.answer("GET")?.head.status() == 200);
                Ok(if hinted {
                    Met::Aim
                } else {
                    Met::Other("dropped".into())
                })
            },
        ),
        story("81", "several 103 are followed by the answer", |stage| {
            let mut client = stage.gets("/x")?;
            let (mut server, _) = stage.accepts_head()?;
            server.send([HINT, HINT, HINT, OK].concat())?;
            let mut count = 0;
            loop {
                match client.answer("GET")?.head.status() {
                    103 => count += 1,
                    200 => break,
                    other => anyhow::bail!("the client got {other}"),
                }
            }
            ensure!(count == 0 || count == 3, "of three hints came {count}");
            Ok(if count == 3 {
                Met::Aim
            } else {
                Met::Other("dropped".into())
            })
        }),
        story(
            "81",
            "a dev server that dies behind 103 is a 502",
            |stage| {
                let mut client = stage.gets("/x")?;
                let (mut server, _) = stage.accepts_head()?;
                server.send(HINT)?;
                drop(server);
                let mut status = client.answer("GET")?.head.status();
                if status == 103 {
                    status = client.answer("GET")?.head.status();
                }
                ensure!(status == 502, "the client got {status}");
                Ok(Met::Pass)
            },
        ),
        story("81", "an HTTP/1.0 client never gets 103", |stage| {
            let mut client = stage.asks("GET {P}/x HTTP/1.0\r\n{H}\r\n")?;
            let (mut server, _) = stage.accepts_head()?;
            server.send([HINT, OK].concat())?;
            let status = client.answer("GET")?.head.status();
            ensure!(status == 200, "the client got {status}");
            Ok(Met::Pass)
        }),
        story("81", "102 is passed on or dropped", |stage| {
            let mut client = stage.gets("/x")?;
            let (mut server, _) = stage.accepts_head()?;
            server.send(["HTTP/1.1 102 Processing\r\n\r\n", OK].concat())?;
            let status = client.answer("GET")?.head.status();
            if status == 102 {
                ensure!(client.answer("GET")?.head.status() == 200);
                return Ok(Met::Aim);
            }
            ensure!(status == 200, "the client got {status}");
            Ok(Met::Other("dropped".into()))
        }),
        story("81, 82", "100 that nobody expected is dropped", |stage| {
            let mut client = stage.gets("/x")?;
            let (mut server, _) = stage.accepts_head()?;
            server.send([CONTINUE, OK].concat())?;
            let status = client.answer("GET")?.head.status();
            if status == 100 {
                ensure!(client.answer("GET")?.head.status() == 200);
                return Ok(Met::Other("passed on".into()));
            }
            ensure!(status == 200, "the client got {status}");
            Ok(Met::Aim)
        }),
    ]
}
