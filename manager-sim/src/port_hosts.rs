//! Dev servers with a host name and so an origin of their own, `5500--7.apps.example.org`: which
//! names there are, and which browsers are known at them. What is served there is the router's
//! business.
//!
//! The manager's own cookie is not sent there, and a cookie from there opens nothing else: neither
//! the manager, nor another port, nor another session.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hpc_proxy::{
    auth::{NoRandom, Token},
    handover::Tickets,
    headers,
    hostname::{Domain, PortName},
    http1::{fields::Fields, name::Name},
    link::BadCode,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    auth::{By, Known, SignInError, SignInNumber, marks::Marks},
    job::JobId,
    names::UserName,
    store::{Store, Table},
};

/// How long a browser stays known at one host before it asks the manager again.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// How many browsers of a user are known at a host at a time; the oldest makes room.
const MOST_BROWSERS: usize = 16;
/// Between the user and the code in a ticket; in no name, and plain in a URL.
const SEPARATOR: char = '~';

/// The hosts of all sessions' ports.
#[derive(Debug)]
pub struct PortHosts {
    domain: Domain,
    tickets: Tickets,
    marks: Marks,
    /// By the mark of their cookie.
    entered: Mutex<HashMap<String, Entered>>,
    store: Arc<Store>,
}

/// A browser that came with a ticket.
#[derive(Debug)]
struct Entered {
    who: Known,
    name: PortName,
    until: SystemTime,
}

/// The same as it is kept: who it is as a ticket carries it, and the name as the host's.
#[derive(Serialize, Deserialize)]
struct Kept {
    who: String,
    name: String,
    until: Timestamp,
}

/// The label of a session: its job's number, which no other session on its cluster has.
pub fn label(job: JobId) -> String {
    job.to_string()
}

impl PortHosts {
    /// Below `domain`, with whom `store` has kept; `key` is what tickets are minted with.
    pub fn new(domain: Domain, key: Token, marks: Marks, store: Arc<Store>) -> Self {
        let now = SystemTime::now();
        let mut entered = HashMap::new();
        for (mark, kept) in store.kept::<Kept>(Table::PortBrowsers) {
            match Entered::of(&kept).filter(|entered| now < entered.until) {
                Some(known) => {
                    entered.insert(mark, known);
                }
                None => drop(store.remove(Table::PortBrowsers, &mark)),
            }
        }
        Self {
            domain,
            tickets: Tickets::new(key),
            marks,
            entered: Mutex::new(entered),
            store,
        }
    }

    /// The port that a request is for by its host; nothing for the manager itself.
    pub fn named(&self, fields: &Fields) -> Option<PortName> {
        let host = fields.only(Name::Host)?;
        let name: PortName = self.domain.label(host)?.parse().ok()?;
        name.session.is_some().then_some(name)
    }

    /// The host name of a session's port.
    pub fn host(&self, name: &PortName) -> String {
        self.domain.name(name)
    }

    /// A ticket that makes a browser known at `host`, as it is known at the manager.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn ticket(&self, who: &Known, host: &str, now: SystemTime) -> Result<String, NoRandom> {
        let who = written(who);
        let code = self.tickets.mint(host.as_bytes(), &who, now)?;
        Ok(format!("{who}{SEPARATOR}{code}"))
    }

    /// Takes a ticket at `host`, once; the value of the cookie.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub fn enter(
        &self,
        host: &str,
        name: PortName,
        ticket: &str,
        now: SystemTime,
    ) -> Result<String, SignInError> {
        let (who, code) = ticket.rsplit_once(SEPARATOR).ok_or(BadCode)?;
        self.tickets.take(host.as_bytes(), who, code, now)?;
        let who = read(who).ok_or(BadCode)?;
        let secret = Token::random()?.reveal();
        let mut entered = self.entered();
        entered.retain(|mark, entered| {
            let known = now < entered.until;
            if !known {
                drop(self.store.remove(Table::PortBrowsers, mark));
            }
            known
        });
        let of_host = entered
            .iter()
            .filter(|(_, it)| it.who.user == who.user && it.name == name);
        if of_host.clone().count() >= MOST_BROWSERS
            && let Some((first, _)) = of_host.min_by_key(|(_, entered)| entered.until)
        {
            let first = first.clone();
            entered.remove(&first);
            drop(self.store.remove(Table::PortBrowsers, &first));
        }
        let until = now + KNOWN_FOR;
        let (mark, known) = (
            self.marks.mark(secret.as_bytes()),
            Entered { who, name, until },
        );
        drop(self.store.put(Table::PortBrowsers, &mark, &known.kept()));
        entered.insert(mark, known);
        Ok(secret)
    }

    /// Who sends these fields to the host of `name`, by the cookie called `cookie`. Whether they
    /// are known at the manager still, the manager knows.
    pub fn user(
        &self,
        fields: &Fields,
        cookie: &str,
        name: &PortName,
        now: SystemTime,
    ) -> Option<Known> {
        let entered = self.entered();
        // A dev server may have set another by that name.
        headers::cookie(fields, cookie).find_map(|secret| {
            let found = entered.get(&self.marks.mark(secret))?;
            (now < found.until && found.name == *name).then(|| found.who.clone())
        })
    }

    fn entered(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entered>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    fn of(kept: &Kept) -> Option<Self> {
        Some(Self {
            who: read(&kept.who)?,
            name: kept.name.parse().ok()?,
            until: kept.until.into(),
        })
    }

    fn kept(&self) -> Kept {
        Kept {
            who: written(&self.who),
            name: self.name.to_string(),
            until: Timestamp::try_from(self.until).unwrap_or(Timestamp::MAX),
        }
    }
}

