//! Response fields that name URLs or paths, moved under the prefix that the browser sees.
//!
//! A dev server believes that it owns the whole origin. Pure functions over `HeaderMap`; bodies
//! are not touched.

use std::fmt;

use http::{
    HeaderMap, HeaderValue,
    header::{LOCATION, SET_COOKIE},
};

use crate::route::TargetPort;

/// The path under which the browser sees a dev server: `/port/5500`, or what a manager says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// `/port/N`, as this proxy serves it.
    pub fn of(port: TargetPort) -> Self {
        Self(format!("/port/{port}"))
    }

    /// A prefix stated by a manager: absolute, without a slash at its end, and of characters that
    /// need no quoting in a header field, a cookie or a page.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        let sound = text.starts_with('/')
            && !text.starts_with("//")
            && !text.ends_with('/')
            && text.bytes().all(plain);
        sound.then(|| Self(text.to_owned()))
    }

    /// The path without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A path of the dev server as the browser must ask for it; one that is under the prefix
    /// already stays.
    fn join(&self, path: &str) -> String {
        let inside = path
            .strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
        if inside {
            path.to_owned()
        } else {
            format!("{}{path}", self.0)
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One dev server as its browser sees it.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Where the browser sees it.
    pub prefix: &'a Prefix,
    /// Where it listens.
    pub port: TargetPort,
    /// The browser's own `Host`: a URL of that origin is a dev server's, too.
    pub public_host: Option<&'a str>,
    /// Cookies of the proxy and those in front of it, which a dev server must not set.
    pub reserved_cookies: &'a [&'a str],
}

