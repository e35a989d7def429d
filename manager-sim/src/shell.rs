//! Words for a POSIX shell: quoting, and nothing else.

use thiserror::Error;

/// No shell can hold a NUL byte in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a value for a shell holds a NUL byte")]
pub struct HoldsNul;

/// `text` as one shell word, which the shell gives back unchanged.
///
/// A carriage return is spelt as an escape: a raw one before a line feed makes sbatch refuse the
/// whole script as one with DOS line breaks.
///
/// # Errors
/// When `text` holds a NUL byte.
pub fn quote(text: &str) -> Result<String, HoldsNul> {
    if text.contains('\0') {
        return Err(HoldsNul);
    }
    let escaped = text
        .replace('\'', r"'\''")
        .replace('\r', r#"'"$(printf '\r')"'"#);
    Ok(format!("'{escaped}'"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn shell_reads(shell: &str, word: &str) -> String {
        let output = Command::new(shell)
            .args(["-c", &format!("printf '%s' {word}")])
            .output()
            .expect("the shell runs");
        String::from_utf8(output.stdout).expect("UTF-8 went in")
    }

    #[test]
    fn a_nul_byte_is_refused() {
        assert_eq!(quote("a\0b"), Err(HoldsNul));
    }

    #[test]
    fn what_looks_like_syntax_comes_back() {
        for text in [
            "", "'", "''", "$(id)", "`id`", "a\nb\n", "a\r\nb\r", "\\", "!!", "*", "~", "-n", "\"'",
        ] {
            let word = quote(text).unwrap();
            assert!(!word.contains('\r'), "{text:?}");
            for shell in ["sh", "bash"] {
                assert_eq!(shell_reads(shell, &word), text, "{shell} read {word}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_comes_back_from_a_real_shell(text in "[^\0]{0,60}|['\\\\\r\n$`\"! ]{0,20}") {
            let word = quote(&text).unwrap();
            prop_assert_eq!(shell_reads("sh", &word), text.clone());
            prop_assert_eq!(shell_reads("bash", &word), text);
        }
    }
}
