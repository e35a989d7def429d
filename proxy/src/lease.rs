//! The lease: a proxy's statement of where it listens, and its secret, in files of the user's.
//!
//! `port` is a decimal number and a newline, as readers of the original's expect it; the last
//! proxy to start has it. Beside it each job has a record and a token of its own. Whoever reads a
//! record believes it only once its job and node are the scheduler's and the proxy has proved to
//! be its instance: on a cluster most jobs end by a signal that no proxy sees, so a stale record
//! is the normal case.

use std::{fs, io, path::PathBuf, thread};

use thiserror::Error;

use crate::auth::{NotAToken, Token};

mod directory;
mod place;
mod record;

use directory::{Directory, Published, Staged, read_own};
pub use place::Place;
pub use record::{BadLease, MAX_RECORD_BYTES, Record};

/// A token file is 64 digits and a newline, a port file 5; somebody may have added white space.
const LONGEST_NOTE_BYTES: usize = 1024;

/// Reads a port file: 1 to 65535, or nothing, as for a file that is not there.
pub fn parse_port(bytes: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(bytes).ok()?.trim_ascii();
    let plain = digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port != 0)
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
    place: Place,
    instance: String,
    directory: Directory,
    published: Vec<Published>,
}

impl Lease {
    /// Publishes `record` and `token` in `place`, the port file last, so that whoever sees it
    /// finds the rest. Call it once the proxy listens. Another proxy of the same job is replaced:
    /// the last to start is the one that is found.
    ///
    /// # Errors
    /// When a file cannot be written, or the directory is not safe; then nothing stays.
    pub fn publish(place: &Place, record: &Record, token: &Token) -> Result<Self, LeaseError> {
        let secret = format!("{}\n", token.reveal()).into_bytes();
        let mut text = serde_json::to_vec(record).expect("a record has only plain fields");
        text.push(b'\n');
        let mut files = vec![
            (place.token_file(), secret.clone()),
            (place.record_file(), text),
        ];
        // Whoever reads only the port file has no use for a proxy without a port.
        if record.port != 0 {
            let port = format!("{}\n", record.port).into_bytes();
            files.push((place.last_token_file(), secret));
            files.push((place.port_file().to_owned(), port));
        }

        let at = |path: PathBuf| move |source| LeaseError::Io { path, source };
        let directory = Directory::prepare(place)?;
        let mut staged = Vec::new();
        for (path, content) in files {
            let name = path.file_name().unwrap_or_default();
            let file = directory.stage(name, &record.instance, content);
            staged.push(file.map_err(at(path))?);
        }
        sync(&staged)?;
        let mut published = Vec::new();
        for file in staged {
            let path = file.path();
            match file.publish() {
                Ok(file) => published.push(file),
                Err(source) => {
                    withdraw(&directory, &published);
                    return Err(LeaseError::Io { path, source });
                }
            }
        }
        directory.sweep();
        Ok(Self {
            place: place.clone(),
            instance: record.instance.clone(),
            directory,
            published,
        })
    }

    /// Puts back what somebody removed, as with `rm -r ~/.hpc-proxy`; how many files that were. What
    /// was another proxy's when last looked at stays as it is.
    ///
    /// # Errors
    /// When a file cannot be written, or the directory is not safe (any more).
    pub fn restore(&mut self) -> Result<usize, LeaseError> {
        if !self.directory.is_in_place() {
            self.directory = Directory::prepare(&self.place)?;
        }
        let mut restored = 0;
        for file in &mut self.published {
            let path = self.directory.path_of(&file.name);
            let put_back = self.directory.restore(file, &self.instance);
            restored += usize::from(put_back.map_err(|source| LeaseError::Io { path, source })?);
        }
        Ok(restored)
    }
}

