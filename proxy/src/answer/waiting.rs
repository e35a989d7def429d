//! The page for what is not there yet: it looks for it, says how that stands, and gives way to it.
//! Its script is within, since nobody knows below which prefix the page is seen; the policy lets in
//! that script alone.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONTENT_SECURITY_POLICY, RETRY_AFTER},
};
use sha2::{Digest, Sha256};

use super::{Answer, document, escape, own_response};

/// Says that a page waits. A page that has it may turn into another by itself.
const WAITING: &str = "x-hpc-proxy-waiting";
const SCRIPT: &str = include_str!("waiting.js");
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("2");
/// For browsers without scripts.
const RELOADS: &str = "<noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>";

/// The hash by which a policy lets the script in (Content Security Policy level 3, section 2.3.1).
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(SCRIPT));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{hash}'; connect-src 'self'; \
         style-src 'unsafe-inline'; base-uri 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 and words")
});

impl Answer {
    /// The response for a person who opens a page that may be there soon.
    pub fn into_waiting_page(self) -> Response<Bytes> {
        let body = format!(
            "<div role=\"status\"><h1 id=\"message\">{}</h1><p id=\"hint\">{}</p></div>\
             <p><progress aria-label=\"Waiting\"></progress> <span id=\"waited\"></span></p>\
             <script>{SCRIPT}</script>",
            escape(&self.message),
            escape(&self.hint)
        );
        let html = document(&self.message, RELOADS, &body);
        let mut response = own_response("text/html; charset=utf-8", html);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
        headers.insert(RETRY_AFTER, RETRY_SECONDS);
        headers.insert(WAITING, HeaderValue::from_static("1"));
        if let Some((name, value)) = self.extra {
            headers.insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    // S25.
    #[test]
    fn what_it_waits_for_cannot_become_markup() {
        let answer = Answer {
            status: StatusCode::BAD_GATEWAY,
            code: "x",
            message: "<b>".into(),
            hint: "<script>x</script>".into(),
            extra: None,
        };
        let page = answer.into_waiting_page();
        let html = std::str::from_utf8(page.body()).unwrap();
        assert_eq!(html.matches("<script").count(), 1, "{html}");
        assert!(!html.contains("<b>"), "{html}");
        let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("script-src 'sha256-"), "{policy}");
        assert!(!SCRIPT.contains("</"), "it would end its element");
    }
}
