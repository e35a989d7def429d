//! Response fields that name URLs or paths, moved under the prefix that the browser sees.
//!
//! A dev server believes that it owns the whole origin. Pure functions over [`Fields`]; bodies
//! are not touched.

use std::{borrow::Cow, cell::LazyCell, fmt};

use crate::{
    hostname,
    http1::{
        fields::{Edit, Fields},
        name::Name,
    },
    prefix::{Prefixer, Siblings},
    route::{SIBLINGS, TargetPort, To},
};

/// The path under which the browser sees a dev server: `/port/5500`, or what a manager says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// `/port/N` or `/sock/NAME`, as this proxy serves it.
    pub fn of(to: To<'_>) -> Self {
        Self(to.to_string())
    }

    /// `/absport/N`, below which a server sees its whole path.
    pub fn whole(to: To<'_>) -> Self {
        match to {
            To::Port(port) => Self(format!("/absport/{port}")),
            To::Socket(_) => Self::of(to),
        }
    }

    /// That of a server which has a host of its own: none.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// That of another port than the one whose own host the browser sees.
    pub fn sibling(to: To<'_>) -> Self {
        match to {
            To::Port(port) => Self(format!("{SIBLINGS}{port}")),
            To::Socket(_) => Self::of(to),
        }
    }

    /// Whether it is one of those.
    pub fn is_sibling(&self) -> bool {
        self.0.starts_with(SIBLINGS)
    }

    /// Whether the browser sees the server's own paths.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// A prefix stated by a manager: absolute, without a slash at its end unless that is all of it,
    /// and of characters that need no quoting in a header field, a cookie or a page.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "/" {
            return Some(Self::root());
        }
        let sound = is_plain_path(text.as_bytes()) && !text.ends_with('/');
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

/// Whether a path is absolute, of this origin, and of characters that need no quoting in a header
/// field, a cookie or a page.
pub fn is_plain_path(path: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(byte);
    path.starts_with(b"/") && !path.starts_with(b"//") && path.iter().all(plain)
}

/// Whether a path goes up somewhere.
pub fn climbs(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|part| part == b"..")
}

/// One dev server as its browser sees it.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Where the browser sees it.
    pub prefix: &'a Prefix,
    /// Where it listens; nothing for a Unix socket.
    pub port: Option<TargetPort>,
    /// Whether URLs move; a server with a configured base path writes them as they must be.
    pub moves_urls: bool,
    /// The browser's own `Host`: a URL of that origin is a dev server's, too.
    pub public_host: Option<&'a str>,
    /// Where the browser sees the user's other ports, if each has a host of its own.
    pub siblings: Option<&'a hostname::Siblings>,
    /// Whether the browser came by `https`.
    pub secure: bool,
    /// Cookies of the proxy and those in front of it, which a dev server must not set.
    pub reserved_cookies: &'a [&'a str],
}

/// The name under which a browser sends the cookie of a `Set-Cookie` back. One without a name is sent
/// as its value alone, which may look like a name and a value.
pub fn cookie_name(set_cookie: &[u8]) -> &[u8] {
    let pair = set_cookie.split(|byte| *byte == b';').next();
    let pair = pair.unwrap_or_default().trim_ascii();
    let named = pair.strip_prefix(b"=").unwrap_or(pair);
    let name = named.split(|byte| *byte == b'=').next();
    name.unwrap_or_default().trim_ascii()
}

/// Fields with which one dev server would act on the whole origin, which it shares (S13).
pub const ORIGIN_WIDE: [Name; 7] = [
    Name::AltSvc,
    Name::ClearSiteData,
    Name::Nel,
    Name::PublicKeyPins,
    Name::ReportTo,
    Name::SetLogin,
    Name::StrictTransportSecurity,
];

