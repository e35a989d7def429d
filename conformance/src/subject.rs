//! The program under test: how it is started, where it is reached, and what is known of its ways.

pub(crate) mod hpc_proxy;
mod nginx;
mod original;
mod pass_through;

use std::{
    ffi::OsString,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{peer::Address, row::Need};

/// How long a program may take to start or to end.
const START: Duration = Duration::from_secs(15);

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// This workspace's proxy, or another of the same command line and files.
    HpcProxy,
    /// The Go proxy that hpc-proxy takes the place of.
    Original,
    /// nginx in prefix-strip form.
    Nginx,
    /// Not a program: a thread that forwards bytes and strips nothing, to see rows fail.
    PassThrough,
}

impl Kind {
    /// As a program's name tells.
    pub fn of(program: &Path) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        match () {
            () if name.contains("nginx") => Self::Nginx,
            () if name.contains("original") || name.ends_with("-go") => Self::Original,
            () => Self::HpcProxy,
        }
    }

    /// Why rows with this need are not played.
    pub(crate) fn lacks(self, need: Need) -> Option<&'static str> {
        match (self, need) {
            (Self::HpcProxy, _) | (_, Need::Ipv6 | Need::Root) => None,
            (_, Need::Token) => Some("it has no token"),
            (_, Need::OwnPages) => Some("it has no pages of its own"),
            (_, Need::OtherRoutes) => Some("it has only /port/N/"),
            (_, Need::Flags) => Some("it has no such flags"),
            (_, Need::Rewriting) => Some("it rewrites no pages"),
            (_, Need::Lease) => Some("it publishes no record"),
            (_, Need::Ownership) => Some("it knows nothing of owners"),
        }
    }

    /// Whether a dev server is known to get `Host: localhost:N`.
    pub(crate) fn sends_local_host(self) -> bool {
        matches!(self, Self::HpcProxy | Self::Nginx)
    }

    /// Fields that it always adds. Behaviours 38 and 39 judge them, once.
    pub(crate) fn adds_to_requests(self) -> &'static [&'static str] {
        match self {
            Self::Original => &["accept-encoding", "user-agent"],
            Self::HpcProxy | Self::Nginx | Self::PassThrough => &[],
        }
    }

    pub(crate) fn adds_to_answers(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["server"],
            Self::HpcProxy | Self::Original | Self::PassThrough => &[],
        }
    }
}

/// A program that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
}

impl Subject {
    pub(crate) fn start(&self, flags: &[&str]) -> Result<Running> {
        let started = match self.kind {
            Kind::HpcProxy => hpc_proxy::Launch::new(&self.program).flags(flags).start(),
            Kind::Original => original::start(&self.program),
            Kind::Nginx => nginx::start(&self.program),
            Kind::PassThrough => pass_through::start(),
        };
        started.with_context(|| format!("start `{}`", self.program.display()))
    }

    /// Another way to start hpc-proxy than with flags alone.
    pub(crate) fn launch(&self) -> hpc_proxy::Launch {
        hpc_proxy::Launch::new(&self.program)
    }

    /// The same program, elsewhere.
    pub(crate) fn copied_to(&self, program: PathBuf) -> Self {
        Self {
            program,
            ..self.clone()
        }
    }
}

/// A proxy that listens; killed when dropped.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) address: Address,
    pub(crate) port: u16,
    pub(crate) token: Option<String>,
    pub(crate) home: Option<TempDir>,
    child: Option<Mutex<Child>>,
}

impl Running {
    /// The process, for those that have one.
    pub(crate) fn pid(&self) -> Option<u32> {
        let child = self.child.as_ref()?;
        Some(child.lock().unwrap_or_else(PoisonError::into_inner).id())
    }

    pub(crate) fn home(&self) -> &Path {
        self.home
            .as_ref()
            .map_or(Path::new("/nonexistent"), TempDir::path)
    }

    /// Everything that it wrote to stderr so far.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(log_file(self.home())).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Resident memory in bytes (proc_pid_status(5)).
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let pid = self.pid().context("it is no process")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = status.lines().find_map(|line| {
            let value = line.strip_prefix("VmRSS:")?.trim();
            value.strip_suffix(" kB")?.parse::<u64>().ok()
        });
        Ok(kilobytes.context("no VmRSS in its status")? * 1024)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Ok(kill_process(pid.context("it is no process")?, signal)?)
    }

    /// Its exit, if it ends within `time`.
    pub(crate) fn exit_within(&self, time: Duration) -> Result<Option<ExitStatus>> {
        let child = self.child.as_ref().context("it is no process")?;
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        exit_within(&mut child, time)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let child = child.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn exit_within(child: &mut Child, time: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program with nothing of ours in its environment, that writes its log into `home`.
fn command(program: &Path, home: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(home))?;
    command
        .env_clear()
        .env("HOME", home)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    Ok(command)
}

fn log_file(home: &Path) -> PathBuf {
    home.join("log")
}

/// Waits until `found` gives something; fails when the program ends first.
pub(crate) fn await_start<T>(
    child: &mut Child,
    home: &Path,
    mut found: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + START;
    let why = loop {
        if let Some(found) = found() {
            return Ok(found);
        }
        if let Some(status) = child.try_wait()? {
            break format!("it ended with {status}");
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            break "it was not ready in time".into();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let log = fs::read_to_string(log_file(home)).unwrap_or_default();
    bail!("{why}; it said `{}`", log.trim())
}

/// A port that nothing listens on, outside those that outgoing connections and port 0 are given
/// (ip_local_port_range(7)), so that nobody else gets it meanwhile.
pub(crate) fn unused_port() -> Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() * 7 % u32::from(COUNT))?;
    for _ in 0..1000 {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(start) % COUNT;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, FIRST + offset)).is_ok() {
            return Ok(FIRST + offset);
        }
    }
    bail!("no port from {FIRST} on is free")
}

fn loopback(port: u16) -> Address {
    Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn home() -> Result<TempDir> {
    let home = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    ensure!(home.path().is_dir());
    Ok(home)
}

fn process(kind: Kind, port: u16, token: Option<String>, home: TempDir, child: Child) -> Running {
    let child = Some(Mutex::new(child));
    Running {
        kind,
        address: loopback(port),
        port,
        token,
        home: Some(home),
        child,
    }
}

/// Arguments as programs take them.
fn os(flags: &[&str]) -> Vec<OsString> {
    flags.iter().map(Into::into).collect()
}
