//! What a request target asks of the proxy: the grammar of `/port/N/*`, and nothing else.
//!
//! Works on the raw bytes of the target: nothing is decoded, so nothing needs to be encoded
//! again and `%2F` survives. Who may ask, and whose port N is, is not decided here.

use std::{borrow::Cow, fmt, num::NonZeroU16, str::FromStr};

use thiserror::Error;

/// The path below which the proxy answers itself; never forwarded.
pub const OWN_PAGES: &str = "/_hpc-proxy/";

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

/// What a request target asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/`, `/port` or `/port/`: the list of the user's own dev servers.
    Index,
    /// Below [`OWN_PAGES`]: the rest of the target, query included.
    Own(&'a str),
    /// `/port/N` without the slash, and the query with its `?` or nothing.
    Bare(TargetPort, &'a str),
    /// `/port/N/...`: the port, and the target that its server shall see, byte for byte.
    Port(TargetPort, &'a str),
}

impl<'a> Route<'a> {
    /// The target port and the origin-form target that its server shall see, for the routes that
    /// are forwarded.
    pub fn forwarded(&self) -> Option<(TargetPort, Cow<'a, str>)> {
        match self {
            Self::Port(port, rest) => Some((*port, Cow::Borrowed(*rest))),
            Self::Bare(port, query) => Some((*port, Cow::Owned(format!("/{query}")))),
            Self::Index | Self::Own(_) => None,
        }
    }
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
    /// Not an origin-form target (RFC 9112 section 3.2.1), or one with an encoded NUL.
    #[error("the request target is malformed")]
    Malformed,
}

/// Reads an origin-form request target (RFC 9112 section 3.2.1).
///
/// # Errors
/// See [`RouteError`].
pub fn parse(target: &[u8]) -> Result<Route<'_>, RouteError> {
    let target = std::str::from_utf8(target).map_err(|_| RouteError::Malformed)?;
    if !target.starts_with('/') || target.contains("%00") || target.contains('#') {
        return Err(RouteError::Malformed);
    }
    if let Some(rest) = target.strip_prefix(OWN_PAGES) {
        return Ok(Route::Own(rest));
    }
    let path_end = target.find('?').unwrap_or(target.len());
    if matches!(&target[..path_end], "/" | "/port" | "/port/") {
        return Ok(Route::Index);
    }
    let rest = target
        .strip_prefix("/port/")
        .ok_or(RouteError::NoSuchPath)?;
    let segment_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (segment, rest) = rest.split_at(segment_end);
    if segment.is_empty() {
        return Err(RouteError::NoSuchPath);
    }
    let port = segment.parse()?;
    if rest.starts_with('/') {
        Ok(Route::Port(port, rest))
    } else {
        Ok(Route::Bare(port, rest))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn port(number: u16) -> TargetPort {
        TargetPort::new(number).unwrap()
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
                Ok(Route::Port(port(5500), rest)),
                "{target}"
            );
        }
    }

    #[test]
    fn a_port_without_its_slash_keeps_the_query() {
        for query in ["", "?", "?x", "?x=/a"] {
            let target = format!("/port/5500{query}");
            let route = parse(target.as_bytes()).unwrap();
            assert_eq!(route, Route::Bare(port(5500), query));
            assert_eq!(
                route.forwarded(),
                Some((port(5500), format!("/{query}").into()))
            );
        }
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

    proptest! {
        #[test]
        fn never_panics(target: Vec<u8>) {
            let _ = parse(&target);
            let _ = parse(&[b"/port/", &target[..]].concat());
        }

        #[test]
        fn what_parses_is_spelled_back(target in r"/(port/?)?[0-9]{0,6}[/?]?[ -~]{0,20}") {
            match parse(target.as_bytes()) {
                Ok(Route::Port(port, rest)) => prop_assert_eq!(format!("/port/{port}{rest}"), target),
                Ok(Route::Bare(port, query)) => prop_assert_eq!(format!("/port/{port}{query}"), target),
                Ok(Route::Own(rest)) => prop_assert_eq!(format!("{OWN_PAGES}{rest}"), target),
                Ok(Route::Index) | Err(_) => {}
            }
        }

        #[test]
        fn the_remaining_target_is_byte_identical(port in 1..=u16::MAX, rest in "/[^#\0]{0,40}") {
            prop_assume!(!rest.contains("%00"));
            let target = format!("/port/{port}{rest}");
            let route = parse(target.as_bytes()).unwrap();
            prop_assert_eq!(route, Route::Port(TargetPort::new(port).unwrap(), &rest));
        }
    }
}
