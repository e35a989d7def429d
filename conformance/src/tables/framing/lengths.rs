//! Where a request says that it ends: a length, chunks, and never both.

use super::{SMUGGLED, post};
use crate::{
    exchange::{forwarded, refused, sends},
    row::{Row, row},
    tables::with,
    want::request,
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = lengths();
    rows.extend(encodings());
    rows
}

fn lengths() -> Vec<Row> {
    let chunked = || request("POST", "/x").chunked("hello");
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    let reversed = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    let hello = "5\r\nhello\r\n0\r\n\r\n";
    let te_wins = || {
        let request = chunked().lacks("Content-Length");
        forwarded(request).named("chunks win").closed()
    };
    let mut rows = vec![
        row("54, S17", "a length beside chunks is refused", {
            post(both, hello).wants(refused(&[400])).or(te_wins())
        }),
        row("54, S17", "chunks beside a length are refused", {
            post(reversed, hello).wants(refused(&[400])).or(te_wins())
        }),
        row(
            "54, S17",
            "a length beside chunks smuggles nothing (CL.TE)",
            {
                let fields = "Content-Length: 60\r\nTransfer-Encoding: chunked\r\n";
                let empty = forwarded(request("POST", "/x").chunked(""))
                    .named("chunks win")
                    .closed();
                post(fields, &format!("0\r\n\r\n{SMUGGLED}"))
                    .wants(refused(&[400]))
                    .or(empty)
            },
        ),
        row(
            "54, S17",
            "a length beside chunks smuggles nothing (TE.CL)",
            {
                let fields = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
                let size = SMUGGLED.len();
                let whole = request("POST", "/x").chunked(SMUGGLED);
                post(fields, &format!("{size:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"))
                    .wants(refused(&[400]))
                    .or(forwarded(whole).named("chunks win").closed())
            },
        ),
        row("54", "a length of 0 beside chunks is refused", {
            let fields = "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n";
            post(fields, hello).wants(refused(&[400])).or(te_wins())
        }),
        row("55, S17", "two lengths are refused", {
            post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!").wants(refused(&[400]))
        }),
        row("55, S17", "two lengths are refused, the longer first", {
            post("Content-Length: 6\r\nContent-Length: 5\r\n", "hello!").wants(refused(&[400]))
        }),
        row("55", "a length twice is refused or said once", {
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")
                .wants(refused(&[400]))
                .or(forwarded(request("POST", "/x").length("hello")).named("said once"))
        }),
        row(
            "56",
            "a length with a leading zero is refused or said plainly",
            {
                post("Content-Length: 05\r\n", "hello")
                    .wants(forwarded(request("POST", "/x").length("hello")).named("said plainly"))
                    .or(refused(&[400]))
            },
        ),
    ];
    for length in [
        "5, 5",
        "5, 6",
        "5,",
        ",5",
        "",
        "+5",
        "-1",
        "-0",
        "0x5",
        "5_0",
        "5 5",
        "5;",
        "5.0",
        "5e0",
        "5\u{b}",
        "\"5\"",
        "five",
        "٥",
        "123456789012345678901",
        "18446744073709551621",
    ] {
        let exchange = post(&format!("Content-Length: {length}\r\n"), "hello");
        let name = format!("a length of `{}` is refused", length.escape_debug());
        // One that is a number, if an absurd one, may also be believed.
        rows.push(row("56, S17", name, exchange.wants(refused(&[400, 413]))));
    }
    for length in ["5, 5", "+5", "-1", "0x5", ""] {
        let exchange = sends(with("GET", "/x", &format!("Content-Length: {length}\r\n")));
        let name = format!("a length of `{length}` is refused in a GET, too");
        rows.push(row("56, S17", name, exchange.wants(refused(&[400]))));
    }
    rows
}

fn encodings() -> Vec<Row> {
    let hello = "5\r\nhello\r\n0\r\n\r\n";
    let mut rows = Vec::new();
    for encoding in [
        "gzip, chunked",
        "gzip",
        "xchunked",
        "chunkedx",
        ",chunked",
        "chunked,",
        "chunked, chunked",
        "chunked, identity",
        "identity",
        "identity, chunked",
        "\u{b}chunked",
        "chunked\u{b}",
        "\"chunked\"",
        "'chunked'",
        "chunked;q=1",
        "chunked chunked",
        "chu nked",
        "",
        "cow",
    ] {
        let exchange = post(&format!("Transfer-Encoding: {encoding}\r\n"), hello);
        let name = format!("an encoding of `{}` is refused", encoding.escape_debug());
        rows.push(row("57, S17", name, exchange.wants(refused(&[400, 501]))));
    }
    for (name, fields) in [
        (
            "two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "identity on a second line",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ),
        (
            "gzip on a first line",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "an empty second line",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n",
        ),
    ] {
        let exchange = post(fields, hello).wants(refused(&[400, 501]));
        rows.push(row(
            "57, S17",
            format!("an encoding with {name} is refused"),
            exchange,
        ));
    }
    for encoding in ["chunked", "Chunked", "CHUNKED", " \t chunked \t "] {
        let exchange = post(&format!("Transfer-Encoding: {encoding}\r\n"), hello);
        let exchange = exchange.wants(forwarded(request("POST", "/x").chunked("hello")));
        rows.push(row(
            "57",
            format!("an encoding of `{}` is understood", encoding.escape_debug()),
            exchange,
        ));
    }
    rows.push(row(
        "57, S17",
        "an unknown encoding is refused in a GET, too",
        sends(with("GET", "/x", "Transfer-Encoding: gzip\r\n")).wants(refused(&[400, 501])),
    ));
    rows.push(row("58, S17", "chunks in HTTP/1.0 are refused", {
        sends(format!(
            "POST {{P}}/x HTTP/1.0\r\n{{H}}Transfer-Encoding: chunked\r\n\r\n{hello}"
        ))
        .wants(refused(&[400]))
    }));
    rows.push(row(
        "58, S17",
        "chunks in HTTP/1.0 are refused beside keep-alive",
        {
            let fields = "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n";
            sends(format!("POST {{P}}/x HTTP/1.0\r\n{{H}}{fields}\r\n{hello}"))
                .wants(refused(&[400]))
        },
    ));
    rows
}
