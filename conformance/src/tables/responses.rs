//! D. Responses: what a dev server says reaches the client, and what it cannot know is put right.

use crate::{
    exchange::{Exchange, gets, sends},
    recorder::After,
    row::{Row, row},
    tables::get,
    want::{Answer, Framed, passed},
};

mod bodiless;
mod cookies;
mod deaths;
mod end_to_end;
mod expectations;
mod failures;
mod locations;
mod pages;

pub(super) fn rows() -> Vec<Row> {
    let parts = [
        statuses(),
        hop_by_hop(),
        bodiless::rows(),
        expectations::rows(),
        end_to_end::rows(),
        locations::rows(),
        cookies::rows(),
        pages::rows(),
        failures::rows(),
        deaths::rows(),
    ];
    parts.into_iter().flatten().collect()
}

/// A dev server's answer of this status line and these fields, with `ok` for a body.
fn says(line: &str, fields: &str) -> Exchange {
    sends(get("/x")).answer(format!(
        "HTTP/1.1 {line}\r\n{fields}Content-Length: 2\r\n\r\nok"
    ))
}

fn ok() -> Answer {
    passed(200, "ok")
}

/// These fields reach the client as they are.
fn keeps(lines: &[&str]) -> Exchange {
    let fields: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    says("200 OK", &fields).wants(gets(ok().fields(lines)))
}

fn statuses() -> Vec<Row> {
    let mut rows = Vec::new();
    for status in [
        200, 201, 202, 203, 207, 299, 300, 305, 400, 401, 403, 404, 407, 409, 410, 418, 421, 426,
        429, 451, 499, 500, 501, 502, 503, 504, 511, 599,
    ] {
        let exchange = says(&format!("{status} Because"), "X-A: 1\r\n");
        let exchange = exchange.wants(gets(passed(status, "ok").field("X-A: 1")));
        rows.push(row(
            "73",
            format!("{status} is passed on with fields and body"),
            exchange,
        ));
    }
    rows.push(row("73", "an answer without a reason is one", {
        says("200 ", "").wants(gets(ok()))
    }));
    rows.push(row("73", "a reason may hold anything printable", {
        says("200 All: is (\"well\") \u{fc}", "").wants(gets(ok()))
    }));
    rows.push(row(
        "73",
        "lines of one name keep their order and are not joined",
        keeps(&["X-A: 2", "X-B: b", "X-A: 1", "X-A: 2"]),
    ));
    rows.push(row("73", "challenges are not joined", {
        keeps(&[
            "WWW-Authenticate: Basic realm=\"a, b\"",
            "WWW-Authenticate: Bearer",
        ])
    }));
    rows.push(row(
        "73",
        "an empty value and bytes beyond ASCII are kept",
        {
            let line = b"X-A: \xff \xc3\xbc";
            let answer = [
                b"HTTP/1.1 200 OK\r\nX-E:\r\n",
                &line[..],
                b"\r\nContent-Length: 2\r\n\r\nok",
            ];
            sends(get("/x"))
                .answer(answer.concat())
                .wants(gets(ok().field("X-E:").field(line)))
        },
    ));
    rows.push(row("73", "a body of any bytes is kept", {
        let body: Vec<u8> = (0..=255).collect();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\n";
        sends(get("/x"))
            .answer([&head[..], &body].concat())
            .wants(gets(passed(200, body)))
    }));
    rows.push(row("73", "an empty body stays one", {
        sends(get("/x"))
            .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .wants(gets(passed(200, "")))
    }));
    rows.push(row("73", "a chunked body stays chunked", {
        sends(get("/x"))
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
            .wants(gets(passed(200, "hello").framed(&[Framed::Chunked])))
    }));
    rows
}

fn hop_by_hop() -> Vec<Row> {
    let strips = |fields: &str| {
        says("200 OK", &format!("{fields}X-Kept: 1\r\n")).wants(gets(ok().field("X-Kept: 1")))
    };
    let mut rows = Vec::new();
    for fields in [
        "Connection: keep-alive",
        "Keep-Alive: timeout=5, max=9",
        "Proxy-Connection: keep-alive",
        "Upgrade: websocket",
        "Upgrade: h2c\r\nConnection: upgrade",
    ] {
        let name = fields.lines().next().unwrap_or_default();
        rows.push(row(
            "74",
            format!("{name} stays on its hop"),
            strips(&format!("{fields}\r\n")),
        ));
    }
    for (name, fields) in [
        (
            "a field named in Connection is removed",
            "Connection: x-once\r\nX-Once: 1\r\n",
        ),
        (
            "a field is named in any case",
            "Connection: X-ONCE\r\nx-oNcE: 1\r\nX-Once: 2\r\n",
        ),
        (
            "several Connection lines count",
            "Connection: x-once\r\nX-Once: 1\r\nConnection: , x-twice\r\nX-Twice: 1\r\n",
        ),
        ("an empty Connection is nothing", "Connection:\r\n"),
    ] {
        rows.push(row("74", name, strips(fields)));
    }
    rows.push(row("74", "Connection cannot remove the length", {
        says("200 OK", "Connection: content-length\r\n").wants(gets(ok()))
    }));
    rows.push(row(
        "94",
        "close from the dev server is not the client's",
        {
            says("200 OK", "Connection: close\r\n")
                .then(After::Close)
                .wants(gets(ok()))
        },
    ));
    rows.push(row("94", "close from the dev server behind chunks is not the client's", {
        sends(get("/x"))
            .answer("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .then(After::Close)
            .wants(gets(passed(200, "hello").framed(&[Framed::Chunked])))
    }));
    rows.push(row(
        "94",
        "a connection that the dev server closes is not used again",
        says("200 OK", "Connection: close\r\n").wants(gets(ok()).retires_upstream()),
    ));
    rows
}
