//! What becomes of a bind or a connect: pure, given what is known of ports and of their owners.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    ops::RangeInclusive,
};

use crate::{
    address::{Asked, is_anybodys},
    map::Private,
    owners::Owner,
};

/// What a private localhost is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Where the user's servers are: see [`crate::personal`].
    pub(crate) personal: [Ipv4Addr; 2],
    pub(crate) uid: u32,
    /// The first number of an ordinary user.
    pub(crate) first_user: u32,
    /// Ports that are not private.
    pub(crate) public: Vec<RangeInclusive<u16>>,
}

/// One of the two personal addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Of servers of 127.0.0.1 and of all addresses.
    Own = 0,
    /// Of servers of ::1, and of all IPv6 addresses alone.
    Twin = 1,
}

/// Where to look for the server that a connection is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seek {
    /// It has nothing to do with localhost.
    Leave,
    /// Only if the address is this machine's.
    IfLocal(Search),
    /// In any case.
    Here(Search),
}

/// The way of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Search {
    /// The personal addresses, in turn.
    sides: &'static [Side],
    /// A server of exactly the address that was asked for goes first.
    exact_first: bool,
    /// The last resort is what was asked for, but not when a stranger has it.
    guarded: bool,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Where it was asked to go.
    Leave,
    /// Nowhere: a stranger is there.
    Refuse,
    /// To a private server.
    To {
        address: SocketAddrV4,
        is_locked: bool,
        is_full: bool,
    },
}

/// What to do about a port that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// The user has it already, which is for the program to know.
    Taken,
    /// Somebody else has it: any other will do, under the name of the one that was asked for.
    Elsewhere,
}

impl Policy {
    /// That personal address.
    pub(crate) fn at(&self, side: Side) -> Ipv4Addr {
        self.personal[side as usize]
    }

