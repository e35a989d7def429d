//! The reference manager of hpc-proxy: launches a job per user over ssh, keeps one tunnel to the
//! proxy on its node, and routes `/port/N/*` and `/code/*` to the user they belong to.

#![warn(clippy::unwrap_used)]

pub mod auth;
pub mod check;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod front;
pub mod holder;
pub mod hop;
pub mod ide;
pub mod job;
pub mod lease;
pub mod local_end;
pub mod names;
pub mod origin;
pub mod port_hosts;
pub mod problem;
pub mod router;
pub mod session;
pub mod sessions;
pub mod shell;
pub mod sign_in;
pub mod socket_file;
pub mod state;
pub mod state_dir;
pub mod store;
pub mod token_command;
pub mod transport;
pub mod tunnel;
pub mod upstream;
pub mod watch;
pub mod web;
pub mod wish;
