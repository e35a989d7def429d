//! What a request target asks of the proxy: the grammar of `/port/N/*`, and nothing else.
//!
//! Works on the raw bytes of the target: nothing is decoded, so nothing needs to be encoded
//! again and `%2F` survives. Who may ask, and whose port N is, is not decided here.

use std::{fmt, num::NonZeroU16, str::FromStr};

use thiserror::Error;

/// The path below which the proxy answers itself; never forwarded.
pub const OWN_PAGES: &str = "/_hpc-proxy/";

/// The path, on a port's own host, below which its pages connect to the user's other ports.
pub const SIBLINGS: &str = "/_hpc-proxy/port/";

/// Where a dev server listens, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetPort(NonZeroU16);

impl TargetPort {
    /// The port, or nothing for 0.
    pub fn new(port: u16) -> Option<Self> {
        NonZeroU16::new(port).map(Self)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for TargetPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TargetPort {
    type Err = RouteError;

    /// Plain decimal digits without sign, space or leading zero.
    fn from_str(text: &str) -> Result<Self, RouteError> {
        let bad = || RouteError::BadPort(text.to_owned());
        let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        if !canonical {
            return Err(bad());
        }
        text.parse().map(Self).map_err(|_| bad())
    }
}

/// The name of a Unix-socket target: letters, digits, `.`, `_` and `-`, and no dot first, so that
/// it names one file in one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketName<'a>(&'a str);

impl<'a> SocketName<'a> {
    /// The name, where `text` is one.
    pub fn new(text: &'a str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let sound = !text.is_empty()
            && text.len() <= 64
            && !text.starts_with(['.', '-'])
            && text.bytes().all(plain);
        sound.then_some(Self(text))
    }

    /// The file's name.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// Which of the user's servers is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// The one that listens on a port of localhost.
    Port(TargetPort),
    /// The one that listens on a Unix socket.
    Socket(SocketName<'a>),
}

impl fmt::Display for To<'_> {
    /// The path under which it is served: `/port/N` or `/sock/NAME`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "/port/{port}"),
            Self::Socket(name) => write!(f, "/sock/{}", name.as_str()),
        }
    }
}

/// What a request target asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/`, `/port` or `/port/`: the list of the user's own dev servers.
    Index,
    /// Below [`OWN_PAGES`]: the rest of the target, query included.
    Own(&'a str),
    /// `/port/N` or `/sock/NAME` without the slash, and the query with its `?` or nothing.
    Bare(To<'a>, &'a str),
    /// `/port/N/...` or `/sock/NAME/...`, and the target that the server shall see, byte for byte.
    Below(To<'a>, &'a str),
    /// `/absport/N...`: the server sees the whole target, for one with a configured base path.
    Whole(TargetPort),
}

/// Why a request target leads nowhere. All of them are the client's fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    /// Not a path that the proxy knows.
    #[error("no such path")]
    NoSuchPath,
    /// The segment behind `/port/` is no port number.
    #[error("`{0}` is not a port number from 1 to 65535")]
    BadPort(String),
    /// The segment behind `/sock/` is no name of a socket.
    #[error("`{0}` is not the name of a socket")]
    BadSocket(String),
    /// Not an origin-form target (RFC 9112 section 3.2.1), or one with an encoded NUL.
    #[error("the request target is malformed")]
    Malformed,
}

