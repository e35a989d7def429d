//! The `hpc-proxy` program as its neighbours see it: real processes, real sockets, raw peers.

mod access;
mod bridge;
mod bulk;
mod command_line;
mod doctor;
mod exec;
mod forwarding;
mod harness;
mod hosts;
mod lease_files;
mod life;
mod own_pages;
mod ports;
mod privilege;
mod rewriting;
mod streaming;
mod unix_socket;
mod websocket;
