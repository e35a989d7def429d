//! Pages: what a browser asks for as one has its URLs moved below the prefix, and nothing else has.

use super::passed;
use crate::{
    exchange::{Exchange, gets, sends},
    recorder::After,
    row::{Need, Row, row},
    tables::with,
    want::{Answer, Framed},
};

const PAGE: &str = "<!doctype html><head></head><a href=\"/x\">y</a>";
const HTML: &str = "Content-Type: text/html";
const DOCUMENT: &str = "Sec-Fetch-Dest: document\r\n";

/// `PAGE` coded by others: with zlib, and by hand as RFC 7932 and RFC 8878 have it for bytes as they are.
const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xb3QL\xc9O.\xa9,HU\xc8(\xc9\xcd\xb1\xb3\xc9HML\xb1\xb3\xd1\x87P\x89\x0a\x19E\xa9i\xb6J\xfa\x15Jv\x956\xfa\x89v\x00SC:\xc6.\x00\x00\x00";
const DEFLATE: &[u8] = b"x\xda\xb3QL\xc9O.\xa9,HU\xc8(\xc9\xcd\xb1\xb3\xc9HML\xb1\xb3\xd1\x87P\x89\x0a\x19E\xa9i\xb6J\xfa\x15Jv\x956\xfa\x89v\x00p/\x0e\xfb";
const BROTLI: &[u8] = b"\xd0\x02\x10<!doctype html><head></head><a href=\x22/x\x22>y</a>\x03";
const ZSTD: &[u8] = b"(\xb5/\xfd .q\x01\x00<!doctype html><head></head><a href=\x22/x\x22>y</a>";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = moved();
    rows.extend(content());
    for row in &mut rows {
        row.needs.push(Need::Rewriting);
    }
    rows.extend(untouched());
    rows
}

/// The dev server answers with these fields and this body.
fn answers(asked: &str, status: &str, fields: &[&str], body: &[u8]) -> Exchange {
    let fields: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    sends(with("GET", "/x", asked)).answer([head.as_bytes(), body].concat())
}

/// A page of which only parts are known.
fn page(status: u16) -> Answer {
    passed(status, "").any_fields().framed(&[Framed::Chunked])
}

/// `PAGE`, with its link below the prefix.
fn moved_page(status: u16) -> Answer {
    page(status).holds("<a href=\"{P}/x\">y</a>").has(HTML)
}

fn moved() -> Vec<Row> {
    let mut rows = Vec::new();
    for (coding, coded) in [
        ("identity", PAGE.as_bytes()),
        ("gzip", GZIP),
        ("deflate", DEFLATE),
        ("br", BROTLI),
        ("zstd", ZSTD),
    ] {
        let coding_field = format!("Content-Encoding: {coding}");
        let fields = [HTML, &coding_field];
        rows.push(row("132", format!("a page in {coding} is moved"), {
            answers(DOCUMENT, "200 OK", &fields, coded)
                .wants(gets(moved_page(200).lacks("Content-Encoding")))
        }));
    }
    for destination in ["iframe", "frame", "embed", "object"] {
        let asked = format!("Sec-Fetch-Dest: {destination}\r\n");
        rows.push(row("132", format!("a page for {destination} is moved"), {
            answers(&asked, "200 OK", &[HTML], PAGE.as_bytes()).wants(gets(moved_page(200)))
        }));
    }
    rows.push(row(
        "132",
        "a page is moved for a browser that tells no destination",
        {
            let asked = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
            answers(asked, "200 OK", &[HTML], PAGE.as_bytes()).wants(gets(moved_page(200)))
        },
    ));
    for status in ["404 No", "500 Oops"] {
        let code = if status.starts_with('4') { 404 } else { 500 };
        rows.push(row("132", format!("a page of a {code} is moved"), {
            answers(DOCUMENT, status, &[HTML], PAGE.as_bytes()).wants(gets(moved_page(code)))
        }));
    }
    rows.push(row(
        "132",
        "no-transform does not hinder, since the page would not work",
        {
            let fields = [HTML, "Cache-Control: no-transform"];
            answers(DOCUMENT, "200 OK", &fields, PAGE.as_bytes())
                .wants(gets(moved_page(200).has("Cache-Control: no-transform")))
        },
    ));
    rows.push(row("132", "a style sheet for a page is moved", {
        let fields = ["Content-Type: text/css"];
        answers(
            "Sec-Fetch-Dest: style\r\n",
            "200 OK",
            &fields,
            b"a{b:url(/x)}",
        )
        .wants(gets(page(200).body("a{b:url({P}/x)}")))
    }));
    rows.push(row("86", "an ETag changes with its body", {
        answers(DOCUMENT, "200 OK", &[HTML, "ETag: \"a\""], PAGE.as_bytes())
            .wants(gets(moved_page(200).unlike("ETag: \"a\"")))
    }));
    rows.push(row(
        "85, 132",
        "a moved page offers no ranges and states no digest",
        {
            let fields = [
                HTML,
                "Accept-Ranges: bytes",
                "Content-MD5: x",
                "Repr-Digest: x=:x:",
            ];
            let lacks = moved_page(200)
                .lacks("Accept-Ranges")
                .lacks("Content-MD5")
                .lacks("Repr-Digest");
            answers(DOCUMENT, "200 OK", &fields, PAGE.as_bytes()).wants(gets(lacks))
        },
    ));
    rows
}

