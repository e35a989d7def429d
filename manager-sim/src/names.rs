//! Names of people and machines, checked once at the edge.
//!
//! One narrow grammar for all of them: such a name can be neither an option nor shell syntax, and
//! is safe as a file name. (A host named `-oProxyCommand=..` runs a command in the ssh client.)

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name: that of a host label (RFC 1035) with room for a domain, and short enough for the
/// path of a Unix socket that carries it.
const LONGEST_BYTES: usize = 64;

/// Text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not a name: letters, digits, `.`, `_` and `-`, the first a letter or a digit", .0.escape_debug())]
pub struct NotAName(String);

/// Whether `text` is a name: `[A-Za-z0-9][A-Za-z0-9._-]*`.
fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAName;

            fn from_str(text: &str) -> Result<Self, NotAName> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(NotAName(text.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAName;

            fn try_from(text: String) -> Result<Self, NotAName> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Who a session belongs to: the account on the cluster.
    UserName
}
name! {
    /// A machine that ssh can reach: the login node.
    HostName
}
name! {
    /// An access token, as its owner calls it.
    TokenName
}
name! {
    /// A cluster, as the configuration calls it.
    ClusterName
}
name! {
    /// An IDE, as the configuration calls it.
    IdeName
}
name! {
    /// A compute node, as Slurm names it.
    NodeName
}
name! {
    /// A partition of the cluster.
    PartitionName
}
name! {
    /// Whom the cluster charges for a job.
    AccountName
}

impl NodeName {
    /// The node as a machine that ssh can reach from the login node.
    pub fn as_host(&self) -> HostName {
        HostName(self.0.clone())
    }
}

/// An account on a login node, `alice@login`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Login {
    /// The account.
    pub user: UserName,
    /// The login node, or its name in the ssh configuration.
    pub host: HostName,
}

/// Text is not an account on a login node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotALogin {
    /// There is no `@`.
    #[error("`{}` is not of the form USER@HOST", .0.escape_debug())]
    NoAt(String),
    /// One of the two parts is no name.
    #[error(transparent)]
    Name(#[from] NotAName),
}

impl FromStr for Login {
    type Err = NotALogin;

    fn from_str(text: &str) -> Result<Self, NotALogin> {
        let (user, host) = text
            .split_once('@')
            .ok_or_else(|| NotALogin::NoAt(text.to_owned()))?;
        Ok(Self {
            user: user.parse()?,
            host: host.parse()?,
        })
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_login_has_a_user_and_a_host() {
        let login: Login = "alice@login.example.org".parse().unwrap();
        assert_eq!(login.user.as_str(), "alice");
        assert_eq!(login.host.as_str(), "login.example.org");
        assert!("login".parse::<Login>().is_err());
        assert!("alice@".parse::<Login>().is_err());
        assert!("alice@-oProxyCommand=id".parse::<Login>().is_err());
        assert!("a@b@c".parse::<Login>().is_err());
    }

    // S18.
    #[test]
    fn hostile_names_are_no_names() {
        for text in [
            "",
            "-l",
            "-oProxyCommand=id",
            ".",
            "..",
            "../x",
            "a b",
            "a\nb",
            "a;b",
            "$(id)",
            "`id`",
            "a\0b",
            "é",
            "a/b",
            "a%h",
            "a:1",
            "~a",
            "node[01-02]",
            &"x".repeat(65),
        ] {
            assert!(text.parse::<NodeName>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_needs_no_quotes_in_any_shell(text: String) {
            if let Ok(name) = text.parse::<NodeName>() {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert!(!text.starts_with('-'));
                let syntax = |c: char| " \t\n'\"\\$`;&|<>(){}[]*?!#~%/:".contains(c);
                prop_assert!(!text.contains(syntax));
            }
        }
    }
}
