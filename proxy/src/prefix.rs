//! The one rule `prefix(url)`: what a dev server wrote, as the browser must ask for it.
//!
//! A dev server believes that it owns the whole origin, and that its neighbours are at
//! `localhost:P`. Below a prefix, or behind a name of its own, neither holds. The rule knows URLs and
//! lists of them, not the headers, markup and scripts they are found in. It is written twice: here for
//! what passes the proxy, and in `shim/shim.js` for the running page; `tests/prefix_corpus.json` and
//! random URLs hold the two together. URLs are read as the URL Standard (<https://url.spec.whatwg.org/>)
//! has a browser read them, on a page of the front; text that need not move stays as it was written.

use std::borrow::Cow;

mod host;
mod reference;
mod srcset;

use host::Host;
use reference::{Authority, Reference};

/// One dev server as its browser sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixer {
    /// The path of the server without a slash at its end, such as `/user/x/port/5173`; empty where it
    /// has a host name of its own.
    pub prefix: String,
    /// Where the user's other ports are.
    pub siblings: Siblings,
    /// The server's own target port; nothing for a Unix socket.
    pub port: Option<u16>,
    /// The authority by which the browser reaches the front, as its `Host` states it.
    pub front: String,
    /// Whether the browser came by `https`.
    pub secure: bool,
}

/// Where the browser finds the user's other ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Siblings {
    /// Port P is below this path and its number: `/user/x/port/`.
    Path(String),
    /// Port P has the authority `{before}P{after}`: `P--session.apps.example.org:8080`.
    Host {
        /// What stands before the number.
        before: String,
        /// What stands behind it, a port of the front included.
        after: String,
    },
}

/// Whose URL it is.
enum Owner {
    /// This server's.
    Own,
    /// That of the user's server on another port.
    Port(u16),
}

