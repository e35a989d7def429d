//! Requests with and without bodies, one behind the other.

use super::{SMUGGLED, chunked, post};
use crate::{
    exchange::{answered, forwarded, refused, sends},
    row::{Row, row},
    tables::{get, with},
    want::{Framed, own, passed, request},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = bodies();
    rows.extend(pipelines());
    rows
}

fn bodies() -> Vec<Row> {
    let mut rows = Vec::new();
    for method in ["GET", "DELETE", "OPTIONS", "PATCH", "QUERY"] {
        let exchange = sends(with(method, "/x", "Content-Length: 5\r\n") + "hello");
        let exchange = exchange.wants(forwarded(request(method, "/x").length("hello")));
        rows.push(row(
            "62",
            format!("{method} keeps its body and the length of it"),
            exchange,
        ));
    }
    for method in ["GET", "DELETE"] {
        let body = "5\r\nhello\r\n0\r\n\r\n";
        let exchange = sends(with(method, "/x", "Transfer-Encoding: chunked\r\n") + body);
        let exchange = exchange.wants(forwarded(request(method, "/x").chunked("hello")));
        rows.push(row(
            "62",
            format!("{method} keeps its body and the chunks of it"),
            exchange,
        ));
    }
    let head_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let to_head = || {
        passed(200, "")
            .framed(&[Framed::No])
            .has("Content-Length: 2")
    };
    rows.push(row("62", "HEAD keeps its body and the length of it", {
        sends(with("HEAD", "/x", "Content-Length: 5\r\n") + "hello")
            .answer(head_answer)
            .wants(forwarded(request("HEAD", "/x").length("hello")).answers(vec![to_head()]))
    }));
    for method in ["GET", "DELETE", "OPTIONS"] {
        let exchange = sends(with(method, "/x", ""));
        let exchange = exchange.wants(forwarded(request(method, "/x")));
        rows.push(row(
            "62",
            format!("{method} without a body gets none"),
            exchange,
        ));
    }
    rows.push(row("62", "HEAD without a body gets none", {
        sends(with("HEAD", "/x", ""))
            .answer(head_answer)
            .wants(forwarded(request("HEAD", "/x")).answers(vec![to_head()]))
    }));
    for method in ["POST", "PUT", "PATCH"] {
        let exchange = sends(with(method, "/x", "Content-Length: 0\r\n"));
        let exchange = exchange.wants(forwarded(request(method, "/x").length("")));
        rows.push(row(
            "63",
            format!("{method} with an empty body says so"),
            exchange,
        ));
    }
    rows.push(row("63", "POST without any framing has an empty body", {
        sends(with("POST", "/x", ""))
            .wants(forwarded(request("POST", "/x").length("")).named("says so"))
            .or(forwarded(request("POST", "/x")).named("says nothing"))
    }));
    rows.push(row("66", "an empty chunked body stays one", {
        chunked("0\r\n\r\n")
            .wants(
                forwarded(request("POST", "/x").chunked("").framed(&[Framed::Chunked]))
                    .named("chunked"),
            )
            .or(forwarded(request("POST", "/x").length("")).named("a length"))
    }));
    rows.push(row(
        "66",
        "a chunked body stays chunked, or gets its true length",
        {
            chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
                .wants(
                    forwarded(
                        request("POST", "/x")
                            .chunked("hello")
                            .framed(&[Framed::Chunked]),
                    )
                    .named("chunked"),
                )
                .or(forwarded(request("POST", "/x").length("hello")).named("a length"))
        },
    ));
    rows.push(row(
        "66",
        "a body may hold what looks like the end of chunks",
        {
            post("Content-Length: 15\r\n", "0\r\n\r\nGET / HTTP").wants(forwarded(
                request("POST", "/x").length("0\r\n\r\nGET / HTTP"),
            ))
        },
    ));
    rows
}

