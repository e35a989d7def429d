//! What the proxy says of its secrets, and what it lets others say through it: S3, S24, S25.

use std::{fs, io, time::Duration};

use anyhow::{Context, Result, ensure};

use super::with_token;
use crate::{
    peer::Conn,
    row::{Met, Need, Row, story},
    stage::Stage,
    subject::unused_port,
    wire::Message,
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows: Vec<_> = with_token(secrets()).collect();
    rows.extend(logs());
    rows.extend(pages());
    rows
}

fn token(stage: &Stage) -> Result<String> {
    stage.proxy.token.clone().context("it has a token")
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes
        .windows(part.len())
        .any(|window| window == part.as_bytes())
}

/// All bytes of an answer, in no particular form.
fn all_of(answer: &Message) -> Vec<u8> {
    let fields = answer.head.fields.iter();
    let fields = fields.flat_map(|field| [field.name.as_bytes(), &field.value, b"\n"].concat());
    [
        answer.head.start.clone(),
        fields.collect(),
        answer.body.clone(),
    ]
    .concat()
}

fn secrets() -> Vec<Row> {
    vec![
        story(
            "S3",
            "the token is in nothing that a dev server gets",
            |stage| {
                let token = token(stage)?;
                for text in [
                    "GET {P}/x HTTP/1.1\r\n{H}\r\n",
                    "GET {P}/x HTTP/1.0\r\n{H}\r\n",
                    "GET {P}/x HTTP/1.1\r\n{H}Connection: X-Hpc-Proxy-Token\r\n\r\n",
                    "GET {P}/x HTTP/1.1\r\n{H}Connection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                    "POST {P} HTTP/1.1\r\n{H}Content-Length: 0\r\n\r\n",
                ] {
                    let mut client = stage.asks(text)?;
                    let mut server = stage.accepts()?;
                    server.end_or_bytes_within(Duration::from_secs(2))?;
                    let head = server.unread().to_vec();
                    ensure!(!head.is_empty(), "`{text}` did not come");
                    ensure!(
                        !holds(&head, &token),
                        "of `{text}` came `{}`",
                        head.escape_ascii()
                    );
                    server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")?;
                    client.answer("GET")?;
                }
                Ok(Met::Pass)
            },
        ),
        story(
            "S3",
            "the token is in no page of the proxy's own",
            |stage| {
                let token = token(stage)?;
                let unused = unused_port()?;
                for target in [
                    "/".to_owned(),
                    "/nowhere".into(),
                    "/port/0/".into(),
                    format!("/port/{unused}/"),
                    "/port/{O}/".into(),
                    "/port/22/".into(),
                    "/_hpc-proxy/ports".into(),
                    "/_hpc-proxy/no-such-page".into(),
                ] {
                    for accept in ["text/html", "*/*"] {
                        let mut client = stage.asks(format!(
                            "GET {target} HTTP/1.1\r\n{{H}}Accept: {accept}\r\n\r\n"
                        ))?;
                        let answer = client.answer("GET")?;
                        ensure!(!holds(&all_of(&answer), &token), "{target} shows it");
                    }
                }
                Ok(Met::Pass)
            },
        )
        .alone()
        .needs(&[Need::OwnPages]),
        story(
            "S3",
            "the token is in no argument and no variable of the process",
            |stage| {
                let token = token(stage)?;
                let pid = stage.proxy.pid().context("it is a process")?;
                let arguments = fs::read(format!("/proc/{pid}/cmdline"))?;
                ensure!(!holds(&arguments, &token), "it is in its arguments");
                // A process that is not dumpable (PR_SET_DUMPABLE) shows its variables to root alone.
                match fs::read(format!("/proc/{pid}/environ")) {
                    Ok(variables) => ensure!(!holds(&variables, &token), "it is in its variables"),
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(Met::Pass)
            },
        ),
        story(
            "S3, S24",
            "the log holds no token, cookie, credential or query",
            |stage| {
                let own = stage.alone(&["--verbose"])?;
                let token = token(&own)?;
                let mut client = own.asks(
                "GET {P}/seen?secret-query HTTP/1.1\r\n{H}Cookie: a=secret-cookie; __hpc_proxy=secret-own\r\n\
                 Authorization: Bearer secret-bearer\r\n\r\n",
            )?;
                let (mut server, _) = own.accepts_head()?;
                server.send(
                    "HTTP/1.1 200 OK\r\nSet-Cookie: b=secret-set\r\nContent-Length: 0\r\n\r\n",
                )?;
                client.answer("GET")?;
                for target in [
                    "/port/0/?secret-query",
                    "{P}?secret-query",
                    "/nowhere?secret-query",
                    "/port/{O}/?secret-query",
                ] {
                    let mut client = own.asks(format!("GET {target} HTTP/1.1\r\n{{H}}\r\n"))?;
                    client.answer("GET")?;
                    let mut client =
                    own.asks(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Hpc-Proxy-Token: secret-token\r\n\r\n"))?;
                    client.answer("GET")?;
                }
                let log = settled_log(&own, "/nowhere")?;
                ensure!(!log.contains(&token), "it holds the token");
                ensure!(!log.contains("secret-"), "it holds a secret: {log}");
                Ok(Met::Pass)
            },
        ),
    ]
}

/// The log, once it tells of `last`.
fn settled_log(stage: &Stage, last: &str) -> Result<String> {
    for _ in 0..100 {
        let log = stage.proxy.log();
        if log.contains(last) {
            std::thread::sleep(Duration::from_millis(20));
            return Ok(stage.proxy.log());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!(
        "the verbose log tells nothing of `{last}`: {}",
        stage.proxy.log()
    )
}

fn logs() -> Vec<Row> {
    let hostile = |stage: &Stage, text: &[u8]| -> Result<Conn> {
        let mut client = stage.connect()?;
        client.send(stage.fill(text))?;
        client.end_or_bytes_within(Duration::from_millis(300))?;
        Ok(client)
    };
    vec![
        story(
            "S24",
            "nobody writes lines or colours into the log",
            move |stage| {
                let own = stage.alone(&["--verbose"])?;
                for text in [
                    &b"GET /port/1\x1b[31mred/ HTTP/1.1\r\n{H}\r\n"[..],
                    b"GET /a\rforged line HTTP/1.1\r\n{H}\r\n",
                    b"GET /a\nforged line\r\n{H}\r\n",
                    b"\x1b]0;title\x07 / HTTP/1.1\r\n{H}\r\n",
                    b"GET /port/\xe2\x80\xae5500/ HTTP/1.1\r\n{H}\r\n",
                    b"GET /port/\xc2\x9b31m/ HTTP/1.1\r\n{H}\r\n",
                    b"GET / HTTP/1.1\r\nHost: a\x1b[31m\r\n{T}\r\n",
                    b"GET / HTTP/1.1\r\n{H}X-\x1b[31m: 1\r\n\r\n",
                    b"GET / HTTP/1.1\r\n{H}Upgrade: \x1b[31m\r\nConnection: upgrade\r\n\r\n",
                    b"GET /%1b[31m%0aforged HTTP/1.1\r\n{H}\r\n",
                    b"POST {P}/x HTTP/1.1\r\n{H}Transfer-Encoding: \x1b[31m\r\n\r\n",
                    b"POST {P}/x HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n\x1b[31m\r\n",
                ] {
                    hostile(&own, text)?;
                }
                let mut last = own.asks("GET /nowhere HTTP/1.1\r\n{H}\r\n")?;
                last.answer("GET")?;
                is_plain(&settled_log(&own, "/nowhere")?)
            },
        )
        .needs(&[Need::Flags]),
        story(
            "S24",
            "a dev server writes no lines or colours into the log",
            |stage| {
                let own = stage.alone(&["--verbose"])?;
                for answer in [
                    "\x1b[31m\r\n\r\n",
                    "HTTP/1.1 200 \x1b[31m\r\nContent-Length: 0\r\n\r\n",
                    "HTTP/1.1 200 OK\r\nContent-Length: \x1b[31m\r\n\r\n",
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x1b[31m\r\n\r\n",
                    "HTTP/1.1 200 OK\r\nX-\x1b[31m: 1\r\n\r\n",
                    "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: \x1b[31m\r\n\r\n",
                ] {
                    let mut client = own.gets("/x")?;
                    let (mut server, _) = own.accepts_head()?;
                    server.send(answer)?;
                    drop(server);
                    client.answer("GET")?;
                }
                let mut last = own.asks("GET /nowhere HTTP/1.1\r\n{H}\r\n")?;
                last.answer("GET")?;
                is_plain(&settled_log(&own, "/nowhere")?)
            },
        )
        .needs(&[Need::Flags]),
    ]
}

fn is_plain(log: &str) -> Result<Met> {
    let odd = log.chars().find(|c| {
        c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c) || *c == '\u{9b}'
    });
    ensure!(odd.is_none(), "it holds {odd:?}: {}", log.escape_debug());
    let forged = log
        .lines()
        .find(|line| line.trim_start().starts_with("forged"));
    ensure!(forged.is_none(), "a line was forged: {forged:?}");
    Ok(Met::Pass)
}

fn pages() -> Vec<Row> {
    let rows = [
        ("a script as a port", "/port/<script>alert(1)</script>/"),
        ("a quote as a port", "/port/\"onload=alert(1)x=\"/"),
        ("a tag as a path", "/<img/src=x/onerror=alert(1)>"),
        (
            "an escaped script as a port",
            "/port/%3Cscript%3Ealert(1)%3C/",
        ),
        ("an ampersand as a port", "/port/&lt;script&gt;/"),
        (
            "a tag in a query of the index",
            "/?<script>alert(1)</script>",
        ),
        (
            "a tag in a page of the proxy's own",
            "/_hpc-proxy/<script>alert(1)</script>",
        ),
    ];
    let rows = rows.map(|(name, target)| {
        story(
            "S25",
            format!("{name} is shown as text or not at all"),
            move |stage| {
                let mut client = stage.connect()?;
                client.send(stage.fill(format!(
                    "GET {target} HTTP/1.1\r\n{{H}}Accept: text/html\r\n\r\n"
                )))?;
                let answer = client.answer("GET")?;
                for part in ["<script>alert", "<img/src", "\"onload=", "&lt;script&gt;/"] {
                    let is_markup = part != "&lt;script&gt;/" || target.contains(part);
                    ensure!(
                        !is_markup || !holds(&answer.body, part),
                        "the page holds `{part}`"
                    );
                }
                let nosniff = answer.head.only("x-content-type-options");
                ensure!(nosniff == Some(b"nosniff"), "a browser may guess its type");
                ensure!(
                    answer.head.has("content-security-policy"),
                    "scripts may run in it"
                );
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::OwnPages])
        // A list of servers may be part of it, which asks each for its title.
        .alone()
    });
    rows.into_iter().collect()
}