/// Reads an origin-form request target (RFC 9112 section 3.2.1).
///
/// # Errors
/// See [`RouteError`].
pub fn parse(target: &[u8]) -> Result<Route<'_>, RouteError> {
    let target = origin_form(target)?;
    if let Some(rest) = target.strip_prefix(OWN_PAGES) {
        return Ok(Route::Own(rest));
    }
    let path_end = target.find('?').unwrap_or(target.len());
    if matches!(&target[..path_end], "/" | "/port" | "/port/") {
        return Ok(Route::Index);
    }
    let (root, rest) = ["/port/", "/sock/", "/absport/"]
        .iter()
        .find_map(|root| Some((*root, target.strip_prefix(root)?)))
        .ok_or(RouteError::NoSuchPath)?;
    let segment_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (segment, rest) = rest.split_at(segment_end);
    if segment.is_empty() {
        return Err(RouteError::NoSuchPath);
    }
    let to = match root {
        "/sock/" => {
            let name = SocketName::new(segment);
            To::Socket(name.ok_or_else(|| RouteError::BadSocket(segment.to_owned()))?)
        }
        "/absport/" => return Ok(Route::Whole(segment.parse()?)),
        _ => To::Port(segment.parse()?),
    };
    if rest.starts_with('/') {
        Ok(Route::Below(to, rest))
    } else {
        Ok(Route::Bare(to, rest))
    }
}

/// Reads a target in origin-form that was asked for at a port's own host. Below [`SIBLINGS`] it is
/// that of another port, which is told; else it is the server's own, as it is.
///
/// # Errors
/// When it is none, or one of the proxy's own pages.
pub fn on_own_host(target: &[u8]) -> Result<(Option<TargetPort>, &str), RouteError> {
    let target = origin_form(target)?;
    if !target.starts_with(OWN_PAGES) {
        return Ok((None, target));
    }
    let sibling = target
        .strip_prefix(SIBLINGS)
        .ok_or(RouteError::NoSuchPath)?;
    let port_end = sibling.find('/').ok_or(RouteError::NoSuchPath)?;
    let (port, rest) = sibling.split_at(port_end);
    Ok((Some(port.parse()?), rest))
}