/// What in a page moves, and what stays.
fn content() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, before, after) in [
        (
            "a candidate list",
            "<img srcset='/x 1x, /y 2x'>",
            "<img srcset='{P}/x 1x, {P}/y 2x'>",
        ),
        (
            "a style attribute",
            "<p style='b:url(/x)'>",
            "<p style='b:url({P}/x)'>",
        ),
        (
            "a style element",
            "<style>a{b:url(/x)}</style>",
            "<style>a{b:url({P}/x)}</style>",
        ),
        ("a base", "<base href='/app/'>", "<base href='{P}/app/'>"),
        (
            "a form's action",
            "<form action='/x'>",
            "<form action='{P}/x'>",
        ),
        (
            "a refresh",
            "<meta http-equiv=refresh content='0;url=/x'>",
            "content='0;url={P}/x'>",
        ),
        (
            "a URL of its own origin",
            "<a href='http://localhost:{N}/x'>",
            "<a href='{P}/x'>",
        ),
        ("a climbing path", "<a href='../../x'>", "<a href='{P}/x'>"),
        (
            "a path below the prefix",
            "<a href='{P}/x'>",
            "<a href='{P}/x'>",
        ),
        ("a relative path", "<a href='x/y'>", "<a href='x/y'>"),
        (
            "a foreign URL",
            "<a href='//cdn.example/x'>",
            "<a href='//cdn.example/x'>",
        ),
        (
            "an inline script",
            "<script>f('<a href=\"/x\">')</script>",
            "<script>f('<a href=\"/x\">')</script>",
        ),
        (
            "a comment",
            "<!-- <head><a href='/x'> -->",
            "<!-- <head><a href='/x'> -->",
        ),
        (
            "text",
            "<textarea><a href='/x'></textarea>",
            "<textarea><a href='/x'></textarea>",
        ),
    ] {
        rows.push(row("132", format!("in a page: {name}"), {
            // Its length is not known before the names in it are filled in.
            let answer = format!("HTTP/1.1 200 OK\r\n{HTML}\r\nConnection: close\r\n\r\n{before}");
            sends(with("GET", "/x", DOCUMENT))
                .answer(answer)
                .then(After::Close)
                .wants(gets(page(200).holds(after)))
        }));
    }
    rows.push(row("132", "a page in another charset keeps its bytes", {
        let body = b"<head>\xe4<a href='/\xe4'>";
        let media = "Content-Type: text/html; charset=iso-8859-1";
        answers(DOCUMENT, "200 OK", &[media], body)
            .wants(gets(page(200).holds(b"<a href='{P}/\xe4'>").has(media)))
    }));
    rows.push(row("132", "a policy of base URIs holds", {
        let policy = "Content-Security-Policy: base-uri 'none'";
        answers(DOCUMENT, "200 OK", &[HTML, policy], PAGE.as_bytes())
            .wants(gets(moved_page(200).has(policy)))
    }));
    rows
}

