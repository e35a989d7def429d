//! Ports that are asked for by a host name of their own, `5500.localhost`: which one that is, and
//! how a browser that the front knows comes to be known there.

use std::time::SystemTime;

use http::{HeaderValue, header::SET_COOKIE};

use super::{COOKIE_ATTRIBUTES, Proxy};
use crate::{
    answer::Problem,
    auth,
    handover::{self, Entry, Wish},
    hostname::{PortName, port_of},
    http1::{fields::Fields, head::RequestHead, name::Name},
    route::{RouteError, TargetPort},
    service::{Decision, Page},
};

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
        let wish = wish.ok_or(Problem::BadLink)?;
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
