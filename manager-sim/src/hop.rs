//! What travels on between a browser and a session's proxy: pure header surgery. Hop-by-hop fields
//! are the forwarder's business, prefixes the proxy's.

use std::net::IpAddr;

use hpc_proxy::headers::{
    X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PREFIX, X_FORWARDED_PROTO, strip_cookie,
    strip_forwarded,
};
use http::{HeaderMap, HeaderName, HeaderValue, header::SET_COOKIE, uri::Authority};

use crate::{auth::COOKIE, origin::API_HEADER};

/// Fields with which one dev server would act on the whole origin, which it shares (S13).
const ORIGIN_WIDE: [HeaderName; 5] = [
    HeaderName::from_static("alt-svc"),
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("public-key-pins"),
    HeaderName::from_static("service-worker-allowed"),
    HeaderName::from_static("strict-transport-security"),
];

/// Replaces what the client says about itself by what is known, and keeps our cookie from the
/// dev server (S12, S16).
pub fn outbound(
    headers: &mut HeaderMap,
    own: &Authority,
    peer: IpAddr,
    prefix: Option<&'static str>,
) {
    strip_forwarded(headers);
    strip_cookie(headers, COOKIE);
    headers.remove(API_HEADER);
    let text = |text: &str| HeaderValue::try_from(text).expect("an authority or address is plain");
    headers.insert(X_FORWARDED_HOST, text(own.as_str()));
    headers.insert(X_FORWARDED_FOR, text(&peer.to_string()));
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(prefix) = prefix {
        headers.insert(X_FORWARDED_PREFIX, HeaderValue::from_static(prefix));
    }
}

/// Removes what would reach beyond one dev server: its effects on the whole origin, and cookies
/// in our name.
pub fn inbound(headers: &mut HeaderMap) {
    for name in &ORIGIN_WIDE {
        headers.remove(name);
    }
    let is_ours = |cookie: &HeaderValue| {
        let name = cookie
            .as_bytes()
            .split(|byte| *byte == b'=')
            .next()
            .unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(COOKIE.as_bytes())
    };
    if headers.get_all(SET_COOKIE).iter().any(is_ours) {
        let kept: Vec<_> = headers
            .get_all(SET_COOKIE)
            .iter()
            .filter(|cookie| !is_ours(cookie))
            .cloned()
            .collect();
        headers.remove(SET_COOKIE);
        for cookie in kept {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S12 and S16.
    #[test]
    fn a_dev_server_hears_nothing_of_the_client_but_what_is_known() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("cookie", "a=1; hpc_manager=secret; b=2"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-prefix", "/evil"),
            ("x-hpc-proxy-token", "guess"),
            ("x-hpc-manager", "1"),
            ("forwarded", "for=6.6.6.6"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let own = Authority::from_static("localhost:8080");
        outbound(&mut headers, &own, "127.0.0.1".parse().unwrap(), None);
        let mut fields: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                ("cookie", "a=1; b=2"),
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-host", "localhost:8080"),
                ("x-forwarded-proto", "http"),
            ]
        );
    }

    // S12 and S13.
    #[test]
    fn a_dev_server_cannot_act_on_the_whole_origin() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", "hpc_manager=x; Path=/port/5500/"),
            ("set-cookie", "Hpc_Manager =x"),
            ("set-cookie", "a=hpc_manager"),
            ("clear-site-data", "\"cookies\""),
            ("service-worker-allowed", "/"),
            ("x-kept", "1"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        inbound(&mut headers);
        let left: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&("set-cookie", "a=hpc_manager")) && left.contains(&("x-kept", "1")));
    }
}
