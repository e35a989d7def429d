//! Whoever a front has signed in, as it says in a field: believed from the front's own addresses,
//! refused from anybody else's, and in no case passed on (S16).

use hpc_proxy::{
    http1::fields::{Field, Fields, is_token},
    service::Peer,
};
use thiserror::Error;

use super::network::Network;
use crate::names::UserName;

/// A field that names the user, and who may send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedHeader {
    name: String,
    from: Vec<Network>,
}

/// A setting that would believe the wrong people, or nobody.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadHeader {
    /// Not a field name.
    #[error("`{}` is no name of a field", .0.escape_debug())]
    NotAName(String),
    /// A field that already means something else here.
    #[error("`{0}` means something else; take `X-Forwarded-User` or `Remote-User`")]
    Taken(String),
    /// Nobody may send it.
    #[error("no address may send it; name the front's own")]
    FromNobody,
}

impl BadHeader {
    /// Whether it is the field, and not its senders.
    pub fn is_of_name(&self) -> bool {
        match self {
            Self::NotAName(_) | Self::Taken(_) => true,
            Self::FromNobody => false,
        }
    }
}

/// Why a sign-in field signs nobody in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Sent by somebody who may not.
    #[error("`{name}` was sent by a peer that may not send it")]
    Foreign {
        /// The field.
        name: String,
    },
    /// Sent several times, or once in another spelling that some servers read alike.
    #[error("`{name}` was sent {count} times")]
    Several {
        /// The field.
        name: String,
        /// How often.
        count: usize,
    },
    /// Not the name of a user.
    #[error("`{name}` holds no user's name")]
    Malformed {
        /// The field.
        name: String,
    },
}

/// Fields by which a request is understood, whoever sends it.
const TAKEN: [&str; 9] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "origin",
    "referer",
    "transfer-encoding",
    "x-forwarded-host",
];

impl TrustedHeader {
    /// The field `name` from any of `from`.
    ///
    /// # Errors
    /// See [`BadHeader`].
    pub fn new(name: &str, from: Vec<Network>) -> Result<Self, BadHeader> {
        if !is_token(name.as_bytes()) {
            return Err(BadHeader::NotAName(name.to_owned()));
        }
        let taken = |field: &&str| is_twin(name.as_bytes(), field.as_bytes());
        if TAKEN.iter().any(taken) {
            return Err(BadHeader::Taken(name.to_owned()));
        }
        if from.is_empty() {
            return Err(BadHeader::FromNobody);
        }
        Ok(Self {
            name: name.to_owned(),
            from,
        })
    }

    /// The field.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who may send it.
    pub fn from(&self) -> &[Network] {
        &self.from
    }

    /// Takes the field off a request of `peer`'s; whom it names.
    ///
    /// # Errors
    /// When it is there and signs nobody in: see [`HeaderError`].
    pub fn take(&self, fields: &mut Fields, peer: Peer) -> Result<Option<UserName>, HeaderError> {
        let name = || self.name.clone();
        let is_ours = |field: Field<'_>| is_twin(field.spelling, self.name.as_bytes());
        let mut sent = fields.iter().filter(|field| is_ours(*field));
        let Some(first) = sent.next() else {
            return Ok(None);
        };
        let count = 1 + sent.count();
        let exact = first.spelling.eq_ignore_ascii_case(self.name.as_bytes());
        let user = std::str::from_utf8(first.value).ok();
        let user: Option<UserName> = user.and_then(|user| user.parse().ok());
        fields.retain(|field| !is_ours(field));
        if !self.from.iter().any(|network| network.has(peer)) {
            return Err(HeaderError::Foreign { name: name() });
        }
        if count > 1 {
            return Err(HeaderError::Several {
                name: name(),
                count,
            });
        }
        user.filter(|_| exact)
            .map(Some)
            .ok_or_else(|| HeaderError::Malformed { name: name() })
    }
}