impl View<'_> {
    /// Moves the URLs and cookies of a response under the prefix, and removes what reaches beyond
    /// one dev server.
    pub fn rewrite(&self, fields: &mut Fields) {
        if self.moves_urls {
            let rule = LazyCell::new(|| self.prefixer());
            for name in [Name::Location, Name::ContentLocation, Name::SourceMap] {
                fields.edit(name, |value| {
                    self.moved(value, |text| url_moved(&rule, text))
                });
            }
            fields.edit(Name::Refresh, |value| {
                self.moved(value, |text| refresh(&rule, text))
            });
            fields.edit(Name::Link, |value| {
                self.moved(value, |text| links(&rule, text))
            });
            fields.edit(Name::ReportingEndpoints, |value| {
                self.moved(value, |text| endpoints(&rule, text))
            });
            fields.edit(Name::ServiceWorkerAllowed, |value| self.scope(value));
        } else {
            fields.remove(Name::ServiceWorkerAllowed);
        }
        fields.edit(Name::SetCookie, |value| {
            self.cookie(value).map_or(Edit::Drop, Edit::Replace)
        });
        fields.retain(|field| !ORIGIN_WIDE.contains(&field.name));
    }

    fn moved(&self, value: &[u8], edit: impl FnOnce(&str) -> Option<String>) -> Edit {
        // A value may be in any encoding: each byte stands for one character here and back again, and
        // what is looked for and added is ASCII.
        let text: String = value.iter().copied().map(char::from).collect();
        edit(&text).map_or(Edit::Keep, |moved| {
            Edit::Replace(moved.chars().map(|character| character as u8).collect())
        })
    }

    /// The rule for the URLs of this server's header fields.
    pub(crate) fn prefixer(&self) -> Prefixer {
        let beside = self.siblings.map(|siblings| Siblings::Host {
            before: String::new(),
            after: siblings.after.clone(),
        });
        self.prefixer_with(beside.unwrap_or_else(|| Siblings::Path(self.beside())))
    }

    /// The rule for those of its pages. A page on a host of its own is of another site than the other
    /// ports' hosts, and would show them no cookie: it finds them below its own.
    pub(crate) fn prefixer_of_pages(&self) -> Prefixer {
        let below = self.siblings.map(|_| SIBLINGS.to_owned());
        self.prefixer_with(Siblings::Path(below.unwrap_or_else(|| self.beside())))
    }

    fn prefixer_with(&self, siblings: Siblings) -> Prefixer {
        Prefixer {
            prefix: self.prefix.as_str().to_owned(),
            siblings,
            port: self.port.map(TargetPort::get),
            front: self.public_host.unwrap_or("localhost").to_owned(),
            secure: self.secure,
        }
    }

    /// Below which path the other ports are: beside this one, wherever that is.
    fn beside(&self) -> String {
        let prefix = self.prefix.as_str();
        let below = self
            .port
            .and_then(|port| prefix.strip_suffix(&port.to_string()))
            .or_else(|| prefix.rfind("/sock/").map(|at| &prefix[..at]))
            .map(|below| below.strip_suffix("/port/").unwrap_or(below));
        format!("{}/port/", below.unwrap_or_default())
    }

    /// How far a service worker may reach: below the prefix, and no farther. What could climb out of it
    /// goes.
    fn scope(&self, value: &[u8]) -> Edit {
        let path = std::str::from_utf8(value).ok();
        match path.filter(|path| is_plain_path(path.as_bytes()) && !climbs(path.as_bytes())) {
            Some(path) => Edit::Replace(self.prefix.join(path).into_bytes()),
            None => Edit::Drop,
        }
    }

    /// A `Set-Cookie` (RFC 6265 section 4.1) confined to the prefix, or nothing where the dev
    /// server must not set it: our own names, and `__Host-` ones, which demand `Path=/`, unless it
    /// has the host for itself.
    fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut attributes = value.split(|byte| *byte == b';');
        let pair = attributes.next()?;
        let name = cookie_name(pair);
        let for_host = name.len() >= 7 && name[..7].eq_ignore_ascii_case(b"__host-");
        let reserved = for_host && !self.prefix.is_root()
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
            if !key.eq_ignore_ascii_case(b"path") {
                moved.push(b';');
                moved.extend_from_slice(attribute);
            } else if let Ok(path) = std::str::from_utf8(path)
                && path.starts_with('/')
            {
                moved.extend_from_slice(b"; Path=");
                moved.extend_from_slice(self.prefix.join(path).as_bytes());
            }
            // Any other path stands for the page's own (RFC 6265 section 5.2.4), and so does none.
        }
        Some(moved)
    }
}

