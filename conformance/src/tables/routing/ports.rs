//! What is a port, and what is no route at all.

use crate::{
    exchange::{answered, forwarded, gets, refused, sends},
    row::{Need, Row, row},
    want::{own, passed, request},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = ports();
    rows.extend(other_paths());
    rows
}

fn ports() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut bad = |cites, name: &str, target: &str| {
        let exchange = sends(format!("GET {target} HTTP/1.1\r\n{{H}}\r\n"));
        rows.push(row(cites, name, exchange.wants(answered(own(&[400])))));
    };
    bad("10", "an encoded digit is no digit", "/port/{E}/x");
    bad("11", "an encoded slash is no slash", "{P}%2Fx");
    bad(
        "11",
        "an encoded slash in lower case is no slash",
        "{P}%2fx",
    );
    for number in [
        "0",
        "65536",
        "99999",
        "12345678901234567890",
        "4294967296",
        "000",
    ] {
        bad(
            "17",
            &format!("{number} is no port"),
            &format!("/port/{number}/"),
        );
    }
    bad("17", "a port does not wrap at 65536", "/port/{W}/x");
    bad("18", "a leading zero is refused", "/port/0{N}/");
    bad("18", "leading zeros are refused", "/port/000{N}/x");
    for (name, segment) in [
        ("a plus sign", "+{N}"),
        ("a minus sign", "-1"),
        ("an encoded space before it", "%20{N}"),
        ("an encoded space behind it", "{N}%20"),
        ("letters behind it", "{N}abc"),
        ("hexadecimal digits", "0x157c"),
        ("an underscore", "5_500"),
        ("a decimal point", "{N}.0"),
        ("an exponent", "1e3"),
        ("encoded Arabic digits", "%D9%A5%D9%A5%D9%A0%D9%A0"),
        (
            "encoded fullwidth digits",
            "%EF%BC%95%EF%BC%95%EF%BC%90%EF%BC%90",
        ),
        ("an encoded superscript", "5%E2%81%B5"),
        ("an encoded tab", "{N}%09"),
        ("a comma", "{N},1"),
        ("a semicolon", "{N};x"),
        ("an encoded line end", "{N}%0d%0a"),
        ("a backslash", "{N}\\x"),
    ] {
        bad(
            "19",
            &format!("{name} makes no port"),
            &format!("/port/{segment}/"),
        );
    }
    for (name, segment) in [
        ("a userinfo", "{N}@evil"),
        ("an empty userinfo", "@{N}"),
        ("a second port", "{N}:80"),
        ("a password", "user:pass@h"),
        ("an address in brackets", "[::1]"),
        ("an address with a port", "127.0.0.1:{N}"),
        ("a name", "localhost"),
        ("a name with a port", "evil.example:{N}"),
        ("an encoded at sign", "{N}%40evil"),
        ("an encoded colon", "{N}%3A80"),
    ] {
        bad(
            "21, S26",
            &format!("{name} makes no port"),
            &format!("/port/{segment}/x"),
        );
    }
    for (name, segment) in [
        ("Arabic", "٥٥٠٠"),
        ("fullwidth", "５５００"),
        ("superscript", "5⁵"),
    ] {
        let exchange = sends(format!("GET /port/{segment}/ HTTP/1.1\r\n{{H}}\r\n"));
        rows.push(row(
            "19",
            format!("raw {name} digits make no port"),
            exchange.wants(answered(own(&[400]))),
        ));
    }
    rows.push(row(
        "19",
        "a raw space before a port breaks the request line",
        sends("GET /port/ {N}/ HTTP/1.1\r\n{H}\r\n").wants(refused(&[400])),
    ));
    rows
}

fn other_paths() -> Vec<Row> {
    let mut rows = Vec::new();
    for target in [
        "/PORT/{N}/",
        "/Port/{N}/",
        "/port//{N}/",
        "//port/{N}/",
        "/ports/{N}/",
        "/x",
        "/port/../port/{N}/",
    ] {
        let nowhere = |status| answered(own(&[status]));
        rows.push(row(
            "20",
            format!("{target} is no route"),
            sends(format!("GET {target} HTTP/1.1\r\n{{H}}\r\n"))
                .wants(nowhere(404).named("404"))
                .or(nowhere(400).named("400")),
        ));
    }
    for target in ["/", "/port", "/port/", "/?x", "/port?x"] {
        let page = own(&[200]).has("Content-Type: text/html; charset=utf-8");
        rows.push(
            row(
                "20",
                format!("{target} is the index page"),
                sends(format!(
                    "GET {target} HTTP/1.1\r\n{{H}}Accept: text/html\r\n\r\n"
                ))
                .wants(answered(page).open().anything_upstream()),
            )
            .needs(&[Need::OwnPages])
            // It may ask every dev server of the user's for its title.
            .alone(),
        );
    }
    rows.push(
        row(
            "28",
            "an unknown page of the proxy's own is not forwarded",
            sends("GET /_hpc-proxy/no-such-page HTTP/1.1\r\n{H}\r\n").wants(answered(own(&[404]))),
        )
        .needs(&[Need::OwnPages]),
    );
    rows.push(
        row(
            "28",
            "the proxy's own pages cannot name a port",
            sends("GET /_hpc-proxy/port/{N}/x HTTP/1.1\r\n{H}\r\n")
                .wants(answered(own(&[404, 400]))),
        )
        .needs(&[Need::OwnPages]),
    );
    let absport = |path: &str| {
        let target = format!("/absport/{{N}}{path}");
        sends(format!("GET {target} HTTP/1.1\r\n{{H}}\r\n")).wants(forwarded(
            request("GET", target).lacks("X-Forwarded-Prefix"),
        ))
    };
    let needs = &[Need::OtherRoutes];
    rows.extend([
        row(
            "29, 32",
            "an unstripped target stays whole",
            absport("/p?x=1"),
        )
        .needs(needs),
        row("29", "an unstripped root stays whole", absport("/")).needs(needs),
        row("29", "an unstripped escape stays", absport("/a%2Fb//..?")).needs(needs),
        row("29", "an unstripped redirect is left alone", {
            let moved =
                "HTTP/1.1 302 Found\r\nLocation: /absport/{N}/x\r\nContent-Length: 0\r\n\r\n";
            let passed = passed(302, "").field("Location: /absport/{N}/x");
            sends("GET /absport/{N}/ HTTP/1.1\r\n{H}\r\n")
                .answer(moved)
                .wants(gets(passed))
        })
        .needs(needs),
        row(
            "29",
            "an unstripped redirect to another path is left alone",
            {
                let moved = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
                let passed = passed(302, "").field("Location: /x");
                sends("GET /absport/{N}/ HTTP/1.1\r\n{H}\r\n")
                    .answer(moved)
                    .wants(gets(passed))
            },
        )
        .needs(needs),
        row("29, 18", "an unstripped port has the same grammar", {
            sends("GET /absport/0{N}/ HTTP/1.1\r\n{H}\r\n").wants(answered(own(&[400])))
        })
        .needs(needs),
    ]);
    rows
}
