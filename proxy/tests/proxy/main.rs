//! The `hpc-proxy` program as its neighbours see it: real processes, real sockets, raw peers.

mod access;
mod command_line;
mod forwarding;
mod harness;
mod life;
mod streaming;
mod websocket;
