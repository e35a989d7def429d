//! Ports on this machine for programs that must be told theirs.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// Below the range from which the kernel serves outgoing connections and port 0 (32768 and up by
/// default), so that nobody is handed the port between our look and the program's own bind.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port that nobody listens on.
pub fn free() -> Result<u16> {
    let start = RandomState::new().hash_one(std::process::id());
    (0..u64::from(COUNT))
        .map(|step| FIRST + (start.wrapping_add(step) % u64::from(COUNT)) as u16)
        .find(|&port| is_free(port))
        .context("no port is free")
}

/// The wanted port, or some free one.
pub fn wanted_or_free(wanted: u16) -> Result<u16> {
    if is_free(wanted) { Ok(wanted) } else { free() }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}
