//! The secret of one running proxy: who may talk to it, and how it proves that it is itself.
//!
//! The token never leaves towards a peer that has not proved to know it already; see [`Proof`].

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::{hex, route::TargetPort};

/// The cookie of a browser that came by a one-time link.
pub const COOKIE: &str = "__hpc_proxy";
/// All names of that cookie: under TLS it has a prefix that keeps it on its host (RFC 6265bis
/// section 4.1.3.2).
pub const COOKIES: [&str; 2] = [COOKIE, "__Host-__hpc_proxy"];
/// Bytes of a token: 256 bits cannot be guessed.
const TOKEN_BYTES: usize = 32;
/// Bytes of a nonce: enough that none is ever asked twice.
const NONCE_BYTES: usize = 16;

/// The operating system gave no random bytes.
#[derive(Debug, Error)]
#[error("no random bytes from the operating system")]
pub struct NoRandom(#[source] getrandom::Error);

/// Text is not a token: 64 lowercase hexadecimal digits.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a token of 64 hexadecimal digits")]
pub struct NotAToken;

/// The secret of one start of a proxy: 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; TOKEN_BYTES]);

/// Whether a claim is a secret, in time that does not depend on where they differ.
pub fn same(secret: &[u8], claim: &[u8]) -> bool {
    secret.ct_eq(claim).into()
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn random() -> Result<Self, NoRandom> {
        Ok(Self(random()?))
    }

    /// Reads 64 hexadecimal digits, with white space around them as in a file.
    ///
    /// # Errors
    /// When `text` is anything else.
    pub fn parse(text: &[u8]) -> Result<Self, NotAToken> {
        let bytes = hex::decode(text.trim_ascii()).ok_or(NotAToken)?;
        Ok(Self(bytes.try_into().map_err(|_| NotAToken)?))
    }

    /// The 64 hexadecimal digits: for the token file and the header, never for a log.
    pub fn reveal(&self) -> String {
        hex::encode(&self.0)
    }

    /// What the cookie of a signed-in browser holds: not the token, so that a stolen cookie does
    /// not let its thief answer for the proxy.
    pub fn cookie_value(&self) -> String {
        hex::encode(&self.mac("cookie", &[]).finalize().into_bytes())
    }

    /// What the cookie holds at the own host of `port`: good for that port, and nowhere else.
    pub fn host_cookie_value(&self, port: TargetPort) -> String {
        let mac = self.mac("host cookie", &[&port.get().to_be_bytes()]);
        hex::encode(&mac.finalize().into_bytes())
    }

    /// What is kept of somebody's `secret` to know it by, and is of no use in its place.
    pub fn mark(&self, secret: &[u8]) -> String {
        hex::encode(&self.mac("mark", &[secret]).finalize().into_bytes())
    }

    /// What a page that was made for one `reader` shows to be that page.
    pub fn page_key(&self, reader: &str) -> String {
        let mac = self.mac("page", &[reader.as_bytes()]);
        hex::encode(&mac.finalize().into_bytes())
    }

    /// What the proxy called `instance` on `port` answers to a `nonce`.
    pub fn prove(&self, nonce: &Nonce, instance: &str, port: u16) -> Proof {
        let mac = self
            .proof_mac(nonce, instance, port)
            .finalize()
            .into_bytes();
        Proof {
            instance: instance.to_owned(),
            proof: hex::encode(&mac),
        }
    }

    /// Whether `proof` shows that the peer knows this token, is `instance` and listens on `port`.
    /// The port is part of it, so that an impostor cannot pass the question on to the real proxy.
    pub fn verify(&self, proof: &Proof, nonce: &Nonce, instance: &str, port: u16) -> bool {
        proof.instance == instance
            && hex::decode(proof.proof.as_bytes()).is_some_and(|mac| {
                self.proof_mac(nonce, instance, port)
                    .verify_slice(&mac)
                    .is_ok()
            })
    }

    fn proof_mac(&self, nonce: &Nonce, instance: &str, port: u16) -> Hmac<Sha256> {
        self.mac(
            "proof",
            &[&nonce.0, &port.to_be_bytes(), instance.as_bytes()],
        )
    }

    /// A keyed hash for one `purpose`; all `parts` but the last have a fixed length, so that no
    /// two lists of parts hash alike.
    pub(crate) fn mac(&self, purpose: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("hpc-proxy {purpose} 1\0").as_bytes());
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

/// A question that is asked once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nonce([u8; NONCE_BYTES]);

impl Nonce {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn random() -> Result<Self, NoRandom> {
        Ok(Self(random()?))
    }

    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        Some(Self(hex::decode(text)?.try_into().ok()?))
    }

    /// 32 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The answer to `GET /_hpc-proxy/proof/NONCE`, which anybody may ask: a keyed hash over the
/// nonce. It tells who does not know the token nothing.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Which start of which proxy answers.
    pub instance: String,
    /// HMAC-SHA-256 under the token, in hexadecimal.
    pub proof: String,
}

/// A name for one start of a proxy, not secret.
///
/// # Errors
/// When the operating system has no random bytes.
pub fn random_instance() -> Result<String, NoRandom> {
    Ok(hex::encode(&random::<NONCE_BYTES>()?))
}

fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandom)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_comes_back_from_its_file() {
        let token = Token::random().unwrap();
        assert_eq!(
            Token::parse(format!("{}\n", token.reveal()).as_bytes()),
            Ok(token)
        );
    }

    // S3.
    #[test]
    fn a_token_does_not_show_itself() {
        let token = Token::random().unwrap();
        assert!(!format!("{token:?}").contains(&token.reveal()[..8]));
    }

    #[test]
    fn only_the_secret_itself_is_the_same() {
        let (token, other) = (Token::random().unwrap(), Token::random().unwrap());
        let (secret, cookie) = (token.reveal(), token.cookie_value());
        assert!(same(secret.as_bytes(), secret.as_bytes()));
        for claim in [&other.reveal(), &secret[1..], "", &cookie] {
            assert!(!same(secret.as_bytes(), claim.as_bytes()), "{claim}");
        }
        assert_eq!(cookie, token.cookie_value());
    }

    // S7.
    #[test]
    fn a_proof_holds_for_its_own_question_only() {
        let (token, nonce) = (Token::random().unwrap(), Nonce::random().unwrap());
        let proof = token.prove(&nonce, "i", 9001);
        assert!(token.verify(&proof, &nonce, "i", 9001));
        assert!(!token.verify(&proof, &nonce, "i", 9002));
        assert!(!token.verify(&proof, &nonce, "j", 9001));
        assert!(!token.verify(&proof, &Nonce::random().unwrap(), "i", 9001));
        assert!(!Token::random().unwrap().verify(&proof, &nonce, "i", 9001));
    }

    proptest! {
        #[test]
        fn nothing_but_64_digits_is_a_token(text in "[0-9a-fg]{0,70}") {
            let expected = text.len() == 64 && !text.contains('g');
            prop_assert_eq!(Token::parse(text.as_bytes()).is_ok(), expected);
        }
    }
}