/// Has all files written to the disk, at once: a disk or a file server takes about as long for one
/// as for all.
fn sync(files: &[Staged<'_>]) -> Result<(), LeaseError> {
    let synced: Vec<_> = thread::scope(|scope| {
        let start = |file| thread::Builder::new().spawn_scoped(scope, move || Staged::sync(file));
        let started: Vec<_> = files.iter().map(start).collect();
        let ended = started
            .into_iter()
            .zip(files)
            .map(|(thread, file)| match thread {
                Ok(thread) => thread.join(),
                // No more threads for this user: one after the other then.
                Err(_) => Ok(file.sync()),
            });
        ended.collect()
    });
    for (file, synced) in files.iter().zip(synced) {
        let path = file.path();
        let synced = synced.unwrap_or_else(|_| Err(io::Error::other("it was not written")));
        synced.map_err(|source| LeaseError::Io { path, source })?;
    }
    Ok(())
}

impl Drop for Lease {
    fn drop(&mut self) {
        withdraw(&self.directory, &self.published);
    }
}

/// The port file first, so that nobody finds the port of a proxy without the rest.
fn withdraw(directory: &Directory, published: &[Published]) {
    for file in published.iter().rev() {
        if let Err(error) = directory.withdraw(file) {
            let path = directory.path_of(&file.name);
            tracing::warn!(path = %path.display(), %error, "lease not withdrawn");
        }
    }
}

/// Why a lease cannot be read, in whole or in part.
#[derive(Debug, Error)]
pub enum NoLease {
    /// A file is not there, or is not ours.
    #[error("`{path}` cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record is none.
    #[error("`{path}` is not believed")]
    Record {
        /// Which.
        path: PathBuf,
        /// Why.
        source: BadLease,
    },
    /// The token is none.
    #[error("`{path}` cannot be read")]
    Token {
        /// Which.
        path: PathBuf,
        /// Why.
        source: NotAToken,
    },
    /// The port file holds something else.
    #[error("`{0}` holds no port number")]
    Port(PathBuf),
}

/// Reading, on the node itself. That a proxy wrote this does not say that it still runs.
impl Place {
    /// What the proxy of this job or host says of itself.
    ///
    /// # Errors
    /// When there is no such record, or it is not one.
    pub fn read_record(&self) -> Result<Record, NoLease> {
        read_record(self.record_file())
    }

    /// The token of the proxy of this job or host.
    ///
    /// # Errors
    /// When there is none.
    pub fn read_token(&self) -> Result<Token, NoLease> {
        read_token(self.token_file())
    }

    /// The token of the proxy of `record`, which lies beside it.
    ///
    /// # Errors
    /// When there is none.
    pub fn token_of(&self, record: &Record) -> Result<Token, NoLease> {
        let name = record.token_file.file_name().unwrap_or_default();
        read_token(self.directory.join(name))
    }

    /// Port and token of the proxy that started last, on whichever node that was.
    ///
    /// # Errors
    /// When there is none.
    pub fn read_last(&self) -> Result<(u16, Token), NoLease> {
        let path = self.port_file().to_owned();
        let port = match read_own(&path, LONGEST_NOTE_BYTES) {
            Ok(text) => parse_port(&text).ok_or(NoLease::Port(path))?,
            Err(source) => return Err(NoLease::Read { path, source }),
        };
        Ok((port, read_token(self.last_token_file())?))
    }

    /// Every record that can be read here, of this job and of others.
    pub fn read_all_records(&self) -> Vec<Record> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        entries
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| self.is_record(name))
            })
            .filter_map(|entry| read_record(entry.path()).ok())
            .collect()
    }
}

fn read_record(path: PathBuf) -> Result<Record, NoLease> {
    match read_own(&path, MAX_RECORD_BYTES) {
        Ok(text) => Record::parse(&text).map_err(|source| NoLease::Record { path, source }),
        Err(source) => Err(NoLease::Read { path, source }),
    }
}

fn read_token(path: PathBuf) -> Result<Token, NoLease> {
    match read_own(&path, LONGEST_NOTE_BYTES) {
        Ok(text) => Token::parse(&text).map_err(|source| NoLease::Token { path, source }),
        Err(source) => Err(NoLease::Read { path, source }),
    }
}

#[cfg(test)]
mod tests;
