//! A document on its way to the browser: its URLs moved below the prefix, and two tags put in at the top.
//!
//! A tokenizer, not a parser: it finds tags where a browser finds them
//! (<https://html.spec.whatwg.org/#tokenization>), edits the few that matter, and passes every other byte
//! on as it came, in whatever charset. What it keeps back is the beginning of one tag, of one URL, one
//! inline script that may need the import map before it, or the rest of a head whose own map may yet come;
//! so memory is flat, and each piece of a document leaves when it comes. Scripts are never changed.

use std::ops::Range;

use memchr::{memchr, memchr2, memchr2_iter, memmem};

mod css;
mod foreign;
mod imports;
mod links;
mod near;
mod place;
mod served;
mod tag;
mod tags;
mod value;

use css::Css;
use foreign::Foreign;
use links::Links;
use place::Place;
pub(crate) use served::shim_for;
use tag::{Attribute, Tag};
pub(crate) use tags::{RESERVED, map_hash};
pub use tags::{SHIM, Tags, shim_name};
use value::{Change, Said};

use crate::{csp, prefix::Prefixer};

/// A longer tag passes as it is.
const LONGEST_TAG_BYTES: usize = 256 * 1024;
/// A longer script is not waited for.
const LONGEST_SCRIPT_BYTES: usize = 256 * 1024;
/// Documents in documents: `srcdoc` in `srcdoc`.
const DEEPEST: u8 = 3;

/// A style sheet being rewritten.
#[derive(Debug)]
pub struct Sheet {
    links: Links,
    css: Css,
}

impl Sheet {
    /// The one at `target`, a path as its server sees it.
    pub fn new(prefixer: Prefixer, target: &str) -> Self {
        Self {
            links: Links::new(prefixer, target),
            css: Css::default(),
        }
    }

    /// Takes the next part of it and appends to `out` what it becomes.
    pub fn feed(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let links = &self.links;
        self.css.feed(text, out, &mut |url| style_url(links, url));
    }

    /// It has ended.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        let links = &self.links;
        self.css.end(out, &mut |url| style_url(links, url));
    }
}

/// A document being rewritten.
#[derive(Debug)]
pub struct Markup {
    tags: Tags,
    links: Links,
    depth: u8,
    /// Whether it is read as XML is: no element has raw text.
    xml: bool,
    state: State,
    foreign: Foreign,
    /// Whether the shim's tag is in.
    shimmed: bool,
    /// Whether the import map is in, or none is wanted.
    mapped: bool,
    /// Where in what goes out the import map will be, unless the head has one of its own behind. Browsers that
    /// know no more than one map need the page's own.
    held_from: Option<usize>,
    /// What comes behind that and may not leave yet.
    held: Vec<u8>,
    /// What becomes of text, or of the raw text of an element.
    text: Text,
    /// What came and could not be passed on yet: the beginning of a token.
    kept: Vec<u8>,
    /// Whether that is a tag, which only a `>` can end.
    in_tag: bool,
    begun: bool,
    /// Memory for the attributes of one tag after the other.
    attributes: Vec<Attribute>,
    /// The tags that were found.
    #[cfg(test)]
    seen: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Data,
    Comment,
    /// Up to the next `>`: a doctype or something malformed.
    Declaration,
    Cdata,
    /// In an element whose content is text alone, up to its end tag.
    Raw(Raw),
    /// In a script, which may seem to hold others.
    Script(Escape),
    /// The rest of the document is text.
    Plaintext,
    /// In a tag that is too long.
    LongTag(Long, Raw),
}

/// Elements whose content is text alone; `None` for all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raw {
    None,
    Script,
    Style,
    Textarea,
    Title,
    Xmp,
    Iframe,
    Noembed,
    Noframes,
    Noscript,
    Plaintext,
}

/// How far a script has got in seeming to hold another
/// (<https://html.spec.whatwg.org/#script-data-escaped-state>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    /// Behind `<!--`.
    Once,
    /// Behind `<script` in there.
    Twice,
}

/// Where in a tag that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Long {
    Between,
    Name,
    BeforeValue,
    Unquoted,
    Quoted(u8),
}

/// What becomes of text.
#[derive(Debug)]
enum Text {
    /// It passes.
    Passes,
    /// It is a style sheet.
    Style(Box<Css>),
    /// It is a script, kept back with its tag until it is known whether it may load modules.
    Waits { kept: Vec<u8>, tag_bytes: usize },
    /// It is the page's own import map.
    Map(Vec<u8>),
}

/// What a step came to.
enum Step {
    /// It goes on from here.
    On(usize),
    /// Everything before is done; more is needed.
    Wait(usize),
}

