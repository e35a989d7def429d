//! Which answers are rewritten on their way, and what their head says then. Whoever asks for a page gets a
//! document whose URLs hold below the prefix; every other body passes byte for byte.
//!
//! `Cache-Control: no-transform` is no hindrance: this proxy stands in for the dev server, and without its
//! work the page would not be the one that was written.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::{
    csp,
    decode::{BadCoding, Decoder},
    hex,
    http1::{
        fields::{Edit, Fields},
        head::{RequestHead, ResponseHead},
        name::Name,
    },
    markup::{Markup, SHIM, Sheet, Tags, map_hash},
    prefix::Prefixer,
};

/// How much is unpacked before it is passed on.
const PIECE_BYTES: usize = 64 * 1024;

/// What a request asks for, if an answer to it may be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A page, whole or in a frame.
    Document,
    /// A style sheet.
    Style,
}

impl Wanted {
    /// Browsers say so in `Sec-Fetch-Dest` (<https://www.w3.org/TR/fetch-metadata/>), but not to servers
    /// whose name they do not trust; then `Accept` tells, unless a script asked.
    pub(crate) fn of(fields: &Fields) -> Option<Self> {
        if let Some(destination) = fields.get(Name::SecFetchDest) {
            return match destination {
                b"document" | b"iframe" | b"frame" | b"embed" | b"object" => Some(Self::Document),
                b"style" => Some(Self::Style),
                // Fetched ahead by the browser, or by a service worker that passes a navigation on.
                b"empty" if is_navigation(fields) => Some(Self::Document),
                _ => None,
            };
        }
        let accept = fields.get(Name::Accept)?;
        if accept.starts_with(b"text/css") {
            return Some(Self::Style);
        }
        let html = memchr::memmem::find(accept, b"text/html").is_some();
        let by_script = || fields.spelt("x-requested-with").next().is_some();
        (html && !by_script()).then_some(Self::Document)
    }
}

fn is_navigation(fields: &Fields) -> bool {
    let starts = |name, word: &[u8]| fields.spelt(name).any(|value| value.starts_with(word));
    starts("sec-fetch-mode", b"navigate") || starts("sec-purpose", b"prefetch")
}

/// A request whose answer may be rewritten.
#[derive(Debug)]
pub(crate) struct Asked {
    wanted: Wanted,
    /// Whether routers in the page look through the shim's doors.
    doors: bool,
    /// The path that the server sees.
    target: String,
}

impl Asked {
    /// Notes what `head`, as it goes to the server, asks for, and asks for it in a form that can be
    /// rewritten, and is sent again where it was rewritten in another way.
    pub(crate) fn note(wanted: Wanted, doors: bool, head: &mut RequestHead) -> Self {
        let target = String::from_utf8_lossy(head.target()).into_owned();
        let fields = &mut head.fields;
        fields.edit(Name::AcceptEncoding, |_| {
            Edit::Replace(b"identity".to_vec())
        });
        fields.edit(Name::IfNoneMatch, restored);
        // When a page last changed says nothing about the changes that are made here.
        if !fields.has(Name::IfNoneMatch) {
            fields.remove(Name::IfModifiedSince);
        }
        Self {
            wanted,
            doors,
            target,
        }
    }

