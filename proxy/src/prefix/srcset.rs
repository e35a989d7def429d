//! The URLs of a list of image candidates, found by
//! <https://html.spec.whatwg.org/multipage/images.html#parsing-a-srcset-attribute>.

use std::borrow::Cow;

const SPACES: [char; 5] = ['\t', '\n', '\x0c', '\r', ' '];

/// The list with each URL replaced, and all else as written.
pub(super) fn map<'a>(written: &'a str, url: impl Fn(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    let (mut moved, mut rest, mut changed) = (String::new(), written, false);
    loop {
        let start = rest.len()
            - rest
                .trim_start_matches(|c| c == ',' || SPACES.contains(&c))
                .len();
        moved.push_str(&rest[..start]);
        rest = &rest[start..];
        if rest.is_empty() {
            break;
        }
        let end = rest.find(SPACES).unwrap_or(rest.len());
        let candidate = rest[..end].trim_end_matches(',');
        let to = url(candidate);
        changed |= to != candidate;
        moved.push_str(&to);
        let tail = if candidate.len() == end {
            end + descriptors(&rest[end..])
        } else {
            end
        };
        moved.push_str(&rest[candidate.len()..tail]);
        rest = &rest[tail..];
    }
    if changed {
        Cow::Owned(moved)
    } else {
        Cow::Borrowed(written)
    }
}

/// The length of what follows a URL, up to the comma that ends the candidate: one in parentheses does
/// not. A parenthesis counts at any place in a descriptor, and does not nest.
fn descriptors(text: &str) -> usize {
    let mut inside = false;
    text.find(|character| {
        match character {
            '(' => inside = true,
            ')' => inside = false,
            ',' => return !inside,
            _ => {}
        }
        false
    })
    .unwrap_or(text.len())
}
