//! `hpc-proxy free-port`: a TCP port of this node that is free now.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
};

use hpc_proxy::auth;

use crate::failure::Failure;

/// Below the ports that outgoing connections are given (ip_local_port_range(7), 32768 by default):
/// one of those could be taken before whoever asked for it binds it.
const FREE_PORTS: Range<u16> = 20_000..32_000;

/// Prints it.
pub(crate) fn print() -> Result<(), Failure> {
    let seed = usize::from_str_radix(&auth::random_instance()?[..8], 16).unwrap_or_default();
    // Somewhere else each time, so that two jobs that start together do not meet.
    let free = FREE_PORTS
        .cycle()
        .skip(seed % FREE_PORTS.len())
        .take(FREE_PORTS.len())
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok());
    let port = free.ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
    Ok(writeln!(io::stdout(), "{port}")?)
}
