//! The supervisor: takes the calls that the filter reports, one after another, and makes them where
//! they belong.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_getfl},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt},
};

use crate::{
    address::{self, Asked, LONGEST_BYTES, in_family_of},
    connecting::{Attempt, Slow},
    decide::{Conflict, Policy, Route, Search, Seek, Side},
    fallback::{Held, Remembered},
    lock::Key,
    map::{PortMap, Private},
    notify::{Answer, Call, Kind, Listener},
    owners::Owners,
    target::{self, Facts},
};

/// Addresses of the node's interfaces hardly ever change.
const INTERFACES_HOLD: Duration = Duration::from_secs(5);
/// Between bind(2) and listen(2) a server cannot be found.
const STARTS_WITHIN_SECONDS: u64 = 60;

/// How a private localhost works.
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    /// Where servers are written down.
    pub(crate) map: Option<PortMap>,
    /// What opens servers that are locked.
    pub(crate) key: Option<Key>,
    /// Whether new servers are.
    pub(crate) locks: bool,
    /// Whether the callers' own sockets are out of reach.
    pub(crate) by_replacing: bool,
    /// See [`crate::filter::Installed`].
    pub(crate) is_steady: bool,
}

pub(crate) struct Supervisor {
    listener: Arc<Listener>,
    settings: Settings,
    owners: Box<dyn Owners>,
    /// The network that we are in, where it has a number.
    network: Option<u64>,
    interfaces: (Vec<IpAddr>, Option<Instant>),
    slow: Slow,
    replaced: Remembered,
}