/// What comes in, and what goes out: all that is not replaced.
struct Pass<'a> {
    text: &'a [u8],
    /// Up to where it went out.
    passed: usize,
    out: &'a mut Vec<u8>,
}

impl Pass<'_> {
    fn up_to(&mut self, at: usize) {
        self.out.extend_from_slice(&self.text[self.passed..at]);
        self.passed = at;
    }

    fn change(&mut self, value_at: usize, change: &Change<'_>) {
        let Range { start, end } = change.range;
        self.replace(value_at + start..value_at + end, &change.by);
    }

    fn replace(&mut self, range: Range<usize>, by: &[u8]) {
        self.up_to(range.start);
        self.out.extend_from_slice(by);
        self.passed = range.end;
    }
}

impl Markup {
    /// The document at `target`, a path as its server sees it.
    pub fn new(prefixer: Prefixer, target: &str, tags: Tags) -> Self {
        Self::inside(Links::new(prefixer, target), tags, 0)
    }

    /// The same for one that is XML.
    pub fn xml(prefixer: Prefixer, target: &str, tags: Tags) -> Self {
        let mut document = Self::new(prefixer, target, tags);
        document.xml = true;
        document
    }

    fn inside(links: Links, tags: Tags, depth: u8) -> Self {
        Self {
            mapped: tags.import_map().is_empty(),
            shimmed: tags.shim().is_empty(),
            held_from: None,
            held: Vec::new(),
            tags,
            links,
            depth,
            xml: false,
            state: State::Data,
            foreign: Foreign::default(),
            text: Text::Passes,
            kept: Vec::new(),
            in_tag: false,
            begun: false,
            attributes: Vec::new(),
            #[cfg(test)]
            seen: None,
        }
    }

    /// Takes the next part of the document and appends to `out` what it becomes.
    pub fn feed(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.held_from.is_none() {
            self.take(text, out);
            self.hold_no_more_than_a_head(out);
            if let Some(from) = &mut self.held_from {
                self.held = out.split_off(std::mem::take(from));
            }
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        self.take(text, &mut held);
        self.hold_no_more_than_a_head(&mut held);
        if self.held_from.is_some() {
            self.held = held;
        } else {
            out.append(&mut held);
        }
    }

    fn take(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.kept.is_empty() {
            let used = self.run(text, false, out);
            self.kept.extend_from_slice(&text[used..]);
            return;
        }
        self.kept.extend_from_slice(text);
        if self.in_tag && memchr(b'>', text).is_none() && self.kept.len() <= LONGEST_TAG_BYTES {
            return;
        }
        let mut kept = std::mem::take(&mut self.kept);
        let used = self.run(&kept, false, out);
        kept.drain(..used);
        kept.shrink_to(4096.max(kept.len()));
        self.kept = kept;
    }

    /// The document has ended.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        let mut held = std::mem::take(&mut self.held);
        let kept = std::mem::take(&mut self.kept);
        let used = self.run(&kept, true, &mut held);
        held.extend_from_slice(&kept[used..]);
        self.end_text(&mut held);
        if self.begun {
            self.put_both(&mut held);
        }
        out.append(&mut held);
    }

    fn hold_no_more_than_a_head(&mut self, out: &mut Vec<u8>) {
        if self
            .held_from
            .is_some_and(|from| out.len() - from > LONGEST_SCRIPT_BYTES)
        {
            self.put_map(out);
        }
    }

