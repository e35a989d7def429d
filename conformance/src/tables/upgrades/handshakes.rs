//! The handshake, and what else may answer it.

use anyhow::{Result, ensure};

use super::{A_MOMENT, AGREES, ASKS, Row, row, shaken, story};
use crate::{
    exchange::{Exchange, answered, gets, sends},
    peer::Trouble,
    recorder::After,
    row::{Met, Need},
    stage::Stage,
    want::{own, passed, request},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = agreed();
    rows.extend(declined());
    rows.extend(broken());
    rows
}

fn has(head: &crate::wire::Head, lines: &[&str]) -> Result<()> {
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        let seen: Vec<_> = head.all(name).collect();
        ensure!(seen == [value.as_bytes()], "wanted {line}, got {seen:?}");
    }
    Ok(())
}

fn agreed() -> Vec<Row> {
    vec![
        story(
            "108",
            "a handshake's key, version and answer are unchanged",
            |stage| {
                let (_, _, asked, agreed) = shaken(stage, "", "")?;
                ensure!(asked.target() == b"/ws");
                ensure!(
                    asked.lists("connection", "upgrade"),
                    "Connection does not ask for an upgrade"
                );
                has(
                    &asked,
                    &[
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                        "Sec-WebSocket-Version: 13",
                    ],
                )?;
                let upgrade = asked.only("upgrade").unwrap_or_default();
                ensure!(upgrade.eq_ignore_ascii_case(b"websocket"));
                ensure!(agreed.lists("connection", "upgrade"));
                ensure!(
                    agreed
                        .only("upgrade")
                        .unwrap_or_default()
                        .eq_ignore_ascii_case(b"websocket")
                );
                has(
                    &agreed,
                    &["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
                )?;
                ensure!(
                    !agreed.has("content-length") && !agreed.has("transfer-encoding"),
                    "101 has a body"
                );
                Ok(Met::Pass)
            },
        ),
        story(
            "108",
            "of several protocols the dev server picks the second",
            |stage| {
                let offered = "Sec-WebSocket-Protocol: vite-hmr, graphql-ws";
                let picked = "Sec-WebSocket-Protocol: graphql-ws";
                let (_, _, asked, agreed) =
                    shaken(stage, &format!("{offered}\r\n"), &format!("{picked}\r\n"))?;
                has(&asked, &[offered])?;
                has(&agreed, &[picked])?;
                Ok(Met::Pass)
            },
        ),
        story(
            "108",
            "of several protocols the dev server picks none",
            |stage| {
                let offered = "Sec-WebSocket-Protocol: a, b";
                let (_, _, asked, agreed) = shaken(stage, &format!("{offered}\r\n"), "")?;
                has(&asked, &[offered])?;
                ensure!(
                    !agreed.has("sec-websocket-protocol"),
                    "the proxy picked one"
                );
                Ok(Met::Pass)
            },
        ),
        story("108", "protocols on two lines stay on two", |stage| {
            let offered = "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n";
            let (_, _, asked, _) = shaken(stage, offered, "")?;
            let seen: Vec<_> = asked.all("sec-websocket-protocol").collect();
            ensure!(seen == [b"a", b"b"], "the dev server got {seen:?}");
            Ok(Met::Pass)
        }),
        story(
            "108",
            "extensions are between client and dev server",
            |stage| {
                let offered = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-odd; a=\"b\"";
                let picked =
                    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover";
                let (_, _, asked, agreed) =
                    shaken(stage, &format!("{offered}\r\n"), &format!("{picked}\r\n"))?;
                has(&asked, &[offered])?;
                has(&agreed, &[picked])?;
                Ok(Met::Pass)
            },
        ),
        story(
            "108",
            "Connection may ask for more than the upgrade",
            |stage| {
                let fields = ASKS.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade");
                let mut client =
                    stage.asks(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{fields}\r\n"))?;
                let (mut server, asked) = stage.accepts_head()?;
                ensure!(asked.lists("connection", "upgrade") && asked.has("upgrade"));
                server.send(format!("{AGREES}\r\n"))?;
                ensure!(client.head()?.status() == 101);
                Ok(Met::Pass)
            },
        ),
        story("108", "the tokens of a handshake have no case", |stage| {
            let fields = ASKS.replace(
                "Connection: Upgrade\r\nUpgrade: websocket",
                "connection: UPGRADE\r\nupgrade: WebSocket",
            );
            let mut client = stage.asks(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{fields}\r\n"))?;
            let (mut server, asked) = stage.accepts_head()?;
            ensure!(asked.lists("connection", "upgrade") && asked.has("upgrade"));
            server.send(AGREES.replace("Upgrade: websocket", "upgrade: WebSocket") + "\r\n")?;
            ensure!(client.head()?.status() == 101);
            Ok(Met::Pass)
        }),
        story("108, 89", "a handshake may set a cookie", |stage| {
            let (_, _, _, agreed) = shaken(stage, "", "Set-Cookie: a=1; Path=/\r\nX-A: 1\r\n")?;
            ensure!(agreed.only("x-a") == Some(&b"1"[..]));
            let cookie = agreed.only("set-cookie").unwrap_or_default();
            let cookie = String::from_utf8_lossy(cookie).to_lowercase();
            let path = String::from_utf8_lossy(&stage.fill("path={P}/")).into_owned();
            ensure!(
                cookie.starts_with("a=1") && cookie.contains(&path),
                "it came as `{cookie}`"
            );
            Ok(Met::Pass)
        }),
        story(
            "119, 40",
            "Host on an upgrade is as on any request",
            |stage| {
                let (_, _, asked, _) = shaken(stage, "", "")?;
                has(
                    &asked,
                    &[&String::from_utf8_lossy(&stage.fill("Host: localhost:{N}"))],
                )?;
                Ok(Met::Pass)
            },
        ),
        story(
            "119",
            "Origin on an upgrade is as on any request",
            |stage| {
                for origin in ["http://localhost", "https://evil.example", "null"] {
                    let line = format!("Origin: {origin}\r\n");
                    let (_, _, asked, _) = shaken(stage, &line, "")?;
                    let mut client =
                        stage.asks(format!("GET {{P}}/ HTTP/1.1\r\n{{H}}{line}\r\n"))?;
                    let (mut server, plain) = stage.accepts_head()?;
                    server.send("HTTP/1.1 204 No Content\r\n\r\n")?;
                    client.answer("GET")?;
                    ensure!(asked.only("origin") == plain.only("origin"), "of {origin}");
                    ensure!(asked.has("origin"), "{origin} was lost");
                }
                Ok(Met::Pass)
            },
        ),
        story("119", "a foreign Origin is not made ours", |stage| {
            let (_, _, asked, _) = shaken(stage, "Origin: https://evil.example\r\n", "")?;
            has(&asked, &["Origin: https://evil.example"])?;
            Ok(Met::Pass)
        }),
        story(
            "32, 108",
            "a handshake is told its prefix and client",
            |stage| {
                let (_, _, asked, _) = shaken(stage, "", "")?;
                let prefix = stage.fill("X-Forwarded-Prefix: {P}");
                has(
                    &asked,
                    &[
                        &String::from_utf8_lossy(&prefix),
                        "X-Forwarded-For: 127.0.0.1",
                    ],
                )?;
                Ok(Met::Pass)
            },
        ),
        story(
            "48, S3",
            "the token does not travel with a handshake",
            |stage| {
                let (_, _, asked, _) = shaken(stage, "Cookie: __hpc_proxy=0; a=1\r\n", "")?;
                ensure!(!asked.has("x-hpc-proxy-token"));
                has(&asked, &["Cookie: a=1"])?;
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::Token]),
    ]
}

fn asking() -> Exchange {
    sends(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n"))
}

fn declined() -> Vec<Row> {
    let mut rows = Vec::new();
    for (line, fields, to) in [
        ("403 Forbidden", "X-A: 1", "X-A: 1"),
        (
            "400 Bad Request",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Version: 13",
        ),
        (
            "401 Who",
            "WWW-Authenticate: Basic",
            "WWW-Authenticate: Basic",
        ),
        ("302 There", "Location: /x", "Location: {P}/x"),
        ("200 OK", "X-A: 1", "X-A: 1"),
        ("404 No", "X-A: 1", "X-A: 1"),
        ("500 Oh", "X-A: 1", "X-A: 1"),
    ] {
        let status: u16 = line[..3].parse().unwrap_or(0);
        rows.push(row(
            "113",
            format!("{line} to an upgrade is passed on with its body"),
            {
                asking()
                    .answer(format!(
                        "HTTP/1.1 {line}\r\n{fields}\r\nContent-Length: 2\r\n\r\nno"
                    ))
                    .wants(gets(passed(status, "no").field(to)).open_or_closed())
            },
        ));
    }
    rows.push(row(
        "113",
        "426 to an upgrade is passed on with its body",
        {
            asking()
                .answer("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
                .wants(gets(passed(426, "no")).open_or_closed())
        },
    ));
    rows.push(row("113", "a body up to the end is passed on, too", {
        asking()
            .answer("HTTP/1.1 403 No\r\n\r\nno")
            .then(After::Close)
            .wants(gets(own(&[403]).body("no")).open_or_closed())
    }));
    rows.push(row("113", "a chunked body is passed on, too", {
        asking()
            .answer("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n")
            .wants(gets(own(&[403]).body("no")).open_or_closed())
    }));
    rows.push(row(
        "113, S17",
        "bytes behind a declined handshake are a request, not a frame",
        {
            let smuggled = "GET /evil HTTP/1.1\r\nHost: localhost\r\n\r\n";
            sends(format!(
                "GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n{smuggled}"
            ))
            .answer("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
            .wants(
                gets(passed(403, "no"))
                    .answers(vec![passed(403, "no"), own(&[401, 404, 400])])
                    .got(vec![request("GET", "/ws").any_fields()])
                    .open_or_closed(),
            )
            .or(gets(passed(403, "no"))
                .got(vec![request("GET", "/ws").any_fields()])
                .closed())
        },
    ));
    rows
}

fn broken() -> Vec<Row> {
    let is_502 = |stage: &Stage, says: &str| -> Result<Met> {
        let mut client = stage.asks(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n"))?;
        let (mut server, _) = stage.accepts_head()?;
        server.send(says)?;
        server.fin()?;
        let status = client.answer("GET")?.head.status();
        ensure!(status == 502, "the client got {status}");
        Ok(Met::Pass)
    };
    vec![
        story(
            "114",
            "an end instead of a handshake's answer is a 502",
            move |stage| is_502(stage, ""),
        ),
        story("114", "half a handshake is a 502", move |stage| {
            is_502(stage, "HTTP/1.1 101 Switching Protocols\r\nConnection: Up")
        }),
        story(
            "114",
            "a reset instead of a handshake's answer is a 502",
            |stage| {
                let mut client = stage.asks(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n"))?;
                let (server, _) = stage.accepts_head()?;
                server.reset();
                ensure!(client.answer("GET")?.head.status() == 502);
                Ok(Met::Pass)
            },
        ),
        story("114, 92", "a handshake is not tried again", |stage| {
            let mut client = stage.asks(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n"))?;
            let (server, _) = stage.accepts_head()?;
            drop(server);
            ensure!(client.answer("GET")?.head.status() == 502);
            stage.nobody_connects(A_MOMENT)?;
            Ok(Met::Pass)
        }),
        story(
            "118",
            "another protocol than was asked for is a 502",
            move |stage| {
                is_502(
                    stage,
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
                )
            },
        ),
        story("118", "h2c instead of a WebSocket is a 502", move |stage| {
            is_502(
                stage,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            )
        }),
        story("118", "a switch to nothing is a 502", move |stage| {
            is_502(stage, "HTTP/1.1 101 Switching Protocols\r\nX-A: 1\r\n\r\n")
        }),
        story(
            "91, 108",
            "an upgrade of a port that nothing listens on is a 502",
            |stage| {
                let port = crate::subject::unused_port()?;
                let mut client =
                    stage.asks(format!("GET /port/{port}/ws HTTP/1.1\r\n{{H}}{ASKS}\r\n"))?;
                ensure!(client.answer("GET")?.head.status() == 502);
                Ok(Met::Pass)
            },
        ),
        row(
            "121, S2",
            "an upgrade without the token is an ordinary 401",
            {
                sends(format!(
                    "GET {{P}}/ws HTTP/1.1\r\nHost: localhost\r\n{ASKS}\r\n"
                ))
                .wants(answered(own(&[401]).lacks("Upgrade")))
            },
        )
        .needs(&[Need::Token]),
        story(
            "121, S2",
            "frames behind a refused upgrade reach nobody",
            |stage| {
                let mut client = stage.asks(format!(
                    "GET {{P}}/ws HTTP/1.1\r\nHost: localhost\r\n{ASKS}\r\n\x01\x02\x03\x04\r\n\r\n"
                ))?;
                ensure!(client.answer("GET")?.head.status() == 401);
                match client.answer("GET") {
                    Ok(answer) => ensure!(answer.head.status() == 400),
                    Err(Trouble::Ended { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                ensure!(
                    client.end_within(A_MOMENT)?.is_some(),
                    "the socket is half open"
                );
                stage.nobody_connects(A_MOMENT)?;
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::Token]),
    ]
}
