//! A token that signs a user in, `hpcm_NAME_SECRET`: what its owner keeps, and the hash that the
//! manager keeps of it.
//!
//! The name is no secret: it tells which hash to compare with. The hash is argon2id (RFC 9106) in
//! the PHC string format.

use std::{fmt, str::FromStr};

use argon2::{
    Argon2, PasswordHasher, PasswordVerifier,
    password_hash::{self, phc::PasswordHash},
};
use hpc_proxy::auth::{NoRandom, Token};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::names::TokenName;

/// How every token begins, so that it can be told from others' and found where it was leaked.
pub const PREFIX: &str = "hpcm_";
/// Between the name and the secret, which is hexadecimal.
const SEPARATOR: char = '_';
/// The most memory that a hash may ask for: three times what ours do.
const MOST_MEMORY_KIB: u32 = 64 * 1024;
/// The most passes over it.
const MOST_PASSES: u32 = 8;

/// A token, as its owner has it.
#[derive(Clone)]
pub struct AccessToken {
    name: TokenName,
    secret: Token,
}

/// Text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a token of the form hpcm_NAME_SECRET")]
pub struct NotAnAccessToken;

/// Why there is no hash.
#[derive(Debug, Error)]
pub enum HashError {
    /// Not what a file of hashes holds.
    #[error("not an argon2id hash in the PHC string format")]
    Malformed,
    /// One that would take the manager's memory or time.
    #[error("a hash that asks for too much memory or time")]
    Costly,
    /// The system gives no memory or no random bytes.
    #[error("cannot hash")]
    Hash(#[source] password_hash::Error),
}

impl AccessToken {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn random(name: TokenName) -> Result<Self, NoRandom> {
        let secret = Token::random()?;
        Ok(Self { name, secret })
    }

    /// What it is called.
    pub fn name(&self) -> &TokenName {
        &self.name
    }

    /// For its owner, once; never for a log.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}{SEPARATOR}{}", self.name, self.secret.reveal())
    }

    /// What is kept of it. Takes some hundredths of a second and 19 MiB.
    ///
    /// # Errors
    /// When the system gives no memory or no random bytes.
    pub fn hash(&self) -> Result<TokenHash, HashError> {
        let secret = self.secret.reveal();
        let hash = Argon2::default().hash_password(secret.as_bytes());
        Ok(TokenHash(hash.map_err(HashError::Hash)?.to_string()))
    }

    /// Whether `hash` is of this token. Takes as long as [`Self::hash`], whether it is or not.
    pub fn is_of(&self, hash: &TokenHash) -> bool {
        let Ok(hash) = PasswordHash::new(&hash.0) else {
            return false;
        };
        let secret = self.secret.reveal();
        Argon2::default()
            .verify_password(secret.as_bytes(), &hash)
            .is_ok()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken({}, ..)", self.name)
    }
}

impl FromStr for AccessToken {
    type Err = NotAnAccessToken;

    fn from_str(text: &str) -> Result<Self, NotAnAccessToken> {
        let rest = text.strip_prefix(PREFIX).ok_or(NotAnAccessToken)?;
        let (name, secret) = rest.rsplit_once(SEPARATOR).ok_or(NotAnAccessToken)?;
        let secret_bytes = secret.as_bytes();
        Ok(Self {
            name: name.parse().map_err(|_| NotAnAccessToken)?,
            // It may be read with white space around it, which a token does not have.
            secret: Token::parse(secret_bytes)
                .ok()
                .filter(|token| token.reveal() == secret)
                .ok_or(NotAnAccessToken)?,
        })
    }
}

/// The hash of a token's secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenHash(String);

impl TryFrom<String> for TokenHash {
    type Error = HashError;

    fn try_from(text: String) -> Result<Self, HashError> {
        text.parse()
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        hash.0
    }
}

impl TokenHash {
    /// In the PHC string format: for the file, never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl FromStr for TokenHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let hash = PasswordHash::new(text).map_err(|_| HashError::Malformed)?;
        if hash.algorithm.as_str() != argon2::ARGON2ID_IDENT.as_str()
            || hash.version != Some(argon2::Version::V0x13.into())
            || hash.salt.is_none()
            || hash.hash.is_none()
        {
            return Err(HashError::Malformed);
        }
        let params = argon2::Params::try_from(&hash).map_err(|_| HashError::Malformed)?;
        if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > 8
        {
            return Err(HashError::Costly);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(name: &str) -> AccessToken {
        AccessToken::random(name.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_token_is_of_its_own_hash_alone() {
        let (one, other) = (token("laptop"), token("laptop"));
        let hash = one.hash().unwrap();
        assert!(one.is_of(&hash) && !other.is_of(&hash));
        assert!(hash.reveal().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(hash.reveal().parse::<TokenHash>().unwrap(), hash);
        assert_ne!(one.hash().unwrap(), hash);
    }

    #[test]
    fn a_token_comes_back_from_its_text_whatever_its_name() {
        for name in ["a", "my_own_laptop", "a.b-c"] {
            let token = token(name);
            let read: AccessToken = token.reveal().parse().unwrap();
            assert_eq!(read.name().as_str(), name);
            assert_eq!(read.reveal(), token.reveal());
        }
    }

    // S3.
    #[test]
    fn a_token_does_not_show_itself() {
        let token = token("laptop");
        let hash = token.hash().unwrap();
        let shown = format!("{token:?} {hash:?}");
        assert!(!shown.contains(&token.secret.reveal()[..8]) && !shown.contains("argon2"));
    }

    #[test]
    fn a_file_cannot_ask_for_the_machines_memory() {
        let good = token("a").hash().unwrap().reveal().to_owned();
        let hash = |text: &str| text.parse::<TokenHash>();
        for (from, to) in [
            ("m=19456", "m=4194304"),
            ("t=2", "t=1000000"),
            ("p=1", "p=200"),
        ] {
            let costly = hash(&good.replacen(from, to, 1));
            assert!(matches!(costly, Err(HashError::Costly)), "{to}");
        }
        for text in [
            "",
            "x",
            "$argon2id$v=19$m=19456,t=2,p=1",
            &good.replacen("argon2id", "argon2i", 1),
            &good.replacen("v=19", "v=16", 1),
            &good.replacen("m=19456", "m=1", 1),
        ] {
            assert!(matches!(hash(text), Err(HashError::Malformed)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_a_token(text in "(hpcm_)?[a-z_]{0,6}_?[0-9a-fA-F ]{0,66}") {
            if let Ok(token) = text.parse::<AccessToken>() {
                prop_assert_eq!(token.reveal(), text);
            }
        }
    }
}
