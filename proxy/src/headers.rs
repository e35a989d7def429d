//! Header surgery between two hops: what must not travel on, and what a proxy adds.
//!
//! Pure functions over [`Fields`]. Response fields that carry URLs are `rewrite`'s business.

use crate::http1::{
    fields::{Edit, Field, Fields},
    framing::Framing,
    head::{RequestHead, Version},
    name::Name,
};

/// The protocol that every proxy passes on.
pub const WEBSOCKET: &str = "websocket";

/// Fields of a single connection (RFC 9110 section 7.6.1), and the older names still met.
fn is_hop_by_hop(name: Name) -> bool {
    matches!(
        name,
        Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::ProxyAuthenticate
            | Name::ProxyAuthorization
            | Name::Te
            | Name::Trailer
            | Name::TransferEncoding
            | Name::Upgrade
    )
}

/// Whether `Connection` cannot have a field removed by naming it (behaviour 35).
fn is_end_to_end(spelling: &[u8]) -> bool {
    matches!(
        Name::of(spelling),
        Name::Host | Name::ContentLength | Name::Cookie | Name::Authorization | Name::Via
    ) || begins_with(spelling, b"x-forwarded-")
        || begins_with(spelling, b"x-hpc-proxy-")
}

fn begins_with(spelling: &[u8], lowercase: &[u8]) -> bool {
    spelling.len() >= lowercase.len()
        && spelling
            .iter()
            .zip(lowercase)
            .all(|(byte, wanted)| *wanted == dash(byte.to_ascii_lowercase()))
}

/// Some servers read `_` in a name as `-`.
fn dash(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// Removes every field that belongs to this connection alone (RFC 9110 section 7.6.1), those
/// that `Connection` names included.
pub fn strip_hop_by_hop(fields: &mut Fields) {
    let usual = |option: &[u8]| {
        [&b"keep-alive"[..], b"close", b"upgrade", b"te"]
            .iter()
            .any(|usual| option.eq_ignore_ascii_case(usual))
    };
    let mut named: Vec<Vec<u8>> = fields
        .elements(Name::Connection)
        .filter(|option| !usual(option) && !is_end_to_end(option))
        .map(<[u8]>::to_ascii_lowercase)
        .collect();
    // Many names times many fields would be a lot.
    named.sort_unstable();
    fields.retain(|field| {
        let is_named = || {
            named
                .binary_search(&field.spelling.to_ascii_lowercase())
                .is_ok()
        };
        !is_hop_by_hop(field.name) && (named.is_empty() || !is_named())
    });
}

/// [`strip_hop_by_hop`] for a request. `TE: trailers` is kept, since both hops can carry trailers.
pub fn strip_request_hop(fields: &mut Fields) {
    let takes_trailers = fields
        .elements(Name::Te)
        .any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    strip_hop_by_hop(fields);
    if takes_trailers {
        fields.push(Name::Te, b"trailers");
        fields.push(Name::Connection, b"te");
    }
}

/// The protocol of `allowed` that this request asks to switch to, if it is a proper upgrade: an
/// HTTP/1.1 `GET` without a body that names one protocol (RFC 9110 section 7.8, RFC 6455 section
/// 4.1). Anything else is an ordinary request, so that `h2c` never tunnels past the checks.
pub fn asked_upgrade<'a>(
    head: &RequestHead,
    framing: Framing,
    allowed: &'a [impl AsRef<str>],
) -> Option<&'a str> {
    let proper = head.method() == b"GET"
        && head.version == Version::Http11
        && matches!(framing, Framing::None | Framing::Length(0))
        && head
            .fields
            .elements(Name::Connection)
            .any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    allowed
        .iter()
        .map(AsRef::as_ref)
        .find(|protocol| proper && names_upgrade(&head.fields, protocol))
}

/// Whether `Upgrade` names `protocol` and no other.
pub fn names_upgrade(fields: &Fields, protocol: &str) -> bool {
    let mut protocols = fields.elements(Name::Upgrade);
    protocols
        .next()
        .is_some_and(|named| named.eq_ignore_ascii_case(protocol.as_bytes()))
        && protocols.next().is_none()
}

/// Puts the two fields of an upgrade back after [`strip_hop_by_hop`].
pub fn set_upgrade(fields: &mut Fields, protocol: &str) {
    // The field that says so is replaced.
    fields.remove(Name::Te);
    fields.set(Name::Connection, b"Upgrade");
    fields.set(Name::Upgrade, protocol.as_bytes());
}

/// How the names of claims begin.
const CLAIMS: [&str; 6] = [
    "forwarded",
    "x-forwarded-",
    "x-hpc-proxy-",
    "x-hpcproxy-",
    "x-original-",
    "x-real-ip",
];

