//! Host lists: `node[01-02],login` and the names it stands for.

/// More names than this is a mistake, not a cluster.
const MOST_HOSTS: usize = 65_536;

/// The names a host list stands for, in order; `None` if it is not a host list.
pub(crate) fn expand(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for word in split_outside_brackets(list)? {
        match word.split_once('[') {
            None if word.is_empty() || word.contains(']') => return None,
            None => names.push(word.to_owned()),
            Some((prefix, rest)) => {
                let (ranges, suffix) = rest.split_once(']')?;
                if suffix.contains(['[', ']']) {
                    return None;
                }
                for range in ranges.split(',') {
                    let (low, high) = range.split_once('-').unwrap_or((range, range));
                    let (from, to): (usize, usize) = (low.parse().ok()?, high.parse().ok()?);
                    if from > to || to - from >= MOST_HOSTS {
                        return None;
                    }
                    let width = low.len();
                    names.extend((from..=to).map(|n| format!("{prefix}{n:0width$}{suffix}")));
                }
            }
        }
        if names.len() > MOST_HOSTS {
            return None;
        }
    }
    Some(names)
}

fn split_outside_brackets(list: &str) -> Option<Vec<&str>> {
    let (mut words, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, c) in list.char_indices() {
        match c {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            '[' | ']' => return None,
            ',' if !inside => {
                words.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&list[start..]);
    (!inside).then_some(words)
}

/// The shortest list that stands for `names`, which are given in order.
pub(crate) fn compress<S: AsRef<str>>(names: &[S]) -> String {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    for name in names {
        let name = name.as_ref();
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, number) = name.split_at(name.len() - digits);
        match out.last_mut() {
            Some((last, numbers))
                if last == prefix
                    && numbers
                        .last()
                        .is_some_and(|n| !n.is_empty() && n.len() == number.len()) =>
            {
                numbers.push(number.to_owned());
            }
            _ => out.push((prefix.to_owned(), vec![number.to_owned()])),
        }
    }
    let words: Vec<String> = out
        .into_iter()
        .map(|(prefix, numbers)| match &numbers[..] {
            [only] => format!("{prefix}{only}"),
            many => format!("{prefix}[{}]", ranges(many)),
        })
        .collect();
    words.join(",")
}

/// `01,02,04` as `01-02,04`.
pub(crate) fn ranges<S: AsRef<str>>(numbers: &[S]) -> String {
    let mut runs: Vec<(&str, &str)> = Vec::new();
    for number in numbers.iter().map(AsRef::as_ref) {
        let value = |text: &str| text.parse::<u64>().ok();
        match runs.last_mut() {
            Some((_, high))
                if value(high)
                    .zip(value(number))
                    .is_some_and(|(a, b)| a.checked_add(1) == Some(b)) =>
            {
                *high = number;
            }
            _ => runs.push((number, number)),
        }
    }
    let words: Vec<String> = runs
        .into_iter()
        .map(|(low, high)| {
            if low == high {
                low.into()
            } else {
                format!("{low}-{high}")
            }
        })
        .collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expands_ranges_and_keeps_their_width() {
        assert_eq!(expand("node[01-02]").unwrap(), ["node01", "node02"]);
        assert_eq!(expand("a[1,3-4]b,c").unwrap(), ["a1b", "a3b", "a4b", "c"]);
        assert_eq!(expand("node01").unwrap(), ["node01"]);
        for bad in [
            "",
            "a,,b",
            "a[",
            "a]",
            "a[1-",
            "a[x]",
            "a[2-1]",
            "a[1-99999999]",
            "a[[1]]",
        ] {
            assert_eq!(expand(bad), None, "{bad}");
        }
    }

    #[test]
    fn compresses_neighbours() {
        assert_eq!(compress(&["node01", "node02"]), "node[01-02]");
        assert_eq!(
            compress(&["node01", "node03", "login"]),
            "node[01,03],login"
        );
        assert_eq!(compress(&["node01"]), "node01");
        assert_eq!(compress::<&str>(&[]), "");
        assert_eq!(compress(&["a9", "a10"]), "a9,a10");
    }

    proptest! {
        #[test]
        fn what_was_compressed_expands_to_the_same_names(
            names in proptest::collection::vec("[a-z]{1,3}[0-9]{0,3}", 1..12)
        ) {
            prop_assert_eq!(expand(&compress(&names)), Some(names));
        }

        #[test]
        fn no_text_makes_expand_panic(text in "\\PC{0,30}") {
            let _ = expand(&text);
        }
    }
}
