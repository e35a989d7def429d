//! Which users are people, and which are the system's.

/// The first number of an ordinary user: `UID_MIN` of login.defs(5).
pub(crate) fn first_ordinary() -> u32 {
    let text = std::fs::read_to_string("/etc/login.defs").unwrap_or_default();
    read(&text).unwrap_or(1000)
}

fn read(text: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "UID_MIN").then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_word_counts() {
        assert_eq!(
            read("# UID_MIN 1\nSYS_UID_MIN 100\nUID_MIN\t\t 500 \n"),
            Some(500)
        );
        for nothing in ["", "UID_MIN", "UID_MIN x", "#UID_MIN 5"] {
            assert_eq!(read(nothing), None);
        }
        assert!(first_ordinary() > 0);
    }
}
