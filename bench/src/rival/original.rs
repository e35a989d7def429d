//! The proxy that hpc-proxy took the place of, by the options that both have.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub(super) fn command(path: &Path, dir: &Path, rewrites: bool) -> Command {
    let mut command = Command::new(path);
    command.args(["--port", "0", "--port-file"]).arg(file(dir));
    command.env("HOME", dir);
    if rewrites {
        command.arg("--base-rewrite");
    }
    command
}

/// The port that it has published; nothing before.
pub(super) fn port(dir: &Path) -> Option<u16> {
    fs::read_to_string(file(dir)).ok()?.trim().parse().ok()
}

fn file(dir: &Path) -> PathBuf {
    dir.join("port")
}
