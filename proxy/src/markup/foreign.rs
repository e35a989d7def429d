//! Where SVG and MathML begin and end inside HTML: there, `<style>` and `<title>` hold elements and not
//! raw text, and an element may close itself.
//!
//! The short form of <https://html.spec.whatwg.org/#parsing-main-inforeign>: the stack of open elements is
//! kept for the elements alone that change the namespace.

/// More nested namespaces than any page has; deeper ones are not told apart.
const DEEPEST: usize = 256;

/// What may open another namespace, or go back to HTML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Svg,
    Math,
    /// An element inside a foreign one whose content is HTML again.
    Point(Point),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    ForeignObject,
    Desc,
    Title,
    AnnotationXml,
    MathText([u8; 5]),
}

/// The namespaces that are open.
#[derive(Debug, Default)]
pub(super) struct Foreign(Vec<Open>);

impl Foreign {
    /// Whether none is open.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the content here is SVG.
    pub(super) fn is_svg(&self) -> bool {
        self.0.last() == Some(&Open::Svg)
    }

    /// Whether the content here is SVG or MathML.
    pub(super) fn is_inside(&self) -> bool {
        matches!(self.0.last(), Some(Open::Svg | Open::Math))
    }

    /// Whether the content here is HTML inside of them.
    pub(super) fn is_point(&self) -> bool {
        matches!(self.0.last(), Some(Open::Point(_)))
    }

    /// A start tag, its name in lowercase. `html` is said of an `annotation-xml` whose encoding is HTML.
    pub(super) fn start(&mut self, name: &[u8], self_closing: bool, html: bool) {
        match (name, self.0.last()) {
            (b"svg", _) => self.push(Open::Svg, self_closing),
            (b"math", _) => self.push(Open::Math, self_closing),
            (_, Some(Open::Svg)) => {
                let point = match name {
                    b"foreignobject" => Point::ForeignObject,
                    b"desc" => Point::Desc,
                    b"title" => Point::Title,
                    _ => return self.leave_for(name),
                };
                self.push(Open::Point(point), self_closing);
            }
            (_, Some(Open::Math)) => {
                let point = match name {
                    b"annotation-xml" if html => Point::AnnotationXml,
                    b"mi" | b"mo" | b"mn" | b"ms" | b"mtext" => {
                        let mut text = [0; 5];
                        text[..name.len()].copy_from_slice(name);
                        Point::MathText(text)
                    }
                    _ => return self.leave_for(name),
                };
                self.push(Open::Point(point), self_closing);
            }
            (_, Some(Open::Point(_)) | None) => {}
        }
    }

    /// An end tag, its name in lowercase.
    pub(super) fn end(&mut self, name: &[u8]) {
        let closes = |open: &Open| match open {
            Open::Svg => name == b"svg",
            Open::Math => name == b"math",
            Open::Point(point) => match point {
                Point::ForeignObject => name == b"foreignobject",
                Point::Desc => name == b"desc",
                Point::Title => name == b"title",
                Point::AnnotationXml => name == b"annotation-xml",
                Point::MathText(text) => {
                    text.starts_with(name) && text[name.len()..].iter().all(|byte| *byte == 0)
                }
            },
        };
        if let Some(at) = self.0.iter().rposition(closes) {
            self.0.truncate(at);
        } else if matches!(name, b"br" | b"p") && self.is_inside() {
            self.leave();
        }
    }

    fn push(&mut self, open: Open, self_closing: bool) {
        if !self_closing && self.0.len() < DEEPEST {
            self.0.push(open);
        }
    }

    /// Elements of HTML that have no place in a foreign one end it.
    fn leave_for(&mut self, name: &[u8]) {
        const BREAKS_OUT: [&[u8]; 44] = [
            b"b",
            b"big",
            b"blockquote",
            b"body",
            b"br",
            b"center",
            b"code",
            b"dd",
            b"div",
            b"dl",
            b"dt",
            b"em",
            b"embed",
            b"h1",
            b"h2",
            b"h3",
            b"h4",
            b"h5",
            b"h6",
            b"head",
            b"hr",
            b"i",
            b"img",
            b"li",
            b"listing",
            b"menu",
            b"meta",
            b"nobr",
            b"ol",
            b"p",
            b"pre",
            b"ruby",
            b"s",
            b"small",
            b"span",
            b"strong",
            b"strike",
            b"sub",
            b"sup",
            b"table",
            b"tt",
            b"u",
            b"ul",
            b"var",
        ];
        if BREAKS_OUT.contains(&name) {
            self.leave();
        }
    }

    fn leave(&mut self) {
        while self.is_inside() {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_comes_back_inside_and_behind() {
        let mut foreign = Foreign::default();
        foreign.start(b"svg", false, false);
        foreign.start(b"style", false, false);
        assert!(foreign.is_svg());
        foreign.start(b"foreignobject", false, false);
        assert!(!foreign.is_inside());
        foreign.start(b"math", false, false);
        foreign.start(b"mi", false, false);
        assert!(!foreign.is_inside());
        foreign.end(b"mi");
        assert!(foreign.is_inside() && !foreign.is_svg());
        foreign.end(b"svg");
        assert!(!foreign.is_inside());
        foreign.start(b"svg", true, false);
        assert!(!foreign.is_inside());
        foreign.start(b"svg", false, false);
        foreign.start(b"div", false, false);
        assert!(!foreign.is_inside());
    }
}
