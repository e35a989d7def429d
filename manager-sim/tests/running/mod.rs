//! A manager as a process, for those who ask it from outside.

use std::{
    io::{BufRead, BufReader},
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

#[allow(dead_code, reason = "of use to some of those who start a manager")]
pub(crate) mod document;
#[allow(dead_code, reason = "the same")]
pub(crate) mod site;

/// How long anything may take here: a busy machine's worst.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// What browsers say of a person who opens a page.
pub(crate) const WINDOW: [(&str, &str); 3] = [
    ("sec-fetch-site", "none"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
];
/// In which the manager's own page shows its key.
pub(crate) const PAGE: &str = "x-hpc-manager-page";

/// The key of a page of the manager's, if it has one.
pub(crate) fn key_of(html: &str) -> Option<String> {
    let (_, rest) = html.split_once("name=\"hpc-manager-page\" content=\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// `hpc-manager` with nothing of ours in its environment but its directory.
pub(crate) fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpc-manager"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HPC_MANAGER_STATE_DIR", state_dir(directory));
    command
}

pub(crate) fn state_dir(directory: &Path) -> PathBuf {
    directory.join("state")
}

/// Ends when dropped.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it; its address, and the lines that it says behind that.
    pub(crate) fn start(command: &mut Command) -> (Self, String, impl Iterator<Item = String>) {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = process.stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
        let first = lines.next().expect("the manager starts");
        let url = first.strip_prefix("listening ").expect(&first).to_owned();
        (Self(process), url, lines)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}
