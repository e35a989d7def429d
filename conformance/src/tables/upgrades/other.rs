//! What looks like an upgrade and is none, or none that is allowed.

use super::{AGREES, Row, row, story};
use crate::{
    exchange::{Exchange, forwarded, refused, sends},
    row::Met,
    want::{Request, own, passed, request},
};

/// An ordinary request without its upgrade, or a refusal.
fn is_ordinary(exchange: Exchange, request: Request) -> Exchange {
    let request = request
        .any_fields()
        .lacks("Upgrade")
        .lacks("HTTP2-Settings");
    exchange
        .wants(forwarded(request).open_or_closed())
        .or(refused(&[400]).open_or_closed())
}

pub(super) fn rows() -> Vec<Row> {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let asks = |connection: &str, upgrade: &str| {
        format!("Connection: {connection}\r\nUpgrade: {upgrade}\r\n{key}")
    };
    let get = |fields: String| sends(format!("GET {{P}}/x HTTP/1.1\r\n{{H}}{fields}\r\n"));
    let x = || request("GET", "/x");
    let mut rows = vec![
        row("117", "an upgrade by POST is none", {
            let fields = asks("Upgrade", "websocket");
            let post = format!("POST {{P}}/x HTTP/1.1\r\n{{H}}{fields}Content-Length: 2\r\n\r\nhi");
            is_ordinary(sends(post), request("POST", "/x").length("hi"))
        }),
        row("117", "an upgrade without Connection is none", {
            is_ordinary(get(format!("Upgrade: websocket\r\n{key}")), x())
        }),
        row("117", "an upgrade that Connection does not name is none", {
            is_ordinary(get(asks("keep-alive", "websocket")), x())
        }),
        row(
            "117",
            "a Connection that names an upgrade without one is nothing",
            is_ordinary(get("Connection: Upgrade\r\n".into()), x()),
        ),
        row("117", "an upgrade by HTTP/1.0 is none", {
            let fields = asks("Upgrade", "websocket");
            is_ordinary(
                sends(format!("GET {{P}}/x HTTP/1.0\r\n{{H}}{fields}\r\n")),
                x(),
            )
        }),
        row("117, S17", "an upgrade with a body is none", {
            let fields = asks("Upgrade", "websocket");
            let get =
                format!("GET {{P}}/x HTTP/1.1\r\n{{H}}{fields}Content-Length: 5\r\n\r\nhello");
            is_ordinary(sends(get), x().length("hello"))
        }),
        row("117, S17", "an upgrade with chunks is none", {
            let fields = asks("Upgrade", "websocket");
            let body = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
            is_ordinary(
                sends(format!("GET {{P}}/x HTTP/1.1\r\n{{H}}{fields}{body}")),
                x().chunked("hello"),
            )
        }),
        row("117, S17", "h2c is never tunnelled", {
            let fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
            is_ordinary(get(fields.into()), x())
        }),
        row(
            "117, S17",
            "h2c without its settings is never tunnelled",
            is_ordinary(get("Connection: Upgrade\r\nUpgrade: h2c\r\n".into()), x()),
        ),
        row("117, S17", "h2c behind websocket is never tunnelled", {
            // A choice between the two may be narrowed to the one that is allowed.
            let narrowed = x().any_fields().has("Upgrade: websocket");
            is_ordinary(get(asks("Upgrade", "websocket, h2c")), x())
                .or(forwarded(narrowed).named("narrowed").open_or_closed())
        }),
        row("117, S17", "h2c before websocket is never tunnelled", {
            let narrowed = x().any_fields().has("Upgrade: websocket");
            is_ordinary(get(asks("Upgrade", "h2c, websocket")), x())
                .or(forwarded(narrowed).named("narrowed").open_or_closed())
        }),
        row("117, S17", "the preface of HTTP/2 is refused", {
            sends("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").wants(refused(&[400, 505]))
        }),
    ];
    for token in [
        "tcp",
        "TLS/1.0",
        "connect-ip",
        "websocket/13",
        "websocketx",
        "\"websocket\"",
    ] {
        let exchange = is_ordinary(get(asks("Upgrade", token)), x());
        rows.push(row(
            "118",
            format!("an upgrade to {token} is not passed on"),
            exchange,
        ));
    }
    for (name, fields) in [
        (
            "h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        ),
        ("tcp", "Connection: Upgrade\r\nUpgrade: tcp\r\n"),
    ] {
        rows.push(story(
            "118, 82",
            format!("a dev server that agrees to {name} is a 502"),
            move |stage| {
                let mut client =
                    stage.asks(format!("GET {{P}}/x HTTP/1.1\r\n{{H}}{fields}\r\n"))?;
                let Some(mut server) = stage.listener().accept(super::A_MOMENT)? else {
                    anyhow::ensure!(client.answer("GET")?.head.status() == 400);
                    return Ok(Met::Pass);
                };
                server.head()?;
                server.send(format!("{}\r\n", AGREES.replace("websocket", name)))?;
                let status = client.answer("GET")?.head.status();
                anyhow::ensure!(status == 502, "the client got {status}");
                Ok(Met::Pass)
            },
        ));
    }
    rows.push(row(
        "82, 117",
        "a plain answer to what was no upgrade is passed on",
        {
            get("Connection: Upgrade\r\nUpgrade: h2c\r\n".into())
                .answer("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
                .wants(
                    forwarded(x().any_fields().lacks("Upgrade"))
                        .answers(vec![passed(426, "no")])
                        .open_or_closed(),
                )
                .or(refused(&[400]).answers(vec![own(&[400])]).open_or_closed())
        },
    ));
    rows
}
