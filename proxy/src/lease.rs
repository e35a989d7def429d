//! The lease: a proxy's statement of where it listens, and its secret, in files of the user's.
//!
//! `port` is a decimal number and a newline, as every reader of the plan expects it; the last
//! proxy to start has it. Beside it each job has a record and a token of its own. Whoever reads a
//! record believes it only once its job and node are the scheduler's and the proxy has proved to
//! be its instance: on a cluster most jobs end by a signal that no proxy sees, so a stale record
//! is the normal case.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::auth::Token;

/// A record is some hundred bytes; whatever is longer is not one.
pub const MAX_RECORD_BYTES: usize = 16 * 1024;

/// A proxy as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this format: 1.
    pub version: u32,
    /// Which start of the proxy; it proves this name over the wire.
    pub instance: String,
    /// The node's own name for itself.
    pub host: String,
    /// Addresses of the node that the proxy can be reached at.
    pub addresses: Vec<IpAddr>,
    /// Where it listens.
    pub port: u16,
    /// Its process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot (proc_pid_stat(5) field 22): a reused
    /// pid has another.
    pub start_ticks: u64,
    /// The node's boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// The Slurm job that it runs in.
    pub job_id: Option<String>,
    /// Slurm's name for the node.
    pub node: Option<String>,
    /// Where its token is.
    pub token_file: PathBuf,
    /// When it started, in seconds since 1970.
    pub started: u64,
}

/// Why a lease is not believed.
#[derive(Debug, Error)]
pub enum BadLease {
    /// Longer than any record.
    #[error("the record is longer than {MAX_RECORD_BYTES} bytes")]
    TooLong,
    /// Not a record.
    #[error("the record cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// Written by another version of the proxy.
    #[error("the record has version `{0}`, not `{expected}`", expected = Record::VERSION)]
    Version(u32),
    /// Port 0 is nowhere.
    #[error("the record names port 0")]
    Port,
    /// Of another job.
    #[error("the record is of job `{found}`, not `{wanted}`")]
    Job {
        /// What the record says.
        found: String,
        /// What the scheduler says.
        wanted: String,
    },
    /// Of another node: the job was requeued, and this is from its earlier run.
    #[error("the record is of node `{found}`, not `{wanted}`")]
    Node {
        /// What the record says.
        found: String,
        /// What the scheduler says.
        wanted: String,
    },
}

impl Record {
    /// The version of the format.
    pub const VERSION: u32 = 1;

    /// Reads a record, any bytes.
    ///
    /// # Errors
    /// When it is not a record of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadLease> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(BadLease::TooLong);
        }
        let Versioned { version } = serde_json::from_slice(bytes).map_err(BadLease::Malformed)?;
        if version != Self::VERSION {
            return Err(BadLease::Version(version));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(BadLease::Malformed)?;
        if record.port == 0 {
            Err(BadLease::Port)
        } else {
            Ok(record)
        }
    }

    /// Checks the record against what the scheduler says of the job. That its proxy lives is only
    /// known once it has proved itself.
    ///
    /// # Errors
    /// When it is of another job or node.
    pub fn check(&self, job: &str, node: &str) -> Result<(), BadLease> {
        let differs = |found: &Option<String>, wanted: &str| {
            (found.as_deref() != Some(wanted))
                .then(|| (found.clone().unwrap_or_default(), wanted.to_owned()))
        };
        if let Some((found, wanted)) = differs(&self.job_id, job) {
            return Err(BadLease::Job { found, wanted });
        }
        if let Some((found, wanted)) = differs(&self.node, node) {
            return Err(BadLease::Node { found, wanted });
        }
        Ok(())
    }
}

/// Reads a port file: 1 to 65535, or nothing, as for a file that is not there.
pub fn parse_port(bytes: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(bytes).ok()?.trim_ascii();
    let plain = digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port != 0)
}

