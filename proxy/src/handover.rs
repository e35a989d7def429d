//! How a browser that has signed in at the front comes by a cookie of a port's own host, where the
//! front's cookie is not sent: two redirects, and a ticket that is good once, soon, and there.
//!
//! A browser without a cookie that opens `5500.localhost/a` is sent to the front's [`OPEN`]. The
//! front knows it, and sends it back to [`ENTER`] of that host with a ticket; there it gets its
//! cookie, and goes on to `/a`. The dev server sees nothing of this.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY},
};

use crate::{
    answer::Reader,
    auth::{NoRandom, Token},
    hostname::PortName,
    http1::{head::RequestHead, name::Name},
    link::{self, BadCode, Redeemed},
    service::{Page, PageBody},
};

/// The page of the front that gives tickets to whom it knows.
pub const OPEN: &str = "/_hpc-proxy/open";
/// The page of a port's own host that takes them.
pub const ENTER: &str = "/_hpc-proxy/enter";
/// Time for two redirects, not for a ticket to be passed around.
const VALID_FOR: Duration = Duration::from_secs(30);

/// What a browser wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whose host.
    pub name: PortName,
    /// The target there, as the browser sent it.
    pub target: String,
}

impl Wish {
    /// The address of the front's page for it; `front` is empty or ends in an authority.
    pub fn address(&self, front: &str) -> String {
        let (name, to) = (&self.name, encode(&self.target));
        format!("{front}{OPEN}?name={name}&to={to}")
    }

    /// Reads the query of [`OPEN`].
    pub fn parse(query: &str) -> Option<Self> {
        Some(Self {
            name: parameter(query, "name")?.parse().ok()?,
            target: target(query)?,
        })
    }

    /// Where the browser takes its ticket.
    pub fn entrance(&self, host: &str, ticket: &str) -> String {
        let to = encode(&self.target);
        format!("{host}{ENTER}?ticket={ticket}&to={to}")
    }
}

/// A browser with a ticket.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The ticket, not yet checked.
    pub ticket: &'a str,
    target: String,
}

impl<'a> Entry<'a> {
    /// Reads the query of [`ENTER`].
    pub fn parse(query: &'a str) -> Option<Self> {
        Some(Self {
            ticket: parameter(query, "ticket")?,
            target: target(query)?,
        })
    }

    /// On to what it wanted, below `host`, without the ticket. The host is spelt out: a target may
    /// begin with two slashes.
    pub fn onward(&self, host: &[u8]) -> Option<Page> {
        let host = std::str::from_utf8(host).ok()?;
        redirect(&format!("//{host}{}", self.target))
    }
}

/// The tickets of one front.
#[derive(Debug)]
pub struct Tickets {
    key: Token,
    redeemed: Redeemed,
}

impl Tickets {
    /// None yet.
    pub fn new(key: Token) -> Self {
        Self {
            key,
            redeemed: Redeemed::default(),
        }
    }

    /// One for `user`, to be taken at `host`.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn mint(&self, host: &[u8], user: &str, now: SystemTime) -> Result<String, NoRandom> {
        link::mint_for(VALID_FOR, &self.key, &subject(host, user), now)
    }

    /// Takes one.
    ///
    /// # Errors
    /// When it was minted for another host or user, was taken before, or is too old.
    pub fn take(
        &self,
        host: &[u8],
        user: &str,
        ticket: &str,
        now: SystemTime,
    ) -> Result<(), BadCode> {
        self.redeemed
            .redeem(&self.key, &subject(host, user), ticket, now)
    }
}

/// Nothing that signs in by a link: no user's name holds a space.
fn subject(host: &[u8], user: &str) -> String {
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    format!("ticket {host} {user}")
}

/// Whether a person opens a page, who can be sent elsewhere for a moment: no script, no picture
/// and no upgrade can.
pub fn is_navigation(head: &RequestHead) -> bool {
    head.method() == b"GET"
        && Reader::of(head.fields.all(Name::Accept)) == Reader::Person
        && head
            .fields
            .spelt("Sec-Fetch-Mode")
            .all(|mode| mode == b"navigate")
}

