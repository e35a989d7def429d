//! Pages below a prefix: what is rewritten, what is not, and that nothing waits for it.

use std::{io::Write, sync::Arc, time::Duration};

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use proptest::{prelude::*, test_runner::TestRunner};
use reqwest::{Method, RequestBuilder, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Mutex, mpsc},
    time::timeout,
};

use crate::harness::{DEADLINE, Proxy, dev_server, field, read_head};

/// Asks as a browser asks for a page.
fn document(request: RequestBuilder) -> RequestBuilder {
    request.header("Sec-Fetch-Dest", "document")
}

/// A dev server that answers each connection's first request with these bytes, and closes.
async fn answers(bytes: impl Into<Vec<u8>>) -> u16 {
    let bytes = Arc::new(bytes.into());
    dev_server(move |_, mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await
}

fn page(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

const HTML: &str = "Content-Type: text/html; charset=utf-8\r\n";
const BODY: &[u8] = b"<!doctype html><head><link rel=stylesheet href=/a.css></head>";

fn rewritten(port: u16, answered: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answered);
    text.contains(&format!(
        "<head><script src=\"/port/{port}/.hpc-proxy/shim-"
    )) && text.contains(&format!("href=/port/{port}/a.css>"))
        && text.contains("<script type=\"importmap\">")
}

async fn body(answered: Response) -> Vec<u8> {
    answered.bytes().await.unwrap().to_vec()
}

fn written<W: Write>(mut writer: W, end: impl FnOnce(W) -> std::io::Result<Vec<u8>>) -> Vec<u8> {
    writer.write_all(BODY).unwrap();
    end(writer).unwrap()
}

// Behaviour 132: identity, gzip, deflate in both readings, zstd in one raw block, unknown.
/// The body in every coding that is known.
fn coded() -> [(&'static str, Vec<u8>); 6] {
    let best = Compression::best();
    let zstd = [
        &[0x28, 0xb5, 0x2f, 0xfd, 0x20, BODY.len() as u8][..],
        &((BODY.len() as u32) << 3 | 1).to_le_bytes()[..3],
        BODY,
    ]
    .concat();
    // RFC 7932 section 9.2: a window of 16 bits, one block as it is, and an empty last one.
    let brotli = {
        let bits: u32 = (BODY.len() as u32 - 1) << 4 | 1 << 20;
        [&bits.to_le_bytes()[..3], BODY, &[3]].concat()
    };
    [
        ("identity", BODY.to_vec()),
        (
            "gzip",
            written(GzEncoder::new(Vec::new(), best), GzEncoder::finish),
        ),
        (
            "deflate",
            written(ZlibEncoder::new(Vec::new(), best), ZlibEncoder::finish),
        ),
        (
            "deflate",
            written(
                DeflateEncoder::new(Vec::new(), best),
                DeflateEncoder::finish,
            ),
        ),
        ("zstd", zstd),
        ("br", brotli),
    ]
}

#[tokio::test]
async fn a_page_is_rewritten_in_every_coding_that_is_known() {
    let proxy = Proxy::start().await;
    for (coding, coded) in coded() {
        let fields =
            format!("{HTML}Content-Encoding: {coding}\r\nETag: \"e\"\r\nAccept-Ranges: bytes\r\n");
        let port = answers(page(&fields, &coded)).await;
        let answered = document(proxy.get(&format!("/port/{port}/")))
            .send()
            .await
            .unwrap();
        for gone in ["content-encoding", "content-length", "accept-ranges"] {
            assert!(!answered.headers().contains_key(gone), "{coding}: {gone}");
        }
        // Behaviour 86.
        let tag = answered.headers()["etag"].to_str().unwrap().to_owned();
        assert!(tag.starts_with("W/\"e;hpc-"), "{tag}");
        let told = body(answered).await;
        assert!(rewritten(port, &told), "{coding}: {}", told.escape_ascii());
    }
    let port = answers(page(&format!("{HTML}Content-Encoding: rot13\r\n"), BODY)).await;
    let answered = document(proxy.get(&format!("/port/{port}/")))
        .send()
        .await
        .unwrap();
    assert_eq!(answered.headers()["content-encoding"], "rot13");
    assert_eq!(body(answered).await, BODY);
}

#[tokio::test]
async fn a_coded_page_that_is_cut_does_not_look_complete() {
    let proxy = Proxy::start().await;
    // `deflate` has no end that can be told.
    for (coding, mut coded) in coded()
        .into_iter()
        .filter(|(coding, _)| !["identity", "deflate"].contains(coding))
    {
        coded.pop();
        let fields = format!("{HTML}Content-Encoding: {coding}\r\n");
        let port = answers(page(&fields, &coded)).await;
        let mut answered = document(proxy.get(&format!("/port/{port}/")))
            .send()
            .await
            .unwrap();
        let mut told = Vec::new();
        let end = loop {
            match answered.chunk().await {
                Ok(Some(chunk)) => told.extend_from_slice(&chunk),
                end => break end,
            }
        };
        assert!(end.is_err(), "{coding}: {}", told.escape_ascii());
    }
}

// Behaviours 75, 76, 85: what is no page that a browser asked for passes as it is.
#[tokio::test]
async fn only_pages_are_touched() {
    let proxy = Proxy::start().await;
    let other = |fields: &str| page(fields, BODY);
    let partial = String::from_utf8(page(HTML, BODY)).unwrap();
    let partial = partial.replace(
        "200 OK\r\n",
        "206 Partial Content\r\nContent-Range: bytes 0-60/61\r\n",
    );
    for (what, answer) in [
        (
            "download",
            other(&format!(
                "{HTML}Content-Disposition: Attachment; filename=a\r\n"
            )),
        ),
        ("json", other("Content-Type: application/json\r\n")),
        ("no type", other("")),
        (
            "utf-16",
            other("Content-Type: text/html; charset=UTF-16LE\r\n"),
        ),
        ("part", partial.into_bytes()),
        (
            "redirect",
            [
                &b"HTTP/1.1 302 Found\r\nLocation: /x\r\n"[..],
                &page(HTML, BODY)[17..],
            ]
            .concat(),
        ),
        ("style for a document", other("Content-Type: text/css\r\n")),
    ] {
        let port = answers(answer).await;
        let answered = document(proxy.get(&format!("/port/{port}/")))
            .send()
            .await
            .unwrap();
        assert_eq!(answered.headers()["content-length"], "61", "{what}");
        assert_eq!(body(answered).await, BODY, "{what}");
    }
    let port = answers(page(HTML, BODY)).await;
    let get = || proxy.get(&format!("/port/{port}/"));
    for (what, request, changes) in [
        (
            "fetch",
            get()
                .header("Sec-Fetch-Dest", "empty")
                .header("Accept", "text/html"),
            false,
        ),
        (
            "passed on by a service worker",
            get()
                .header("Sec-Fetch-Dest", "empty")
                .header("Sec-Fetch-Mode", "navigate"),
            true,
        ),
        (
            "ahead",
            get()
                .header("Sec-Fetch-Dest", "empty")
                .header("Sec-Purpose", "prefetch"),
            true,
        ),
        ("nothing said", get(), false),
        (
            "jquery",
            get()
                .header("Accept", "text/html")
                .header("X-Requested-With", "XMLHttpRequest"),
            false,
        ),
        ("plain http", get().header("Accept", "text/html,*/*"), true),
        ("frame", get().header("Sec-Fetch-Dest", "iframe"), true),
        (
            "form",
            document(proxy.request(Method::POST, &format!("/port/{port}/"))),
            true,
        ),
        ("style", get().header("Sec-Fetch-Dest", "style"), false),
        (
            "whole path",
            document(proxy.get(&format!("/absport/{port}/"))),
            false,
        ),
    ] {
        let told = body(request.send().await.unwrap()).await;
        assert_eq!(rewritten(port, &told), changes, "{what}");
        assert_eq!(told == BODY, !changes, "{what}");
    }
    let head = document(proxy.request(Method::HEAD, &format!("/port/{port}/")))
        .send()
        .await
        .unwrap();
    assert!(!head.headers().contains_key("content-length"));
    assert!(body(head).await.is_empty());
}

#[tokio::test]
async fn a_style_sheet_is_moved_where_it_is_one() {
    let proxy = Proxy::start().await;
    let port = answers(page(
        "Content-Type: text/css\r\n",
        b"@import '/x';a{b:url(/y)}",
    ))
    .await;
    for (destination, told) in [
        (
            "style",
            format!("@import '/port/{port}/x';a{{b:url(/port/{port}/y)}}"),
        ),
        ("empty", "@import '/x';a{b:url(/y)}".to_owned()),
    ] {
        let request = proxy
            .get(&format!("/port/{port}/a.css"))
            .header("Sec-Fetch-Dest", destination);
        assert_eq!(request.send().await.unwrap().text().await.unwrap(), told);
    }
}

// Behaviours 39, 86.
#[tokio::test]
async fn a_page_is_asked_for_in_a_form_that_can_be_rewritten_and_revalidated() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        let known = field(&head, "if-none-match") == Some("\"e\"");
        let said = format!(
            "X-Accept-Encoding: {}\r\nX-Since: {}\r\n",
            field(&head, "accept-encoding").unwrap_or("none"),
            field(&head, "if-modified-since").unwrap_or("none"),
        );
        let answer = if known {
            let policy = "Content-Security-Policy: script-src 'self'\r\n";
            format!("HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n{said}{policy}\r\n").into_bytes()
        } else {
            page(&format!("{HTML}ETag: \"e\"\r\n{said}"), BODY)
        };
        stream.write_all(&answer).await.unwrap();
    })
    .await;
    let ask =
        || document(proxy.get(&format!("/port/{port}/"))).header("Accept-Encoding", "gzip, br");
    let first = ask()
        .header("If-None-Match", "\"e\"")
        .header("If-Modified-Since", "Wed, 21 Oct 2026 07:28:00 GMT")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            first.status().as_u16(),
            &first.headers()["x-accept-encoding"]
        ),
        (200, &"identity".parse().unwrap())
    );
    assert_eq!(first.headers()["x-since"], "none");
    let tag = first.headers()["etag"].clone();
    let again = ask()
        .header(
            "If-None-Match",
            format!("W/\"other\", {}", tag.to_str().unwrap()),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(
        (again.status().as_u16(), &again.headers()["etag"]),
        (304, &tag)
    );
    // It replaces the one that came with the page, which let the import map in.
    let policy = again.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("script-src 'self' 'sha256-"), "{policy}");
}

