//! Ports that are asked for by a host name of their own, `5500.localhost`: which one that is, and
//! how a browser that the front knows comes to be known there.

use std::time::SystemTime;

use http::{HeaderValue, header::SET_COOKIE};

use super::{COOKIE_ATTRIBUTES, Proxy};
use crate::{
    answer::Problem,
    auth,
    handover::{self, Entry, Wish},
    hop::Hop,
    hostname::{PortName, Siblings, port_of},
    http1::{fields::Fields, head::RequestHead, name::Name},
    route::{RouteError, TargetPort, To},
    service::{Decision, Page},
};

/// What a page may load from another origin whatever that says (`Sec-Fetch-Dest` of Fetch Metadata):
/// things that are shown or run, and not read.
const LOADED_ACROSS: [&[u8]; 3] = [b"image", b"script", b"style"];

/// The port that a host name stands for, or why a number in front of our domain stands for none.
pub(super) type Named = Result<TargetPort, RouteError>;

impl Proxy {
    /// The port whose own host a request is for; nothing for the front.
    pub(super) fn own_host(&self, fields: &Fields) -> Option<Named> {
        let domain = self.rules.domain.as_ref()?;
        let label = domain.label(fields.get(Name::Host)?)?;
        let is_number = !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| label.parse())
    }

    /// Whether a name is one of ours: the domain itself, or a port's.
    pub(super) fn is_below_domain(&self, fields: &Fields) -> bool {
        let front = |host| Some(self.rules.domain.as_ref()?.is(host));
        self.own_host(fields).is_some() || fields.get(Name::Host).and_then(front) == Some(true)
    }

    /// Sends a person who is not known at a port's own host to the front, which may know them. That
    /// tells nothing about the port.
    pub(super) fn to_front(
        &self,
        head: &RequestHead,
        named: Option<&Named>,
    ) -> Option<Decision<Self>> {
        let port = *named?.as_ref().ok()?;
        let domain = self.rules.domain.as_ref()?;
        if !handover::is_navigation(head) {
            return None;
        }
        let front = format!("//{domain}{}", port_of(head.fields.get(Name::Host)?));
        let target = std::str::from_utf8(head.target()).ok()?.to_owned();
        let name = PortName {
            port,
            session: None,
        };
        let address = Wish { name, target }.address(&front);
        handover::redirect(&address).map(Decision::Answer)
    }

    /// Gives a browser that is known at the front a ticket for the host that it wants to see.
    pub(super) fn give_ticket(&self, query: &str, fields: &Fields) -> Result<Page, Problem> {
        let none = || Problem::Route(RouteError::NoSuchPath);
        let domain = self.rules.domain.as_ref().ok_or_else(none)?;
        let wish = Wish::parse(query).filter(|wish| wish.name.session.is_none());
        let wish = wish.ok_or_else(none)?;
        let at = port_of(fields.get(Name::Host).unwrap_or_default());
        let host = format!("{}{at}", domain.name(&wish.name));
        let ticket = self
            .tickets
            .mint(host.as_bytes(), "", SystemTime::now())
            .map_err(Problem::NoTicket)?;
        let entrance = wish.entrance(&format!("//{host}"), &ticket);
        handover::redirect(&entrance).ok_or_else(none)
    }

    /// Takes the ticket of a browser, which is known at the host of `port` from then on.
    pub(super) fn take_ticket(
        &self,
        query: &str,
        port: TargetPort,
        fields: &Fields,
    ) -> Result<Page, Problem> {
        let host = fields.get(Name::Host).unwrap_or_default();
        let entry = Entry::parse(query).ok_or(Problem::BadTicket)?;
        self.tickets
            .take(host, "", entry.ticket, SystemTime::now())
            .map_err(|_| Problem::BadTicket)?;
        let mut page: Page = entry.onward(host).ok_or(Problem::BadTicket)?;
        let secret = self.token.host_cookie_value(port);
        let cookie = format!("{}={secret}; {COOKIE_ATTRIBUTES}", auth::COOKIE);
        let cookie = HeaderValue::try_from(cookie).expect("hexadecimal and attributes");
        page.headers_mut().insert(SET_COOKIE, cookie);
        Ok(page)
    }
}

/// Decides about a request by which a page at one port's own host asks for another port, below
/// [`crate::route::SIBLINGS`], since it has a cookie for its own host alone. It may do what it could
/// do on localhost, where the other port is another origin: connect, which the server sees by
/// `Origin`, and load what is shown or run. A person is sent on to the other port's own host.
pub(super) fn across(
    hop: &Hop,
    head: &RequestHead,
    to: To<'_>,
    rest: &[u8],
    upgrades: bool,
) -> Result<Option<Page>, Problem> {
    let (To::Port(port), Some(page)) = (to, hop.page) else {
        return Err(Problem::Route(RouteError::NoSuchPath));
    };
    let loads = |kind| LOADED_ACROSS.contains(&kind) && head.method() == b"GET";
    let mut kinds = head.fields.spelt("Sec-Fetch-Dest");
    if upgrades || kinds.next().is_some_and(loads) && kinds.next().is_none() {
        return Ok(None);
    }
    let siblings = hop
        .host
        .as_deref()
        .and_then(|host| Siblings::of(host, page));
    let elsewhere = siblings
        .filter(|_| handover::is_navigation(head))
        .and_then(|siblings| {
            let rest = std::str::from_utf8(rest).ok()?;
            handover::redirect(&format!("//{}{rest}", siblings.host(port)))
        });
    elsewhere.map(Some).ok_or(Problem::OtherPort(port))
}
