//! Where the manager listens, as it is written in the configuration.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

/// The longest path of a Unix socket (unix(7)), with its NUL byte.
const LONGEST_PATH_BYTES: usize = 108;

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Text is no place to listen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotAPlace {
    /// Neither form.
    #[error("`{}` is neither IP:PORT nor unix:PATH", .0.escape_debug())]
    Malformed(String),
    /// A path that may mean another file tomorrow, or is no socket's.
    #[error("`{}` is not absolute, or too long for a socket", .0.escape_debug())]
    Path(String),
}

impl Listen {
    /// The address, if there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine reaches it.
    pub fn is_here(&self) -> bool {
        self.ip().is_none_or(|ip| ip.is_loopback())
    }
}

impl FromStr for Listen {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        if let Some(path) = text.strip_prefix("unix:") {
            let sound = path.starts_with('/')
                && !path.ends_with('/')
                && path.len() < LONGEST_PATH_BYTES
                && !path.contains('\0');
            return sound
                .then(|| Self::Unix(path.into()))
                .ok_or_else(|| NotAPlace::Path(path.to_owned()));
        }
        let address = text.parse().map(Self::Tcp);
        address.map_err(|_| NotAPlace::Malformed(text.to_owned()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_path() {
        for text in ["127.0.0.1:8080", "[::1]:0", "unix:/run/hpc-manager/http"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "x".repeat(108));
        for text in [
            "",
            "8080",
            "localhost:8080",
            "unix:",
            "unix:a",
            "unix:/",
            "unix:/a\0",
            &long,
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
