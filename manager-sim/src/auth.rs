//! Who is asking. There are three ways to be known, and a manager takes one or several: a one-time
//! link, a field in which a front says whom it has signed in ([`header`]), and an access token
//! ([`tokens`]). By a link or a token a browser gets a cookie, and is known by that from then on.
//!
//! Links last no longer than this start of the manager; who has signed in stays so. A cookie that was
//! got by a token ends with the token.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hpc_proxy::{
    auth::{NoRandom, Token},
    headers,
    http1::{
        fields::{Field, Fields},
        name::Name,
    },
    link::{self, BadCode, Redeemed},
    service::Peer,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    names::UserName,
    store::{Store, Table},
};
use access_token::AccessToken;
use header::{HeaderError, TrustedHeader};
use marks::Marks;
use tokens::{Grant, Refusal, Tokens};

pub mod access_token;
mod attempts;
pub mod header;
pub mod marks;
pub mod network;
pub mod token_file;
pub mod tokens;

/// Browsers that a user is signed in with at a time: the next takes the place of the first.
const MOST_BROWSERS: usize = 32;
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

/// A browser has sign-ins of several users. One of them may have been put there by a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("signed in as several users at once")]
pub struct SeveralUsers;

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

/// The ways to be known that a manager takes.
#[derive(Clone, Debug)]
pub struct Ways {
    /// One-time links.
    pub links: bool,
    /// What a front says.
    pub header: Option<TrustedHeader>,
    /// Access tokens.
    pub tokens: Option<Arc<Tokens>>,
}

impl Ways {
    /// Links alone.
    pub fn links() -> Self {
        Self {
            links: true,
            header: None,
            tokens: None,
        }
    }
}

/// What a request says about who makes it, taken off it: none of it may travel on.
#[derive(Debug)]
pub struct Claims {
    /// By a field of the front's.
    stated: Option<UserName>,
    /// By a token of ours in `Authorization` (RFC 6750 section 2.1), if it is one.
    bearer: Option<Option<AccessToken>>,
}

/// A user, and how they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who it is.
    pub user: UserName,
    /// How.
    pub by: By,
}

/// How a user is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// What a front says.
    Header,
    /// A token with the request.
    Bearer,
    /// A cookie of this sign-in.
    Cookie(SignInNumber),
}

/// Which sign-in of a browser it was; no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignInNumber(pub(crate) u64);

/// Who has signed in.
#[derive(Debug)]
pub struct SignedIn {
    key: Token,
    ways: Ways,
    redeemed: Redeemed,
    marks: Marks,
    browsers: Mutex<Browsers>,
    store: Arc<Store>,
}

#[derive(Debug, Default)]
struct Browsers {
    next: u64,
    /// By the mark of their cookie. What is kept of one is of no use as a cookie.
    by_mark: HashMap<String, Browser>,
}

/// A browser, also as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Browser {
    user: UserName,
    until: Timestamp,
    number: SignInNumber,
    /// The token that it came by, if it did.
    grant: Option<Grant>,
}

/// The number of the next sign-in, as the store has it: none is given twice.
const NEXT: &str = "next";