/// Whether a field claims something about earlier hops or is a secret between hops, in any
/// spelling (S16): what only a trusted sender may state, and nobody passes on.
pub fn is_claim(field: Field<'_>) -> bool {
    matches!(field.name, Name::Forwarded | Name::Token)
        || CLAIMS
            .iter()
            .any(|prefix| begins_with(field.spelling, prefix.as_bytes()))
}

/// Removes every [claim](is_claim).
pub fn strip_claims(fields: &mut Fields) {
    fields.retain(|field| !is_claim(field));
}

/// Removes the cookies called `name` from every `Cookie` field; the others stay byte for byte.
pub fn strip_cookie(fields: &mut Fields, name: &str) {
    fields.edit(Name::Cookie, |value| {
        if !cookies(value).any(|pair| names_cookie(pair, name)) {
            return Edit::Keep;
        }
        let kept: Vec<&[u8]> = cookies(value)
            .filter(|pair| !names_cookie(pair, name))
            .collect();
        let rest = kept.join(&b';');
        match rest.trim_ascii_start() {
            [] => Edit::Drop,
            rest => Edit::Replace(rest.to_vec()),
        }
    });
}

/// The values of all cookies called `name`: a browser may hold one for every path.
pub fn cookie<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .all(Name::Cookie)
        .flat_map(cookies)
        .filter(move |pair| names_cookie(pair, name))
        .map(move |pair| &pair.trim_ascii()[name.len() + 1..])
}

fn cookies(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';')
}

fn names_cookie(pair: &[u8], name: &str) -> bool {
    pair.trim_ascii()
        .strip_prefix(name.as_bytes())
        .is_some_and(|rest| rest.starts_with(b"="))
}

/// The pseudonym in `Via` (RFC 9110 section 7.6.3).
const VIA: &str = "hpc-proxy";
/// Turns of one request: more than any set-up has, and few enough to end a loop at once.
const LONGEST_CHAIN: usize = 3;

