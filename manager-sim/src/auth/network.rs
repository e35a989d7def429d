//! Where a peer is: the addresses from which a sign-in field is believed.

use std::{fmt, net::IpAddr, str::FromStr};

use hpc_proxy::service::Peer;
use thiserror::Error;

/// How the peers of a Unix socket are called.
const UNIX: &str = "unix";

/// Some peers: those of one address, of a network, or of this machine by a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Those whose address begins with these bits.
    Ip {
        /// An address whose other bits are zero.
        address: IpAddr,
        /// How many bits count.
        bits: u8,
    },
    /// Those that come by a Unix socket; of one user alone where one is given.
    Unix {
        /// Which user's processes.
        uid: Option<u32>,
    },
}

/// Text is no network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotANetwork {
    /// Not of any form.
    #[error(
        "`{}` is neither an address (10.0.0.5), nor a network (10.1.0.0/24), nor `unix` or `unix:UID`",
        .0.escape_debug()
    )]
    Malformed(String),
    /// More bits than the address has.
    #[error("`{0}` has more bits than its address")]
    TooLong(String),
    /// An address within a network, which may be meant either way.
    #[error("`{given}` has bits beyond its length; the network is `{network}`")]
    WithinNetwork {
        /// What is written.
        given: String,
        /// The network that it is in.
        network: Network,
    },
    /// Whoever connects.
    #[error("`{0}` is everybody; name the front's own address")]
    Everybody(String),
}

impl Network {
    /// Whether `peer` is one of these.
    pub fn has(self, peer: Peer) -> bool {
        match (self, peer) {
            (Self::Ip { address, bits }, Peer::Ip(ip)) => {
                let ip = ip.to_canonical();
                ip.is_ipv4() == address.is_ipv4() && masked(ip, bits) == address
            }
            (Self::Unix { uid }, Peer::Local { uid: theirs }) => {
                uid.is_none_or(|uid| uid == theirs)
            }
            (Self::Ip { .. }, Peer::Local { .. }) | (Self::Unix { .. }, Peer::Ip(_)) => false,
        }
    }

    /// Whether these come by a Unix socket.
    pub fn is_unix(self) -> bool {
        matches!(self, Self::Unix { .. })
    }

    /// Whether every process of this machine is one of these, whoever runs it.
    pub fn has_loopback(self) -> bool {
        match self {
            Self::Ip { address, .. } => address.is_loopback(),
            Self::Unix { .. } => false,
        }
    }
}

/// The address with all bits but the first `bits` cleared.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(bits))
                .unwrap_or_default();
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(bits))
                .unwrap_or_default();
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let malformed = || NotANetwork::Malformed(text.to_owned());
        if let Some(rest) = text.strip_prefix(UNIX) {
            let uid = match rest.strip_prefix(':') {
                None if rest.is_empty() => None,
                Some(uid) => Some(uid.parse().map_err(|_| malformed())?),
                None => return Err(malformed()),
            };
            return Ok(Self::Unix { uid });
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| malformed())?
            }
            Some(_) => return Err(malformed()),
        };
        if bits > most {
            return Err(NotANetwork::TooLong(text.to_owned()));
        }
        if bits == 0 {
            return Err(NotANetwork::Everybody(text.to_owned()));
        }
        let network = Self::Ip {
            address: masked(address, bits),
            bits,
        };
        if masked(address, bits) != address {
            return Err(NotANetwork::WithinNetwork {
                given: text.to_owned(),
                network,
            });
        }
        // Peers are told by their plain address.
        Ok(match address.to_canonical() {
            plain @ IpAddr::V4(_) if address.is_ipv6() && bits >= 96 => Self::Ip {
                address: plain,
                bits: bits - 96,
            },
            _ => network,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip { address, bits } => {
                let whole = if address.is_ipv4() { 32 } else { 128 };
                address.fmt(f)?;
                if *bits < whole {
                    write!(f, "/{bits}")?;
                }
                Ok(())
            }
            Self::Unix { uid: None } => f.write_str(UNIX),
            Self::Unix { uid: Some(uid) } => write!(f, "{UNIX}:{uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> Peer {
        Peer::Ip(text.parse().unwrap())
    }

    #[test]
    fn a_network_has_its_own_addresses_and_no_others() {
        for (text, has, has_not) in [
            ("10.0.0.5", "10.0.0.5", "10.0.0.4"),
            ("10.1.0.0/24", "10.1.0.255", "10.1.1.0"),
            ("128.0.0.0/1", "255.0.0.1", "127.0.0.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::ffff:10.0.0.5", "10.0.0.5", "10.0.0.6"),
        ] {
            assert!(network(text).has(ip(has)), "{text}");
            assert!(!network(text).has(ip(has_not)), "{text}");
            assert!(!network(text).has(Peer::Local { uid: 0 }), "{text}");
        }
        assert!(network("10.0.0.5").has(ip("::ffff:10.0.0.5")));
        assert!(!network("::a00:5").has(ip("10.0.0.5")));
    }

    #[test]
    fn processes_of_this_machine_come_by_a_unix_socket() {
        assert!(network("unix").has(Peer::Local { uid: 7 }));
        assert!(network("unix:7").has(Peer::Local { uid: 7 }));
        assert!(!network("unix:7").has(Peer::Local { uid: 8 }));
        assert!(!network("unix").has(ip("127.0.0.1")));
        assert!(network("127.0.0.1").has_loopback() && !network("unix").has_loopback());
    }

    #[test]
    fn what_may_mean_more_than_it_should_is_refused() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.5/",
            "10.0.0.5/x",
            "10.0.0.0/+8",
            "unix:",
            "unix:x",
            "unixx",
            "localhost",
            "10.0.0.5 ",
            "*",
        ] {
            let refused = text.parse::<Network>();
            assert!(matches!(refused, Err(NotANetwork::Malformed(_))), "{text}");
        }
        let says = |text: &str| text.parse::<Network>().unwrap_err().to_string();
        assert!(says("10.1.0.5/24").ends_with("the network is `10.1.0.0/24`"));
        assert!(says("10.0.0.0/33").contains("more bits"));
        assert!(says("0.0.0.0/0").contains("everybody") && says("::/0").contains("everybody"));
    }

    proptest! {
        #[test]
        fn a_network_is_read_as_it_is_shown(address: u32, bits in 1..=32u8) {
            let network = Network::Ip { address: masked(IpAddr::V4(address.into()), bits), bits };
            prop_assert_eq!(network.to_string().parse(), Ok(network));
            prop_assert!(network.has(Peer::Ip(IpAddr::V4(address.into()))));
            // The last bit that counts.
            let other = address ^ (1 << (32 - bits));
            prop_assert!(!network.has(Peer::Ip(IpAddr::V4(other.into()))));
        }
    }
}
