//! The pieces of work that a request is made of, each alone and without a connection.

use std::{hint::black_box, net::TcpListener};

use hpc_proxy::{
    headers,
    http1::{
        framing,
        head::{REQUEST_LIMITS, RequestHead, ResponseHead, Scanner, Sender},
        target,
    },
    markup::{Markup, Sheet, Tags},
    prefix::{Prefixer, Siblings},
    rewrite::{Prefix, View},
    route::{self, TargetPort},
    upstream::owner::Owners,
};

/// As Chromium asks for a page's script.
const REQUEST: &str = "GET /port/5500/assets/app.js?v=3 HTTP/1.1\r\n\
    Host: hpc.example.org\r\n\
    Connection: keep-alive\r\n\
    X-Hpc-Proxy-Token: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: */*\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: no-cors\r\n\
    Sec-Fetch-Dest: script\r\n\
    Referer: http://hpc.example.org/port/5500/\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Cookie: __hpc_proxy=abcdef; theme=dark; session=0123456789abcdef\r\n\r\n";

/// As a dev server answers a form.
const RESPONSE: &str = "HTTP/1.1 303 See Other\r\n\
    Date: Mon, 30 Nov 2026 10:00:00 GMT\r\n\
    Location: http://localhost:5500/items/17?done=1\r\n\
    Set-Cookie: session=0123456789abcdef; Path=/; HttpOnly\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 0\r\n\
    ETag: W/\"17-abc\"\r\n\
    Vary: Accept-Encoding\r\n\
    Connection: keep-alive\r\n\
    Keep-Alive: timeout=5\r\n\r\n";

/// Routes of each kind.
const TARGETS: [&[u8]; 4] = [
    b"/port/5500/assets/app.js?v=3",
    b"/sock/lab-1/api/kernels",
    b"/absport/8888/tree/a%20b",
    b"/_hpc-proxy/health",
];

/// How a body comes.
const PIECE_BYTES: usize = 16 * 1024;

/// A piece of work.
pub(crate) struct Work {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Does it once.
    pub(crate) once: Box<dyn FnMut()>,
}

/// All of them.
pub(crate) fn all() -> Vec<Work> {
    vec![
        Work {
            name: "routes",
            once: Box::new(|| {
                for target in TARGETS {
                    let _ = black_box(route::parse(black_box(target)));
                }
            }),
        },
        Work {
            name: "request-head",
            once: request_head(),
        },
        Work {
            name: "response-head",
            once: response_head(),
        },
        Work {
            name: "owner",
            once: owner(),
        },
        Work {
            name: "page-50-kB",
            once: page(),
        },
        Work {
            name: "style-sheet-10-kB",
            once: style_sheet(),
        },
    ]
}

/// Read, framed, relieved of what is not for the dev server, and written.
fn request_head() -> Box<dyn FnMut()> {
    let (mut head, mut out) = (RequestHead::default(), Vec::new());
    Box::new(move || {
        let bytes = black_box(REQUEST).as_bytes();
        let scanned = Scanner::default().scan(bytes, Sender::Client, &REQUEST_LIMITS);
        let length = scanned.expect("a head").expect("a whole head");
        head.read(&bytes[..length]).expect("a request");
        black_box(framing::of_request(&head).expect("a framing"));
        target::settle(&mut head).expect("a target");
        headers::strip_request_hop(&mut head.fields);
        headers::strip_claims(&mut head.fields);
        headers::strip_cookie(&mut head.fields, "__hpc_proxy");
        out.clear();
        head.write(&mut out);
        black_box(&out);
    })
}

/// Read, moved under the prefix, and written.
fn response_head() -> Box<dyn FnMut()> {
    let prefix = Prefix::parse("/port/5500").expect("a prefix");
    let (mut head, mut out) = (ResponseHead::default(), Vec::new());
    Box::new(move || {
        let view = View {
            prefix: &prefix,
            port: TargetPort::new(5500),
            moves_urls: true,
            public_host: Some("hpc.example.org"),
            siblings: None,
            secure: false,
            reserved_cookies: &["__hpc_proxy"],
        };
        head.read(black_box(RESPONSE).as_bytes())
            .expect("a response");
        headers::strip_hop_by_hop(&mut head.fields);
        view.rewrite(&mut head.fields);
        out.clear();
        head.write(&mut out);
        black_box(&out);
    })
}

/// Whose a listener is. What the kernel does for it is not counted.
fn owner() -> Box<dyn FnMut()> {
    let owners = Owners::probe();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    Box::new(move || {
        let _open = &listener;
        let found = owners.listener_now(black_box(address));
        assert!(found.expect("an answer").is_some());
    })
}

/// A page as frameworks write them: links, images, a style sheet, a script and text.
fn page() -> Box<dyn FnMut()> {
    const ROW: &str = "<li class=\"item\"><a href=\"/items/17?sort=name\">Item seventeen</a> \
        <img src=\"/img/17.png\" srcset=\"/img/17.png 1x, /img/17@2x.png 2x\" alt=\"\"> \
        and some words about it, which go on for a while.</li>\n";
    let rows = ROW.repeat(50_000 / ROW.len());
    let page = format!(
        "<!doctype html><html><head><title>Items</title><link rel=stylesheet href=/app.css>\
         <script src=\"/app.js\"></script></head><body><ul>\n{rows}</ul></body></html>"
    );
    let mut out = Vec::new();
    Box::new(move || {
        let prefixer = prefixer();
        let tags = Tags::new(&prefixer, None);
        let mut markup = Markup::new(prefixer, "/items", tags);
        out.clear();
        for piece in black_box(&page).as_bytes().chunks(PIECE_BYTES) {
            markup.feed(piece, &mut out);
        }
        markup.end(&mut out);
        black_box(&out);
    })
}

fn style_sheet() -> Box<dyn FnMut()> {
    const RULE: &str =
        ".item { background: url('/img/back.png') no-repeat; margin: 0 1em 2em; color: #123456 }\n";
    let (text, mut out) = (RULE.repeat(10_000 / RULE.len()), Vec::new());
    Box::new(move || {
        let mut sheet = Sheet::new(prefixer(), "/app.css");
        out.clear();
        sheet.feed(black_box(&text).as_bytes(), &mut out);
        sheet.end(&mut out);
        black_box(&out);
    })
}

fn prefixer() -> Prefixer {
    Prefixer {
        prefix: "/port/5500".into(),
        siblings: Siblings::Path("/port/".into()),
        port: Some(5500),
        front: "hpc.example.org".into(),
        secure: false,
    }
}
