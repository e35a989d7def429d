//! Fields that are the dev server's, and the name it is asked by.

use super::{keeps, with_fields, x};
use crate::{
    exchange::{forwarded, refused, sends},
    row::{Row, row},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = end_to_end();
    rows.extend(hosts());
    rows
}

fn end_to_end() -> Vec<Row> {
    vec![
        row(
            "37",
            "unknown fields are kept",
            keeps(&["X-Unknown: a b", "Priority: u=1, i"]),
        ),
        row(
            "37",
            "lines of one name keep their order",
            keeps(&["X-A: 2", "X-B: b", "X-A: 1", "X-A: 2"]),
        ),
        row(
            "37",
            "lines of one name are not joined",
            keeps(&["Accept: text/html", "Accept: */*"]),
        ),
        row("37", "an empty value is kept", keeps(&["X-Empty:"])),
        row(
            "37",
            "white space inside a value is kept",
            keeps(&["X-A: a  b\tc"]),
        ),
        row("37", "white space around a value is nothing", {
            with_fields("X-A: \t a \t \r\nX-B:b\r\n")
                .wants(forwarded(x().fields(&["X-A: a", "X-B: b"])))
        }),
        row("37", "bytes beyond ASCII in a value are kept", {
            let line = b"X-A: \xff\xfe \xc3\xbc";
            sends([b"GET {P}/x HTTP/1.1\r\n{H}", &line[..], b"\r\n\r\n"].concat())
                .wants(forwarded(x().field(line)))
        }),
        row(
            "37",
            "names of any token characters are kept",
            keeps(&["!#$%&'*+-.^`|~09aZ: 1"]),
        ),
        row(
            "37",
            "a colon in a value is kept",
            keeps(&["X-A: : a:b", "X-B: ::"]),
        ),
        row(
            "37",
            "commas and quotes are kept",
            keeps(&["X-A: \"a, b\", c;d=\"\\\"\""]),
        ),
        row("37", "validators and conditions are kept", {
            keeps(&[
                "If-None-Match: \"a\", W/\"b\"",
                "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
            ])
        }),
        row(
            "37",
            "Max-Forwards is no business of a GET",
            keeps(&["Max-Forwards: 0"]),
        ),
        row(
            "37",
            "Sec-Fetch fields are kept",
            keeps(&["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"]),
        ),
        row("38", "an absent User-Agent stays absent", {
            with_fields("").wants(forwarded(x().lacks("User-Agent")))
        }),
        row("38", "a User-Agent is kept", keeps(&["User-Agent: x/1"])),
        row("39", "an absent Accept-Encoding stays absent", {
            with_fields("").wants(forwarded(x().lacks("Accept-Encoding")))
        }),
        row(
            "39",
            "an Accept-Encoding is kept",
            keeps(&["Accept-Encoding: br;q=1.0, zstd, x-odd"]),
        ),
    ]
}

fn hosts() -> Vec<Row> {
    let host = |line: &str| sends(format!("GET {{P}}/x HTTP/1.1\r\n{line}{{T}}\r\n"));
    let local = || x().has("Host: localhost:{N}");
    let mut rows = vec![
        row("40", "a dev server sees the name it gave itself", {
            host("Host: hpc.example\r\n")
                .wants(forwarded(local().has("X-Forwarded-Host: hpc.example")))
        }),
        row("40", "a Host with a port is told as it was", {
            let told = local().has("X-Forwarded-Host: [::1]:8080");
            host("Host: [::1]:8080\r\n").wants(forwarded(told))
        }),
        row("42", "HTTP/1.0 without a Host is served", {
            sends("GET {P}/x HTTP/1.0\r\n{T}\r\n").wants(forwarded(local()).closed())
        }),
        row("42", "HTTP/1.0 with a Host is served", {
            sends("GET {P}/x HTTP/1.0\r\nHost: hpc.example\r\n{T}\r\n")
                .wants(forwarded(local()).closed())
        }),
        row(
            "42",
            "an HTTP/1.0 connection is kept only where both want it",
            {
                sends("GET {P}/x HTTP/1.0\r\n{H}Connection: keep-alive\r\n\r\n")
                    .wants(forwarded(local()).open_or_closed())
            },
        ),
    ];
    for (name, line) in [
        (
            "two Host lines",
            "Host: localhost\r\nHost: evil.example\r\n",
        ),
        (
            "two equal Host lines",
            "Host: localhost\r\nHost: localhost\r\n",
        ),
        ("a list of hosts", "Host: localhost, evil.example\r\n"),
        ("a Host with a path", "Host: localhost/x\r\n"),
        ("a Host with a space", "Host: local host\r\n"),
        ("a Host with a userinfo", "Host: user@localhost\r\n"),
        ("a Host with a scheme", "Host: http://localhost\r\n"),
        ("a Host with a query", "Host: localhost?x\r\n"),
        ("a Host with a fragment", "Host: localhost#x\r\n"),
        ("a Host with a port of letters", "Host: localhost:x\r\n"),
        ("a Host with open brackets", "Host: [::1\r\n"),
        ("a Host with markup", "Host: \"><script>\r\n"),
        ("an empty Host", "Host:\r\n"),
        ("no Host", ""),
    ] {
        rows.push(row(
            "41",
            format!("{name} is refused"),
            host(line).wants(refused(&[400])),
        ));
    }
    rows
}
