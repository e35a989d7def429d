//! The URLs of one document: what each means, and what must be written instead.

use std::borrow::Cow;

use super::value::{Change, Said};
use crate::prefix::Prefixer;

/// What the URLs of a document are relative to.
#[derive(Clone, Debug)]
pub(super) struct Links {
    prefixer: Prefixer,
    /// The directory of the document as its server sees it, with a slash at both ends; nothing where all
    /// that is relative belongs to somebody else.
    directory: Option<String>,
    /// Whether a `<base>` has said so.
    based: bool,
}

impl Links {
    /// Those of the document at `target`, a path as its server sees it.
    pub(super) fn new(prefixer: Prefixer, target: &str) -> Self {
        Self {
            prefixer,
            directory: Some(directory(target)),
            based: false,
        }
    }

    pub(super) fn prefixer(&self) -> &Prefixer {
        &self.prefixer
    }

    /// A URL.
    pub(super) fn url<'a>(&self, written: &'a str) -> Cow<'a, str> {
        let text = written.trim_start_matches(|character| character <= ' ');
        match text.as_bytes().first() {
            None | Some(b'#' | b'?') => return Cow::Borrowed(written),
            Some(b'/' | b'\\') if self.directory.is_some() => {}
            _ if has_authority(text) => {}
            // `https:/x` is `/x` where the page came by `https`.
            _ if has_scheme(text) && self.directory.is_some() => {}
            _ => return self.clamped(written),
        }
        self.prefixer.url(written)
    }

    /// A list of URLs.
    pub(super) fn list(&self, written: &str) -> String {
        let moved: Vec<_> = written
            .split_ascii_whitespace()
            .map(|url| self.url(url))
            .collect();
        moved.join(" ")
    }

    /// Image candidates.
    pub(super) fn srcset<'a>(&self, written: &'a str) -> Cow<'a, str> {
        if self.directory.is_none() {
            return Cow::Borrowed(written);
        }
        self.prefixer.srcset(written)
    }

    /// The delay and the URL of a refresh
    /// (<https://html.spec.whatwg.org/#shared-declarative-refresh-steps>).
    pub(super) fn refresh(&self, written: &str) -> Option<String> {
        let at = written.to_ascii_lowercase().find("url")?;
        let rest = written[at + 3..]
            .trim_start()
            .strip_prefix('=')?
            .trim_start();
        let begin = written.len() - rest.len();
        let quote = rest
            .chars()
            .next()
            .filter(|first| matches!(first, '\'' | '"'));
        let (begin, url) = match quote {
            Some(quote) => (begin + 1, rest[1..].split(quote).next().unwrap_or_default()),
            None => (begin, rest),
        };
        match self.url(url) {
            Cow::Borrowed(_) => None,
            Cow::Owned(moved) => Some(format!(
                "{}{moved}{}",
                &written[..begin],
                &written[begin + url.len()..]
            )),
        }
    }

    /// The `href` of a `<base>`; the first one counts.
    pub(super) fn base<'a>(&mut self, written: &'a str) -> Cow<'a, str> {
        let moved = self.url(written);
        if !std::mem::replace(&mut self.based, true) {
            self.directory = self.meant(&moved);
        }
        moved
    }

    /// The directory that a base leads to, if it is this server's.
    fn meant(&self, moved: &str) -> Option<String> {
        let text = moved.trim_matches(|character| character <= ' ');
        if text.starts_with(['/', '\\']) && !has_authority(text) {
            let inside = text.strip_prefix(&self.prefixer.prefix)?;
            return inside.starts_with('/').then(|| directory(inside));
        }
        if has_authority(text) || has_scheme(text) {
            return None;
        }
        let own = self.directory.as_deref()?;
        let path = text.split(['?', '#']).next().unwrap_or_default();
        Some(directory(&resolve(own, path).0))
    }

    /// Whether a URL, as it was moved, leads to another origin.
    pub(super) fn is_foreign(&self, moved: &str) -> bool {
        let text = moved.trim_start_matches(|character| character <= ' ');
        has_authority(text) || has_scheme(text) || self.directory.is_none()
    }

    /// A relative URL that climbs above the root of its server stops there, and would not below a
    /// prefix.
    fn clamped<'a>(&self, written: &'a str) -> Cow<'a, str> {
        let climbs = written.contains("..") || written.contains("%2") || written.contains("%2E");
        let Some(directory) = self.directory.as_deref().filter(|_| climbs) else {
            return Cow::Borrowed(written);
        };
        let text = written.trim_matches(|character| character <= ' ');
        if has_scheme(text) {
            return Cow::Borrowed(written);
        }
        let (path, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
        match resolve(directory, path) {
            (resolved, true) => Cow::Owned(format!("{}{resolved}{rest}", self.prefixer.prefix)),
            (_, false) => Cow::Borrowed(written),
        }
    }

    /// How a value in markup has to be edited.
    pub(super) fn change(
        &self,
        raw: &[u8],
        quote: Option<u8>,
        edit: impl FnOnce(&Self, &str) -> Option<String>,
    ) -> Option<Change<'static>> {
        let said = Said::of(raw, quote);
        said.change(&edit(self, said.text())?)
    }

    /// The same for a single URL, without a second look at what most are: a path.
    pub(super) fn change_url(&self, raw: &[u8], quote: Option<u8>) -> Option<Change<'_>> {
        let prefix = self.prefixer.prefix.as_bytes();
        match raw {
            [] | [b'#' | b'?', ..] => return None,
            [b'/', rest @ ..]
                if self.directory.is_some() && is_simple(rest) && !raw.starts_with(prefix) =>
            {
                return Some(Change {
                    range: 0..0,
                    by: Cow::Borrowed(prefix),
                });
            }
            _ => {}
        }
        let said = Said::of(raw, quote);
        match self.url(said.text()) {
            Cow::Borrowed(_) => None,
            Cow::Owned(moved) => said.change(&moved),
        }
    }

    /// The same in a style, which knows no character references.
    pub(super) fn change_url_in_style(&self, raw: &[u8]) -> Option<Change<'_>> {
        if memchr::memchr(b'&', raw).is_none() {
            return self.change_url(raw, Some(b'"'));
        }
        let text = std::str::from_utf8(raw).ok()?;
        match self.url(text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(moved) => Some(Change {
                range: 0..raw.len(),
                by: Cow::Owned(moved.into_bytes()),
            }),
        }
    }
}