/// A URL (RFC 9110 section 10.2.2) that must change: a path from the root, or a URL of one of the
/// user's servers or the browser's own origin. Relative and foreign ones stay.
fn url_moved(rule: &Prefixer, text: &str) -> Option<String> {
    match rule.url(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(moved) => Some(moved),
    }
}

/// `name="/x", other="https://example.org/"` (Reporting API section 3.3).
fn endpoints(rule: &Prefixer, text: &str) -> Option<String> {
    let mut changed = false;
    let parts = text.split('"').enumerate().map(|(place, part)| {
        let moved = (place % 2 == 1).then(|| url_moved(rule, part)).flatten();
        changed |= moved.is_some();
        moved.unwrap_or_else(|| part.to_owned())
    });
    let written = parts.collect::<Vec<_>>().join("\"");
    changed.then_some(written)
}

/// `5; url=/x`, as browsers take it.
fn refresh(rule: &Prefixer, text: &str) -> Option<String> {
    let at = text.to_ascii_lowercase().find("url=")? + "url=".len();
    let (before, url) = text.split_at(at);
    let quote = url.chars().next().filter(|first| "'\"".contains(*first));
    let bare = url.trim_matches(|c| Some(c) == quote);
    let (open, moved) = (
        quote.map(String::from).unwrap_or_default(),
        url_moved(rule, bare)?,
    );
    Some(format!("{before}{open}{moved}{open}"))
}

