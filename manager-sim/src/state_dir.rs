//! The manager's directory: sockets, the key of sign-in links, and where the manager listens.
//! Nobody but its user may look into it, and one manager at a time has it.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use hpc_proxy::auth::{NoRandom, NotAToken, Token};
use thiserror::Error;

use crate::names::UserName;

/// Why the directory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The system says no.
    #[error("cannot use `{path}`")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could put files there, or read ours.
    #[error("`{0}` is not a directory of ours alone (mode 0700)")]
    NotPrivate(PathBuf),
    /// Another manager has it.
    #[error("another hpc-manager uses `{0}`")]
    InUse(PathBuf),
    /// No key.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    /// The key file holds something else.
    #[error("`{path}` holds no key")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: NotAToken,
    },
}

impl StateError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } if self.is_missing() => {
                "start one with `hpc-manager serve`, or name the directory of one that runs with `--state-dir`, \
                 as the user as whom it runs"
            }
            Self::Io { .. } => "name a directory of this user's own with `--state-dir`",
            Self::NotPrivate(_) => "`chmod 700` it, or name another with `--state-dir`",
            Self::InUse(_) => {
                "stop that one, or give this one a directory of its own with `--state-dir`"
            }
            Self::NoRandom(_) => "is /dev/urandom there?",
            Self::BadKey { .. } => "a manager that is started again makes a new one",
        }
    }

    /// Whether there is no such directory, or file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Is there if links are taken: a name a line.
const LINKS: &str = "links";

/// The directory of a running manager.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    key: Token,
    /// Unlocked when the process ends, however it ends.
    _lock: File,
}

impl StateDir {
    /// Makes or takes over the directory, with a new key: links of an earlier manager are void.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(at(path))?;
        check_private(path)?;
        let lock_file = path.join("lock");
        let lock = private_file(&lock_file).map_err(at(&lock_file))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateError::InUse(path.to_owned()),
            TryLockError::Error(source) => at(&lock_file)(source),
        })?;
        let state = Self {
            path: path.to_owned(),
            key: Token::random()?,
            _lock: lock,
        };
        // That of a killed manager.
        let _ = fs::remove_file(path.join(LINKS));
        state.write("key", &state.key.reveal())?;
        Ok(state)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What sign-in links are minted with.
    pub fn key(&self) -> &Token {
        &self.key
    }

    /// Notes where the manager listens, for `hpc-manager link`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn set_url(&self, url: &str) -> Result<(), StateError> {
        self.write("url", url)
    }

    /// Notes that these users sign in by links, for `hpc-manager link` and `open`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn set_links(&self, users: &BTreeSet<UserName>) -> Result<(), StateError> {
        let names: Vec<_> = users.iter().map(UserName::as_str).collect();
        self.write(LINKS, &names.join("\n"))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let (file, new) = (self.path.join(name), self.path.join(format!("{name}.new")));
        private_file(&new)
            .and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()))
            .and_then(|()| fs::rename(&new, &file))
            .map_err(at(&file))
    }
}

/// The key and the URL of the manager that runs in the directory.
///
/// # Errors
/// See [`StateError`].
pub fn read(path: &Path) -> Result<(Token, String), StateError> {
    check_private(path)?;
    let read = |name| {
        let file = path.join(name);
        fs::read_to_string(&file)
            .map_err(at(&file))
            .map(|text| (file, text))
    };
    let (path, key) = read("key")?;
    let key = Token::parse(key.as_bytes()).map_err(|source| StateError::BadKey { path, source })?;
    Ok((key, read("url")?.1.trim().to_owned()))
}

/// Who signs in by links at the manager that runs in the directory; nothing where it takes none.
pub fn users_of_links(path: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(path.join(LINKS)).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}

impl Drop for StateDir {
    fn drop(&mut self) {
        for name in ["key", "url", LINKS] {
            let _ = fs::remove_file(self.path.join(name));
        }
    }
}

/// Whether `path` is a directory of this user's alone.
///
/// # Errors
/// When it is not, or cannot be looked at.
pub fn check_private(path: &Path) -> Result<(), StateError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if metadata.is_dir() && own && metadata.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(StateError::NotPrivate(path.to_owned()))
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_running_manager_is_found_and_an_ended_one_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let state = StateDir::open(&path).unwrap();
        state.set_url("http://127.0.0.1:8080").unwrap();
        let (key, url) = read(&path).unwrap();
        assert_eq!((&key, url.as_str()), (state.key(), "http://127.0.0.1:8080"));
        for name in ["", "key", "url"] {
            let mode = fs::metadata(path.join(name)).unwrap().mode() & 0o077;
            assert_eq!(mode, 0, "`{name}` is open to others");
        }
        drop(state);
        assert!(read(&path).is_err());
    }

    #[test]
    fn one_manager_at_a_time_has_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a");
        let state = StateDir::open(&path).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::InUse(_))));
        let first_key = state.key().clone();
        drop(state);
        assert_ne!(StateDir::open(&path).unwrap().key(), &first_key);
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        for mode in [0o755, 0o770, 0o701] {
            fs::set_permissions(parent.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(
                StateDir::open(parent.path()),
                Err(StateError::NotPrivate(_))
            ));
        }
    }
}
