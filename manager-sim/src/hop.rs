//! What travels on between a browser and a session's proxy: pure header surgery. Prefixes are the
//! proxy's business.

use hpc_proxy::{
    auth::Token,
    headers::{self, WEBSOCKET},
    http1::{
        fields::{Edit, Fields},
        name::Name,
    },
    rewrite::{ORIGIN_WIDE, climbs, cookie_name, is_plain_path},
    service::Peer,
};

use crate::{
    front::COOKIES,
    origin::{API_FIELD, PAGE_FIELD},
};

/// How a request came here.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// What the browser calls this manager.
    pub own: &'a str,
    /// How the browser speaks to it: `http` or `https`.
    pub scheme: &'static str,
    /// Who sent it.
    pub peer: Peer,
    /// Where the browser sees what it asks for, unless that is the path that the proxy is asked for;
    /// `/` for a port with a host of its own.
    pub prefix: Option<&'a str>,
    /// Whether it asks for a WebSocket.
    pub upgrades: bool,
    /// Where the page that is asked for lives.
    pub place: Place,
}

/// Where a dev server's page lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below a path of the manager's, and so at its origin.
    OurOrigin,
    /// At a host of its own.
    OwnHost,
}

/// Replaces what the client says about itself by what is known, keeps our cookie from the dev
/// server (S12, S16), and shows the proxy its token.
pub fn outbound(fields: &mut Fields, way: Way<'_>, token: &Token) {
    headers::strip_request_hop(fields);
    if way.upgrades {
        headers::set_upgrade(fields, WEBSOCKET);
    }
    headers::strip_claims(fields);
    for name in COOKIES {
        headers::strip_cookie(fields, name);
    }
    let is_ours = |spelling: &[u8]| {
        [API_FIELD, PAGE_FIELD]
            .iter()
            .any(|own| spelling.eq_ignore_ascii_case(own.as_bytes()))
    };
    fields.retain(|field| !is_ours(field.spelling));
    fields.push(Name::XForwardedHost, way.own.as_bytes());
    fields.push(Name::XForwardedFor, way.peer.to_string().as_bytes());
    fields.push(Name::XForwardedProto, way.scheme.as_bytes());
    if let Some(prefix) = way.prefix {
        fields.push(Name::XForwardedPrefix, prefix.as_bytes());
    }
    fields.push(Name::Token, token.reveal().as_bytes());
}

/// Removes what would reach beyond one dev server: its effects on the whole origin, and cookies
/// in our name.
pub fn inbound(fields: &mut Fields, place: Place) {
    if place == Place::OurOrigin && !is_isolated(fields) {
        fields.retain(|field| !field.spelling.eq_ignore_ascii_case(OPENER_POLICY));
    }
    fields.retain(|field| !ORIGIN_WIDE.contains(&field.name));
    fields.edit(Name::ServiceWorkerAllowed, |scope| {
        if is_below_a_port(scope) {
            Edit::Keep
        } else {
            Edit::Drop
        }
    });
    fields.edit(Name::SetCookie, |cookie| {
        let name = cookie_name(cookie);
        if COOKIES
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
        {
            Edit::Drop
        } else {
            Edit::Keep
        }
    });
}

const OPENER_POLICY: &[u8] = b"Cross-Origin-Opener-Policy";
const EMBEDDER_POLICY: &str = "Cross-Origin-Embedder-Policy";

/// Whether browsers set a page apart from the manager's, whatever it says about its openers. With the
/// manager's very policy and at its origin, a page would keep a handle on a window of the manager's (HTML, section
/// 7.1.3.1); with this value, which every browser with such policies knows, the policies differ.
fn is_isolated(fields: &Fields) -> bool {
    fields.spelt(EMBEDDER_POLICY).eq([&b"require-corp"[..]])
}

