//! Addresses: what a program asked for, as bytes, and the two that are one user's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of `struct sockaddr_in` (ip(7)).
const V4_BYTES: usize = 16;
/// Bytes of `struct sockaddr_in6` that the kernel asks for: all but the scope (`SIN6_LEN_RFC2133`).
const V6_BYTES: usize = 24;
/// Bytes of a whole `struct sockaddr_in6` (ipv6(7)).
pub(crate) const LONGEST_BYTES: usize = 28;
/// One user in each address of a network of this size, below 127.0.0.0/8.
const USERS: u32 = 1 << 22;
/// 127.64.0.0/10, where servers of 127.0.0.1 and of all addresses are.
const OWN: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
/// 127.128.0.0/10, where servers of ::1 are.
const TWIN: Ipv4Addr = Ipv4Addr::new(127, 128, 0, 0);

/// The addresses of 127.0.0.0/8 that are one user's own by convention, or one session's of a user.
/// The second stands in for `::1`: a program may listen on one port of both.
///
/// They are clear of 127.0.0.1, of 127.0.1.1 and of 127.0.0.53, which are in use. A collision of
/// two users costs no more than a port that is taken: whose a socket is, is asked of the kernel.
pub fn personal(uid: u32, session: Option<&str>) -> [Ipv4Addr; 2] {
    // Fibonacci hashing: the upper bits of the product depend on all bits of the number.
    let hash = |number: u32| number.wrapping_mul(0x9e37_79b9) >> 10;
    let number = match session {
        None if uid < USERS => uid,
        None => hash(uid),
        Some(session) => hash(fnv1a(uid, session.as_bytes())),
    };
    [OWN, TWIN].map(|network| Ipv4Addr::from_bits(network.to_bits() + number))
}

/// FNV-1a (draft-eastlake-fnv), of the user's number and the session's name.
fn fnv1a(uid: u32, session: &[u8]) -> u32 {
    uid.to_le_bytes()
        .iter()
        .chain(session)
        .fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        })
}

/// Whether this is somebody's personal address.
pub(crate) fn is_anybodys(ip: Ipv4Addr) -> bool {
    (OWN.to_bits()..OWN.to_bits() + 2 * USERS).contains(&ip.to_bits())
}

/// The address in `bytes`, a `struct sockaddr` with a port; nothing for other families and for what
/// the kernel would refuse for its length.
///
/// Of `AF_UNSPEC` the kernel's bind(2) takes the unspecified address for the one of `AF_INET`, and
/// connect(2) means something else by it: [`Asked::unspec`].
pub(crate) fn parse(bytes: &[u8]) -> Option<Asked> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let is_unspec = i32::from(family) == libc::AF_UNSPEC;
    match i32::from(family) {
        libc::AF_INET | libc::AF_UNSPEC if bytes.len() >= V4_BYTES => {
            let ip = Ipv4Addr::from(*bytes[4..].first_chunk::<4>()?);
            Some(Asked {
                address: SocketAddrV4::new(ip, port).into(),
                is_unspec,
            })
            .filter(|_| !is_unspec || ip.is_unspecified())
        }
        libc::AF_INET6 if bytes.len() >= V6_BYTES => {
            let ip = Ipv6Addr::from(*bytes[8..].first_chunk::<16>()?);
            let scope = bytes.get(24..).and_then(<[u8]>::first_chunk);
            let scope = scope.map_or(0, |scope| u32::from_ne_bytes(*scope));
            Some(Asked {
                address: SocketAddrV6::new(ip, port, 0, scope).into(),
                is_unspec,
            })
        }
        _ => None,
    }
}

/// An address that a program handed to bind(2) or connect(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) address: SocketAddr,
    /// Its family was `AF_UNSPEC`.
    pub(crate) is_unspec: bool,
}

/// `ip` as a socket of the family of `like` names it.
pub(crate) fn in_family_of(like: SocketAddr, ip: Ipv4Addr, port: u16) -> SocketAddr {
    let ip = match like {
        SocketAddr::V4(_) => IpAddr::V4(ip),
        SocketAddr::V6(_) => IpAddr::V6(ip.to_ipv6_mapped()),
    };
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(address: SocketAddr) -> Vec<u8> {
        let mut bytes = Vec::new();
        match address {
            SocketAddr::V4(address) => {
                bytes.extend((libc::AF_INET as u16).to_ne_bytes());
                bytes.extend(address.port().to_be_bytes());
                bytes.extend(address.ip().octets());
                bytes.extend([0; 8]);
            }
            SocketAddr::V6(address) => {
                bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
                bytes.extend(address.port().to_be_bytes());
                bytes.extend(7u32.to_ne_bytes());
                bytes.extend(address.ip().octets());
                bytes.extend(address.scope_id().to_ne_bytes());
            }
        }
        bytes
    }

    #[test]
    fn personal_addresses_are_apart_from_all_others() {
        assert_eq!(personal(1000, None)[0], Ipv4Addr::new(127, 64, 3, 232));
        for uid in [0, 1, 1000, USERS - 1, USERS, u32::MAX] {
            for session in [None, Some(""), Some("4711"), Some("job 4711_3")] {
                let addresses = personal(uid, session);
                let [own, twin] = addresses.map(|address| address.octets());
                assert!((64..128).contains(&own[1]), "{uid} {session:?}");
                assert!((128..192).contains(&twin[1]), "{uid} {session:?}");
                assert_eq!(addresses.map(is_anybodys), [true, true]);
            }
        }
        for other in [
            "127.0.0.1",
            "127.0.1.1",
            "127.63.255.255",
            "127.192.0.0",
            "10.64.0.1",
        ] {
            assert!(!is_anybodys(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn sessions_of_one_user_are_apart() {
        let sessions = [None, Some("1"), Some("2"), Some("12")];
        let addresses: std::collections::HashSet<_> = sessions
            .iter()
            .map(|session| personal(1000, *session))
            .collect();
        assert_eq!(addresses.len(), sessions.len());
    }

    #[test]
    fn an_unspecified_family_stands_for_any_ipv4_address_alone() {
        let mut bytes = bytes_of("0.0.0.0:5500".parse().unwrap());
        bytes[..2].fill(0);
        let asked = parse(&bytes).unwrap();
        assert_eq!(
            (asked.address.to_string().as_str(), asked.is_unspec),
            ("0.0.0.0:5500", true)
        );
        bytes[4] = 127;
        assert_eq!(parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_bytes_of_a_known_family_are_read_without_a_panic(
            family in prop_oneof![Just(0u16), Just(2), Just(10)], rest: Vec<u8>,
        ) {
            let bytes = [&family.to_ne_bytes()[..], &rest].concat();
            let shortest = if family == 10 { V6_BYTES } else { V4_BYTES };
            prop_assert!(bytes.len() >= shortest || parse(&bytes).is_none());
        }

        #[test]
        fn an_address_comes_back(v4: Ipv4Addr, v6: Ipv6Addr, port: u16, scope: u32, more: Vec<u8>) {
            let v4 = SocketAddr::from((v4, port));
            let v6 = SocketAddr::from(SocketAddrV6::new(v6, port, 0, scope));
            for address in [v4, v6] {
                let bytes = [bytes_of(address), more.clone()].concat();
                prop_assert_eq!(parse(&bytes), Some(Asked { address, is_unspec: false }));
            }
        }
    }
}
