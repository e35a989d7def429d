//! One tag taken apart as a browser does: <https://html.spec.whatwg.org/#tag-open-state> and the states
//! behind it.
//!
//! Works on bytes: no charset that a page may have (but UTF-16 and ISO-2022-JP, which are left alone)
//! has `<`, `>`, `"`, `'`, `&`, `=`, `/` or white space inside a character of several bytes.

use std::ops::Range;

use super::near;

/// An attribute: where its name and its value are in the tag. A value has no quotes around it here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
    /// Where all of it ends, the quote included.
    pub(super) end: usize,
}

impl Attribute {
    /// What stands around the value in `tag`, if anything does.
    pub(super) fn quote(&self, tag: &[u8]) -> Option<u8> {
        (self.end > self.value.end).then(|| tag[self.value.end])
    }
}

/// What is known of a tag that is there whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// Where its name ends; it begins behind `<` or `</`.
    pub(super) name_end: usize,
    /// Where the tag ends, `>` included.
    pub(super) end: usize,
    pub(super) self_closing: bool,
}

/// White space between attributes. A carriage return is a line end to a browser.
pub(super) fn is_space(byte: u8) -> bool {
    KINDS[usize::from(byte)] & SPACE != 0
}

/// Whether a tag's name ends before this byte.
pub(super) fn ends_name(byte: u8) -> bool {
    KINDS[usize::from(byte)] & (SPACE | END) != 0
}

const SPACE: u8 = 1;
const END: u8 = 2;
/// What most names are written with.
const USUAL: u8 = 4;