/// A redirect that nobody keeps, and that tells nobody where the browser came from.
pub fn redirect(to: &str) -> Option<Page> {
    let mut response = Response::new(PageBody::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::try_from(to).ok()?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(response)
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// A path in the characters that a request has.
fn target(query: &str) -> Option<String> {
    let target = decode(parameter(query, "to")?)?;
    let sound = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    sound.then_some(target)
}

/// Percent-encoding (RFC 3986 section 2.1) of everything that could mean something in a query.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            let sound = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            decoded.push(u8::from_str_radix(digits, 16).ok().filter(|_| sound)?);
            rest = &after[2..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;
    const HOST: &[u8] = b"5500.localhost:1";

    fn tickets() -> Tickets {
        Tickets::new(Token::random().unwrap())
    }

    #[test]
    fn a_ticket_is_good_once() {
        let tickets = tickets();
        let ticket = tickets.mint(HOST, "alice", NOW).unwrap();
        let take = || tickets.take(b"5500.LOCALHOST:1", "alice", &ticket, NOW);
        assert_eq!((take(), take()), (Ok(()), Err(BadCode)));
    }

    #[test]
    fn a_ticket_is_good_for_its_host_and_user_and_soon() {
        let tickets = tickets();
        let ticket = tickets.mint(HOST, "alice", NOW).unwrap();
        let late = NOW + VALID_FOR + Duration::from_secs(1);
        for (host, user, now) in [
            (&b"5501.localhost:1"[..], "alice", NOW),
            (b"5500.localhost:2", "alice", NOW),
            (b"localhost:1", "alice", NOW),
            (HOST, "bob", NOW),
            (HOST, "", NOW),
            (HOST, "alice", late),
        ] {
            assert_eq!(tickets.take(host, user, &ticket, now), Err(BadCode));
        }
        assert_eq!(tickets.take(HOST, "alice", &ticket, NOW), Ok(()));
    }

    // A ticket is in a URL: who sees it must not come further with it than it leads.
    #[test]
    fn a_ticket_signs_nobody_in_and_a_link_is_no_ticket() {
        let key = Token::random().unwrap();
        let tickets = Tickets::new(key.clone());
        let ticket = tickets.mint(HOST, "", NOW).unwrap();
        let link = link::mint(&key, "", NOW).unwrap();
        assert_eq!(
            Redeemed::default().redeem(&key, "", &ticket, NOW),
            Err(BadCode)
        );
        assert_eq!(tickets.take(HOST, "", &link, NOW), Err(BadCode));
    }

    #[test]
    fn a_target_with_two_slashes_stays_on_its_host() {
        let wish = Wish::parse("name=5500&to=//evil.example/a").unwrap();
        let entrance = wish.entrance("//5500.localhost", "t");
        let (_, query) = entrance.split_once('?').unwrap();
        let onward = Entry::parse(query).unwrap().onward(HOST).unwrap();
        assert_eq!(
            onward.headers()[LOCATION],
            "//5500.localhost:1//evil.example/a"
        );
    }

    #[test]
    fn what_is_no_wish_is_not_granted() {
        for query in [
            "",
            "name=5500",
            "to=/",
            "name=5500&to=",
            "name=5500&to=x",
            "name=5500&to=%2",
            "name=5500&to=/%+1",
            "name=5500&to=/%0D%0AX:y",
            "name=5500&to=/%C3%BC",
            "name=x&to=/",
        ] {
            assert_eq!(Wish::parse(query), None, "{query}");
        }
    }

    #[test]
    fn only_a_persons_click_is_a_navigation() {
        let of = |start: &str, fields: &str| {
            let mut head = RequestHead::default();
            head.read(format!("{start} / HTTP/1.1\r\n{fields}\r\n").as_bytes())
                .unwrap();
            is_navigation(&head)
        };
        let html = "Accept: text/html,*/*\r\n";
        assert!(of("GET", html));
        assert!(of("GET", &format!("{html}Sec-Fetch-Mode: navigate\r\n")));
        assert!(!of("GET", &format!("{html}Sec-Fetch-Mode: cors\r\n")));
        assert!(!of("POST", html));
        assert!(!of("GET", "Accept: */*\r\n"));
    }

    proptest! {
        #[test]
        fn a_target_survives_both_redirects(target in "/[!-~]{0,40}") {
            let wish = Wish { name: "5500--7".parse().unwrap(), target };
            let address = wish.address("http://front");
            let (_, query) = address.split_once('?').unwrap();
            let read = Wish::parse(query).unwrap();
            prop_assert_eq!(&read, &wish);
            let entrance = read.entrance("//h", "ab.cd");
            let entry = Entry::parse(entrance.split_once('?').unwrap().1).unwrap();
            prop_assert_eq!((entry.ticket, entry.target), ("ab.cd", wish.target));
        }

        #[test]
        fn never_panics(query: String) {
            let _ = (Wish::parse(&query), Entry::parse(&query).map(|entry| entry.onward(HOST)));
        }
    }
}
