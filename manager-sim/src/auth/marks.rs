//! What a cookie is known by, in memory and in the store: a keyed hash, so that neither is of use in
//! its place, and no timing of a look-up helps to find one.

use hpc_proxy::auth::{NoRandom, Token};

use crate::store::{Store, Table};

/// The name of the key among the store's marks.
const KEY: &str = "key";

/// Makes marks.
#[derive(Clone, Debug)]
pub struct Marks(Token);

impl Marks {
    /// With the key that `store` has kept, or a new one for it to keep.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn of(store: &Store) -> Result<Self, NoRandom> {
        let kept: Vec<(String, String)> = store.kept(Table::Marks);
        let kept = kept.into_iter().find(|(name, _)| name == KEY);
        if let Some(key) = kept.and_then(|(_, key)| Token::parse(key.as_bytes()).ok()) {
            return Ok(Self(key));
        }
        let key = Token::random()?;
        drop(store.put(Table::Marks, KEY, &key.reveal()));
        Ok(Self(key))
    }

    /// The mark of a cookie's value.
    pub fn mark(&self, secret: &[u8]) -> String {
        self.0.mark(secret)
    }

    /// See [`Token::page_key`]. It is the same after a restart, as the browser is.
    pub fn page_key(&self, reader: &str) -> String {
        self.0.page_key(reader)
    }
}
