//! A Unix socket of the manager's for a front on the same machine. Who gets to it, its directory and
//! its group decide.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

/// For the manager and its group: that of the directory, where it hands that on (its setgid bit).
const MODE: u32 = 0o660;

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The system says no.
    #[error("cannot listen on `{path}`")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could put a socket of theirs there.
    #[error("`{0}` is not a directory that only this user writes to (mode 0750)")]
    OpenDirectory(PathBuf),
    /// Another manager's, perhaps.
    #[error("another process listens on `{0}`")]
    Answered(PathBuf),
    /// Not to be removed.
    #[error("`{0}` is there and is not a socket of ours")]
    NotOurs(PathBuf),
}

/// A socket in the file system. Dropping it removes the file, if it is still its own.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Held open, so that its inode's number is given to no other file meanwhile.
    made: File,
}

/// Whether a socket in the directory of `path` would be safe from others.
///
/// # Errors
/// When it would not, or there is no such directory.
pub fn check_directory(path: &Path) -> Result<(), SocketError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let metadata = fs::metadata(directory).map_err(at(directory))?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if own && metadata.is_dir() && metadata.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(SocketError::OpenDirectory(directory.to_owned()))
    }
}

/// Listens at `path`.
///
/// # Errors
/// See [`SocketError`].
pub fn listen(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    check_directory(path)?;
    clear_the_way(path)?;
    let listener = UnixListener::bind(path).map_err(at(path))?;
    listener.set_nonblocking(true).map_err(at(path))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(path, flags, Mode::empty());
    let file = SocketFile {
        path: path.to_owned(),
        made: made.map_err(|error| at(path)(error.into()))?.into(),
    };
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(at(path))?;
    Ok((listener, file))
}

/// Removes a socket that a killed manager left, and nothing else.
fn clear_the_way(path: &Path) -> Result<(), SocketError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(path)(error)),
    };
    let own = found.uid() == rustix::process::geteuid().as_raw();
    if !own || !found.file_type().is_socket() {
        return Err(SocketError::NotOurs(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Answered(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(at(path))
        }
        Err(error) => Err(at(path)(error)),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let place = |file: Metadata| (file.dev(), file.ino());
        let found = fs::symlink_metadata(&self.path).map(place).ok();
        if found.is_some() && found == self.made.metadata().map(place).ok() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_goes_with_its_manager_and_a_killed_ones_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("http");
        let (listener, file) = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        assert!(matches!(listen(&path), Err(SocketError::Answered(_))));
        drop(listener);
        let (_next, next_file) = listen(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
        drop(next_file);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_not_ours_is_not_touched() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("http");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotOurs(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let refused = listen(&home.path().join("other"));
        assert!(matches!(refused, Err(SocketError::OpenDirectory(_))));
    }
}
