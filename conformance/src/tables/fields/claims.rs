//! What is said of earlier hops, and who is believed.

use super::{keeps, with_fields, x};
use crate::{
    exchange::forwarded,
    row::{Need, Row, row},
};

pub(super) fn rows() -> Vec<Row> {
    let claims = |fields: &str| with_fields(fields).without_auth();
    let mut rows = vec![
        row(
            "43",
            "a client is named",
            with_fields("").wants(forwarded(x().has("X-Forwarded-For: 127.0.0.1"))),
        ),
        row("43", "an authenticated hop's chain is continued", {
            let chain = x().has("X-Forwarded-For: 203.0.113.9, 127.0.0.1");
            with_fields("X-Forwarded-For: 203.0.113.9\r\n").wants(forwarded(chain))
        })
        .needs(&[Need::Token]),
        row("43, S16", "anybody's chain is replaced", {
            claims("X-Forwarded-For: 203.0.113.9\r\n")
                .wants(forwarded(x().has("X-Forwarded-For: 127.0.0.1")))
        }),
        row("43, S16", "anybody's two chains are replaced", {
            claims("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 203.0.113.10\r\n")
                .wants(forwarded(x().has("X-Forwarded-For: 127.0.0.1")))
        }),
        row("44", "scheme and host are stated", {
            let told = x()
                .has("X-Forwarded-Proto: http")
                .has("X-Forwarded-Host: localhost");
            with_fields("").wants(forwarded(told))
        }),
        row(
            "44",
            "an authenticated hop's scheme and host are believed",
            {
                let told = x()
                    .has("X-Forwarded-Proto: https")
                    .has("X-Forwarded-Host: hpc.example");
                with_fields("X-Forwarded-Proto: https\r\nX-Forwarded-Host: hpc.example\r\n")
                    .wants(forwarded(told))
            },
        )
        .needs(&[Need::Token]),
        row("44, S16", "anybody's scheme and host are replaced", {
            let told = x()
                .has("X-Forwarded-Proto: http")
                .has("X-Forwarded-Host: localhost");
            claims("X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n")
                .wants(forwarded(told))
        }),
        row("32, S16", "an authenticated hop's prefix is believed", {
            let prefix = x().has("X-Forwarded-Prefix: /user/a{P}");
            with_fields("X-Forwarded-Prefix: /user/a{P}\r\n").wants(forwarded(prefix))
        })
        .needs(&[Need::Token]),
        row("32, S16", "two prefixes are none", {
            let prefix = x().has("X-Forwarded-Prefix: {P}");
            with_fields("X-Forwarded-Prefix: /a\r\nX-Forwarded-Prefix: /b\r\n")
                .wants(forwarded(prefix))
        })
        .needs(&[Need::Token]),
        row("32, S16", "anybody's prefix is replaced", {
            let prefix = x().has("X-Forwarded-Prefix: {P}");
            claims("X-Forwarded-Prefix: /evil\r\n").wants(forwarded(prefix))
        }),
        row("45", "Forwarded is not passed on raw", {
            with_fields("Forwarded: for=192.0.2.60;proto=https;host=evil.example\r\n")
                .wants(forwarded(x().lacks("Forwarded")))
        }),
    ];
    for line in [
        "Forwarded: for=evil",
        "X-Real-IP: 192.0.2.60",
        "X-Original-URL: /admin",
        "X-Original-Host: evil.example",
        "X-HpcProxy-User: root",
        "X-Hpc-Proxy-User: root",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Server: evil",
    ] {
        let exchange = claims(&format!("{line}\r\n")).wants(forwarded(x()));
        rows.push(row(
            "45, S16",
            format!("anybody's {line} is dropped"),
            exchange,
        ));
    }
    for name in [
        "X_Forwarded_For",
        "X_Forwarded-Host",
        "X-Forwarded_Proto",
        "X_Hpc_Proxy_Token",
        "X_Real_IP",
        "x_forwarded_prefix",
    ] {
        let exchange = with_fields(&format!("{name}: evil\r\n")).wants(forwarded(x()));
        rows.push(row("49, S16", format!("{name} is no way around"), exchange));
    }
    rows.push(row(
        "49",
        "a name with an underscore and no twin is kept",
        keeps(&["X_Own: 1"]),
    ));
    rows.push(
        row("90, S21", "the proxy names itself in Via", {
            with_fields("").wants(forwarded(x().has("Via: 1.1 hpc-proxy")))
        })
        .needs(&[Need::Ownership]),
    );
    rows.push(
        row("90, S21", "Via of others is kept before its own", {
            let joined = x().has("Via: 1.0 fred, 1.1 hpc-proxy");
            let apart = x().field("Via: 1.0 fred").field("Via: 1.1 hpc-proxy");
            with_fields("Via: 1.0 fred\r\n")
                .wants(forwarded(joined).named("one line"))
                .or(forwarded(apart).named("two lines"))
        })
        .needs(&[Need::Ownership]),
    );
    rows
}
