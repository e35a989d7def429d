//! Expected text with holes in it: `{time}` a time stamp, `{id}` a number, `{span}` a span such as
//! `0:03`, `{any}` anything within the line. `${J}` is a variable of the row's shell.

use std::collections::BTreeMap;

/// Values of shell variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// A line that begins so may be missing: a state too short to be seen each time, or words that Slurm itself loses
/// when what says them ends.
const MAYBE: &str = "{maybe}";

/// One line of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Same(String),
    Missing(String),
    Unexpected(String),
}

/// Blanks at the end of a line are not looked at: nobody sees them in the table.
/// Lays expected lines beside actual ones; what differs is in the order of a diff.
pub(crate) fn compare(expected: &[String], actual: &[String], variables: &Variables) -> Vec<Line> {
    let fits = |i: usize, j: usize| {
        let pattern = expand(&expected[i], variables);
        matches(
            pattern.strip_prefix(MAYBE).unwrap_or(&pattern).trim_end(),
            actual[j].trim_end(),
        )
    };
    // The longest common subsequence, from the end, so that it can be read from the beginning.
    let (rows, columns) = (expected.len(), actual.len());
    let mut longest = vec![vec![0; columns + 1]; rows + 1];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            longest[i][j] = if fits(i, j) {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < rows || j < columns {
        if i < rows && j < columns && fits(i, j) && longest[i][j] == longest[i + 1][j + 1] + 1 {
            lines.push(Line::Same(expected[i].clone()));
            (i, j) = (i + 1, j + 1);
        } else if j == columns || i < rows && longest[i + 1][j] >= longest[i][j + 1] {
            if !expected[i].starts_with(MAYBE) {
                lines.push(Line::Missing(expected[i].clone()));
            }
            i += 1;
        } else {
            lines.push(Line::Unexpected(actual[j].clone()));
            j += 1;
        }
    }
    lines
}

/// Whether nothing differs.
pub(crate) fn is_equal(lines: &[Line]) -> bool {
    lines.iter().all(|line| matches!(line, Line::Same(_)))
}

/// Puts the values of variables in.
fn expand(pattern: &str, variables: &Variables) -> String {
    variables
        .iter()
        .fold(pattern.to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), value)
        })
}

/// Whether `text` is what `pattern` describes.
fn matches(pattern: &str, text: &str) -> bool {
    let hole = ["time", "id", "span", "any"]
        .into_iter()
        .filter_map(|hole| Some((pattern.find(&format!("{{{hole}}}"))?, hole)))
        .min();
    let Some((at, hole)) = hole else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(&pattern[..at]) else {
        return false;
    };
    let rest = &pattern[at + hole.len() + 2..];
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .any(|at| fills(hole, &text[..at]) && matches(rest, &text[at..]))
}

fn fills(hole: &str, word: &str) -> bool {
    let digit = |c: char| c.is_ascii_digit();
    match hole {
        "time" => shape(word) == "0000-00-00T00:00:00",
        "id" => !word.is_empty() && word.chars().all(digit),
        "span" => word.contains(':') && word.chars().all(|c| digit(c) || ":-".contains(c)),
        _ => true,
    }
}

fn shape(word: &str) -> String {
    word.chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect()
}

/// The pattern that a recorded line becomes: times and the values of variables are holes.
pub(crate) fn generalise(line: &str, variables: &Variables) -> String {
    /// What is shorter may be there by chance.
    const SHORTEST: usize = 4;
    let mut out = String::new();
    let mut rest = line;
    'line: while let Some(first) = rest.chars().next() {
        let inside_word = out.ends_with(|c: char| c.is_ascii_alphanumeric());
        if let Some(word) = rest.get(..19).filter(|word| fills("time", word)) {
            out += "{time}";
            rest = &rest[word.len()..];
            continue;
        }
        for (name, value) in variables {
            let Some(after) = rest.strip_prefix(value.as_str()) else {
                continue;
            };
            let ends = !after.starts_with(|c: char| c.is_ascii_alphanumeric());
            if value.len() >= SHORTEST && !inside_word && ends {
                out += &format!("${{{name}}}");
                rest = after;
                continue 'line;
            }
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn holes_take_what_they_are_named_for_and_nothing_else() {
        assert!(matches(
            "job {id} at {time}",
            "job 12 at 2026-11-23T02:09:45"
        ));
        assert!(matches("a{any}z {x}", "a-b-z {x}"));
        assert!(matches("{span}|{span}", "0:03|1-00:00:00"));
        assert!(!matches("job {id}", "job x"));
        assert!(!matches("at {time}", "at 02:09:45"));
        assert!(!matches("plain", "plain "));
        assert!(!matches("{span}", "12"));
    }

    #[test]
    fn a_comparison_names_what_is_missing_and_what_is_too_much() {
        let variables = [("J".to_owned(), "7".to_owned())].into();
        let expected = lines(&["one", "{maybe}two", "job ${J}", "four"]);
        let equal = compare(&expected, &lines(&["one", "job 7", "four"]), &variables);
        assert!(is_equal(&equal), "{equal:?}");
        let differs = compare(
            &expected,
            &lines(&["one", "job 8", "four", "five"]),
            &variables,
        );
        assert_eq!(
            differs,
            [
                Line::Same("one".into()),
                Line::Missing("job ${J}".into()),
                Line::Unexpected("job 8".into()),
                Line::Same("four".into()),
                Line::Unexpected("five".into()),
            ]
        );
    }

    #[test]
    fn a_recorded_line_fits_what_it_was_made_from() {
        let variables: Variables = [("J".to_owned(), "4012".to_owned())].into();
        let line = "job 4012_1 of 40120 at 2026-11-23T02:09:45 in /x/4012";
        let pattern = generalise(line, &variables);
        assert_eq!(pattern, "job ${J}_1 of 40120 at {time} in /x/${J}");
        assert!(matches(&expand(&pattern, &variables), line));
    }
}
