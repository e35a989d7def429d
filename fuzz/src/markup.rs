//! Documents and style sheets on their way to the browser.

use std::{cell::RefCell, rc::Rc, sync::LazyLock};

use hpc_proxy::{
    markup::{Markup, Sheet, Tags},
    prefix::{Prefixer, Siblings},
};
use lol_html::{
    HtmlRewriter, Settings, doc_comments, doc_text, element,
    html_content::{Element as Found, TextType},
};

use crate::pieces::{parted, words};

static WORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| words(include_str!("../markup.dict")));

/// The most that a reader may keep back: a tag or a script of 256 KiB, a URL of 8, and a piece.
const MOST_KEPT_BYTES: usize = 512 * 1024;
/// A document so long shows whether more is kept.
const LONG_BYTES: usize = 1024 * 1024;
const PIECE_BYTES: usize = 32 * 1024;
/// One in so many is made as long as that.
const LONG_ONE_IN: usize = 64;

/// Any bytes as a document and as a style sheet, and as the numbers of words of which one is made.
///
/// # Panics
/// When it depends on the pieces in which it comes, when more of it is kept back than must be, when what
/// was moved is moved again, and when another reader of HTML finds other tags in it than before.
pub fn markup(data: &[u8]) {
    check(data);
    let made: Vec<u8> = data
        .iter()
        .take(64)
        .flat_map(|byte| WORDS[usize::from(*byte) % WORDS.len()].iter().copied())
        .collect();
    check(&made);
}

fn check(text: &[u8]) {
    for kind in [Kind::Html, Kind::Page, Kind::Xml, Kind::Style] {
        let whole = kind.rewritten([text]);
        let pieces = kind.rewritten(parted(text));
        assert_same(&whole, &pieces, "pieces read otherwise");
        if text.len() < 512 {
            let bytes = kind.rewritten(text.chunks(1));
            assert_same(&whole, &bytes, "bytes read otherwise");
        }
        if kind != Kind::Page {
            let twice = kind.rewritten([&whole[..]]);
            assert_same(&whole, &twice, "moved twice");
        }
        if kind == Kind::Html {
            compare(text, &whole);
        }
        if text.len() % LONG_ONE_IN == LONG_ONE_IN - 1 {
            kind.must_flow(text);
        }
    }
}

fn assert_same(one: &[u8], other: &[u8], what: &str) {
    assert!(
        one == other,
        "{what}:\n  {}\n  {}",
        one.escape_ascii(),
        other.escape_ascii()
    );
}

/// How bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As HTML whose URLs alone are moved.
    Html,
    /// As HTML that gets the tags, too.
    Page,
    Xml,
    Style,
}

enum Reader {
    Document(Box<Markup>),
    Style(Box<Sheet>),
}

impl Kind {
    fn reader(self) -> Reader {
        const TARGET: &str = "/a/b";
        let (prefixer, none) = (prefixer(), Tags::none());
        match self {
            Self::Html => Reader::Document(Box::new(Markup::new(prefixer, TARGET, none))),
            Self::Page => {
                let tags = Tags::new(&prefixer, Some("nonce"));
                Reader::Document(Box::new(Markup::new(prefixer, TARGET, tags)))
            }
            Self::Xml => Reader::Document(Box::new(Markup::xml(prefixer, TARGET, none))),
            Self::Style => Reader::Style(Box::new(Sheet::new(prefixer, TARGET))),
        }
    }

    fn rewritten<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut reader, mut out) = (self.reader(), Vec::new());
        for piece in pieces {
            reader.feed(piece, &mut out);
        }
        reader.end(&mut out);
        out
    }

    /// Behind the text, which may have begun anything, all leaves as it comes.
    fn must_flow(self, text: &[u8]) {
        for more in [
            &[b'x'; PIECE_BYTES][..],
            &text.repeat(PIECE_BYTES / text.len()),
        ] {
            let (mut reader, mut out) = (self.reader(), Vec::new());
            reader.feed(text, &mut out);
            for _ in 0..LONG_BYTES / PIECE_BYTES {
                out.clear();
                reader.feed(more, &mut out);
            }
            out.clear();
            reader.end(&mut out);
            assert!(
                out.len() <= MOST_KEPT_BYTES,
                "{} bytes were kept back of: {}",
                out.len(),
                text.escape_ascii()
            );
        }
    }
}

impl Reader {
    fn feed(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Document(document) => document.feed(text, out),
            Self::Style(sheet) => sheet.feed(text, out),
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Document(document) => document.end(out),
            Self::Style(sheet) => sheet.end(out),
        }
    }
}

fn prefixer() -> Prefixer {
    Prefixer {
        prefix: "/port/5173".into(),
        siblings: Siblings::Path("/port/".into()),
        port: Some(5173),
        front: "hpc.example.org".into(),
        secure: true,
    }
}