/// Notes this hop in `Via`; says whether the request has come through here too often (S21).
pub fn goes_in_circles(fields: &mut Fields) -> bool {
    let seen = fields
        .elements(Name::Via)
        .filter(|hop| {
            let mut words = hop.split(|byte| *byte == b' ');
            words
                .nth(1)
                .is_some_and(|name| name.eq_ignore_ascii_case(VIA.as_bytes()))
        })
        .count();
    if seen > LONGEST_CHAIN {
        return true;
    }
    fields.push(Name::Via, b"1.1 hpc-proxy");
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push_spelt(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn shown(fields: &Fields) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fields
            .iter()
            .map(|field| (text(field.spelling), text(field.value)))
            .collect()
    }

    // Behaviours 33 to 36.
    #[test]
    fn connection_names_what_does_not_travel() {
        let mut stripped = fields(&[
            ("Connection", "close, X-Once ,,"),
            ("Connection", ""),
            (
                "connection",
                "Cookie, Host, content-length, authorization, X-Forwarded-For",
            ),
            ("x-once", "1"),
            ("Keep-Alive", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Cookie", "a=1"),
            ("Host", "h"),
            ("Content-Length", "1"),
            ("Authorization", "Basic x"),
            ("X-Forwarded-For", "1.2.3.4"),
        ]);
        strip_hop_by_hop(&mut stripped);
        let kept = fields(&[
            ("Cookie", "a=1"),
            ("Host", "h"),
            ("Content-Length", "1"),
            ("Authorization", "Basic x"),
            ("X-Forwarded-For", "1.2.3.4"),
        ]);
        assert_eq!(shown(&stripped), shown(&kept));
    }

    #[test]
    fn trailers_may_still_be_asked_for() {
        let mut asked = fields(&[("TE", "gzip, trailers")]);
        strip_request_hop(&mut asked);
        assert_eq!(
            shown(&asked),
            shown(&fields(&[("TE", "trailers"), ("Connection", "te")]))
        );
    }

    // Behaviours 117 and 118.
    #[test]
    fn only_a_proper_request_for_an_allowed_protocol_is_an_upgrade() {
        let allowed = [WEBSOCKET.to_owned(), "tcp".to_owned()];
        let asked = |start: &str, lines: &str, framing| {
            let mut head = RequestHead::default();
            head.read(format!("{start}\r\n{lines}\r\n\r\n").as_bytes())
                .unwrap();
            asked_upgrade(&head, framing, &allowed)
        };
        let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket";
        assert_eq!(
            asked("GET / HTTP/1.1", upgrade, Framing::None),
            Some("websocket")
        );
        let other = "Connection: upgrade\r\nUpgrade: tcp";
        assert_eq!(asked("GET / HTTP/1.1", other, Framing::None), Some("tcp"));
        for (start, lines, framing) in [
            ("POST / HTTP/1.1", upgrade, Framing::None),
            ("GET / HTTP/1.0", upgrade, Framing::None),
            ("GET / HTTP/1.1", upgrade, Framing::Length(5)),
            ("GET / HTTP/1.1", upgrade, Framing::Chunked),
            ("GET / HTTP/1.1", "Upgrade: websocket", Framing::None),
            (
                "GET / HTTP/1.1",
                "Connection: upgrade\r\nUpgrade: h2c",
                Framing::None,
            ),
            (
                "GET / HTTP/1.1",
                "Connection: upgrade\r\nUpgrade: websocket, h2c",
                Framing::None,
            ),
        ] {
            assert_eq!(
                asked(start, lines, framing),
                None,
                "{start} {lines} {framing:?}"
            );
        }
    }

    // S16 and behaviour 49.
    #[test]
    fn claims_about_earlier_hops_are_removed_in_any_spelling() {
        let mut claimed = fields(&[
            ("X-Forwarded-For", "a"),
            ("X_Forwarded_Proto", "b"),
            ("x-forwarded_host", "c"),
            ("Forwarded", "d"),
            ("X-Real-IP", "e"),
            ("X-Original-URL", "f"),
            ("X-Hpc-Proxy-Token", "g"),
            ("x_hpc_proxy_token", "g"),
            ("X-HpcProxy-User", "g"),
            ("X-Kept", "h"),
        ]);
        strip_claims(&mut claimed);
        assert_eq!(shown(&claimed), shown(&fields(&[("X-Kept", "h")])));
    }

    // Behaviour 46.
    #[test]
    fn a_cookie_is_stripped_at_every_position() {
        for (before, after) in [
            ("own=1", None),
            ("own=1; a=2", Some("a=2")),
            ("a=2; own=1", Some("a=2")),
            ("a=2;own=1;b=\"3|%3B\"", Some("a=2;b=\"3|%3B\"")),
            ("a=2; own=1; own=2; b=3", Some("a=2; b=3")),
            ("a=own=1; owner=1", Some("a=own=1; owner=1")),
        ] {
            let mut sent = fields(&[("cookie", before)]);
            strip_cookie(&mut sent, "own");
            assert_eq!(sent.get(Name::Cookie), after.map(str::as_bytes), "{before}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let sent = fields(&[("cookie", "a=1; own=x=y; b=2")]);
        assert!(cookie(&sent, "own").eq([b"x=y"]));
        assert_eq!(cookie(&sent, "ow").count(), 0);
    }

    // S21.
    #[test]
    fn a_loop_ends_after_three_turns() {
        let mut sent = fields(&[("Via", "1.1 other, 1.1 hpc-proxy-like, HTTP/1.1 x hpc-proxy")]);
        for _ in 0..=LONGEST_CHAIN {
            assert!(!goes_in_circles(&mut sent));
        }
        assert!(goes_in_circles(&mut sent));
    }

    proptest! {
        #[test]
        fn no_hop_by_hop_field_survives(
            lines in prop::collection::vec(("[a-c]|connection|te|upgrade|keep-alive|transfer-encoding|trailer|proxy-(connection|authenticate|authorization)", "[ -~]{0,12}|[a-c], ?[a-c]"), 0..12),
        ) {
            let lines: Vec<_> = lines.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let before = fields(&lines);
            let mut after = before.clone();
            strip_request_hop(&mut after);
            for field in after.iter() {
                match field.name {
                    Name::Te => prop_assert_eq!(field.value, b"trailers"),
                    Name::Connection => prop_assert_eq!(field.value, b"te"),
                    name => prop_assert!(!is_hop_by_hop(name)),
                }
                let is_named = before.elements(Name::Connection).any(|option| option == field.spelling);
                prop_assert!(field.name != Name::Other || !is_named);
            }
        }

        #[test]
        fn other_cookies_stay_byte_for_byte(pairs in prop::collection::vec("[a-z]{1,4}=[!-:<-~]{0,6}", 1..6)) {
            let mut sent = fields(&[("cookie", &format!("own=1; {}", pairs.join("; ")))]);
            strip_cookie(&mut sent, "own");
            let kept: Vec<_> = pairs.into_iter().filter(|pair| !pair.starts_with("own=")).collect();
            let rest = sent.get(Name::Cookie).unwrap_or_default();
            prop_assert_eq!(rest, kept.join("; ").into_bytes());
        }
    }
}