#[tokio::test]
async fn the_shim_is_served_below_every_prefix_and_never_forwarded() {
    let proxy = Proxy::start().await;
    let port = answers(page(HTML, BODY)).await;
    let told = body(
        document(proxy.get(&format!("/port/{port}/")))
            .send()
            .await
            .unwrap(),
    )
    .await;
    let told = String::from_utf8(told).unwrap();
    let path = told
        .split("src=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let shim = proxy.get(path).send().await.unwrap();
    assert_eq!(shim.status(), 200);
    assert_eq!(
        shim.headers()["cache-control"],
        "public, max-age=31536000, immutable"
    );
    assert_eq!(shim.headers()["x-content-type-options"], "nosniff");
    assert_eq!(
        shim.headers()["content-type"],
        "text/javascript; charset=utf-8"
    );
    assert_eq!(shim.headers()["vary"], "accept-encoding");
    assert!(!shim.headers().contains_key("content-encoding"));
    let text = shim.text().await.unwrap();
    let packed = proxy.get(path).header("accept-encoding", "gzip, br");
    let packed = packed.send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert!(body(packed).await.len() < text.len() / 2);
    let old = proxy
        .get(&format!("/port/{port}/.hpc-proxy/shim-0.js"))
        .send()
        .await
        .unwrap();
    assert_eq!(old.headers()["cache-control"], "no-store");
    assert_eq!(old.text().await.unwrap(), text);
    for (path, status) in [("x", 404), ("", 404)] {
        let request = proxy.get(&format!("/port/{port}/.hpc-proxy/{path}"));
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    assert_eq!(
        proxy
            .anonymous(Method::GET, path)
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
}

#[tokio::test]
async fn a_policy_lets_what_was_put_in_run() {
    let proxy = Proxy::start().await;
    let policy = |policy: &str| format!("{HTML}Content-Security-Policy: {policy}\r\n");
    let port = answers(page(&policy("script-src 'self'"), BODY)).await;
    let answered = document(proxy.get(&format!("/port/{port}/")))
        .send()
        .await
        .unwrap();
    let told = answered.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(told.starts_with("script-src 'self' 'sha256-"), "{told}");
    let port = answers(page(
        &policy("script-src 'nonce-abc' 'strict-dynamic'"),
        BODY,
    ))
    .await;
    let answered = document(proxy.get(&format!("/port/{port}/")))
        .send()
        .await
        .unwrap();
    assert_eq!(
        answered.headers()["content-security-policy"],
        "script-src 'nonce-abc' 'strict-dynamic'"
    );
    let told = String::from_utf8(body(answered).await).unwrap();
    assert_eq!(told.matches(" nonce=\"abc\">").count(), 2, "{told}");
}

// Behaviours 93, 97, 98: each part at once, and an end that is none is none for the client either.
#[tokio::test]
async fn a_slow_page_is_not_held_back_and_a_broken_one_breaks() {
    let proxy = Proxy::start().await;
    let (next, parts) = mpsc::channel::<&[u8]>(1);
    let parts = Arc::new(Mutex::new(parts));
    let port = dev_server(move |_, mut stream| {
        let parts = Arc::clone(&parts);
        async move {
            let head = format!("HTTP/1.1 200 OK\r\n{HTML}Transfer-Encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while let Some(part) = parts.lock().await.recv().await {
                let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
                stream.write_all(&chunk).await.unwrap();
            }
        }
    })
    .await;
    let request = document(proxy.get(&format!("/port/{port}/"))).send();
    let mut answered = timeout(DEADLINE, request)
        .await
        .expect("the head does not wait")
        .unwrap();
    for (part, told) in [
        (&b"<body><p>one"[..], "<p>one"),
        (b"<p>two", "<p>two"),
        (
            b"<a href=/x>three",
            &format!("<a href=/port/{port}/x>three"),
        ),
    ] {
        next.send(part).await.unwrap();
        let chunk = timeout(DEADLINE, answered.chunk())
            .await
            .expect("not held back");
        let chunk = chunk.unwrap().unwrap();
        assert!(chunk.ends_with(told.as_bytes()), "{}", chunk.escape_ascii());
    }
    drop(next);
    let end = timeout(DEADLINE, answered.chunk()).await.expect("it ends");
    assert!(end.is_err(), "{end:?}");
}

// Behaviour 83.
#[tokio::test]
async fn trailers_stay_and_an_old_client_gets_its_page_up_to_the_close() {
    let proxy = Proxy::start().await;
    let answer = format!(
        "HTTP/1.1 200 OK\r\n{HTML}Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<p>\r\n0\r\nX-Sum: 1\r\n\r\n"
    );
    let port = answers(answer).await;
    let ask = |version: &str| {
        let token = &proxy.token;
        format!(
            "GET /port/{port}/ HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\nSec-Fetch-Dest: document\r\nX-Hpc-Proxy-Token: {token}\r\n\r\n"
        )
    };
    let told = proxy.raw(&ask("1.1")).await;
    assert!(told.ends_with("\r\n0\r\nX-Sum: 1\r\n\r\n"), "{told}");
    let told = proxy.raw(&ask("1.0")).await;
    assert!(!told.to_lowercase().contains("transfer-encoding"), "{told}");
    assert!(
        told.contains("<p><script type=\"importmap\">") && told.ends_with("</script>"),
        "{told}"
    );
}

#[tokio::test]
async fn rewriting_is_switched_off_for_all_or_for_one() {
    let port = answers(page(HTML, BODY)).await;
    let one_off = format!("--rewrite={port}=off");
    let one_on = format!("--rewrite=off,{port}=auto");
    for (args, changes) in [
        (&["--rewrite", "off"][..], false),
        (&["--base-rewrite=false"], false),
        (&["--base-rewrite"], true),
        (&[&one_off], false),
        (&[&one_on], true),
    ] {
        let proxy = Proxy::start_with(args).await;
        let told = body(
            document(proxy.get(&format!("/port/{port}/")))
                .send()
                .await
                .unwrap(),
        )
        .await;
        assert_eq!(rewritten(port, &told), changes, "{args:?}");
        assert_eq!(told == BODY, !changes, "{args:?}");
    }
}

#[tokio::test]
async fn a_page_says_whether_its_router_looks_through_doors() {
    let port = answers(page(HTML, BODY)).await;
    let this = format!("--rewrite={port}=urls");
    let others = format!("--rewrite=urls,{port}=auto");
    for (args, doors) in [
        (&[][..], true),
        (&["--rewrite", "urls"], false),
        (&[&this], false),
        (&[&others], true),
    ] {
        let proxy = Proxy::start_with(args).await;
        let request = document(proxy.get(&format!("/port/{port}/")));
        let told = body(request.send().await.unwrap()).await;
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains(" data-siblings="), "{told}");
        assert_eq!(told.contains(" data-doors data-prefix="), doors, "{args:?}");
    }
}

/// A few kilobytes of gzip for a document of many megabytes, to a client that does not read: the proxy
/// unpacks no more than it can pass on.
#[tokio::test]
async fn a_small_body_that_unpacks_to_a_large_one_is_not_kept() {
    const MEGABYTES: usize = 200;
    let proxy = Proxy::start().await;
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..MEGABYTES {
        bomb.write_all(&[b'x'; 1 << 20]).unwrap();
    }
    let port = answers(page(
        &format!("{HTML}Content-Encoding: gzip\r\n"),
        &bomb.finish().unwrap(),
    ))
    .await;
    let mut answered = document(proxy.get(&format!("/port/{port}/")))
        .send()
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut length = 0;
    while let Some(chunk) = answered.chunk().await.unwrap() {
        length += chunk.len();
    }
    assert!(length > MEGABYTES << 20);
    let peak = peak_kilobytes(proxy.record.pid);
    assert!(peak < 40_000, "{peak} kB");
}

/// The most memory that a process had (`VmHWM` of proc(5)).
fn peak_kilobytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_page_of_fifty_megabytes_takes_no_more_memory_than_one_of_one() {
    let proxy = Proxy::start().await;
    let row = b"<tr><td style='background:url(/x)'><a href=/items/1>one</a></td></tr>\n";
    let port = dev_server(move |head, mut stream| async move {
        let rows = if head.contains("/large") {
            50 << 20
        } else {
            1 << 20
        } / row.len();
        let block = row.repeat(1000);
        let length = rows / 1000 * block.len();
        let head = format!("HTTP/1.1 200 OK\r\n{HTML}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..rows / 1000 {
            stream.write_all(&block).await.unwrap();
        }
    })
    .await;
    let mut peaks = Vec::new();
    for path in ["small", "large"] {
        let mut answered = document(proxy.get(&format!("/port/{port}/{path}")))
            .send()
            .await
            .unwrap();
        while answered.chunk().await.unwrap().is_some() {}
        peaks.push(peak_kilobytes(proxy.record.pid));
    }
    assert!(peaks[1] < peaks[0] + 2_000, "{peaks:?} kB");
}

/// How a body is framed: by chunks of these sizes, its length, or the end of the connection.
#[derive(Clone, Debug)]
enum Framing {
    Chunked(Vec<usize>),
    Length,
    Close,
}

impl Framing {
    fn answer(&self, status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
        let framing = match self {
            Self::Chunked(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
            Self::Length => format!("Content-Length: {}\r\n", body.len()),
            Self::Close => String::new(),
        };
        let mut answer = format!("HTTP/1.1 {status}\r\n{fields}{framing}\r\n").into_bytes();
        let Self::Chunked(sizes) = self else {
            answer.extend_from_slice(body);
            return answer;
        };
        let (mut rest, mut sizes) = (body, sizes.iter().cycle());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            answer.extend_from_slice(chunk);
            answer.extend_from_slice(b"\r\n");
            rest = after;
        }
        answer.extend_from_slice(b"0\r\n\r\n");
        answer
    }
}

/// Why an answer of HTML is not rewritten.
#[derive(Clone, Copy, Debug)]
enum Reason {
    Off,
    Fetched,
    Asked,
    Image,
    Whole,
    Json,
    Download,
    Part,
    UnknownCoding,
}

impl Reason {
    const ALL: [Self; 9] = [
        Self::Off,
        Self::Fetched,
        Self::Asked,
        Self::Image,
        Self::Whole,
        Self::Json,
        Self::Download,
        Self::Part,
        Self::UnknownCoding,
    ];

    fn request(self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Fetched => request
                .header("Sec-Fetch-Dest", "empty")
                .header("Accept", "text/html"),
            Self::Asked => request
                .header("Accept", "text/html")
                .header("X-Requested-With", "XMLHttpRequest"),
            Self::Image => request.header("Sec-Fetch-Dest", "image"),
            _ => document(request),
        }
    }

    fn status_and_fields(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("200 OK", "Content-Type: application/json\r\n"),
            Self::Download => (
                "200 OK",
                "Content-Type: text/html\r\nContent-Disposition: attachment\r\n",
            ),
            Self::Part => (
                "206 Partial Content",
                "Content-Type: text/html\r\nContent-Range: bytes 0-1/*\r\n",
            ),
            _ => ("200 OK", HTML),
        }
    }
}

