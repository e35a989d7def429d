//! URLs in style sheets, as they come: `url(..)`, the string of an `@import`, and those of an
//! `image-set(..)` (<https://www.w3.org/TR/css-syntax-3/>). All else passes byte for byte.
//!
//! A URL with an escape in it stays: nobody writes the beginning of one so.

/// A URL longer than this is no address of a dev server; it passes as it is.
const LONGEST_URL_BYTES: usize = 8 * 1024;
/// What is looked back at: the longest name that matters, and what may stand before it.
const LOOK_BACK_BYTES: usize = 10;

/// A style sheet on its way.
#[derive(Debug, Default)]
pub(super) struct Css {
    state: State,
    /// What came and could not be passed on yet: the begin of a token.
    kept: Vec<u8>,
    /// The last bytes that were passed on, of which a name may be the end.
    before: Vec<u8>,
    /// Behind `@import`, up to its URL.
    imports: bool,
    /// How many parentheses are open since that of an `image-set(`; 0 outside.
    images: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    Comment,
    /// In a string that is no URL, or is too long for one.
    String(u8),
    /// In a string that is a URL; it is kept until its end.
    UrlString(u8),
    /// Behind `url(`.
    Url,
    /// In a URL that is too long.
    LongUrl,
}

/// What one token becomes: nothing where it stays.
pub(super) type Move<'a> = dyn FnMut(&[u8]) -> Option<Vec<u8>> + 'a;

impl Css {
    /// Passes more of a style sheet on.
    pub(super) fn feed(&mut self, text: &[u8], out: &mut Vec<u8>, url: &mut Move<'_>) {
        if self.kept.is_empty() {
            let used = self.run(text, false, out, url);
            self.kept.extend_from_slice(&text[used..]);
        } else {
            let mut kept = std::mem::take(&mut self.kept);
            kept.extend_from_slice(text);
            let used = self.run(&kept, false, out, url);
            kept.drain(..used);
            self.kept = kept;
        }
    }