/// Whether the rest of a path from the root is one that a browser takes as it is: no other host, no
/// dots, and nothing to be resolved.
fn is_simple(rest: &[u8]) -> bool {
    const ODD: u8 = 1;
    const ODD_BEHIND_SLASH: u8 = 2;
    static KINDS: [u8; 256] = {
        let mut kinds = [0; 256];
        let mut byte = 0;
        while byte < kinds.len() {
            kinds[byte] = match byte as u8 {
                b'&' | b'\\' | 0..b' ' => ODD,
                b'.' | b'%' | b'/' => ODD_BEHIND_SLASH,
                _ => 0,
            };
            byte += 1;
        }
        kinds
    };
    let mut before = b'/';
    for byte in rest {
        let kind = KINDS[usize::from(*byte)];
        if kind == ODD || (kind == ODD_BEHIND_SLASH && before == b'/') {
            return false;
        }
        before = *byte;
    }
    true
}

/// The directory of a path from the root.
fn directory(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let end = path.rfind('/').map_or(0, |at| at + 1);
    let (resolved, _) = resolve("/", path[..end].trim_start_matches('/'));
    resolved
}

/// What `path` means below `directory`, and whether it tried to climb out of the root.
fn resolve(directory: &str, path: &str) -> (String, bool) {
    let mut parts: Vec<&str> = directory.split('/').skip(1).collect();
    parts.pop();
    let (mut climbed, mut last) = (false, "");
    let path = path.replace('\\', "/");
    let mut pieces = path.split('/').peekable();
    while let Some(piece) = pieces.next() {
        let is_last = pieces.peek().is_none();
        match piece.to_ascii_lowercase().replace("%2e", ".").as_str() {
            ".." => climbed |= parts.pop().is_none(),
            "." => {}
            _ if is_last => last = piece,
            _ => parts.push(piece),
        }
    }
    let mut resolved = String::from("/");
    for part in parts {
        resolved.push_str(part);
        resolved.push('/');
    }
    resolved.push_str(last);
    (resolved, climbed)
}

