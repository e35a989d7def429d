//! `Location` and its kin: a dev server names its own root, the browser needs the prefix.

use crate::{
    exchange::{Exchange, Outcome, gets, sends},
    row::{Need, Row, row},
    want::passed,
};

/// The browser's own name for the proxy.
const HOST: &str = "hpc.example";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for status in [201, 300, 301, 302, 303, 305, 307, 308] {
        let exchange = moves(status, "Location: /x", "Location: {P}/x");
        rows.push(row(
            "87",
            format!("{status} to a path leads below the prefix"),
            exchange,
        ));
    }
    for (name, from, to) in [
        ("the root", "/", "{P}/"),
        (
            "a path with query and fragment",
            "/x?a=/b#c",
            "{P}/x?a=/b#c",
        ),
        ("an escaped path", "/a%2Fb%20c", "{P}/a%2Fb%20c"),
        ("a path with dots", "/../x", "{P}/x"),
        (
            "the dev server by address",
            "http://127.0.0.1:{N}/x",
            "{P}/x",
        ),
        (
            "the dev server by name",
            "http://localhost:{N}/x?y",
            "{P}/x?y",
        ),
        (
            "the dev server by IPv6 address",
            "http://[::1]:{N}/x",
            "{P}/x",
        ),
        (
            "the dev server by any address",
            "http://0.0.0.0:{N}/x",
            "{P}/x",
        ),
        (
            "the dev server in upper case",
            "HTTP://LOCALHOST:{N}/x",
            "{P}/x",
        ),
        (
            "the dev server without a path",
            "http://localhost:{N}",
            "{P}/",
        ),
        (
            "the dev server with a query alone",
            "http://localhost:{N}?a",
            "{P}/?a",
        ),
        (
            "the dev server without a scheme",
            "//localhost:{N}/x",
            "{P}/x",
        ),
        (
            "the name that the browser uses",
            "http://hpc.example/x",
            "{P}/x",
        ),
        (
            "the name that the browser uses, without a scheme",
            "//hpc.example/x",
            "{P}/x",
        ),
        (
            "a path that only begins like the prefix",
            "{P}1/x",
            "{P}{P}1/x",
        ),
        ("a port in a path", "/port/1/x", "{P}/port/1/x"),
        ("raw UTF-8", "/\u{fc}", "{P}/\u{fc}"),
    ] {
        rows.push(row("87", format!("{name} leads below the prefix"), {
            moves(
                302,
                &format!("Location: {from}"),
                &format!("Location: {to}"),
            )
        }));
    }
    for (name, url) in [
        ("a path that has the prefix", "{P}/x"),
        ("the prefix alone", "{P}/"),
        ("a relative path", "x/y"),
        ("a relative path with a dot", "./x"),
        ("a relative path with dots", "../x"),
        ("a query", "?q=/a"),
        ("a fragment", "#/a"),
        ("an empty reference", ""),
        ("another host", "https://example.org/x"),
        ("another host without a scheme", "//example.org/x"),
        ("another host with our path", "https://example.org{P}/x"),
        (
            "another host that begins like ours",
            "http://localhost:{N}.example.org/x",
        ),
        (
            "another host with our name as userinfo",
            "http://localhost:{N}@example.org/x",
        ),
        (
            "another host that begins like the browser's",
            "http://hpc.example.org/x",
        ),
        ("a mail address", "mailto:a@example.org"),
        ("a scheme of its own", "vscode://file/x"),
    ] {
        rows.push(row("87", format!("{name} is left alone"), {
            let line = format!("Location: {url}");
            moves(302, &line, &line)
        }));
    }
    rows.push(row(
        "87",
        "the browser's own URL with the prefix is not doubled",
        {
            moves(302, "Location: http://hpc.example{P}/x", "Location: {P}/x")
                .or(same(302, "Location: http://hpc.example{P}/x"))
        },
    ));
    rows.push(
        row("87, 32", "a path leads below the prefix that a manager states", {
            sends(format!(
                "GET {{P}}/x HTTP/1.1\r\nHost: {HOST}\r\n{{T}}X-Forwarded-Prefix: /user/a{{P}}\r\n\r\n"
            ))
            .answer("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nok")
            .wants(gets(passed(302, "ok").field("Location: /user/a{P}/x")))
        })
        .needs(&[Need::Token]),
    );
    for (name, from, to) in [
        (
            "Content-Location of a path",
            "Content-Location: /x",
            "Content-Location: {P}/x",
        ),
        (
            "Refresh to a path",
            "Refresh: 5; url=/x",
            "Refresh: 5; url={P}/x",
        ),
        (
            "Link to a path",
            "Link: </x.css>; rel=preload",
            "Link: <{P}/x.css>; rel=preload",
        ),
        (
            "SourceMap of a path",
            "SourceMap: /x.map",
            "SourceMap: {P}/x.map",
        ),
    ] {
        let exchange = moves(200, from, to).or(same(200, from));
        rows.push(row("88", format!("{name} is moved or left"), exchange));
    }
    for (name, line) in [
        ("a relative Content-Location", "Content-Location: x"),
        (
            "a relative Link",
            "Link: <x.css>; rel=preload, <https://example.org/y>; rel=next",
        ),
        ("a Refresh without a URL", "Refresh: 5"),
        ("a relative SourceMap", "SourceMap: x.map"),
    ] {
        rows.push(row(
            "88",
            format!("{name} is left alone"),
            moves(200, line, line),
        ));
    }
    rows
}

fn answers_with(status: u16, line: &str) -> Exchange {
    sends(format!("GET {{P}}/x HTTP/1.1\r\nHost: {HOST}\r\n{{T}}\r\n")).answer(format!(
        "HTTP/1.1 {status} Moved\r\n{line}\r\nContent-Length: 2\r\n\r\nok"
    ))
}

fn moves(status: u16, from: &str, to: &str) -> Exchange {
    answers_with(status, from).wants(gets(passed(status, "ok").field(to)).named("moved"))
}

fn same(status: u16, line: &str) -> Outcome {
    gets(passed(status, "ok").field(line)).named("left")
}
