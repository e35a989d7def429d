//! What a proxy does to fields, said once more in the plainest way.

use crate::model::{Lines, all, elements};

/// Fields of one hop (RFC 9110 section 7.6.1).
pub(crate) const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that no `Connection` removes.
const KEPT: [&str; 5] = ["host", "content-length", "cookie", "authorization", "via"];

/// How the names of fields begin that a client may not state.
const CLAIMS: [&str; 6] = [
    "forwarded",
    "x-forwarded-",
    "x-hpc-proxy-",
    "x-hpcproxy-",
    "x-original-",
    "x-real-ip",
];

/// The cookies of the proxy.
const COOKIES: [&str; 2] = ["__hpc_proxy", "__Host-__hpc_proxy"];

/// Whether a field called `name` in lowercase claims something of earlier hops, also where it is spelt
/// with `_`.
pub(crate) fn is_claim(name: &str) -> bool {
    let dashed = name.replace('_', "-");
    CLAIMS.iter().any(|claim| dashed.starts_with(claim))
}

/// `lines` without those of one hop, and without `others`.
pub(crate) fn end_to_end(lines: &Lines, others: &[&str]) -> Lines {
    let named = elements(lines, "connection");
    let travels = |name: &String| {
        let dashed = name.replace('_', "-");
        let kept = KEPT.contains(&name.as_str())
            || dashed.starts_with("x-forwarded-")
            || dashed.starts_with("x-hpc-proxy-");
        !HOP_BY_HOP.contains(&name.as_str())
            && !others.contains(&name.as_str())
            && (kept || !named.contains(name))
    };
    lines
        .iter()
        .filter(|(name, _)| travels(name))
        .cloned()
        .collect()
}

/// The cookies in `lines` but the proxy's own.
pub(crate) fn others_cookies(lines: &Lines) -> Vec<String> {
    let joined = all(lines, "cookie").join(";");
    let pairs = joined.split(';').map(|pair| pair.trim_matches([' ', '\t']));
    let own = |pair: &str| {
        COOKIES
            .iter()
            .any(|name| pair.split('=').next() == Some(name) && pair.contains('='))
    };
    pairs
        .filter(|pair| !pair.is_empty() && !own(pair))
        .map(str::to_owned)
        .collect()
}

/// Whether `some` are among `all`, in their order.
pub(crate) fn is_part(some: &Lines, all: &Lines) -> bool {
    let mut all = all.iter();
    some.iter().all(|line| all.any(|other| other == line))
}

/// Whether a trailer called `name` could frame, route or authenticate (RFC 9110 section 6.5.1).
pub(crate) fn must_not_trail(name: &str) -> bool {
    const NEVER: [&str; 12] = [
        "authorization",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "location",
        "set-cookie",
        "strict-transport-security",
        "origin",
    ];
    NEVER.contains(&name) || HOP_BY_HOP.contains(&name) || is_claim(name)
}
