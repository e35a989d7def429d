//! Dev servers with a host name and so an origin of their own, `5500--7.apps.example.org`: which
//! names there are, and which browsers are known at them. What is served there is the router's
//! business.
//!
//! The manager's own cookie is not sent there, and a cookie from there opens nothing else: neither
//! the manager, nor another port, nor another session.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
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

use crate::{
    auth::{By, Known, SignInError, SignInNumber},
    job::JobId,
    names::UserName,
};

/// How long a browser stays known at one host before it asks the manager again.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// Between the user and the code in a ticket; in no name, and plain in a URL.
const SEPARATOR: char = '~';

/// The hosts of all sessions' ports.
#[derive(Debug)]
pub struct PortHosts {
    domain: Domain,
    tickets: Tickets,
    /// By the cookie's value: 256 random bits, so that no timing of a look-up helps to find one.
    entered: Mutex<HashMap<String, Entered>>,
}

/// A browser that came with a ticket.
#[derive(Debug)]
struct Entered {
    who: Known,
    name: PortName,
    until: SystemTime,
}

/// The label of a session: its job's number, which no other session on its cluster has.
pub fn label(job: JobId) -> String {
    job.to_string()
}

impl PortHosts {
    /// Below `domain`, with nobody known; `key` is what tickets are minted with.
    pub fn new(domain: Domain, key: Token) -> Self {
        Self {
            domain,
            tickets: Tickets::new(key),
            entered: Mutex::default(),
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
        entered.retain(|_, entered| now < entered.until);
        let until = now + KNOWN_FOR;
        entered.insert(secret.clone(), Entered { who, name, until });
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
            let found = entered.get(std::str::from_utf8(secret).ok()?)?;
            (now < found.until && found.name == *name).then(|| found.who.clone())
        })
    }

    fn entered(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entered>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
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
        PortHosts::new(
            "apps.example.org".parse().unwrap(),
            Token::random().unwrap(),
        )
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
