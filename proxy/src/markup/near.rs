//! A byte that is likely near: most names, values and texts of a page are a few bytes long, and a search
//! made for long ones takes longer to begin than they take to read.

use memchr::memchr;

/// How many bytes are read at once, and how often before it is a search for a long one.
const WORD_BYTES: usize = size_of::<u64>();
const WORDS: usize = 3;

/// Where `wanted` is first in `text`, as memchr(3) finds it.
#[inline]
pub(super) fn find(wanted: u8, text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; WORD_BYTES]);
    const TOPS: u64 = ONES << 7;
    let pattern = ONES * u64::from(wanted);
    let (words, _) = text.as_chunks();
    for (number, word) in words.iter().take(WORDS).enumerate() {
        // The lowest byte that is zero borrows first; those above it may be mistaken.
        let zero = u64::from_le_bytes(*word) ^ pattern;
        let found = zero.wrapping_sub(ONES) & !zero & TOPS;
        if found != 0 {
            return Some(number * WORD_BYTES + found.trailing_zeros() as usize / 8);
        }
    }
    let from = words.len().min(WORDS) * WORD_BYTES;
    memchr(wanted, &text[from..]).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_where_any_search_finds_it(
            text in prop::collection::vec(prop_oneof![Just(b'<'), Just(b'='), Just(0xbc), any::<u8>()], 0..70),
            wanted in prop_oneof![Just(b'<'), any::<u8>()],
        ) {
            prop_assert_eq!(find(wanted, &text), text.iter().position(|byte| *byte == wanted));
        }
    }
}
