//! Header surgery between two hops: what must not travel on, and what a proxy adds.
//!
//! Pure functions over a `HeaderMap`. Response fields that carry URLs are `rewrite`'s business.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Version,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

/// Fields of a single connection (RFC 9110 section 7.6.1), and the older names still met.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that a client cannot have removed by naming them in `Connection`.
const NOT_CONNECTION_OPTIONS: [HeaderName; 4] = [HOST, CONTENT_LENGTH, COOKIE, AUTHORIZATION];

/// The complete prefix under which a browser sees a dev server, as a manager states it.
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The `Host` that the browser asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme that the browser used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The addresses that a request came through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Removes every field that belongs to this connection alone (RFC 9110 section 7.6.1), those
/// that `Connection` names included. `TE: trailers` is kept, since both hops can carry trailers.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = elements(headers, &CONNECTION)
        .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
        .filter(|name| !NOT_CONNECTION_OPTIONS.contains(name))
        .filter(|name| {
            let name = name.as_str();
            !name.starts_with("x-forwarded-") && !name.starts_with("x-hpc-proxy-")
        })
        .collect();
    let takes_trailers =
        elements(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Whether this request asks for a WebSocket (RFC 6455 section 4.1): the only upgrade that is
/// passed on, so `h2c` never tunnels a second protocol past the checks.
pub fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && !has_body
        && elements(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"))
        && names_websocket(headers)
}

/// Whether `Upgrade` names the WebSocket protocol and no other.
pub fn names_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = elements(headers, &UPGRADE);
    protocols
        .next()
        .is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
        && protocols.next().is_none()
}

/// Puts the two fields of a WebSocket upgrade back after [`strip_hop_by_hop`].
pub fn set_websocket_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Removes every statement about earlier hops, for a request whose sender is not to be believed:
/// also spellings with `_`, which some servers read as `-`.
pub fn strip_forwarded(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str().replace('_', "-");
            ["x-forwarded-", "x-original-", "x-hpc-proxy-"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                || name == "x-real-ip"
        })
        .cloned()
        .collect();
    for name in claims.iter().chain([&FORWARDED]) {
        headers.remove(name);
    }
}

/// Removes the cookies called `name` from every `Cookie` field; the others stay byte for byte.
pub fn strip_cookie(headers: &mut HeaderMap, name: &str) {
    let fields: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    if !fields
        .iter()
        .any(|field| cookies(field).any(|pair| names_cookie(pair, name)))
    {
        return;
    }
    headers.remove(COOKIE);
    for field in fields {
        let kept: Vec<&[u8]> = cookies(&field)
            .filter(|pair| !names_cookie(pair, name))
            .collect();
        let rest = kept.join(&b';');
        let rest = rest.trim_ascii_start();
        if let Ok(value) = HeaderValue::from_bytes(rest)
            && !rest.is_empty()
        {
            headers.append(COOKIE, value);
        }
    }
}

/// The value of the first cookie called `name`.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(cookies)
        .find(|pair| names_cookie(pair, name))
        .map(|pair| &pair.trim_ascii()[name.len() + 1..])
}

fn cookies(field: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    field.as_bytes().split(|byte| *byte == b';')
}

fn names_cookie(pair: &[u8], name: &str) -> bool {
    pair.trim_ascii()
        .strip_prefix(name.as_bytes())
        .is_some_and(|rest| rest.starts_with(b"="))
}