impl SignedIn {
    /// Whom `store` has kept, as far as they came by one of the `ways`; `key` is what links are minted
    /// with.
    pub fn new(key: Token, ways: Ways, marks: Marks, store: Arc<Store>) -> Self {
        let text = |wanted: &str| {
            let all: Vec<(String, String)> = store.kept(Table::Marks);
            all.into_iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, text)| text)
        };
        let now = Timestamp::now();
        let mut browsers = Browsers {
            next: text(NEXT).and_then(|next| next.parse().ok()).unwrap_or(0),
            by_mark: HashMap::new(),
        };
        for (mark, browser) in store.kept::<Browser>(Table::Browsers) {
            let by_way = match &browser.grant {
                Some(_) => ways.tokens.is_some(),
                None => ways.links,
            };
            if by_way && now < browser.until {
                browsers.next = browsers.next.max(browser.number.0 + 1);
                browsers.by_mark.insert(mark, browser);
            } else {
                drop(store.remove(Table::Browsers, &mark));
            }
        }
        Self {
            key,
            ways,
            redeemed: Redeemed::default(),
            marks,
            browsers: Mutex::new(browsers),
            store,
        }
    }

    /// The ways to be known.
    pub fn ways(&self) -> &Ways {
        &self.ways
    }

    /// Takes a link's code, once; the user that it signs in and the value of the cookie.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub fn sign_in(&self, code: &str, now: SystemTime) -> Result<(UserName, String), SignInError> {
        let (user, code) = code.split_once(SEPARATOR).ok_or(BadCode)?;
        self.redeemed.redeem(&self.key, user, code, now)?;
        let user: UserName = user.parse().map_err(|_| BadCode)?;
        let secret = self.remember(user.clone(), None, now)?;
        Ok((user, secret))
    }

    /// Signs a browser in that has shown a token; the value of the cookie.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn sign_in_by(&self, grant: Grant, now: SystemTime) -> Result<String, NoRandom> {
        self.remember(grant.user.clone(), Some(grant), now)
    }

    /// Forgets the browser that sends these fields.
    pub fn sign_out(&self, fields: &Fields, cookie: &str) {
        let mut browsers = self.browsers();
        for secret in headers::cookie(fields, cookie) {
            let mark = self.marks.mark(secret);
            if browsers.by_mark.remove(&mark).is_some() {
                drop(self.store.remove(Table::Browsers, &mark));
            }
        }
    }

    /// Takes everything off a request of `peer`'s that says who makes it, but for the cookie.
    ///
    /// # Errors
    /// When a field of the front's is there and signs nobody in.
    pub fn take_claims(&self, fields: &mut Fields, peer: Peer) -> Result<Claims, HeaderError> {
        let mut shown = fields.iter().filter_map(bearer);
        let first = shown.next().map(|token| {
            let token = std::str::from_utf8(token).ok()?;
            token.parse().ok()
        });
        let bearer = if shown.next().is_none() {
            first
        } else {
            Some(None)
        };
        drop(shown);
        fields.retain(|field| self::bearer(field).is_none());
        let header = self.ways.header.as_ref();
        let stated = header.map(|header| header.take(fields, peer)).transpose()?;
        Ok(Claims {
            stated: stated.flatten(),
            bearer,
        })
    }

    /// Who makes a request of `peer`'s, as far as it claims.
    ///
    /// # Errors
    /// When it shows a token that signs nobody in.
    pub async fn claimed(&self, claims: Claims, peer: Peer) -> Result<Option<Known>, Refusal> {
        if let Some(user) = claims.stated {
            let by = By::Header;
            return Ok(Some(Known { user, by }));
        }
        let (Some(token), Some(tokens)) = (claims.bearer, &self.ways.tokens) else {
            return Ok(None);
        };
        let grant = tokens.check(token.ok_or(Refusal::Unknown)?, peer).await?;
        let (user, by) = (grant.user, By::Bearer);
        Ok(Some(Known { user, by }))
    }

    /// Whether somebody who was known so is known still.
    pub fn holds(&self, by: By, now: SystemTime) -> bool {
        let number = match by {
            By::Header => return self.ways.header.is_some(),
            By::Bearer => return true,
            By::Cookie(number) => number,
        };
        let browsers = self.browsers();
        let mut all = browsers.by_mark.values();
        all.any(|browser| browser.number == number && self.is_good(browser, now))
    }

    /// Who sends these fields, by the cookie called `cookie`.
    ///
    /// # Errors
    /// When there are several such cookies, of several users.
    pub fn user(
        &self,
        fields: &Fields,
        cookie: &str,
        now: SystemTime,
    ) -> Result<Option<Known>, SeveralUsers> {
        let browsers = self.browsers();
        // A page of a dev server may have set another by that name, for a path of its own.
        let mut all = headers::cookie(fields, cookie).filter_map(|secret| {
            let browser = browsers.by_mark.get(&self.marks.mark(secret))?;
            self.is_good(browser, now).then_some(browser)
        });
        let Some(first) = all.next() else {
            return Ok(None);
        };
        if all.any(|other| other.user != first.user) {
            return Err(SeveralUsers);
        }
        Ok(Some(Known {
            user: first.user.clone(),
            by: By::Cookie(first.number),
        }))
    }

    /// What a page of the manager's shows that was given to somebody who is known so: a page of a dev
    /// server has the same origin and the same cookie, but not this.
    pub fn page_key(&self, known: &Known) -> String {
        let Known { user, by } = known;
        let reader = match by {
            By::Cookie(SignInNumber(number)) => format!("{user}{SEPARATOR}{number}"),
            By::Header | By::Bearer => user.to_string(),
        };
        self.marks.page_key(&reader)
    }

    /// Whom a link's code names, good or not.
    pub fn named(code: &str) -> Option<UserName> {
        code.split_once(SEPARATOR)?.0.parse().ok()
    }

    fn is_good(&self, browser: &Browser, now: SystemTime) -> bool {
        let tokens = self.ways.tokens.as_ref();
        let holds = |grant| tokens.is_some_and(|tokens| tokens.holds(grant));
        now < SystemTime::from(browser.until) && browser.grant.as_ref().is_none_or(holds)
    }

    fn remember(
        &self,
        user: UserName,
        grant: Option<Grant>,
        now: SystemTime,
    ) -> Result<String, NoRandom> {
        let secret = Token::random()?.reveal();
        let mut browsers = self.browsers();
        let mut gone: Vec<String> = Vec::new();
        browsers.by_mark.retain(|mark, browser| {
            let good = self.is_good(browser, now);
            gone.extend((!good).then(|| mark.clone()));
            good
        });
        let of_user = browsers.by_mark.iter().filter(|(_, it)| it.user == user);
        if of_user.clone().count() >= MOST_BROWSERS
            && let Some((first, _)) = of_user.min_by_key(|(_, browser)| browser.number.0)
        {
            let first = first.clone();
            browsers.by_mark.remove(&first);
            gone.push(first);
        }
        for mark in gone {
            drop(self.store.remove(Table::Browsers, &mark));
        }
        let number = SignInNumber(browsers.next);
        browsers.next += 1;
        drop(
            self.store
                .put(Table::Marks, NEXT, &browsers.next.to_string()),
        );
        let browser = Browser {
            user,
            until: Timestamp::try_from(now + SIGNED_IN_FOR).unwrap_or(Timestamp::MAX),
            number,
            grant,
        };
        let mark = self.marks.mark(secret.as_bytes());
        drop(self.store.put(Table::Browsers, &mark, &browser));
        browsers.by_mark.insert(mark, browser);
        Ok(secret)
    }

    fn browsers(&self) -> std::sync::MutexGuard<'_, Browsers> {
        self.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is shown as a token of ours in `Authorization`. Whatever else is there is meant for a dev
