//! The file of access tokens: their names, users and hashes. Nobody but its user may read it, and
//! it is replaced whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::access_token::{HashError, TokenHash};
use crate::names::{NotAName, TokenName, UserName};

/// A bound against a file that is something else: some thousand tokens.
const MOST_BYTES: u64 = 1 << 20;

/// A token as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is called.
    pub name: TokenName,
    /// Whom it signs in.
    pub user: UserName,
    /// Of its secret.
    pub hash: TokenHash,
    /// Since when it is there.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
}

/// Why a file of tokens cannot be used.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// The system says no.
    #[error("cannot use `{path}`")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else's file, or one that others can read, or none at all.
    #[error("`{0}` is not a file of ours alone (mode 0600)")]
    NotPrivate(PathBuf),
    /// Larger than any file of tokens.
    #[error("`{0}` is too long for a file of tokens")]
    TooLong(PathBuf),
    /// Not what we write.
    #[error("cannot understand `{path}`")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A name or a hash is wrong.
    #[error("cannot understand the token `{}` in `{path}`", name.escape_debug())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which token.
        name: String,
        /// Why.
        #[source]
        source: BadEntry,
    },
}

/// What is wrong with a token in the file.
#[derive(Debug, Error)]
pub enum BadEntry {
    /// Its name, or its user's.
    #[error(transparent)]
    Name(#[from] NotAName),
    /// Its hash.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// There is another of that name.
    #[error("the name is there twice")]
    Twice,
}

/// The file as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    token: Vec<WrittenEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    name: String,
    user: String,
    hash: String,
    created: Timestamp,
    expires: Timestamp,
}

/// Which state of a file was read: it differs once the file is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// That of the file at `path`; nothing where there is none.
    ///
    /// # Errors
    /// When the system says no.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self {
                inode: metadata.ino(),
                length: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                // Changes with the mode too.
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The tokens in the file at `path`; none where there is no file.
///
/// # Errors
/// See [`TokenFileError`].
pub fn read(path: &Path) -> Result<Vec<Entry>, TokenFileError> {
    let text = match open(path) {
        Ok(file) => contents(path, file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(path)(error)),
    };
    let written: Written = toml::from_str(&text).map_err(|source| TokenFileError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut entries: Vec<Entry> = Vec::new();
    for written in written.token {
        let name = written.name.clone();
        let entry = parse(written).and_then(|entry| {
            if entries.iter().any(|other| other.name == entry.name) {
                return Err(BadEntry::Twice);
            }
            Ok(entry)
        });
        entries.push(entry.map_err(|source| TokenFileError::Entry {
            path: path.to_owned(),
            name,
            source,
        })?);
    }
    Ok(entries)
}

/// Lets `change` edit the tokens in the file, which is made if need be; its answer. Nobody else
/// changes the file meanwhile, and whoever reads it sees all of the change or nothing.
///
/// # Errors
/// See [`TokenFileError`].
pub fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut Vec<Entry>) -> T,
) -> Result<T, TokenFileError> {
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(at(directory))?;
    }
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let lock = beside(".lock");
    let locked = private_file(OpenOptions::new().create(true), &lock).map_err(at(&lock))?;
    locked.lock().map_err(at(&lock))?;
    let mut entries = read(path)?;
    let answer = change(&mut entries);
    let written = Written {
        token: entries.into_iter().map(write).collect(),
    };
    let text = toml::to_string(&written).expect("strings and times");
    let new = beside(".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&new)(error)),
        _ => {}
    }
    private_file(OpenOptions::new().create_new(true), &new)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, path))
        .map_err(at(path))?;
    Ok(answer)
}

fn parse(written: WrittenEntry) -> Result<Entry, BadEntry> {
    Ok(Entry {
        name: written.name.parse()?,
        user: written.user.parse()?,
        hash: written.hash.parse()?,
        created: written.created,
        expires: written.expires,
    })
}

fn write(entry: Entry) -> WrittenEntry {
    WrittenEntry {
        name: entry.name.to_string(),
        user: entry.user.to_string(),
        hash: entry.hash.reveal().to_owned(),
        created: entry.created,
        expires: entry.expires,
    }
}

/// Neither waits for a pipe's other end nor follows a link.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn contents(path: &Path, file: File) -> Result<String, TokenFileError> {
    let metadata = file.metadata().map_err(at(path))?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !own || metadata.mode() & 0o077 != 0 {
        return Err(TokenFileError::NotPrivate(path.to_owned()));
    }
    let mut text = String::new();
    let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
    read.map_err(at(path))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(TokenFileError::TooLong(path.to_owned()));
    }
    Ok(text)
}

fn private_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options
        .write(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TokenFileError {
    let path = path.to_owned();
    move |source| TokenFileError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::auth::access_token::AccessToken;

    fn entry(name: &str) -> Entry {
        let token = AccessToken::random(name.parse().unwrap()).unwrap();
        Entry {
            name: token.name().clone(),
            user: "alice".parse().unwrap(),
            hash: token.hash().unwrap(),
            created: "2030-01-01T00:00:00Z".parse().unwrap(),
            expires: "2031-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/tokens.toml");
        assert!(read(&path).unwrap().is_empty() && Stamp::of(&path).unwrap().is_none());
        let (one, other) = (entry("one"), entry("other"));
        change(&path, |entries| entries.push(one.clone())).unwrap();
        let before = Stamp::of(&path).unwrap();
        change(&path, |entries| entries.push(other.clone())).unwrap();
        assert_eq!(read(&path).unwrap(), [one, other]);
        assert_ne!(Stamp::of(&path).unwrap(), before);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_file_that_others_can_read_or_replace_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        change(&path, |entries| entries.push(entry("one"))).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            set_mode(&path, mode);
            let refused = read(&path);
            assert!(
                matches!(refused, Err(TokenFileError::NotPrivate(_))),
                "{mode:o}"
            );
            assert!(change(&path, Vec::clear).is_err());
        }
        set_mode(&path, 0o600);
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read(&link).is_err());
        assert!(matches!(
            read(directory.path()),
            Err(TokenFileError::NotPrivate(_))
        ));
    }

    #[test]
    fn a_file_that_is_something_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        change(&path, |entries| entries.push(entry("one"))).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        for (text, named) in [
            ("x".to_owned(), "cannot understand"),
            (format!("{good}\n{good}"), "`one`"),
            (good.replace("alice", "-l"), "`one`"),
            (good.replace("argon2id", "argon2d"), "`one`"),
            (format!("{good}more = 1\n"), "cannot understand"),
            ("#".repeat(1 << 21), "too long"),
        ] {
            fs::write(&path, text).unwrap();
            let refused = read(&path).unwrap_err().to_string();
            assert!(refused.contains(named), "{refused}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path), Err(TokenFileError::Io { .. })));
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        let entry = entry("one");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (path, mut entry) = (&path, entry.clone());
                entry.name = format!("n{number}").parse().unwrap();
                scope.spawn(move || change(path, |entries| entries.push(entry)).unwrap());
            }
        });
        assert_eq!(read(&path).unwrap().len(), 8);
    }
}