impl Supervisor {
    pub(crate) fn new(listener: Listener, settings: Settings, owners: Box<dyn Owners>) -> Self {
        listener.wake_in_step();
        let probe = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        );
        Self {
            listener: Arc::new(listener),
            settings,
            owners,
            network: probe.ok().and_then(|socket| target::network(socket).ok()),
            interfaces: (Vec::new(), None),
            slow: Slow::default(),
            replaced: Remembered::default(),
        }
    }

    /// Where calls come from.
    pub(crate) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// How long it may be left alone.
    pub(crate) fn patience(&self) -> Option<Duration> {
        (!self.slow.is_empty()).then_some(Duration::from_millis(250))
    }

    /// Looks after what takes its time.
    pub(crate) fn tend(&mut self) {
        self.slow.tend(&self.listener);
    }

    /// Takes one call.
    pub(crate) fn serve(&mut self) -> Result<(), Errno> {
        let Some(call) = self.listener.receive()? else {
            return Ok(());
        };
        match self.decide(&call) {
            Some(answer) => self.listener.answer(call.id, answer),
            None => Ok(()),
        }
    }

    /// The answer, unless it comes later.
    fn decide(&mut self, call: &Call) -> Option<Answer> {
        let Some(asked) = asked(call) else {
            return Some(Answer::Proceed);
        };
        match call.kind {
            Kind::Bind => Some(self.bind(call, asked)),
            Kind::Connect => self.connect(call, asked),
        }
    }

    /// What the caller's socket is, and it itself where it can be had.
    fn socket(&self, call: &Call, asked: Asked) -> Option<Caller> {
        let caller = if self.settings.by_replacing {
            let facts = target::facts_from_outside(call.thread, call.socket)?;
            target::shares_network(call.thread).then_some(Caller {
                facts,
                socket: None,
            })?
        } else {
            let socket = target::socket(call.thread, call.socket).ok()?;
            let facts = target::facts(&socket)?;
            let is_here = match target::network(&socket) {
                Ok(network) => Some(network) == self.network,
                Err(_) => target::shares_network(call.thread),
            };
            is_here.then_some(Caller {
                facts,
                socket: Some(socket),
            })?
        };
        (caller.facts.is_v6 == asked.address.is_ipv6()).then_some(caller)
    }

    fn bind(&mut self, call: &Call, asked: Asked) -> Answer {
        // Without looking at the socket: most calls end here.
        if self.settings.policy.bind(asked, None).is_empty() {
            return Answer::Proceed;
        }
        let Some(caller) = self.socket(call, asked) else {
            return Answer::Proceed;
        };
        let v6_only = caller.facts.v6_only;
        let v6_only = v6_only.or_else(|| self.has_the_other_family(call, asked));
        let sides = self.settings.policy.bind(asked, v6_only);
        if sides.is_empty() || target::is_public(call.thread) {
            return Answer::Proceed;
        }
        if let Some(answer) = self.was_replaced(call) {
            return answer;
        }
        let locks = self.settings.locks;
        let held = match self.hold(call, caller, locks) {
            Ok(held) if self.listener.still_waits(call.id) => held,
            Ok(_) | Err(_) => return Answer::Proceed,
        };
        if port_of(&held).is_ok_and(|port| port != 0) {
            // It has an address. The kernel says so, and nothing that we set may be undone.
            return if self.is_made_again(&held, sides, asked.address) {
                Answer::Done
            } else {
                Answer::Proceed
            };
        }
        let v6_only = take_v6_only(&held, asked.address);
        let key = self.settings.key.as_ref().filter(|_| locks);
        let is_locked = key.is_some_and(|key| key.guard(&held).is_ok());
        let bound = self.bind_at(&held, sides, asked.address);
        if bound.is_err() {
            if locks {
                Key::unguard(&held);
            }
            v6_only.give_back(&held);
        }
        match bound {
            Ok(at) => {
                // Told before the server listens, and so before anybody looks for it.
                self.write_down(&held, asked.address.port(), at, is_locked);
                match held.hand_over(&self.listener, call.id) {
                    Ok(()) => self.remember(call, &held),
                    Err(error) => return Answer::Failed(error),
                }
                Answer::Done
            }
            Err(error) => Answer::Failed(error),
        }
    }

    /// Where it cannot be told whether a socket is for IPv6 alone: it is if its process listens on
    /// IPv4 too, as some do for all addresses.
    fn has_the_other_family(&self, call: &Call, asked: Asked) -> Option<bool> {
        let is_all_v6 = asked.address.is_ipv6() && asked.address.ip().is_unspecified();
        let own = self.settings.policy.at(Side::Own);
        let is_there = |it: &Private| {
            it.ip == own
                && it.asked == asked.address.port()
                && target::has_socket(call.thread, it.inode)
        };
        (is_all_v6 && self.privates().iter().any(is_there)).then_some(true)
    }

    /// Binds to the first side that is free, under another port if a stranger has the one that was
    /// asked for.
    fn bind_at(
        &self,
        held: &Held,
        sides: &[Side],
        asked: SocketAddr,
    ) -> Result<SocketAddrV4, Errno> {
        let mut taken = Err(Errno::ADDRINUSE);
        for side in sides {
            let ip = self.settings.policy.at(*side);
            taken = self.bind_side(held, SocketAddrV4::new(ip, asked.port()), asked);
            if taken != Err(Errno::ADDRINUSE) {
                break;
            }
        }
        taken
    }

    fn bind_side(
        &self,
        held: &Held,
        wanted: SocketAddrV4,
        asked: SocketAddr,
    ) -> Result<SocketAddrV4, Errno> {
        let bind_to = |port| {
            bind(held, &in_family_of(asked, *wanted.ip(), port))?;
            Ok(SocketAddrV4::new(*wanted.ip(), port_of(held)?))
        };
        match bind_to(wanted.port()) {
            Err(Errno::ADDRINUSE) => {}
            bound => return bound,
        }
        let holder = |at: SocketAddrV4| self.owners.listener(at.into()).ok().flatten();
        let policy = &self.settings.policy;
        if policy.conflict(holder(wanted).as_ref()) == Conflict::Taken {
            return Err(Errno::ADDRINUSE);
        }
        // Where it was before, or where the same server is on the other address.
        let known = self.privates();
        let moved = known
            .iter()
            .filter(|it| it.asked == wanted.port() && it.port != it.asked);
        for before in moved {
            match bind_to(before.port) {
                Err(Errno::ADDRINUSE) => {}
                bound => return bound,
            }
            let there = holder(SocketAddrV4::new(*wanted.ip(), before.port));
            if there.is_some_and(|it| it.uid == policy.uid && it.inode == before.inode) {
                return Err(Errno::ADDRINUSE);
            }
        }
        bind_to(0)
    }

    /// Whether the call was made before and interrupted after its end, which is told by the outcome.
    fn is_made_again(&self, held: &Held, sides: &[Side], asked: SocketAddr) -> bool {
        let Some(SocketAddr::V4(bound)) =
            name_of(held).map(|name| SocketAddr::new(name.ip().to_canonical(), name.port()))
        else {
            return false;
        };
        let is_ours = sides
            .iter()
            .any(|side| self.settings.policy.at(*side) == *bound.ip());
        !self.settings.is_steady && is_ours && {
            let known = self.privates();
            bound.port() == asked.port()
                || known.iter().any(|it| {
                    it.ip == *bound.ip() && [it.asked, it.port] == [asked.port(), bound.port()]
                })
        }
    }

    fn write_down(&self, held: &Held, asked: u16, at: SocketAddrV4, is_locked: bool) {
        let (Some(map), Ok(inode)) = (&self.settings.map, held.inode()) else {
            return;
        };
        let new = Private::now(*at.ip(), [asked, at.port()], inode, is_locked);
        let is_there = |it: &Private| {
            if new.since.saturating_sub(it.since) < STARTS_WITHIN_SECONDS {
                return true;
            }
            let address = SocketAddr::from((it.ip, it.port));
            let found = self.owners.listener(address).ok().flatten();
            found.is_some_and(|found| found.uid == self.settings.policy.uid)
        };
        // Whoever looks for the server still finds it under its own port, but for the lock.
        let _ = map.insert(new, is_there);
    }

    fn connect(&mut self, call: &Call, asked: Asked) -> Option<Answer> {
        let search = match self.settings.policy.seek(asked) {
            Seek::Here(search) => search,
            Seek::IfLocal(search) if self.is_local(asked.address.ip()) => search,
            Seek::IfLocal(_) | Seek::Leave => return Some(Answer::Proceed),
        };
        Some(match self.start_connect(call, asked, search) {
            Started::At(answer) => answer,
            Started::Later => return None,
        })
    }

    fn start_connect(&mut self, call: &Call, asked: Asked, search: Search) -> Started {
        let Some(caller) = self.socket(call, asked) else {
            return Started::At(Answer::Proceed);
        };
        let route =
            self.settings
                .policy
                .route(asked.address, search, &self.privates(), |address| {
                    self.owners.listener(address)
                });
        let (address, is_locked, is_full) = match route {
            Ok(Route::To {
                address,
                is_locked,
                is_full,
            }) => (address, is_locked, is_full),
            Ok(Route::Refuse) => return Started::At(Answer::Failed(Errno::CONNREFUSED)),
            Ok(Route::Leave) | Err(_) => return Started::At(Answer::Proceed),
        };
        if let Some(answer) = self.was_replaced(call) {
            return Started::At(answer);
        }
        let held = match self.hold(call, caller, is_locked) {
            Ok(held) if self.listener.still_waits(call.id) => held,
            Ok(_) | Err(_) => return Started::At(Answer::Proceed),
        };
        take_v6_only(&held, asked.address);
        let to = in_family_of(asked.address, *address.ip(), address.port());
        let key = self.settings.key.clone().filter(|_| is_locked);
        if let Some(key) = &key {
            // It will not get through without; and a key that was set before does no harm.
            let _ = key.apply(&held, to);
        }
        self.make(
            call,
            Attempt {
                id: call.id,
                held,
                to,
                key,
            },
            is_full,
        )
    }

    fn make(&mut self, call: &Call, attempt: Attempt, is_full: bool) -> Started {
        let waits = !fcntl_getfl(&attempt.held).is_ok_and(|it| it.contains(OFlags::NONBLOCK));
        let made = match (waits, is_full) {
            (false, _) => Some(attempt.make()),
            (true, false) => attempt.make_at_once(),
            (true, true) => None,
        };
        self.remember(call, &attempt.held);
        match made {
            Some(made) => Started::At(attempt.settle(&self.listener, made)),
            None => match self.slow.start(attempt, &self.listener) {
                Ok(()) => Started::Later,
                Err(error) => Started::At(Answer::Failed(error)),
            },
        }
    }

    /// The socket to act on; `needs_key` one that takes keys.
    fn hold(&self, call: &Call, caller: Caller, needs_key: bool) -> Result<Held, Errno> {
        match caller.socket {
            Some(socket) if caller.facts.is_multipath && needs_key => {
                Held::fresh(call, caller.facts, Some(&socket))
            }
            Some(socket) => Ok(Held::own(socket)),
            None => Held::fresh(call, caller.facts, None),
        }
    }

    fn remember(&mut self, call: &Call, held: &Held) {
        if held.is_fresh()
            && let Ok(inode) = held.inode()
        {
            self.replaced.add(call.kind, inode);
        }
    }

    /// The answer to a call on a socket that we put there for another such call. The kernel knows
    /// what to say to a second one.
    fn was_replaced(&self, call: &Call) -> Option<Answer> {
        if self.replaced.is_empty() {
            return None;
        }
        let inode = target::inode(call.thread, call.socket)?;
        if !self.replaced.contains(call.kind, inode) {
            return None;
        }
        let is_made_again = call.kind == Kind::Bind && !self.settings.is_steady;
        Some(if is_made_again {
            Answer::Done
        } else {
            Answer::Proceed
        })
    }

    /// All that is written down; nothing where that cannot be read.
    fn privates(&self) -> Vec<Private> {
        let map = self.settings.map.as_ref();
        map.and_then(|map| map.all().ok()).unwrap_or_default()
    }

    /// Whether an address is one of this machine's interfaces.
    fn is_local(&mut self, ip: IpAddr) -> bool {
        let (known, asked) = &mut self.interfaces;
        if asked.is_none_or(|asked| asked.elapsed() >= INTERFACES_HOLD) {
            *asked = Some(Instant::now());
            *known = interfaces();
        }
        known.contains(&ip.to_canonical())
    }
}