/// Each byte and each field but those of the hop, as with any other answer.
fn untouched() -> Vec<Row> {
    let mut rows = Vec::new();
    let etag = "ETag: \"a\"";
    for (name, asked, fields) in [
        (
            "what a script fetches",
            "Sec-Fetch-Dest: empty\r\nAccept: text/html\r\n",
            vec![HTML],
        ),
        (
            "what an XMLHttpRequest says it is",
            "Accept: text/html\r\nX-Requested-With: XMLHttpRequest\r\n",
            vec![HTML],
        ),
        ("what nobody says it is for", "", vec![HTML]),
        (
            "what is to be an image",
            "Sec-Fetch-Dest: image\r\n",
            vec![HTML],
        ),
        (
            "a download",
            DOCUMENT,
            vec![HTML, "Content-Disposition: attachment; filename=\"x.html\""],
        ),
        (
            "JSON for a document",
            DOCUMENT,
            vec!["Content-Type: application/json"],
        ),
        (
            "a script for a document",
            DOCUMENT,
            vec!["Content-Type: text/javascript"],
        ),
        (
            "plain text for a document",
            DOCUMENT,
            vec!["Content-Type: text/plain"],
        ),
        ("what has no type", DOCUMENT, vec![]),
        (
            "UTF-16",
            DOCUMENT,
            vec!["Content-Type: text/html; charset=utf-16le"],
        ),
        (
            "a page in a coding that is not known",
            DOCUMENT,
            vec![HTML, "Content-Encoding: x-odd"],
        ),
        (
            "a page coded twice",
            DOCUMENT,
            vec![HTML, "Content-Encoding: gzip, br"],
        ),
        (
            "a style sheet for a document",
            DOCUMENT,
            vec!["Content-Type: text/css"],
        ),
    ] {
        let fields: Vec<_> = fields
            .into_iter()
            .chain([etag, "Accept-Ranges: bytes"])
            .collect();
        rows.push(row("86, 132", format!("untouched: {name}"), {
            answers(asked, "200 OK", &fields, PAGE.as_bytes())
                .wants(gets(passed(200, PAGE).fields(&fields)))
        }));
    }
    rows.push(row("85, 132", "untouched: a part of a page", {
        let fields = [HTML, etag, "Content-Range: bytes 0-45/99"];
        let asked = format!("{DOCUMENT}Range: bytes=0-45\r\n");
        answers(&asked, "206 Partial Content", &fields, PAGE.as_bytes())
            .wants(gets(passed(206, PAGE).fields(&fields)))
    }));
    rows.push(row("85, 132", "untouched: several parts of a page", {
        let body =
            format!("--b\r\n{HTML}\r\nContent-Range: bytes 0-45/99\r\n\r\n{PAGE}\r\n--b--\r\n");
        let fields = ["Content-Type: multipart/byteranges; boundary=b", etag];
        let asked = format!("{DOCUMENT}Range: bytes=0-45,50-51\r\n");
        answers(&asked, "206 Partial Content", &fields, body.as_bytes())
            .wants(gets(passed(206, &body).fields(&fields)))
    }));
    rows.push(
        row(
            "86, 132",
            "a HEAD for a page has no body and a changed ETag",
            {
                let answer =
                    format!("HTTP/1.1 200 OK\r\n{HTML}\r\n{etag}\r\nContent-Length: 46\r\n\r\n");
                let told = passed(200, "").any_fields().framed(&[Framed::No]);
                sends(with("HEAD", "/x", DOCUMENT))
                    .answer(answer)
                    .wants(gets(told.unlike(etag).lacks("Content-Length")))
            },
        )
        .needs(&[Need::Rewriting]),
    );
    rows.push(
        row(
            "86, 132",
            "a 304 for a page has the ETag of the moved one",
            {
                let answer = format!("HTTP/1.1 304 Not Modified\r\n{etag}\r\n\r\n");
                let told = passed(304, "").any_fields().framed(&[Framed::No]);
                sends(with("GET", "/x", DOCUMENT))
                    .answer(answer)
                    .wants(gets(told.unlike(etag)))
            },
        )
        .needs(&[Need::Rewriting]),
    );
    rows
}