/// Whether two names are one to some server: case does not count, nor `_` for `-`.
fn is_twin(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    one.len() == other.len() && one.iter().map(plain).eq(other.iter().map(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRONT: Peer = Peer::Ip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)));
    const STRANGER: Peer = Peer::Ip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 6)));

    fn header() -> TrustedHeader {
        TrustedHeader::new("X-Forwarded-User", vec!["10.0.0.5".parse().unwrap()]).unwrap()
    }

    fn taken(
        lines: &[(&str, &str)],
        peer: Peer,
    ) -> (Result<Option<UserName>, HeaderError>, Vec<String>) {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push_spelt(name.as_bytes(), value.as_bytes());
        }
        let user = header().take(&mut fields, peer);
        let left = fields.iter().map(|field| field.spelling.to_vec());
        let left = left.map(|name| String::from_utf8(name).unwrap()).collect();
        (user, left)
    }

    #[test]
    fn the_front_says_who_it_is() {
        let (user, left) = taken(&[("x-forwarded-user", "alice"), ("Accept", "*/*")], FRONT);
        assert_eq!(user, Ok(Some("alice".parse().unwrap())));
        assert_eq!(left, ["Accept"]);
        assert_eq!(taken(&[("Accept", "*/*")], STRANGER).0, Ok(None));
    }

    // S16.
    #[test]
    fn nobody_else_may_say_so_and_nothing_of_it_travels_on() {
        for name in ["X-Forwarded-User", "x_forwarded_user", "X-FORWARDED_USER"] {
            let (user, left) = taken(&[(name, "alice")], STRANGER);
            assert!(matches!(user, Err(HeaderError::Foreign { .. })), "{name}");
            assert!(left.is_empty(), "{name}");
        }
        let local = taken(&[("X-Forwarded-User", "alice")], Peer::Local { uid: 0 });
        assert!(matches!(local.0, Err(HeaderError::Foreign { .. })));
    }

    // S16.
    #[test]
    fn a_field_that_a_client_may_have_slipped_in_signs_nobody_in() {
        let several = [
            [("X-Forwarded-User", "alice"), ("X-Forwarded-User", "bob")],
            [("X-Forwarded-User", "alice"), ("x-forwarded-user", "alice")],
            [("X_Forwarded_User", "bob"), ("X-Forwarded-User", "alice")],
        ];
        for lines in several {
            let (user, left) = taken(&lines, FRONT);
            let several = matches!(user, Err(HeaderError::Several { count: 2, .. }));
            assert!(several && left.is_empty(), "{lines:?}");
        }
        let (twin, _) = taken(&[("X_Forwarded_User", "alice")], FRONT);
        assert!(matches!(twin, Err(HeaderError::Malformed { .. })));
    }

    #[test]
    fn what_is_no_users_name_signs_nobody_in() {
        for value in [
            "",
            "-l",
            "alice, bob",
            "alice bob",
            "a;b",
            "../x",
            "é",
            "alice@example.org",
            "\"alice\"",
            "(null)",
            &"x".repeat(65),
        ] {
            let (user, left) = taken(&[("X-Forwarded-User", value)], FRONT);
            let malformed = matches!(user, Err(HeaderError::Malformed { .. }));
            assert!(malformed && left.is_empty(), "{value:?}");
        }
    }

    #[test]
    fn a_setting_that_believes_the_wrong_people_is_refused() {
        let from = || vec!["10.0.0.5".parse().unwrap()];
        for name in ["", "X Forwarded", "X-Forwarded-User:", "é"] {
            let refused = TrustedHeader::new(name, from());
            assert!(matches!(refused, Err(BadHeader::NotAName(_))), "{name}");
        }
        for name in ["Host", "cookie", "Content_Length"] {
            let refused = TrustedHeader::new(name, from());
            assert!(matches!(refused, Err(BadHeader::Taken(_))), "{name}");
        }
        let nobody = TrustedHeader::new("Remote-User", Vec::new());
        assert_eq!(nobody, Err(BadHeader::FromNobody));
    }

    proptest! {
        // S16: whatever is sent, only the front's one well-formed field signs in.
        #[test]
        fn no_stranger_is_signed_in(name in "[xX][-_][fF]orwarded[-_][uU]ser", value in "[ -~]{0,20}") {
            let (user, left) = taken(&[(&name, &value)], STRANGER);
            prop_assert!(user.is_err());
            prop_assert!(left.is_empty());
        }
    }
}