    /// A document that is there whole.
    fn whole(mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 512);
        self.feed(text, &mut out);
        self.end(&mut out);
        out
    }

    /// Passes on what is sure; returns how much that was.
    fn run(&mut self, text: &[u8], last: bool, out: &mut Vec<u8>) -> usize {
        let mut pass = Pass {
            text,
            passed: 0,
            out,
        };
        self.in_tag = false;
        let mut at = 0;
        if !self.begun {
            match mark(text, last) {
                None => return 0,
                Some(Mark::Nothing) => self.begun = !text.is_empty(),
                Some(Mark::Utf8) => (self.begun, at) = (true, 3),
                Some(Mark::Utf16) => {
                    // Nothing here can be found in it, and nothing can be put in.
                    (self.begun, self.state) = (true, State::Plaintext);
                    (self.shimmed, self.mapped) = (true, true);
                }
            }
        }
        loop {
            let step = match self.state {
                State::Data => self.data(&mut pass, at, last),
                State::Comment => comment_end(&text[at..], &mut self.state).moved(at),
                State::Declaration => self.up_to(text, at, b">"),
                State::Cdata => self.up_to(text, at, b"]]>"),
                State::Raw(raw) => self.raw(&mut pass, at, raw, last),
                State::Script(escape) => self.script(&mut pass, at, escape, last),
                State::Plaintext => Step::Wait(text.len()),
                State::LongTag(long, raw) => self.long_tag(text, at, long, raw),
            };
            match step {
                Step::On(next) => at = next,
                Step::Wait(done) => {
                    pass.up_to(done);
                    return done;
                }
            }
        }
    }

    /// Text and the next tag.
    fn data(&mut self, pass: &mut Pass<'_>, at: usize, last: bool) -> Step {
        let text = pass.text;
        let Some(open) = near::find(b'<', &text[at..]).map(|length| at + length) else {
            self.text(pass, at..text.len());
            return Step::Wait(text.len());
        };
        self.text(pass, at..open);
        let rest = &text[open..];
        // So much is needed to tell what it is.
        let wait = |wanted: &[u8]| !last && rest.len() < wanted.len() && wanted.starts_with(rest);
        if !matches!(self.text, Text::Passes)
            && matches!(
                rest.get(1),
                Some(b'!' | b'?' | b'/' | b'a'..=b'z' | b'A'..=b'Z')
            )
        {
            // A style in SVG is text between tags.
            pass.up_to(open);
            self.end_text(pass.out);
        }
        match rest.get(1) {
            Some(b'!') => {
                let dashes = [&b"<!--"[..], b"<!-->", b"<!--->"];
                let cdata = b"<![CDATA[";
                let foreign = self.xml || self.foreign.is_inside();
                if dashes.iter().any(|wanted| wait(wanted)) || (foreign && wait(cdata)) {
                    return Step::Wait(open);
                }
                if let Some(empty) = dashes[1..].iter().find(|empty| rest.starts_with(empty)) {
                    return Step::On(open + empty.len());
                }
                let length = if rest.starts_with(b"<!--") {
                    self.state = State::Comment;
                    4
                } else if foreign && rest.starts_with(cdata) {
                    self.state = State::Cdata;
                    cdata.len()
                } else {
                    self.state = State::Declaration;
                    2
                };
                Step::On(open + length)
            }
            Some(b'?') => {
                self.state = State::Declaration;
                Step::On(open + 2)
            }
            Some(b'/') => match rest.get(2) {
                Some(letter) if letter.is_ascii_alphabetic() => match self.usual(pass, open, 2) {
                    Some(end) => Step::On(end),
                    None => self.tag(pass, open, 2),
                },
                // It is nothing at all.
                Some(b'>') => Step::On(open + 3),
                Some(_) => {
                    self.state = State::Declaration;
                    Step::On(open + 2)
                }
                None if last => {
                    self.text(pass, open..text.len());
                    Step::Wait(text.len())
                }
                None => Step::Wait(open),
            },
            Some(letter) if letter.is_ascii_alphabetic() => match self.usual(pass, open, 1) {
                Some(end) => Step::On(end),
                None => self.tag(pass, open, 1),
            },
            None if !last => Step::Wait(open),
            _ => {
                self.text(pass, open..open + 1);
                Step::On(open + 1)
            }
        }
    }

    /// Where a tag ends that is written as most are and changes nothing but URLs: most need no more than
    /// one look.
    fn usual(&self, pass: &mut Pass<'_>, open: usize, lead: usize) -> Option<usize> {
        #[cfg(test)]
        if self.seen.is_some() {
            return None;
        }
        if !self.shimmed || self.xml || !self.foreign.is_none() || self.held_from.is_some() {
            return None;
        }
        let begin = open + lead;
        let tag = &pass.text[begin..];
        if lead != 1 {
            return tag::usual_end(tag).map(|length| begin + length);
        }
        let before = (pass.passed, pass.out.len());
        let length = tag::usual_start(tag, |element, name, value| {
            let place = Place::of(element, &tag[name], false);
            if place == Some(Place::Url)
                && let Some(change) = self.links.change_url(&tag[value.clone()], Some(b'"'))
            {
                pass.change(begin + value.start, &change);
            }
            matches!(place, None | Some(Place::Url))
        });
        if length.is_none() {
            pass.passed = before.0;
            pass.out.truncate(before.1);
        }
        length.map(|length| begin + length)
    }

    /// Text between tags. A browser opens the head and the body before it.
    fn text(&mut self, pass: &mut Pass<'_>, range: Range<usize>) {
        if !self.shimmed {
            let mut bytes = pass.text[range.clone()].iter();
            if let Some(at) = bytes.position(|byte| !tag::is_space(*byte)) {
                pass.up_to(range.start + at);
                self.put_shim(pass.out);
            }
        }
        if self.held_from.is_some() && !pass.text[range.clone()].iter().copied().all(tag::is_space)
        {
            self.put_map(pass.out);
        }
        if !matches!(self.text, Text::Passes) {
            self.content(pass, range);
        }
    }

    /// Raw text, or that of a style in SVG.
    fn content(&mut self, pass: &mut Pass<'_>, range: Range<usize>) {
        let text = &pass.text[range.clone()];
        match &mut self.text {
            Text::Passes => {}
            Text::Style(css) => {
                pass.up_to(range.start);
                let links = &self.links;
                css.feed(text, pass.out, &mut |url| style_url(links, url));
                pass.passed = range.end;
            }
            Text::Waits { kept, .. } => {
                pass.up_to(range.start);
                kept.extend_from_slice(text);
                pass.passed = range.end;
                if kept.len() > LONGEST_SCRIPT_BYTES {
                    self.release(true, pass.out);
                }
            }
            Text::Map(map) => {
                pass.up_to(range.start);
                map.extend_from_slice(text);
                pass.passed = range.end;
                if map.len() > LONGEST_SCRIPT_BYTES {
                    pass.out.append(map);
                    self.text = Text::Passes;
                }
            }
        }
    }

    /// The text of an element is complete.
    fn end_text(&mut self, out: &mut Vec<u8>) {
        match &mut self.text {
            Text::Passes => {}
            Text::Style(css) => {
                let links = &self.links;
                css.end(out, &mut |url| style_url(links, url));
                self.text = Text::Passes;
            }
            Text::Waits { kept, tag_bytes } => {
                let loads = may_load(&kept[*tag_bytes..]);
                self.release(loads, out);
            }
            Text::Map(map) => {
                let links = &self.links;
                let prefix = (!self.mapped).then_some(links.prefixer().prefix.as_str());
                let moved = |url: &str| links.url(url).into_owned();
                match imports::merged(map, prefix, &moved) {
                    Some(merged) => {
                        (self.mapped, self.held_from) = (true, None);
                        out.extend_from_slice(merged.as_bytes());
                    }
                    None => out.append(map),
                }
                self.text = Text::Passes;
            }
        }
    }

    fn release(&mut self, loads_modules: bool, out: &mut Vec<u8>) {
        if let Text::Waits { mut kept, .. } = std::mem::replace(&mut self.text, Text::Passes) {
            if loads_modules {
                self.put_map(out);
            }
            out.append(&mut kept);
        }
    }

    fn put_shim(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.shimmed, true) {
            out.extend_from_slice(self.tags.shim().as_bytes());
        }
    }

    fn put_map(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.mapped, true) {
            let at = self.held_from.take().unwrap_or(out.len());
            out.splice(at..at, self.tags.import_map().bytes());
        }
    }

    fn put_both(&mut self, out: &mut Vec<u8>) {
        self.put_shim(out);
        self.put_map(out);
    }

    /// A tag, whose name begins `lead` bytes behind its `<`.
    fn tag(&mut self, pass: &mut Pass<'_>, open: usize, lead: usize) -> Step {
        let text = &pass.text[open..];
        let mut attributes = std::mem::take(&mut self.attributes);
        let step = match tag::parse(text, lead, &mut attributes) {
            Some(tag) if tag.end <= LONGEST_TAG_BYTES => {
                let name = Name::of(&text[lead..tag.name_end]);
                if lead == 1 {
                    self.start(pass, open, &tag, &name, &attributes);
                } else {
                    self.finish(pass, open, &name);
                }
                Step::On(open + tag.end)
            }
            None if text.len() <= LONGEST_TAG_BYTES => {
                self.in_tag = true;
                Step::Wait(open)
            }
            _ => {
                let length = text[lead..].iter().position(|byte| tag::ends_name(*byte));
                let name_end = length.map_or(text.len(), |length| lead + length);
                let name = Name::of(&text[lead..name_end]);
                pass.up_to(open);
                self.put_shim(pass.out);
                if self.held_from.is_some() {
                    self.put_map(pass.out);
                }
                let raw = if lead == 1 && !self.xml && !self.foreign.is_inside() {
                    Raw::of(&name)
                } else {
                    Raw::None
                };
                self.state = State::LongTag(Long::Between, raw);
                Step::On(open + name_end)
            }
        };
        self.attributes = attributes;
        step
    }

    fn start(
        &mut self,
        pass: &mut Pass<'_>,
        open: usize,
        tag: &Tag,
        name: &Name<'_>,
        attributes: &[Attribute],
    ) {
        let text = &pass.text[open..open + tag.end];
        let element = name.bytes();
        #[cfg(test)]
        if let Some(seen) = &mut self.seen {
            seen.push(tests::shown(&text[1..tag.name_end], text, attributes));
        }
        let value = |wanted: &[u8]| {
            let named = |found: &&Attribute| text[found.name.clone()].eq_ignore_ascii_case(wanted);
            let found = attributes.iter().find(named)?;
            Some(&text[found.value.clone()])
        };
        let svg = self.foreign.is_svg();
        let foreign = self.xml || self.foreign.is_inside();
        let is_head = element == b"head";
        if !self.shimmed && !is_head && element != b"html" {
            pass.up_to(open);
            self.put_shim(pass.out);
        }
        // What the page does with modules, and whether it needs the map before.
        let script = (element == b"script" && (self.xml || !foreign)).then(|| Script::of(value));
        if !self.mapped {
            let needs = match script {
                Some(Script::Module) => true,
                // It may load a module, and its page may have a map behind it all the same.
                Some(Script::File) if !self.xml && self.held_from.is_some() => false,
                Some(Script::File) => !value(b"src").is_some_and(|url| {
                    let said = Said::of(url, None);
                    self.links.is_foreign(&self.links.url(said.text()))
                }),
                Some(Script::Map | Script::Inline) => self.xml,
                Some(Script::Data) => false,
                None => match element {
                    b"link" => value(b"rel").is_some_and(|rel| has_word(rel, b"modulepreload")),
                    // A policy counts for what comes behind it.
                    b"meta" => value(b"http-equiv").is_some_and(is_policy),
                    _ => self.held_from.is_some() && !is_of_a_head(element),
                },
            };
            if needs {
                pass.up_to(open);
                if script == Some(Script::File) && !self.xml {
                    self.held_from = Some(pass.out.len());
                } else {
                    self.put_map(pass.out);
                }
            } else if self.held_from.is_some() {
                pass.up_to(open);
                self.hold_no_more_than_a_head(pass.out);
            }
        }
        let waits = script == Some(Script::Inline) && !self.mapped;
        let mark = if waits {
            pass.up_to(open);
            pass.out.len()
        } else {
            0
        };
        for attribute in attributes {
            let written = &text[attribute.name.clone()];
            let place = Place::of(element, written, svg);
            let raw = &text[attribute.value.clone()];
            let change = match place {
                Some(place) => self.change(place, raw, attribute.quote(text)),
                None if element == b"meta" && written.eq_ignore_ascii_case(b"content") => {
                    self.meta(value(b"http-equiv"), raw, attribute.quote(text))
                }
                None => None,
            };
            if let Some(change) = change {
                pass.change(open + attribute.value.start, &change);
            }
            // A style sheet of ours may change, and would not be the one that was promised.
            if element == b"link"
                && written.eq_ignore_ascii_case(b"integrity")
                && value(b"rel").is_some_and(|rel| has_word(rel, b"stylesheet"))
                && !value(b"href").is_some_and(|url| {
                    let said = Said::of(url, None);
                    self.links.is_foreign(&self.links.url(said.text()))
                })
            {
                pass.replace(open + attribute.name.start..open + attribute.end, b"");
            }
        }
        if waits {
            pass.up_to(open + tag.end);
            let kept = pass.out.split_off(mark);
            let tag_bytes = kept.len();
            self.text = Text::Waits { kept, tag_bytes };
        }
        if is_head && !self.shimmed {
            pass.up_to(open + tag.end);
            self.put_shim(pass.out);
        }
        if foreign || matches!(element, b"svg" | b"math") {
            let html = value(b"encoding").is_some_and(|encoding| {
                [&b"text/html"[..], b"application/xhtml+xml"]
                    .iter()
                    .any(|html| encoding.eq_ignore_ascii_case(html))
            });
            self.foreign.start(element, tag.self_closing, html);
        }
        if foreign {
            if element == b"style" && !tag.self_closing {
                self.text = Text::Style(Box::default());
            }
            if self.xml || self.foreign.is_inside() || self.foreign.is_point() {
                return;
            }
        }
        self.begin_raw(Raw::of(name));
        match script {
            Some(Script::Map) => self.text = Text::Map(Vec::new()),
            _ if element == b"style" => self.text = Text::Style(Box::default()),
            _ => {}
        }
    }

    fn begin_raw(&mut self, raw: Raw) {
        self.state = match raw {
            Raw::None => State::Data,
            Raw::Script => State::Script(Escape::No),
            Raw::Plaintext => State::Plaintext,
            raw => State::Raw(raw),
        };
    }

    /// An end tag.
    fn finish(&mut self, pass: &mut Pass<'_>, open: usize, name: &Name<'_>) {
        let element = name.bytes();
        if matches!(element, b"head" | b"body" | b"html" | b"br") && !self.shimmed {
            pass.up_to(open);
            self.put_shim(pass.out);
        }
        let is_of_it_all = matches!(element, b"body" | b"html") && !self.mapped;
        if is_of_it_all || (element == b"head" && self.held_from.is_some()) {
            pass.up_to(open);
            self.put_both(pass.out);
        }
        if !self.foreign.is_none() {
            self.foreign.end(element);
        }
    }

    fn change(&mut self, place: Place, raw: &[u8], quote: Option<u8>) -> Option<Change<'_>> {
        match place {
            Place::Url => self.links.change_url(raw, quote),
            Place::Base => {
                let said = Said::of(raw, quote);
                let moved = self.links.base(said.text());
                said.change(&moved)
            }
            Place::Srcset => self.links.change(raw, quote, |links, text| {
                Some(links.srcset(text).into_owned())
            }),
            Place::List => self
                .links
                .change(raw, quote, |links, text| Some(links.list(text))),
            Place::Style => self.style(raw, quote),
            Place::Document => {
                let inside = (self.depth < DEEPEST)
                    .then(|| Self::inside(self.links.clone(), self.tags.clone(), self.depth + 1))?;
                self.links.change(raw, quote, |_, text| {
                    String::from_utf8(inside.whole(text.as_bytes())).ok()
                })
            }
        }
    }

    fn style(&self, raw: &[u8], quote: Option<u8>) -> Option<Change<'static>> {
        memchr2(b'(', b'&', raw)?;
        self.links.change(raw, quote, |links, text| {
            let moved = Css::whole(text.as_bytes(), &mut |url| style_url(links, url));
            String::from_utf8(moved).ok()
        })
    }

    /// The `content` of a `<meta>` that stands for a header field.
    fn meta(&self, field: Option<&[u8]>, raw: &[u8], quote: Option<u8>) -> Option<Change<'_>> {
        let field = field?;
        if field.eq_ignore_ascii_case(b"refresh") {
            return self.links.change(raw, quote, Links::refresh);
        }
        let policy = is_policy(field);
        policy
            .then(|| {
                self.links.change(raw, quote, |links, text| {
                    csp::sources(text, links.prefixer())
                })
            })
            .flatten()
    }

    /// The content of an element up to its end tag.
    fn raw(&mut self, pass: &mut Pass<'_>, at: usize, raw: Raw, last: bool) -> Step {
        let text = pass.text;
        let mut from = at;
        while let Some(open) = memchr(b'<', &text[from..]).map(|length| from + length) {
            match ends_raw(&text[open..], raw.name()) {
                Some(true) => return self.leave_raw(pass, at..open),
                None if !last => {
                    self.content(pass, at..open);
                    return Step::Wait(open);
                }
                _ => from = open + 1,
            }
        }
        self.content(pass, at..text.len());
        Step::Wait(text.len())
    }

    fn leave_raw(&mut self, pass: &mut Pass<'_>, range: Range<usize>) -> Step {
        self.content(pass, range.clone());
        pass.up_to(range.end);
        self.end_text(pass.out);
        self.state = State::Data;
        Step::On(range.end)
    }

    /// The content of a script up to its end tag.
    fn script(&mut self, pass: &mut Pass<'_>, at: usize, mut escape: Escape, last: bool) -> Step {
        let text = pass.text;
        let mut from = at;
        loop {
            let found = match escape {
                Escape::No => memchr(b'<', &text[from..]),
                Escape::Once | Escape::Twice => memchr2(b'<', b'-', &text[from..]),
            };
            let Some(here) = found.map(|length| from + length) else {
                break;
            };
            let rest = &text[here..];
            let wait = |wanted: &[u8]| rest.len() < wanted.len() && wanted.starts_with(rest);
            let (length, next) = match escape {
                _ if rest[0] == b'-' => {
                    if wait(b"-->") {
                        (0, escape)
                    } else if rest.starts_with(b"-->") {
                        (3, Escape::No)
                    } else {
                        (1, escape)
                    }
                }
                Escape::No if wait(b"<!--") => (0, escape),
                // These two dashes may be those of the end.
                Escape::No if rest.starts_with(b"<!--") => (2, Escape::Once),
                Escape::No | Escape::Once => match ends_raw(rest, b"script") {
                    Some(true) => {
                        self.state = State::Script(escape);
                        return self.leave_raw(pass, at..here);
                    }
                    None => (0, escape),
                    Some(false) if escape == Escape::Once => match begins_script(rest) {
                        Some(true) => (7, Escape::Twice),
                        Some(false) => (1, escape),
                        None => (0, escape),
                    },
                    Some(false) => (1, escape),
                },
                Escape::Twice => match ends_raw(rest, b"script") {
                    Some(true) => (8, Escape::Once),
                    Some(false) => (1, escape),
                    None => (0, escape),
                },
            };
            if length == 0 {
                if last {
                    break;
                }
                self.state = State::Script(escape);
                self.content(pass, at..here);
                return Step::Wait(here);
            }
            (from, escape) = (here + length, next);
        }
        self.state = State::Script(escape);
        self.content(pass, at..text.len());
        Step::Wait(text.len())
    }

    fn up_to(&mut self, text: &[u8], at: usize, end: &[u8]) -> Step {
        match memmem::find(&text[at..], end) {
            Some(length) => {
                self.state = State::Data;
                Step::On(at + length + end.len())
            }
            None => Step::Wait(text.len() - begun(&text[at..], end)),
        }
    }

    /// The rest of a tag that is too long to be kept.
    fn long_tag(&mut self, text: &[u8], at: usize, mut long: Long, raw: Raw) -> Step {
        for (place, byte) in text.iter().enumerate().skip(at) {
            long = match (long, *byte) {
                (Long::Quoted(quote), byte) if byte == quote => Long::Between,
                (Long::Quoted(_), _) => long,
                (_, b'>') => {
                    self.begin_raw(raw);
                    return Step::On(place + 1);
                }
                (Long::BeforeValue, quote @ (b'"' | b'\'')) => Long::Quoted(quote),
                (Long::BeforeValue, byte) if tag::is_space(byte) => long,
                (Long::BeforeValue | Long::Unquoted, byte) => {
                    if tag::is_space(byte) {
                        Long::Between
                    } else {
                        Long::Unquoted
                    }
                }
                (Long::Name, b'=') => Long::BeforeValue,
                (Long::Name, b'/') => Long::Between,
                // The name may be over, and its `=` still to come.
                (Long::Name, _) => long,
                (Long::Between, byte) if tag::is_space(byte) || byte == b'/' => long,
                (Long::Between, _) => Long::Name,
            };
        }
        self.state = State::LongTag(long, raw);
        Step::Wait(text.len())
    }
}

