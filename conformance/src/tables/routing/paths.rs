//! What follows the prefix is passed on byte for byte.

use super::keeps;
use crate::{
    exchange::{answered, forwarded, refused, sends},
    row::{Row, row},
    tables::{get, with},
    want::{Framed, own, passed, request},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = paths();
    rows.extend(slashes());
    rows.extend(dots_and_escapes());
    rows.extend(queries());
    rows
}

fn paths() -> Vec<Row> {
    vec![
        row(
            "1",
            "the prefix is stripped and nothing else",
            keeps("/a/b?x=1"),
        ),
        row("5", "the root of a dev server is its root", keeps("/")),
        row("6", "double slashes stay", keeps("//a//b")),
        row(
            "6",
            "a double slash is no network path",
            keeps("//evil.example/x"),
        ),
        row("6", "a double slash at the end stays", keeps("/a//")),
        row("12", "punctuation stays", keeps("/a;v=1/@x:y!$&'()*+,=~")),
        // No URI (RFC 3986), but what browsers send (URL standard, path percent-encode set).
        row(
            "12",
            "brackets and bars, which browsers do not encode, stay",
            keeps("/[slug]/a|b.js"),
        ),
        row(
            "13",
            "percent-encoded UTF-8 stays",
            keeps("/%C3%BC/%e2%82%ac?%C3%BC"),
        ),
        row(
            "13",
            "raw UTF-8 in a path is refused or passed as it is",
            sends(get("/ü"))
                .wants(refused(&[400]))
                .or(forwarded(request("GET", "/ü"))),
        ),
        row(
            "13",
            "raw UTF-8 in a query is refused or passed as it is",
            sends(get("/?ü"))
                .wants(refused(&[400]))
                .or(forwarded(request("GET", "/?ü"))),
        ),
        row(
            "28",
            "the proxy's own name below a prefix is the dev server's",
            keeps("/_hpc-proxy/ports"),
        ),
        row(
            "1",
            "a port in the rest of the path is no route",
            keeps("/port/1/"),
        ),
        row("32", "the prefix is stated", {
            let prefix = request("GET", "/a").has("X-Forwarded-Prefix: {P}");
            sends(get("/a")).wants(forwarded(prefix))
        }),
    ]
}

fn slashes() -> Vec<Row> {
    let redirect = |method: &str, query: &str| {
        let to = |place: String| {
            let redirect = own(&[308]).has(format!("Location: {place}"));
            answered(if method == "HEAD" {
                redirect.framed(&[Framed::No])
            } else {
                redirect
            })
            .open()
        };
        sends(format!("{method} {{P}}{query} HTTP/1.1\r\n{{H}}\r\n"))
            .wants(to(format!("{{N}}/{query}")).named("relative"))
            .or(to(format!("{{P}}/{query}")).named("an absolute path"))
    };
    let root = |method: &str, query: &str| {
        sends(format!(
            "{method} {{P}}{query} HTTP/1.1\r\n{{H}}Content-Length: 2\r\n\r\nhi"
        ))
        .wants(forwarded(request(method, format!("/{query}")).length("hi")))
    };
    vec![
        row(
            "2",
            "GET of a bare port is redirected to its slash",
            redirect("GET", ""),
        ),
        row(
            "2",
            "HEAD of a bare port is redirected, without a body",
            redirect("HEAD", ""),
        ),
        row(
            "3",
            "the redirect keeps the query",
            redirect("GET", "?x=1&y"),
        ),
        row(
            "3",
            "the redirect keeps an empty query",
            redirect("GET", "?"),
        ),
        row(
            "3",
            "the redirect keeps a query that looks like a path",
            redirect("GET", "?x=/../b"),
        ),
        row(
            "4",
            "POST to a bare port goes to the root",
            root("POST", ""),
        ),
        row(
            "4",
            "POST to a bare port keeps its query",
            root("POST", "?x=1"),
        ),
        row(
            "4",
            "DELETE of a bare port goes to the root",
            root("DELETE", ""),
        ),
        row("4", "an upgrade of a bare port goes to the root", {
            let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
            sends(with("GET", "", fields))
                .answer("HTTP/1.1 403 no\r\nContent-Length: 2\r\n\r\nno")
                .wants(
                    forwarded(request("GET", "/").any_fields().has("Upgrade: websocket"))
                        .answers(vec![passed(403, "no")])
                        .open_or_closed(),
                )
        }),
    ]
}

fn dots_and_escapes() -> Vec<Row> {
    let mut rows = Vec::new();
    for path in ["/a/../b", "/./x", "/%2e%2e/x", "/a/%2E%2e/%2E%2E/b", "/.."] {
        rows.push(row("7", format!("dots stay: {path}"), keeps(path)));
    }
    for path in [
        "/../../x",
        "/../1/x",
        "/%2e%2e/1/x",
        "/..%2f1/x",
        "/../../port/1/x",
    ] {
        let exchange = keeps(path).or(answered(own(&[400])));
        rows.push(row(
            "8",
            format!("dots lead to no other port: {path}"),
            exchange,
        ));
    }
    for escape in [
        "%2F", "%2f", "%5C", "%3F", "%23", "%25", "%2525", "%20", "%7E", "%41", "%0d%0a",
    ] {
        let path = format!("/a{escape}b");
        rows.push(row("9", format!("{escape} is not decoded"), keeps(&path)));
    }
    rows.push(row(
        "9",
        "an encoded NUL is refused",
        sends(get("/a%00b")).wants(answered(own(&[400]))),
    ));
    for broken in ["/a%", "/a%zz", "/a%2"] {
        let exchange = keeps(broken).or(answered(own(&[400])));
        rows.push(row(
            "9",
            format!("a broken escape is not mended: {broken}"),
            exchange,
        ));
    }
    rows
}

fn queries() -> Vec<Row> {
    let mut rows: Vec<_> = [
        ("a plus and %20 differ", "/?a=+&b=%20"),
        ("a semicolon separates nothing", "/?a;b"),
        ("an empty value stays", "/?a=&b"),
        ("keys repeat in order", "/?x=2&x=1&x=2"),
        ("a word is enough", "/?x"),
        ("slashes, dots and question marks stay", "/x?/../y?z//%2F"),
        ("brackets stay", "/?a[]=1&a[]={2}|^"),
        ("an escaped hash stays", "/?a=%23b"),
    ]
    .into_iter()
    .map(|(name, path)| row("14", format!("in a query {name}"), keeps(path)))
    .collect();
    rows.push(row(
        "15",
        "an empty query keeps its question mark",
        keeps("/a?"),
    ));
    rows.push(row(
        "15",
        "an empty query of the root keeps its question mark",
        keeps("/?"),
    ));
    for (path, kept) in [("/a#b", "/a"), ("/a?x#b", "/a?x"), ("/#", "/")] {
        rows.push(row(
            "16",
            format!("a fragment is never forwarded: {path}"),
            sends(get(path))
                .wants(answered(own(&[400])))
                .or(forwarded(request("GET", kept)).named("dropped")),
        ));
    }
    rows
}