    /// Where a server goes instead of to `asked`, to each if the one before has the port already;
    /// nowhere when it stays where it asked to be. `v6_only` is whether the socket is for IPv6
    /// alone, where that can be told.
    pub(crate) fn bind(&self, asked: Asked, v6_only: Option<bool>) -> &'static [Side] {
        if self.is_public(asked.address.port()) {
            return &[];
        }
        match asked.address.ip() {
            IpAddr::V4(ip) => self.bind_v4(ip),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                // The kernel refuses it.
                Some(_) if v6_only == Some(true) => &[],
                Some(ip) => self.bind_v4(ip),
                None if ip == Ipv6Addr::LOCALHOST => &[Side::Twin],
                None if ip.is_unspecified() => match v6_only {
                    Some(true) => &[Side::Twin],
                    Some(false) => &[Side::Own],
                    None => &[Side::Own, Side::Twin],
                },
                None => &[],
            },
        }
    }

    fn bind_v4(&self, ip: Ipv4Addr) -> &'static [Side] {
        if ip == Ipv4Addr::LOCALHOST || ip.is_unspecified() || ip == self.at(Side::Own) {
            &[Side::Own]
        } else if ip == self.at(Side::Twin) {
            &[Side::Twin]
        } else {
            &[]
        }
    }

    /// What follows when a bind found its port taken by `holder`. One who does not listen is not
    /// seen, and may be the program's own other socket.
    pub(crate) fn conflict(&self, holder: Option<&Owner>) -> Conflict {
        match holder {
            Some(holder) if holder.uid != self.uid => Conflict::Elsewhere,
            Some(_) | None => Conflict::Taken,
        }
    }

    /// Where a connection to `asked` may have to go.
    pub(crate) fn seek(&self, asked: Asked) -> Seek {
        use Side::{Own, Twin};
        // A connection to `AF_UNSPEC` ends the association of a socket.
        if asked.is_unspec || self.is_public(asked.address.port()) {
            return Seek::Leave;
        }
        let of_localhost = |sides| Search {
            sides,
            exact_first: false,
            guarded: true,
        };
        // Whoever names the node's public address may mean somebody's public server.
        let of_the_node = |sides| Search {
            sides,
            exact_first: true,
            guarded: false,
        };
        match asked.address.ip().to_canonical() {
            IpAddr::V4(ip) if ip == self.at(Twin) => Seek::Here(of_localhost(&[Twin])),
            IpAddr::V4(ip)
                if ip == Ipv4Addr::LOCALHOST || ip.is_unspecified() || ip == self.at(Own) =>
            {
                Seek::Here(of_localhost(&[Own]))
            }
            IpAddr::V4(ip) if is_anybodys(ip) => Seek::Leave,
            // Such as 127.0.1.1, the node's own name on some systems.
            IpAddr::V4(ip) if ip.is_loopback() => Seek::Here(Search {
                exact_first: true,
                ..of_localhost(&[Own])
            }),
            IpAddr::V4(_) => Seek::IfLocal(of_the_node(&[Own])),
            IpAddr::V6(ip) if ip == Ipv6Addr::LOCALHOST || ip.is_unspecified() => {
                Seek::Here(of_localhost(&[Twin, Own]))
            }
            IpAddr::V6(_) => Seek::IfLocal(of_the_node(&[Twin, Own])),
        }
    }

    /// Where a connection to `asked` goes: to a private server of the user's, which `privates` tells
    /// of each personal address and port, else to what the kernel would choose, unless that is
    /// another user's. `listener` is [`crate::Owners::listener`].
    pub(crate) fn route(
        &self,
        asked: SocketAddr,
        search: Search,
        privates: &[Private],
        listener: impl Fn(SocketAddr) -> io::Result<Option<Owner>>,
    ) -> io::Result<Route> {
        let asked = dialled(asked);
        if search.exact_first
            && let Some(found) = listener(asked)?
            && canonical(found.address) == asked
        {
            return Ok(self.last_resort(search, Some(found)));
        }
        for side in search.sides {
            let (ip, port) = (self.at(*side), asked.port());
            if let Some(found) = self.private(ip, port, privates, &listener)? {
                return Ok(found);
            }
        }
        let found = if search.guarded {
            listener(asked)?
        } else {
            None
        };
        Ok(self.last_resort(search, found))
    }

    fn last_resort(&self, search: Search, found: Option<Owner>) -> Route {
        match found {
            Some(owner) if search.guarded && self.is_stranger(owner.uid) => Route::Refuse,
            Some(_) | None => Route::Leave,
        }
    }

    /// The user's own server of exactly this address, under whatever port it really has.
    fn private(
        &self,
        ip: Ipv4Addr,
        port: u16,
        privates: &[Private],
        listener: impl Fn(SocketAddr) -> io::Result<Option<Owner>>,
    ) -> io::Result<Option<Route>> {
        let named = || privates.iter().filter(|it| it.ip == ip && it.asked == port);
        let mut tried = Vec::new();
        for real in named().map(|it| it.port).chain([port]) {
            if tried.contains(&real) {
                continue;
            }
            tried.push(real);
            let address = SocketAddrV4::new(ip, real);
            let Some(found) = listener(address.into())? else {
                continue;
            };
            // A server of all addresses answers here too, and is an ordinary one.
            if found.uid != self.uid || canonical(found.address) != address.into() {
                continue;
            }
            // Also under the name of the port that it was moved to, which it knows itself by.
            let known = privates.iter().find(|it| {
                let is_named = it.asked == port || it.port == port;
                is_named && it.ip == ip && it.port == real && it.inode == found.inode
            });
            // Another that came to have the port that a server was moved to.
            if known.is_none() && real != port {
                continue;
            }
            return Ok(Some(Route::To {
                address,
                is_locked: known.is_some_and(|it| it.is_locked),
                is_full: found.is_full,
            }));
        }
        Ok(None)
    }

    fn is_public(&self, port: u16) -> bool {
        // Any free port: nobody can know it before, and those who are told it may be elsewhere.
        port == 0 || self.public.iter().any(|range| range.contains(&port))
    }

    /// Whether servers of this user are not to be met by accident: neither one's own nor the node's.
    fn is_stranger(&self, uid: u32) -> bool {
        /// Users that systemd makes up for services (systemd's UIDS-GIDS.md).
        const SERVICES: RangeInclusive<u32> = 61184..=65519;
        uid != self.uid && uid >= self.first_user && !SERVICES.contains(&uid)
    }
}

/// What the kernel makes of an address in connect(2): the unspecified one is the loopback one.
fn dialled(asked: SocketAddr) -> SocketAddr {
    let ip = match asked.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, asked.port())
}

