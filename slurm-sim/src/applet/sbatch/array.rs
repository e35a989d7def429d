//! `--array`: `1-4`, `0-6:2`, `1,3,5`, each with an optional `%2` at the end.

/// The most tasks of one array, Slurm's default.
const MOST_TASKS: usize = 1001;

/// The tasks of an array, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Array {
    pub(super) tasks: Vec<u32>,
    pub(super) step: u32,
    pub(super) at_once: Option<u32>,
}

pub(super) fn parse(text: &str) -> Option<Array> {
    let (list, at_once) = match text.split_once('%') {
        Some((list, at_once)) => (list, Some(at_once.parse().ok().filter(|&n| n > 0)?)),
        None => (text, None),
    };
    let (mut tasks, mut every) = (Vec::new(), 1);
    for word in list.split(',') {
        let (range, step) = match word.split_once(':') {
            Some((range, step)) => (range, step.parse::<u32>().ok().filter(|&step| step > 0)?),
            None => (word, 1),
        };
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?);
        if from > to || to as usize >= MOST_TASKS {
            return None;
        }
        every = step;
        tasks.extend((from..=to).step_by(step as usize));
    }
    tasks.sort_unstable();
    tasks.dedup();
    Some(Array {
        tasks,
        step: every,
        at_once,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_lists_ranges_and_steps() {
        assert_eq!(parse("1-2").unwrap().tasks, [1, 2]);
        assert_eq!(
            parse("0-6:2%3").unwrap(),
            Array {
                tasks: vec![0, 2, 4, 6],
                step: 2,
                at_once: Some(3)
            }
        );
        assert_eq!(parse("5,1,1-2").unwrap().tasks, [1, 2, 5]);
        for bad in ["", "a", "2-1", "1-", "1%0", "1-9999", "1:0"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_array_is_empty(text in "[0-9,:%-]{0,12}") {
            prop_assert!(parse(&text).is_none_or(|array| !array.tasks.is_empty()));
        }
    }
}
