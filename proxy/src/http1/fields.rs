//! Header or trailer fields in the order and spelling in which they came.
//!
//! All text stands in one buffer, so that a head costs two allocations however many fields it
//! has, and none when the buffers are used again. Values are bytes: what is not understood is
//! passed on as it is.

use std::fmt;

use super::name::Name;

/// A piece of the text of a [`Fields`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    at: u32,
    length: u32,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: Name,
    /// Empty for a name in its usual spelling.
    spelling: Span,
    value: Span,
}

/// A list of fields, and the start line that they belong to (see [`super::head`]).
#[derive(Clone, Default)]
pub struct Fields {
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// One field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Which name it is.
    pub name: Name,
    /// The name as it came.
    pub spelling: &'a [u8],
    /// The value without white space around it.
    pub value: &'a [u8],
}

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Bytes of memory that it holds.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.text.capacity() + self.lines.capacity() * size_of::<Line>()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.lines.iter().map(|line| self.field(line))
    }

    /// The values of all fields called `name`, in order.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.lines
            .iter()
            .filter(move |line| line.name == name)
            .map(|line| self.text(line.value))
    }

    /// The values of all fields whose name is spelt so, in any case: for names that [`Name`] has
    /// not.
    pub fn spelt<'a>(&'a self, spelling: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(|field| field.spelling.eq_ignore_ascii_case(spelling.as_bytes()))
            .map(|field| field.value)
    }

    /// The value of the first field called `name`.
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The value of the only field called `name`: nothing where there are several.
    pub fn only(&self, name: Name) -> Option<&[u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Whether there is a field called `name`.
    pub fn has(&self, name: Name) -> bool {
        self.lines.iter().any(|line| line.name == name)
    }

    /// The elements of a comma-separated field over all its lines, empty ones left out (RFC 9110
    /// section 5.6.1).
    pub fn elements(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// Adds a field at the end, in the name's usual spelling.
    ///
    /// The value must be field text: no control bytes but tabs (see [`is_value`]).
    pub fn push(&mut self, name: Name, value: &[u8]) {
        debug_assert!(name != Name::Other && is_value(value));
        let value = self.store(value);
        self.lines.push(Line {
            name,
            spelling: Span::default(),
            value,
        });
    }

    /// Adds a field at the end, spelt as given. Both must be field text, as for [`Self::push`].
    pub fn push_spelt(&mut self, spelling: &[u8], value: &[u8]) {
        debug_assert!(is_token(spelling) && is_value(value));
        let spelling_at = self.store(spelling);
        let value = self.store(value);
        self.lines.push(Line {
            name: Name::of(spelling),
            spelling: spelling_at,
            value,
        });
    }

    /// Makes `value` the only field called `name`, at the end.
    pub fn set(&mut self, name: Name, value: &[u8]) {
        self.remove(name);
        self.push(name, value);
    }

    /// Removes all fields called `name`.
    pub fn remove(&mut self, name: Name) {
        self.lines.retain(|line| line.name != name);
    }

    /// Keeps the fields that `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let Self { text, lines } = self;
        lines.retain(|line| keep(field(text, line)));
    }

    /// Gives each field called `name` the value that `edit` returns, leaves it where that is
    /// [`Edit::Keep`], and removes it where it is [`Edit::Drop`].
    pub fn edit(&mut self, name: Name, mut edit: impl FnMut(&[u8]) -> Edit) {
        let Self { text, lines } = self;
        lines.retain_mut(|line| {
            if line.name != name {
                return true;
            }
            match edit(piece(text, line.value)) {
                Edit::Keep => true,
                Edit::Drop => false,
                Edit::Replace(value) => {
                    debug_assert!(is_value(&value));
                    line.value = store(text, &value);
                    true
                }
            }
        });
    }

    /// Appends the fields as lines, each with its line end.
    pub fn write(&self, out: &mut Vec<u8>) {
        for field in self.iter() {
            out.extend_from_slice(field.spelling);
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Copies the whole text of a head in, for [`Self::push_at`].
    pub(super) fn load(&mut self, text: &[u8]) {
        self.clear();
        // Room for what a proxy adds.
        self.text.reserve(text.len() + 512);
        self.text.extend_from_slice(text);
    }

    /// Adds a field whose name and value are pieces of the loaded text.
    pub(super) fn push_at(&mut self, spelling: Span, value: Span) {
        let name = Name::of(self.text(spelling));
        self.lines.push(Line {
            name,
            spelling,
            value,
        });
    }

    pub(super) fn text(&self, span: Span) -> &[u8] {
        piece(&self.text, span)
    }

    pub(super) fn store(&mut self, bytes: &[u8]) -> Span {
        store(&mut self.text, bytes)
    }

    fn field(&self, line: &Line) -> Field<'_> {
        field(&self.text, line)
    }
}

impl Span {
    /// From `at` up to `end`. Heads are far below four gigabytes.
    pub(super) fn between(at: usize, end: usize) -> Self {
        let small = |number: usize| u32::try_from(number).expect("a head has some kilobytes");
        Self {
            at: small(at),
            length: small(end - at),
        }
    }
}

fn store(text: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let at = text.len();
    text.extend_from_slice(bytes);
    Span::between(at, text.len())
}

fn piece(text: &[u8], span: Span) -> &[u8] {
    &text[span.at as usize..][..span.length as usize]
}

fn field<'a>(text: &'a [u8], line: &Line) -> Field<'a> {
    let spelling = if line.spelling.length == 0 {
        line.name.spelling().as_bytes()
    } else {
        piece(text, line.spelling)
    };
    Field {
        name: line.name,
        spelling,
        value: piece(text, line.value),
    }
}

