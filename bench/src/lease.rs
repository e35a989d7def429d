//! The files in which a proxy says where it listens, read as a manager reads them: each is there
//! whole, or it is not there.
//!
//! Written from the description of the lease, not with the proxy's own code.

use std::{
    fs, io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
    io::Errno,
};
use serde_json::Value;

/// What every record says.
const FIELDS: [&str; 12] = [
    "version",
    "instance",
    "host",
    "addresses",
    "port",
    "pid",
    "start_ticks",
    "boot_id",
    "job_id",
    "node",
    "token_file",
    "started",
];

/// What a reader found at a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// No file.
    Nothing,
    /// All of it.
    Whole(T),
    /// Something else, told in words.
    Broken(String),
}

impl<T> Found<T> {
    /// All of it, or nothing.
    pub fn whole(self) -> Option<T> {
        match self {
            Self::Whole(whole) => Some(whole),
            Self::Nothing | Self::Broken(_) => None,
        }
    }
}

/// What a record says that we ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which start of a proxy.
    pub instance: String,
    /// Its proxy port.
    pub port: u16,
    /// Its process.
    pub pid: u32,
}

/// A home with a proxy in it, or several.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// The directory of the lease below `home`, which need not be there yet.
    pub fn at(home: &Path) -> Self {
        Self(home.join(".hpc-proxy"))
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Makes the directory, so that it can be watched before there is a proxy.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let made = fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&self.0);
        made.with_context(|| format!("make `{}`", self.0.display()))
    }

    /// The port file.
    pub fn port(&self) -> Found<u16> {
        read(&self.0.join("port"), port)
    }

    /// The token of the last proxy to start.
    pub fn token(&self) -> Found<String> {
        read(&self.0.join("token"), token)
    }

    /// The token of one proxy; `name` is `job-ID` or `host-NAME`.
    pub fn token_of(&self, name: &str) -> Found<String> {
        read(&self.0.join(format!("{name}.token")), token)
    }

    /// The record of one proxy.
    pub fn record_of(&self, name: &str) -> Found<Record> {
        read(&self.0.join(format!("{name}.json")), record)
    }

    /// The token and the record of the proxy that runs as `pid`, once all four files are there.
    pub fn complete(&self, name: &str, pid: u32) -> Option<(Record, String)> {
        let record = self
            .record_of(name)
            .whole()
            .filter(|record| record.pid == pid)?;
        let secret = self.token_of(name).whole()?;
        let last = self.port().whole()? == record.port && self.token().whole()? == secret;
        last.then_some((record, secret))
    }

    /// The files that are there now, by name.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }
}

fn read<T>(path: &Path, parse: fn(&[u8]) -> Option<T>) -> Found<T> {
    match fs::read(path) {
        Ok(bytes) => parse(&bytes).map_or_else(
            || Found::Broken(format!("`{}`: `{}`", path.display(), bytes.escape_ascii())),
            Found::Whole,
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(error) => Found::Broken(format!("`{}`: {error}", path.display())),
    }
}

/// A number and a newline: without the newline, `543` could be the beginning of `54321`.
fn port(bytes: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn token(bytes: &[u8]) -> Option<String> {
    let digits = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let whole = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then(|| digits.to_owned())
}

fn record(bytes: &[u8]) -> Option<Record> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let object = value.as_object()?;
    if !FIELDS.iter().all(|name| object.contains_key(*name)) {
        return None;
    }
    Some(Record {
        instance: object["instance"]
            .as_str()
            .filter(|it| !it.is_empty())?
            .to_owned(),
        port: object["port"]
            .as_u64()?
            .try_into()
            .ok()
            .filter(|port| *port != 0)?,
        pid: object["pid"].as_u64()?.try_into().ok()?,
    })
}

/// Tells when something in a home has changed: inotify(7).
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// The directory is not there.
    pub fn begin(home: &Home) -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).context("make an inotify instance")?;
        let events = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&watch, home.directory(), events)
            .with_context(|| format!("watch `{}`", home.directory().display()))?;
        Ok(Self(watch))
    }

    /// Waits for the next change, at most `most`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn wait(&self, most: Duration) -> Result<()> {
        let timeout = Timespec::try_from(most).context("a short time")?;
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
            // The end of some other process is told by a signal.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("wait"),
        }
        let mut events = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.0, &mut events);
        // Which file it was is asked of the files themselves.
        while events.next().is_ok() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_port_is_none() {
        assert_eq!(port(b"54321\n"), Some(54321));
        for broken in [
            "", "\n", "543", "54321", "0\n", "65536\n", "+5\n", "05\n", "5\n\n",
        ] {
            assert_eq!(port(broken.as_bytes()), None, "{broken:?}");
        }
    }

    #[test]
    fn half_a_token_is_none() {
        let whole = format!("{}\n", "0a".repeat(32));
        assert!(token(whole.as_bytes()).is_some());
        for end in 0..whole.len() {
            assert_eq!(token(&whole.as_bytes()[..end]), None);
        }
    }

    #[test]
    fn half_a_record_is_none() {
        let fields = FIELDS.map(|name| match name {
            "port" | "pid" => format!("\"{name}\":7"),
            _ => format!("\"{name}\":\"x\""),
        });
        let whole = format!("{{{}}}", fields.join(","));
        assert!(record(whole.as_bytes()).is_some());
        for end in 0..whole.len() {
            assert_eq!(record(&whole.as_bytes()[..end]), None);
        }
        let missing = whole.replace("\"node\"", "\"nodes\"");
        assert_eq!(record(missing.as_bytes()), None);
    }
}
