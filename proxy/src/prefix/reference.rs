//! A URL taken apart as a browser does on a page of `http` or `https`, as far as it matters whose it
//! is: <https://url.spec.whatwg.org/#url-parsing>.

use std::borrow::Cow;

/// What is not relative to the directory of the page, and of one of the schemes that lead to servers.
#[derive(Debug)]
pub(super) struct Reference<'a> {
    /// `ws` or `wss`.
    pub(super) socket: bool,
    /// Whether the scheme is a safe one; nothing where it is the page's own.
    pub(super) secure: Option<bool>,
    /// Nothing where it is the page's own.
    pub(super) authority: Option<Authority<'a>>,
    /// Path, query and fragment, as written.
    pub(super) rest: &'a str,
}

#[derive(Debug)]
pub(super) struct Authority<'a> {
    /// User, password and the `@`; or empty.
    pub(super) user: &'a str,
    pub(super) host: &'a str,
    /// Nothing for the scheme's usual one.
    pub(super) port: Option<u16>,
}

/// The text of which a browser makes a URL: without control characters and spaces around it, without
/// tabs and line breaks inside.
pub(super) fn clean(written: &str) -> Cow<'_, str> {
    let text = written.trim_matches(|character| character <= ' ');
    if text.contains(['\t', '\n', '\r']) {
        Cow::Owned(text.replace(['\t', '\n', '\r'], ""))
    } else {
        Cow::Borrowed(text)
    }
}

impl<'a> Reference<'a> {
    pub(super) fn parse(text: &'a str, secure_page: bool) -> Option<Self> {
        let (scheme, rest) = split_scheme(text);
        let (socket, secure) = match scheme.map(str::to_ascii_lowercase).as_deref() {
            None => (false, None),
            Some("http") => (false, Some(false)),
            Some("https") => (false, Some(true)),
            Some("ws") => (true, Some(false)),
            Some("wss") => (true, Some(true)),
            Some(_) => return None,
        };
        let after = rest.trim_start_matches(['/', '\\']);
        // The page's own scheme without two slashes is as good as none: `http:/x` is a path.
        let of_page = !socket && secure.is_none_or(|secure| secure == secure_page);
        match rest.len() - after.len() {
            0 if of_page => None,
            1 if of_page => Some(Self {
                socket,
                secure: None,
                authority: None,
                rest,
            }),
            _ => {
                let end = after.find(['/', '\\', '?', '#']).unwrap_or(after.len());
                let usual = if secure.unwrap_or(secure_page) {
                    443
                } else {
                    80
                };
                let authority = Authority::parse(&after[..end], Some(usual))?;
                Some(Self {
                    socket,
                    secure,
                    authority: Some(authority),
                    rest: &after[end..],
                })
            }
        }
    }

    /// The path from the root, with query and fragment, and with `.` and `..` gone: below a
    /// prefix they would climb out, where a server's root holds them.
    pub(super) fn path(&self) -> Cow<'a, str> {
        let end = self.rest.find(['?', '#']).unwrap_or(self.rest.len());
        let (path, query) = self.rest.split_at(end);
        let slashed = if path.contains('\\') {
            Cow::Owned(path.replace('\\', "/"))
        } else {
            Cow::Borrowed(path)
        };
        if slashed.is_empty() {
            return Cow::Owned(format!("/{query}"));
        }
        if slashed.split('/').any(|part| dots(part) > 0) {
            return Cow::Owned(format!("{}{query}", without_dots(&slashed)));
        }
        match slashed {
            Cow::Borrowed(_) => Cow::Borrowed(self.rest),
            Cow::Owned(path) => Cow::Owned(path + query),
        }
    }
}

impl<'a> Authority<'a> {
    /// `usual` is the port that goes without saying.
    pub(super) fn parse(text: &'a str, usual: Option<u16>) -> Option<Self> {
        let (user, named) = text.split_at(text.rfind('@').map_or(0, |at| at + 1));
        let colon = named.rfind(':').filter(|at| !named[*at..].contains(']'));
        let (host, port) = named.split_at(colon.unwrap_or(named.len()));
        let digits = port.strip_prefix(':').unwrap_or_default();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = match digits {
            "" => None,
            digits => Some(digits.parse().ok()?),
        };
        Some(Self {
            user,
            host,
            port: port.filter(|port| Some(*port) != usual),
        })
    }
}

/// The scheme, if there is one, and what follows its colon.
fn split_scheme(text: &str) -> (Option<&str>, &str) {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let end = text
        .bytes()
        .position(|byte| !is_part(byte))
        .unwrap_or(text.len());
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic());
    if starts && text[end..].starts_with(':') {
        (Some(&text[..end]), &text[end + 1..])
    } else {
        (None, text)
    }
}

/// How many levels a part of a path leads up, itself included: 1 for `.`, 2 for `..`, 0 for a name.
fn dots(part: &str) -> usize {
    // Each dot may be written as `%2e`.
    if part.len() > 6 || !part.starts_with(['.', '%']) {
        return 0;
    }
    match part.to_ascii_lowercase().replace("%2e", ".").as_str() {
        "." => 1,
        ".." => 2,
        _ => 0,
    }
}

fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut parts = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(part) = parts.next() {
        let levels = dots(part);
        if levels == 2 {
            kept.pop();
        }
        if levels == 0 {
            kept.push(part);
        } else if parts.peek().is_none() {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}