impl Step {
    fn moved(self, by: usize) -> Self {
        match self {
            Self::On(at) => Self::On(at + by),
            Self::Wait(at) => Self::Wait(at + by),
        }
    }
}

/// The name of an element in lowercase, as far as any name goes that matters. Nearly all are written so.
struct Name<'a> {
    written: &'a [u8],
    lowered: Option<[u8; 16]>,
}

impl<'a> Name<'a> {
    fn of(written: &'a [u8]) -> Self {
        let mut name = Self {
            written,
            lowered: None,
        };
        if written.len() > 16 {
            name.written = b"";
        } else if written.iter().any(u8::is_ascii_uppercase) {
            let mut lowered = [0; 16];
            for (to, from) in lowered.iter_mut().zip(written) {
                *to = from.to_ascii_lowercase();
            }
            name.lowered = Some(lowered);
        }
        name
    }

    fn bytes(&self) -> &[u8] {
        match &self.lowered {
            Some(lowered) => &lowered[..self.written.len()],
            None => self.written,
        }
    }
}

impl Raw {
    /// For a browser that runs scripts: what is inside `<noscript>` is text to it.
    fn of(name: &Name<'_>) -> Self {
        match name.bytes() {
            b"script" => Self::Script,
            b"style" => Self::Style,
            b"textarea" => Self::Textarea,
            b"title" => Self::Title,
            b"xmp" => Self::Xmp,
            b"iframe" => Self::Iframe,
            b"noembed" => Self::Noembed,
            b"noframes" => Self::Noframes,
            b"noscript" => Self::Noscript,
            b"plaintext" => Self::Plaintext,
            _ => Self::None,
        }
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::None => b"",
            Self::Script => b"script",
            Self::Style => b"style",
            Self::Textarea => b"textarea",
            Self::Title => b"title",
            Self::Xmp => b"xmp",
            Self::Iframe => b"iframe",
            Self::Noembed => b"noembed",
            Self::Noframes => b"noframes",
            Self::Noscript => b"noscript",
            Self::Plaintext => b"plaintext",
        }
    }
}

