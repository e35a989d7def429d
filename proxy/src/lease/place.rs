//! Which files a lease is kept in.

use std::path::{Path, PathBuf};

/// Where a lease is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) directory: PathBuf,
    port_file: PathBuf,
    /// What the names of the record and the token begin with: `job-123`, or `host-NAME` outside a
    /// job; beside a port file of the user's choice, behind that file's own name.
    name: String,
    /// Whether the directory is the proxy's alone, so that it may make it and set its mode.
    pub(super) dedicated: bool,
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

    /// Where all of it is.
    pub fn directory(&self) -> &Path {
        &self.directory
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

    /// Whether a file called `name` beside the others is the record of some job or host.
    pub(super) fn is_record(&self, name: &str) -> bool {
        let beside = match self.dedicated {
            true => Some(name),
            false => self
                .port_file_name()
                .and_then(|file| name.strip_prefix(file)?.strip_prefix('.')),
        };
        beside.is_some_and(|name| {
            (name.starts_with("job-") || name.starts_with("host-")) && name.ends_with(".json")
        })
    }

    fn port_file_name(&self) -> Option<&str> {
        self.port_file.file_name()?.to_str()
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
}

fn of_job_or_host(job: Option<&str>, host: &str) -> String {
    match job {
        Some(job) => format!("job-{}", file_name_safe(job)),
        None => format!("host-{}", file_name_safe(host)),
    }
}

/// What stands in a file's name for `text`, which the environment gave.
pub(super) fn file_name_safe(text: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    text.chars().map(safe).take(100).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_lease_stays_in_its_directory(job: String) {
            let place = Place::beside(Path::new("/d/port"), Some(&job), "h");
            let record = place.record_file();
            prop_assert_eq!(record.parent(), Some(Path::new("/d")));
        }

        #[test]
        fn a_record_is_known_by_its_name(job: Option<String>, host: String) {
            for place in [
                Place::in_home(Path::new("/h"), job.as_deref(), &host),
                Place::beside(Path::new("/d/port"), job.as_deref(), &host),
            ] {
                let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
                prop_assert!(place.is_record(&name(place.record_file())));
                prop_assert!(!place.is_record(&name(place.token_file())));
                prop_assert!(!place.is_record(&name(place.last_token_file())));
            }
        }
    }
}
