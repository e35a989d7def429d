//! From which page a request comes: pure checks against foreign sites (cross-site requests,
//! hijacked WebSockets, rebound names). Who the user is, is [`crate::auth`]'s business.

use std::net::IpAddr;

use hpc_proxy::{
    hostname::Siblings,
    http1::{
        fields::Fields,
        name::Name,
        target::{host_name, is_host},
    },
    route::TargetPort,
};
use http::Uri;

use crate::names::HostName;

/// A custom field: a foreign page cannot send it without asking first, and we never agree.
pub const API_FIELD: &str = "X-Hpc-Manager";
const SEC_FETCH_SITE: &str = "Sec-Fetch-Site";
const SEC_FETCH_MODE: &str = "Sec-Fetch-Mode";
const SEC_FETCH_DEST: &str = "Sec-Fetch-Dest";

/// The `Host` that a request is for, if it is one of ours: this machine by a name that no foreign
/// DNS server can give away (S15), or a configured name.
pub fn own_authority<'a>(fields: &'a Fields, hosts: &[HostName]) -> Option<&'a str> {
    let authority = fields.only(Name::Host).filter(|host| is_host(host))?;
    let name = std::str::from_utf8(host_name(authority)).ok()?;
    let own = name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        || hosts
            .iter()
            .any(|own| own.as_str().eq_ignore_ascii_case(name));
    let authority = std::str::from_utf8(authority).ok()?;
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|rest| !rest.ends_with(']'));
    (own && port.is_none_or(|port| port.parse::<u16>().is_ok())).then_some(authority)
}

/// Whether a page of another origin makes this request, as far as the browser says. A client
/// that is no browser says nothing, and holds a cookie that no page could have got for it.
pub fn is_foreign(fields: &Fields, own: &str) -> bool {
    fields
        .all(Name::Origin)
        .any(|origin| !names_origin(origin, own))
}

/// Whether a request to the own host of `port`, which the browser calls `own`, is another site's
/// doing. To a browser all hosts below one domain are one site, so that its cookies go along whoever
/// asks: where it says from where a request comes, that must be a page of the same session, or a
/// person who opens a link.
pub fn is_from_elsewhere(fields: &Fields, method: &[u8], own: &str, port: TargetPort) -> bool {
    let siblings = Siblings::of(own.as_bytes(), port);
    let is_home = |url: &[u8]| {
        authority_of(url).is_some_and(|authority| {
            authority.eq_ignore_ascii_case(own.as_bytes())
                || siblings.as_ref().is_some_and(|all| all.has(authority))
        })
    };
    if fields.has(Name::Origin) {
        return !fields.all(Name::Origin).all(is_home);
    }
    let says = |field, value: &[u8]| fields.spelt(field).any(|said| said == value);
    let crosses = fields
        .spelt(SEC_FETCH_SITE)
        .any(|site| ![&b"same-origin"[..], b"none"].contains(&site));
    let opens = method == b"GET" && says(SEC_FETCH_MODE, b"navigate");
    crosses && !opens && !fields.all(Name::Referer).any(is_home)
}

/// Whether a call that changes something comes from a page of ours, not from a foreign one, and
/// not from a dev server's either, whose path gives it away unless it takes care.
pub fn may_call_api(fields: &Fields, own: &str) -> bool {
    fields.spelt(API_FIELD).next() == Some(&b"1"[..])
        && !is_foreign(fields, own)
        && is_asked_at_home(fields)
}

/// Whether a form that signs in or out comes from a page of ours. A browser says where a form comes
/// from in one field or the other, and nobody else has a form to send.
pub fn may_send_form(fields: &Fields, own: &str) -> bool {
    let says = fields.has(Name::Origin) || fields.spelt(SEC_FETCH_SITE).next().is_some();
    says && !is_foreign(fields, own) && is_asked_at_home(fields)
}