/// Where a lease is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    directory: PathBuf,
    port_file: PathBuf,
    /// What the names of the record and the token begin with: `job-123`, or `host-NAME` outside a
    /// job; beside a port file of the user's choice, behind that file's own name.
    name: String,
    /// Whether the directory is the proxy's alone, so that it may set its mode.
    dedicated: bool,
}

impl Place {
    /// `~/.hpc-proxy` below `home`.
    pub fn in_home(home: &Path, job: Option<&str>, host: &str) -> Self {
        let directory = home.join(".hpc-proxy");
        let port_file = directory.join("port");
        Self {
            directory,
            port_file,
            name: of_job_or_host(job, host),
            dedicated: true,
        }
    }

    /// Beside `port_file`, in a directory that is not made or changed and may hold other things.
    pub fn beside(port_file: &Path, job: Option<&str>, host: &str) -> Self {
        let directory = match port_file.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let file = port_file.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{file}.{}", of_job_or_host(job, host));
        Self {
            directory,
            port_file: port_file.to_owned(),
            name,
            dedicated: false,
        }
    }

    /// The plain port file.
    pub fn port_file(&self) -> &Path {
        &self.port_file
    }

    /// The record of this job.
    pub fn record_file(&self) -> PathBuf {
        self.directory.join(format!("{}.json", self.name))
    }

    /// The token of this job.
    pub fn token_file(&self) -> PathBuf {
        self.directory.join(format!("{}.token", self.name))
    }

    /// The token of the last proxy to start, which the port file names: `token` beside `port`.
    pub fn last_token_file(&self) -> PathBuf {
        if self.dedicated {
            return self.directory.join("token");
        }
        let mut name = self.port_file.clone().into_os_string();
        name.push(".token");
        name.into()
    }

    /// Makes the directory if it is the proxy's own, and checks that nobody else can put files
    /// there.
    fn prepare(&self) -> Result<(), LeaseError> {
        let directory = &self.directory;
        let at = |source| LeaseError::Io {
            path: directory.clone(),
            source,
        };
        if self.dedicated {
            match fs::DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(at)?,
            }
        }
        let metadata = fs::metadata(directory).map_err(at)?;
        if !metadata.is_dir() {
            return Err(at(io::ErrorKind::NotADirectory.into()));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            let owner = metadata.uid();
            return Err(LeaseError::ForeignDirectory {
                path: directory.clone(),
                owner,
            });
        }
        if self.dedicated && metadata.mode() & 0o077 != 0 {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(at)?;
        } else if metadata.mode() & 0o022 != 0 {
            return Err(LeaseError::OpenDirectory(directory.clone()));
        }
        Ok(())
    }
}

fn of_job_or_host(job: Option<&str>, host: &str) -> String {
    match job {
        Some(job) => format!("job-{}", file_name_safe(job)),
        None => format!("host-{}", file_name_safe(host)),
    }
}

/// What stands in a file's name for `text`, which the environment gave.
fn file_name_safe(text: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    text.chars().map(safe).take(100).collect()
}

/// Why a lease cannot be published.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// A file or directory cannot be used.
    #[error("cannot use `{path}`")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its owner could put other files there.
    #[error("directory `{path}` belongs to user `{owner}`")]
    ForeignDirectory {
        /// Which.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// Others could put other files there.
    #[error("directory `{0}` can be written by other users")]
    OpenDirectory(PathBuf),
}

/// A published lease. Dropping it withdraws what is still its own.
#[derive(Debug)]
pub struct Lease {
    published: Vec<(PathBuf, Vec<u8>)>,
}