/// What a script element is (<https://html.spec.whatwg.org/#prepare-the-script-element>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// A module, inline or not.
    Module,
    /// An import map.
    Map,
    /// A script of its own file.
    File,
    /// A script between the tags.
    Inline,
    /// None that runs.
    Data,
}

impl Script {
    fn of<'a>(value: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Self {
        const KINDS: [&[u8]; 5] = [
            b"text/javascript",
            b"application/javascript",
            b"application/x-javascript",
            b"text/ecmascript",
            b"application/ecmascript",
        ];
        let kind = value(b"type").unwrap_or_default().trim_ascii();
        let is = |wanted: &&[u8]| kind.eq_ignore_ascii_case(wanted);
        if is(&&b"module"[..]) {
            Self::Module
        } else if is(&&b"importmap"[..]) {
            Self::Map
        } else if !kind.is_empty() && !KINDS.iter().any(is) {
            Self::Data
        } else if value(b"src").is_some() {
            Self::File
        } else {
            Self::Inline
        }
    }
}

/// Whether an inline script may load a module, or put a script in that does. Only whether the import
/// map comes before or behind depends on it: browsers that know no more than one map need the page's own.
fn may_load(script: &[u8]) -> bool {
    let found = |word: &[u8]| {
        memchr2_iter(word[0], word[0].to_ascii_uppercase(), script).any(|at| {
            let there = script.get(at..at + word.len());
            there.is_some_and(|there| there.eq_ignore_ascii_case(word))
        })
    };
    found(b"import") || found(b"module") || found(b"script")
}

