//! Directories of this user's alone: that of this node's state, which no other node sees, and any
//! other that must be as private.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use private_localhost::PortMap;
use thiserror::Error;

/// Why a directory does not keep what is ours.
#[derive(Debug, Error)]
pub(crate) enum NotPrivate {
    /// It cannot be made or looked at.
    #[error("cannot use directory `{path}`")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else has its name; a symbolic link may lead to anybody's.
    #[error("`{0}` is not a directory")]
    NotADirectory(PathBuf),
    /// Its owner sees and replaces what is in it.
    #[error("directory `{path}` belongs to user `{owner}`")]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// Others may enter.
    #[error("directory `{path}` is open to others: its mode is `{mode:o}`, not `700`")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The node's own state directory of this user, which need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// `explicit`, else `hpc-proxy` in the runtime directory, else one in /tmp. A job inherits
    /// `XDG_RUNTIME_DIR` from a login node, where it was; here it counts only if it is there and
    /// this user's.
    pub(crate) fn locate(explicit: Option<PathBuf>, runtime_dir: Option<PathBuf>) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let set = |path: &PathBuf| !path.as_os_str().is_empty();
        let ours = |path: &PathBuf| {
            path.is_absolute()
                && fs::symlink_metadata(path)
                    .is_ok_and(|found| found.is_dir() && found.uid() == uid)
        };
        let in_runtime_dir = || Some(runtime_dir.filter(ours)?.join("hpc-proxy"));
        let path = explicit.filter(set).or_else(in_runtime_dir);
        Self(path.unwrap_or_else(|| format!("/tmp/hpc-proxy-{uid}").into()))
    }

    /// Where it is, or would be.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path, once the directory is there and nobody else's.
    pub(crate) fn prepare(&self) -> Result<&Path, NotPrivate> {
        make_private(self.path())?;
        Ok(self.path())
    }

    /// Where this user's private servers are written down, in it.
    pub(crate) fn private_servers(&self) -> io::Result<PortMap> {
        PortMap::open(self.prepare().map_err(io::Error::other)?)
    }

    /// Where dev servers put their sockets: in `explicit`, which has to be there, else below it.
    pub(crate) fn sockets(&self, explicit: Option<&Path>) -> Result<PathBuf, NotPrivate> {
        if let Some(path) = explicit {
            check_private(path)?;
            return Ok(path.to_owned());
        }
        let path = self.prepare()?.join("sock");
        make_private(&path)?;
        Ok(path)
    }
}

/// Makes a directory if it is missing, and checks that it is this user's alone.
pub(crate) fn make_private(path: &Path) -> Result<(), NotPrivate> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(|source| NotPrivate::Io {
            path: path.to_owned(),
            source,
        })?,
    }
    check_private(path)
}

/// Checks that a directory is this user's alone. Nothing is mended: what is there was made by
/// somebody who may have had a reason.
pub(crate) fn check_private(path: &Path) -> Result<(), NotPrivate> {
    let owned = || path.to_owned();
    let found = fs::symlink_metadata(path).map_err(|source| NotPrivate::Io {
        path: owned(),
        source,
    })?;
    if !found.is_dir() {
        return Err(NotPrivate::NotADirectory(owned()));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(NotPrivate::Foreign {
            path: owned(),
            owner: found.uid(),
        });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(NotPrivate::Open {
            path: owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn the_runtime_directory_counts_if_it_is_ours() {
        let runtime = TempDir::new().unwrap();
        let path = runtime.path().to_owned();
        let in_tmp = StateDir(format!("/tmp/hpc-proxy-{}", rustix::process::geteuid()).into());
        assert_eq!(
            StateDir::locate(None, Some(path.clone())).path(),
            path.join("hpc-proxy")
        );
        assert_eq!(
            StateDir::locate(Some("/d".into()), Some(path.clone())).path(),
            Path::new("/d")
        );
        for not_ours in [None, Some("".into()), Some(path.join("login-node-only"))] {
            assert_eq!(StateDir::locate(None, not_ours), in_tmp);
        }
        if is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert_eq!(StateDir::locate(None, Some(path)), in_tmp);
        }
    }

    #[test]
    fn a_state_directory_is_made_for_us_alone() {
        let parent = TempDir::new().unwrap();
        let state = StateDir(parent.path().join("state"));
        let below = state.sockets(None).unwrap();
        for path in [state.path(), &below] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o700);
        }
        assert_eq!(state.sockets(None).unwrap(), below);
    }

    // S9.
    #[test]
    fn what_is_not_ours_alone_is_refused_and_left_as_it_is() {
        let parent = TempDir::new().unwrap();
        let at = |name: &str| parent.path().join(name);

        fs::create_dir(at("open")).unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o750)).unwrap();
        let refused = make_private(&at("open"));
        assert!(
            matches!(refused, Err(NotPrivate::Open { mode: 0o750, .. })),
            "{refused:?}"
        );
        assert_eq!(fs::metadata(at("open")).unwrap().mode() & 0o7777, 0o750);

        symlink(parent.path(), at("link")).unwrap();
        fs::write(at("file"), "").unwrap();
        for name in ["link", "file"] {
            let refused = make_private(&at(name));
            assert!(
                matches!(refused, Err(NotPrivate::NotADirectory(_))),
                "{refused:?}"
            );
        }
        let refused = make_private(&at("missing/too-deep"));
        assert!(matches!(refused, Err(NotPrivate::Io { .. })), "{refused:?}");

        if is_root() {
            fs::create_dir(at("foreign")).unwrap();
            std::os::unix::fs::chown(at("foreign"), Some(65534), None).unwrap();
            let refused = make_private(&at("foreign"));
            assert!(
                matches!(refused, Err(NotPrivate::Foreign { owner: 65534, .. })),
                "{refused:?}"
            );
        }
    }
}
