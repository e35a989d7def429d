//! Chunked requests: sizes, data, ends and trailers.

use super::{chunked, post};
use crate::{
    exchange::{Exchange, Outcome, cut, forwarded, refused},
    row::{Row, row},
    tables::get,
    want::request,
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = chunks();
    rows.extend(ends());
    rows.extend(trailers());
    rows
}

/// The client is told so, or cut off; the dev server has no whole request and is not left waiting.
fn aborted() -> [Outcome; 2] {
    [refused(&[400]).aborted_upstream(), cut().aborted_upstream()]
}

fn is_aborted(exchange: Exchange) -> Exchange {
    let [told, cut] = aborted();
    exchange.wants(told).or(cut)
}

fn chunks() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, body) in [
        ("of `0x1`", "0x1\r\na\r\n0\r\n\r\n"),
        ("of `+1`", "+1\r\na\r\n0\r\n\r\n"),
        ("of `-1`", "-1\r\na\r\n0\r\n\r\n"),
        ("with a space before it", " 1\r\na\r\n0\r\n\r\n"),
        ("with an underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
        ("that is empty", "\r\na\r\n0\r\n\r\n"),
        ("with letters beyond F", "g\r\na\r\n0\r\n\r\n"),
        ("of 17 digits", "10000000000000001\r\na\r\n0\r\n\r\n"),
        (
            "of 40 zeros and more",
            "00000000000000000000000000000000000000001g\r\na\r\n0\r\n\r\n",
        ),
        ("of 16 times F", "ffffffffffffffff1\r\na\r\n0\r\n\r\n"),
        ("with a dot", "1.0\r\na\r\n0\r\n\r\n"),
        ("in quotes", "\"1\"\r\na\r\n0\r\n\r\n"),
        ("ended by a CR alone", "1\rX\na\r\n0\r\n\r\n"),
        ("with a CR in its extension", "1;a\rb\r\na\r\n0\r\n\r\n"),
        ("with a NUL behind it", "1\0\r\na\r\n0\r\n\r\n"),
        ("ended by an LF alone", "1\na\r\n0\r\n\r\n"),
        ("with an LF in its extension", "1;a\nb\r\na\r\n0\r\n\r\n"),
        ("that is last and ended by an LF alone", "1\r\na\r\n0\n\r\n"),
        ("that is last and is no number", "1\r\na\r\nzero\r\n\r\n"),
    ] {
        rows.push(row(
            "59, S17",
            format!("a chunk size {name} is refused"),
            is_aborted(chunked(body)),
        ));
    }
    for (name, body) in [
        ("an LF alone behind its data", "1\r\na\n0\r\n\r\n"),
        ("a CR alone behind its data", "1\r\na\r0\r\n\r\n"),
        ("nothing behind its data", "1\r\na0\r\n\r\n"),
        ("two other bytes behind its data", "1\r\naXX0\r\n\r\n"),
    ] {
        rows.push(row(
            "60, S17",
            format!("a chunk with {name} is refused"),
            is_aborted(chunked(body)),
        ));
    }
    rows.extend([
        row("59", "a chunk's extension is not passed on", {
            chunked("1;ext\r\na\r\n4;a=\"b\";c\r\nbcde\r\n0;last\r\n\r\n")
                .wants(forwarded(request("POST", "/x").chunked("abcde")))
        }),
        row(
            "59",
            "a chunk's size has no case and may begin with zeros",
            {
                chunked("0A\r\n0123456789\r\n00b\r\n0123456789a\r\n000\r\n\r\n").wants(forwarded(
                    request("POST", "/x").chunked("01234567890123456789a"),
                ))
            },
        ),
        row("59, S22", "a chunk extension without an end is refused", {
            is_aborted(chunked(&format!("1;{}", "a".repeat(256 * 1024))))
        }),
        row(
            "60",
            "chunk data longer than its size is refused",
            is_aborted(chunked("1\r\nab\r\n0\r\n\r\n")),
        ),
        row(
            "60",
            "chunk data shorter than its size is refused",
            is_aborted(chunked("3\r\nab\r\n0\r\n\r\n")),
        ),
        row("60, S17", "a request behind a bad chunk is none", {
            let rest = format!("1\r\nab\r\n0\r\n\r\n{}", get("/evil"));
            is_aborted(chunked(&rest))
        }),
    ]);
    rows
}