impl Lease {
    /// Publishes `record` and `token` in `place`, the port file last, so that whoever sees it
    /// finds the rest. Call it once the proxy listens.
    ///
    /// # Errors
    /// When a file cannot be written, or the directory is not safe; then nothing stays.
    pub fn publish(place: &Place, record: &Record, token: &Token) -> Result<Self, LeaseError> {
        place.prepare()?;
        let secret = format!("{}\n", token.reveal()).into_bytes();
        let mut text = serde_json::to_vec(record).expect("a record has only plain fields");
        text.push(b'\n');
        let mut lease = Self {
            published: Vec::new(),
        };
        for (path, content) in [
            (place.token_file(), secret.clone()),
            (place.record_file(), text),
            (place.last_token_file(), secret),
            (
                place.port_file.clone(),
                format!("{}\n", record.port).into_bytes(),
            ),
        ] {
            write_atomically(&path, &record.instance, &content).map_err(|source| {
                LeaseError::Io {
                    path: path.clone(),
                    source,
                }
            })?;
            lease.published.push((path, content));
        }
        Ok(lease)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        for (path, content) in self.published.iter().rev() {
            // Another proxy of this user may have taken the name over since.
            if fs::read(path).is_ok_and(|found| found == *content)
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(path = %path.display(), %error, "lease not withdrawn");
            }
        }
    }
}