    /// The style sheet has ended.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, url: &mut Move<'_>) {
        let kept = std::mem::take(&mut self.kept);
        let used = self.run(&kept, true, out, url);
        out.extend_from_slice(&kept[used..]);
        *self = Self::default();
    }

    /// A whole one.
    pub(super) fn whole(text: &[u8], url: &mut Move<'_>) -> Vec<u8> {
        let (mut css, mut out) = (Self::default(), Vec::with_capacity(text.len() + 64));
        css.feed(text, &mut out, url);
        css.end(&mut out, url);
        out
    }

    /// Passes on what is sure; returns how much that was.
    fn run(&mut self, text: &[u8], last: bool, out: &mut Vec<u8>, url: &mut Move<'_>) -> usize {
        let mut at = 0;
        loop {
            let from = at;
            let rest = &text[at..];
            let step = match self.state {
                State::Plain => self.plain(rest, last),
                State::Comment => comment(rest),
                State::String(quote) => string(rest, quote),
                State::UrlString(quote) => self.url_string(rest, quote, last, out, url),
                State::Url => self.url(rest, last, out, url),
                State::LongUrl => long_url(rest),
            };
            let (length, next, written) = match step {
                Step::Pass(length, next) => (length, next, false),
                Step::Written(length, next) => (length, next, true),
                Step::Wait(length) => {
                    self.pass(&rest[..length], out);
                    return at + length;
                }
            };
            at += length;
            if written {
                self.before.clear();
            } else {
                self.pass(&text[from..at], out);
            }
            self.state = next;
        }
    }

    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
        let fresh = &bytes[bytes.len().saturating_sub(LOOK_BACK_BYTES)..];
        self.before.extend_from_slice(fresh);
        let old = self.before.len().saturating_sub(LOOK_BACK_BYTES);
        self.before.drain(..old);
    }

    /// Up to the next token that matters.
    fn plain(&mut self, text: &[u8], last: bool) -> Step {
        for (at, byte) in text.iter().enumerate() {
            let rest = &text[at..];
            let next = match byte {
                b'"' | b'\'' if self.imports || self.images == 1 => {
                    self.imports = false;
                    State::UrlString(*byte)
                }
                b'"' | b'\'' => State::String(*byte),
                b'/' => match rest.get(1) {
                    Some(b'*') => return Step::Pass(at + 2, State::Comment),
                    None if !last => return Step::Wait(at),
                    _ => continue,
                },
                b'\\' => match rest.get(1) {
                    // What is escaped is no token.
                    Some(_) => return Step::Pass(at + 2, State::Plain),
                    None if !last => return Step::Wait(at),
                    None => continue,
                },
                b'(' => {
                    if self.images > 0 {
                        self.images += 1;
                    }
                    if self.is_called(&text[..at], b"url") {
                        self.imports = false;
                        State::Url
                    } else if self.is_called(&text[..at], b"image-set") && self.images == 0 {
                        self.images = 1;
                        State::Plain
                    } else {
                        continue;
                    }
                }
                b')' => {
                    self.images = self.images.saturating_sub(1);
                    continue;
                }
                b'@' => {
                    const IMPORT: &[u8] = b"@import";
                    let there = &rest[..rest.len().min(IMPORT.len())];
                    if !there.eq_ignore_ascii_case(&IMPORT[..there.len()]) {
                        continue;
                    }
                    if there.len() < IMPORT.len() || rest.len() == IMPORT.len() {
                        if last {
                            continue;
                        }
                        return Step::Wait(at);
                    }
                    if is_name(rest[IMPORT.len()]) {
                        continue;
                    }
                    self.imports = true;
                    return Step::Pass(at + IMPORT.len(), State::Plain);
                }
                b';' | b'{' | b'}' => {
                    (self.imports, self.images) = (false, 0);
                    continue;
                }
                _ => continue,
            };
            return Step::Pass(at + 1, next);
        }
        Step::Wait(text.len())
    }

    /// Whether the function that is called behind `text` has this name.
    fn is_called(&self, text: &[u8], name: &[u8]) -> bool {
        let wanted = name.len() + 1;
        let mut end = [b' '; LOOK_BACK_BYTES];
        let history = self
            .before
            .iter()
            .chain(text.iter().rev().take(wanted).rev());
        for byte in history {
            end.rotate_left(1);
            end[LOOK_BACK_BYTES - 1] = *byte;
        }
        let (before, called) = end.split_at(LOOK_BACK_BYTES - name.len());
        let apart = before
            .last()
            .is_none_or(|byte| !is_name(*byte) || (*byte == b'-' && name != b"url"));
        called.eq_ignore_ascii_case(name) && apart
    }

    fn url_string(
        &mut self,
        text: &[u8],
        quote: u8,
        last: bool,
        out: &mut Vec<u8>,
        url: &mut Move<'_>,
    ) -> Step {
        match string(text, quote) {
            // A line end breaks the string off, and it is none.
            Step::Pass(length, _) if text[length - 1] == quote && length <= LONGEST_URL_BYTES => {
                write(&text[..length - 1], out, url);
                out.push(quote);
                Step::Written(length, State::Plain)
            }
            Step::Pass(length, next) => Step::Pass(length, next),
            _ if text.len() > LONGEST_URL_BYTES || last => Step::Pass(0, State::String(quote)),
            _ => Step::Wait(0),
        }
    }

    fn url(&mut self, text: &[u8], last: bool, out: &mut Vec<u8>, url: &mut Move<'_>) -> Step {
        let space = text
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        match text.get(space) {
            Some(quote @ (b'"' | b'\'')) => Step::Pass(space + 1, State::UrlString(*quote)),
            Some(_) => match text
                .iter()
                .position(|byte| matches!(byte, b')' | b'\\' | b'"' | b'\'' | b'('))
            {
                Some(end) if text[end] == b')' && end <= LONGEST_URL_BYTES => {
                    let written = text[space..end].trim_ascii_end();
                    out.extend_from_slice(&text[..space]);
                    write(written, out, url);
                    out.extend_from_slice(&text[space + written.len()..end]);
                    Step::Written(end, State::Plain)
                }
                // It is none, or one with an escape.
                Some(_) => Step::Pass(0, State::LongUrl),
                None if text.len() > LONGEST_URL_BYTES || last => Step::Pass(0, State::LongUrl),
                None => Step::Wait(0),
            },
            None if last || space > LONGEST_URL_BYTES => Step::Pass(0, State::LongUrl),
            None => Step::Wait(0),
        }
    }
}

/// What a state makes of the bytes that are there.
enum Step {
    /// So many pass as they are, and another state follows.
    Pass(usize, State),
    /// So many were written in their new form.
    Written(usize, State),
    /// So many pass; more are needed to go on.
    Wait(usize),
}

fn write(written: &[u8], out: &mut Vec<u8>, url: &mut Move<'_>) {
    let moved = (!written.contains(&b'\\')).then(|| url(written)).flatten();
    out.extend_from_slice(moved.as_deref().unwrap_or(written));
}

fn comment(text: &[u8]) -> Step {
    match memchr::memmem::find(text, b"*/") {
        Some(end) => Step::Pass(end + 2, State::Plain),
        None => Step::Wait(text.len() - usize::from(text.ends_with(b"*"))),
    }
}

/// Up to the end of a string: its quote, or the line end that breaks it off.
fn string(text: &[u8], quote: u8) -> Step {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if text.len() == at + 1 => break,
            b'\\' => at += 2,
            b'\n' | 0x0c => return Step::Pass(at + 1, State::Plain),
            byte if *byte == quote => return Step::Pass(at + 1, State::Plain),
            _ => at += 1,
        }
    }
    Step::Wait(at.min(text.len()))
}

