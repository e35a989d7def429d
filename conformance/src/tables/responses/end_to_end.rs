//! Fields and trailers of a dev server's answer, and the few that it must not set.

use super::{keeps, ok, says};
use crate::{
    exchange::{gets, sends},
    row::{Need, Row, row},
    tables::{get, with},
    want::{Framed, own, passed, request},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = end_to_end();
    rows.extend(origin_wide());
    rows
}

fn end_to_end() -> Vec<Row> {
    let trailers = |te: &str, announced: &str| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\n{announced}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
        );
        sends(with("GET", "/x", te)).answer(answer)
    };
    let chunked = || passed(200, "hello").framed(&[Framed::Chunked]);
    let mut rows = vec![
        row("83", "a trailer that the client takes reaches it", {
            trailers("TE: trailers\r\nConnection: TE\r\n", "Trailer: X-Sum\r\n")
                .wants(gets(chunked().trailers(&["X-Sum: 1"])))
        }),
        row(
            "83",
            "a trailer that the client did not ask for is passed on or dropped",
            {
                trailers("", "Trailer: X-Sum\r\n")
                    .wants(gets(chunked().trailers(&["X-Sum: 1"])).named("passed on"))
                    .or(gets(chunked().trailers(&[])).named("dropped"))
            },
        ),
        row("83", "Trailer is announced to a client that asked", {
            let announced = chunked().trailers(&["X-Sum: 1"]).has("Trailer: X-Sum");
            trailers("TE: trailers\r\nConnection: TE\r\n", "Trailer: X-Sum\r\n")
                .wants(gets(announced))
        }),
        row("84", "a coding is not undone", {
            let gzip =
                b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0";
            let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 25\r\n\r\n";
            sends(with("GET", "/x", "Accept-Encoding: gzip\r\n"))
                .answer([&head[..], gzip].concat())
                .wants(gets(passed(200, gzip).field("Content-Encoding: gzip")))
        }),
        row(
            "84",
            "a coding that nobody asked for is not undone",
            keeps(&["Content-Encoding: x-odd"]),
        ),
        row("84", "broken gzip is not the proxy's business", {
            keeps(&["Content-Encoding: gzip", "Content-Type: text/html"])
        }),
        row(
            "85",
            "a range and its condition reach the dev server, 206 the client",
            {
                let fields = "Range: bytes=0-1\r\nIf-Range: \"a\"\r\n";
                let answer = [
                    "Content-Range: bytes 0-1/9",
                    "ETag: \"a\"",
                    "Accept-Ranges: bytes",
                ];
                let said: String = answer.iter().map(|line| format!("{line}\r\n")).collect();
                let request = request("GET", "/x").fields(&["Range: bytes=0-1", "If-Range: \"a\""]);
                sends(with("GET", "/x", fields))
                    .answer(format!(
                        "HTTP/1.1 206 Partial Content\r\n{said}Content-Length: 2\r\n\r\nok"
                    ))
                    .wants(gets(passed(206, "ok").fields(&answer)).got(vec![request]))
            },
        ),
        row("85", "several ranges in one answer are untouched", {
            let body = "--b\r\nContent-Range: bytes 0-0/9\r\n\r\n<\r\n--b--\r\n";
            let length = body.len();
            let media = "Content-Type: multipart/byteranges; boundary=b";
            sends(with("GET", "/x", "Range: bytes=0-0,8-8\r\n"))
                .answer(format!(
                    "HTTP/1.1 206 Partial Content\r\n{media}\r\nContent-Length: {length}\r\n\r\n{body}"
                ))
                .wants(gets(passed(206, body).field(media)))
        }),
        row("85", "416 tells the size", {
            says("416 No", "Content-Range: bytes */9\r\n")
                .wants(gets(passed(416, "ok").field("Content-Range: bytes */9")))
        }),
        row(
            "86",
            "an ETag is untouched with its body",
            keeps(&["ETag: \"a-b\""]),
        ),
        row(
            "86",
            "a weak ETag is untouched with its body",
            keeps(&["ETag: W/\"a\"", "Last-Modified: x"]),
        ),
        row("90", "a Date is not doubled, and stays the dev server's", {
            let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
            says("200 OK", &format!("{date}\r\n")).wants(gets(ok().has(date)))
        }),
        row(
            "90",
            "Server is the dev server's",
            keeps(&["Server: dev/1 (x)"]),
        ),
        row(
            "90",
            "an absent Server stays absent",
            says("200 OK", "").wants(gets(ok().lacks("Server"))),
        ),
        row("90", "Via of a dev server is kept", {
            says("200 OK", "Via: 1.1 inner\r\n")
                .wants(gets(ok().has("Via: 1.1 inner")).named("alone"))
                .or(gets(ok().has("Via: 1.1 inner, 1.1 hpc-proxy")).named("on one line"))
                .or(
                    gets(ok().field("Via: 1.1 inner").field("Via: 1.1 hpc-proxy"))
                        .named("on two lines"),
                )
        }),
        row("73", "caching is the dev server's affair", {
            keeps(&[
                "Cache-Control: max-age=9, public",
                "Vary: Accept, Cookie",
                "Age: 3",
                "Expires: 0",
            ])
        }),
        row("73", "CORS and CSP are the dev server's affair", {
            keeps(&[
                "Access-Control-Allow-Origin: *",
                "Content-Security-Policy: default-src 'self'",
                "X-Frame-Options: DENY",
            ])
        }),
    ];
    for status in ["101 Switching Protocols", "101 "] {
        let fields = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        let answer = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        rows.push(row(
            "82",
            format!("`{status}` without having asked is no answer"),
            {
                sends(get("/x"))
                    .answer(answer)
                    .wants(gets(own(&[502])).retires_upstream().open_or_closed())
            },
        ));
    }
    rows
}

fn origin_wide() -> Vec<Row> {
    let confined = ok()
        .field("X-Kept: 1")
        .field("Service-Worker-Allowed: {P}/");
    let worker = says("200 OK", "Service-Worker-Allowed: /\r\nX-Kept: 1\r\n")
        .wants(gets(confined).named("confined"))
        .or(gets(ok().field("X-Kept: 1")).named("removed"));
    let name = "Service-Worker-Allowed reaches no farther than the prefix";
    let mut rows = vec![row("73, S13", name, worker).needs(&[Need::Ownership])];
    for line in [
        "Clear-Site-Data: \"*\"",
        "Strict-Transport-Security: max-age=31536000; includeSubDomains",
        "Alt-Svc: h3=\":443\"",
        "Public-Key-Pins: pin-sha256=\"a\"; max-age=9",
        "Set-Login: logged-in",
    ] {
        let exchange = says("200 OK", &format!("{line}\r\nX-Kept: 1\r\n"));
        let exchange = exchange.wants(gets(ok().field("X-Kept: 1")));
        let name = line.split(':').next().unwrap_or_default();
        let row = row(
            "73, S13",
            format!("{name} would bind the whole origin and is removed"),
            exchange,
        );
        rows.push(row.needs(&[Need::Ownership]));
    }
    rows
}