impl Prefixer {
    /// A URL as the browser must ask for it.
    ///
    /// This server's own root-absolute paths and URLs go below the prefix, those of `localhost:P` to
    /// port P. What is relative, foreign, of another scheme, or moved already stays.
    ///
    /// Two readings are open where a server's own paths look like ours. A path below the prefix counts as
    /// moved. One below `/port/` alone is the server's own; that of another port is told from it by
    /// its authority, with which it is always written.
    pub fn url<'a>(&self, written: &'a str) -> Cow<'a, str> {
        match self.moved(&reference::clean(written)) {
            Some(moved) => Cow::Owned(moved),
            None => Cow::Borrowed(written),
        }
    }

    /// A list of image candidates, `/a.png 1x, /b.png 2x`, with each URL moved.
    pub fn srcset<'a>(&self, written: &'a str) -> Cow<'a, str> {
        srcset::map(written, |url| self.url(url))
    }

    /// What a server may have written so that it became `moved`: for those who read URLs back.
    pub fn unprefix<'a>(&self, moved: &'a str) -> Cow<'a, str> {
        let text = reference::clean(moved);
        match self
            .unmoved(&text)
            .filter(|written| self.leads(written, &text))
        {
            Some(written) => Cow::Owned(written),
            None => Cow::Borrowed(moved),
        }
    }

    /// Whether one who writes `written` comes to `moved`. Where none does, there is nothing to read back.
    fn leads(&self, written: &str, moved: &str) -> bool {
        let path = |text: &str| {
            Reference::parse(text, self.secure).map(|reference| reference.path().into_owned())
        };
        self.moved(written)
            .is_some_and(|again| path(&again) == path(moved))
    }

    fn moved(&self, text: &str) -> Option<String> {
        let reference = Reference::parse(text, self.secure)?;
        let path = reference.path();
        let Some(authority) = &reference.authority else {
            return (!self.holds(&path)).then(|| format!("{}{path}", self.prefix));
        };
        let host = Host::parse(authority.host)?;
        if self.is_front(&host, authority) {
            let held = self.holds(&path);
            if !held && self.sibling_path(&path).is_none() {
                let path = format!("{}{path}", self.prefix);
                return Some(self.write(&reference, authority, &self.front, &path, true));
            }
            let safe = reference.secure.is_none_or(|secure| secure == self.secure);
            return (!safe).then(|| self.write(&reference, authority, &self.front, &path, held));
        }
        if self.sibling_host(&host, authority.port).is_some() {
            return None;
        }
        match self.owner(&host, authority, &reference)? {
            Owner::Own => {
                let path = format!("{}{path}", self.prefix);
                Some(self.write(&reference, authority, &self.front, &path, true))
            }
            Owner::Port(port) => Some(match &self.siblings {
                Siblings::Path(below) => {
                    let path = format!("{below}{port}{path}");
                    self.write(&reference, authority, &self.front, &path, false)
                }
                Siblings::Host { before, after } => {
                    let front = format!("{before}{port}{after}");
                    self.write(&reference, authority, &front, &path, false)
                }
            }),
        }
    }

    /// A URL of the front. A WebSocket needs its scheme, and must be as safe as the page; all else
    /// takes that of the page. `short` leaves the authority away where nothing is lost.
    fn write(
        &self,
        reference: &Reference<'_>,
        authority: &Authority<'_>,
        front: &str,
        path: &str,
        short: bool,
    ) -> String {
        let scheme = match (reference.socket, self.secure) {
            (false, _) => "",
            (true, false) => "ws:",
            (true, true) => "wss:",
        };
        let user = authority.user;
        // Without a prefix a path of two slashes would name another host.
        if short && scheme.is_empty() && user.is_empty() && !path.starts_with("//") {
            path.to_owned()
        } else {
            format!("{scheme}//{user}{front}{path}")
        }
    }

    /// Whether a path is below the prefix, where nothing is left to do.
    fn holds(&self, path: &str) -> bool {
        path.strip_prefix(&self.prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    }

    /// The port and the path there, of a path that leads to another port.
    fn sibling_path<'p>(&self, path: &'p str) -> Option<(u16, &'p str)> {
        let Siblings::Path(below) = &self.siblings else {
            return None;
        };
        let rest = path.strip_prefix(below.as_str())?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        Some((number(&rest[..end])?, &rest[end..]))
    }

    /// The port of a host name that leads to another port.
    fn sibling_host(&self, host: &Host, port: Option<u16>) -> Option<u16> {
        let Siblings::Host { before, after } = &self.siblings else {
            return None;
        };
        let mut named = host.to_string();
        if let Some(port) = port {
            named.push_str(&format!(":{port}"));
        }
        let rest = named.strip_prefix(before.as_str())?;
        number(rest.strip_suffix(after.as_str())?)
    }

    fn is_front(&self, host: &Host, authority: &Authority<'_>) -> bool {
        self.front().is_some_and(|(name, port)| {
            let usual = if self.secure { 443 } else { 80 };
            name == *host && port.filter(|port| *port != usual) == authority.port
        })
    }

    fn front(&self) -> Option<(Host, Option<u16>)> {
        let authority = Authority::parse(&self.front, None)?;
        Some((Host::parse(authority.host)?, authority.port))
    }

    /// Of a host that is not the front: whose server listens there.
    fn owner(
        &self,
        host: &Host,
        authority: &Authority<'_>,
        reference: &Reference<'_>,
    ) -> Option<Owner> {
        let (front, _) = self.front()?;
        if !host.is_loopback() && *host != front {
            return None;
        }
        let usual = if reference.secure.unwrap_or(self.secure) {
            443
        } else {
            80
        };
        if self.port == Some(authority.port.unwrap_or(usual)) {
            return Some(Owner::Own);
        }
        // Where the port goes without saying, it is the browser's own machine, or what else the front's
        // host serves: no user of a shared node listens on 80 or 443.
        authority.port.filter(|port| *port != 0).map(Owner::Port)
    }

    fn unmoved(&self, text: &str) -> Option<String> {
        let reference = Reference::parse(text, self.secure)?;
        let path = reference.path();
        let rooted = |rest: &str| {
            if rest.starts_with('/') {
                rest.to_owned()
            } else {
                format!("/{rest}")
            }
        };
        let own = || {
            let rest = path
                .strip_prefix(&self.prefix)
                .filter(|_| self.holds(&path))?;
            // A path of two slashes would name a host.
            (!self.prefix.is_empty() && !rest.starts_with("//")).then(|| rooted(rest))
        };
        let Some(authority) = &reference.authority else {
            return own();
        };
        let host = Host::parse(authority.host)?;
        let scheme = if reference.socket { "ws" } else { "http" };
        let user = authority.user;
        let beside =
            |port: u16, rest: &str| format!("{scheme}://{user}localhost:{port}{}", rooted(rest));
        if !self.is_front(&host, authority) {
            return Some(beside(self.sibling_host(&host, authority.port)?, &path));
        }
        if let Some(rest) = own() {
            let end = text.len() - reference.rest.len();
            return Some(format!("{}{rest}", &text[..end]));
        }
        let (port, rest) = self.sibling_path(&path)?;
        Some(beside(port, rest))
    }
}

/// A port as we write it: no sign, no zero in front.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
impl Prefixer {
    /// That of a server on port 5173 below a manager with TLS.
    pub(crate) fn example() -> Self {
        Self {
            prefix: "/port/5173".into(),
            siblings: Siblings::Path("/port/".into()),
            port: Some(5173),
            front: "hpc.example.org".into(),
            secure: true,
        }
    }
}

#[cfg(test)]
mod tests;