fn origin_form(target: &[u8]) -> Result<&str, RouteError> {
    let target = std::str::from_utf8(target).map_err(|_| RouteError::Malformed)?;
    if !target.starts_with('/') || target.contains("%00") || target.contains('#') {
        return Err(RouteError::Malformed);
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to(port: u16) -> To<'static> {
        To::Port(TargetPort::new(port).unwrap())
    }

    // Behaviours 1 to 9 and 12 to 15.
    #[test]
    fn strips_the_prefix_and_nothing_else() {
        for rest in [
            "/",
            "/a/b?x=1",
            "//a//b",
            "/../../x",
            "/%2e%2e/x",
            "/a%2Fb%5C%3F%23%25.css?v=1",
            "/a;v=1@b:c!$&'()*+,=~",
            "/ü",
            "/?a=+&b=%20&a;b&c=&c&",
            "/?",
            "/_hpc-proxy/",
            "/port/80/",
        ] {
            let target = format!("/port/5500{rest}");
            assert_eq!(
                parse(target.as_bytes()),
                Ok(Route::Below(to(5500), rest)),
                "{target}"
            );
        }
    }

    #[test]
    fn a_port_without_its_slash_keeps_the_query() {
        for query in ["", "?", "?x", "?x=/a"] {
            let target = format!("/port/5500{query}");
            let route = parse(target.as_bytes()).unwrap();
            assert_eq!(route, Route::Bare(to(5500), query));
        }
    }

    // Behaviours 29 and 125.
    #[test]
    fn there_are_two_more_roots() {
        let name = |text| To::Socket(SocketName::new(text).unwrap());
        let of = |target: &'static str| parse(target.as_bytes());
        assert_eq!(
            of("/sock/app.sock/a?b"),
            Ok(Route::Below(name("app.sock"), "/a?b"))
        );
        assert_eq!(of("/sock/app?b"), Ok(Route::Bare(name("app"), "?b")));
        for bad in ["..", ".x", "-x", "a%2Fb", "a:b", "a b"] {
            let refused = Err(RouteError::BadSocket(bad.to_owned()));
            assert_eq!(parse(format!("/sock/{bad}/").as_bytes()), refused, "{bad}");
        }
        let port = TargetPort::new(8000).unwrap();
        for target in ["/absport/8000/a", "/absport/8000", "/absport/8000?x"] {
            assert_eq!(of(target), Ok(Route::Whole(port)), "{target}");
        }
        assert_eq!(of("/absport/0/"), Err(RouteError::BadPort("0".into())));
        assert_eq!(of("/sock/"), Err(RouteError::NoSuchPath));
    }

    // Behaviour 20.
    #[test]
    fn the_index_has_three_names() {
        for target in ["/", "/port", "/port/", "/?x", "/port?x", "/port/?x"] {
            assert_eq!(parse(target.as_bytes()), Ok(Route::Index), "{target}");
        }
        for target in [
            "/PORT/5500/",
            "/port//5500/",
            "//port/5500/",
            "/ports",
            "/x",
            "//",
        ] {
            assert_eq!(
                parse(target.as_bytes()),
                Err(RouteError::NoSuchPath),
                "{target}"
            );
        }
    }

    // Behaviours 10, 11, 17 to 19, 21 and S26.
    #[test]
    fn refuses_what_is_not_a_plain_port_number() {
        for segment in [
            "0",
            "65536",
            "99999",
            "12345678901234567890",
            "05500",
            "+5500",
            "-1",
            " 5500",
            "5500abc",
            "0x157c",
            "5_500",
            "٥٥٠٠",
            "５５００",
            "5⁵",
            "%35500",
            "5500%2Fx",
            "5500@evil",
            "5500:80",
            "user:pass@h",
            "[::1]",
            "..",
            "%2e%2e",
        ] {
            let target = format!("/port/{segment}/");
            let refused = Err(RouteError::BadPort(segment.to_owned()));
            assert_eq!(parse(target.as_bytes()), refused, "{target}");
        }
    }

    #[test]
    fn refuses_what_is_not_in_origin_form() {
        for target in [
            "",
            "*",
            "port/5500/",
            "http://h/port/5500/",
            "/port/5500/%00",
            "/port/1/#f",
        ] {
            assert_eq!(
                parse(target.as_bytes()),
                Err(RouteError::Malformed),
                "{target}"
            );
        }
    }

    #[test]
    fn a_host_of_its_own_has_every_path_but_the_proxys() {
        for target in ["/", "/port/1/", "//a?b", "/_hpc-proxy", "/a/_hpc-proxy/"] {
            assert_eq!(on_own_host(target.as_bytes()), Ok((None, target)));
        }
        for rest in ["/", "//a?b", "/port/1/"] {
            let target = format!("{SIBLINGS}8000{rest}");
            let sibling = TargetPort::new(8000);
            assert_eq!(on_own_host(target.as_bytes()), Ok((sibling, rest)));
        }
        for (target, refused) in [
            ("/_hpc-proxy/ports", RouteError::NoSuchPath),
            ("/_hpc-proxy/port/8000", RouteError::NoSuchPath),
            ("/_hpc-proxy/port/0/", RouteError::BadPort("0".into())),
            ("*", RouteError::Malformed),
            ("/%00", RouteError::Malformed),
        ] {
            assert_eq!(on_own_host(target.as_bytes()), Err(refused), "{target}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(target: Vec<u8>) {
            let _ = parse(&target);
            let _ = parse(&[b"/port/", &target[..]].concat());
        }

        #[test]
        fn what_parses_is_spelled_back(target in r"/((port|sock)/?)?[0-9]{0,6}[/?]?[ -~]{0,20}") {
            match parse(target.as_bytes()) {
                Ok(Route::Below(to, rest)) => prop_assert_eq!(format!("{to}{rest}"), target),
                Ok(Route::Bare(to, query)) => prop_assert_eq!(format!("{to}{query}"), target),
                Ok(Route::Own(rest)) => prop_assert_eq!(format!("{OWN_PAGES}{rest}"), target),
                Ok(Route::Index | Route::Whole(_)) | Err(_) => {}
            }
        }

        #[test]
        fn the_remaining_target_is_byte_identical(port in 1..=u16::MAX, rest in "/[^#\0]{0,40}") {
            prop_assume!(!rest.contains("%00"));
            let target = format!("/port/{port}{rest}");
            let route = parse(target.as_bytes()).unwrap();
            prop_assert_eq!(route, Route::Below(to(port), &rest));
        }
    }
}
