//! Forms of targets, methods, versions and limits.

use super::keeps;
use crate::{
    exchange::{Exchange, answered, forwarded, refused, sends},
    row::{Met, Need, Row, row, story},
    tables::get,
    want::{own, request},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = forms_and_methods();
    rows.extend(limits());
    rows
}

fn forms_and_methods() -> Vec<Row> {
    let absolute = |url: &str| {
        sends(format!(
            "GET {url} HTTP/1.1\r\nHost: other.example\r\n{{T}}\r\n"
        ))
    };
    let routed = |url: &str, host: &str| {
        let host = format!("X-Forwarded-Host: {host}");
        absolute(url).wants(forwarded(request("GET", "/x?y").has(host)))
    };
    let mut rows = vec![
        row(
            "22",
            "a whole URL is routed by its path, and its authority is the Host",
            routed("http://localhost{P}/x?y", "localhost"),
        ),
        row(
            "22",
            "a whole URL may name an address",
            routed("http://127.0.0.1:80{P}/x?y", "127.0.0.1:80"),
        ),
        row(
            "22",
            "a whole URL may name an IPv6 address",
            routed("http://[::1]:80{P}/x?y", "[::1]:80"),
        ),
        row(
            "22",
            "the scheme of a whole URL has no case",
            routed("HTTP://localhost{P}/x?y", "localhost"),
        ),
        row(
            "22, S15",
            "a whole URL of somebody else is refused",
            absolute("http://evil.example{P}/x")
                .wants(answered(own(&[421])).named("421"))
                .or(answered(own(&[400])).named("400")),
        ),
    ];
    for url in [
        "https://localhost{P}/x",
        "ftp://localhost{P}/x",
        "http://user@localhost{P}/x",
        "http://user:pass@localhost{P}/x",
        "http://{P}/x",
        "ws://localhost{P}/x",
        "localhost{P}/x",
    ] {
        rows.push(row(
            "23",
            format!("{url} is no target"),
            absolute(url).wants(answered(own(&[400]))),
        ));
    }
    let bare = |line: &str| sends(format!("{line} HTTP/1.1\r\n{{H}}\r\n"));
    rows.extend([
        row(
            "24",
            "CONNECT is refused and its connection closed",
            no_tunnel(sends(
                "CONNECT localhost:{N} HTTP/1.1\r\nHost: localhost:{N}\r\n{T}\r\n",
            )),
        ),
        row(
            "24",
            "CONNECT with a path is refused and its connection closed",
            no_tunnel(bare("CONNECT {P}/x")),
        ),
        row(
            "25",
            "OPTIONS of everything is answered by the proxy",
            sends("OPTIONS * HTTP/1.1\r\n{H}\r\n").wants(answered(own(&[200, 204, 405]))),
        ),
        row(
            "25",
            "only OPTIONS asks for everything",
            bare("GET *").wants(answered(own(&[400, 404]))),
        ),
        row("25", "OPTIONS of a path is the dev server's", {
            bare("OPTIONS {P}/x").wants(forwarded(request("OPTIONS", "/x")))
        }),
        row("26", "TRACE is refused", {
            bare("TRACE {P}/x").wants(answered(own(&[405])))
        }),
        row("26", "a refused TRACE echoes nothing", {
            let exchange = sends("TRACE {P}/x HTTP/1.1\r\n{H}X-Secret: 5f1c\r\n\r\n");
            exchange.wants(answered(own(&[405]).lacks("X-Secret")))
        }),
    ]);
    for method in [
        "PROPFIND",
        "QUERY",
        "M-SEARCH",
        "get",
        "X",
        "!#$%&'*+-.^_`|~09AZ",
    ] {
        rows.push(row(
            "27",
            format!("the method {method} is forwarded"),
            bare(&format!("{method} {{P}}/x")).wants(forwarded(request(method, "/x"))),
        ));
    }
    for method in ["G(T", "G@T", "GE\tT", "\"GET\"", "G\u{0}T", "GÉT", ""] {
        rows.push(row(
            "27",
            format!("`{}` is no method", method.escape_default()),
            bare(&format!("{method} {{P}}/x")).wants(refused(&[400])),
        ));
    }
    for (name, line) in [
        ("of another major version", "GET {P}/x HTTP/2.0"),
        ("of a version without digits", "GET {P}/x HTTP/x.y"),
        ("of a version in lower case", "GET {P}/x http/1.1"),
        ("of a version with more digits", "GET {P}/x HTTP/1.10"),
        ("without a version", "GET {P}/x"),
        ("with two spaces", "GET  {P}/x HTTP/1.1"),
        ("with a tab", "GET\t{P}/x HTTP/1.1"),
        ("with a space behind it", "GET {P}/x HTTP/1.1 "),
        ("with a space in its target", "GET {P}/x y HTTP/1.1"),
        (
            "with a control byte in its target",
            "GET {P}/\u{1b}[31m HTTP/1.1",
        ),
        ("with a DEL in its target", "GET {P}/\u{7f} HTTP/1.1"),
    ] {
        rows.push(row(
            "65",
            format!("a request line {name} is refused"),
            sends(format!("{line}\r\n{{H}}\r\n")).wants(refused(&[400, 505])),
        ));
    }
    rows
}

/// Behaviour 24 leaves the status open; the more telling one is the aim.
fn no_tunnel(exchange: Exchange) -> Exchange {
    exchange
        .wants(refused(&[405]).named("405"))
        .or(refused(&[400]).named("400"))
}

fn limits() -> Vec<Row> {
    const LONGEST_BYTES: usize = 16 * 1024;
    let path_of = |stage: &crate::stage::Stage, length: usize| {
        "/".to_owned() + &"a".repeat(length - stage.fill("{P}/").len())
    };
    vec![
        story("30", "a target of 16 KiB is forwarded", move |stage| {
            keeps(&path_of(stage, LONGEST_BYTES)).play(stage)
        }),
        story("30", "a longer target is refused", move |stage| {
            sends(get(&path_of(stage, LONGEST_BYTES + 1)))
                .wants(refused(&[414]))
                .play(stage)
        }),
        story("30", "a target of 100 KiB is refused", move |stage| {
            sends(get(&path_of(stage, 100 * 1024)))
                .wants(refused(&[414]))
                .play(stage)
        }),
        row(
            "31, S20",
            "the proxy's own port is no target",
            sends("GET /port/{O}/ HTTP/1.1\r\n{H}\r\n").wants(answered(own(&[508]))),
        )
        .needs(&[Need::Ownership]),
        row(
            "31, S21",
            "the proxy is not reached through itself",
            sends("GET /port/{O}{P}/x HTTP/1.1\r\n{H}\r\n").wants(answered(own(&[508]))),
        )
        .needs(&[Need::Ownership]),
        story(
            "31",
            "an upgrade to the proxy's own port is refused",
            |stage| {
                let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
                sends(format!("GET /port/{{O}}/ HTTP/1.1\r\n{{H}}{fields}\r\n"))
                    .wants(answered(own(&[508])))
                    .play(stage)
                    .map(|_| Met::Pass)
            },
        )
        .needs(&[Need::Ownership]),
    ]
}