/// Whether a path, as a proxy confined it, stays below one dev server's.
fn is_below_a_port(path: &[u8]) -> bool {
    let port = path.strip_prefix(b"/port/").unwrap_or_default();
    let port = port.split(|byte| *byte == b'/').next().unwrap_or_default();
    is_plain_path(path) && !climbs(path) && !port.is_empty() && port.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push_spelt(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn lines(fields: &Fields) -> Vec<String> {
        let mut written = Vec::new();
        fields.write(&mut written);
        let written = String::from_utf8(written).unwrap();
        written.lines().map(str::to_owned).collect()
    }

    fn sent(lines_before: &[(&str, &str)], prefix: Option<&'static str>, upgrades: bool) -> String {
        let token = Token::parse("ab".repeat(32).as_bytes()).unwrap();
        let way = Way {
            own: "localhost:8080",
            scheme: "http",
            peer: Peer::Ip([127, 0, 0, 1].into()),
            prefix,
            upgrades,
            place: Place::OurOrigin,
        };
        let mut fields = fields(lines_before);
        outbound(&mut fields, way, &token);
        lines(&fields).join("\n").replace(&token.reveal(), "TOKEN")
    }

    // S12 and S16.
    #[test]
    fn a_dev_server_hears_nothing_of_the_client_but_what_is_known() {
        let before = [
            ("Host", "localhost:8080"),
            ("Connection", "X-Once, Cookie"),
            ("X-Once", "1"),
            (
                "Cookie",
                "a=1; hpc_manager=secret; __Host-hpc_manager=secret; hpc_manager_session=x; b=2",
            ),
            ("X-Forwarded-For", "6.6.6.6"),
            ("x_forwarded_host", "evil.example"),
            ("X-Forwarded-Prefix", "/evil"),
            ("X-Hpc-Proxy-Token", "guess"),
            ("x-hpc-manager", "1"),
            ("x-hpc-manager-page", "ab"),
            ("Forwarded", "for=6.6.6.6"),
        ];
        assert_eq!(
            sent(&before, None, false),
            "Host: localhost:8080\n\
             Cookie: a=1; b=2\n\
             X-Forwarded-Host: localhost:8080\n\
             X-Forwarded-For: 127.0.0.1\n\
             X-Forwarded-Proto: http\n\
             X-Hpc-Proxy-Token: TOKEN"
        );
    }

    #[test]
    fn an_upgrade_and_the_ides_own_place_are_told() {
        let told = sent(&[("Upgrade", "websocket")], Some("/code"), true);
        assert!(
            told.starts_with("Connection: Upgrade\nUpgrade: websocket\n"),
            "{told}"
        );
        assert!(told.contains("\nX-Forwarded-Prefix: /code\n"), "{told}");
        assert!(!sent(&[("Upgrade", "h2c")], None, false).contains("Upgrade"));
    }

    // S12 and S13.
    #[test]
    fn a_dev_server_cannot_act_on_the_whole_origin() {
        let mut answered = fields(&[
            ("Set-Cookie", "hpc_manager=x; Path=/port/5500/"),
            ("set-cookie", "Hpc_Manager =x"),
            ("set-cookie", "__Host-hpc_manager=x; Path=/; Secure"),
            ("set-cookie", "=hpc_manager=x; Path=/port/5500/"),
            ("set-cookie", "hpc_manager_session=x; Path=/"),
            ("set-cookie", " \thpc_manager\t=x"),
            ("set-cookie", "__host-HPC_manager=x; Secure"),
            ("set-cookie", "hpc_manager"),
            ("Set-Cookie", "a=hpc_manager"),
            ("Clear-Site-Data", "\"cookies\""),
            ("service-worker-allowed", "/"),
            ("X-Kept", "1"),
        ]);
        inbound(&mut answered, Place::OurOrigin);
        assert_eq!(lines(&answered), ["Set-Cookie: a=hpc_manager", "X-Kept: 1"]);
    }

    #[test]
    fn a_service_worker_stays_with_its_dev_server() {
        for (scope, stays) in [
            ("/port/5500/", true),
            ("/port/5500/a", true),
            ("/port/", false),
            ("/port/x/", false),
            ("/port/5500/../", false),
            ("/port/5500/%2e%2e/", false),
            ("/api/", false),
        ] {
            let mut answered = fields(&[("Service-Worker-Allowed", scope)]);
            inbound(&mut answered, Place::OurOrigin);
            assert_eq!(!lines(&answered).is_empty(), stays, "{scope}");
        }
    }

    // S11: a page that keeps a handle on the manager's window reads its key.
    #[test]
    fn no_page_at_our_origin_says_of_its_openers_what_the_manager_says() {
        let kept = |place, lines: &[(&str, &str)]| {
            let mut answered = fields(lines);
            inbound(&mut answered, place);
            answered
                .spelt("cross-origin-opener-policy")
                .next()
                .is_some()
        };
        let opener = ("cross-origin-Opener-policy", "same-origin");
        let embedder = |value| ("Cross-Origin-Embedder-Policy", value);
        for lines in [
            &[opener][..],
            &[opener, embedder("unsafe-none")],
            &[opener, embedder("credentialless")],
            &[opener, embedder("require-corp, x")],
            &[opener, embedder("require-corp"), embedder("require-corp")],
        ] {
            assert!(!kept(Place::OurOrigin, lines), "{lines:?}");
            assert!(kept(Place::OwnHost, lines), "{lines:?}");
        }
        let isolated = [opener, embedder("require-corp")];
        assert!(kept(Place::OurOrigin, &isolated));
    }
}
