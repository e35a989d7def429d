//! Text on its way to a person: somebody else's, and that of errors.

use std::{error::Error, iter};

/// Whether a terminal would act on a character instead of showing it: controls, line and paragraph
/// separators, and the marks of bidirectional text, which turn the rest of a line around.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |error| (**error).source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}
