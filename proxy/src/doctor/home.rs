//! Probes of files: the home directory, the lease's own, the node's state directory, and the clock
//! that they are dated by.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hpc_proxy::text::chain;

use super::{Finding, node::Mount};
use crate::{
    cli::{Config, LeasePath},
    state_dir::{NotPrivate, check_private},
};

/// When this was written, in seconds since 1970 (January 2025): no clock is right that is before.
const EARLIEST: u64 = 1_735_689_600;
/// One-time links are good for ten minutes; a clock that is off by this much costs a part of that.
const MOST_SKEW: Duration = Duration::from_secs(60);
/// File systems whose files other nodes see, each after a while of its own.
const SHARED: [&str; 12] = [
    "nfs",
    "nfs4",
    "lustre",
    "gpfs",
    "beegfs",
    "fhgfs",
    "ceph",
    "cifs",
    "smb3",
    "afs",
    "panfs",
    "fuse.sshfs",
];

/// The directory that the lease's own is, or would be made, in.
fn home_of(config: &Config) -> PathBuf {
    match &config.lease {
        LeasePath::Home(home) => home.clone(),
        LeasePath::PortFile(_) => directory_of(config),
    }
}

/// The directory of the lease.
fn directory_of(config: &Config) -> PathBuf {
    let place = config.place();
    place.directory().to_owned()
}

/// The nearest directory that is there: what a new file would be written to.
fn existing(config: &Config) -> PathBuf {
    let directory = directory_of(config);
    if directory.is_dir() {
        directory
    } else {
        home_of(config)
    }
}

pub(super) fn home(config: &Config) -> Finding {
    let directory = existing(config);
    let (path, kind) = (directory.display(), kind_of(&directory));
    match write_a_file(&directory) {
        Ok(_) if SHARED.contains(&kind.as_str()) => {
            Finding::ok(format!("`{path}` can be written, on {kind}"))
                .so("other nodes may see the port half a minute later")
        }
        Ok(_) => Finding::ok(format!("`{path}` can be written, on {kind}")),
        Err(error) => Finding::fail(
            format!("`{path}`, on {kind}, cannot be written: {error}"),
            "the port cannot be published; --port-file or HPC_PROXY_PORT_FILE moves it elsewhere",
        ),
    }
}

/// Writes a file as the lease is written, and removes it; only then quotas and squashed users show
/// themselves. When it was written, by the clock of whoever keeps the files.
fn write_a_file(directory: &Path) -> io::Result<SystemTime> {
    let path = directory.join(format!(".hpc-proxy-doctor.{}", std::process::id()));
    let written = (|| {
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(b"x")?;
        file.sync_all()?;
        file.metadata()?.modified()
    })();
    let removed = match &written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        _ => fs::remove_file(&path),
    };
    let written = written?;
    removed?;
    Ok(written)
}

/// The kind of file system that `path` is on.
fn kind_of(path: &Path) -> String {
    let unknown = || "an unknown file system".to_owned();
    let Ok(path) = path.canonicalize() else {
        return unknown();
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The last of several on one point is the one that is seen.
    let over = mounts
        .lines()
        .filter_map(Mount::parse)
        .filter(|mount| path.starts_with(mount.point.replace("\\040", " ")));
    over.max_by_key(|mount| mount.point.len())
        .map_or_else(unknown, |mount| mount.kind.to_owned())
}

pub(super) fn lease_files(config: &Config) -> Finding {
    let directory = directory_of(config);
    let path = directory.display();
    let is_own = matches!(config.lease, LeasePath::Home(_));
    let found = match fs::metadata(&directory) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_own => {
            return Finding::ok(format!("`{path}` is not there yet")).so("the proxy makes it");
        }
        Err(error) => {
            let elsewhere = "choose another directory with --port-file";
            return Finding::fail(format!("`{path}`: {error}"), elsewhere);
        }
    };
    let (uid, mode) = (found.uid(), found.mode() & 0o7777);
    let what = format!("`{path}` is user {uid}'s, with mode {mode:o}");
    if uid != rustix::process::geteuid().as_raw() {
        Finding::fail(
            what,
            "the proxy does not start; choose a directory of yours with --port-file",
        )
    } else if is_own && mode & 0o077 != 0 {
        Finding::warn(what, "the proxy makes it 700 when it starts")
    } else if mode & 0o022 != 0 {
        Finding::fail(
            what,
            "the proxy does not start, since others could replace its files; chmod go-w",
        )
    } else {
        Finding::ok(what)
    }
}

pub(super) fn clock(config: &Config) -> Finding {
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if seconds < EARLIEST {
        return Finding::fail(
            format!("it is {seconds} s after 1970 by the node's clock"),
            "one-time links do not work; the node's clock is to be set",
        );
    }
    // A home that cannot be written has its own line.
    let Ok(written) = write_a_file(&existing(config)) else {
        return Finding::ok("the node's clock is set");
    };
    let skew = now
        .duration_since(written)
        .unwrap_or_else(|ahead| ahead.duration());
    if skew > MOST_SKEW {
        Finding::warn(
            format!(
                "the node and the home's file server differ by {} s",
                skew.as_secs()
            ),
            "one-time links from another node may be refused as too old; one clock is wrong",
        )
    } else {
        Finding::ok("the node's clock is set, and the home's file server agrees")
    }
}

pub(super) fn state_dir(config: &Config) -> Finding {
    let directory = config.state_dir.path();
    let path = directory.display();
    match check_private(directory) {
        Ok(()) => Finding::ok(format!("`{path}` is yours alone")),
        Err(NotPrivate::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let parent = directory.parent().unwrap_or(Path::new("/"));
            match write_a_file(parent) {
                Ok(_) => Finding::ok(format!("`{path}` is not there yet")).so("the proxy makes it"),
                Err(error) => Finding::warn(
                    format!("`{path}` cannot be made: {error}"),
                    "no dev server is reached on a Unix socket; choose another with --state-dir",
                ),
            }
        }
        Err(error) => Finding::warn(
            chain(&error),
            "no dev server is reached on a Unix socket; choose another with --state-dir",
        ),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_file_is_written_dated_and_gone() {
        let directory = TempDir::new().unwrap();
        let written = write_a_file(directory.path()).unwrap();
        assert!(written.elapsed().unwrap_or_default() < Duration::from_secs(30));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(write_a_file(&directory.path().join("missing")).is_err());
    }

    #[test]
    fn every_directory_is_on_some_file_system() {
        assert_eq!(kind_of(Path::new("/proc/self")), "proc");
        assert_ne!(kind_of(Path::new("/")), "an unknown file system");
    }
}