/// Puts a new 0600 file with `content` in place of whatever is at `path`; never seen half-written,
/// and a symbolic link there is replaced, not followed. `instance` keeps two writers apart, on
/// whichever nodes they are.
fn write_atomically(path: &Path, instance: &str, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", file_name_safe(instance)));
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file: File = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn record(port: u16) -> Record {
        Record {
            version: Record::VERSION,
            instance: "i".into(),
            host: "node01.cluster".into(),
            addresses: vec!["10.0.0.3".parse().unwrap()],
            port,
            pid: 1,
            start_ticks: 2,
            boot_id: "b".into(),
            job_id: Some("123".into()),
            node: Some("node01".into()),
            token_file: "/home/alice/.hpc-proxy/job-123.token".into(),
            started: 3,
        }
    }

    fn files(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_lease_is_published_complete_and_withdrawn_whole() {
        let home = TempDir::new().unwrap();
        let place = Place::in_home(home.path(), Some("123"), "node01");
        let (token, record) = (Token::random().unwrap(), record(40123));
        let lease = Lease::publish(&place, &record, &token).unwrap();
        let directory = home.path().join(".hpc-proxy");
        assert_eq!(
            files(&directory),
            ["job-123.json", "job-123.token", "port", "token"]
        );
        assert_eq!(fs::read_to_string(place.port_file()).unwrap(), "40123\n");
        assert_eq!(
            Record::parse(&fs::read(place.record_file()).unwrap()).unwrap(),
            record
        );
        assert_eq!(
            Token::parse(&fs::read(place.token_file()).unwrap()),
            Ok(token)
        );
        for name in files(&directory) {
            let mode = fs::metadata(directory.join(&name)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        drop(lease);
        assert!(files(&directory).is_empty());
    }

    // Behaviour 129: the later proxy takes over.
    #[test]
    fn what_another_proxy_took_over_is_not_withdrawn() {
        let home = TempDir::new().unwrap();
        let place = Place::in_home(home.path(), Some("123"), "node01");
        let first = Lease::publish(&place, &record(1), &Token::random().unwrap()).unwrap();
        let second = Lease::publish(&place, &record(2), &Token::random().unwrap()).unwrap();
        drop(first);
        assert_eq!(fs::read_to_string(place.port_file()).unwrap(), "2\n");
        assert_eq!(files(&home.path().join(".hpc-proxy")).len(), 4);
        drop(second);
        assert!(files(&home.path().join(".hpc-proxy")).is_empty());
    }

    #[test]
    fn two_jobs_share_a_home() {
        let home = TempDir::new().unwrap();
        let token = Token::random().unwrap();
        let place = |job| Place::in_home(home.path(), Some(job), "node01");
        let one = Lease::publish(&place("1"), &record(1), &token).unwrap();
        let _two = Lease::publish(&place("2"), &record(2), &Token::random().unwrap()).unwrap();
        drop(one);
        assert!(!place("1").record_file().exists());
        assert!(place("2").record_file().exists());
        assert_eq!(fs::read_to_string(place("2").port_file()).unwrap(), "2\n");
    }

    #[test]
    fn a_port_file_among_other_files_leaves_them_alone() {
        let directory = TempDir::new().unwrap();
        let precious = directory.path().join("token");
        fs::write(&precious, "precious").unwrap();
        let place = |name: &str| Place::beside(&directory.path().join(name), Some("1"), "h");
        let one = Lease::publish(&place("a"), &record(1), &Token::random().unwrap()).unwrap();
        let two = Lease::publish(&place("b"), &record(2), &Token::random().unwrap()).unwrap();
        assert_ne!(place("a").token_file(), place("b").token_file());
        assert_ne!(place("a").last_token_file(), place("b").last_token_file());
        drop((one, two));
        assert_eq!(files(directory.path()), ["token"]);
        assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
    }

    // S9.
    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let place = Place::beside(&directory.path().join("port"), None, "node01");
        let refused = Lease::publish(&place, &record(1), &Token::random().unwrap());
        assert!(
            matches!(refused, Err(LeaseError::OpenDirectory(_))),
            "{refused:?}"
        );
        assert!(files(directory.path()).is_empty());
    }

    #[test]
    fn our_own_directory_made_with_a_loose_umask_is_tightened() {
        let home = TempDir::new().unwrap();
        let directory = home.path().join(".hpc-proxy");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o775)).unwrap();
        let place = Place::in_home(home.path(), None, "node01");
        let _lease = Lease::publish(&place, &record(1), &Token::random().unwrap()).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_in_the_way_is_replaced_and_not_followed() {
        let home = TempDir::new().unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let place = Place::in_home(home.path(), None, "node01");
        fs::create_dir(home.path().join(".hpc-proxy")).unwrap();
        std::os::unix::fs::symlink(&victim, place.port_file()).unwrap();
        let _lease = Lease::publish(&place, &record(7), &Token::random().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(place.port_file()).unwrap(), "7\n");
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let home = TempDir::new().unwrap();
        let place = Place::in_home(home.path(), None, "node01");
        fs::create_dir_all(place.port_file()).unwrap();
        Lease::publish(&place, &record(1), &Token::random().unwrap()).unwrap_err();
        assert_eq!(files(&home.path().join(".hpc-proxy")), ["port"]);
    }

    // S8.
    #[test]
    fn a_record_of_another_run_is_not_believed() {
        let record = record(1);
        record.check("123", "node01").unwrap();
        assert!(matches!(
            record.check("124", "node01"),
            Err(BadLease::Job { .. })
        ));
        assert!(matches!(
            record.check("123", "node02"),
            Err(BadLease::Node { .. })
        ));
        let jobless = Record {
            job_id: None,
            ..record
        };
        assert!(matches!(
            jobless.check("123", "node01"),
            Err(BadLease::Job { .. })
        ));
    }

    #[test]
    fn a_port_file_is_a_number_or_nothing() {
        for (text, port) in [
            ("40123\n", Some(40123)),
            (" 1 ", Some(1)),
            ("", None),
            ("0", None),
            ("65536", None),
            ("+1", None),
            ("1 2", None),
            ("000001", None),
            ("0x10", None),
        ] {
            assert_eq!(parse_port(text.as_bytes()), port, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Record::parse(&bytes);
            let _ = parse_port(&bytes);
        }

        #[test]
        fn a_cut_record_is_not_believed(keep in 0.0..1.0f64) {
            let whole = serde_json::to_vec(&record(9)).unwrap();
            let cut = (whole.len() as f64 * keep) as usize;
            prop_assert!(Record::parse(&whole[..cut]).is_err());
        }

        #[test]
        fn what_is_published_is_read_back(port in 1..=u16::MAX, instance: String, job: Option<String>) {
            let record = Record { instance, job_id: job, ..record(port) };
            let text = serde_json::to_vec(&record).unwrap();
            prop_assert_eq!(Record::parse(&text).unwrap(), record);
        }

        #[test]
        fn a_lease_stays_in_its_directory(job: String) {
            let place = Place::beside(Path::new("/d/port"), Some(&job), "h");
            let record = place.record_file();
            prop_assert_eq!(record.parent(), Some(Path::new("/d")));
        }
    }
}
