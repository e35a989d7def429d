//! The formats of squeue and sinfo: `%[.][width]letter` with text in between (`-o`), or names of
//! fields, each with a `:[.]width` (`-O`).

/// A format, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    prefix: String,
    fields: Vec<Field>,
}

/// One field, and the text up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    letter: char,
    width: Option<usize>,
    right: bool,
    suffix: String,
}

impl Format {
    /// Takes a format apart. A `%` without a letter is an error, whose value is the rest.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('%');
        let prefix = parts.next().unwrap_or_default().to_owned();
        let fields = parts
            .map(|part| {
                let right = part.starts_with('.');
                let part = &part[usize::from(right)..];
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                let (width, rest) = part.split_at(digits);
                let mut rest = rest.chars();
                let letter = rest.next();
                Ok(Field {
                    letter: letter.ok_or_else(|| part.to_owned())?,
                    // Wider than any terminal is as good as this.
                    width: (digits > 0).then(|| width.parse().unwrap_or(9999).min(9999)),
                    right,
                    suffix: rest.as_str().to_owned(),
                })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { prefix, fields })
    }

    /// Reads `-O`: each field is as wide as it says, or this wide. `letter` knows the names; one
    /// that it does not know is an error, with the line as far as it was understood.
    pub(crate) fn of_names(
        text: &str,
        letter: impl Fn(&str) -> Option<char>,
    ) -> Result<Self, (Self, String)> {
        const WIDTH: usize = 20;
        let mut format = Self {
            prefix: String::new(),
            fields: vec![],
        };
        for word in text.split(',') {
            let (name, width) = word.split_once(':').unwrap_or((word, ""));
            let right = width.starts_with('.');
            let width = width.trim_start_matches('.');
            let Some(letter) = letter(&name.to_ascii_lowercase()) else {
                return Err((format, name.to_owned()));
            };
            format.fields.push(Field {
                letter,
                width: Some(width.parse().unwrap_or(WIDTH).min(9999)),
                right,
                suffix: String::new(),
            });
        }
        Ok(format)
    }

    /// Turns fields that there are not into the text that they were written as; returns their letters.
    pub(crate) fn settle(&mut self, known: impl Fn(char) -> bool) -> Vec<char> {
        let mut strangers = Vec::new();
        let mut kept: Vec<Field> = Vec::new();
        for field in self.fields.drain(..) {
            if known(field.letter) {
                kept.push(field);
                continue;
            }
            strangers.push(field.letter);
            let text = format!("%{}{}", field.letter, field.suffix);
            match kept.last_mut() {
                Some(before) => before.suffix += &text,
                None => self.prefix += &text,
            }
        }
        self.fields = kept;
        strangers
    }

    /// The letters, in order.
    pub(crate) fn letters(&self) -> impl Iterator<Item = char> {
        self.fields.iter().map(|field| field.letter)
    }

    /// One line, without its newline. `cell` gives the text for a letter.
    pub(crate) fn line(&self, mut cell: impl FnMut(char) -> String) -> String {
        let mut line = self.prefix.clone();
        for field in &self.fields {
            let text = cell(field.letter);
            match field.width {
                None => line.push_str(&text),
                Some(width) => {
                    let cut: String = text.chars().take(width).collect();
                    line.push_str(&match field.right {
                        true => format!("{cut:>width$}"),
                        false => format!("{cut:<width$}"),
                    });
                }
            }
            line.push_str(&field.suffix);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(format: &str) -> String {
        Format::parse(format)
            .unwrap()
            .line(|letter| format!("<{letter}>"))
    }

    #[test]
    fn pads_and_cuts_to_the_width() {
        assert_eq!(show("%i|%T"), "<i>|<T>");
        assert_eq!(show("%.5i %5i %2i."), "  <i> <i>   <i.");
        assert_eq!(show("plain"), "plain");
        assert_eq!(show("a%.1ib"), "a<b");
    }

    #[test]
    fn a_percent_sign_wants_a_letter() {
        for bad in ["%", "%5", "%.", "%i%%"] {
            assert!(Format::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_format_panics(text in "\\PC{0,20}") {
            if let Ok(format) = Format::parse(&text) {
                format.line(|_| "x".into());
            }
        }

        #[test]
        fn a_field_with_a_width_is_exactly_that_wide(width in 1usize..40, text in "\\PC{0,50}") {
            let format = Format::parse(&format!("%.{width}i")).unwrap();
            prop_assert_eq!(format.line(|_| text.clone()).chars().count(), width);
        }
    }
}
