//! The manager's own address as browsers know it: what links, redirects and cookies are made of.

use std::{fmt, str::FromStr};

use hpc_proxy::{
    hostname::port_of,
    http1::target::{host_name, is_host},
};
use thiserror::Error;

/// `http://127.0.0.1:8080`, or the address of a front that has TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    secure: bool,
    authority: String,
}

/// Text is no address of a front.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not http:// or https:// and a host, with nothing behind it", .0.escape_debug())]
pub struct NotAFront(String);

impl FromStr for Front {
    type Err = NotAFront;

    fn from_str(text: &str) -> Result<Self, NotAFront> {
        let bare = text.strip_suffix('/').unwrap_or(text);
        let secure = bare.strip_prefix("https://");
        let authority = secure.or_else(|| bare.strip_prefix("http://"));
        match authority.filter(|authority| is_host(authority.as_bytes())) {
            Some(authority) => Ok(Self {
                secure: secure.is_some(),
                authority: authority.to_ascii_lowercase(),
            }),
            None => Err(NotAFront(text.to_owned())),
        }
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority)
    }
}

impl Front {
    /// The manager itself, without a front.
    pub fn plain(authority: String) -> Self {
        Self {
            secure: false,
            authority,
        }
    }

    /// The same where browsers reach it at another port, as through a forwarded one: `at` is theirs,
    /// with its colon, or empty.
    pub fn at(&self, at: &str) -> String {
        let authority = &self.authority;
        let bare = authority.len() - port_of(authority.as_bytes()).len();
        format!("{}://{}{at}", self.scheme(), &authority[..bare])
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Name or address, and the port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Its name or address, without brackets.
    pub fn host(&self) -> &str {
        std::str::from_utf8(host_name(self.authority.as_bytes())).unwrap_or_default()
    }

    /// The cookie by which a browser is known. Under TLS its name keeps it on its host (RFC 6265bis
    /// section 4.1.3.2): no page of another host can put one in its place.
    pub fn cookie_name(&self) -> &'static str {
        if self.secure { SECURE_COOKIE } else { COOKIE }
    }

    /// That cookie: for pages of ours and for requests by a person's own click; not for scripts.
    pub fn cookie(&self, secret: &str) -> String {
        self.a_cookie(self.cookie_name(), secret)
    }

    /// The cookie that holds which session serves the browser.
    pub fn choice_name(&self) -> &'static str {
        if self.secure { SECURE_CHOICE } else { CHOICE }
    }

    /// That cookie: no secret, and no use without the other.
    pub fn choice(&self, session: &str) -> String {
        self.a_cookie(self.choice_name(), session)
    }

    fn a_cookie(&self, name: &str, value: &str) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{name}={value}; HttpOnly; SameSite=Lax; Path=/{secure}")
    }

    /// What takes that cookie away again.
    pub fn no_cookie(&self) -> String {
        format!("{}; Max-Age=0", self.cookie(""))
    }
}

/// The cookie of a signed-in browser, and that of its choice among sessions. They never reach a dev server.
const COOKIE: &str = "hpc_manager";
const SECURE_COOKIE: &str = "__Host-hpc_manager";
const CHOICE: &str = "hpc_manager_session";
const SECURE_CHOICE: &str = "__Host-hpc_manager_session";
/// All names of those cookies.
pub const COOKIES: [&str; 4] = [COOKIE, SECURE_COOKIE, CHOICE, SECURE_CHOICE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_is_a_scheme_and_a_host() {
        for (text, shown, host) in [
            (
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080",
                "127.0.0.1",
            ),
            (
                "https://HPC.example.org/",
                "https://hpc.example.org",
                "hpc.example.org",
            ),
            ("http://[::1]:1", "http://[::1]:1", "::1"),
        ] {
            let front: Front = text.parse().unwrap();
            assert_eq!((front.to_string().as_str(), front.host()), (shown, host));
            assert!(front.at(":9").ends_with(":9") && front.at(":9").contains(host));
        }
        for text in [
            "",
            "hpc.example.org",
            "https://",
            "ftp://a",
            "https://a/b",
            "https://u@a",
            "https://a//",
            "https://a?b",
        ] {
            assert!(text.parse::<Front>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cookie_under_tls_is_kept_on_its_host() {
        let front: Front = "https://a".parse().unwrap();
        assert_eq!(
            front.cookie("x"),
            "__Host-hpc_manager=x; HttpOnly; SameSite=Lax; Path=/; Secure"
        );
        let plain = Front::plain("a".into());
        assert_eq!(
            plain.cookie("x"),
            "hpc_manager=x; HttpOnly; SameSite=Lax; Path=/"
        );
        assert!(COOKIES.contains(&front.cookie_name()) && COOKIES.contains(&plain.cookie_name()));
    }
}
