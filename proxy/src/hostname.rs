//! Host names that stand for a port: `5500.localhost` at a proxy, `5500--7.apps.example.org` at a
//! manager of many sessions. Pure; who may ask there is not decided here.

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

use crate::{
    http1::target::{host_name, is_host},
    route::TargetPort,
};

/// Longest label of a name (RFC 1035 section 2.3.4).
const LONGEST_LABEL_BYTES: usize = 63;
/// Longest name, less a label and its dot in front.
const LONGEST_DOMAIN_BYTES: usize = 253 - LONGEST_LABEL_BYTES - 1;
/// Between a port and the session that it belongs to.
const SEPARATOR: &str = "--";

/// The domain below which ports have names of their own, in lowercase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(String);

/// Text is no domain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not a domain: labels of letters, digits and `-` with dots between them", .0.escape_debug())]
pub struct NotADomain(String);

impl FromStr for Domain {
    type Err = NotADomain;

    /// A name of labels (RFC 1123 section 2.1) that no address is spelt like.
    fn from_str(text: &str) -> Result<Self, NotADomain> {
        let name = text.to_ascii_lowercase();
        let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        let sound = name.len() <= LONGEST_DOMAIN_BYTES
            && name.split('.').all(is_label)
            && !name.rsplit('.').next().is_some_and(numeric);
        if sound {
            Ok(Self(name))
        } else {
            Err(NotADomain(text.to_owned()))
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Domain {
    /// The label in front of this domain in a `Host`, whatever it is.
    pub fn label<'a>(&self, host: &'a [u8]) -> Option<&'a str> {
        let name = std::str::from_utf8(host_name(host)).ok()?;
        let at = name.len().checked_sub(self.0.len() + 1)?;
        let (label, domain) = name.split_at_checked(at)?;
        let own = domain
            .strip_prefix('.')
            .is_some_and(|domain| domain.eq_ignore_ascii_case(&self.0));
        (own && is_host(host) && !label.contains('.')).then_some(label)
    }

    /// Whether a `Host` is this domain itself.
    pub fn is(&self, host: &[u8]) -> bool {
        is_host(host) && host_name(host).eq_ignore_ascii_case(self.0.as_bytes())
    }

    /// The name below this domain that stands for `name`.
    pub fn name(&self, name: &PortName) -> String {
        format!("{name}.{self}")
    }
}

/// What a label stands for: a port, of a session where there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortName {
    /// The port.
    pub port: TargetPort,
    /// The session's own label, in lowercase.
    pub session: Option<String>,
}

/// Text stands for no port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not `PORT` or `PORT--SESSION`", .0.escape_debug())]
pub struct NotAPortName(String);

impl FromStr for PortName {
    type Err = NotAPortName;

    fn from_str(text: &str) -> Result<Self, NotAPortName> {
        let bad = || NotAPortName(text.to_owned());
        let (port, session) = match text.split_once(SEPARATOR) {
            Some((port, session)) => (port, Some(session.to_ascii_lowercase())),
            None => (text, None),
        };
        let sound = text.len() <= LONGEST_LABEL_BYTES && session.as_deref().is_none_or(is_label);
        let port = port.parse().map_err(|_| bad())?;
        if sound {
            Ok(Self { port, session })
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.port.fmt(f)?;
        match &self.session {
            Some(session) => write!(f, "{SEPARATOR}{session}"),
            None => Ok(()),
        }
    }
}

/// Where a browser that sees one port under a host of its own sees the others: the same host with
/// another number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings {
    /// Behind the number, down to the browser's own port.
    pub after: String,
}

impl Siblings {
    /// Those of `port`, which a browser sees at `host`; nothing where that does not begin with the
    /// number.
    pub fn of(host: &[u8], port: TargetPort) -> Option<Self> {
        if Self::port_of(host) != Some(port) {
            return None;
        }
        let after = std::str::from_utf8(host).ok()?;
        Some(Self {
            after: after.strip_prefix(&port.to_string())?.to_owned(),
        })
    }

    /// The port whose own host `host` looks to be, if it does.
    pub fn port_of(host: &[u8]) -> Option<TargetPort> {
        let host = std::str::from_utf8(host_name(host))
            .ok()
            .filter(|_| is_host(host))?;
        let (label, _) = host.split_once('.')?;
        let name: PortName = label.parse().ok()?;
        host.parse::<IpAddr>().is_err().then_some(name.port)
    }

    /// The host under which a browser sees `port`.
    pub fn host(&self, port: TargetPort) -> String {
        format!("{port}{}", self.after)
    }

    /// Whether `host` is one of them.
    pub fn has(&self, host: &[u8]) -> bool {
        let number = std::str::from_utf8(host).ok().and_then(|host| {
            let at = host.len().checked_sub(self.after.len())?;
            let (number, after) = host.split_at_checked(at)?;
            after.eq_ignore_ascii_case(&self.after).then_some(number)
        });
        number.is_some_and(|number| number.parse::<TargetPort>().is_ok())
    }
}

