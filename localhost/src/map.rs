//! The private servers of one user on one node, in a file that all parties share: what port a
//! server asked for, where it really is, whether it is locked. It is a hint for those who look for
//! a server; whose socket is there, is asked of the kernel.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FlockOperation, flock};

/// Nobody has so many servers; beyond it the oldest are forgotten.
const MOST: usize = 1024;
/// Far more than [`MOST`] lines.
const LONGEST_BYTES: u64 = 1 << 20;

/// A private server, or one that is about to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Private {
    /// The personal address that it is on.
    pub ip: Ipv4Addr,
    /// The port that it asked for.
    pub asked: u16,
    /// The port that it has: another one where somebody else had taken the first.
    pub port: u16,
    /// The number of its socket, as fstat(2) and sock_diag(7) tell it. Another number, another
    /// server.
    pub inode: u64,
    /// Whether it takes connections with the user's [`crate::Key`] alone.
    pub is_locked: bool,
    /// When it was bound, in seconds since 1970.
    pub since: u64,
}

impl Private {
    /// One of just now.
    pub(crate) fn now(ip: Ipv4Addr, [asked, port]: [u16; 2], inode: u64, is_locked: bool) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            ip,
            asked,
            port,
            inode,
            is_locked,
            since: since.unwrap_or_default().as_secs(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let parsed = Self {
            ip: words.next()?.parse().ok()?,
            asked: words.next()?.parse().ok()?,
            port: words.next()?.parse().ok()?,
            inode: words.next()?.parse().ok()?,
            is_locked: match words.next()? {
                "locked" => true,
                "open" => false,
                _ => return None,
            },
            since: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(parsed)
    }

    fn write(&self, text: &mut String) {
        let lock = if self.is_locked { "locked" } else { "open" };
        writeln!(
            text,
            "{} {} {} {} {lock} {}",
            self.ip, self.asked, self.port, self.inode, self.since
        )
        .expect("a string takes it");
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct PortMap {
    directory: PathBuf,
}

impl PortMap {
    /// That in `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// When the directory is not this user's alone.
    pub fn open(directory: &Path) -> io::Result<Self> {
        check_private(directory)?;
        Ok(Self {
            directory: std::path::absolute(directory)?,
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All that were bound and not yet forgotten, the newest first. Many are gone.
    ///
    /// # Errors
    /// When the file cannot be read. A missing one is an empty one.
    pub fn all(&self) -> io::Result<Vec<Private>> {
        let mut text = String::new();
        match File::open(self.file()) {
            Ok(file) => file.take(LONGEST_BYTES).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(parse(&text))
    }

    /// Those on `ip` that asked for `port`, the newest first. One of them is there still if the
    /// listener of its address has its inode.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn lookup(&self, ip: Ipv4Addr, port: u16) -> io::Result<Vec<Private>> {
        let mut all = self.all()?;
        all.retain(|it| it.ip == ip && it.asked == port);
        Ok(all)
    }

    /// Adds one. Of the others remain those that `is_there` says are.
    pub(crate) fn insert(
        &self,
        new: Private,
        is_there: impl Fn(&Private) -> bool,
    ) -> io::Result<()> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.directory.join("private.lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let mut all = self.all()?;
        all.retain(|it| it.inode != new.inode && is_there(it));
        all.insert(0, new);
        all.truncate(MOST);
        let mut text = String::new();
        all.iter().for_each(|it| it.write(&mut text));
        // Readers need no lock: they see the old file or the new one. Under the lock one name will do.
        let draft = self.directory.join("private.new");
        write_anew(&draft, text.as_bytes())?;
        fs::rename(&draft, self.file())
    }

    fn file(&self) -> PathBuf {
        self.directory.join("private")
    }
}

/// A line that cannot be read is no server.
fn parse(text: &str) -> Vec<Private> {
    text.lines().filter_map(Private::parse).collect()
}

/// Writes a file that only this user can read, which was not there or was left half made.
pub(crate) fn write_anew(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

/// Makes a directory if it is missing, and checks that it is this user's alone.
pub(crate) fn check_private(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let uid = rustix::process::geteuid().as_raw();
    if found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "`{}` is not a directory of this user's alone",
            path.display()
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, thread};

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(127, 64, 3, 232);

    fn directory() -> TempDir {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    fn server(port: u16, inode: u64) -> Private {
        Private {
            since: 1,
            ..Private::now(OWN, [port, port], inode, true)
        }
    }

    #[test]
    fn the_newest_server_of_a_port_is_found_first() {
        let directory = directory();
        let map = PortMap::open(directory.path()).unwrap();
        assert_eq!(map.all().unwrap(), []);
        for (port, inode) in [(5500, 1), (3000, 2), (5500, 3)] {
            map.insert(server(port, inode), |_| true).unwrap();
        }
        assert_eq!(
            map.lookup(OWN, 5500).unwrap(),
            [server(5500, 3), server(5500, 1)]
        );
        assert_eq!(map.lookup(Ipv4Addr::LOCALHOST, 5500).unwrap(), []);
        map.insert(server(80, 4), |it| it.inode == 3).unwrap();
        assert_eq!(map.all().unwrap(), [server(80, 4), server(5500, 3)]);
        let mode = fs::metadata(map.file()).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn nobody_else_may_enter_where_the_map_is() {
        let directory = directory();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(PortMap::open(directory.path()).is_err());
        let below = directory.path().join("below");
        PortMap::open(&below).unwrap();
        assert_eq!(fs::metadata(below).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn writers_do_not_undo_each_other() {
        let directory = directory();
        let map = PortMap::open(directory.path()).unwrap();
        thread::scope(|scope| {
            for writer in 0..4 {
                let map = &map;
                scope.spawn(move || {
                    for inode in 0..25 {
                        let new = server(1, writer * 25 + inode);
                        map.insert(new, |_| true).unwrap();
                        assert!(!map.all().unwrap().is_empty());
                    }
                });
            }
        });
        assert_eq!(map.all().unwrap().len(), 100);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String, line in "[0-9a-z. ]{0,60}") {
            let _ = parse(&text);
            let _ = Private::parse(&line);
        }

        #[test]
        fn a_line_comes_back(
            ip: Ipv4Addr, asked: u16, port: u16, inode: u64, is_locked: bool, since: u64,
        ) {
            let written = Private { ip, asked, port, inode, is_locked, since };
            let mut text = "torn 1 2\n".to_owned();
            written.write(&mut text);
            prop_assert_eq!(parse(&text), [written]);
        }
    }
}
