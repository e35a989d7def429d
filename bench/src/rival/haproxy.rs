//! HAProxy, in one process with one thread.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::Result;

use super::{configure, installed};

pub(super) fn command(dir: &Path, address: SocketAddr, target_port: u16) -> Result<Command> {
    let text = format!(
        "global\n  nbthread 1\n  maxconn 6000\n  maxpipes 64\n\
         defaults\n  mode http\n  maxconn 6000\n  option splice-request\n  option splice-response\n  http-reuse always\n  \
         timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n\
         frontend all\n  bind {address} backlog 4096\n  default_backend dev\n\
         backend dev\n  server dev 127.0.0.1:{target_port}\n"
    );
    let mut command = Command::new(installed("haproxy")?);
    command.args(["-db", "-f"]).arg(configure(dir, &text)?);
    Ok(command)
}