static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < kinds.len() {
        kinds[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0c => SPACE,
            b'/' | b'>' => END,
            b'a'..=b'z' | b'0'..=b'9' | b'-' => USUAL,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// The length of a start tag, whose name is at the start of `text`, when it is written as most are and
/// nothing but URLs matters in it. `url` gets the places of the names and the values of what may be
/// one, and says whether it is no more than that.
#[inline]
pub(super) fn usual_start(
    text: &[u8],
    mut url: impl FnMut(&[u8], Range<usize>, Range<usize>) -> bool,
) -> Option<usize> {
    let mut at = usual_name(text);
    let element = &text[..at];
    // None of one or two letters is, and most have no more.
    if element.len() > 2 && is_special(element) {
        return None;
    }
    loop {
        match text.get(at)? {
            b'>' => return Some(at + 1),
            b' ' => at += 1,
            _ => return None,
        }
        let name = at..at + usual_name(&text[at..]);
        if !text[name.end..].starts_with(b"=\"") {
            return None;
        }
        let begin = name.end + 2;
        let value = begin..begin + near::find(b'"', &text[begin..])?;
        at = value.end + 1;
        if may_hold_url(&text[name.clone()]) && !url(element, name, value) {
            return None;
        }
    }
}

/// The same of an end tag, behind which nothing has to be put in.
pub(super) fn usual_end(text: &[u8]) -> Option<usize> {
    let name = usual_name(text);
    let is_usual = text.get(name) == Some(&b'>') && !matches!(&text[..name], b"body" | b"html");
    is_usual.then_some(name + 1)
}

fn usual_name(text: &[u8]) -> usize {
    let is_usual = |byte: &u8| KINDS[usize::from(*byte)] & USUAL != 0;
    text.iter().take_while(|byte| is_usual(byte)).count()
}

/// Whether something is put in before or behind a tag of this name, or what follows it is not markup of
/// HTML, or its attributes count together.
fn is_special(element: &[u8]) -> bool {
    matches!(
        element,
        b"base"
            | b"body"
            | b"head"
            | b"html"
            | b"iframe"
            | b"link"
            | b"math"
            | b"meta"
            | b"noembed"
            | b"noframes"
            | b"noscript"
            | b"plaintext"
            | b"script"
            | b"style"
            | b"svg"
            | b"textarea"
            | b"title"
            | b"xmp"
    )
}

/// Whether [`Place`](super::place::Place) knows an attribute of this name, of whichever element.
fn may_hold_url(attribute: &[u8]) -> bool {
    matches!(
        attribute,
        b"action"
            | b"background"
            | b"cite"
            | b"data"
            | b"formaction"
            | b"href"
            | b"imagesrcset"
            | b"ping"
            | b"poster"
            | b"src"
            | b"srcdoc"
            | b"srcset"
            | b"style"
    )
}

/// Reads the tag at the start of `text`, whose name begins at `name_at`, and its attributes; nothing
/// when it is not all there.
pub(super) fn parse(text: &[u8], name_at: usize, attributes: &mut Vec<Attribute>) -> Option<Tag> {
    attributes.clear();
    let name_end = until(text, name_at, ends_name)?;
    let (mut at, mut self_closing) = (name_end, false);
    loop {
        at = until(text, at, |byte| !is_space(byte))?;
        match text[at] {
            b'>' => {
                return Some(Tag {
                    name_end,
                    end: at + 1,
                    self_closing,
                });
            }
            b'/' => {
                at += 1;
                self_closing = *text.get(at)? == b'>';
                continue;
            }
            _ => {}
        }
        // A first `=` belongs to the name.
        let name = at..until(text, at + 1, |byte| ends_name(byte) || byte == b'=')?;
        let next = until(text, name.end, |byte| !is_space(byte))?;
        let mut attribute = Attribute {
            value: name.end..name.end,
            end: name.end,
            name,
        };
        at = next;
        if text[at] == b'=' {
            let begin = until(text, at + 1, |byte| !is_space(byte))?;
            (attribute.value, attribute.end) = match text[begin] {
                quote @ (b'"' | b'\'') => {
                    let end = begin + 1 + near::find(quote, &text[begin + 1..])?;
                    (begin + 1..end, end + 1)
                }
                // Nothing came behind the `=`.
                b'>' => (begin..begin, begin),
                _ => {
                    let end = until(text, begin, |byte| is_space(byte) || byte == b'>')?;
                    (begin..end, end)
                }
            };
            at = attribute.end;
        }
        attributes.push(attribute);
    }
}

/// The first place from `at` on where `found` holds.
fn until(text: &[u8], at: usize, found: impl Fn(u8) -> bool) -> Option<usize> {
    let rest = text.get(at..)?;
    rest.iter()
        .position(|byte| found(*byte))
        .map(|length| at + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read<'a> = (&'a str, Vec<(&'a str, &'a str)>, bool);

    fn read(text: &str) -> Option<Read<'_>> {
        let mut attributes = Vec::new();
        let tag = parse(text.as_bytes(), 1, &mut attributes)?;
        let attributes = attributes
            .iter()
            .map(|found| (&text[found.name.clone()], &text[found.value.clone()]))
            .collect();
        Some((&text[1..tag.name_end], attributes, tag.self_closing))
    }

    #[test]
    fn a_tag_is_read_as_a_browser_reads_it() {
        for (text, name, attributes, self_closing) in [
            ("<a>", "a", vec![], false),
            ("<a/>", "a", vec![], true),
            ("<a b>", "a", vec![("b", "")], false),
            ("<a b=c/>", "a", vec![("b", "c/")], false),
            (
                "<a b='>' c=\"'\">",
                "a",
                vec![("b", ">"), ("c", "'")],
                false,
            ),
            ("<a\nb = c>", "a", vec![("b", "c")], false),
            ("<a/b/c/>", "a", vec![("b", ""), ("c", "")], true),
            ("<a =b=c>", "a", vec![("=b", "c")], false),
            ("<a b=>", "a", vec![("b", "")], false),
            ("<a b=''c=d>", "a", vec![("b", ""), ("c", "d")], false),
            ("<a \"<b>", "a", vec![("\"<b", "")], false),
            ("<a b=c\"d>", "a", vec![("b", "c\"d")], false),
        ] {
            assert_eq!(read(text), Some((name, attributes, self_closing)), "{text}");
        }
        for open in ["<", "<a", "<a ", "<a b", "<a b=", "<a b='>", "<a/"] {
            assert_eq!(read(open), None, "{open}");
        }
    }
}
