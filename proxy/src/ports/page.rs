//! The index page: links to the user's own dev servers, as plain HTML that a small script keeps
//! current.

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::Listening;
use crate::answer::escape;

/// The script of the index page, at `/_hpc-proxy/page.js`.
pub const SCRIPT: &str = include_str!("page.js");
/// The policy of the index page: its own script and event stream, and nothing from elsewhere (S25).
pub const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; \
    style-src 'unsafe-inline'; base-uri 'self'; form-action 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
h1{font-size:1.4em}h2{font-size:1.1em}a{color:#0a58ca}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:0 1em 0 0;overflow-wrap:anywhere}\
tr{border-bottom:1px solid #8884}td a{display:inline-block;padding:.6em .8em .6em 0;min-width:3em}\
a:focus-visible,#servers:focus-visible{outline:3px solid #0a58ca;outline-offset:2px}\
#state{color:#a40;min-height:1.5em}\
@media(max-width:36em){.address{display:none}}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8ab4f8}#state{color:#fa6}\
a:focus-visible,#servers:focus-visible{outline-color:#8ab4f8}}";

/// The page, for a request to `path`: `/`, `/port` or `/port/`. All its addresses are relative, so
/// that it works below any outer prefix too.
pub fn html(servers: &[Listening], path: &str) -> String {
    // `/port/` is one level deeper than the others.
    let base = match path {
        "/port/" => "<base href=\"../\">",
        _ => "",
    };
    let rows = rows_html(servers);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">{base}\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Your dev servers</title><style>{STYLE}</style>\
         <script src=\"_hpc-proxy/page.js\" defer></script></head>\
         <body><main><h1>Your dev servers</h1><p id=\"state\" role=\"status\"></p>\
         <div id=\"servers\" tabindex=\"-1\">{rows}</div></main></body></html>\n"
    )
}

/// What is listed, as a fragment of HTML in which every text is escaped.
pub fn rows_html(servers: &[Listening]) -> String {
    let (here, elsewhere): (Vec<_>, Vec<_>) = servers.iter().partition(|server| server.in_session);
    let mut html = if here.is_empty() {
        "<p>None yet. Start one, and it appears here.</p>".to_owned()
    } else {
        table(&here)
    };
    if !elsewhere.is_empty() {
        html.push_str("<h2>Elsewhere of yours on this node</h2>");
        html.push_str(&table(&elsewhere));
    }
    html
}

fn table(servers: &[&Listening]) -> String {
    let rows: String = servers
        .iter()
        .map(|server| {
            let process = escape(server.process.as_deref().unwrap_or("?"));
            let title = escape(server.title.as_deref().unwrap_or_default());
            let (port, address) = (server.port, escape(&server.address));
            format!(
                "<tr><td><a href=\"port/{port}/\">{port}</a></td><td>{process}</td>\
                 <td>{title}</td><td class=\"address\">{address}</td></tr>"
            )
        })
        .collect();
    format!(
        "<table><thead><tr><th scope=\"col\">Port</th><th scope=\"col\">Program</th>\
         <th scope=\"col\">Title</th><th scope=\"col\" class=\"address\">Address</th></tr></thead>\
         <tbody>{rows}</tbody></table>"
    )
}

/// [`html`] as a response.
pub fn index(servers: &[Listening], path: &str) -> Response<Bytes> {
    own("text/html; charset=utf-8", html(servers, path).into())
}

/// [`SCRIPT`] as a response.
pub fn script() -> Response<Bytes> {
    own(
        "text/javascript; charset=utf-8",
        Bytes::from_static(SCRIPT.as_bytes()),
    )
}

fn own(content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let fields: [(HeaderName, &'static str); 4] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ];
    for (name, value) in fields {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    // S25.
    #[test]
    fn what_a_server_says_of_itself_cannot_become_markup() {
        let hostile = Some("<script>\"'&".to_owned());
        let server = Listening {
            process: hostile.clone(),
            title: hostile,
            address: "<b>".into(),
            ..Listening::example(5500)
        };
        let html = rows_html(&[server]);
        assert_eq!(
            html.matches("&lt;script&gt;&quot;&#39;&amp;").count(),
            2,
            "{html}"
        );
        assert!(
            !html.contains("<script>") && !html.contains("<b>"),
            "{html}"
        );
    }

    #[test]
    fn every_address_is_relative_and_right_for_its_page() {
        let servers = [Listening::example(5500)];
        for path in ["/", "/port", "/port/"] {
            let html = html(&servers, path);
            assert!(html.contains("href=\"port/5500/\""), "{html}");
            assert!(html.contains("src=\"_hpc-proxy/page.js\""), "{html}");
            assert!(!html.contains("=\"/"), "{html}");
            assert_eq!(
                html.contains("<base href=\"../\">"),
                path == "/port/",
                "{html}"
            );
        }
    }

    #[test]
    fn servers_of_another_job_stand_apart() {
        let elsewhere = Listening {
            in_session: false,
            ..Listening::example(4000)
        };
        let html = rows_html(&[Listening::example(3000), elsewhere.clone()]);
        let (here, there) = html.split_once("<h2>").unwrap();
        assert!(here.contains(">3000<") && there.contains(">4000<"));
        assert!(rows_html(&[elsewhere]).starts_with("<p>None yet."));
    }
}
