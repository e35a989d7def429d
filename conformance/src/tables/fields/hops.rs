//! Fields of one hop, and those that `Connection` names.

use super::{strips, with_fields, x};
use crate::{
    exchange::{forwarded, sends},
    row::{Need, Row, row},
    tables::with,
    want::request,
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = hop_by_hop();
    rows.extend(connection_options());
    rows
}

fn hop_by_hop() -> Vec<Row> {
    let mut rows = Vec::new();
    for line in [
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authenticate: Basic",
        "Proxy-Authorization: Basic YTpi",
        "TE: gzip",
        "TE: gzip;q=0.5, deflate",
        "Trailer: X-Sum",
        "Upgrade: websocket",
        "Upgrade: h2c",
    ] {
        let strips = strips(&format!("{line}\r\n"));
        rows.push(row("33", format!("{line} stays on its hop"), strips));
    }
    for (name, line) in [
        ("TE: trailers is kept", "TE: trailers"),
        ("of a TE list only trailers is kept", "TE: gzip, trailers"),
        ("TE: Trailers is kept in any case", "TE: Trailers"),
    ] {
        let kept = |te| forwarded(x().field(te));
        let exchange = with_fields(&format!("{line}\r\nConnection: TE\r\n"));
        let exchange = exchange.wants(kept("TE: trailers"));
        let as_sent = || kept("TE: Trailers").named("as it was sent");
        let exchange = if line == "TE: Trailers" {
            exchange.or(as_sent())
        } else {
            exchange
        };
        rows.push(row("33", name, exchange));
    }
    rows
}

fn connection_options() -> Vec<Row> {
    let mut rows: Vec<_> = [
        (
            "a field named in Connection is removed",
            "Connection: x-once\r\nX-Once: 1\r\n",
        ),
        (
            "a field is named in any case",
            "Connection: X-ONCE\r\nx-oNcE: 1\r\n",
        ),
        (
            "all of several lines of it are removed",
            "X-Once: 1\r\nConnection: x-once\r\nX-Once: 2\r\n",
        ),
        (
            "several Connection lines count",
            "Connection: x-once\r\nX-Once: 1\r\nConnection: x-twice\r\nX-Twice: 1\r\n",
        ),
        (
            "a list with blanks counts",
            "Connection: keep-alive ,\tx-once , x-twice\r\nX-Once: 1\r\nX-Twice: 2\r\n",
        ),
        (
            "empty elements are nothing",
            "Connection: ,, x-once ,,\r\nX-Once: 1\r\n",
        ),
    ]
    .into_iter()
    .map(|(name, fields)| row("34", name, strips(fields)))
    .collect();
    rows.push(row("34", "a field is removed beside close, too", {
        with_fields("Connection: close, x-once\r\nX-Once: 1\r\n").wants(forwarded(x()).closed())
    }));
    rows.push(row("34", "a name that only looks alike is kept", {
        with_fields("Connection: x-once\r\nX-Once-More: 1\r\n")
            .wants(forwarded(x().field("X-Once-More: 1")))
    }));
    rows.push(row("35", "Connection cannot remove Host", {
        with_fields("Connection: host\r\n").wants(forwarded(x()))
    }));
    for line in ["Cookie: a=1", "Authorization: Basic YTpi"] {
        let name = line.split(':').next().unwrap_or_default();
        let fields = format!("Connection: {name}\r\n{line}\r\n");
        let kept = with_fields(&fields).wants(forwarded(x().field(line)));
        rows.push(row("35", format!("Connection cannot remove {name}"), kept));
    }
    for name in ["Content-Length", "content-length, host"] {
        rows.push(row(
            "35, S17",
            format!("Connection: {name} removes no body"),
            {
                let fields = format!("Connection: {name}\r\nContent-Length: 5\r\n");
                sends(with("POST", "/x", &fields) + "hello")
                    .wants(forwarded(request("POST", "/x").length("hello")))
            },
        ));
    }
    rows.push(row(
        "35, S17",
        "Connection: transfer-encoding removes no framing",
        {
            let fields = "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n";
            sends(with("POST", "/x", fields) + "5\r\nhello\r\n0\r\n\r\n")
                .wants(forwarded(request("POST", "/x").chunked("hello")))
        },
    ));
    for line in [
        "X-Forwarded-Prefix: {P}",
        "X-Forwarded-Host: localhost",
        "X-Forwarded-Proto: http",
        "X-Forwarded-For: 127.0.0.1",
    ] {
        let name = line.split(':').next().unwrap_or_default();
        let kept = with_fields(&format!("Connection: {name}\r\n")).wants(forwarded(x().has(line)));
        rows.push(row("35", format!("Connection cannot remove {name}"), kept));
    }
    rows.push(
        row(
            "35, S3",
            "Connection cannot smuggle the token past its removal",
            strips("Connection: X-Hpc-Proxy-Token\r\n"),
        )
        .needs(&[Need::Token]),
    );
    rows.push(row(
        "36",
        "an empty Connection is nothing",
        strips("Connection:\r\n"),
    ));
    rows.push(row(
        "36",
        "a Connection of commas is nothing",
        strips("Connection: , ,\r\n"),
    ));
    rows
}