/// Whether a URL names a host.
fn has_authority(text: &str) -> bool {
    let rest = match scheme_length(text) {
        Some(length) => &text[length + 1..],
        None => text,
    };
    let mut slashes = rest
        .chars()
        .filter(|character| !matches!(character, '\t' | '\n' | '\r'));
    let mut slash = || matches!(slashes.next(), Some('/' | '\\'));
    slash() && slash()
}

fn has_scheme(text: &str) -> bool {
    scheme_length(text).is_some()
}

fn scheme_length(text: &str) -> Option<usize> {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_alphanumeric() && !b"+-.\t\r\n".contains(&byte))?;
    (end > 0 && text.as_bytes()[0].is_ascii_alphabetic() && text.as_bytes()[end] == b':')
        .then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(target: &str) -> Links {
        Links::new(Prefixer::example(), target)
    }

    #[test]
    fn a_scheme_without_a_host_is_the_pages_own() {
        let own = links("/");
        assert_eq!(own.url("https:/x"), "/port/5173/x");
        assert_eq!(own.url("http:/x"), "http:/x");
        assert_eq!(own.url("javascript:/x/"), "javascript:/x/");
        let mut foreign = links("/");
        foreign.base("https://cdn.example.org/lib/");
        assert_eq!(foreign.url("https:/x"), "https:/x");
    }

    #[test]
    fn what_climbs_above_the_root_stays_below_the_prefix() {
        for (target, written, moved) in [
            ("/a/b", "../x", "../x"),
            ("/a/b", "../../x?y#z", "/port/5173/x?y#z"),
            ("/", "../x", "/port/5173/x"),
            ("/", "./x", "./x"),
            ("/", "%2E%2e/x", "/port/5173/x"),
            ("/a/b/c", "../../../../x/../y", "/port/5173/y"),
            ("/a/", "..", ".."),
            ("/a/", "../..", "/port/5173/"),
            ("/a/", "x..y", "x..y"),
            ("/", "mailto:../..", "mailto:../.."),
        ] {
            assert_eq!(links(target).url(written), moved, "{target} {written}");
        }
    }

    #[test]
    fn a_base_says_what_is_relative_to_what() {
        let mut own = links("/");
        assert_eq!(own.base("/app/sub/"), "/port/5173/app/sub/");
        assert_eq!(own.url("../x"), "../x");
        assert_eq!(own.url("../../../x"), "/port/5173/x");
        assert_eq!(own.url("/x"), "/port/5173/x");
        assert_eq!(
            own.base("https://cdn.example.org/"),
            "https://cdn.example.org/"
        );
        assert_eq!(own.url("/x"), "/port/5173/x");
        let mut foreign = links("/");
        foreign.base("https://cdn.example.org/lib/");
        assert_eq!(foreign.url("/x"), "/x");
        assert_eq!(foreign.url("../../x"), "../../x");
        assert_eq!(foreign.url("http://localhost:5173/x"), "/port/5173/x");
        let mut relative = links("/a/b/c");
        relative.base("../");
        assert_eq!(relative.url("../x"), "../x");
        assert_eq!(relative.url("../../x"), "/port/5173/x");
    }

    #[test]
    fn a_path_is_moved_the_short_way_as_by_the_rule() {
        let links = links("/");
        for raw in [
            "/",
            "/x",
            "/x?y=/z",
            "/port/5173",
            "/port/5173/x",
            "/port/51730/x",
            "//host/x",
            "/../x",
            "/a/%2e./b",
            "/ä",
            "x",
            "#x",
            "",
        ] {
            let moved = links.url(raw);
            let changed = match links.change_url(raw.as_bytes(), None) {
                None => raw.to_owned(),
                Some(change) => {
                    let by = String::from_utf8(change.by.into_owned()).unwrap();
                    format!("{by}{}", &raw[change.range.end..])
                }
            };
            assert_eq!(changed, moved, "{raw}");
        }
    }
}