/// A tag, with its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

/// Holds a document before and after against another reader: it has the same tags, with the same
/// attributes, and those that hold a plain URL are moved.
fn compare(before: &[u8], after: &[u8]) {
    // It takes bytes for UTF-8, leaves byte order marks out, and knows one way into a foreign element and
    // out of it.
    let Ok(text) = std::str::from_utf8(before) else {
        return;
    };
    let lowercase = text.to_ascii_lowercase();
    let foreign = ["<svg", "<math"].map(|start| lowercase.matches(start).count());
    if text.contains(['\u{feff}', '\0']) || foreign != [0, 0] {
        return;
    }
    let (Some((old, said)), Some((new, said_after))) = (read(before), read(after)) else {
        return;
    };
    assert_eq!(said, said_after, "other text and comments");
    let names = |tags: &[Tag]| tags.iter().map(|tag| tag.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&old), names(&new), "{text:?}");
    let based = old.iter().any(|tag| tag.name == "base");
    for (old, new) in old.iter().zip(&new) {
        compare_tags(old, new, based);
    }
}

fn compare_tags(old: &Tag, new: &Tag, based: bool) {
    let integrity = |(name, _): &&(String, String)| old.name != "link" || name != "integrity";
    let mut after = new.attributes.iter().filter(integrity);
    for (name, value) in old.attributes.iter().filter(integrity) {
        let Some((name_after, value_after)) = after.next() else {
            panic!("{name} is lost: {old:?} {new:?}");
        };
        assert_eq!(name, name_after, "{old:?} {new:?}");
        let place = (old.name.as_str(), name.as_str());
        if !is_place(place) {
            assert_eq!(value, value_after, "{old:?} {new:?}");
        } else if !based && is_link(place) && is_plain(value) {
            let moved = prefixer().url(value).into_owned();
            let wanted = if value.starts_with(['#', '?']) || value.is_empty() {
                value
            } else {
                &moved
            };
            assert_eq!(wanted, value_after, "{old:?} {new:?}");
        }
    }
    assert_eq!(after.next(), None, "{old:?} {new:?}");
}

/// Whether anything may change there at all.
fn is_place((element, attribute): (&str, &str)) -> bool {
    const EVERYWHERE: [&str; 1] = ["style"];
    const SOMEWHERE: [&str; 14] = [
        "href",
        "src",
        "data",
        "cite",
        "ping",
        "action",
        "poster",
        "srcset",
        "srcdoc",
        "formaction",
        "background",
        "imagesrcset",
        "content",
        "integrity",
    ];
    let custom = element.contains('-');
    EVERYWHERE.contains(&attribute) || (!custom && SOMEWHERE.contains(&attribute))
}

fn is_link(place: (&str, &str)) -> bool {
    matches!(
        place,
        ("a" | "area" | "link", "href")
            | ("img" | "script" | "iframe" | "video" | "source", "src")
            | ("form", "action")
            | ("button", "formaction")
    )
}

/// Whether there is one reading of a URL alone.
fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:.?#=-_[]@".contains(c);
    value.chars().all(plain) && !value.contains("..")
}

/// The tags of a document, and its text and comments but for what may change.
fn read(text: &[u8]) -> Option<(Vec<Tag>, String)> {
    let found = Rc::new(RefCell::new((Vec::<Tag>::new(), String::new())));
    let [tags, texts, comments] = [(); 3].map(|()| Rc::clone(&found));
    let settings = Settings::new()
        .append_element_content_handler(element!("*", move |element: &mut Found<'_, '_>| {
            let attributes = element.attributes().iter();
            tags.borrow_mut().0.push(Tag {
                name: element.tag_name(),
                attributes: attributes
                    .map(|attribute| (attribute.name(), attribute.value()))
                    .collect(),
            });
            Ok(())
        }))
        .append_document_content_handler(doc_text!(move |chunk| {
            let (tags, said) = &mut *texts.borrow_mut();
            let is_style = chunk.text_type() == TextType::RawText
                && tags.last().is_some_and(|tag| tag.name == "style");
            let is_map = chunk.text_type() == TextType::ScriptData
                && tags.last().is_some_and(|tag| !tag.attributes.is_empty());
            if !is_style && !is_map {
                said.push_str(chunk.as_str());
            }
            Ok(())
        }))
        .append_document_content_handler(doc_comments!(move |comment| {
            comments.borrow_mut().1.push_str(&comment.text());
            Ok(())
        }));
    let mut reader = HtmlRewriter::new(settings, |_: &[u8]| ());
    // It gives some constructs up.
    reader.write(text).ok()?;
    reader.end().ok()?;
    let found = found.borrow().clone();
    Some(found)
}