/// Who made a call.
struct Caller {
    facts: Facts,
    /// Nothing where it is out of reach.
    socket: Option<std::os::fd::OwnedFd>,
}

enum Started {
    At(Answer),
    Later,
}

/// The address that a call is about, if it may concern us.
fn asked(call: &Call) -> Option<Asked> {
    let mut bytes = [0; LONGEST_BYTES];
    let length = bytes.len().min(call.length as usize);
    // The kernel takes no longer ones for an address, and a caller without a number is in another
    // container.
    if call.length > 128 || call.thread == 0 {
        return None;
    }
    let read = target::read_memory(call.thread, call.address, &mut bytes[..length]).ok()?;
    address::parse(&bytes[..read])
}

/// A socket for IPv6 reaches IPv4 only when it is not for IPv6 alone.
fn take_v6_only(held: &Held, asked: SocketAddr) -> V6Only {
    let was_set = asked.is_ipv6() && sockopt::ipv6_v6only(held).unwrap_or(false);
    V6Only(was_set && sockopt::set_ipv6_v6only(held, false).is_ok())
}

struct V6Only(bool);

impl V6Only {
    fn give_back(self, held: &Held) {
        if self.0 {
            // A socket that is not bound takes it.
            let _ = sockopt::set_ipv6_v6only(held, true);
        }
    }
}

fn name_of(held: &Held) -> Option<SocketAddr> {
    getsockname(held).ok()?.try_into().ok()
}

fn port_of(held: &Held) -> Result<u16, Errno> {
    name_of(held).map(|name| name.port()).ok_or(Errno::INVAL)
}

fn interfaces() -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|it| {
        let address = it.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
    })
    .collect()
}