/// Whether a page of another site has a browser read something of ours, for which it needs no cookie
/// of ours: a person who opens a link may.
pub fn is_read_elsewhere(fields: &Fields, method: &[u8]) -> bool {
    let says = |field, value: &[u8]| fields.spelt(field).any(|said| said == value);
    let opens =
        method == b"GET" && says(SEC_FETCH_MODE, b"navigate") && says(SEC_FETCH_DEST, b"document");
    let crosses = says(SEC_FETCH_SITE, b"cross-site") || says(SEC_FETCH_SITE, b"same-site");
    crosses && !opens
}

/// Whether neither a page of another origin asks, nor one of a dev server.
fn is_asked_at_home(fields: &Fields) -> bool {
    let from_dev_server = |referer: &[u8]| {
        Uri::try_from(referer).map_or(true, |uri| {
            ["/port", "/absport", "/code"]
                .iter()
                .any(|root| uri.path().starts_with(root))
        })
    };
    fields
        .spelt(SEC_FETCH_SITE)
        .all(|site| [&b"same-origin"[..], b"none"].contains(&site))
        && !fields.all(Name::Referer).any(from_dev_server)
}

/// `null`, the origin of a sandboxed page, names nobody.
fn names_origin(origin: &[u8], own: &str) -> bool {
    let authority = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(own.as_bytes()))
}

