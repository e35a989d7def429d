//! `hpc-proxy socket-path NAME`: where a server listens that `/sock/NAME/` leads to.

use std::io::{self, Write};

use crate::{
    cli::{Config, SocketPath},
    failure::Failure,
};

/// Prints it, once the directory is there and this user's alone.
pub(crate) fn print(config: &Config, wanted: &SocketPath) -> Result<(), Failure> {
    let directory = config
        .state_dir
        .sockets(wanted.directory.as_deref())
        .map_err(Failure::Sockets)?;
    let path = directory.join(&wanted.name);
    Ok(writeln!(io::stdout(), "{}", path.display())?)
}
