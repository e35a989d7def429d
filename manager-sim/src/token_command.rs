//! `hpc-manager token`: makes, lists and removes access tokens. A running manager sees the change in its
//! file.

use std::path::Path;

use hpc_proxy::auth::NoRandom;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::{
    auth::{
        access_token::{AccessToken, HashError},
        token_file::{self, Entry, TokenFileError},
    },
    names::{TokenName, UserName},
};

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file.
    #[error(transparent)]
    File(#[from] TokenFileError),
    /// No hash.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// No secret.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    /// A name twice.
    #[error("there is a token `{0}` already; hint: `hpc-manager token rm` removes it")]
    Exists(TokenName),
    /// A name that is not there.
    #[error("there is no token `{0}`; hint: `hpc-manager token ls` lists them")]
    Missing(TokenName),
    /// A time beyond all calendars.
    #[error("there is no such day")]
    NoSuchDay(#[source] jiff::Error),
}

/// Makes a token for `user`, good for some days; it is told nowhere else.
///
/// # Errors
/// See [`TokenError`].
pub fn add(
    file: &Path,
    name: TokenName,
    user: UserName,
    days: u16,
    now: Timestamp,
) -> Result<AccessToken, TokenError> {
    let token = AccessToken::random(name.clone())?;
    let time = SignedDuration::from_hours(24 * i64::from(days));
    let entry = Entry {
        name: name.clone(),
        user,
        hash: token.hash()?,
        created: now,
        expires: now.checked_add(time).map_err(TokenError::NoSuchDay)?,
    };
    let is_new = token_file::change(file, |entries| {
        let is_new = entries.iter().all(|other| other.name != entry.name);
        if is_new {
            entries.push(entry);
        }
        is_new
    })?;
    if is_new {
        Ok(token)
    } else {
        Err(TokenError::Exists(name))
    }
}

/// A line for each token: its name, its user, until when it is good, and whether it is.
///
/// # Errors
/// When the file cannot be used.
pub fn list(file: &Path, now: Timestamp) -> Result<String, TokenError> {
    let entries = token_file::read(file)?;
    let line = |entry: &Entry| {
        let Entry {
            name,
            user,
            expires,
            ..
        } = entry;
        let state = if now < *expires { "good" } else { "too old" };
        format!(
            "{name}\t{user}\t{}\t{state}\n",
            expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
    };
    Ok(entries.iter().map(line).collect())
}

/// Removes a token.
///
/// # Errors
/// When there is none of that name, or the file cannot be used.
pub fn remove(file: &Path, name: TokenName) -> Result<(), TokenError> {
    let was_there = token_file::change(file, |entries| {
        let before = entries.len();
        entries.retain(|entry| entry.name != name);
        entries.len() < before
    })?;
    if was_there {
        Ok(())
    } else {
        Err(TokenError::Missing(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_listed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens.toml");
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let name = || "laptop".parse::<TokenName>().unwrap();
        let alice = || "alice".parse::<UserName>().unwrap();
        let token = add(&file, name(), alice(), 30, now).unwrap();
        let again = add(&file, name(), alice(), 30, now);
        assert!(matches!(again, Err(TokenError::Exists(_))));
        let listed = list(&file, now).unwrap();
        assert_eq!(listed, "laptop\talice\t2030-01-31T00:00:00Z\tgood\n");
        let later = "2030-02-01T00:00:00Z".parse().unwrap();
        assert!(list(&file, later).unwrap().ends_with("too old\n"));
        let kept = std::fs::read_to_string(&file).unwrap();
        let secret = token.reveal();
        let secret = secret.rsplit('_').next().unwrap();
        assert!(
            kept.contains("$argon2id$") && !kept.contains(secret),
            "{kept}"
        );
        remove(&file, name()).unwrap();
        assert!(matches!(remove(&file, name()), Err(TokenError::Missing(_))));
        assert_eq!(list(&file, now).unwrap(), "");
    }
}
