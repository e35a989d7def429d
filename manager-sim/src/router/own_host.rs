//! Requests for a port by a host name of its own, and how a browser that is signed in at the manager
//! comes to be known there.

use std::{sync::Arc, time::SystemTime};

use hpc_proxy::{
    handover::{self, ENTER, Entry, Wish},
    hostname::{PortName, port_of},
    http1::head::RequestHead,
    route::{self, RouteError, SIBLINGS, TargetPort},
    service::{Decision, Page},
};
use http::{HeaderValue, header::SET_COOKIE};

use super::{Router, Way, upstream};
use crate::{
    auth::{By, Known},
    names::UserName,
    origin,
    port_hosts::{self, PortHosts},
    problem::Problem,
    sessions::Seen,
};

/// Where ports have hosts of their own, if anywhere.
pub(super) struct Addresses {
    hosts: Option<Arc<PortHosts>>,
    scheme: &'static str,
    at: String,
}

impl Addresses {
    /// The address of a session's port.
    pub(super) fn of(&self, seen: &Seen, port: u16) -> Option<String> {
        let job = seen.view.phase.job()?;
        let name = PortName {
            port: TargetPort::new(port)?,
            session: Some(port_hosts::label(job)),
        };
        let host = self.hosts.as_ref()?.host(&name);
        Some(format!("{}://{host}{}/", self.scheme, self.at))
    }
}

impl Router {
    /// The addresses of ports at hosts of their own, for a browser that sees the manager at `own`.
    pub(super) fn addresses(&self, own: &str) -> Addresses {
        Addresses {
            hosts: self.port_hosts.clone(),
            scheme: self.front.scheme(),
            at: port_of(own.as_bytes()).to_string(),
        }
    }

    /// Gives a user's browser a ticket for a port of their own session, and of no other.
    pub(super) fn give_ticket(&self, who: &Known, query: &str, own: &str) -> Result<Page, Problem> {
        // A program shows its token there as well, and needs no cookie.
        if who.by == By::Bearer {
            return Err(Problem::BadTicket);
        }
        let wish = Wish::parse(query).ok_or(Problem::NoSuchPage)?;
        let hosts = self.port_hosts.as_ref().ok_or(Problem::NoSuchPage)?;
        self.session_of(&who.user, &wish.name)?;
        let host = format!("{}{}", hosts.host(&wish.name), port_of(own.as_bytes()));
        let ticket = hosts
            .ticket(who, &host, SystemTime::now())
            .map_err(|error| Problem::BadLink(error.into()))?;
        let entrance = wish.entrance(&format!("{}://{host}", self.front.scheme()), &ticket);
        handover::redirect(&entrance).ok_or(Problem::NoSuchPage)
    }

    /// Answers or forwards a request that came to the host of `name`.
    pub(super) fn on_own_host(
        &self,
        head: &mut RequestHead,
        name: PortName,
        way: Way<'_>,
        claimed: Option<Known>,
        known: &mut bool,
    ) -> Result<Decision<Self>, Problem> {
        let hosts = self.port_hosts.as_ref().ok_or(Problem::ForeignHost)?;
        if origin::is_from_elsewhere(&head.fields, head.method(), way.own, name.port) {
            return Err(Problem::ForeignPage);
        }
        let target = std::str::from_utf8(head.target()).map_err(|_| RouteError::Malformed)?;
        let now = SystemTime::now();
        if let Some(query) = target
            .strip_prefix(ENTER)
            .and_then(|rest| rest.strip_prefix('?'))
            && head.method() == b"GET"
        {
            let entry = Entry::parse(query).ok_or(Problem::BadTicket)?;
            let secret = hosts
                .enter(way.own, name, entry.ticket, now)
                .map_err(|_| Problem::BadTicket)?;
            let mut page = entry.onward(way.own.as_bytes()).ok_or(Problem::BadTicket)?;
            let cookie = self.front.cookie(&secret);
            let cookie = HeaderValue::try_from(cookie).expect("hexadecimal and attributes");
            page.headers_mut().insert(SET_COOKIE, cookie);
            return Ok(Decision::Answer(page));
        }
        let by_cookie = || {
            let who = hosts.user(&head.fields, self.front.cookie_name(), &name, now)?;
            self.signed_in.holds(who.by, now).then_some(who)
        };
        let Some(Known { user, .. }) = claimed.or_else(by_cookie) else {
            return self.to_front(head, name, target, way.own);
        };
        self.is_known_here(&user)?;
        *known = true;
        let seen = self.session_of(&user, &name)?;
        let upstream = upstream(Some(&seen))?;
        let (sibling, rest) = route::on_own_host(head.target())?;
        let port = sibling.unwrap_or(name.port);
        let target = format!("/port/{port}{rest}");
        match sibling.map(|port| format!("{SIBLINGS}{port}")) {
            None => self.send(head, upstream, &target, way),
            // What a page may do there, the proxy decides.
            Some(prefix) => {
                let prefix = Some(prefix.as_str());
                self.send(head, upstream, &target, Way { prefix, ..way })
            }
        }
    }

    /// Sends a person who is not known here to the manager itself, which may know them. That tells
    /// nothing about the session.
    fn to_front(
        &self,
        head: &RequestHead,
        name: PortName,
        target: &str,
        own: &str,
    ) -> Result<Decision<Self>, Problem> {
        if !handover::is_navigation(head) {
            return Err(self.not_signed_in());
        }
        let target = target.to_owned();
        let front = self.front.at(port_of(own.as_bytes()));
        let address = Wish { name, target }.address(&front);
        let page = handover::redirect(&address).ok_or_else(|| self.not_signed_in())?;
        Ok(Decision::Answer(page))
    }

    /// Says the same of a session that is another's and of one that never was.
    fn session_of(&self, user: &UserName, name: &PortName) -> Result<Seen, Problem> {
        let session = name.session.as_ref().ok_or(Problem::NotYourSession)?;
        let found = self
            .sessions
            .of_job(user, |job| port_hosts::label(job) == *session);
        found.ok_or(Problem::NotYourSession)
    }
}