fn pipelines() -> Vec<Row> {
    let two = || vec![passed(200, "ok"), passed(200, "ok")];
    vec![
        row("64", "requests sent together are answered in order", {
            sends(get("/1") + &get("/2"))
                .wants(
                    forwarded(request("GET", "/1"))
                        .answers(two())
                        .got(vec![request("GET", "/1"), request("GET", "/2")]),
                )
                .or(forwarded(request("GET", "/1")).named("closed").closed())
        }),
        row("64", "a request right behind a body is the next one", {
            post("Content-Length: 5\r\n", &format!("hello{}", get("/2")))
                .wants(forwarded(request("POST", "/x")).answers(two()).got(vec![
                    request("POST", "/x").length("hello"),
                    request("GET", "/2"),
                ]))
                .or(forwarded(request("POST", "/x").length("hello"))
                    .named("closed")
                    .closed())
        }),
        row(
            "64",
            "a request right behind the last chunk is the next one",
            {
                chunked(&format!("5\r\nhello\r\n0\r\n\r\n{}", get("/2")))
                    .wants(forwarded(request("POST", "/x")).answers(two()).got(vec![
                        request("POST", "/x").chunked("hello"),
                        request("GET", "/2"),
                    ]))
                    .or(forwarded(request("POST", "/x").chunked("hello"))
                        .named("closed")
                        .closed())
            },
        ),
        row(
            "64, S17",
            "junk behind a request is never given to the dev server",
            {
                post("Content-Length: 5\r\n", "helloXYZ\r\n\r\n")
                    .wants(
                        forwarded(request("POST", "/x").length("hello"))
                            .answers(vec![passed(200, "ok"), own(&[400])])
                            .closed(),
                    )
                    .or(forwarded(request("POST", "/x").length("hello"))
                        .named("closed")
                        .closed())
            },
        ),
        row("64, S17", "a request behind a GET is not its body", {
            sends(get("/1") + SMUGGLED).wants(
                forwarded(request("GET", "/1"))
                    .answers(vec![passed(200, "ok"), own(&[401, 404, 400])])
                    .open_or_closed(),
            )
        }),
        row(
            "64",
            "an empty line before a request is ignored or refused",
            {
                sends(format!("\r\n{}", get("/1")))
                    .wants(forwarded(request("GET", "/1")).named("ignored"))
                    .or(refused(&[400]))
            },
        ),
        row(
            "64",
            "an empty line behind a body is ignored, or ends the connection",
            {
                post("Content-Length: 5\r\n", &format!("hello\r\n{}", get("/2")))
                    .wants(
                        forwarded(request("POST", "/x"))
                            .named("ignored")
                            .answers(two())
                            .got(vec![
                                request("POST", "/x").length("hello"),
                                request("GET", "/2"),
                            ]),
                    )
                    .or(forwarded(request("POST", "/x").length("hello"))
                        .named("refused")
                        .answers(vec![passed(200, "ok"), own(&[400])])
                        .closed())
                    .or(forwarded(request("POST", "/x").length("hello"))
                        .named("closed")
                        .closed())
            },
        ),
        row("65", "what follows a malformed request is ignored", {
            sends("GET {P}/x HTTP/1.1\r\n{H}X A: 1\r\n\r\n".to_owned() + &get("/2"))
                .wants(refused(&[400]))
        }),
        row("65", "what follows ambiguous framing is ignored", {
            let fields = "Content-Length: 5\r\nContent-Length: 6\r\n";
            post(fields, &format!("hello!{}", get("/2"))).wants(refused(&[400]))
        }),
        row("65", "an answer after which the connection ends says so", {
            sends("GET {P}/x HTTP/1.1\r\n{H}X A: 1\r\n\r\n")
                .wants(refused(&[400]).answers(vec![own(&[400]).has("Connection: close")]))
        }),
        row(
            "65, S17",
            "the body of a request for a bad port is no request",
            {
                let body = get("/evil");
                let body = body.as_str();
                // Its length is not known before the templates are filled: chunks need none.
                let fields = "Transfer-Encoding: chunked\r\n";
                sends(format!(
                    "POST /port/0/x HTTP/1.1\r\n{{H}}{fields}\r\n1\r\n{body}"
                ))
                .wants(answered(own(&[400])).closed())
            },
        ),
        row(
            "65, S17",
            "the body of a refused request is not taken for the next",
            {
                sends(format!(
                    "POST /port/0/x HTTP/1.1\r\n{{H}}Content-Length: {}\r\n\r\n{SMUGGLED}",
                    SMUGGLED.len()
                ))
                .wants(answered(own(&[400])))
            },
        ),
    ]
}
