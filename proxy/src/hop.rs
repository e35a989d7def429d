//! What a dev server is told about the way that a request came, and under which name it is
//! addressed: it shall find nothing but its own origin, `http://localhost:N`.

use std::{borrow::Cow, io::Write as _};

use crate::{
    headers,
    hostname::Siblings,
    http1::{
        fields::{Edit, Fields},
        name::Name,
    },
    rewrite::Prefix,
    route::TargetPort,
    service::Peer,
};

/// How a browser sees a dev server, as far as it is known.
#[derive(Debug)]
pub(crate) struct Hop {
    /// Nothing where the dev server sees the whole path itself.
    pub(crate) prefix: Option<Prefix>,
    /// The browser's own `Host`.
    pub(crate) host: Option<Vec<u8>>,
    /// The port at whose own host the browser is while it asks another for something.
    pub(crate) page: Option<TargetPort>,
    scheme: Cow<'static, [u8]>,
    chain: Vec<u8>,
}

impl Hop {
    /// The statements of a trusted sender are taken where there is exactly one of each (S16);
    /// otherwise it is as this hop itself saw it.
    pub(crate) fn describe(
        fields: &Fields,
        peer: Peer,
        trusted: bool,
        prefix: Option<Prefix>,
    ) -> Self {
        let stated = |name| fields.only(name).filter(|_| trusted).map(<[u8]>::to_vec);
        let prefix = prefix.map(|own| {
            fields
                .only(Name::XForwardedPrefix)
                .filter(|_| trusted)
                .and_then(|value| Prefix::parse(std::str::from_utf8(value).ok()?))
                .unwrap_or(own)
        });
        let mut chain = stated(Name::XForwardedFor).unwrap_or_default();
        if !chain.is_empty() {
            chain.extend_from_slice(b", ");
        }
        // A vector takes everything.
        let _ = write!(chain, "{peer}");
        let host = stated(Name::XForwardedHost);
        let host = host.or_else(|| fields.get(Name::Host).map(<[u8]>::to_vec));
        let page = host.as_deref().and_then(Siblings::port_of);
        Self {
            page: page.filter(|_| prefix.as_ref().is_some_and(Prefix::is_sibling)),
            prefix,
            host,
            scheme: stated(Name::XForwardedProto).map_or(Cow::Borrowed(b"http"), Cow::Owned),
            chain,
        }
    }

    /// Where the browser sees the user's other ports when it sees `port` at a host of its own.
    pub(crate) fn siblings(&self, port: Option<TargetPort>) -> Option<Siblings> {
        let on_own_host = self.prefix.as_ref().is_some_and(Prefix::is_root);
        let host = self.host.as_ref().filter(|_| on_own_host)?;
        Siblings::of(host, port?)
    }

