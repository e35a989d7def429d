//! Access tokens at a running manager: whom one signs in, at a bounded cost and rate.
//!
//! A hash takes long on purpose. So it is computed off the runtime, for a few at a time, and as
//! often as somebody may try; a token that was good is remembered by a keyed hash of it, until the
//! file has it no more.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use hpc_proxy::{
    auth::{NoRandom, Token},
    service::Peer,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    access_token::{AccessToken, HashError, TokenHash},
    attempts::{Attempts, Rate},
    token_file::{self, Entry, Stamp, TokenFileError},
};
use crate::names::{TokenName, UserName};

/// How soon a change of the file is seen.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Hashes at a time: 19 MiB and a processor each.
const HASHES_AT_ONCE: usize = 2;
/// How long somebody may wait for their turn.
const TURN_DEADLINE: Duration = Duration::from_secs(10);
/// Wrong tokens of one name from one peer. A secret has 256 bits, so that no rate could lead to it;
/// what is bounded is the work.
const PER_NAME: Rate = Rate {
    burst: 5,
    pause: Duration::from_secs(10),
};
/// Wrong tokens of any name from one peer, which may be a front with many people behind it.
const PER_PEER: Rate = Rate {
    burst: 30,
    pause: Duration::from_secs(1),
};
/// Peers and names that are remembered.
const MOST_TRIERS: usize = 4096;

/// Why there are no tokens to check.
#[derive(Debug, Error)]
pub enum TokensError {
    /// The file.
    #[error(transparent)]
    File(#[from] TokenFileError),
    /// No hash.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// No key.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// Why a token signs nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not a token, not ours, not any more, or too old. Its holder learns no more than that.
    #[error("no such token")]
    Unknown,
    /// Too many wrong ones.
    #[error("too many wrong tokens")]
    TooMany {
        /// How long until the next may be tried.
        wait: Duration,
    },
    /// Others are being checked.
    #[error("too many tokens at once")]
    Busy,
}

/// A token that was good when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whom it signs in.
    pub user: UserName,
    name: TokenName,
    hash: TokenHash,
    expires: Timestamp,
}

/// The tokens of a file.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    /// Of the marks by which good tokens are remembered.
    key: Token,
    /// Of a token that nobody has: what an unknown name is compared with.
    nobody: TokenHash,
    turns: Arc<Semaphore>,
    listed: Mutex<Listed>,
    tried: Mutex<Tried>,
}

#[derive(Debug)]
struct Listed {
    stamp: Option<Stamp>,
    entries: Vec<Entry>,
    /// By the keyed hash of a whole token. One at most for each entry, so it stays small.
    good: HashMap<[u8; 32], Grant>,
}

#[derive(Debug)]
struct Tried {
    names: Attempts<(Source, TokenName)>,
    peers: Attempts<Source>,
}

/// Where tries come from, for a rate.
type Source = Option<[u8; 16]>;

