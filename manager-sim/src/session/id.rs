//! The name of a session, ours and not Slurm's: it is there before the job is.

use std::{fmt, str::FromStr};

use hpc_proxy::auth::{NoRandom, Token};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The digits of base 32 (RFC 4648 section 6), in lower case: plain in URLs, file names and shells.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// 40 random bits: no secret, and no two alike among the thousands that a manager remembers.
const LENGTH: usize = 8;
/// What the names of our jobs begin with, for users and sites who look at squeue.
const JOB_NAME: &str = "hpc-vscode-";

/// Which session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// Text is not a session's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not the name of a session", .0.escape_debug())]
pub struct NotASessionId(String);

impl SessionId {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn random() -> Result<Self, NoRandom> {
        let random = Token::random()?.reveal();
        let pairs = random.as_bytes().chunks_exact(2).take(LENGTH);
        let digit = |pair: &[u8]| {
            let byte = pair.iter().fold(0, |byte, digit| {
                byte * 16 + char::from(*digit).to_digit(16).unwrap_or_default()
            });
            char::from(DIGITS[byte as usize % DIGITS.len()])
        };
        Ok(Self(pairs.map(digit).collect()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its job is called, so that it can be found again.
    pub fn job_name(&self) -> String {
        format!("{JOB_NAME}{self}")
    }
}

impl FromStr for SessionId {
    type Err = NotASessionId;

    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        if text.len() == LENGTH && text.bytes().all(|byte| DIGITS.contains(&byte)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotASessionId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for SessionId {
    type Error = NotASessionId;

    fn try_from(text: String) -> Result<Self, NotASessionId> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_name_is_one_and_no_two_are_alike() {
        let all: std::collections::BTreeSet<_> =
            (0..500).map(|_| SessionId::random().unwrap()).collect();
        assert_eq!(all.len(), 500);
        for id in &all {
            assert_eq!(id.as_str().parse().as_ref(), Ok(id));
        }
    }

    #[test]
    fn hostile_text_is_no_name() {
        for text in [
            "",
            "abcdefg",
            "abcdefghi",
            "ABCDEFGH",
            "abc/efgh",
            "abcdefg1",
            "a;bcdefg",
            "../../..",
        ] {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
        assert_eq!(
            "abcdefg2".parse::<SessionId>().unwrap().job_name(),
            "hpc-vscode-abcdefg2"
        );
    }
}
