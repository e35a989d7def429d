//! The directory of a lease: nobody else can put files there, and each file in it appears whole
//! and goes only while it is still the one that was put there.
//!
//! Everything happens below one open descriptor, so that what was checked is what is written to.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, Permissions},
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat, renameat, unlinkat};

use super::{LeaseError, Place, place::file_name_safe};

/// A proxy publishes in some milliseconds, on the slowest file server in seconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// An open directory that was found safe.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    opened: File,
}

impl Directory {
    /// Opens the directory of `place`, which is made if it is the proxy's own, and checks that
    /// nobody else can put files there (S9).
    pub(super) fn prepare(place: &Place) -> Result<Self, LeaseError> {
        let path = &place.directory;
        let at = |source| LeaseError::Io {
            path: path.clone(),
            source,
        };
        let foreign = |owner| LeaseError::ForeignDirectory {
            path: path.clone(),
            owner,
        };
        if place.dedicated {
            match fs::DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(at)?,
            }
        }
        let uid = rustix::process::geteuid().as_raw();
        // A link of one's own is followed, as to a larger disk; a stranger's leads anywhere.
        let named = fs::symlink_metadata(path).map_err(at)?;
        if named.is_symlink() && named.uid() != uid {
            return Err(foreign(named.uid()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| at(error.into()))?;
        let opened = File::from(opened);
        let found = opened.metadata().map_err(at)?;
        if found.uid() != uid {
            return Err(foreign(found.uid()));
        }
        if place.dedicated && found.mode() & 0o077 != 0 {
            let private = Permissions::from_mode(0o700);
            opened.set_permissions(private).map_err(at)?;
        } else if found.mode() & 0o022 != 0 {
            return Err(LeaseError::OpenDirectory(path.clone()));
        }
        Ok(Self {
            path: path.clone(),
            opened,
        })
    }

    /// Whether its path leads to it still.
    pub(super) fn is_in_place(&self) -> bool {
        let id = |found: Metadata| (found.dev(), found.ino());
        let now = fs::metadata(&self.path).map(id);
        now.is_ok_and(|now| self.opened.metadata().map(id).is_ok_and(|own| own == now))
    }

    pub(super) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a new 0600 file that will be called `name`, under a name of its own for now.
    /// `instance` keeps two writers apart, on whichever nodes they are.
    pub(super) fn stage(
        &self,
        name: &OsStr,
        instance: &str,
        content: Vec<u8>,
    ) -> io::Result<Staged<'_>> {
        let mut temporary = name.to_owned();
        temporary.push(format!(".{}.new", file_name_safe(instance)));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.opened, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let mut staged = Staged {
            directory: self,
            name: name.to_owned(),
            temporary: Some(temporary),
            file: file.into(),
            content,
        };
        staged.file.write_all(&staged.content)?;
        Ok(staged)
    }

    /// Removes what proxies left that were killed while they published: files of this user's under
    /// temporary names that nobody writes any more.
    pub(super) fn sweep(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let abandoned = is_temporary(&name)
                && entry.metadata().is_ok_and(|found| {
                    let age = found
                        .modified()
                        .ok()
                        .and_then(|written| written.elapsed().ok());
                    found.is_file() && age.is_some_and(|age| age > ABANDONED_AFTER)
                });
            if abandoned {
                // Another proxy may have been faster.
                let _ = unlinkat(&self.opened, &name, AtFlags::empty());
            }
        }
    }

    /// Removes what was published, unless another proxy of this user has taken the name over
    /// since: it must be the same file with the same content.
    pub(super) fn withdraw(&self, published: &Published) -> io::Result<()> {
        let Ok(found) = self.open_to_read(&published.name) else {
            return Ok(());
        };
        let mut content = Vec::new();
        let longest = published.content.len() as u64 + 1;
        let is_ours = FileId::of(&found.metadata()?) == published.file
            && found.take(longest).read_to_end(&mut content).is_ok()
            && content == published.content;
        if is_ours {
            unlinkat(&self.opened, &published.name, AtFlags::empty())?;
        }
        Ok(())
    }

    /// Puts a published file back where it is gone, unless its name was another's before that;
    /// whether it did.
    pub(super) fn restore(&self, published: &mut Published, instance: &str) -> io::Result<bool> {
        match self.open_to_read(&published.name) {
            Ok(found) => {
                published.is_ours = FileId::of(&found.metadata()?) == published.file;
                return Ok(false);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && published.is_ours => {}
            Err(_) => return Ok(false),
        }
        let content = published.content.clone();
        let staged = self.stage(&published.name, instance, content)?;
        staged.sync()?;
        match staged.publish_where_none_is() {
            Ok(file) => *published = file,
            // Another proxy was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn open_to_read(&self, name: &OsStr) -> io::Result<File> {
        open_regular(|flags| openat(&self.opened, name, flags, Mode::empty()))
    }
}

/// Whether `name` is one of [`Directory::stage`]'s: an instance's 32 digits before the end.
fn is_temporary(name: &OsStr) -> bool {
    let instance = name
        .to_str()
        .and_then(|name| name.strip_suffix(".new"))
        .and_then(|name| name.rsplit_once('.'));
    instance.is_some_and(|(_, digits)| {
        digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// A file that is written and has not got its name yet. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    directory: &'a Directory,
    name: OsString,
    /// Nothing once it has its name.
    temporary: Option<OsString>,
    file: File,
    content: Vec<u8>,
}

impl Staged<'_> {
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path_of(&self.name)
    }

    /// Has it written to the disk: only then a full one or a used-up quota is told of.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Puts it in place of whatever has its name; a link there is replaced, not followed.
    pub(super) fn publish(mut self) -> io::Result<Published> {
        if let Some(temporary) = &self.temporary {
            let directory = &self.directory.opened;
            renameat(directory, temporary, directory, &self.name)?;
        }
        self.temporary = None;
        self.published()
    }

    /// Gives it its name unless something has that already: a rename would replace it.
    fn publish_where_none_is(mut self) -> io::Result<Published> {
        if let Some(temporary) = &self.temporary {
            let directory = &self.directory.opened;
            linkat(
                directory,
                temporary,
                directory,
                &self.name,
                AtFlags::empty(),
            )?;
        }
        self.published()
    }

    fn published(&mut self) -> io::Result<Published> {
        Ok(Published {
            file: FileId::of(&self.file.metadata()?),
            name: std::mem::take(&mut self.name),
            content: std::mem::take(&mut self.content),
            is_ours: true,
        })
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // On a disk that fails, nothing more can be done about it.
            let _ = unlinkat(&self.directory.opened, temporary, AtFlags::empty());
        }
    }
}

/// A file under its name, and what it was then.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) name: OsString,
    content: Vec<u8>,
    file: FileId,
    /// Whether it was there as it was put there when last looked at.
    is_ours: bool,
}

/// Tells a file from a later one of the same name. The inode's number alone may be given to that
/// one again.
#[derive(Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
    written: Option<SystemTime>,
}

impl FileId {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            written: found.modified().ok(),
        }
    }
}

/// Reads a file of this user's of at most `longest` bytes. It may be anything by now: a link, a
/// pipe that would keep us waiting, a terabyte of nothing.
pub(super) fn read_own(path: &Path, longest: usize) -> io::Result<Vec<u8>> {
    let file = open_regular(|flags| rustix::fs::open(path, flags, Mode::empty()))?;
    if file.metadata()?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to another user",
        ));
    }
    let mut content = Vec::new();
    file.take(longest as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

fn open_regular(open: impl FnOnce(OFlags) -> rustix::io::Result<OwnedFd>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(flags)?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not a regular file",
        ))
    }
}