fn long_url(text: &[u8]) -> Step {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if text.len() == at + 1 => break,
            b'\\' => at += 2,
            b')' => return Step::Pass(at, State::Plain),
            _ => at += 1,
        }
    }
    Step::Wait(at.min(text.len()))
}

/// Whether a name may go on with this byte.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'\\') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moved(url: &[u8]) -> Option<Vec<u8>> {
        (url.starts_with(b"/") && !url.starts_with(b"/p/")).then(|| [b"/p", url].concat())
    }

    fn sheet(text: &str) -> String {
        String::from_utf8(Css::whole(text.as_bytes(), &mut moved)).unwrap()
    }

    #[test]
    fn urls_are_found_where_the_syntax_has_them() {
        for (before, after) in [
            ("a{b:url(/x)}", "a{b:url(/p/x)}"),
            ("a{b:URL( /x )}", "a{b:URL( /p/x )}"),
            (
                "a{b:url(\"/x\"), url('/y' )}",
                "a{b:url(\"/p/x\"), url('/p/y' )}",
            ),
            ("a{b:url(x), url(data:a/b)}", "a{b:url(x), url(data:a/b)}"),
            ("@import '/x';", "@import '/p/x';"),
            ("@import url(/x) screen;", "@import url(/p/x) screen;"),
            (
                "@IMPORT/**/\"/x\" layer(\"/y\");",
                "@IMPORT/**/\"/p/x\" layer(\"/y\");",
            ),
            (
                "@imports '/x'; @import; '/x'",
                "@imports '/x'; @import; '/x'",
            ),
            ("a{content:'url(/x)'}", "a{content:'url(/x)'}"),
            ("/* url(/x) */ a{b:url(/x)}", "/* url(/x) */ a{b:url(/p/x)}"),
            ("a{b:myurl(/x), my-url(/x)}", "a{b:myurl(/x), my-url(/x)}"),
            ("a{content:'\\'url(/x)'}", "a{content:'\\'url(/x)'}"),
            ("a{content:'x\n;b:url(/x)}", "a{content:'x\n;b:url(/p/x)}"),
            ("a{b:url(/x\\)y)}", "a{b:url(/x\\)y)}"),
            (
                "a{b:image-set('/x' 1x, '/y' type('/z') 2x) '/w'}",
                "a{b:image-set('/p/x' 1x, '/p/y' type('/z') 2x) '/w'}",
            ),
            (
                "a{b:-webkit-image-set(url(/x) 1x)}",
                "a{b:-webkit-image-set(url(/p/x) 1x)}",
            ),
            ("a{b:url(/x", "a{b:url(/x"),
            (
                "@namespace url(http://www.w3.org/2000/svg);",
                "@namespace url(http://www.w3.org/2000/svg);",
            ),
        ] {
            assert_eq!(sheet(before), after, "{before}");
        }
    }

    #[test]
    fn an_endless_url_is_not_kept() {
        let (mut css, mut out) = (Css::default(), Vec::new());
        css.feed(b"a{b:url(data:", &mut out, &mut moved);
        for _ in 0..100 {
            css.feed(&[b'x'; 1000], &mut out, &mut moved);
        }
        assert!(css.kept.len() < 10_000, "{}", css.kept.len());
        assert!(out.len() > 90_000);
        css.feed(b") url(/x)", &mut out, &mut moved);
        assert!(out.ends_with(b") url(/p/x)"));
    }

    proptest! {
        /// Where the pieces part makes no difference, and what was moved is not moved again.
        #[test]
        fn pieces_read_as_the_whole(
            words in prop::collection::vec(prop::sample::select(&[
                "url(", "URL(", "/x", ")", "'", "\"", "\\", "@import", " ", ";", "{", "}", "/*", "*/", "image-set(", "a", "-", "\n", "\u{e4}",
            ][..]), 0..40),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let text = words.concat().into_bytes();
            let whole = Css::whole(&text, &mut moved);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut css, mut out, mut from) = (Css::default(), Vec::new(), 0);
            for cut in cuts {
                css.feed(&text[from..cut], &mut out, &mut moved);
                from = cut;
            }
            css.end(&mut out, &mut moved);
            prop_assert_eq!(out.escape_ascii().to_string(), whole.escape_ascii().to_string());
            prop_assert_eq!(Css::whole(&whole, &mut moved), whole);
        }

        #[test]
        fn a_sheet_without_urls_of_ours_passes_as_it_is(text: Vec<u8>) {
            prop_assert_eq!(Css::whole(&text, &mut |_| None), text);
        }
    }
}