fn style_url(links: &Links, url: &[u8]) -> Option<Vec<u8>> {
    let change = links.change_url_in_style(url)?;
    Some([&change.by[..], &url[change.range.end..]].concat())
}

fn has_word(list: &[u8], word: &[u8]) -> bool {
    list.split(|byte| tag::is_space(*byte))
        .any(|found| found.eq_ignore_ascii_case(word))
}

/// Whether an element leaves the head open (<https://html.spec.whatwg.org/#parsing-main-inhead>).
fn is_of_a_head(element: &[u8]) -> bool {
    let names = [
        &b"base"[..],
        b"link",
        b"meta",
        b"noscript",
        b"script",
        b"style",
        b"title",
    ];
    names.contains(&element)
}

fn is_policy(field: &[u8]) -> bool {
    field.eq_ignore_ascii_case(b"content-security-policy")
}

/// What a document begins with.
enum Mark {
    Nothing,
    Utf8,
    Utf16,
}

/// The byte order mark, once it can be told (<https://encoding.spec.whatwg.org/#bom-sniff>).
fn mark(text: &[u8], last: bool) -> Option<Mark> {
    match text {
        [0xef, 0xbb, 0xbf, ..] => Some(Mark::Utf8),
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => Some(Mark::Utf16),
        [0xef] | [0xef, 0xbb] | [0xfe] | [0xff] if !last => None,
        _ => Some(Mark::Nothing),
    }
}

