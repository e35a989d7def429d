//! Answers that must not be believed.

use crate::{
    exchange::{Exchange, Outcome, cut, gets, sends},
    row::{Row, row},
    tables::get,
    want::{Framed, own, passed},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = answers();
    rows.extend(answer_chunks());
    rows.extend(status_lines());
    rows
}

fn bad_gateway() -> Outcome {
    gets(own(&[502])).named("502")
}

/// An answer of the dev server's that must not be believed.
fn distrusts(answer: &str) -> Exchange {
    sends(get("/x"))
        .answer(answer)
        .wants(bad_gateway().retires_upstream())
}

fn answers() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, fields, body) in [
        (
            "a length beside chunks",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "two lengths",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "hello!",
        ),
        (
            "a list of two lengths",
            "Content-Length: 5, 6\r\n",
            "hello!",
        ),
        ("a negative length", "Content-Length: -1\r\n", "hello"),
        ("a signed length", "Content-Length: +5\r\n", "hello"),
        ("an empty length", "Content-Length:\r\n", "hello"),
        ("a hexadecimal length", "Content-Length: 0x5\r\n", "hello"),
        (
            "a length of 20 digits",
            "Content-Length: 99999999999999999999\r\n",
            "hello",
        ),
        (
            "an unknown encoding",
            "Transfer-Encoding: gzip\r\n",
            "hello",
        ),
        (
            "chunks that are not the last encoding",
            "Transfer-Encoding: chunked, gzip\r\n",
            "0\r\n\r\n",
        ),
        (
            "gzip below chunks",
            "Transfer-Encoding: gzip, chunked\r\n",
            "0\r\n\r\n",
        ),
        (
            "chunks twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        (
            "a field name with a space",
            "X A: 1\r\nContent-Length: 0\r\n",
            "",
        ),
        (
            "a space before a colon",
            "X-A : 1\r\nContent-Length: 0\r\n",
            "",
        ),
        ("a NUL in a value", "X-A: a\0b\r\nContent-Length: 0\r\n", ""),
        (
            "a bare CR in a value",
            "X-A: a\rb\r\nContent-Length: 0\r\n",
            "",
        ),
        ("a line without a colon", "X-A\r\nContent-Length: 0\r\n", ""),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
        rows.push(row(
            "68, S17",
            format!("an answer with {name} is not passed on"),
            distrusts(&answer),
        ));
    }
    rows.push(row(
        "68",
        "an answer with its length twice is refused or said once",
        {
            let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello";
            distrusts(twice).or(gets(passed(200, "hello")).named("said once"))
        },
    ));
    rows.push(row(
        "68",
        "an answer with the list of one length is refused or said once",
        {
            let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello";
            distrusts(twice).or(gets(passed(200, "hello")).named("said once"))
        },
    ));
    rows.push(row(
        "68",
        "an answer with a folded line is refused or unfolded",
        {
            let folded = "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 5\r\n\r\nhello";
            distrusts(folded)
                .or(gets(passed(200, "hello").field("X-A: a b")).named("unfolded"))
                .or(gets(passed(200, "hello").field("X-A: a   b")).named("unfolded"))
        },
    ));
    rows.push(row(
        "68",
        "an answer with lines ended by LF alone is refused or mended",
        {
            let bare = "HTTP/1.1 200 OK\nX-A: a\nContent-Length: 5\n\nhello";
            distrusts(bare).or(gets(passed(200, "hello").field("X-A: a")).named("mended"))
        },
    ));
    rows.push(row(
        "68",
        "chunks in an HTTP/1.0 answer are not believed",
        {
            distrusts(
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            )
            .or(gets(passed(200, "hello").framed(&[Framed::Chunked])).named("decoded"))
        },
    ));
    rows.push(row("68", "an answer's head has a limit", {
        distrusts(&format!(
            "HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n",
            "a".repeat(2 * 1024 * 1024)
        ))
    }));
    rows
}

fn answer_chunks() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, body) in [
        ("a size of `0x1`", "0x1\r\na\r\n0\r\n\r\n"),
        ("a size of `-1`", "-1\r\na\r\n0\r\n\r\n"),
        ("a size of `+1`", "+1\r\na\r\n0\r\n\r\n"),
        ("an empty size", "\r\na\r\n0\r\n\r\n"),
        ("a size of 17 digits", "10000000000000001\r\na\r\n0\r\n\r\n"),
        ("a size ended by an LF alone", "1\na\n0\n\n"),
        ("more data than its size", "1\r\nab\r\n0\r\n\r\n"),
        ("less data than its size", "3\r\nab\r\n0\r\n\r\n"),
        (
            "a bad size after a good chunk",
            "5\r\nhello\r\n1_0\r\na\r\n0\r\n\r\n",
        ),
        ("a bad trailer", "5\r\nhello\r\n0\r\nX Sum: 1\r\n\r\n"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let exchange = sends(get("/x"))
            .answer(answer)
            .wants(bad_gateway().retires_upstream().open_or_closed())
            .or(cut().retires_upstream());
        rows.push(row(
            "68",
            format!("an answer's chunk with {name} is not passed on"),
            exchange,
        ));
    }
    rows.push(row("68", "an extension of an answer's chunk is not passed on", {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0;c\r\n\r\n";
        sends(get("/x"))
            .answer(answer)
            .wants(gets(passed(200, "hello").framed(&[Framed::Chunked])))
    }));
    rows
}

fn status_lines() -> Vec<Row> {
    let mut rows = Vec::new();
    for line in [
        "junk",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 99 x",
        "HTTP/1.1 099 x",
        "HTTP/1.1 1000 x",
        "HTTP/1.1 20 x",
        "HTTP/1.1 2x0 x",
        "HTTP/1.1 +200 x",
        "HTTP/1.1 -200 x",
        "HTTP/1.1 0200 x",
        "HTTP/1.1 000 x",
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "200 OK",
        "GET / HTTP/1.1",
    ] {
        let answer = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        rows.push(row(
            "72",
            format!("`{line}` is no answer"),
            distrusts(&answer),
        ));
    }
    rows.push(row("72", "bytes before a status line are no answer", {
        distrusts("junk\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }));
    rows
}
