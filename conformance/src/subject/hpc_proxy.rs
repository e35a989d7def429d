//! hpc-proxy: any free port, published with the token in a home of its own.

use std::{
    ffi::OsString,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Kind, Running, await_start, command, home, loopback, os, process};
use crate::peer::{Address, Conn};

/// How to start it.
pub(crate) struct Launch {
    program: PathBuf,
    flags: Vec<OsString>,
    environment: Vec<(&'static str, String)>,
    user: Option<u32>,
    /// A hard limit of open files.
    open_files: Option<u32>,
}

impl Launch {
    pub(super) fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            flags: Vec::new(),
            environment: Vec::new(),
            user: None,
            open_files: None,
        }
    }

    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(os(flags));
        self
    }

    pub(crate) fn environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// As this user, who must be able to run the program.
    pub(crate) fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    pub(crate) fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Starts it in a home of its own and waits until it serves.
    pub(crate) fn start(self) -> Result<Running> {
        let home = home()?;
        let mut child = self.spawn(home.path())?;
        let listens_on_path = self
            .flags
            .iter()
            .find_map(|flag| Some(PathBuf::from(flag.to_str()?.strip_prefix("unix:")?)));
        if let Some(path) = listens_on_path {
            return on_socket(path, home, child);
        }
        let (port, token) = await_start(&mut child, home.path(), || published(home.path()))?;
        Ok(process(Kind::HpcProxy, port, Some(token), home, child))
    }

    /// Starts it in this home and does not wait.
    pub(crate) fn spawn(&self, home: &Path) -> Result<Child> {
        let runtime = home.join("run");
        fs::create_dir_all(&runtime)?;
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700))?;
        for dir in [home, &runtime] {
            std::os::unix::fs::chown(dir, self.user, self.user)?;
        }
        let program = &self.program;
        let mut command = match self.open_files {
            None => command(program, home)?,
            Some(limit) => {
                let mut shell = command(Path::new("/bin/sh"), home)?;
                let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
                shell.arg("-c").arg(script).arg(program);
                shell
            }
        };
        command
            .env("HPC_PROXY_ALLOW_ROOT", "1")
            // Other rows' dev servers are this user's as well; each expects its own requests alone.
            .env("HPC_PROXY_TITLES", "false")
            .env("XDG_RUNTIME_DIR", &runtime);
        if !self.flags.iter().any(|flag| flag == "--port") {
            command.args(["--port", "0"]);
        }
        // Traffic of tests stays on this machine.
        if !self
            .flags
            .iter()
            .any(|flag| flag == "--listen" || flag == "--bind")
        {
            command.args(["--bind", "127.0.0.1"]);
        }
        command
            .args(&self.flags)
            .envs(self.environment.iter().map(|(k, v)| (k, v)));
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        spawn(&mut command)
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command
        .spawn()
        .with_context(|| format!("run `{}`", command.get_program().display()))
}

fn on_socket(path: PathBuf, home: TempDir, mut child: Child) -> Result<Running> {
    let address = Address::Unix(path);
    await_start(&mut child, home.path(), || Conn::to(&address).ok())?;
    let token = published_token(home.path());
    let mut running = process(Kind::HpcProxy, 0, token, home, child);
    running.address = address;
    Ok(running)
}

/// The port and token, once both are there and somebody listens.
pub(crate) fn published(home: &Path) -> Option<(u16, String)> {
    let port = fs::read_to_string(home.join(".hpc-proxy/port")).ok()?;
    let port = port.strip_suffix('\n')?.parse().ok()?;
    let token = published_token(home)?;
    Conn::to(&loopback(port)).ok()?;
    Some((port, token))
}

fn published_token(home: &Path) -> Option<String> {
    let token = fs::read_to_string(home.join(".hpc-proxy/token")).ok()?;
    Some(token.trim_end().to_owned()).filter(|token| !token.is_empty())
}