/// The browser's own port in a `Host`, with its colon, or nothing.
pub fn port_of(host: &[u8]) -> &str {
    let host = std::str::from_utf8(host).unwrap_or_default();
    match host.rfind(':') {
        Some(at) if !host.ends_with(']') => &host[at..],
        _ => "",
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_LABEL_BYTES
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    fn port(number: u16) -> TargetPort {
        TargetPort::new(number).unwrap()
    }

    #[test]
    fn a_domain_is_a_name_and_no_address() {
        assert_eq!(domain("Apps.Example.org").to_string(), "apps.example.org");
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a-.b",
            "a_b",
            "a b",
            "a:1",
            "a/b",
            "*.a",
            "127.0.0.1",
            "[::1]",
            "ü",
            &"a".repeat(64),
            &["a"; 100].join("."),
        ] {
            assert!(text.parse::<Domain>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_label_stands_in_front_of_the_domain_alone() {
        let localhost = domain("localhost");
        for (host, label) in [
            ("5500.localhost", Some("5500")),
            ("5500.LOCALHOST:8080", Some("5500")),
            ("a--b.localhost:1", Some("a--b")),
            ("localhost", None),
            (".localhost", Some("")),
            ("5500.localhost.", None),
            ("5500.localhost.evil.org", None),
            ("5500xlocalhost", None),
            ("a.5500.localhost", None),
            ("5500.localhost:x", None),
            ("[::1]", None),
            ("", None),
        ] {
            assert_eq!(localhost.label(host.as_bytes()), label, "{host}");
        }
        assert!(localhost.is(b"LocalHost:1") && !localhost.is(b"a.localhost"));
    }

    #[test]
    fn a_port_name_is_plain() {
        for text in ["5500", "5500--7", "1--a-b", "65535--x--y"] {
            assert_eq!(text.parse::<PortName>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "0",
            "05500",
            "65536",
            "+1",
            "5500-7",
            "5500--",
            "5500---7",
            "5500--7-",
            "--7",
            "a--7",
            "5500--a_b",
            "5500--a.b",
            &format!("5500--{}", "a".repeat(60)),
        ] {
            assert!(text.parse::<PortName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_host_may_have_a_port() {
        for (host, port) in [("a:1", ":1"), ("a", ""), ("[::1]", ""), ("[::1]:80", ":80")] {
            assert_eq!(port_of(host.as_bytes()), port, "{host}");
        }
    }

    #[test]
    fn siblings_differ_by_their_number() {
        for (host, other) in [
            ("5500.localhost:41000", "35729.localhost:41000"),
            ("5500--7.apps.example.org", "35729--7.apps.example.org"),
        ] {
            let siblings = Siblings::of(host.as_bytes(), port(5500)).unwrap();
            assert_eq!(siblings.host(port(35729)), other);
            assert_eq!(Siblings::port_of(other.as_bytes()), Some(port(35729)));
            assert!(siblings.has(other.as_bytes()) && siblings.has(host.as_bytes()));
        }
        assert_eq!(Siblings::port_of(b"127.0.0.1:1"), None);
        let siblings = Siblings::of(b"5500--7.a.org:1", port(5500)).unwrap();
        for other in [
            "5501--8.a.org:1",
            "5501--7.a.org:2",
            "0--7.a.org:1",
            "x5501--7.a.org:1",
            "--7.a.org:1",
            "7.a.org:1",
        ] {
            assert!(!siblings.has(other.as_bytes()), "{other}");
        }
        for host in [
            "hpc.example.org",
            "127.0.0.1:1",
            "5500-a.b",
            "[::1]:1",
            "",
            "55001.a",
            "5500",
            "5500--a",
            "5500.a/b",
        ] {
            assert_ne!(
                Siblings::port_of(host.as_bytes()),
                Some(port(5500)),
                "{host}"
            );
            assert_eq!(Siblings::of(host.as_bytes(), port(5500)), None, "{host}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(host: Vec<u8>, text: String) {
            let localhost = domain("localhost");
            let _ = (localhost.label(&host), localhost.is(&host), port_of(&host));
            let _ = Siblings::port_of(&host);
            let _ = (text.parse::<Domain>(), text.parse::<PortName>());
            if let Some(siblings) = Siblings::of(&host, port(1)) {
                let _ = siblings.has(text.as_bytes());
            }
            let _ = Siblings::of(b"1.a", port(1)).unwrap().has(&host);
        }

        #[test]
        fn what_parses_is_spelled_back(label in "[0-9]{1,6}(--?[a-zA-Z0-9-]{0,8})?", at in "(:[0-9]{1,5})?") {
            let apps = domain("apps.example.org");
            if let Ok(name) = label.parse::<PortName>() {
                let host = apps.name(&name);
                prop_assert_eq!(&host, &format!("{}.apps.example.org", label.to_lowercase()));
                let host = host + &at;
                prop_assert_eq!(apps.label(host.as_bytes()), Some(&*label.to_lowercase()));
                let siblings = Siblings::of(host.as_bytes(), name.port).unwrap();
                prop_assert_eq!(siblings.host(name.port), host);
            }
        }
    }
}
