//! Answers that have no body, whatever they say.

use crate::{
    exchange::{gets, sends},
    row::{Row, row},
    tables::{get, with},
    want::{Framed, own, passed},
};

pub(super) fn rows() -> Vec<Row> {
    let head = |fields: &str| {
        sends(with("HEAD", "/x", "")).answer(format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))
    };
    let empty = |status| passed(status, "").framed(&[Framed::No]);
    let bare = |line: &str, fields: &str| {
        sends(get("/x")).answer(format!("HTTP/1.1 {line}\r\n{fields}\r\n"))
    };
    vec![
        row("75", "HEAD tells the length and has no body", {
            head("Content-Length: 1234\r\nContent-Type: text/html\r\n").wants(gets(
                empty(200)
                    .field("Content-Type: text/html")
                    .has("Content-Length: 1234"),
            ))
        }),
        row("75", "HEAD tells the length of a compressed body", {
            head("Content-Length: 99\r\nContent-Encoding: gzip\r\n").wants(gets(
                empty(200)
                    .field("Content-Encoding: gzip")
                    .has("Content-Length: 99"),
            ))
        }),
        row("75", "HEAD without a length gets none", {
            head("X-A: 1\r\n").wants(gets(empty(200).field("X-A: 1").lacks("Content-Length")))
        }),
        row("75", "HEAD of a chunked answer has no body", {
            head("Transfer-Encoding: chunked\r\n").wants(gets(empty(200)))
        }),
        row("75", "HEAD of an error has no body", {
            sends(with("HEAD", "/x", ""))
                .answer("HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\n")
                .wants(gets(empty(404).has("Content-Length: 7")))
        }),
        row("76", "204 has neither body nor framing", {
            bare("204 No Content", "X-A: 1\r\n")
                .wants(gets(empty(204).field("X-A: 1").lacks("Transfer-Encoding")))
        }),
        row("76", "204 with a length of 0 has no body", {
            bare("204 No Content", "Content-Length: 0\r\n").wants(gets(empty(204)))
        }),
        row("76", "204 that claims chunks has none", {
            bare("204 No Content", "Transfer-Encoding: chunked\r\n")
                .wants(gets(empty(204).lacks("Transfer-Encoding")).open_or_closed())
                .or(gets(own(&[502])).named("502"))
        }),
        row(
            "76",
            "304 keeps its ETag and tells the length of what it has not",
            {
                bare(
                    "304 Not Modified",
                    "ETag: \"a\"\r\nContent-Length: 1234\r\n",
                )
                .wants(gets(
                    empty(304).field("ETag: \"a\"").has("Content-Length: 1234"),
                ))
            },
        ),
        row("76", "304 of a page is not waited for", {
            bare(
                "304 Not Modified",
                "ETag: W/\"a\"\r\nContent-Type: text/html\r\n",
            )
            .wants(gets(
                empty(304).fields(&["ETag: W/\"a\"", "Content-Type: text/html"]),
            ))
        }),
        row("76", "304 gets no framing of the proxy's own", {
            bare("304 Not Modified", "").wants(gets(
                empty(304)
                    .lacks("Content-Length")
                    .lacks("Transfer-Encoding"),
            ))
        }),
        row("77", "205 with a length of 0 keeps it", {
            bare("205 Reset Content", "Content-Length: 0\r\n").wants(gets(passed(205, "")))
        }),
        row("77", "205 with a body loses it or keeps its framing", {
            sends(get("/x"))
                .answer("HTTP/1.1 205 Reset Content\r\nContent-Length: 3\r\n\r\nabc")
                .wants(gets(passed(205, "")).named("dropped"))
                .or(gets(passed(205, "abc")).named("kept"))
        }),
        row("77", "205 with chunks loses them or keeps its framing", {
            let chunked = &[Framed::Chunked];
            sends(get("/x"))
                .answer("HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
                .wants(gets(passed(205, "")).named("dropped"))
                .or(gets(passed(205, "abc").framed(chunked)).named("kept"))
        }),
    ]
}
