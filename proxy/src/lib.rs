//! hpc-proxy: a per-user reverse proxy for dev servers on shared HPC nodes.
//!
//! The library holds what the proxy and a manager in front of it share: the grammar of
//! `/port/N/*`, header surgery, forwarding, joined upgrades, proofs of identity and leases.

#![warn(clippy::unwrap_used)]

#[cfg(not(target_os = "linux"))]
compile_error!("hpc-proxy asks the Linux kernel who owns a socket; it builds for Linux only");

pub mod accept;
pub mod answer;
pub mod ask;
pub mod auth;
pub mod decode;
pub mod handover;
pub mod headers;
pub mod hostname;
pub mod http1;
pub mod lease;
pub mod link;
pub mod markup;
pub mod metrics;
pub mod own;
pub mod pipe;
pub mod ports;
pub mod prefix;
pub mod private;
pub mod process;
pub mod rewrite;
pub mod route;
pub mod server;
pub mod service;
pub mod socket;
pub mod streams;
pub mod text;
pub mod upstream;

mod body;
mod clock;
mod connection;
mod csp;
mod exchange;
mod frames;
mod hex;
mod hop;
mod pool;
mod spare;
mod splice;
mod transform;
