//! The original proxy: the same flags for port and port file, no token.

use std::{fs, path::Path};

use anyhow::Result;

use super::{Kind, Running, await_start, command, home, loopback, process};
use crate::peer::Conn;

pub(super) fn start(program: &Path) -> Result<Running> {
    let home = home()?;
    let file = home.path().join("port");
    let mut command = command(program, home.path())?;
    let mut child = command
        .args(["--port", "0", "--port-file"])
        .arg(&file)
        .spawn()?;
    let port = await_start(&mut child, home.path(), || {
        let port = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        Conn::to(&loopback(port)).ok().map(|_| port)
    })?;
    Ok(process(Kind::Original, port, None, home, child))
}
