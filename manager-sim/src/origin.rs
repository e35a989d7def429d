//! From which page a request comes: pure checks against foreign sites (cross-site requests,
//! hijacked WebSockets, rebound names). Who the user is, is [`crate::auth`]'s business.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{HOST, ORIGIN, REFERER},
    uri::Authority,
};

use crate::names::HostName;

/// A custom field: a foreign page cannot send it without asking first, and we never agree.
pub const API_HEADER: HeaderName = HeaderName::from_static("x-hpc-manager");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The authority that a request is for, if it is one of ours: this machine by a name that no
/// foreign DNS server can give away (S15), or a configured name.
pub fn own_authority(uri: &Uri, headers: &HeaderMap, hosts: &[HostName]) -> Option<Authority> {
    let mut fields = headers.get_all(HOST).iter();
    let authority = match (uri.authority(), fields.next(), fields.next()) {
        // RFC 9112 section 3.2.2: the target wins over the field.
        (Some(authority), _, None) => authority.clone(),
        (None, Some(host), None) => Authority::try_from(host.as_bytes()).ok()?,
        _ => return None,
    };
    let host = authority.host();
    let own = host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|ip: IpAddr| ip.is_loopback())
        || hosts
            .iter()
            .any(|own| own.as_str().eq_ignore_ascii_case(host));
    // No user information, and a port that is a number.
    let rest = authority.as_str().strip_prefix(host)?;
    (own && (rest.is_empty() || authority.port_u16().is_some())).then_some(authority)
}

/// Whether a page of another origin makes this request, as far as the browser says. A client
/// that is no browser says nothing, and holds a cookie that no page could have got for it.
pub fn is_foreign(headers: &HeaderMap, own: &Authority) -> bool {
    headers
        .get_all(ORIGIN)
        .iter()
        .any(|origin| !names_origin(origin, own))
}

/// Whether a call that changes something comes from a page of ours, not from a foreign one, and
/// not from a dev server's either, whose path gives it away unless it takes care.
pub fn may_call_api(headers: &HeaderMap, own: &Authority) -> bool {
    let from_dev_server = |referer: &HeaderValue| {
        let path = referer
            .to_str()
            .ok()
            .and_then(|text| text.parse::<Uri>().ok());
        path.is_none_or(|uri| {
            ["/port", "/code"]
                .iter()
                .any(|root| uri.path().starts_with(root))
        })
    };
    headers.get(API_HEADER).is_some_and(|value| value == "1")
        && !is_foreign(headers, own)
        && headers
            .get_all(SEC_FETCH_SITE)
            .iter()
            .all(|site| site == "same-origin" || site == "none")
        && !headers.get_all(REFERER).iter().any(from_dev_server)
}

/// `null`, the origin of a sandboxed page, names nobody.
fn names_origin(origin: &HeaderValue, own: &Authority) -> bool {
    let Some((scheme, authority)) = origin.to_str().ok().and_then(|text| text.split_once("://"))
    else {
        return false;
    };
    ["http", "https"].contains(&scheme) && authority.eq_ignore_ascii_case(own.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::try_from(*value).unwrap(),
            )
        };
        fields.iter().map(field).collect()
    }

    fn own() -> Authority {
        Authority::from_static("127.0.0.1:8080")
    }

    // S15.
    #[test]
    fn only_names_of_this_machine_are_ours() {
        let hosts = ["apps.example.org".parse().unwrap()];
        let is_own = |uri: &'static str, fields: &[(&str, &str)]| {
            own_authority(&Uri::from_static(uri), &map(fields), &hosts).is_some()
        };
        for host in [
            "localhost:1",
            "LOCALHOST",
            "127.0.0.1:8080",
            "[::1]:1",
            "apps.example.org",
        ] {
            assert!(is_own("/", &[("host", host)]), "{host}");
        }
        for host in [
            "evil.org",
            "127.0.0.1.evil.org",
            "10.0.0.1",
            "0.0.0.0",
            "a@localhost",
            "",
            "localhost:x",
        ] {
            assert!(!is_own("/", &[("host", host)]), "{host}");
        }
        assert!(!is_own("/", &[]));
        assert!(!is_own(
            "/",
            &[("host", "localhost"), ("host", "localhost")]
        ));
        assert!(is_own("http://localhost/", &[("host", "evil.org")]));
        assert!(!is_own("http://evil.org/", &[("host", "localhost")]));
    }

    // S14.
    #[test]
    fn an_origin_must_be_exactly_ours() {
        assert!(!is_foreign(&map(&[]), &own()));
        assert!(!is_foreign(
            &map(&[("origin", "http://127.0.0.1:8080")]),
            &own()
        ));
        for origin in [
            "null",
            "http://127.0.0.1:8081",
            "http://127.0.0.1",
            "http://evil.org",
            "",
            "x://127.0.0.1:8080",
        ] {
            assert!(is_foreign(&map(&[("origin", origin)]), &own()), "{origin}");
        }
        let two = [
            ("origin", "http://127.0.0.1:8080"),
            ("origin", "http://evil.org"),
        ];
        assert!(is_foreign(&map(&two), &own()));
    }

    // S11.
    #[test]
    fn a_call_needs_the_field_and_a_page_of_ours() {
        let calls = |fields: &[(&str, &str)]| {
            may_call_api(&map(&[&[("x-hpc-manager", "1")], fields].concat()), &own())
        };
        assert!(calls(&[]));
        assert!(calls(&[
            ("origin", "http://127.0.0.1:8080"),
            ("sec-fetch-site", "same-origin"),
            ("referer", "http://127.0.0.1:8080/"),
        ]));
        assert!(!may_call_api(&map(&[]), &own()));
        assert!(!may_call_api(&map(&[("x-hpc-manager", "0")]), &own()));
        for field in [
            ("origin", "null"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "cross-site"),
            ("referer", "http://127.0.0.1:8080/port/5500/"),
            ("referer", "http://127.0.0.1:8080/code/"),
        ] {
            assert!(!calls(&[field]), "{field:?}");
        }
    }
}
