//! Expected text with holes in it: `{time}` a time stamp, `{id}` a number, `{span}` a span such as
//! `0:03`, `{any}` anything up to what follows.

/// Whether `text` is what `pattern` describes.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('{') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(before) else {
        return false;
    };
    let (hole, rest) = rest.split_once('}').expect("every hole is closed");
    let digit = |c: char| c.is_ascii_digit();
    let fits: Box<dyn Fn(&str) -> bool> = match hole {
        "time" => Box::new(is_time),
        "id" => Box::new(move |word| !word.is_empty() && word.chars().all(digit)),
        "span" => Box::new(move |word| {
            word.contains(':') && word.chars().all(|c| digit(c) || ":-".contains(c))
        }),
        "any" => Box::new(|_| true),
        other => panic!("no hole is called `{other}`"),
    };
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .any(|at| fits(&text[..at]) && matches(rest, &text[at..]))
}

/// `2026-11-23T02:09:45`
fn is_time(word: &str) -> bool {
    let shape = "0000-00-00T00:00:00";
    word.len() == shape.len()
        && word
            .chars()
            .zip(shape.chars())
            .all(|(c, shape)| match shape {
                '0' => c.is_ascii_digit(),
                shape => c == shape,
            })
}

#[test]
fn holes_take_what_they_are_named_for_and_nothing_else() {
    assert!(matches(
        "job {id} at {time}\n",
        "job 12 at 2026-11-23T02:09:45\n"
    ));
    assert!(matches("a{any}z", "a-b-z"));
    assert!(matches("{span}|{span}", "0:03|1-00:00:00"));
    assert!(!matches("job {id}", "job x"));
    assert!(!matches("at {time}", "at 02:09:45"));
    assert!(!matches("plain", "plain "));
    assert!(!matches("{span}", "12"));
}
