//! Who is asking: a browser signs in with a one-time link and is known by a cookie from then on.
//!
//! Both last no longer than this start of the manager, as its sessions do.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hpc_proxy::{
    auth::{NoRandom, Token},
    headers,
    http1::fields::Fields,
    link::{self, BadCode, Redeemed},
};
use thiserror::Error;

use crate::names::UserName;

pub mod access_token;
mod attempts;
pub mod header;
pub mod network;
pub mod token_file;
pub mod tokens;

/// How long a browser stays signed in.
const SIGNED_IN_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between the user and the code in a link; in no name, and plain in a URL.
const SEPARATOR: char = '~';

/// Why a link signs nobody in.
#[derive(Debug, Error)]
pub enum SignInError {
    /// Not one of ours, or not any more.
    #[error(transparent)]
    BadCode(#[from] BadCode),
    /// No secret for the cookie.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// A code for a one-time link of `user`.
///
/// # Errors
/// When the operating system has no random bytes.
pub fn mint(key: &Token, user: &UserName, now: SystemTime) -> Result<String, NoRandom> {
    Ok(format!(
        "{user}{SEPARATOR}{}",
        link::mint(key, user.as_str(), now)?
    ))
}

/// Who has signed in.
#[derive(Debug)]
pub struct SignedIn {
    key: Token,
    redeemed: Redeemed,
    /// By the cookie's value: 256 random bits, so that no timing of a look-up helps to find one.
    browsers: Mutex<HashMap<String, (UserName, SystemTime)>>,
}

impl SignedIn {
    /// Nobody yet; `key` is what links are minted with.
    pub fn new(key: Token) -> Self {
        Self {
            key,
            redeemed: Redeemed::default(),
            browsers: Mutex::default(),
        }
    }

    /// Takes a code, once; the user that it signs in and the value of the cookie.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub fn sign_in(&self, code: &str, now: SystemTime) -> Result<(UserName, String), SignInError> {
        let (user, code) = code.split_once(SEPARATOR).ok_or(BadCode)?;
        self.redeemed.redeem(&self.key, user, code, now)?;
        let user: UserName = user.parse().map_err(|_| BadCode)?;
        let secret = Token::random()?.reveal();
        let mut browsers = self.browsers();
        browsers.retain(|_, (_, until)| now < *until);
        browsers.insert(secret.clone(), (user.clone(), now + SIGNED_IN_FOR));
        Ok((user, secret))
    }

    /// Who sends these fields, by the cookie called `cookie`.
    pub fn user(&self, fields: &Fields, cookie: &str, now: SystemTime) -> Option<UserName> {
        let browsers = self.browsers();
        // A dev server may have set another by that name, for a path of its own.
        headers::cookie(fields, cookie).find_map(|secret| {
            let (user, until) = browsers.get(std::str::from_utf8(secret).ok()?)?;
            (now < *until).then(|| user.clone())
        })
    }

    fn browsers(&self) -> std::sync::MutexGuard<'_, HashMap<String, (UserName, SystemTime)>> {
        self.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hpc_proxy::http1::name::Name;
    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;
    const COOKIE: &str = "c";

    fn alice() -> UserName {
        "alice".parse().unwrap()
    }

    fn with_cookie(value: &str) -> Fields {
        let mut fields = Fields::new();
        fields.push(
            Name::Cookie,
            format!("a=1; {COOKIE}={value}; b=2").as_bytes(),
        );
        fields
    }

    #[test]
    fn a_link_signs_its_user_in_once() {
        let key = Token::random().unwrap();
        let signed_in = SignedIn::new(key.clone());
        let code = mint(&key, &alice(), NOW).unwrap();
        let (user, secret) = signed_in.sign_in(&code, NOW).unwrap();
        assert_eq!(user, alice());
        assert_eq!(
            signed_in.user(&with_cookie(&secret), COOKIE, NOW),
            Some(alice())
        );
        assert!(signed_in.sign_in(&code, NOW).is_err());
    }

    #[test]
    fn a_cookie_ends_with_its_time_and_its_manager() {
        let key = Token::random().unwrap();
        let signed_in = SignedIn::new(key.clone());
        let code = mint(&key, &alice(), NOW).unwrap();
        let (_, secret) = signed_in.sign_in(&code, NOW).unwrap();
        assert_eq!(
            signed_in.user(&with_cookie(&secret), COOKIE, NOW + SIGNED_IN_FOR),
            None
        );
        assert_eq!(
            SignedIn::new(key).user(&with_cookie(&secret), COOKIE, NOW),
            None
        );
    }

    // S32.
    #[test]
    fn a_link_cannot_be_made_anothers() {
        let key = Token::random().unwrap();
        let signed_in = SignedIn::new(key.clone());
        let code = mint(&key, &alice(), NOW).unwrap().replace("alice", "bob");
        assert!(signed_in.sign_in(&code, NOW).is_err());
        let foreign = mint(&Token::random().unwrap(), &alice(), NOW).unwrap();
        assert!(signed_in.sign_in(&foreign, NOW).is_err());
    }

    proptest! {
        #[test]
        fn nobody_is_signed_in_by_chance(code in ".{0,40}|alice~.{0,40}", secret in "[ -:<-~]{0,64}") {
            let signed_in = SignedIn::new(Token::random().unwrap());
            prop_assert!(signed_in.sign_in(&code, NOW).is_err());
            prop_assert_eq!(signed_in.user(&with_cookie(&secret), COOKIE, NOW), None);
        }
    }
}