/// server.
fn bearer(field: Field<'_>) -> Option<&[u8]> {
    if field.name != Name::Authorization {
        return None;
    }
    let end = field.value.iter().position(u8::is_ascii_whitespace)?;
    let (scheme, token) = (&field.value[..end], field.value[end..].trim_ascii());
    (scheme.eq_ignore_ascii_case(b"bearer") && token.starts_with(access_token::PREFIX.as_bytes()))
        .then_some(token)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hpc_proxy::http1::name::Name;
    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;
    const COOKIE: &str = "c";

    /// Whoever a new manager in `directory` knows.
    fn known_in(directory: &std::path::Path, key: Token, ways: Ways) -> SignedIn {
        let store = Arc::new(Store::open(directory).unwrap());
        let marks = Marks::of(&store).unwrap();
        SignedIn::new(key, ways, marks, store)
    }

    fn nobody_yet(key: Token) -> SignedIn {
        // The open file outlives its name.
        let directory = tempfile::tempdir().unwrap();
        known_in(directory.path(), key, Ways::links())
    }

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
        let signed_in = nobody_yet(key.clone());
        let code = mint(&key, &alice(), NOW).unwrap();
        let (user, secret) = signed_in.sign_in(&code, NOW).unwrap();
        assert_eq!(user, alice());
        assert_eq!(
            signed_in.user(&with_cookie(&secret), COOKIE, NOW),
            Ok(Some(Known {
                user: alice(),
                by: By::Cookie(SignInNumber(0))
            }))
        );
        assert!(signed_in.sign_in(&code, NOW).is_err());
    }

    #[test]
    fn a_cookie_ends_with_its_time_and_its_manager() {
        let key = Token::random().unwrap();
        let signed_in = nobody_yet(key.clone());
        let code = mint(&key, &alice(), NOW).unwrap();
        let (_, secret) = signed_in.sign_in(&code, NOW).unwrap();
        assert_eq!(
            signed_in.user(&with_cookie(&secret), COOKIE, NOW + SIGNED_IN_FOR),
            Ok(None)
        );
        assert_eq!(
            nobody_yet(key).user(&with_cookie(&secret), COOKIE, NOW),
            Ok(None)
        );
    }

    #[test]
    fn who_has_signed_in_stays_so_over_a_restart_and_who_has_signed_out_too() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let starts = |ways| known_in(directory.path(), Token::random().unwrap(), ways);
        let is_in = |signed_in: &SignedIn, secret: &str| {
            let found = signed_in.user(&with_cookie(secret), COOKIE, now);
            found.unwrap()
        };
        let signed_in = starts(Ways::links());
        let comes = || signed_in.remember(alice(), None, now).unwrap();
        let (stays, goes) = (comes(), comes());
        signed_in.sign_out(&with_cookie(&goes), COOKIE);
        let before = is_in(&signed_in, &stays);
        drop(signed_in);

        // Nothing that is kept is a cookie.
        let file = std::fs::read(directory.path().join(crate::store::FILE)).unwrap();
        for secret in [&stays, &goes] {
            let found = file
                .windows(secret.len())
                .any(|found| found == secret.as_bytes());
            assert!(!found);
        }
        let signed_in = starts(Ways::links());
        assert!(before.is_some());
        assert_eq!(is_in(&signed_in, &stays), before);
        assert_eq!(is_in(&signed_in, &goes), None);
        // The number of a sign-in is given once, whoever has signed out meanwhile.
        let next = signed_in.remember(alice(), None, now).unwrap();
        let number = is_in(&signed_in, &next).unwrap().by;
        assert_eq!(number, By::Cookie(SignInNumber(2)));
        drop(signed_in);

        let without_links = Ways {
            links: false,
            ..Ways::links()
        };
        assert_eq!(is_in(&starts(without_links), &stays), None);
        assert_eq!(is_in(&starts(Ways::links()), &stays), None);
    }

    #[test]
    fn the_first_of_very_many_browsers_is_signed_out() {
        let key = Token::random().unwrap();
        let signed_in = nobody_yet(key.clone());
        let comes = |user: &str| {
            let code = mint(&key, &user.parse().unwrap(), NOW).unwrap();
            signed_in.sign_in(&code, NOW).unwrap().1
        };
        let is_in = |secret| signed_in.user(&with_cookie(secret), COOKIE, NOW) != Ok(None);
        let (bob, first, second) = (comes("bob"), comes("alice"), comes("alice"));
        for _ in 2..MOST_BROWSERS {
            comes("alice");
        }
        assert!(is_in(&first));
        comes("alice");
        assert!(!is_in(&first) && is_in(&second) && is_in(&bob));
    }

    // S12: whichever a page put there, it is not told from the other.
    #[test]
    fn two_users_in_one_browser_are_nobody() {
        let key = Token::random().unwrap();
        let signed_in = nobody_yet(key.clone());
        let comes = |user: &str| {
            let code = mint(&key, &user.parse().unwrap(), NOW).unwrap();
            signed_in.sign_in(&code, NOW).unwrap().1
        };
        let (alice, again, bob) = (comes("alice"), comes("alice"), comes("bob"));
        let user = |secrets: &[&str]| {
            let pairs = secrets.join(&format!("; {COOKIE}="));
            signed_in.user(&with_cookie(&pairs), COOKIE, NOW)
        };
        assert_eq!(user(&[&alice, &bob]), Err(SeveralUsers));
        assert_eq!(user(&["x", &bob, "", &alice]), Err(SeveralUsers));
        for secrets in [&[&*alice, "x"][..], &["x", &alice], &[&alice, &again]] {
            assert_eq!(user(secrets).unwrap().unwrap().user.as_str(), "alice");
        }
    }

    // S11.
    #[test]
    fn a_page_key_is_of_one_sign_in() {
        let signed_in = nobody_yet(Token::random().unwrap());
        let other = nobody_yet(Token::random().unwrap());
        let known = |user: &str, by| Known {
            user: user.parse().unwrap(),
            by,
        };
        let all = [
            known("alice", By::Header),
            known("alice", By::Cookie(SignInNumber(1))),
            known("alice", By::Cookie(SignInNumber(2))),
            known("bob", By::Cookie(SignInNumber(1))),
        ];
        let keys = all.each_ref().map(|known| signed_in.page_key(known));
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one));
            assert_eq!(*one, signed_in.page_key(&all[index]));
            assert_ne!(*one, other.page_key(&all[index]));
        }
    }

    // S32.
    #[test]
    fn a_link_cannot_be_made_anothers() {
        let key = Token::random().unwrap();
        let signed_in = nobody_yet(key.clone());
        let code = mint(&key, &alice(), NOW).unwrap().replace("alice", "bob");
        assert!(signed_in.sign_in(&code, NOW).is_err());
        let foreign = mint(&Token::random().unwrap(), &alice(), NOW).unwrap();
        assert!(signed_in.sign_in(&foreign, NOW).is_err());
    }

    proptest! {
        #[test]
        fn nobody_is_signed_in_by_chance(code in ".{0,40}|alice~.{0,40}", secret in "[ -:<-~]{0,64}") {
            let signed_in = nobody_yet(Token::random().unwrap());
            prop_assert!(signed_in.sign_in(&code, NOW).is_err());
            prop_assert_eq!(signed_in.user(&with_cookie(&secret), COOKIE, NOW), Ok(None));
        }
    }
}