/// What becomes of a field; see [`Fields::edit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It stays.
    Keep,
    /// It goes.
    Drop,
    /// It has this value from now on.
    Replace(Vec<u8>),
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names alone: values hold tokens and cookies (S3).
        let names = self
            .iter()
            .map(|field| String::from_utf8_lossy(field.spelling).into_owned());
        f.debug_list().entries(names).finish()
    }
}

/// Whether `bytes` are a token (RFC 9110 section 5.6.2): a method or a field name.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// Whether `bytes` may be a field's value (RFC 9110 section 5.5): no control byte but a tab.
pub fn is_value(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

/// The bytes of a token.
pub(super) const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let at = byte as u8;
        table[byte] = at.is_ascii_alphanumeric()
            || matches!(
                at,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Fields {
        let mut fields = Fields::new();
        fields.push_spelt(b"x-A", b"1");
        fields.push(Name::Host, b"h");
        fields.push_spelt(b"X-a", b"2, ,3");
        fields
    }

    fn written(fields: &Fields) -> String {
        let mut out = Vec::new();
        fields.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    // Behaviour 37.
    #[test]
    fn order_spelling_and_duplicates_are_kept() {
        assert_eq!(written(&example()), "x-A: 1\r\nHost: h\r\nX-a: 2, ,3\r\n");
    }

    #[test]
    fn a_field_is_found_by_its_spelling_too() {
        let fields = example();
        assert!(fields.spelt("X-A").eq([&b"1"[..], b"2, ,3"]));
        assert_eq!(fields.spelt("host").count(), 1);
        assert_eq!(fields.spelt("x").count(), 0);
    }

    #[test]
    fn a_field_that_is_there_twice_is_not_the_only_one() {
        let mut fields = example();
        assert_eq!(fields.only(Name::Host), Some(&b"h"[..]));
        fields.push(Name::Host, b"i");
        assert_eq!(fields.only(Name::Host), None);
        fields.set(Name::Host, b"j");
        assert_eq!(fields.only(Name::Host), Some(&b"j"[..]));
    }

    #[test]
    fn edits_apply_to_the_named_fields_alone() {
        let mut fields = Fields::new();
        for value in ["a", "b", "c"] {
            fields.push(Name::SetCookie, value.as_bytes());
            fields.push(Name::Link, value.as_bytes());
        }
        fields.edit(Name::SetCookie, |value| match value {
            b"a" => Edit::Drop,
            b"b" => Edit::Replace(b"longer".to_vec()),
            _ => Edit::Keep,
        });
        let cookies: Vec<_> = fields.all(Name::SetCookie).collect();
        assert_eq!(cookies, [&b"longer"[..], b"c"]);
        assert_eq!(fields.all(Name::Link).count(), 3);
    }

    // S3.
    #[test]
    fn values_are_not_shown_in_debug_output() {
        let mut fields = Fields::new();
        fields.push(Name::Token, b"secret");
        assert_eq!(format!("{fields:?}"), r#"["X-Hpc-Proxy-Token"]"#);
    }
}