    /// Whether the browser came by `https`.
    pub(crate) fn is_secure(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"https")
    }

    /// Replaces what the request says of its way by what is known, and moves it to the origin of
    /// the dev server, which calls itself `host`.
    pub(crate) fn state(&self, fields: &mut Fields, host: &str) {
        headers::strip_claims(fields);
        let is_moved = self.move_origin(fields, host);
        fields.set(Name::Host, host.as_bytes());
        if let Some(prefix) = self.prefix.as_ref().filter(|prefix| !prefix.is_root()) {
            fields.push(Name::XForwardedPrefix, prefix.as_str().as_bytes());
        }
        // Many servers hold `Origin` against this rather than against `Host`: code-server, Next.js, Rails.
        if let Some(host) = self.host.as_ref().filter(|_| !is_moved) {
            fields.push(Name::XForwardedHost, host);
        }
        fields.push(Name::XForwardedProto, &self.scheme);
        fields.push(Name::XForwardedFor, &self.chain);
    }

    /// `Origin` and `Referer` are moved if they name the front itself; a foreign one stays, so that
    /// the dev server's own check still refuses it (behaviour 119). On a port's own host they are that
    /// port's, whichever it asks: the other one decides, as it does on localhost. Whether `Origin` was
    /// moved.
    fn move_origin(&self, fields: &mut Fields, host: &str) -> bool {
        let Some(front) = &self.host else {
            return false;
        };
        if !fields.has(Name::Origin) && !fields.has(Name::Referer) {
            return false;
        }
        let of_front = |value: &[u8]| -> Option<usize> {
            let scheme_end = value.windows(3).position(|part| part == b"://")? + 3;
            let known = [&b"http://"[..], b"https://"].contains(&&value[..scheme_end]);
            let rest = &value[scheme_end..];
            let own = rest
                .get(..front.len())
                .is_some_and(|named| named.eq_ignore_ascii_case(front));
            let end = rest.get(front.len()).copied();
            (known && own && matches!(end, None | Some(b'/' | b'?')))
                .then_some(scheme_end + front.len())
        };
        let moved = format!("http://{host}").into_bytes();
        let page = self
            .page
            .map(|page| format!("http://localhost:{page}").into_bytes());
        let moved = page.as_ref().unwrap_or(&moved);
        let mut is_moved = false;
        fields.edit(Name::Origin, |value| match of_front(value) {
            Some(end) if end == value.len() => {
                is_moved = true;
                Edit::Replace(moved.clone())
            }
            _ => Edit::Keep,
        });
        fields.edit(Name::Referer, |value| {
            let Some(end) = of_front(value) else {
                return Edit::Keep;
            };
            let path = &value[end..];
            let inside = match &self.prefix {
                _ if page.is_some() => Some(path),
                None => Some(path),
                Some(prefix) => path.strip_prefix(prefix.as_str().as_bytes()),
            };
            // A page elsewhere on the front is another dev server's business.
            let inside = inside.filter(|rest| matches!(rest.first(), None | Some(b'/' | b'?')));
            let mut to = moved.clone();
            if !inside.is_some_and(|rest| rest.starts_with(b"/")) {
                to.push(b'/');
            }
            to.extend_from_slice(inside.unwrap_or_default());
            Edit::Replace(to)
        });
        is_moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(trusted: bool, lines: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push_spelt(name.as_bytes(), value.as_bytes());
        }
        let peer = Peer::Ip([10, 0, 0, 9].into());
        let own = Prefix::parse("/port/5500");
        Hop::describe(&fields, peer, trusted, own).state(&mut fields, "localhost:5500");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fields
            .iter()
            .map(|field| (text(field.spelling), text(field.value)))
            .collect()
    }

    fn value(told: &[(String, String)], name: &str) -> String {
        let found = told.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    // Behaviours 40, 43, 44 and S16.
    #[test]
    fn a_trusted_sender_is_believed_once() {
        let lines = [
            ("Host", "node01:40000"),
            ("X-Forwarded-For", "10.1.1.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "hpc.example.org"),
            ("X-Forwarded-Prefix", "/code"),
        ];
        let believed = told(true, &lines);
        for (name, said) in [
            ("Host", "localhost:5500"),
            ("X-Forwarded-For", "10.1.1.1, 10.0.0.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "hpc.example.org"),
            ("X-Forwarded-Prefix", "/code"),
        ] {
            assert_eq!(value(&believed, name), said);
        }
        let twice: Vec<_> = lines.iter().chain(&lines[1..]).copied().collect();
        for told in [told(false, &lines), told(true, &twice)] {
            assert_eq!(value(&told, "X-Forwarded-For"), "10.0.0.9");
            assert_eq!(value(&told, "X-Forwarded-Proto"), "http");
            assert_eq!(value(&told, "X-Forwarded-Host"), "node01:40000");
            assert_eq!(value(&told, "X-Forwarded-Prefix"), "/port/5500");
        }
    }

    // Behaviour 119.
    #[test]
    fn the_fronts_own_pages_become_the_dev_servers() {
        for (name, before, after) in [
            ("Origin", "http://front:1", "http://localhost:5500"),
            ("Origin", "https://FRONT:1", "http://localhost:5500"),
            ("Origin", "http://front", "http://front"),
            ("Origin", "http://front:12", "http://front:12"),
            ("Origin", "http://front:1/", "http://front:1/"),
            ("Origin", "null", "null"),
            ("Origin", "http://evil.example", "http://evil.example"),
            (
                "Referer",
                "http://front:1/port/5500/a?b",
                "http://localhost:5500/a?b",
            ),
            (
                "Referer",
                "http://front:1/port/5500",
                "http://localhost:5500/",
            ),
            (
                "Referer",
                "http://front:1/port/55001/a",
                "http://localhost:5500/",
            ),
            ("Referer", "http://front:1/", "http://localhost:5500/"),
            (
                "Referer",
                "https://evil.example/port/5500/",
                "https://evil.example/port/5500/",
            ),
        ] {
            let told = told(false, &[("Host", "front:1"), (name, before)]);
            assert_eq!(value(&told, name), after, "{before}");
        }
    }

    #[test]
    fn no_server_is_told_of_a_host_that_its_own_origin_is_not() {
        for (origin, host) in [
            ("http://front:1", ""),
            ("http://evil.example", "front:1"),
            ("null", "front:1"),
        ] {
            let told = told(false, &[("Host", "front:1"), ("Origin", origin)]);
            assert_eq!(value(&told, "X-Forwarded-Host"), host, "{origin}");
        }
    }
}