/// How many bytes at the end of `text` may be the beginning of `end`.
fn begun(text: &[u8], end: &[u8]) -> usize {
    (1..end.len().min(text.len() + 1))
        .rev()
        .find(|length| text.ends_with(&end[..*length]))
        .unwrap_or(0)
}

fn comment_end(text: &[u8], state: &mut State) -> Step {
    let mut from = 0;
    while let Some(at) = memmem::find(&text[from..], b"--").map(|length| from + length) {
        let rest = &text[at + 2..];
        if let [b'>', ..] | [b'!', b'>', ..] = rest {
            *state = State::Data;
            return Step::On(at + 3 + usize::from(rest[0] == b'!'));
        }
        if matches!(rest, [] | [b'!']) {
            return Step::Wait(at);
        }
        from = at + 1;
    }
    Step::Wait(text.len() - usize::from(text.ends_with(b"-")))
}

/// Whether the end tag of `name` begins here; nothing where that cannot be told yet.
fn ends_raw(text: &[u8], name: &[u8]) -> Option<bool> {
    begins(text, b"</", name)
}

fn begins_script(text: &[u8]) -> Option<bool> {
    begins(text, b"<", b"script")
}

fn begins(text: &[u8], lead: &[u8], name: &[u8]) -> Option<bool> {
    let length = lead.len() + name.len();
    let there = text.len().min(length);
    let is = text[..there.min(lead.len())] == lead[..there.min(lead.len())]
        && text[there.min(lead.len())..there]
            .eq_ignore_ascii_case(&name[..there.saturating_sub(lead.len())]);
    match text.get(length) {
        _ if !is => Some(false),
        None => None,
        Some(byte) => Some(tag::ends_name(*byte)),
    }
}

#[cfg(test)]
mod tests;
