//! Cookies, credentials and the token.

use super::{keeps, with_fields, x};
use crate::{
    exchange::{answered, forwarded, sends},
    row::{Need, Row, row},
    want::own,
};

pub(super) fn rows() -> Vec<Row> {
    let cookies = |sent: &str, kept: &[&str]| with_fields(sent).wants(forwarded(x().fields(kept)));
    let mut rows = Vec::new();
    let ours: [(&str, &str, &[&str]); 12] = [
        ("alone", "Cookie: __hpc_proxy=0\r\n", &[]),
        ("first", "Cookie: __hpc_proxy=0; a=1\r\n", &["Cookie: a=1"]),
        ("last", "Cookie: a=1; __hpc_proxy=0\r\n", &["Cookie: a=1"]),
        (
            "in the middle",
            "Cookie: a=1; __hpc_proxy=0; b=2\r\n",
            &["Cookie: a=1; b=2"],
        ),
        (
            "twice",
            "Cookie: __hpc_proxy=0; a=1; __hpc_proxy=1\r\n",
            &["Cookie: a=1"],
        ),
        (
            "without blanks",
            "Cookie: a=1;__hpc_proxy=0;b=2\r\n",
            &["Cookie: a=1;b=2"],
        ),
        (
            "with its TLS name",
            "Cookie: a=1; __Host-__hpc_proxy=0; b=2\r\n",
            &["Cookie: a=1; b=2"],
        ),
        ("empty", "Cookie: __hpc_proxy=; a=1\r\n", &["Cookie: a=1"]),
        (
            "with a second equals sign",
            "Cookie: __hpc_proxy=a=b; a=1\r\n",
            &["Cookie: a=1"],
        ),
        (
            "on a line of its own",
            "Cookie: a=1\r\nCookie: __hpc_proxy=0\r\n",
            &["Cookie: a=1"],
        ),
        (
            "on the second line",
            "Cookie: a=1\r\nCookie: __hpc_proxy=0; b=2\r\n",
            &["Cookie: a=1", "Cookie: b=2"],
        ),
        (
            "with blanks around",
            "Cookie:  __hpc_proxy=0 ; a=1\r\n",
            &["Cookie: a=1"],
        ),
    ];
    for (place, sent, kept) in ours {
        rows.push(
            row(
                "46, S3",
                format!("the proxy's cookie is removed {place}"),
                cookies(sent, kept),
            )
            .needs(&[Need::Token]),
        );
    }
    for (name, line) in [
        ("odd characters", "Cookie: a=x|y%3B\"z\";b=[{}];c=,"),
        ("no blanks", "Cookie: a=1;b=2;c=3"),
        ("many blanks", "Cookie: a=1;  b=2 ;c=3"),
        ("no value", "Cookie: a; b=; =c"),
        (
            "names that look like ours",
            "Cookie: x__hpc_proxy=1; __hpc_proxy2=2; __hpc_prox=3; a=__hpc_proxy=4",
        ),
        ("a semicolon at the end", "Cookie: a=1;"),
    ] {
        rows.push(row(
            "46",
            format!("other cookies stay: {name}"),
            keeps(&[line]),
        ));
    }
    rows.push(
        row("46", "what stands around our cookie stays byte for byte", {
            let odd = "Cookie: a=\"x|y\";  b=%3B;__hpc_proxy=0;c=[{}] ;d=,\r\n";
            cookies(odd, &["Cookie: a=\"x|y\";  b=%3B;c=[{}] ;d=,"])
        })
        .needs(&[Need::Token]),
    );
    for line in [
        "Authorization: Basic YTpi",
        "Authorization: Bearer a.b.c",
        "Authorization: Digest username=\"a, b\"",
    ] {
        rows.push(row(
            "47",
            format!("{line} is the dev server's"),
            keeps(&[line]),
        ));
    }
    let token = |fields: &str| {
        sends(format!(
            "GET {{P}}/x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        ))
    };
    let refuses = || answered(own(&[401]));
    rows.extend(
        [
            row("48, S3", "the token goes no further", {
                token("{T}").wants(forwarded(x().lacks("X-Hpc-Proxy-Token")))
            }),
            row("48", "the token's name has no case", {
                token("x-hPc-pRoXy-tOkEn: {TOKEN}\r\n").wants(forwarded(x()))
            }),
            row(
                "48",
                "the token twice is none",
                token("{T}{T}").wants(refuses()),
            ),
            row("48", "the token beside another is none", {
                token("{T}X-Hpc-Proxy-Token: 0\r\n").wants(refuses())
            }),
            row("48", "the token behind another is none", {
                token("X-Hpc-Proxy-Token: 0\r\n{T}").wants(refuses())
            }),
            row("48", "a list of the token is none", {
                token("X-Hpc-Proxy-Token: {TOKEN}, {TOKEN}\r\n").wants(refuses())
            }),
            row("49", "the token under a twin of its name is none", {
                token("X_Hpc_Proxy_Token: {TOKEN}\r\n").wants(refuses())
            }),
        ]
        .map(|row| row.needs(&[Need::Token])),
    );
    rows
}
