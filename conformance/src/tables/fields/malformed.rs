//! Heads that are none.

use super::x;
use crate::{
    exchange::{cut, forwarded, refused, sends},
    row::{Need, Row, row},
    want::{own, passed},
};

pub(super) fn rows() -> Vec<Row> {
    let bytes = |lines: &[u8]| {
        sends([b"GET {P}/x HTTP/1.1\r\n{H}", lines, b"\r\n"].concat()).wants(refused(&[400]))
    };
    let mut rows: Vec<_> = [
        ("a folded line", &b"X-A: a\r\n b\r\n"[..]),
        ("a line folded by a tab", b"X-A: a\r\n\tb\r\n"),
        ("a folded empty line", b"X-A: a\r\n \r\n"),
        ("a NUL in a value", b"X-A: a\0b\r\n"),
        ("a bare CR in a value", b"X-A: a\rb\r\n"),
        ("a bare CR at the end of a value", b"X-A: a\r\r\n"),
        ("a bare CR before a field line", b"\rX-A: a\r\n"),
    ]
    .into_iter()
    .map(|(name, lines)| row("51", format!("{name} is refused"), bytes(lines)))
    .collect();
    rows.push(row("51", "a first field line that is folded is refused", {
        sends("GET {P}/x HTTP/1.1\r\n X-A: a\r\n{H}\r\n").wants(refused(&[400]))
    }));
    let as_lines = || forwarded(x().fields(&["X-A: a", "X-B: b"])).named("a line end");
    rows.push(row(
        "51",
        "a bare LF in a value is refused or ends the line",
        bytes(b"X-A: a\nX-B: b\r\n").or(as_lines()),
    ));
    for (name, lines) in [
        ("a space before the colon", &b"X-A : a\r\n"[..]),
        ("a tab before the colon", b"X-A\t: a\r\n"),
        ("an empty name", b": a\r\n"),
        ("a name with a space", b"X A: a\r\n"),
        ("a name with brackets", b"X(A): a\r\n"),
        ("a name with an at sign", b"X@A: a\r\n"),
        ("a name with a NUL", b"X\0A: a\r\n"),
        ("a name in quotes", b"\"X-A\": a\r\n"),
        ("a name with a byte beyond ASCII", b"X-\xc3\xbc: a\r\n"),
        ("a name with 0x85 before it", b"\x85X-A: a\r\n"),
        ("a name with 0xA0 behind it", b"X-A\xa0: a\r\n"),
        ("a line without a colon", b"X-A\r\n"),
    ] {
        rows.push(row("52", format!("{name} is refused"), bytes(lines)));
    }
    for (name, line) in [
        ("before Content-Length", &b"\x0bContent-Length: 5\r\n"[..]),
        (
            "behind Transfer-Encoding",
            b"Transfer-Encoding\xa0: chunked\r\n",
        ),
        (
            "before the colon of Transfer-Encoding",
            b"Transfer-Encoding : chunked\r\n",
        ),
        (
            "before the colon of Content-Length",
            b"Content-Length : 5\r\n",
        ),
    ] {
        let exchange = sends([b"POST {P}/x HTTP/1.1\r\n{H}", line, b"\r\nhello"].concat());
        let exchange = exchange.wants(refused(&[400]));
        rows.push(row(
            "52, S17",
            format!("white space {name} is refused"),
            exchange,
        ));
    }
    rows.push(row(
        "53",
        "line ends of LF alone are refused or understood",
        {
            sends("GET {P}/x HTTP/1.1\nHost: localhost\nX-A: a\n{T}\n")
                .wants(refused(&[400]))
                .or(forwarded(x().field("X-A: a")).named("understood"))
        },
    ));
    rows.push(row(
        "53",
        "a request line with LF alone is refused or understood",
        {
            sends("GET {P}/x HTTP/1.1\n{H}\r\n")
                .wants(refused(&[400]))
                .or(forwarded(x()).named("understood"))
        },
    ));
    rows.push(row(
        "53",
        "an empty line of LF alone is refused or understood",
        {
            sends("GET {P}/x HTTP/1.1\r\n{H}\n")
                .wants(refused(&[400]))
                .or(forwarded(x()).named("understood"))
        },
    ));
    rows.push(
        row("53, S17", "what stands behind two LFs is no request of the dev server's", {
            sends("GET {P}/x HTTP/1.1\r\n{H}X-A: a\n\nGET /evil HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .wants(refused(&[400]))
                .or(forwarded(x().field("X-A: a"))
                    .named("the end of the head")
                    .answers(vec![passed(200, "ok"), own(&[400, 401, 404])])
                    .open_or_closed())
        })
        .needs(&[Need::Token]),
    );
    rows.push(row("53", "a head that is never finished reaches nobody", {
        sends("GET {P}/x HTTP/1.1\r\n{H}")
            .half_closes()
            .wants(refused(&[400]))
            .or(cut().aborted_upstream().named("cut"))
    }));
    rows
}