/// The elements of a comma-separated field over all its lines, empty ones left out.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::try_from(*name).unwrap(),
                    HeaderValue::try_from(*value).unwrap(),
                )
            })
            .collect()
    }

    // Behaviours 33 to 36.
    #[test]
    fn connection_names_what_does_not_travel() {
        let mut headers = map(&[
            ("Connection", "close, X-Once ,,"),
            ("Connection", ""),
            (
                "connection",
                "Cookie, Host, content-length, authorization, X-Forwarded-For",
            ),
            ("X-Once", "1"),
            ("Keep-Alive", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Cookie", "a=1"),
            ("Host", "h"),
            ("Content-Length", "1"),
            ("Authorization", "Basic x"),
            ("X-Forwarded-For", "1.2.3.4"),
        ]);
        strip_hop_by_hop(&mut headers);
        let kept = map(&[
            ("Cookie", "a=1"),
            ("Host", "h"),
            ("Content-Length", "1"),
            ("Authorization", "Basic x"),
            ("X-Forwarded-For", "1.2.3.4"),
        ]);
        assert_eq!(headers, kept);
    }

    #[test]
    fn trailers_may_still_be_asked_for() {
        let mut headers = map(&[("TE", "gzip, trailers")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("TE", "trailers"), ("Connection", "te")]));
    }

    // Behaviour 37.
    #[test]
    fn order_and_duplicates_of_a_field_are_kept() {
        let mut headers = map(&[
            ("X-A", "1"),
            ("Connection", "close"),
            ("X-A", "2"),
            ("X-A", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(
            headers.get_all("x-a").iter().collect::<Vec<_>>(),
            ["1", "2", "1"]
        );
    }

    // Behaviours 117 and 118.
    #[test]
    fn only_a_proper_websocket_request_is_an_upgrade() {
        let request = |method: Method, version, connection, upgrade, length: Option<&str>| {
            let mut request = Request::builder()
                .method(method)
                .version(version)
                .header(CONNECTION, connection)
                .header(UPGRADE, upgrade);
            if let Some(length) = length {
                request = request.header(CONTENT_LENGTH, length);
            }
            asks_for_websocket(&request.body(()).unwrap())
        };
        let v11 = Version::HTTP_11;
        assert!(request(
            Method::GET,
            v11,
            "keep-alive, Upgrade",
            "WebSocket",
            None
        ));
        assert!(!request(Method::POST, v11, "upgrade", "websocket", None));
        assert!(!request(
            Method::GET,
            Version::HTTP_10,
            "upgrade",
            "websocket",
            None
        ));
        assert!(!request(Method::GET, v11, "keep-alive", "websocket", None));
        assert!(!request(Method::GET, v11, "upgrade", "h2c", None));
        assert!(!request(
            Method::GET,
            v11,
            "upgrade",
            "websocket, h2c",
            None
        ));
        assert!(!request(
            Method::GET,
            v11,
            "upgrade",
            "websocket",
            Some("5")
        ));
    }

    // S16 and behaviour 49.
    #[test]
    fn claims_about_earlier_hops_are_removed_in_any_spelling() {
        let mut headers = map(&[
            ("X-Forwarded-For", "a"),
            ("X_Forwarded_Proto", "b"),
            ("x-forwarded_host", "c"),
            ("Forwarded", "d"),
            ("X-Real-IP", "e"),
            ("X-Original-URL", "f"),
            ("X-Hpc-Proxy-Token", "g"),
            ("X-Kept", "h"),
        ]);
        strip_forwarded(&mut headers);
        assert_eq!(headers, map(&[("X-Kept", "h")]));
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
            let mut headers = map(&[("cookie", before)]);
            strip_cookie(&mut headers, "own");
            assert_eq!(
                headers.get(COOKIE).map(|value| value.to_str().unwrap()),
                after,
                "{before}"
            );
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers = map(&[("cookie", "a=1; own=x=y; b=2")]);
        assert_eq!(cookie(&headers, "own"), Some(&b"x=y"[..]));
        assert_eq!(cookie(&headers, "ow"), None);
    }

    proptest! {
        #[test]
        fn no_hop_by_hop_field_survives(
            fields in prop::collection::vec(("[a-c]|connection|te|upgrade|keep-alive|transfer-encoding|trailer|proxy-(connection|authenticate|authorization)", "[ -~]{0,12}|[a-c], ?[a-c]"), 0..12),
        ) {
            let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let before = map(&fields);
            let mut after = before.clone();
            strip_hop_by_hop(&mut after);
            for name in HOP_BY_HOP.iter().filter(|name| **name != TE && **name != CONNECTION) {
                prop_assert!(!after.contains_key(name));
            }
            prop_assert!(after.get(TE).is_none_or(|te| te == "trailers"));
            prop_assert!(after.get(CONNECTION).is_none_or(|connection| connection == "te"));
            for option in elements(&before, &CONNECTION).filter(|option| ["a", "b", "c"].contains(option)) {
                prop_assert!(!after.contains_key(option));
            }
        }

        #[test]
        fn other_cookies_stay_byte_for_byte(pairs in prop::collection::vec("[a-z]{1,4}=[!-:<-~]{0,6}", 1..6)) {
            let mut headers = map(&[("cookie", &format!("own=1; {}", pairs.join("; ")))]);
            strip_cookie(&mut headers, "own");
            let kept: Vec<_> = pairs.into_iter().filter(|pair| !pair.starts_with("own=")).collect();
            let rest = headers.get(COOKIE).map_or("", |value| value.to_str().unwrap());
            prop_assert_eq!(rest, kept.join("; "));
        }
    }
}