    /// Decides about an answer, and gives its head the form that it has then.
    pub(crate) fn transform(
        &self,
        prefixer: &dyn Fn() -> Prefixer,
        answer: &mut ResponseHead,
    ) -> Option<Box<Transform>> {
        let fields = &mut answer.fields;
        if answer.status == 304 {
            fields.edit(Name::Etag, |tag| Edit::Replace(changed(tag)));
            // What it says replaces what was said with the page (RFC 9111 section 3.2).
            if self.wanted == Wanted::Document {
                loosen(fields, &prefixer());
            }
            return None;
        }
        let kind = self.kind(answer.status, fields)?;
        let decoder = match coding(fields) {
            Coding::None => None,
            Coding::Known(decoder) => Some(decoder),
            Coding::Unknown => return None,
        };
        for name in [
            Name::ContentEncoding,
            Name::ContentLength,
            Name::AcceptRanges,
            Name::ContentMd5,
            Name::Digest,
            Name::ContentDigest,
            Name::ReprDigest,
        ] {
            fields.remove(name);
        }
        fields.edit(Name::Etag, |tag| Edit::Replace(changed(tag)));
        let prefixer = prefixer();
        let into = match kind {
            Kind::Style => Into::Style(Sheet::new(prefixer, &self.target)),
            Kind::Html | Kind::Xhtml => {
                let nonce = loosen(fields, &prefixer);
                let mut tags = Tags::new(&prefixer, nonce.as_deref());
                if self.doors {
                    tags = tags.with_doors();
                }
                Into::Document(if kind == Kind::Html {
                    Markup::new(prefixer, &self.target, tags)
                } else {
                    Markup::xml(prefixer, &self.target, tags)
                })
            }
        };
        Some(Box::new(Transform {
            decoder,
            into,
            begun: false,
            unpacked: Vec::new(),
        }))
    }

    fn kind(&self, status: u16, fields: &Fields) -> Option<Kind> {
        if !matches!(status, 200..=203 | 400..=599) {
            return None;
        }
        let kind = Kind::of(fields.only(Name::ContentType)?)?;
        let wanted = match kind {
            Kind::Html | Kind::Xhtml => Wanted::Document,
            Kind::Style => Wanted::Style,
        };
        let download = fields.all(Name::ContentDisposition).any(|value| {
            let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
            kind.trim_ascii().eq_ignore_ascii_case(b"attachment")
        });
        (wanted == self.wanted && !download && !fields.has(Name::ContentRange)).then_some(kind)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Html,
    Xhtml,
    Style,
}

impl Kind {
    fn of(content_type: &[u8]) -> Option<Self> {
        let mut parts = content_type
            .split(|byte| *byte == b';')
            .map(<[u8]>::trim_ascii);
        let kind = parts.next()?.to_ascii_lowercase();
        let kind = match &kind[..] {
            b"text/html" => Self::Html,
            b"application/xhtml+xml" => Self::Xhtml,
            b"text/css" => Self::Style,
            _ => return None,
        };
        // In these a `<` may be part of something else.
        let opaque = parts.any(|parameter| {
            let parameter = parameter.to_ascii_lowercase();
            let charset = parameter.strip_prefix(b"charset=").unwrap_or_default();
            let charset = charset.strip_prefix(b"\"").unwrap_or(charset);
            [
                &b"utf-16"[..],
                b"utf-32",
                b"ucs-2",
                b"unicode",
                b"iso-10646",
                b"csunicode",
                b"iso-2022",
                b"csiso2022",
                b"hz-gb",
            ]
            .iter()
            .any(|known| charset.starts_with(known))
        });
        (!opaque).then_some(kind)
    }
}

enum Coding {
    None,
    Known(Decoder),
    Unknown,
}

fn coding(fields: &Fields) -> Coding {
    let mut codings = fields
        .elements(Name::ContentEncoding)
        .filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    match (codings.next(), codings.next()) {
        (None, _) => Coding::None,
        (Some(coding), None) => Decoder::of(coding).map_or(Coding::Unknown, Coding::Known),
        (Some(_), Some(_)) => Coding::Unknown,
    }
}

/// Loosens the policies of a document, and returns the nonce that they ask for.
fn loosen(fields: &mut Fields, prefixer: &Prefixer) -> Option<String> {
    const POLICIES: [Name; 2] = [
        Name::ContentSecurityPolicy,
        Name::ContentSecurityPolicyReportOnly,
    ];
    if !POLICIES.iter().any(|name| fields.has(*name)) {
        return None;
    }
    let hash = (!prefixer.prefix.is_empty()).then(|| map_hash(&prefixer.prefix));
    let mut nonce = None;
    for name in POLICIES {
        fields.edit(name, |value| {
            let Ok(policies) = std::str::from_utf8(value) else {
                return Edit::Keep;
            };
            let told = csp::loosened(policies, prefixer, hash.as_deref());
            nonce = nonce.take().or(told.nonce);
            Edit::Replace(told.policy.into_bytes())
        });
    }
    nonce
}

/// What the tag of a rewritten body ends with. Another version of this program rewrites in another way.
static MARK: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(SHIM);
    format!(";hpc-{}", hex::encode(&hash.finalize()[..4]))
});

