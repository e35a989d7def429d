//! Other proxies before the same dev server, each tuned for it: what hpc-proxy is compared with.
//!
//! None of them asks for a token or for the owner of a server, which hpc-proxy does as ever.

use std::{
    env,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{process::Process, route::Route};

mod haproxy;
mod nginx;
mod original;

/// They start within a second.
const DEADLINE: Duration = Duration::from_secs(20);

/// A proxy to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rival {
    /// nginx with one backend, and idle connections to it.
    Nginx,
    /// The same with buffers of 64 kB.
    NginxLarge,
    /// nginx that moves URLs below a prefix (`sub_filter`).
    NginxRewriting,
    /// nginx that does the same job: the target port comes from the path. It keeps no idle connections then.
    NginxVar,
    /// HAProxy with one backend, idle connections to it, and splice(2).
    HaProxy,
    /// The proxy that hpc-proxy took the place of.
    Original(PathBuf),
    /// The same with its way to rewrite pages.
    OriginalRewriting(PathBuf),
}

impl Rival {
    /// What it is called in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::NginxLarge => "nginx, 64 kB buffers",
            Self::NginxRewriting => "nginx, sub_filter",
            Self::NginxVar => "nginx, port from path",
            Self::HaProxy => "HAProxy",
            Self::Original(_) => "the original",
            Self::OriginalRewriting(_) => "the original, --base-rewrite",
        }
    }

    /// Starts it before the dev server on `target_port`.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(&self, target_port: u16) -> Result<Running> {
        let dir = TempDir::with_prefix("hpc-bench-").context("make a directory")?;
        let log = File::create(dir.path().join("log")).context("make a log")?;
        let (mut command, address, prefix) = match self {
            Self::Nginx | Self::NginxLarge | Self::NginxRewriting | Self::NginxVar => {
                let address = free_address()?;
                let prefix = match self {
                    Self::NginxVar | Self::NginxRewriting => format!("/port/{target_port}"),
                    _ => String::new(),
                };
                let command = nginx::command(self, dir.path(), address, target_port)?;
                (command, Some(address), prefix)
            }
            Self::HaProxy => {
                let address = free_address()?;
                let command = haproxy::command(dir.path(), address, target_port)?;
                (command, Some(address), String::new())
            }
            Self::Original(path) | Self::OriginalRewriting(path) => {
                let rewrites = matches!(self, Self::OriginalRewriting(_));
                let command = original::command(path, dir.path(), rewrites);
                (command, None, format!("/port/{target_port}"))
            }
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.name()))?;
        let mut running = Running {
            child,
            route: Route {
                address: address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
                prefix,
                fields: String::new(),
            },
            dir,
        };
        running.awaits_service(self)?;
        Ok(running)
    }
}

/// A running rival; ends when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// How it is asked.
    pub route: Route,
    dir: TempDir,
}

impl Running {
    /// Its one process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    fn awaits_service(&mut self, rival: &Rival) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE && self.child.try_wait()?.is_none() {
            if self.route.address.port() == 0
                && let Some(port) = original::port(self.dir.path())
            {
                self.route.address.set_port(port);
            }
            if self.route.address.port() != 0 && TcpStream::connect(self.route.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        bail!("{} does not serve: {}", rival.name(), log.trim())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    Ok(listener.local_addr()?)
}

/// A program of a Debian package, which may be where only administrators look.
fn installed(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut found = places.map(|place| place.join(name));
    found
        .find(|program| program.is_file())
        .with_context(|| format!("`{name}` is not installed\nhint: ./dev bench"))
}

/// Writes a configuration, and tells where it is.
fn configure(dir: &Path, text: &str) -> Result<PathBuf> {
    let path = dir.join("conf");
    fs::write(&path, text).context("write a configuration")?;
    Ok(path)
}
