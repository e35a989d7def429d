//! Answers whose end must be told in another way, and bytes beyond it.

use crate::{
    exchange::{gets, sends},
    recorder::After,
    row::{Row, row},
    tables::{get, with},
    want::{Framed, passed},
};

pub(super) fn rows() -> Vec<Row> {
    let to_the_end = |head: &str| {
        sends(get("/x"))
            .answer(format!("{head}\r\n\r\nhello"))
            .then(After::Close)
    };
    let reframed = || gets(passed(200, "hello").framed(&[Framed::Chunked])).named("chunked");
    let as_it_was = || {
        gets(passed(200, "hello").framed(&[Framed::Close]))
            .named("as it was")
            .closed()
    };
    vec![
        row("69", "an HTTP/1.0 body up to the end gets chunks", {
            to_the_end("HTTP/1.0 200 OK")
                .wants(reframed())
                .or(as_it_was())
        }),
        row("69", "an HTTP/1.1 body up to the end gets chunks", {
            to_the_end("HTTP/1.1 200 OK\r\nConnection: close")
                .wants(reframed())
                .or(as_it_was())
        }),
        row("69", "an HTTP/1.1 body without any framing gets chunks", {
            to_the_end("HTTP/1.1 200 OK")
                .wants(reframed())
                .or(as_it_was())
        }),
        row("69", "an empty body up to the end is one", {
            sends(get("/x"))
                .answer("HTTP/1.0 200 OK\r\n\r\n")
                .then(After::Close)
                .wants(gets(passed(200, "").framed(&[Framed::Chunked])).named("chunked"))
                .or(gets(passed(200, "").framed(&[Framed::Close]))
                    .named("as it was")
                    .closed())
                .or(gets(passed(200, "")).named("a length"))
        }),
        row("69", "an HTTP/1.0 client gets a body up to the end", {
            sends("GET {P}/x HTTP/1.0\r\n{H}\r\n")
                .answer(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                )
                .wants(gets(passed(200, "hello").framed(&[Framed::Close])).closed())
                .or(gets(passed(200, "hello")).named("a length").closed())
        }),
        row("69", "an HTTP/1.0 body of stated length keeps it", {
            sends(get("/x"))
                .answer("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                .then(After::Close)
                .wants(gets(passed(200, "hello")))
        }),
        row("70, S17", "bytes beyond an answer's length are cut off", {
            sends(get("/x"))
                .answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more")
                .wants(gets(passed(200, "hello")).retires_upstream())
        }),
        row("70, S17", "an answer beyond an answer is not the next", {
            let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            sends(get("/x"))
                .answer(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{evil}"
                ))
                .wants(gets(passed(200, "hello")).retires_upstream())
        }),
        row("70, S17", "bytes beyond the last chunk are cut off", {
            sends(get("/x"))
                .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nmore")
                .wants(gets(passed(200, "hello").framed(&[Framed::Chunked])).retires_upstream())
        }),
        row("70, 76", "a body behind 204 is cut off", {
            sends(get("/x"))
                .answer("HTTP/1.1 204 No Content\r\n\r\nhello")
                .wants(gets(passed(204, "").framed(&[Framed::No])).retires_upstream())
        }),
        row("70, 76", "a body behind 304 is cut off", {
            sends(get("/x"))
                .answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello")
                .wants(gets(passed(304, "").framed(&[Framed::No])).retires_upstream())
        }),
        row("70, 75", "a body behind the answer to HEAD is cut off", {
            sends(with("HEAD", "/x", ""))
                .answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                .wants(
                    gets(
                        passed(200, "")
                            .framed(&[Framed::No])
                            .has("Content-Length: 5"),
                    )
                    .retires_upstream(),
                )
        }),
    ]
}