fn ends() -> Vec<Row> {
    let length = |sent: &str| post("Content-Length: 10\r\n", sent);
    let ends = [
        ("inside a chunk", "5\r\nhel"),
        ("behind a chunk", "5\r\nhello\r\n"),
        ("behind a chunk's data", "5\r\nhello"),
        ("inside a size", "5\r\nhello\r\n1"),
        ("inside the last size", "5\r\nhello\r\n0\r"),
        ("before the last empty line", "5\r\nhello\r\n0\r\n"),
        ("inside the last empty line", "5\r\nhello\r\n0\r\n\r"),
        ("inside a trailer", "5\r\nhello\r\n0\r\nX-Sum: "),
    ];
    let mut rows: Vec<_> = ends
        .iter()
        .map(|(name, body)| {
            let exchange = is_aborted(chunked(body).half_closes());
            row("61", format!("an end {name} is an abort"), exchange)
        })
        .collect();
    rows.extend([
        row(
            "61, 101",
            "an end inside a body of stated length is an abort",
            is_aborted(length("hello").half_closes()),
        ),
        row(
            "61, 101",
            "an end before a body of stated length is an abort",
            is_aborted(length("").half_closes()),
        ),
        row(
            "61, 101",
            "a reset inside a body of stated length is an abort",
            length("hello").resets().wants(cut().aborted_upstream()),
        ),
        row("61, 101", "a reset inside a chunk is an abort", {
            chunked("5\r\nhel").resets().wants(cut().aborted_upstream())
        }),
    ]);
    rows
}

fn trailers() -> Vec<Row> {
    let with_trailers = |announced: &str, lines: &str| {
        let fields = format!("Transfer-Encoding: chunked\r\n{announced}");
        post(&fields, &format!("5\r\nhello\r\n0\r\n{lines}\r\n"))
    };
    let hello = || request("POST", "/x").chunked("hello");
    let mut rows = vec![
        row("67", "an announced trailer is forwarded", {
            with_trailers("Trailer: X-Sum\r\n", "X-Sum: 1\r\n")
                .wants(forwarded(hello().trailers(&["X-Sum: 1"])))
        }),
        row("67", "announced trailers are forwarded in order", {
            with_trailers("Trailer: X-A, X-B\r\n", "X-B: 2\r\nX-A: 1\r\n")
                .wants(forwarded(hello().trailers(&["X-B: 2", "X-A: 1"])))
        }),
        row(
            "67",
            "a trailer that nobody announced is forwarded or dropped",
            {
                with_trailers("", "X-Sum: 1\r\n")
                    .wants(forwarded(hello().trailers(&[])).named("dropped"))
                    .or(forwarded(hello().trailers(&["X-Sum: 1"])))
            },
        ),
    ];
    for line in [
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Host: evil.example",
        "Authorization: Basic YTpi",
        "Cookie: a=1",
        "X-Hpc-Proxy-Token: 0",
        "X-Forwarded-For: 192.0.2.60",
        "Connection: close",
        "Trailer: X-Other",
        "Upgrade: h2c",
    ] {
        let name = line.split(':').next().unwrap_or_default();
        let announced = format!("Trailer: X-Sum, {name}\r\n");
        let [told, cut] = aborted();
        let exchange = with_trailers(&announced, &format!("X-Sum: 1\r\n{line}\r\n"))
            .wants(forwarded(hello().trailers(&["X-Sum: 1"])).named("dropped"))
            .or(told)
            .or(cut);
        rows.push(row("67, S17", format!("{name} is no trailer"), exchange));
    }
    for (name, lines) in [
        ("without a colon", "X-Sum\r\n"),
        ("that is folded", "X-Sum: 1\r\n 2\r\n"),
        ("with a space before its colon", "X-Sum : 1\r\n"),
        ("with a NUL", "X-Sum: \0\r\n"),
        ("with a bare CR", "X-Sum: a\rb\r\n"),
    ] {
        let exchange = is_aborted(with_trailers("Trailer: X-Sum\r\n", lines));
        rows.push(row("67", format!("a trailer {name} is refused"), exchange));
    }
    rows.push(row("67, S22", "trailers have a limit, too", {
        is_aborted(with_trailers(
            "Trailer: X-Sum\r\n",
            &format!("X-Sum: {}\r\n", "a".repeat(128 * 1024)),
        ))
        .or(refused(&[431]).aborted_upstream().named("431"))
    }));
    rows
}
