//! From which page a request comes: pure checks against foreign sites (cross-site requests,
//! hijacked WebSockets, rebound names) and against pages that are not the manager's own. Who the user is, is [`crate::auth`]'s business.

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

use crate::names::HostName;

/// A custom field: a foreign page cannot send it without asking first, and we never agree.
pub const API_FIELD: &str = "X-Hpc-Manager";
/// In which a script of the manager's own page shows its key.
pub const PAGE_FIELD: &str = "X-Hpc-Manager-Page";
const SEC_FETCH_SITE: &str = "Sec-Fetch-Site";
const SEC_FETCH_MODE: &str = "Sec-Fetch-Mode";
const SEC_FETCH_DEST: &str = "Sec-Fetch-Dest";
const SEC_PURPOSE: &str = "Sec-Purpose";

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

/// Whether a call that changes something says that it is one, and no page of another origin makes it.
/// A page of a dev server has our origin: what keeps that out is the key of [`crate::auth`]'s pages.
pub fn may_call_api(fields: &Fields, own: &str) -> bool {
    fields.spelt(API_FIELD).next() == Some(&b"1"[..]) && !is_foreign(fields, own)
}

/// Whether a form that signs in or out comes from a page of our origin, and is sent in a whole window
/// of its own, so that a person sees what comes of it. A browser says where a form comes from in one
/// field or the other, and nobody else has a form to send.
pub fn may_send_form(fields: &Fields, own: &str) -> bool {
    let says = fields.has(Name::Origin) || fields.spelt(SEC_FETCH_SITE).next().is_some();
    let at_home = |site: &[u8]| [&b"same-origin"[..], b"none"].contains(&site);
    says && !is_foreign(fields, own)
        && fields.spelt(SEC_FETCH_SITE).all(at_home)
        && asker(fields) != Asker::Script
}

/// Who has a browser ask (Fetch Metadata, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A window that opens a page.
    Window,
    /// A script, or a page that shows something of ours within itself.
    Script,
    /// The browser does not say, or it is none.
    Unsaid,
}

/// Who asks, as far as the browser says.
pub fn asker(fields: &Fields) -> Asker {
    let mut said = [SEC_FETCH_MODE, SEC_FETCH_DEST, SEC_FETCH_SITE]
        .into_iter()
        .flat_map(|field| fields.spelt(field));
    if said.next().is_none() {
        return Asker::Unsaid;
    }
    let is = |field, value: &[u8]| fields.spelt(field).eq([value]);
    // A page that is made ready unseen is none that a person has opened.
    let opens = is(SEC_FETCH_MODE, b"navigate") && is(SEC_FETCH_DEST, b"document");
    if opens && fields.spelt(SEC_PURPOSE).next().is_none() {
        Asker::Window
    } else {
        Asker::Script
    }
}

/// Whether a page, or a frame of one, goes to another address: so a browser comes to a port's own host.
pub fn navigates(fields: &Fields) -> bool {
    fields.spelt(SEC_FETCH_MODE).all(|mode| mode == b"navigate")
}

/// Whether it is a frame of a page on a sibling host that goes to another address.
pub fn is_frame_of_a_sibling(fields: &Fields) -> bool {
    let is = |field, value: &[u8]| fields.spelt(field).eq([value]);
    is(SEC_FETCH_SITE, b"same-site") && is(SEC_FETCH_MODE, b"navigate")
}

/// Whether a script of ours is to be run as a worker, which none is.
pub fn is_for_a_worker(fields: &Fields) -> bool {
    fields.spelt("Service-Worker").next().is_some()
        || fields
            .spelt(SEC_FETCH_DEST)
            .any(|dest| dest.ends_with(b"worker"))
}

/// The key that a script of our own page shows, if it shows one.
pub fn page_key(fields: &Fields) -> Option<&[u8]> {
    fields.spelt(PAGE_FIELD).next()
}

/// Whether browsers take what `own` serves for trustworthy (Secure Contexts, section 3.1), and so
/// say who asks, and part its windows from others.
pub fn is_trustworthy(scheme: &str, own: &str) -> bool {
    let name = std::str::from_utf8(host_name(own.as_bytes())).unwrap_or_default();
    scheme == "https"
        || name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Whether a page of another site has a browser ask for something of ours; only a person who opens a
/// link may. A cookie's `SameSite` does not see to it: to that, all ports of a host are one site.
pub fn is_read_elsewhere(fields: &Fields, method: &[u8]) -> bool {
    let says = |field, value: &[u8]| fields.spelt(field).any(|said| said == value);
    let opens =
        method == b"GET" && says(SEC_FETCH_MODE, b"navigate") && says(SEC_FETCH_DEST, b"document");
    let crosses = says(SEC_FETCH_SITE, b"cross-site") || says(SEC_FETCH_SITE, b"same-site");
    crosses && !opens
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
        for field in [("origin", "null"), ("origin", "http://127.0.0.1:8081")] {
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
        let (navigate, document) = (
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        );
        for lines in [
            &[origin][..],
            &[origin, same, navigate, document],
            &[same, navigate, document],
        ] {
            assert!(may(lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[("origin", "null"), same],
            &[("origin", "http://evil.org")],
            &[origin, ("sec-fetch-site", "cross-site")],
            &[origin, same, ("sec-fetch-mode", "cors")],
            &[origin, same, navigate, ("sec-fetch-dest", "iframe")],
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
    // S11.
    #[test]
    fn a_person_opens_a_page_in_a_window() {
        let (navigate, document) = (
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        );
        let asks = |lines: &[(&str, &str)]| asker(&map(lines));
        assert_eq!(asks(&[]), Asker::Unsaid);
        assert_eq!(asks(&[("accept", "text/html")]), Asker::Unsaid);
        for site in ["none", "same-origin", "cross-site"] {
            let site = ("sec-fetch-site", site);
            assert_eq!(asks(&[navigate, document, site]), Asker::Window);
        }
        for lines in [
            &[navigate][..],
            &[document],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
            &[("sec-fetch-mode", "same-origin"), document],
            &[navigate, ("sec-fetch-dest", "iframe")],
            &[navigate, ("sec-fetch-dest", "object")],
            &[navigate, document, document],
            &[navigate, document, ("sec-purpose", "prefetch;prerender")],
        ] {
            assert_eq!(asks(lines), Asker::Script, "{lines:?}");
        }
    }

    #[test]
    fn browsers_say_who_asks_at_trustworthy_hosts() {
        for own in ["localhost:1", "LOCALHOST", "127.0.0.2:80", "[::1]:80"] {
            assert!(is_trustworthy("http", own), "{own}");
        }
        assert!(is_trustworthy("https", "hpc.example.org"));
        for own in ["hpc.example.org", "localhost.example.org", "10.0.0.1:80"] {
            assert!(!is_trustworthy("http", own), "{own}");
        }
    }
}