/// Who it is, as a ticket carries it: the number of the sign-in, or nothing where there is none.
fn written(who: &Known) -> String {
    let number = match who.by {
        By::Cookie(SignInNumber(number)) => number.to_string(),
        By::Header | By::Bearer => String::new(),
    };
    format!("{}{SEPARATOR}{number}", who.user)
}

/// Whom a ticket of ours carries.
fn read(who: &str) -> Option<Known> {
    let (user, number) = who.split_once(SEPARATOR)?;
    let by = match number {
        "" => By::Header,
        number => By::Cookie(SignInNumber(number.parse().ok()?)),
    };
    let user: UserName = user.parse().ok()?;
    Some(Known { user, by })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;
    const HOST: &str = "5500--7.apps.example.org:8080";

    fn hosts() -> PortHosts {
        // The open file outlives its name.
        hosts_in(tempfile::tempdir().unwrap().path())
    }

    fn hosts_in(directory: &std::path::Path) -> PortHosts {
        let store = Arc::new(Store::open(directory).unwrap());
        let (key, marks) = (Token::random().unwrap(), Marks::of(&store).unwrap());
        PortHosts::new("apps.example.org".parse().unwrap(), key, marks, store)
    }

    #[test]
    fn a_browser_is_known_at_its_host_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (hosts, now) = (hosts_in(directory.path()), SystemTime::now());
        let ticket = hosts.ticket(&alice(), HOST, now).unwrap();
        let secret = hosts.enter(HOST, name("5500--7"), &ticket, now).unwrap();
        drop(hosts);
        let hosts = hosts_in(directory.path());
        let cookie = fields(Name::Cookie, &format!("c={secret}"));
        let at = |port, now| hosts.user(&cookie, "c", &name(port), now);
        assert_eq!(at("5500--7", now), Some(alice()));
        assert_eq!(at("5501--7", now), None);
        assert_eq!(at("5500--7", now + KNOWN_FOR), None);
    }

    fn name(text: &str) -> PortName {
        text.parse().unwrap()
    }

    fn fields(field: Name, value: &str) -> Fields {
        let mut fields = Fields::new();
        fields.push(field, value.as_bytes());
        fields
    }

    fn alice() -> Known {
        Known {
            user: "alice".parse().unwrap(),
            by: By::Cookie(SignInNumber(7)),
        }
    }

    #[test]
    fn a_name_has_a_port_and_a_session() {
        let hosts = hosts();
        let named = |host| hosts.named(&fields(Name::Host, host));
        for host in [HOST, "5500--7.APPS.example.org"] {
            assert_eq!(named(host), Some(name("5500--7")), "{host}");
        }
        for host in [
            "apps.example.org",
            "5500.apps.example.org",
            "7.apps.example.org",
            "5500--7.example.org",
            "5500--7.x.apps.example.org",
            "5500--7.apps.example.org.evil.org",
            "x--7.apps.example.org",
            "127.0.0.1",
        ] {
            assert_eq!(named(host), None, "{host}");
        }
        assert_eq!(hosts.host(&name("5500--7")), "5500--7.apps.example.org");
    }

    #[test]
    fn a_ticket_makes_one_browser_known_at_one_host() {
        let hosts = hosts();
        let ticket = hosts.ticket(&alice(), HOST, NOW).unwrap();
        let enter = |at, ticket: &str| hosts.enter(at, name("5500--7"), ticket, NOW);
        assert!(enter("5501--7.apps.example.org:8080", &ticket).is_err());
        for forged in [("alice", "bob"), ("~7~", "~8~"), ("~7~", "~~")] {
            let forged = ticket.replacen(forged.0, forged.1, 1);
            assert!(enter(HOST, &forged).is_err(), "{forged}");
        }
        let secret = enter(HOST, &ticket).unwrap();
        assert!(enter(HOST, &ticket).is_err());

        let cookie = fields(Name::Cookie, &format!("a=1; c={secret}"));
        let user = |at, now| hosts.user(&cookie, "c", &name(at), now);
        assert_eq!(user("5500--7", NOW), Some(alice()));
        assert_eq!(user("5501--7", NOW), None);
        assert_eq!(user("5500--8", NOW), None);
        assert_eq!(user("5500--7", NOW + KNOWN_FOR), None);
    }

    proptest! {
        #[test]
        fn nobody_is_known_by_chance(ticket in ".{0,40}|alice~.{0,40}", secret in "[ -:<-~]{0,64}") {
            let hosts = hosts();
            prop_assert!(hosts.enter(HOST, name("5500--7"), &ticket, NOW).is_err());
            let cookie = fields(Name::Cookie, &format!("c={secret}"));
            prop_assert_eq!(hosts.user(&cookie, "c", &name("5500--7"), NOW), None);
        }
    }
}