/// An IPv4 address also where an IPv6 socket has it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ME: u32 = 1000;
    const OTHER: u32 = 1001;
    const OWN: Ipv4Addr = Ipv4Addr::new(127, 64, 3, 232);
    const TWIN: Ipv4Addr = Ipv4Addr::new(127, 128, 3, 232);

    fn policy(public: &[RangeInclusive<u16>]) -> Policy {
        Policy {
            personal: [OWN, TWIN],
            uid: ME,
            first_user: 1000,
            public: public.to_vec(),
        }
    }

    fn asked(text: &str) -> Asked {
        Asked {
            address: text.parse().unwrap(),
            is_unspec: false,
        }
    }

    #[test]
    fn servers_of_localhost_and_of_all_addresses_are_moved() {
        use Side::{Own, Twin};
        let (no, yes, unknown) = (Some(false), Some(true), None);
        for (address, v6_only, sides) in [
            ("127.0.0.1:5500", unknown, &[Own][..]),
            ("0.0.0.0:5500", unknown, &[Own]),
            ("127.64.3.232:5500", unknown, &[Own]),
            ("127.128.3.232:5500", unknown, &[Twin]),
            ("127.0.0.2:5500", unknown, &[]),
            ("127.64.3.233:5500", unknown, &[]),
            ("10.0.0.1:5500", unknown, &[]),
            ("127.0.0.1:0", unknown, &[]),
            ("127.0.0.1:79", unknown, &[Own]),
            ("127.0.0.1:80", unknown, &[]),
            ("127.0.0.1:89", unknown, &[]),
            ("[::]:5500", no, &[Own]),
            ("[::]:5500", yes, &[Twin]),
            ("[::]:5500", unknown, &[Own, Twin]),
            ("[::1]:5500", no, &[Twin]),
            ("[::1]:5500", yes, &[Twin]),
            ("[::ffff:127.0.0.1]:5500", no, &[Own]),
            ("[::ffff:0.0.0.0]:5500", no, &[Own]),
            ("[::ffff:127.0.0.1]:5500", yes, &[]),
            ("[::ffff:10.0.0.1]:5500", no, &[]),
            ("[::]:0", no, &[]),
            ("[fe80::1]:5500", no, &[]),
        ] {
            let found = policy(&[80..=89]).bind(asked(address), v6_only);
            assert_eq!(found, sides, "{address} {v6_only:?}");
        }
    }

    #[test]
    fn a_port_that_a_stranger_has_is_had_elsewhere() {
        let holder = |uid| Owner {
            uid,
            inode: 1,
            address: "0.0.0.0:5500".parse().unwrap(),
            is_full: false,
        };
        let policy = policy(&[]);
        assert_eq!(policy.conflict(Some(&holder(OTHER))), Conflict::Elsewhere);
        assert_eq!(policy.conflict(Some(&holder(0))), Conflict::Elsewhere);
        assert_eq!(policy.conflict(Some(&holder(ME))), Conflict::Taken);
        assert_eq!(policy.conflict(None), Conflict::Taken);
    }

    /// All listeners of a machine.
    #[derive(Clone, Debug)]
    struct Machine(Vec<Owner>);

    impl Machine {
        /// As the kernel chooses: the exact address, else all of the family, else all of both.
        fn listener(&self, address: SocketAddr) -> Option<Owner> {
            let any = match address.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let at = |ip: IpAddr| {
                let at = SocketAddr::new(ip, address.port());
                self.0.iter().find(|it| it.address == at)
            };
            let found = at(address.ip()).or_else(|| at(any));
            found.or_else(|| at(Ipv6Addr::UNSPECIFIED.into())).copied()
        }

        fn route(&self, policy: &Policy, to: Asked, privates: &[Private]) -> Route {
            match policy.seek(to) {
                Seek::Leave => Route::Leave,
                Seek::IfLocal(_) if !is_local(to.address.ip()) => Route::Leave,
                Seek::IfLocal(search) | Seek::Here(search) => policy
                    .route(to.address, search, privates, |it| Ok(self.listener(it)))
                    .unwrap(),
            }
        }
    }

    fn is_local(ip: IpAddr) -> bool {
        ip.to_canonical() == IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))
    }

    /// The same, as one would say it.
    fn model(machine: &Machine, public: bool, to: Asked, privates: &[Private]) -> Route {
        let (ip, port) = (to.address.ip().to_canonical(), to.address.port());
        let text = ip.to_string();
        if to.is_unspec || port == 0 || public {
            return Route::Leave;
        }
        let (sides, real): (&[Ipv4Addr], &str) = match text.as_str() {
            "127.0.0.1" | "0.0.0.0" => (&[OWN], "127.0.0.1"),
            "::1" | "::" => (&[TWIN, OWN], "::1"),
            "127.64.3.232" => (&[OWN], &text),
            "127.128.3.232" => (&[TWIN], &text),
            "127.0.1.1" | "10.0.0.1" => (&[OWN], &text),
            _ => return Route::Leave,
        };
        let real = SocketAddr::new(real.parse().unwrap(), port);
        let there = machine.listener(real);
        let is_by_name = matches!(text.as_str(), "127.0.1.1" | "10.0.0.1");
        let exact = is_by_name && there.is_some_and(|it| it.address == real);
        if !exact {
            for side in sides {
                let mut ports: Vec<u16> = Vec::new();
                for it in privates {
                    if it.ip == *side && it.asked == port {
                        ports.push(it.port);
                    }
                }
                ports.push(port);
                for real_port in ports {
                    let at = SocketAddr::from((*side, real_port));
                    let Some(server) = machine.0.iter().find(|it| it.address == at) else {
                        continue;
                    };
                    let known = privates.iter().find(|it| {
                        (it.ip, it.port, it.inode) == (*side, real_port, server.inode)
                            && (it.asked == port || it.port == port)
                    });
                    if server.uid == ME && (known.is_some() || real_port == port) {
                        return Route::To {
                            address: SocketAddrV4::new(*side, real_port),
                            is_locked: known.is_some_and(|it| it.is_locked),
                            is_full: server.is_full,
                        };
                    }
                }
            }
        }
        match there {
            Some(it) if text != "10.0.0.1" && it.uid == OTHER => Route::Refuse,
            _ => Route::Leave,
        }
    }

    fn ips() -> impl Strategy<Value = IpAddr> {
        let texts = [
            "127.0.0.1",
            "0.0.0.0",
            "127.64.3.232",
            "127.128.3.232",
            "127.64.9.9",
            "127.0.1.1",
            "10.0.0.1",
            "10.0.0.2",
            "::",
            "::1",
            "fe80::1",
        ];
        prop::sample::select(texts.map(|it| it.parse().unwrap()).to_vec())
    }

    fn asked_ips() -> impl Strategy<Value = IpAddr> {
        // Also as a socket for IPv6 names an address of IPv4.
        (ips(), any::<bool>()).prop_map(|(ip, is_mapped)| match ip {
            IpAddr::V4(ip) if is_mapped => ip.to_ipv6_mapped().into(),
            ip => ip,
        })
    }

    fn machines() -> impl Strategy<Value = Machine> {
        let uid = prop::sample::select(vec![ME, ME, OTHER, 0, 65_000]);
        let listener = (ips(), 1..4u16, uid, 0..4u64, any::<bool>());
        prop::collection::vec(listener, 0..12).prop_map(|listeners| {
            let mut all: Vec<Owner> = Vec::new();
            for (ip, port, uid, inode, is_full) in listeners {
                let address = SocketAddr::new(ip, port);
                // Each address once.
                if all.iter().all(|it| it.address != address) {
                    all.push(Owner {
                        uid,
                        inode,
                        address,
                        is_full,
                    });
                }
            }
            Machine(all)
        })
    }

    fn privates() -> impl Strategy<Value = Vec<Private>> {
        let ip = prop::sample::select(vec![OWN, TWIN]);
        let private = (ip, 1..4u16, 1..4u16, 0..4u64, any::<bool>());
        let private = private.prop_map(|(ip, asked, port, inode, is_locked)| Private {
            ip,
            asked,
            port,
            inode,
            is_locked,
            since: 0,
        });
        prop::collection::vec(private, 0..6)
    }

    proptest! {
        #[test]
        fn a_connection_goes_where_one_would_say(
            machine in machines(), privates in privates(), ip in asked_ips(), port in 0..4u16,
            is_unspec: bool, is_public: bool,
        ) {
            let policy = policy(if is_public { &[1..=9] } else { &[] });
            let to = Asked { address: SocketAddr::new(ip, port), is_unspec };
            let found = machine.route(&policy, to, &privates);
            prop_assert_eq!(found, model(&machine, is_public, to, &privates));
        }

        #[test]
        fn a_connection_to_localhost_never_meets_a_stranger(
            machine in machines(), privates in privates(), v6: bool, port in 1..4u16,
        ) {
            let ip = if v6 { Ipv6Addr::LOCALHOST.into() } else { IpAddr::from(Ipv4Addr::LOCALHOST) };
            let to = Asked { address: SocketAddr::new(ip, port), is_unspec: false };
            let met = match machine.route(&policy(&[]), to, &privates) {
                Route::Refuse => None,
                Route::Leave => machine.listener(to.address),
                Route::To { address, .. } => machine.listener(address.into()),
            };
            prop_assert!(met.is_none_or(|it| it.uid != OTHER));
        }

        #[test]
        fn where_a_server_goes_a_client_finds_it(
            ip in asked_ips(), port in 1..4u16, moved_to in 1..4u16, v6_only: Option<bool>,
            is_locked: bool,
        ) {
            let policy = policy(&[]);
            let asked = Asked { address: SocketAddr::new(ip, port), is_unspec: false };
            for side in policy.bind(asked, v6_only) {
                let at = policy.at(*side);
                let server = Owner {
                    uid: ME, inode: 7, address: SocketAddr::from((at, moved_to)), is_full: false,
                };
                let known = Private {
                    ip: at, asked: port, port: moved_to, inode: 7, is_locked, since: 0,
                };
                let found = Machine(vec![server]).route(&policy, asked, &[known]);
                let expected = Route::To {
                    address: SocketAddrV4::new(at, moved_to), is_locked, is_full: false,
                };
                // `::` of both families is asked for by either name; a client of `::` is one of `::1`.
                prop_assert_eq!(found, expected);
            }
        }
    }
}
