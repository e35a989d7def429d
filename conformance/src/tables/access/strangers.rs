//! Without the token nothing is reached and nothing is learnt.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::with_token;
use crate::{
    exchange::{answered, sends},
    row::{Met, Need, Row, row, story},
    stage::Stage,
    subject::unused_port,
    want::{own, passed, request},
    wire::Message,
};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// Shapes of targets; `{U}` is a port that nothing listens on.
const TARGETS: [&str; 22] = [
    "{P}/x",
    "{P}/",
    "{P}",
    "{P}?x",
    "{P}/../../x",
    "{P}/a%2Fb",
    "/port/{U}/x",
    "/port/{U}",
    "/port/0/",
    "/port/x/",
    "/port/0{N}/",
    "/port/22/",
    "/port/{O}/",
    "/port/",
    "/",
    "/nowhere",
    "/PORT/{N}/",
    "/_hpc-proxy/ports",
    "/_hpc-proxy/no-such-page",
    "/absport/{N}/x",
    "/sock/app/x",
    "http://localhost{P}/x",
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, method, more) in [
        ("GET", "GET", ""),
        ("HEAD", "HEAD", ""),
        ("POST with a body", "POST", "Content-Length: 2\r\n\r\nhi"),
        (
            "POST with chunks",
            "POST",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
        ),
        (
            "POST with an expectation",
            "POST",
            "Expect: 100-continue\r\nContent-Length: 2\r\n",
        ),
        ("PUT", "PUT", "Content-Length: 0\r\n"),
        ("DELETE", "DELETE", ""),
        ("OPTIONS", "OPTIONS", ""),
        ("TRACE", "TRACE", ""),
        ("PROPFIND", "PROPFIND", ""),
        ("an unknown method", "FROBNICATE", ""),
        ("an upgrade", "GET", UPGRADE),
        (
            "an upgrade to h2c",
            "GET",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        ),
    ] {
        rows.push(story(
            "S2",
            format!("{name} of any path tells a stranger one and the same"),
            move |stage| one_and_the_same(stage, method, more, &TARGETS),
        ));
    }
    rows.push(story(
        "S2",
        "CONNECT tells a stranger one and the same",
        |stage| {
            one_and_the_same(
                stage,
                "CONNECT",
                "",
                &["localhost:{N}", "localhost:{U}", "127.0.0.1:22"],
            )
        },
    ));
    rows.push(story(
        "S2",
        "OPTIONS of everything tells a stranger nothing",
        |stage| one_and_the_same(stage, "OPTIONS", "", &["*", "{P}/x"]),
    ));
    rows.extend(tokens());
    rows.push(
        story(
            "S2",
            "a refusal takes as long for an open port as for a closed one",
            timing,
        )
        .alone(),
    );
    let mut rows: Vec<_> = with_token(rows).collect();
    rows.extend(names());
    rows
}

/// Every target and every wrong token get the same bytes, and the dev server hears nothing.
fn one_and_the_same(stage: &Stage, method: &str, more: &str, targets: &[&str]) -> Result<Met> {
    let unused = unused_port()?.to_string();
    let mut first: Option<Vec<u8>> = None;
    for target in targets {
        let target = target.replace("{U}", &unused);
        for token in [
            "",
            "X-Hpc-Proxy-Token: \r\n",
            "X-Hpc-Proxy-Token: 0\r\n",
            "{T}{T}",
        ] {
            // A body of the row's own, where it has one, comes with the empty line.
            let text =
                format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{token}{more}\r\n");
            let mut client = stage.asks(&text)?;
            let answer = client.answer(method).with_context(|| text.clone())?;
            let status = answer.head.status();
            ensure!(status == 401, "`{target}` with `{token}` got {status}");
            let said = in_substance(&answer);
            let first = first.get_or_insert_with(|| said.clone());
            ensure!(
                *first == said,
                "`{target}` with `{token}` got `{}`, another `{}`",
                said.escape_ascii(),
                first.escape_ascii()
            );
        }
    }
    stage.nobody_connects(Duration::from_millis(20))?;
    Ok(Met::Pass)
}

/// All that a stranger could compare but the time of day.
fn in_substance(answer: &Message) -> Vec<u8> {
    let mut said = answer.head.start.clone();
    for field in answer
        .head
        .fields
        .iter()
        .filter(|field| !field.name.eq_ignore_ascii_case("date"))
    {
        said.extend_from_slice(format!("|{}:", field.name.to_lowercase()).as_bytes());
        said.extend_from_slice(&field.value);
    }
    said.extend_from_slice(b"||");
    said.extend_from_slice(&answer.body);
    said
}