/// The host of a page, with its port.
fn authority_of(url: &[u8]) -> Option<&[u8]> {
    let rest = url
        .strip_prefix(b"http://")
        .or_else(|| url.strip_prefix(b"https://"))?;
    rest.split(|byte| b"/?".contains(byte)).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "127.0.0.1:8080";

    fn map(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push_spelt(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    // S15.
    #[test]
    fn only_names_of_this_machine_are_ours() {
        let hosts = ["apps.example.org".parse().unwrap()];
        let own = |lines: &[(&str, &str)]| own_authority(&map(lines), &hosts).map(str::to_owned);
        for host in [
            "localhost",
            "localhost:1",
            "LOCALHOST",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:1",
            "apps.example.org",
        ] {
            assert_eq!(own(&[("host", host)]).as_deref(), Some(host));
        }
        for host in [
            "evil.org",
            "127.0.0.1.evil.org",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "[::1]x:1",
            "::1",
            "a@localhost",
            "",
            "localhost:",
            "localhost:x",
            "localhost:65536",
            "localhost, evil.org",
        ] {
            assert_eq!(own(&[("host", host)]), None, "{host}");
        }
        assert_eq!(own(&[]), None);
        assert_eq!(own(&[("host", "localhost"), ("host", "localhost")]), None);
    }

    // S14.
    #[test]
    fn an_origin_must_be_exactly_ours() {
        assert!(!is_foreign(&map(&[]), OWN));
        assert!(!is_foreign(
            &map(&[("origin", "http://127.0.0.1:8080")]),
            OWN
        ));
        for origin in [
            "null",
            "http://127.0.0.1:8081",
            "http://127.0.0.1",
            "http://evil.org",
            "",
            "x://127.0.0.1:8080",
        ] {
            assert!(is_foreign(&map(&[("origin", origin)]), OWN), "{origin}");
        }
        let two = [
            ("origin", "http://127.0.0.1:8080"),
            ("origin", "http://evil.org"),
        ];
        assert!(is_foreign(&map(&two), OWN));
    }

    // S14, where cookies do not tell sites apart.
    #[test]
    fn a_dev_server_on_a_host_of_its_own_is_asked_by_its_session_alone() {
        let own = "5500--7.apps.example.org:1";
        let port = TargetPort::new(5500).unwrap();
        let elsewhere = |method: &[u8], lines: &[(&str, &str)]| {
            is_from_elsewhere(&map(lines), method, own, port)
        };
        let (sibling, cousin, front) = (
            "http://8000--7.apps.example.org:1",
            "http://5500--8.apps.example.org:1",
            "http://hpc.example.org:1",
        );
        let same_site = ("sec-fetch-site", "same-site");
        let opens = ("sec-fetch-mode", "navigate");
        for lines in [
            &[][..],
            &[("origin", "http://5500--7.apps.example.org:1")],
            &[("origin", sibling), same_site],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[same_site, opens],
            &[("sec-fetch-site", "cross-site"), opens],
            &[same_site, ("referer", &format!("{sibling}/a?b"))],
        ] {
            assert!(!elsewhere(b"GET", lines), "{lines:?}");
        }
        for lines in [
            &[("origin", cousin)][..],
            &[("origin", front)],
            &[("origin", "null")],
            &[("origin", sibling), ("origin", cousin)],
            &[same_site],
            &[("sec-fetch-site", "cross-site")],
            &[same_site, ("referer", cousin)],
            &[same_site, ("referer", &format!("{front}/?{sibling}/"))],
        ] {
            assert!(elsewhere(b"GET", lines), "{lines:?}");
        }
        assert!(elsewhere(b"POST", &[same_site, opens]));
    }

    // S11.
    #[test]
    fn a_call_needs_the_field_and_a_page_of_ours() {
        let calls = |fields: &[(&str, &str)]| {
            may_call_api(&map(&[&[("x-hpc-manager", "1")], fields].concat()), OWN)
        };
        assert!(calls(&[]));
        assert!(calls(&[
            ("origin", "http://127.0.0.1:8080"),
            ("sec-fetch-site", "same-origin"),
            ("referer", "http://127.0.0.1:8080/"),
        ]));
        assert!(!may_call_api(&map(&[]), OWN));
        assert!(!may_call_api(&map(&[("x-hpc-manager", "0")]), OWN));
        for field in [
            ("origin", "null"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "cross-site"),
            ("referer", "http://127.0.0.1:8080/port/5500/"),
            ("referer", "http://127.0.0.1:8080/absport/5500/"),
            ("referer", "http://127.0.0.1:8080/code/"),
        ] {
            assert!(!calls(&[field]), "{field:?}");
        }
    }

    // S14.
    #[test]
    fn a_form_is_sent_from_a_page_of_ours() {
        let may = |lines: &[(&str, &str)]| may_send_form(&map(lines), OWN);
        let (origin, same) = (
            ("origin", "http://127.0.0.1:8080"),
            ("sec-fetch-site", "same-origin"),
        );
        for lines in [
            &[origin][..],
            &[same],
            &[origin, same, ("referer", "http://127.0.0.1:8080/login")],
        ] {
            assert!(may(lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[("origin", "null"), same],
            &[("origin", "http://evil.org")],
            &[origin, ("sec-fetch-site", "cross-site")],
            &[
                origin,
                same,
                ("referer", "http://127.0.0.1:8080/port/5500/"),
            ],
        ] {
            assert!(!may(lines), "{lines:?}");
        }
    }

    // S14, where a front's cookie, and not ours, tells who it is.
    #[test]
    fn a_foreign_page_reads_nothing() {
        let elsewhere =
            |method: &[u8], lines: &[(&str, &str)]| is_read_elsewhere(&map(lines), method);
        let (cross, navigate, document) = (
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        );
        assert!(!elsewhere(b"GET", &[]));
        assert!(!elsewhere(b"GET", &[("sec-fetch-site", "same-origin")]));
        assert!(!elsewhere(b"GET", &[cross, navigate, document]));
        for lines in [
            &[cross][..],
            &[
                ("sec-fetch-site", "same-site"),
                ("sec-fetch-mode", "no-cors"),
            ],
            &[cross, navigate, ("sec-fetch-dest", "iframe")],
        ] {
            assert!(elsewhere(b"GET", lines), "{lines:?}");
        }
        assert!(elsewhere(b"POST", &[cross, navigate, document]));
    }
}
