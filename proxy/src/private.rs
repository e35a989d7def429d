//! This user's private localhost ([`private_localhost`]), as those see it who look for a server in
//! it: where one may be that asked for a port, and the key to those that are locked.
//!
//! Hints, all of it: whose a socket is, is asked of the kernel ([`crate::upstream`]).

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use private_localhost::{Key, PortMap, Private, personal};

use crate::upstream::owner::Socket;

/// The private localhost of one user on this node, and that of one session of theirs.
#[derive(Clone, Debug)]
pub struct Localhost {
    addresses: Vec<Ipv4Addr>,
    map: Option<PortMap>,
}

impl Localhost {
    /// That of `uid`, and of the job `session` if there is one; `map` is where its servers are
    /// written down.
    pub fn new(uid: u32, session: Option<&str>, map: Option<PortMap>) -> Self {
        let of_session = session.map(|session| personal(uid, Some(session)));
        let addresses = [personal(uid, None)].into_iter().chain(of_session);
        Self {
            addresses: addresses.flatten().collect(),
            map,
        }
    }

    /// Where a server of `port` may be, the likeliest first: those that asked for it, those that
    /// were given it, and one that nobody wrote down.
    pub(crate) fn places(&self, port: u16) -> Vec<Place> {
        let mut known = self.known();
        known.retain(|it| self.includes(it) && (it.asked == port || it.port == port));
        known.sort_by_key(|it| it.asked != port);
        let known = known.into_iter().map(|it| Place {
            address: (it.ip, it.port).into(),
            known: Some(it),
        });
        let usual = self.addresses.iter().map(|ip| Place {
            address: (*ip, port).into(),
            known: None,
        });
        known.chain(usual).collect()
    }

    /// Whether a private server is in it, and not in that of another session.
    pub(crate) fn includes(&self, server: &Private) -> bool {
        self.addresses.contains(&server.ip)
    }

    /// All servers that are written down, those of other sessions too, the newest first. Many are
    /// gone.
    pub(crate) fn known(&self) -> Vec<Private> {
        let read = self.map.as_ref().map_or(Ok(Vec::new()), PortMap::all);
        read.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot read which servers are private");
            Vec::new()
        })
    }

    /// What a locked server wants to see. Read each time: it is made by the first program that runs
    /// privately, which may be later than this.
    pub(crate) fn key(&self) -> io::Result<Key> {
        let map = self.map.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Key::of_user(map.directory())
    }
}

/// Where a private server may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    known: Option<Private>,
}

impl Place {
    /// Whether `listener`, which would answer there, is the server that was looked for. A listener
    /// for all addresses answers there too, and is none.
    pub(crate) fn is_of(&self, listener: &Socket) -> bool {
        listener.address == self.address
            && self.known.is_none_or(|known| known.inode == listener.inode)
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.known.is_some_and(|known| known.is_locked)
    }
}