impl View<'_> {
    /// Moves `Location` and `Set-Cookie` under the prefix.
    pub fn rewrite(&self, headers: &mut HeaderMap) {
        if let Some(moved) = headers.get(LOCATION).and_then(|value| self.location(value)) {
            headers.insert(LOCATION, moved);
        }
        if headers.contains_key(SET_COOKIE) {
            let cookies: Vec<_> = headers
                .get_all(SET_COOKIE)
                .iter()
                .filter_map(|value| self.cookie(value))
                .collect();
            headers.remove(SET_COOKIE);
            for cookie in cookies {
                headers.append(SET_COOKIE, cookie);
            }
        }
    }

    /// A `Location` (RFC 9110 section 10.2.2) that must change: a path from the root, or a URL of
    /// the dev server's own origin or the browser's. Relative and foreign ones stay.
    fn location(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let text = value.to_str().ok()?;
        let path = match text.find("//") {
            // A path from the root, not `//host/path`.
            _ if text.starts_with('/') && !text.starts_with("//") => text,
            Some(slashes)
                if ["", "http:", "https:"].contains(&&*text[..slashes].to_lowercase()) =>
            {
                let rest = &text[slashes + 2..];
                let (authority, path) =
                    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                if !self.is_own(authority) {
                    return None;
                }
                path
            }
            _ => return None,
        };
        let rooted = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        HeaderValue::try_from(self.prefix.join(&rooted)).ok()
    }

    fn is_own(&self, authority: &str) -> bool {
        let local = ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"];
        let is_local = authority
            .rsplit_once(':')
            .is_some_and(|(host, port)| local.contains(&host) && port == self.port.to_string());
        is_local
            || self
                .public_host
                .is_some_and(|public| public.eq_ignore_ascii_case(authority))
    }

    /// A `Set-Cookie` (RFC 6265 section 4.1) confined to the prefix, or nothing where the dev
    /// server must not set it: our own names, and `__Host-` ones, which demand `Path=/`.
    fn cookie(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let mut attributes = value.as_bytes().split(|byte| *byte == b';');
        let pair = attributes.next()?;
        let name = pair.split(|byte| *byte == b'=').next()?.trim_ascii();
        let reserved = name.len() >= 7 && name[..7].eq_ignore_ascii_case(b"__host-")
            || self
                .reserved_cookies
                .iter()
                .any(|reserved| reserved.as_bytes() == name);
        if reserved {
            return None;
        }
        let mut moved = pair.to_vec();
        for attribute in attributes {
            let text = attribute.trim_ascii();
            let (key, path) = match text.iter().position(|byte| *byte == b'=') {
                Some(at) => (text[..at].trim_ascii(), text[at + 1..].trim_ascii()),
                None => (text, &b""[..]),
            };
            if key.eq_ignore_ascii_case(b"domain") {
                continue;
            }
            moved.push(b';');
            match std::str::from_utf8(path) {
                Ok(path) if key.eq_ignore_ascii_case(b"path") && path.starts_with('/') => {
                    moved.extend_from_slice(b" Path=");
                    moved.extend_from_slice(self.prefix.join(path).as_bytes());
                }
                _ => moved.extend_from_slice(attribute),
            }
        }
        HeaderValue::from_bytes(&moved).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewritten(name: &'static str, value: &str) -> Option<String> {
        let prefix = Prefix::parse("/port/5500").unwrap();
        let view = View {
            prefix: &prefix,
            port: TargetPort::new(5500).unwrap(),
            public_host: Some("hpc.example.org"),
            reserved_cookies: &["__hpc_proxy"],
        };
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        view.rewrite(&mut headers);
        headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    // Behaviour 87.
    #[test]
    fn a_location_of_the_dev_server_moves_under_the_prefix() {
        for (before, after) in [
            ("/x", "/port/5500/x"),
            ("/", "/port/5500/"),
            ("/port/5500", "/port/5500"),
            ("/port/5500/x?y#z", "/port/5500/x?y#z"),
            ("/port/55001/x", "/port/5500/port/55001/x"),
            ("/x?next=//a", "/port/5500/x?next=//a"),
            ("x", "x"),
            ("./x", "./x"),
            ("?q", "?q"),
            ("http://127.0.0.1:5500/x", "/port/5500/x"),
            ("http://localhost:5500", "/port/5500/"),
            ("http://localhost:5500?q", "/port/5500/?q"),
            ("HTTP://[::1]:5500/", "/port/5500/"),
            ("https://hpc.example.org/x", "/port/5500/x"),
            ("https://hpc.example.org/port/5500/x", "/port/5500/x"),
            ("//localhost:5500/x", "/port/5500/x"),
            ("//cdn.example.org/x", "//cdn.example.org/x"),
            ("http://localhost:5501/x", "http://localhost:5501/x"),
            ("https://example.org/a//b", "https://example.org/a//b"),
            ("mailto:a@example.org", "mailto:a@example.org"),
        ] {
            assert_eq!(
                rewritten("location", before).as_deref(),
                Some(after),
                "{before}"
            );
        }
    }

    // Behaviour 89 and S12.
    #[test]
    fn a_cookie_is_confined_to_the_prefix() {
        for (before, after) in [
            (
                "a=1; Path=/; HttpOnly",
                Some("a=1; Path=/port/5500/; HttpOnly"),
            ),
            (
                "a=1;path=/x ; SameSite=Lax",
                Some("a=1; Path=/port/5500/x; SameSite=Lax"),
            ),
            ("a=1; Path=/port/5500/x", Some("a=1; Path=/port/5500/x")),
            ("a=1; Domain=example.org; X=y", Some("a=1; X=y")),
            (
                "a=\"b=c\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
                Some("a=\"b=c\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
            ),
            ("__hpc_proxy=1; Path=/", None),
            ("__Host-a=1; Path=/; Secure", None),
        ] {
            assert_eq!(
                rewritten("set-cookie", before).as_deref(),
                after,
                "{before}"
            );
        }
    }

    #[test]
    fn a_prefix_is_plain() {
        for text in ["", "x", "/x/", "//x", "/a b", "/a\"b", "/é", "/a;b"] {
            assert_eq!(Prefix::parse(text), None, "{text}");
        }
        assert!(Prefix::parse("/user/x-1/port/5500").is_some());
    }

    proptest! {
        #[test]
        fn a_location_is_moved_once(path in "/[!-~]{0,20}") {
            if let Some(once) = rewritten("location", &path) {
                prop_assert_eq!(rewritten("location", &once), Some(once.clone()));
            }
        }

        #[test]
        fn no_cookie_escapes_the_prefix(value in "[a-z]{1,3}=[a-z]{0,3}(; ?(Path|path|PATH) ?= ?/[a-z/.]{0,6}|; ?[dD]omain=[a-z.]{0,5}|; [a-zA-Z]{1,5}){0,4}") {
            let moved = rewritten("set-cookie", &value).unwrap().to_lowercase();
            for attribute in moved.split(';').skip(1).map(str::trim) {
                prop_assert!(!attribute.starts_with("domain"));
                if let Some(path) = attribute.strip_prefix("path=") {
                    prop_assert!(path.starts_with("/port/5500"), "{}", path);
                }
            }
        }
    }
}
