//! Which attributes of which elements hold URLs, and in which form
//! (<https://html.spec.whatwg.org/multipage/indices.html#attributes-3>, and SVG 2).

/// What stands in an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A URL.
    Url,
    /// The URL that all others are relative to.
    Base,
    /// Image candidates.
    Srcset,
    /// URLs with white space between them.
    List,
    /// Declarations of a style.
    Style,
    /// A document.
    Document,
}

impl Place {
    /// What the attribute `name` of the element `element`, in lowercase, holds; nothing that matters
    /// for most.
    pub(super) fn of(element: &[u8], name: &[u8], svg: bool) -> Option<Self> {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        // Told apart by their lengths first: almost all attributes are none of these.
        let matches = match name.len() {
            3 if is(b"src") => matches!(
                element,
                b"audio"
                    | b"embed"
                    | b"frame"
                    | b"iframe"
                    | b"img"
                    | b"image"
                    | b"input"
                    | b"script"
                    | b"source"
                    | b"track"
                    | b"video"
            ),
            4 if is(b"href") => match element {
                b"base" if !svg => return Some(Self::Base),
                b"a" | b"area" | b"link" => true,
                _ => svg,
            },
            4 if is(b"data") => element == b"object",
            4 if is(b"cite") => matches!(element, b"blockquote" | b"del" | b"ins" | b"q"),
            4 if is(b"ping") && matches!(element, b"a" | b"area") => return Some(Self::List),
            5 if is(b"style") => return Some(Self::Style),
            6 if is(b"action") => element == b"form",
            6 if is(b"poster") => element == b"video",
            6 if is(b"srcset") && matches!(element, b"img" | b"source") => {
                return Some(Self::Srcset);
            }
            6 if is(b"srcdoc") && element == b"iframe" => return Some(Self::Document),
            10 if is(b"formaction") => matches!(element, b"button" | b"input"),
            10 if is(b"background") => matches!(
                element,
                b"body" | b"table" | b"tbody" | b"td" | b"tfoot" | b"th" | b"thead" | b"tr"
            ),
            10 if is(b"xlink:href") => svg,
            11 if is(b"imagesrcset") && element == b"link" => return Some(Self::Srcset),
            _ => false,
        };
        matches.then_some(Self::Url)
    }
}