fn tokens() -> Vec<Row> {
    let shows = |name: &str, fields: &str| {
        let text = format!("GET {{P}}/x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let refused = answered(own(&[401]).has("Cache-Control: no-store"));
        row(
            "S2",
            format!("{name} is no token"),
            sends(text).wants(refused),
        )
    };
    let mut rows = vec![
        shows("nothing", ""),
        shows("an empty value", "X-Hpc-Proxy-Token:\r\n"),
        shows(
            "a wrong value",
            &format!("X-Hpc-Proxy-Token: {}\r\n", "0".repeat(64)),
        ),
        shows(
            "the token with more behind it",
            "X-Hpc-Proxy-Token: {TOKEN}0\r\n",
        ),
        shows(
            "the token with more before it",
            "X-Hpc-Proxy-Token: 0{TOKEN}\r\n",
        ),
        shows("the token in quotes", "X-Hpc-Proxy-Token: \"{TOKEN}\"\r\n"),
        shows("the token as a bearer", "Authorization: Bearer {TOKEN}\r\n"),
        shows(
            "the token under another name",
            "X-Hpc-Proxy-Tokens: {TOKEN}\r\n",
        ),
        shows("a wrong cookie", "Cookie: __hpc_proxy=0\r\n"),
        shows("an empty cookie", "Cookie: __hpc_proxy=\r\n"),
        shows("the token as a cookie", "Cookie: __hpc_proxy={TOKEN}\r\n"),
        row("S2", "the token in a query is no token", {
            sends("GET {P}/x?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .wants(answered(own(&[401])))
        }),
        row("S2, 67", "the token in a trailer is no token", {
            sends("POST {P}/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{T}\r\n")
                .wants(answered(own(&[401])))
        }),
        row(
            "S2",
            "a good token does not open the next request of its connection",
            {
                sends("GET {P}/1 HTTP/1.1\r\n{H}\r\nGET {P}/2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    .wants(
                        answered(own(&[200]))
                            .answers(vec![passed(200, "ok"), own(&[401])])
                            .got(vec![request("GET", "/1")]),
                    )
            },
        ),
        row(
            "S2",
            "a refusal challenges and may be followed by a good request",
            {
                sends("GET {P}/1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET {P}/2 HTTP/1.1\r\n{H}\r\n")
                    .wants(
                        answered(own(&[401]))
                            .answers(vec![own(&[401]), passed(200, "ok")])
                            .got(vec![request("GET", "/2")])
                            .named("followed"),
                    )
                    .or(answered(own(&[401])).closed().named("closed"))
            },
        ),
    ];
    rows.push(story(
        "S2",
        "a beginning of the token is no token",
        |stage| {
            let token = stage.proxy.token.clone().context("it has a token")?;
            for length in [1, token.len() / 2, token.len() - 1] {
                let part = &token[..length];
                let mut client = stage.asks(format!(
                    "GET {{P}}/x HTTP/1.1\r\nHost: localhost\r\nX-Hpc-Proxy-Token: {part}\r\n\r\n"
                ))?;
                ensure!(
                    client.answer("GET")?.head.status() == 401,
                    "{length} characters were enough"
                );
            }
            stage.nobody_connects(Duration::from_millis(20))?;
            Ok(Met::Pass)
        },
    ));
    rows.push(story(
        "S2",
        "the token of another start is no token",
        |stage| {
            let other = stage.alone(&[])?;
            let (mine, its) = (&stage.proxy.token, &other.proxy.token);
            ensure!(mine != its, "two starts have one token");
            let its = its.clone().unwrap_or_default();
            let mut client = stage.asks(format!(
                "GET {{P}}/x HTTP/1.1\r\nHost: localhost\r\nX-Hpc-Proxy-Token: {its}\r\n\r\n"
            ))?;
            ensure!(client.answer("GET")?.head.status() == 401);
            Ok(Met::Pass)
        },
    ));
    rows
}

fn timing(stage: &Stage) -> Result<Met> {
    const ROUNDS: usize = 100;
    let unused = unused_port()?;
    let ask = |port: u16| -> Result<Duration> {
        let mut client = stage.connect()?;
        let text = format!("GET /port/{port}/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let start = Instant::now();
        client.send(text)?;
        ensure!(client.answer("GET")?.head.status() == 401);
        Ok(start.elapsed())
    };
    let (mut open, mut closed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        open.push(ask(stage.port)?);
        closed.push(ask(unused)?);
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[ROUNDS / 2]
    };
    let (open, closed) = (median(&mut open), median(&mut closed));
    let apart = open.abs_diff(closed);
    // Asking the kernel who listens takes longer than this (behaviours, "facts measured").
    let allowed = Duration::from_micros(40).max(open.min(closed) / 3);
    ensure!(
        apart < allowed,
        "{open:?} for an open port, {closed:?} for a closed one"
    );
    stage.nobody_connects(Duration::from_millis(5))?;
    Ok(Met::Pass)
}

/// Who asks by which name, where there is no token to tell (S15).
fn names() -> Vec<Row> {
    let mut rows = Vec::new();
    let asks =
        |host: &str| sends(format!("GET {{P}}/x HTTP/1.1\r\nHost: {host}\r\n\r\n")).without_auth();
    for host in [
        "localhost",
        "localhost:8080",
        "LOCALHOST",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:80",
        "192.0.2.7:1",
    ] {
        let passed = answered(passed(200, "ok")).got(vec![request("GET", "/x")]);
        rows.push(row(
            "S15",
            format!("without a token {host} is served"),
            asks(host).wants(passed),
        ));
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "localhost.evil",
        "0x7f.1.evil.example",
        "rebind.network:8080",
    ] {
        let refused = answered(own(&[400, 403, 421]));
        rows.push(row(
            "S15",
            format!("without a token {host} is not served"),
            asks(host).wants(refused),
        ));
    }
    rows.push(
        story(
            "S15",
            "without a token the node's own name is served",
            |stage| {
                let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?
                    .trim()
                    .to_owned();
                let open = Stage::open(stage.cast)?;
                let mut client =
                    open.asks(format!("GET {{P}}/x HTTP/1.1\r\nHost: {name}:1\r\n\r\n"))?;
                let Some(mut server) = open.listener().accept(Duration::from_secs(1))? else {
                    anyhow::bail!("{name} got {}", client.answer("GET")?.head.status());
                };
                server.head()?;
                server.send("HTTP/1.1 204 No Content\r\n\r\n")?;
                ensure!(client.answer("GET")?.head.status() == 204);
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::Flags]),
    );
    rows
}
