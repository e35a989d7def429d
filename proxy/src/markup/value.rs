//! The value of one attribute: what it says once its character references are resolved, and how the
//! part of it that changes is written back. All else stays byte for byte.

use std::{borrow::Cow, ops::Range};

/// What becomes of a value: the bytes `range` of it are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change<'a> {
    pub(super) range: Range<usize>,
    pub(super) by: Cow<'a, [u8]>,
}

/// Stands for a `&` that begins no reference that is resolved here: it goes back as it came. No text
/// that is read byte by byte has it.
const LITERAL: char = '\u{f8ff}';

/// A value as it stands in the tag, and what it says.
pub(super) struct Said<'a> {
    raw: &'a [u8],
    /// What stands around it, if anything does.
    quote: Option<u8>,
    text: Cow<'a, str>,
    /// Where in `raw` each character of `text` began; nothing where they are the same bytes.
    places: Option<Vec<usize>>,
}

impl<'a> Said<'a> {
    /// Text of any charset is read: bytes that are not UTF-8 stand for one character each, here and back
    /// again. What is looked for and added is ASCII.
    pub(super) fn of(raw: &'a [u8], quote: Option<u8>) -> Self {
        let plain = memchr::memchr(b'&', raw).is_none();
        if plain && let Ok(text) = std::str::from_utf8(raw) {
            return Self {
                raw,
                quote,
                text: Cow::Borrowed(text),
                places: None,
            };
        }
        let (mut text, mut places, mut at) = (String::with_capacity(raw.len()), Vec::new(), 0);
        while at < raw.len() {
            let literal = match raw[at] {
                b'&' => LITERAL,
                byte => char::from(byte),
            };
            let (character, length) = reference(&raw[at..]).unwrap_or((literal, 1));
            text.push(character);
            places.push(at);
            at += length;
        }
        Self {
            raw,
            quote,
            text: Cow::Owned(text),
            places: Some(places),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// How the value has to be edited to say `new`. What both have at the end stays as it is written.
    pub(super) fn change(&self, new: &str) -> Option<Change<'static>> {
        if new == self.text {
            return None;
        }
        let mut characters = 0;
        let (mut olds, mut news) = (self.text.chars().rev(), new.chars().rev());
        let mut same = 0;
        while let (Some(old), Some(new)) = (olds.next(), news.next())
            && old == new
        {
            characters += 1;
            same += old.len_utf8();
        }
        let end = match &self.places {
            None => self.raw.len() - same,
            Some(places) => {
                let index = places.len() - characters;
                places.get(index).copied().unwrap_or(self.raw.len())
            }
        };
        let mut by = Vec::with_capacity(new.len() - same);
        for character in new[..new.len() - same].chars() {
            match character {
                LITERAL if self.places.is_some() => by.push(b'&'),
                '&' => by.extend_from_slice(b"&amp;"),
                // XML has none in a value.
                '<' => by.extend_from_slice(b"&lt;"),
                mark if u32::from(mark) < 128 && self.would_end(mark as u8) => {
                    by.extend_from_slice(format!("&#{};", u32::from(mark)).as_bytes());
                }
                // One byte, where the text was read byte by byte.
                other if self.places.is_some() && u32::from(other) < 256 => by.push(other as u8),
                other => by.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Some(Change {
            range: 0..end,
            by: Cow::Owned(by),
        })
    }

    /// Whether a value that is written so would end with this byte, or not be one.
    fn would_end(&self, byte: u8) -> bool {
        match self.quote {
            Some(quote) => byte == quote,
            None => byte.is_ascii_whitespace() || b"\"'<>=`".contains(&byte),
        }
    }
}

/// The character reference at the start of `raw`, and its length: those of the ASCII characters of which
/// a URL's beginning, or a style's syntax, can be made (<https://html.spec.whatwg.org/#character-reference-state>).
fn reference(raw: &[u8]) -> Option<(char, usize)> {
    const NAMED: [(&[u8], char); 28] = [
        (b"amp;", '&'),
        (b"apos;", '\''),
        (b"ast;", '*'),
        (b"bsol;", '\\'),
        (b"colon;", ':'),
        (b"comma;", ','),
        (b"commat;", '@'),
        (b"dollar;", '$'),
        (b"equals;", '='),
        (b"excl;", '!'),
        (b"gt;", '>'),
        (b"lbrack;", '['),
        (b"lowbar;", '_'),
        (b"lpar;", '('),
        (b"lsqb;", '['),
        (b"lt;", '<'),
        (b"num;", '#'),
        (b"percnt;", '%'),
        (b"period;", '.'),
        (b"plus;", '+'),
        (b"quest;", '?'),
        (b"quot;", '"'),
        (b"rbrack;", ']'),
        (b"rpar;", ')'),
        (b"rsqb;", ']'),
        (b"semi;", ';'),
        (b"sol;", '/'),
        (b"Tab;", '\t'),
    ];
    let rest = raw.strip_prefix(b"&")?;
    if let Some(number) = rest.strip_prefix(b"#") {
        let (digits, radix, lead) = match number.first() {
            Some(b'x' | b'X') => (&number[1..], 16, 3),
            _ => (number, 10, 2),
        };
        let length = digits
            .iter()
            .take_while(|digit| char::from(**digit).is_digit(radix))
            .count();
        let text = std::str::from_utf8(&digits[..length]).ok()?;
        let value = u32::from_str_radix(text, radix).ok()?;
        let character = char::from_u32(value).filter(char::is_ascii)?;
        let closed = usize::from(digits.get(length) == Some(&b';'));
        return Some((character, lead + length + closed));
    }
    if let Some((name, character)) = NAMED.iter().find(|(name, _)| rest.starts_with(name)) {
        return Some((*character, 1 + name.len()));
    }
    rest.starts_with(b"NewLine;").then_some(('\n', 9))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edited(raw: &[u8], new: impl FnOnce(&str) -> String) -> Vec<u8> {
        let said = Said::of(raw, Some(b'\''));
        match said.change(&new(said.text())) {
            None => raw.to_vec(),
            Some(change) => [&change.by[..], &raw[change.range.end..]].concat(),
        }
    }

    #[test]
    fn references_are_resolved_where_the_text_is_read_and_kept_where_it_stays() {
        let prefixed = |text: &str| format!("/p{text}");
        assert_eq!(
            edited(b"/a?b&amp;c&eacute;", prefixed),
            b"/p/a?b&amp;c&eacute;"
        );
        assert_eq!(
            Said::of(b"&#x2f;a&#47;b&sol;&#x2Fz&bad;", None).text(),
            "/a/b//z\u{f8ff}bad;"
        );
        assert_eq!(edited(b"&#x2f;a", prefixed), b"/p&#x2f;a");
        assert_eq!(edited(b"/\xe4", prefixed), b"/p/\xe4");
        assert_eq!(
            edited(b"/a", |text| format!("\"'& <{text}")),
            b"\"&#39;&amp; &lt;/a"
        );
    }

    proptest! {
        #[test]
        fn a_value_that_says_the_same_is_not_touched(raw: Vec<u8>) {
            let said = Said::of(&raw, None);
            prop_assert_eq!(said.change(said.text()), None);
        }

        #[test]
        fn what_is_written_back_says_what_it_shall(raw: Vec<u8>, head in "[ -~\\n]{0,8}") {
            let head = head.replace('\r', "");
            let written = edited(&raw, |text| format!("{head}{text}"));
            let text = format!("{head}{}", Said::of(&raw, None).text());
            // A byte alone and in a character of several are told apart by the whole text.
            if raw.is_ascii() {
                let said = Said::of(&written, None).text().to_owned();
                prop_assert_eq!(said, text);
            }
        }
    }
}
