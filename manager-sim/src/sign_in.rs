//! The page at which a person signs in by an access token: its form, and what comes back of it.

use bytes::Bytes;
use hpc_proxy::answer::escape;
use http::Response;

use crate::{auth::access_token::AccessToken, web};

/// Where the form is, and where it is sent.
pub const LOGIN: &str = "/login";
/// Where a browser signs out.
pub const LOGOUT: &str = "/logout";
/// How long a filled-in form may be.
pub const LONGEST_FORM_BYTES: usize = 4096;
/// Longest target that a form leads back to: room for the token beside it.
const LONGEST_TARGET_BYTES: usize = 2048;

/// A form that was sent.
#[derive(Debug)]
pub struct Form {
    /// The token, if it is one.
    pub token: Option<AccessToken>,
    /// Where the person wanted to go, on this host.
    pub to: String,
    /// The key of the page that it is on, if it has one.
    pub page: Option<String>,
}

impl Form {
    /// Reads a body in the form of a query.
    pub fn parse(body: &[u8]) -> Self {
        let mut form = Self {
            token: None,
            to: "/".to_owned(),
            page: None,
        };
        for (name, value) in form_urlencoded::parse(body) {
            match &*name {
                "token" => form.token = value.trim().parse().ok(),
                "page" => form.page = Some(value.into_owned()),
                "to" => form.to = way_back(&value).to_owned(),
                _ => {}
            }
        }
        form
    }
}

/// The target to which a person returns, if it is one on this host, and the front page otherwise.
pub fn way_back(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    // A browser takes `//name` and `/\name` for another host.
    let elsewhere = target.starts_with("//") || target.starts_with("/\\");
    let sound = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    if sound
        && !elsewhere
        && ![LOGIN, LOGOUT].contains(&path)
        && target.len() <= LONGEST_TARGET_BYTES
    {
        target
    } else {
        "/"
    }
}

/// Where a link's query leads a person who signs in by it, on this host.
pub fn way_on(query: &str) -> String {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let to = pairs.find(|(name, _)| name == "to");
    to.map_or("/".to_owned(), |(_, to)| way_back(&to).to_owned())
}

/// The form by which a browser signs out, on a page with that key.
pub fn sign_out_form(key: Option<&str>) -> String {
    let key = key.map_or_else(String::new, |key| {
        format!(
            "<input type=\"hidden\" name=\"page\" value=\"{}\">",
            escape(key)
        )
    });
    format!("<form method=\"post\" action=\"{LOGOUT}\">{key}<button>Sign out</button></form>")
}

/// The page at which a browser signs out that has no other page of ours.
pub fn way_out(key: Option<&str>) -> Response<Bytes> {
    let body = format!(
        "<main><h1>Sign out</h1>\n<p>This browser forgets you; your sessions go on.</p>\n{}</main>",
        sign_out_form(key)
    );
    web::response(web::document("Sign out", "", &body))
}

/// The page with the form, for the manager's own host alone: elsewhere it would be sent to a dev server.
/// No browser is asked to keep the token, since in path mode dev servers are of the same origin; `message` says why it is shown, and `to` is where it leads.
pub fn page(message: &str, to: &str) -> Response<Bytes> {
    let body = format!(
        "<main><h1>Sign in</h1>\n<p>{message}</p>\n\
         <form method=\"post\" action=\"{LOGIN}\">\
         <input type=\"hidden\" name=\"to\" value=\"{to}\">\
         <div class=\"field\"><label for=\"token\">Access token</label>\
         <input id=\"token\" type=\"password\" name=\"token\" required autofocus autocomplete=\"off\" \
         aria-describedby=\"token-hint\">\
         <p class=\"hint\" id=\"token-hint\">Whoever runs this manager makes one with \
         <code>hpc-manager token add NAME</code>.</p></div>\
         <p class=\"actions\"><button class=\"main\">Sign in</button></p></form></main>",
        message = escape(message),
        to = escape(way_back(to)),
    );
    web::response(web::document("Sign in", "", &body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_form_has_a_token_and_a_way_back() {
        let token = AccessToken::random("laptop".parse().unwrap()).unwrap();
        let body = format!(
            "to=%2Fport%2F5500%2F%3Fa%3D1&token=+{}%0D%0A",
            token.reveal()
        );
        let form = Form::parse(body.as_bytes());
        assert_eq!(form.token.unwrap().reveal(), token.reveal());
        assert_eq!(form.to, "/port/5500/?a=1");
        for body in ["", "token=", "token=x", "tok%65n", "\u{ff}=\0"] {
            let form = Form::parse(body.as_bytes());
            assert!(form.token.is_none() && form.to == "/", "{body:?}");
        }
    }

    #[test]
    fn a_form_leads_nowhere_else() {
        for target in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "",
            "x",
            "/a b",
            "/a\r\nb: c",
            "/\u{e9}",
            "/login",
            "/login?code=x",
            "/logout",
        ] {
            assert_eq!(way_back(target), "/", "{target:?}");
        }
        assert_eq!(way_back("/code/?a=//b"), "/code/?a=//b");
    }

    // S25.
    #[test]
    fn a_target_cannot_become_markup() {
        let page = page("<b>", "/\"><script>x</script>");
        let html = std::str::from_utf8(page.body()).unwrap();
        assert!(!html.contains("<b>") && !html.contains("<script"), "{html}");
    }

    proptest! {
        #[test]
        fn a_way_back_is_a_path_of_this_host(target in "[/\\\\a:.?%]{0,12}|.{0,20}") {
            let back = way_back(&target);
            prop_assert!(back.starts_with('/') && !back.starts_with("//") && !back.starts_with("/\\"));
            prop_assert!(back.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