/// `</x>; rel=preload, <y>; rel=next` (RFC 8288 section 3).
fn links(rule: &Prefixer, text: &str) -> Option<String> {
    let (mut moved, mut rest, mut changed) = (String::new(), text, false);
    while let Some((before, (url, after))) = rest
        .split_once('<')
        .and_then(|(before, inside)| Some((before, inside.split_once('>')?)))
    {
        let to = url_moved(rule, url);
        changed |= to.is_some();
        moved.push_str(before);
        moved.push('<');
        moved.push_str(to.as_deref().unwrap_or(url));
        moved.push('>');
        rest = after;
    }
    moved.push_str(rest);
    changed.then_some(moved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewritten(name: Name, value: &str) -> Option<String> {
        let prefix = Prefix::parse("/port/5500").unwrap();
        let view = View {
            prefix: &prefix,
            moves_urls: true,
            port: TargetPort::new(5500),
            public_host: Some("hpc.example.org"),
            siblings: None,
            secure: true,
            reserved_cookies: &["__hpc_proxy"],
        };
        rewritten_as(&view, name, value)
    }

    fn rewritten_as(view: &View<'_>, name: Name, value: &str) -> Option<String> {
        let mut fields = Fields::new();
        fields.push(name, value.as_bytes());
        view.rewrite(&mut fields);
        fields
            .get(name)
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
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
            ("HTTP://LocalHost:5500/", "/port/5500/"),
            ("https://hpc.example.org/x", "/port/5500/x"),
            (
                "https://hpc.example.org/port/5500/x",
                "https://hpc.example.org/port/5500/x",
            ),
            ("//localhost:5500/x", "/port/5500/x"),
            ("//cdn.example.org/x", "//cdn.example.org/x"),
            ("http://localhost:5501/x", "//hpc.example.org/port/5501/x"),
            ("/../x", "/port/5500/x"),
            ("https://example.org/a//b", "https://example.org/a//b"),
            ("mailto:a@example.org", "mailto:a@example.org"),
        ] {
            assert_eq!(
                rewritten(Name::Location, before).as_deref(),
                Some(after),
                "{before}"
            );
        }
    }

    // A browser takes such a path as it is, and asks for it at the root.
    #[test]
    fn a_location_moves_in_any_encoding() {
        let prefix = Prefix::parse("/port/5500").unwrap();
        let view = View {
            prefix: &prefix,
            moves_urls: true,
            port: TargetPort::new(5500),
            public_host: None,
            siblings: None,
            secure: false,
            reserved_cookies: &[],
        };
        for path in [&b"/\xe4"[..], "/ä".as_bytes()] {
            let mut fields = Fields::new();
            fields.push(Name::Location, path);
            view.rewrite(&mut fields);
            assert_eq!(
                fields.get(Name::Location),
                Some(&[b"/port/5500", path].concat()[..])
            );
        }
    }

    // Behaviour 88.
    #[test]
    fn other_fields_with_urls_move_as_a_location_does() {
        for (name, before, after) in [
            (Name::ContentLocation, "/x", "/port/5500/x"),
            (Name::SourceMap, "/a.js.map", "/port/5500/a.js.map"),
            (Name::SourceMap, "a.js.map", "a.js.map"),
            (Name::Refresh, "5", "5"),
            (Name::Refresh, "5; url=/x", "5; url=/port/5500/x"),
            (Name::Refresh, "0;URL='/x'", "0;URL='/port/5500/x'"),
            (
                Name::Refresh,
                "0; url=https://example.org/",
                "0; url=https://example.org/",
            ),
            (
                Name::Link,
                "</a.css>; rel=preload, <b>; rel=next, </c>; rel=\"x\"",
                "</port/5500/a.css>; rel=preload, <b>; rel=next, </port/5500/c>; rel=\"x\"",
            ),
            (
                Name::Link,
                "<https://example.org/>",
                "<https://example.org/>",
            ),
            (Name::Link, "<broken", "<broken"),
            (
                Name::ReportingEndpoints,
                "a=\"/x\", b=\"https://example.org/\"",
                "a=\"/port/5500/x\", b=\"https://example.org/\"",
            ),
        ] {
            assert_eq!(rewritten(name, before).as_deref(), Some(after), "{before}");
        }
    }

    /// As a browser sees port 5500 at a host of its own.
    fn on_own_host(name: Name, value: &str) -> Option<String> {
        let port = TargetPort::new(5500).unwrap();
        let host = "5500--7.apps.example.org:1";
        let siblings = hostname::Siblings::of(host.as_bytes(), port);
        let view = View {
            prefix: &Prefix::root(),
            moves_urls: true,
            port: Some(port),
            public_host: Some(host),
            siblings: siblings.as_ref(),
            secure: true,
            reserved_cookies: &["__hpc_proxy", "__Host-__hpc_proxy"],
        };
        rewritten_as(&view, name, value)
    }

    // Behaviours 87 and 88.
    #[test]
    fn on_a_host_of_its_own_only_local_urls_move() {
        for (before, after) in [
            ("/x", "/x"),
            ("x?y", "x?y"),
            ("/port/5500/x", "/port/5500/x"),
            ("http://localhost:5500/x", "/x"),
            ("http://127.0.0.1:5500", "/"),
            (
                "https://5500--7.apps.example.org:1/x",
                "https://5500--7.apps.example.org:1/x",
            ),
            (
                "http://localhost:8000/x?y",
                "//8000--7.apps.example.org:1/x?y",
            ),
            ("http://[::1]:8000", "//8000--7.apps.example.org:1/"),
            ("http://localhost/x", "http://localhost/x"),
            ("http://localhost:0/x", "http://localhost:0/x"),
            ("https://example.org:8000/x", "https://example.org:8000/x"),
        ] {
            let found = on_own_host(Name::Location, before);
            assert_eq!(found.as_deref(), Some(after), "{before}");
        }
    }

    // Behaviour 89: no cookie leaves the host, and those of the front's names are not set.
    #[test]
    fn a_host_of_its_own_has_all_cookies_but_ours() {
        for (before, after) in [
            ("a=1; Path=/x; Secure", Some("a=1; Path=/x; Secure")),
            ("a=1; Domain=apps.example.org; Path=/", Some("a=1; Path=/")),
            (
                "__Host-a=1; Secure; Path=/",
                Some("__Host-a=1; Secure; Path=/"),
            ),
            ("__hpc_proxy=1", None),
            ("__Host-__hpc_proxy=1; Secure; Path=/", None),
        ] {
            let found = on_own_host(Name::SetCookie, before);
            assert_eq!(found.as_deref(), after, "{before}");
        }
    }

    #[test]
    fn ports_are_beside_each_other_wherever_a_manager_has_them() {
        for (prefix, port, beside) in [
            ("/port/5500", Some(5500), "/port/"),
            ("/user/x/port/5500", Some(5500), "/user/x/port/"),
            ("/user/x/sock/app", None, "/user/x/port/"),
            ("/code", Some(5500), "/port/"),
        ] {
            let view = View {
                prefix: &Prefix::parse(prefix).unwrap(),
                moves_urls: true,
                port: port.and_then(TargetPort::new),
                public_host: None,
                siblings: None,
                secure: false,
                reserved_cookies: &[],
            };
            let siblings = Siblings::Path(beside.to_owned());
            assert_eq!(view.prefixer().siblings, siblings, "{prefix}");
        }
    }

    // S13.
    #[test]
    fn a_service_worker_reaches_no_farther_than_its_server() {
        for (before, after) in [
            ("/", Some("/port/5500/")),
            ("/a/", Some("/port/5500/a/")),
            ("/port/5500/", Some("/port/5500/")),
            ("/../", None),
            ("/port/5500/../", None),
            ("/%2e%2e/", None),
            ("/\\..\\", None),
            ("//host/", None),
            ("https://hpc.example.org/", None),
            ("../", None),
            ("", None),
        ] {
            let name = Name::ServiceWorkerAllowed;
            assert_eq!(rewritten(name, before).as_deref(), after, "{before}");
        }
    }

    // S13.
    #[test]
    fn what_would_act_on_the_whole_origin_is_removed() {
        for name in ORIGIN_WIDE {
            assert_eq!(rewritten(name, "x"), None, "{name:?}");
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
            ("a=1; Path=; Secure; Path=x", Some("a=1; Secure")),
            ("a=1; Domain=example.org; X=y", Some("a=1; X=y")),
            (
                "a=\"b=c\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
                Some("a=\"b=c\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
            ),
            ("__hpc_proxy=1; Path=/", None),
            ("=__hpc_proxy=1; Path=/", None),
            ("=__Host-a=1; Path=/", None),
            ("=a=1; Path=/", Some("=a=1; Path=/port/5500/")),
            ("__Host-a=1; Path=/; Secure", None),
        ] {
            assert_eq!(
                rewritten(Name::SetCookie, before).as_deref(),
                after,
                "{before}"
            );
        }
    }

    #[test]
    fn a_prefix_is_plain() {
        assert_eq!(Prefix::parse("/"), Some(Prefix::root()));
        for text in ["", "x", "/x/", "//x", "//", "/a b", "/a\"b", "/é", "/a;b"] {
            assert_eq!(Prefix::parse(text), None, "{text}");
        }
        assert!(Prefix::parse("/user/x-1/port/5500").is_some());
    }

    proptest! {
        #[test]
        fn a_location_is_moved_once(path in "/[!-~]{0,20}") {
            if let Some(once) = rewritten(Name::Location, &path) {
                prop_assert_eq!(rewritten(Name::Location, &once), Some(once.clone()));
            }
        }

        #[test]
        fn no_cookie_escapes_the_prefix(value in "[a-z]{1,3}=[a-z]{0,3}(; ?(Path|path|PATH) ?= ?/[a-z/.]{0,6}|; ?[dD]omain=[a-z.]{0,5}|; [a-zA-Z]{1,5}){0,4}") {
            let moved = rewritten(Name::SetCookie, &value).unwrap().to_lowercase();
            for attribute in moved.split(';').skip(1).map(str::trim) {
                prop_assert!(!attribute.starts_with("domain"));
                if let Some(path) = attribute.strip_prefix("path=") {
                    prop_assert!(path.starts_with("/port/5500"), "{}", path);
                }
            }
        }
    }
}