impl Tokens {
    /// Those of the file at `path`. It need not be there yet.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn open(path: &Path) -> Result<Self, TokensError> {
        let stamp = Stamp::of(path).unwrap_or_default();
        let entries = token_file::read(path)?;
        let nobody: TokenName = "nobody".parse().expect("a name");
        Ok(Self {
            path: path.to_owned(),
            key: Token::random()?,
            nobody: AccessToken::random(nobody)?.hash()?,
            turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            listed: Mutex::new(Listed {
                stamp,
                entries,
                good: HashMap::new(),
            }),
            tried: Mutex::new(Tried {
                names: Attempts::new(PER_NAME, MOST_TRIERS),
                peers: Attempts::new(PER_PEER, MOST_TRIERS),
            }),
        })
    }

    /// Whom `token` signs in, shown by `peer`. An unknown name takes as long as a wrong secret.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn check(&self, token: AccessToken, peer: Peer) -> Result<Grant, Refusal> {
        let mark = self.mark(&token);
        if let Some(grant) = self.remembered(&mark) {
            return Ok(grant);
        }
        let (peer, name) = (of_peer(peer), token.name().clone());
        self.count(peer, &name)?;
        let turn = timeout(TURN_DEADLINE, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            self.forgive(peer, &name);
            return Err(Refusal::Busy);
        };
        // Whoever had the turn before may have shown the same.
        if let Some(grant) = self.remembered(&mark) {
            self.forgive(peer, &name);
            return Ok(grant);
        }
        let grant = self.grant_for(&name);
        let hash = grant.as_ref().map_or(&self.nobody, |grant| &grant.hash);
        let hash = hash.clone();
        // The turn ends with the work, even if whoever asked does not wait for it.
        let checked = spawn_blocking(move || {
            let _turn = turn;
            token.is_of(&hash)
        });
        let is_good = checked.await.unwrap_or(false);
        let grant = grant.filter(|grant| is_good && self.holds(grant));
        let grant = grant.ok_or(Refusal::Unknown)?;
        self.forgive(peer, &name);
        self.listed().good.insert(mark, grant.clone());
        Ok(grant)
    }

    /// Whether a token is in the file still, and not too old.
    pub fn holds(&self, grant: &Grant) -> bool {
        Timestamp::now() < grant.expires
            && self.grant_for(&grant.name).is_some_and(|now| now == *grant)
    }

    /// Looks for changes of the file until `stop`. A file that cannot be used signs nobody in.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(every.tick()).await.is_some() {
            let tokens = Arc::clone(&self);
            // Ended by a panic alone, which would be told.
            let _ = spawn_blocking(move || tokens.look()).await;
        }
    }

    /// Reads the file if it is another than the one that was read.
    fn look(&self) {
        let stamp = Stamp::of(&self.path).unwrap_or_default();
        if stamp == self.listed().stamp {
            return;
        }
        let entries = token_file::read(&self.path).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                error,
                "no token signs in: the file of tokens cannot be used"
            );
            Vec::new()
        });
        let mut listed = self.listed();
        tracing::info!(tokens = entries.len(), "read the file of tokens");
        *listed = Listed {
            stamp,
            entries,
            good: std::mem::take(&mut listed.good),
        };
        let Listed { entries, good, .. } = &mut *listed;
        good.retain(|_, grant| {
            let same = |entry: &Entry| entry.name == grant.name && entry.hash == grant.hash;
            entries.iter().any(same)
        });
    }

    fn remembered(&self, mark: &[u8; 32]) -> Option<Grant> {
        let grant = self.listed().good.get(mark)?.clone();
        self.holds(&grant).then_some(grant)
    }

    fn grant_for(&self, name: &TokenName) -> Option<Grant> {
        let listed = self.listed();
        let entry = listed.entries.iter().find(|entry| entry.name == *name)?;
        Some(Grant {
            user: entry.user.clone(),
            name: entry.name.clone(),
            hash: entry.hash.clone(),
            expires: entry.expires,
        })
    }

    fn count(&self, peer: Source, name: &TokenName) -> Result<(), Refusal> {
        let (now, who) = (Instant::now(), (peer, name.clone()));
        let mut tried = self.tried();
        let waits = [tried.names.wait(&who, now), tried.peers.wait(&peer, now)];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(Refusal::TooMany { wait });
        }
        tried.names.count(who, now);
        tried.peers.count(peer, now);
        Ok(())
    }

    fn forgive(&self, peer: Source, name: &TokenName) {
        let mut tried = self.tried();
        tried.names.forgive(&(peer, name.clone()));
        tried.peers.forgive(&peer);
    }

    /// What a token is remembered by: nothing that anybody could use in its place.
    fn mark(&self, token: &AccessToken) -> [u8; 32] {
        let key = self.key.reveal();
        let mut mac =
            Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(token.reveal().as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tried(&self) -> MutexGuard<'_, Tried> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address; of the sixth version the network alone, since a machine there has as many addresses
/// as it likes. Nothing for processes of this machine.
fn of_peer(peer: Peer) -> Source {
    match peer {
        Peer::Ip(IpAddr::V4(ip)) => Some(ip.to_ipv6_mapped().octets()),
        Peer::Ip(IpAddr::V6(ip)) => {
            let network = ip.to_bits() & (u128::MAX << 64);
            Some(Ipv6Addr::from_bits(network).octets())
        }
        Peer::Local { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: Peer = Peer::Ip(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)));

    struct Fixture {
        directory: tempfile::TempDir,
        tokens: Tokens,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let tokens = Tokens::open(&directory.path().join("tokens.toml")).unwrap();
            Self { directory, tokens }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("tokens.toml")
        }

        fn adds(&self, name: &str, expires: &str) -> AccessToken {
            let token = AccessToken::random(name.parse().unwrap()).unwrap();
            let entry = Entry {
                name: token.name().clone(),
                user: "alice".parse().unwrap(),
                hash: token.hash().unwrap(),
                created: Timestamp::UNIX_EPOCH,
                expires: expires.parse().unwrap(),
            };
            token_file::change(&self.path(), |entries| entries.push(entry)).unwrap();
            self.tokens.look();
            token
        }

        fn removes_all(&self) {
            token_file::change(&self.path(), Vec::clear).unwrap();
            self.tokens.look();
        }
    }

    const FUTURE: &str = "2999-01-01T00:00:00Z";
    const PAST: &str = "2001-01-01T00:00:00Z";

    fn wrong(name: &str) -> AccessToken {
        AccessToken::random(name.parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_token_signs_its_user_in_until_it_is_removed() {
        let fixture = Fixture::new();
        let token = fixture.adds("laptop", FUTURE);
        let grant = fixture.tokens.check(token.clone(), PEER).await.unwrap();
        assert_eq!(grant.user.as_str(), "alice");
        assert!(fixture.tokens.holds(&grant));
        assert_eq!(
            fixture.tokens.check(token.clone(), PEER).await,
            Ok(grant.clone())
        );
        fixture.removes_all();
        assert!(!fixture.tokens.holds(&grant));
        assert_eq!(
            fixture.tokens.check(token, PEER).await,
            Err(Refusal::Unknown)
        );
        assert!(fixture.tokens.listed().good.is_empty());
    }

    // A hash for every request of a program would be too much.
    #[tokio::test]
    async fn a_token_that_was_good_is_not_hashed_again() {
        let fixture = Fixture::new();
        let token = fixture.adds("laptop", FUTURE);
        fixture.tokens.check(token.clone(), PEER).await.unwrap();
        fixture.tokens.turns.close();
        assert!(fixture.tokens.check(token.clone(), PEER).await.is_ok());
        let other = fixture.tokens.check(wrong("laptop"), PEER).await;
        assert_eq!(other, Err(Refusal::Busy));
    }

    #[tokio::test]
    async fn another_token_of_the_same_name_does_not_revive_the_old_one() {
        let fixture = Fixture::new();
        let old = fixture.adds("laptop", FUTURE);
        let grant = fixture.tokens.check(old.clone(), PEER).await.unwrap();
        fixture.removes_all();
        let new = fixture.adds("laptop", FUTURE);
        assert!(!fixture.tokens.holds(&grant));
        assert_eq!(fixture.tokens.check(old, PEER).await, Err(Refusal::Unknown));
        assert!(fixture.tokens.check(new, PEER).await.is_ok());
    }

    #[tokio::test]
    async fn a_token_that_is_too_old_signs_nobody_in() {
        let fixture = Fixture::new();
        let token = fixture.adds("laptop", PAST);
        assert_eq!(
            fixture.tokens.check(token, PEER).await,
            Err(Refusal::Unknown)
        );
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_signs_nobody_in() {
        use std::os::unix::fs::PermissionsExt;
        let fixture = Fixture::new();
        let token = fixture.adds("laptop", FUTURE);
        assert!(fixture.tokens.check(token.clone(), PEER).await.is_ok());
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(fixture.path(), open).unwrap();
        fixture.tokens.look();
        assert_eq!(
            fixture.tokens.check(token, PEER).await,
            Err(Refusal::Unknown)
        );
        assert!(Tokens::open(&fixture.path()).is_err());
    }

    // A peer that has to wait does not keep others waiting, nor those who hold a good token.
    #[tokio::test]
    async fn whoever_guesses_has_to_wait() {
        let fixture = Fixture::new();
        let token = fixture.adds("laptop", FUTURE);
        fixture.tokens.check(token.clone(), PEER).await.unwrap();
        let mut refused = Vec::new();
        for _ in 0..PER_NAME.burst + 1 {
            refused.push(
                fixture
                    .tokens
                    .check(wrong("laptop"), PEER)
                    .await
                    .unwrap_err(),
            );
        }
        let last = refused.pop().unwrap();
        assert!(
            matches!(last, Refusal::TooMany { wait } if wait <= PER_NAME.pause),
            "{last:?}"
        );
        assert!(refused.iter().all(|refusal| *refusal == Refusal::Unknown));
        assert!(fixture.tokens.check(token.clone(), PEER).await.is_ok());
        let other = Peer::Ip([10, 0, 0, 6].into());
        assert_eq!(
            fixture.tokens.check(wrong("laptop"), other).await,
            Err(Refusal::Unknown)
        );
    }

    // Otherwise the time would tell whether there is such a name.
    #[tokio::test]
    async fn a_name_that_nobody_has_takes_as_long_as_a_wrong_secret() {
        let fixture = Fixture::new();
        fixture.adds("laptop", FUTURE);
        // The fastest of many is the work alone, whatever else the machine does.
        let mut fastest = [Duration::MAX; 2];
        for round in 0..12 {
            let peer = Peer::Ip([10, 0, 1, round].into());
            for (name, fastest) in ["laptop", "nobody-here"].into_iter().zip(&mut fastest) {
                let start = Instant::now();
                let refused = fixture.tokens.check(wrong(name), peer).await;
                assert_eq!(refused, Err(Refusal::Unknown));
                *fastest = start.elapsed().min(*fastest);
            }
        }
        let [known, unknown] = fastest;
        assert!(unknown * 5 > known && known * 5 > unknown, "{fastest:?}");
    }

    #[test]
    fn a_machine_with_many_addresses_is_one_peer() {
        let peer = |ip: &str| of_peer(Peer::Ip(ip.parse().unwrap()));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_ne!(peer("10.0.0.5"), peer("10.0.0.6"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
        #[test]
        fn nobody_signs_in_by_chance(name in "laptop|[a-z]{1,8}") {
            let fixture = Fixture::new();
            fixture.adds("laptop", FUTURE);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let refused = runtime.block_on(fixture.tokens.check(wrong(&name), PEER));
            prop_assert_eq!(refused, Err(Refusal::Unknown));
        }
    }
}