/// Bodies that are not rewritten are the bytes that the server sent, for any bytes, coding, framing and
/// pieces: all of them with rewriting off, and with it on those that are no page that a browser asked for.
#[test]
fn what_is_not_rewritten_is_byte_for_byte_the_same() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (on, off) = runtime.block_on(async {
        (
            Proxy::start().await,
            Proxy::start_with(&["--rewrite", "off"]).await,
        )
    });
    let html = prop::sample::select(&b"<a href=/x>\"' "[..]);
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        prop::collection::vec(html.clone(), 0..2000),
        // A page in a coding that could be undone.
        prop::collection::vec(html, 0..2000).prop_map(|page| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&page).unwrap();
            gzip.finish().unwrap()
        }),
    ];
    let framing = prop_oneof![
        prop::collection::vec(1..700_usize, 1..6).prop_map(Framing::Chunked),
        Just(Framing::Length),
        Just(Framing::Close),
    ];
    let coding = prop::sample::select(&["", "identity", "gzip", "br", "zstd", "deflate", "x"][..]);
    let reason = prop::sample::select(&Reason::ALL[..]);
    let pieces = prop::collection::vec(1..900_usize, 1..4);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let any = (body, framing, coding, reason, pieces);
    let result = runner.run(&any, |(body, framing, coding, reason, pieces)| {
        let coding = match reason {
            Reason::UnknownCoding => "x",
            _ => coding,
        };
        let (status, fields) = reason.status_and_fields();
        let mut fields = format!("{fields}ETag: \"e\"\r\n");
        if !coding.is_empty() {
            fields.push_str(&format!("Content-Encoding: {coding}\r\n"));
        }
        let answer = Arc::new((framing.answer(status, &fields, &body), pieces));
        let (head, told) = runtime.block_on(async {
            let port = dev_server(move |_, mut stream| {
                let answer = Arc::clone(&answer);
                async move {
                    let (mut rest, mut pieces) = (&answer.0[..], answer.1.iter().cycle());
                    while !rest.is_empty() {
                        let length = rest.len().min(*pieces.next().unwrap());
                        stream.write_all(&rest[..length]).await.unwrap();
                        rest = &rest[length..];
                        tokio::task::yield_now().await;
                    }
                    stream.shutdown().await.unwrap();
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            })
            .await;
            let (proxy, root) = match reason {
                Reason::Off => (&off, "port"),
                Reason::Whole => (&on, "absport"),
                _ => (&on, "port"),
            };
            let request = reason.request(proxy.get(&format!("/{root}/{port}/")));
            let answered = request.send().await.unwrap();
            (answered.headers().clone(), answered.bytes().await.unwrap())
        });
        prop_assert_eq!(&told[..], &body[..]);
        prop_assert_eq!(&head["etag"], "\"e\"");
        let told = head.get("content-encoding");
        prop_assert_eq!(told.map_or("", |value| value.to_str().unwrap()), coding);
        let length = matches!(framing, Framing::Length).then_some(body.len().to_string());
        let told = head.get("content-length");
        prop_assert_eq!(told.map(|value| value.to_str().unwrap()), length.as_deref());
        Ok(())
    });
    result.unwrap();
}

// Behaviour 39.
#[tokio::test]
async fn a_request_head_that_is_no_page_is_not_changed() {
    let proxy = Proxy::start().await;
    let port = dev_server(|head, mut stream| async move {
        let said = field(&head, "accept-encoding").unwrap_or("none").to_owned();
        stream.write_all(&page("", said.as_bytes())).await.unwrap();
        let _ = read_head(&mut stream).await;
    })
    .await;
    let request = proxy
        .get(&format!("/port/{port}/"))
        .header("Accept-Encoding", "gzip, br");
    assert_eq!(
        request.send().await.unwrap().text().await.unwrap(),
        "gzip, br"
    );
}
