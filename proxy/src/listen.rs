//! The listeners of the proxy: bound as the command line says, and a Unix socket taken away again
//! at the end.

use std::{
    fs::{self, File, Metadata},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use hpc_proxy::upstream::owner::Owners;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt},
};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};

use crate::state_dir::{NotPrivate, make_private};

/// How often any free port is looked for that is free by IPv6, too.
const MOST_ATTEMPTS: usize = 16;
/// As the standard library has it, and tokio for IPv4.
const BACKLOG: u32 = 1024;

/// Why the proxy cannot listen.
#[derive(Debug, Error)]
pub(crate) enum ListenError {
    #[error("cannot listen on `{address}`{holder}")]
    Tcp {
        address: SocketAddr,
        /// Whose port it is, as the end of a sentence, or nothing.
        holder: String,
        source: io::Error,
    },
    #[error("cannot listen on `{path}`")]
    Unix { path: PathBuf, source: io::Error },
    #[error("another process listens on `{0}`")]
    Answered(PathBuf),
    #[error("`{0}` is there and is not a socket of yours")]
    NotOurSocket(PathBuf),
    #[error("no socket can be kept safe in its directory")]
    Directory(#[from] NotPrivate),
}

/// Listens on a TCP port, by IPv6 too where every address of IPv4 is meant: on a port of ours that is free there,
/// another user could be taken for us by whoever looks for the node's name and gets both.
pub(crate) async fn tcp(
    address: SocketAddr,
) -> Result<(TcpListener, Option<TcpListener>), ListenError> {
    for attempt in 1.. {
        let (address, source) = match TcpListener::bind(address).await {
            Ok(first) if address.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
                return Ok((first, None));
            }
            Ok(first) => {
                let port = first.local_addr().map_or(address.port(), |own| own.port());
                let sixth = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
                match sixth_only(sixth) {
                    Ok(second) => return Ok((first, Some(second))),
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                        return Ok((first, None));
                    }
                    Err(_) if address.port() == 0 && attempt < MOST_ATTEMPTS => continue,
                    Err(error) => (sixth, error),
                }
            }
            Err(source) => (address, source),
        };
        return Err(ListenError::Tcp {
            holder: holder(address).await,
            address,
            source,
        });
    }
    unreachable!("the last attempt returns")
}

/// Listens by IPv6 and not by IPv4.
fn sixth_only(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    sockopt::set_ipv6_v6only(&socket, true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whose port it is that cannot be bound, as far as the kernel says.
async fn holder(address: SocketAddr) -> String {
    match Owners::probe().listener(address).await {
        Ok(Some(socket)) => format!(", which user `{}` holds", socket.uid),
        Ok(None) | Err(_) => String::new(),
    }
}

/// A Unix socket in the file system. Dropping it removes the file if it is still its own.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Held open, so that its inode's number is given to no other file meanwhile.
    made: File,
}

/// Listens on a Unix socket at `path`, which [`crate::cli::Listen`] has checked. Its directory
/// must be this user's alone: whoever gets to the socket needs no token.
pub(crate) fn unix(path: &Path) -> Result<(UnixListener, SocketFile), ListenError> {
    make_private(path.parent().unwrap_or(Path::new("/")))?;
    clear_the_way(path)?;
    let at = |source| ListenError::Unix {
        path: path.to_owned(),
        source,
    };
    let listener = UnixListener::bind(path).map_err(at)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| at(error.into()))?;
    let file = SocketFile {
        path: path.to_owned(),
        made: made.into(),
    };
    // The directory keeps others out already; this keeps them out of a copy of it, too.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(at)?;
    listener.set_nonblocking(true).map_err(at)?;
    Ok((listener, file))
}

/// Removes a socket that a killed proxy left, and nothing else.
fn clear_the_way(path: &Path) -> Result<(), ListenError> {
    let at = |source| ListenError::Unix {
        path: path.to_owned(),
        source,
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(error)),
    };
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if !ours || !found.file_type().is_socket() {
        return Err(ListenError::NotOurSocket(path.to_owned()));
    }
    if answers(path).map_err(at)? {
        return Err(ListenError::Answered(path.to_owned()));
    }
    fs::remove_file(path).map_err(at)
}

/// Whether anybody listens on the socket at `path`. Never waits: a full backlog is an answer too.
fn answers(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = |found: Metadata, made: Metadata| {
            (found.dev(), found.ino()) == (made.dev(), made.ino())
        };
        let found = fs::symlink_metadata(&self.path);
        let still_ours = found
            .and_then(|found| Ok(same(found, self.made.metadata()?)))
            .unwrap_or(false);
        if still_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "socket not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tempfile::TempDir;

    use super::*;

    fn private() -> TempDir {
        let home = TempDir::new().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        home
    }

    #[test]
    fn a_socket_is_for_its_user_and_goes_with_its_listener() {
        let home = TempDir::new().unwrap();
        let path = home.path().join("made/socket");
        let (listener, file) = unix(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        UnixStream::connect(&path).unwrap();
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_somebody_answers_is_left_to_them() {
        let home = private();
        let path = home.path().join("socket");
        let (_listener, _file) = unix(&path).unwrap();
        let refused = unix(&path);
        assert!(
            matches!(refused, Err(ListenError::Answered(_))),
            "{refused:?}"
        );
        UnixStream::connect(&path).unwrap();
    }

    // S9.
    #[test]
    fn a_stale_socket_is_replaced_and_not_removed_by_its_late_owner() {
        let home = private();
        let path = home.path().join("socket");
        let (listener, stale) = unix(&path).unwrap();
        drop(listener);
        let (_listener, _file) = unix(&path).unwrap();
        drop(stale);
        UnixStream::connect(&path).unwrap();
    }

    // S9.
    #[test]
    fn what_is_no_socket_of_ours_is_not_touched() {
        let home = private();
        let (path, elsewhere) = (home.path().join("socket"), home.path().join("elsewhere"));
        fs::write(&path, "precious").unwrap();
        let refused = unix(&path);
        assert!(
            matches!(refused, Err(ListenError::NotOurSocket(_))),
            "{refused:?}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

        fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&elsewhere).unwrap());
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let refused = unix(&path);
        assert!(
            matches!(refused, Err(ListenError::NotOurSocket(_))),
            "{refused:?}"
        );
        assert!(elsewhere.exists());
    }

    #[test]
    fn a_directory_that_others_enter_is_refused() {
        let home = TempDir::new().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let refused = unix(&home.path().join("socket"));
        assert!(
            matches!(refused, Err(ListenError::Directory(_))),
            "{refused:?}"
        );
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
