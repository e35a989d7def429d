//! The manager's own pages, rendered on this side, and their two assets. They can be read without
//! scripts; the buttons need them, since only a script can send [`crate::origin::PAGE_FIELD`].

use bytes::Bytes;
use hpc_proxy::answer::escape;
use http::{
    HeaderMap, HeaderValue, Response,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

mod form;
mod live;
mod page;
mod servers;
mod session;
mod words;

pub use live::Live;
pub use page::{Shown, page, ports};

const SCRIPT: &str = include_str!("web/manager.js");
const STYLE: &str = include_str!("web/manager.css");
const HTML: &str = "text/html; charset=utf-8";

/// A page or asset: its media type and text.
pub type Page = (&'static str, String);

/// An asset by its path.
pub fn asset(path: &str) -> Option<Page> {
    match path {
        "/assets/manager.js" => Some(("text/javascript; charset=utf-8", SCRIPT.to_owned())),
        "/assets/manager.css" => Some(("text/css; charset=utf-8", STYLE.to_owned())),
        _ => None,
    }
}

/// A page in the manager's style; `head` and `body` are HTML already, `title` is text.
pub fn document(title: &str, head: &str, body: &str) -> Page {
    let title = escape(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
         <link rel=\"stylesheet\" href=\"/assets/manager.css\">{head}</head>\n\
         <body>{body}</body></html>\n"
    );
    (HTML, html)
}

/// A page or asset as a response that nobody keeps and no foreign page shows.
pub fn response((media_type, text): Page) -> Response<Bytes> {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
        connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; \
        base-uri 'none'";
    let mut response = Response::new(Bytes::from(text));
    for (name, value) in [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // The link to the IDE carries its token.
        (REFERRER_POLICY, "same-origin"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Keeps what is the manager's own from pages of other origins (Fetch, section 3.7), and, unless it only
/// `leads_on`, its window from the pages that open it, those of dev servers at its origin among them
/// (HTML, section 7.1.3).
pub fn set_apart(headers: &mut HeaderMap, leads_on: bool) {
    const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-resource-policy", SAME_ORIGIN);
    if !leads_on {
        headers.insert("cross-origin-opener-policy", SAME_ORIGIN);
    }
}

#[cfg(test)]
mod tests;