/// The entity tag of a rewritten body (RFC 9110 section 8.8.3): a weak one, since what it names is like
/// what the server named.
fn changed(tag: &[u8]) -> Vec<u8> {
    let strong = !tag.starts_with(b"W/");
    let Some(opaque) = tag.strip_suffix(b"\"") else {
        return tag.to_vec();
    };
    let lead: &[u8] = if strong { b"W/" } else { b"" };
    let kind: &[u8] = if strong { b"s\"" } else { b"\"" };
    [lead, opaque, MARK.as_bytes(), kind].concat()
}

/// `If-None-Match` with the tags that the server gave; none that says nothing about a rewritten body.
fn restored(tags: &[u8]) -> Edit {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for tag in tags
        .split(|byte| *byte == b'"')
        .collect::<Vec<_>>()
        .chunks(2)
    {
        let [lead, opaque] = tag else { continue };
        let lead = lead.trim_ascii_end();
        let weak = lead.ends_with(b"W/");
        let (opaque, strong) = match opaque.strip_suffix(b"s") {
            Some(rest) if rest.ends_with(MARK.as_bytes()) => (rest, true),
            _ => (*opaque, false),
        };
        if let (true, Some(own)) = (weak, opaque.strip_suffix(MARK.as_bytes())) {
            let lead: &[u8] = if strong { b"\"" } else { b"W/\"" };
            kept.push([lead, own, b"\""].concat());
        }
    }
    if kept.is_empty() {
        Edit::Drop
    } else {
        Edit::Replace(kept.join(&b", "[..]))
    }
}

/// A body on its way, being rewritten.
#[derive(Debug)]
pub struct Transform {
    decoder: Option<Decoder>,
    into: Into,
    /// Whether any of it came.
    begun: bool,
    /// Memory for what was unpacked.
    unpacked: Vec<u8>,
}

#[derive(Debug)]
enum Into {
    Document(Markup),
    Style(Sheet),
}

impl Transform {
    /// Takes some of `content` and appends to `out` what it becomes; returns how much was taken. All that
    /// came is passed on once nothing is taken and nothing comes out.
    ///
    /// # Errors
    /// When it is not coded as was said.
    pub(crate) fn step(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<usize, BadCoding> {
        self.begun |= !content.is_empty();
        let Some(decoder) = &mut self.decoder else {
            let some = &content[..content.len().min(PIECE_BYTES)];
            self.into.feed(some, out);
            return Ok(some.len());
        };
        let (mut taken, before) = (0, out.len());
        loop {
            self.unpacked.clear();
            let used = decoder.step(&content[taken..], &mut self.unpacked)?;
            taken += used;
            self.into.feed(&self.unpacked, out);
            if out.len() > before || (used == 0 && self.unpacked.is_empty()) {
                return Ok(taken);
            }
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// When more should have come.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BadCoding> {
        if let Some(decoder) = &mut self.decoder
            && self.begun
            && !decoder.is_complete()
        {
            return Err(BadCoding);
        }
        match &mut self.into {
            Into::Document(document) => document.end(out),
            Into::Style(sheet) => sheet.end(out),
        }
        Ok(())
    }
}

impl Into {
    fn feed(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Document(document) => document.feed(text, out),
            Self::Style(sheet) => sheet.feed(text, out),
        }
    }
}
