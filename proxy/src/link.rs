//! One-time sign-in links: a code that whoever holds the key can mint, good once and not for long.
//!
//! Minting needs no talk with the running server: both sides know the key. What was redeemed is
//! remembered until the code would have expired anyway.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hmac::Mac;
use thiserror::Error;

use crate::{
    auth::{NoRandom, Nonce, Token},
    hex,
};

/// How long a link may wait for its click: time to copy it into a browser, not more.
pub const VALID_FOR: Duration = Duration::from_secs(10 * 60);

/// Why a code does not sign anybody in. Its holder learns no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the link was used already, is too old, or was never ours")]
pub struct BadCode;

/// A code for `subject` (a user's name, or nothing), to be redeemed once within [`VALID_FOR`].
///
/// # Errors
/// When the operating system has no random bytes.
pub fn mint(key: &Token, subject: &str, now: SystemTime) -> Result<String, NoRandom> {
    mint_for(VALID_FOR, key, subject, now)
}

/// [`mint`] for a code that waits for another time.
///
/// # Errors
/// When the operating system has no random bytes.
pub(crate) fn mint_for(
    time: Duration,
    key: &Token,
    subject: &str,
    now: SystemTime,
) -> Result<String, NoRandom> {
    let nonce = Nonce::random()?;
    let expires = seconds(now + time);
    let mac = hex::encode(&mac(key, &nonce, expires, subject).finalize().into_bytes());
    Ok(format!("{expires:x}.{}.{mac}", nonce.to_hex()))
}

/// The codes that were redeemed and have not expired.
#[derive(Debug, Default)]
pub struct Redeemed(Mutex<HashMap<Nonce, u64>>);

impl Redeemed {
    /// Takes `code` for `subject`.
    ///
    /// # Errors
    /// When the code was not minted with `key` for `subject`, was taken before, or has expired.
    pub fn redeem(
        &self,
        key: &Token,
        subject: &str,
        code: &str,
        now: SystemTime,
    ) -> Result<(), BadCode> {
        let mut parts = code.split('.');
        let (Some(expires), Some(nonce), Some(claim), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadCode);
        };
        let expires = u64::from_str_radix(expires, 16).map_err(|_| BadCode)?;
        let nonce = Nonce::parse(nonce.as_bytes()).ok_or(BadCode)?;
        let claim = hex::decode(claim.as_bytes()).ok_or(BadCode)?;
        mac(key, &nonce, expires, subject)
            .verify_slice(&claim)
            .map_err(|_| BadCode)?;
        let now = seconds(now);
        if now > expires {
            return Err(BadCode);
        }
        let mut redeemed = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        redeemed.retain(|_, expires| now <= *expires);
        match redeemed.insert(nonce, expires) {
            None => Ok(()),
            Some(_) => Err(BadCode),
        }
    }
}

fn mac(key: &Token, nonce: &Nonce, expires: u64, subject: &str) -> hmac::Hmac<sha2::Sha256> {
    key.mac(
        "link",
        &[nonce.bytes(), &expires.to_be_bytes(), subject.as_bytes()],
    )
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    #[test]
    fn a_code_signs_in_once() {
        let (key, redeemed) = (Token::random().unwrap(), Redeemed::default());
        let code = mint(&key, "alice", NOW).unwrap();
        assert_eq!(redeemed.redeem(&key, "alice", &code, NOW), Ok(()));
        assert_eq!(redeemed.redeem(&key, "alice", &code, NOW), Err(BadCode));
    }

    #[test]
    fn a_code_is_for_one_subject_and_one_key() {
        let (key, redeemed) = (Token::random().unwrap(), Redeemed::default());
        let code = mint(&key, "alice", NOW).unwrap();
        assert_eq!(redeemed.redeem(&key, "bob", &code, NOW), Err(BadCode));
        assert_eq!(
            redeemed.redeem(&Token::random().unwrap(), "alice", &code, NOW),
            Err(BadCode)
        );
        assert_eq!(redeemed.redeem(&key, "alice", &code, NOW), Ok(()));
    }

    #[test]
    fn a_code_expires_and_is_then_forgotten() {
        let (key, redeemed) = (Token::random().unwrap(), Redeemed::default());
        let code = mint(&key, "", NOW).unwrap();
        let later = NOW + VALID_FOR + Duration::from_secs(1);
        assert_eq!(redeemed.redeem(&key, "", &code, later), Err(BadCode));
        redeemed.redeem(&key, "", &code, NOW).unwrap();
        redeemed
            .redeem(&key, "", &mint(&key, "", later).unwrap(), later)
            .unwrap();
        assert_eq!(redeemed.0.lock().unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn nothing_else_is_a_code(code in "[0-9a-f.]{0,40}|.*") {
            let key = Token::random().unwrap();
            prop_assert_eq!(Redeemed::default().redeem(&key, "", &code, NOW), Err(BadCode));
        }
    }
}
