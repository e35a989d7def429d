//! The user's own localhost: which socket answers for a target port, and a connection to it.
//!
//! Nothing is sent to a socket before the kernel has said that it belongs to this user. An address
//! is chosen by its owner, never by what a resolver prefers: on a shared node A may hold
//! `127.0.0.1:5500` while B holds `[::1]:5500`.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use private_localhost::Key;
use rustix::io::Errno;
use thiserror::Error;
use tokio::{
    net::UnixStream,
    time::{Instant, timeout},
};

use crate::{
    own::{NotOwn, connect_proved},
    private::Localhost,
    route::{SocketName, TargetPort, To},
    socket::Socket,
};

pub mod owner;
use owner::Owners;

/// Loopback answers at once unless the server's backlog is full; a person waits no longer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long it is remembered whose listener a port is. A connection to an old one that is closed
/// is noticed at once all the same, and each new one is proved.
const CHOICE_HOLDS: Duration = Duration::from_millis(250);

/// Within this time nothing need be asked again before a connection.
const CHOICE_IS_FRESH: Duration = Duration::from_millis(1);

/// What a server is called to a person: a port or a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A port of localhost.
    Port(TargetPort),
    /// A Unix socket, by its name.
    Socket(String),
}

impl From<To<'_>> for Place {
    fn from(to: To<'_>) -> Self {
        match to {
            To::Port(port) => Self::Port(port),
            To::Socket(name) => Self::Socket(name.as_str().to_owned()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Socket(name) => write!(f, "socket {name}"),
        }
    }
}

/// Why there is no connection to a server.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nobody listens there.
    #[error("nothing listens on {0}")]
    NothingListens(Place),
    /// Somebody else listens there.
    #[error("{place} belongs to user `{uid}`")]
    NotYours {
        /// What was asked for.
        place: Place,
        /// The user who holds it.
        uid: u32,
    },
    /// Others could put sockets there, so that none is used.
    #[error("`{0}` is not a directory of this user's alone")]
    OpenDirectory(PathBuf),
    /// The kernel did not say whose it is, so nothing was sent.
    #[error("cannot tell whose {place} is")]
    OwnerUnknown {
        /// What was asked for.
        place: Place,
        /// What the kernel said instead.
        source: io::Error,
    },
    /// The connection failed.
    #[error("cannot connect to {place}")]
    Connect {
        /// What was asked for.
        place: Place,
        /// Why.
        source: io::Error,
    },
    /// This process or machine has no room for another connection.
    #[error("no room for a connection to {place}")]
    Exhausted {
        /// What was asked for.
        place: Place,
        /// What there is too much of.
        source: io::Error,
    },
    /// The server did not accept within the deadline.
    #[error("{0} did not accept a connection in time")]
    Slow(Place),
}

/// One listening socket of this user. It is the key of idle connections: a new listener in the
/// same place is never served by a connection to the old one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// On a port of localhost.
    Port {
        /// The port that its clients know it by.
        port: TargetPort,
        /// The loopback address that it answers on. A private server may have another port there.
        address: SocketAddr,
        /// Its inode in the kernel's table of sockets.
        inode: u64,
        /// Whether it answers to this user's key alone.
        is_locked: bool,
    },
    /// On a Unix socket.
    Socket {
        /// Its file.
        path: Arc<Path>,
        /// The file's device, inode and time of change, which tell it from a later one: the number
        /// of an inode is given out again.
        file: (u64, u64, (i64, i64)),
    },
}

impl Target {
    /// What an HTTP client on this node would send as `Host`.
    pub fn host(&self) -> String {
        match self {
            Self::Port { port, .. } => format!("localhost:{port}"),
            Self::Socket { .. } => "localhost".to_owned(),
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::Port { port, .. } => Place::Port(*port),
            Self::Socket { path, .. } => {
                let name = path.file_name().unwrap_or_default();
                Place::Socket(name.to_string_lossy().into_owned())
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { address, .. } => address.fmt(f),
            Self::Socket { path, .. } => path.display().fmt(f),
        }
    }
}

/// The localhost of one user.
#[derive(Clone, Debug)]
pub struct Loopback(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    owners: Owners,
    uid: u32,
    private: Localhost,
    sockets: Option<PathBuf>,
    chosen: Mutex<HashMap<TargetPort, (Target, Instant)>>,
}

impl Loopback {
    /// That of `uid`, and what is `private` in it; `sockets` is the directory of Unix-socket servers,
    /// if there is one.
    pub fn new(owners: Owners, uid: u32, private: Localhost, sockets: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            owners,
            uid,
            private,
            sockets,
            chosen: Mutex::default(),
        }))
    }

    /// The user's own listener for `to`.
    ///
    /// # Errors
    /// See [`DialError`]; somebody else's listener is told from none.
    pub async fn choose(&self, to: To<'_>) -> Result<Target, DialError> {
        match to {
            To::Port(port) => {
                if let Some((target, until)) = self.chosen().get(&port)
                    && Instant::now() < *until
                {
                    return Ok(target.clone());
                }
                self.choose_anew(port).await
            }
            To::Socket(name) => self.choose_socket(name),
        }
    }

    /// In the private localhost, on 127.0.0.1, on ::1: the first that is this user's own.
    async fn choose_anew(&self, port: TargetPort) -> Result<Target, DialError> {
        let place = Place::Port(port);
        let mut stranger = None;
        let private = self.0.private.places(port.get());
        let private = private.into_iter().map(|it| (it.address, Some(it)));
        let usual: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let usual = usual.map(|ip| (SocketAddr::new(ip, port.get()), None));
        for (address, private) in private.chain(usual) {
            let found = self.0.owners.listener(address).await;
            match found.map_err(|source| DialError::OwnerUnknown {
                place: place.clone(),
                source,
            })? {
                // Looked for in private, and there for everybody: it is dialled as localhost.
                Some(socket) if private.is_some_and(|it| !it.is_of(&socket)) => {}
                Some(socket) if socket.uid == self.0.uid => {
                    let target = Target::Port {
                        port,
                        address,
                        inode: socket.inode,
                        is_locked: private.is_some_and(|it| it.is_locked()),
                    };
                    let until = Instant::now() + CHOICE_HOLDS;
                    let mut chosen = self.chosen();
                    if chosen.len() >= 1024 {
                        chosen.clear();
                    }
                    chosen.insert(port, (target.clone(), until));
                    return Ok(target);
                }
                Some(socket) => stranger = stranger.or(Some(socket.uid)),
                None => {}
            }
        }
        self.chosen().remove(&port);
        Err(match stranger {
            Some(uid) => DialError::NotYours { place, uid },
            None => DialError::NothingListens(place),
        })
    }

    /// A socket of this user's in a directory where nobody else can put one.
    fn choose_socket(&self, name: SocketName<'_>) -> Result<Target, DialError> {
        let place = Place::from(To::Socket(name));
        let Some(directory) = &self.0.sockets else {
            return Err(DialError::NothingListens(place));
        };
        let private = match directory.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DialError::NothingListens(place));
            }
            Err(_) => false,
            Ok(found) => found.is_dir() && found.uid() == self.0.uid && found.mode() & 0o077 == 0,
        };
        if !private {
            return Err(DialError::OpenDirectory(directory.clone()));
        }
        let path = directory.join(name.as_str());
        match path.symlink_metadata() {
            Ok(found) if found.file_type().is_socket() && found.uid() == self.0.uid => {
                Ok(Target::Socket {
                    path: path.into(),
                    file: (
                        found.dev(),
                        found.ino(),
                        (found.ctime(), found.ctime_nsec()),
                    ),
                })
            }
            Ok(found) if found.uid() != self.0.uid => Err(DialError::NotYours {
                place,
                uid: found.uid(),
            }),
            Ok(_) | Err(_) => Err(DialError::NothingListens(place)),
        }
    }

    /// A connection to `target` whose other end is proved to be this user's. Where the listener
    /// is not there any more, to the one that took its place.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, target: &Target) -> Result<(Target, Socket), DialError> {
        let Target::Port { port, .. } = target else {
            return Ok((target.clone(), self.connect(target).await?));
        };
        // Not to disturb a stranger who has taken the port meanwhile: not a byte would get there, but
        // a connection.
        if !self.is_still_mine(target).await {
            let target = self.choose_anew(*port).await?;
            let socket = self.connect(&target).await?;
            return Ok((target, socket));
        }
        let failed = match self.connect(target).await {
            Ok(socket) => return Ok((target.clone(), socket)),
            Err(error) => error,
        };
        if !matches!(
            failed,
            DialError::NothingListens(_)
                | DialError::NotYours { .. }
                | DialError::OwnerUnknown { .. }
        ) {
            return Err(failed);
        }
        let again = self.choose_anew(*port).await?;
        if again == *target {
            return Err(failed);
        }
        let socket = self.connect(&again).await?;
        Ok((again, socket))
    }

    /// Whether the listener of `target` is there, as far as was asked this very moment.
    async fn is_still_mine(&self, target: &Target) -> bool {
        let Target::Port {
            port,
            address,
            inode,
            ..
        } = target
        else {
            return true;
        };
        let chosen = self.chosen().get(port).map(|(_, until)| *until);
        if chosen.is_some_and(|until| until > Instant::now() + CHOICE_HOLDS - CHOICE_IS_FRESH) {
            return true;
        }
        let found = self.0.owners.listener(*address).await;
        matches!(found, Ok(Some(socket)) if socket.uid == self.0.uid && socket.inode == *inode)
    }

    async fn connect(&self, target: &Target) -> Result<Socket, DialError> {
        let connected = timeout(CONNECT_DEADLINE, async {
            match target {
                Target::Port {
                    address, is_locked, ..
                } => self
                    .connect_port(*address, *is_locked)
                    .await
                    .map_err(|error| unconnected(error, target.place())),
                Target::Socket { path, .. } => self.connect_socket(path, target.place()).await,
            }
        });
        connected
            .await
            .unwrap_or_else(|_| Err(DialError::Slow(target.place())))
    }

    async fn connect_port(&self, address: SocketAddr, is_locked: bool) -> Result<Socket, NotOwn> {
        let failed = |source| NotOwn::Tcp { address, source };
        let key = is_locked.then(|| self.0.private.key()).transpose();
        let key: Option<Key> = key.map_err(failed)?;
        let stream = connect_proved(&self.0.owners, address, self.0.uid, key.as_ref()).await?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream.into())
    }

    /// Connects, and asks the kernel who listened (unix(7) `SO_PEERCRED`).
    async fn connect_socket(&self, path: &Path, place: Place) -> Result<Socket, DialError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|error| failure(error, place.clone()))?;
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == self.0.uid => Ok(stream.into()),
            Ok(peer) => Err(DialError::NotYours {
                place,
                uid: peer.uid(),
            }),
            Err(source) => Err(DialError::OwnerUnknown { place, source }),
        }
    }

    fn chosen(&self) -> MutexGuard<'_, HashMap<TargetPort, (Target, Instant)>> {
        self.0.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no connection to a port, to whoever asked for it as `place`.
fn unconnected(error: NotOwn, place: Place) -> DialError {
    match error {
        NotOwn::Nobody(_) => DialError::NothingListens(place),
        NotOwn::Foreign { uid, .. } => DialError::NotYours { place, uid },
        NotOwn::OwnerUnknown { source, .. } => DialError::OwnerUnknown { place, source },
        NotOwn::Tcp { source, .. } | NotOwn::Unix { source, .. } => failure(source, place),
    }
}

fn failure(error: io::Error, place: Place) -> DialError {
    // Behaviour 127: descriptors, memory, ephemeral ports.
    const EXHAUSTED: [Errno; 5] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            DialError::NothingListens(place)
        }
        _ if Errno::from_io_error(&error).is_some_and(|errno| EXHAUSTED.contains(&errno)) => {
            DialError::Exhausted {
                place,
                source: error,
            }
        }
        _ => DialError::Connect {
            place,
            source: error,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

    use private_localhost::{PortMap, personal};
    use tempfile::TempDir;

    use super::*;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn of(owners: Owners, uid: u32) -> Loopback {
        Loopback::new(owners, uid, Localhost::new(uid, None, None), None)
    }

    fn port_of(listener: &TcpListener) -> TargetPort {
        TargetPort::new(listener.local_addr().unwrap().port()).unwrap()
    }

    // Behaviour 122.
    #[tokio::test]
    async fn an_owned_server_is_chosen_and_dialled_wherever_it_listens() {
        for owners in [Owners::probe(), Owners::by_table()] {
            for bound in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
                let listener = TcpListener::bind(bound).unwrap();
                let loopback = of(owners.clone(), me());
                let target = loopback.choose(To::Port(port_of(&listener))).await.unwrap();
                loopback.dial(&target).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_strangers_server_is_refused_and_gets_no_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port_of(&listener);
        let stranger = of(Owners::probe(), me() + 1);
        let refused = stranger.choose(To::Port(port)).await;
        assert!(
            matches!(refused, Err(DialError::NotYours { uid, .. }) if uid == me()),
            "{refused:?}"
        );

        // Also where it took the port between the choice and the connection.
        let target = Target::Port {
            port,
            address: listener.local_addr().unwrap(),
            inode: 1,
            is_locked: false,
        };
        let refused = stranger.dial(&target).await;
        assert!(
            matches!(refused, Err(DialError::NotYours { .. })),
            "{refused:?}"
        );
        listener.set_nonblocking(true).unwrap();
        let untouched = listener.accept().unwrap_err();
        assert_eq!(untouched.kind(), io::ErrorKind::WouldBlock);

        // Even at the very last moment.
        listener.set_nonblocking(false).unwrap();
        let refused = stranger.connect(&target).await;
        assert!(
            matches!(refused, Err(DialError::NotYours { .. })),
            "{refused:?}"
        );
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(io::Read::read(&mut accepted, &mut [0; 16]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_port_without_a_server_is_told_from_a_strangers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port_of(&listener);
        drop(listener);
        let refused = of(Owners::probe(), me()).choose(To::Port(port)).await;
        assert!(
            matches!(refused, Err(DialError::NothingListens(_))),
            "{refused:?}"
        );
    }

    // Behaviour 91: the time is virtual, the full backlog is real.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_accept_is_given_up() {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

        let server = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&server, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        listen(&server, 0).unwrap();
        let address = SocketAddr::try_from(getsockname(&server).unwrap()).unwrap();
        let _queued = std::net::TcpStream::connect(address).unwrap();

        let port = TargetPort::new(address.port()).unwrap();
        let loopback = of(Owners::probe(), me());
        let target = loopback.choose(To::Port(port)).await.unwrap();
        let refused = loopback.dial(&target).await;
        assert!(matches!(refused, Err(DialError::Slow(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_new_listener_on_the_same_port_is_another_target() {
        let loopback = of(Owners::probe(), me());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, address) = (port_of(&listener), listener.local_addr().unwrap());
        let before = loopback.choose(To::Port(port)).await.unwrap();
        drop(listener);
        let _listener = TcpListener::bind(address).unwrap();
        // Within a millisecond the old choice still holds; whoever dials reaches the new listener.
        let (dialled, _) = loopback.dial(&before).await.unwrap();
        tokio::time::sleep(CHOICE_HOLDS).await;
        let after = loopback.choose(To::Port(port)).await.unwrap();
        assert_ne!(before, after);
        assert!(dialled == before || dialled == after, "{dialled}");
    }

    // Behaviour 122.
    #[tokio::test]
    async fn a_server_on_the_users_own_address_goes_first() {
        let [own, twin] = personal(me(), None);
        let loopback = of(Owners::probe(), me());
        let listener = TcpListener::bind((own, 0)).unwrap();
        let port = port_of(&listener);
        let _usual = TcpListener::bind((Ipv4Addr::LOCALHOST, port.get())).unwrap();
        let (target, _) = loopback
            .dial(&loopback.choose(To::Port(port)).await.unwrap())
            .await
            .unwrap();
        assert_eq!(target.to_string(), format!("{own}:{port}"));
        let twin = TcpListener::bind((twin, 0)).unwrap();
        assert!(loopback.choose(To::Port(port_of(&twin))).await.is_ok());
    }

    /// A private localhost in which `listener` is written down as having asked for `asked`.
    fn written(directory: &TempDir, listener: &TcpListener, asked: u16, lock: &str) -> Localhost {
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(directory.path(), mode).unwrap();
        let address = listener.local_addr().unwrap();
        let found = Owners::probe().listener_now(address).unwrap().unwrap();
        let (ip, port, inode) = (address.ip(), address.port(), found.inode);
        let line = format!("{ip} {asked} {port} {inode} {lock} 1\n");
        fs::write(directory.path().join("private"), line).unwrap();
        let map = PortMap::open(directory.path()).unwrap();
        Localhost::new(me(), Some("7"), Some(map))
    }

    #[tokio::test]
    async fn a_private_server_is_found_by_the_port_that_it_asked_for_and_by_its_own() {
        let directory = TempDir::new().unwrap();
        for [own, twin] in [personal(me(), None), personal(me(), Some("7"))] {
            for ip in [own, twin] {
                let listener = TcpListener::bind((ip, 0)).unwrap();
                // Somebody's; but the one that is written down goes first.
                let usual = TcpListener::bind("127.0.0.1:0").unwrap();
                let private = written(&directory, &listener, port_of(&usual).get(), "open");
                let loopback = Loopback::new(Owners::probe(), me(), private, None);
                for port in [port_of(&usual), port_of(&listener)] {
                    let target = loopback.choose(To::Port(port)).await.unwrap();
                    let address = listener.local_addr().unwrap();
                    assert_eq!(target.to_string(), address.to_string());
                    assert_eq!(target.host(), format!("localhost:{port}"));
                    loopback.dial(&target).await.unwrap();
                }
            }
        }
    }

    #[tokio::test]
    async fn another_socket_in_the_place_of_a_private_server_is_not_it() {
        let directory = TempDir::new().unwrap();
        let [own, _] = personal(me(), None);
        let [elsewhere, _] = personal(me(), Some("8"));
        let asked = TcpListener::bind("127.0.0.1:0").map(|it| port_of(&it));
        let asked = asked.unwrap();
        let listener = TcpListener::bind((own, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let private = written(&directory, &listener, asked.get(), "open");
        drop(listener);
        let _later = TcpListener::bind(address).unwrap();
        let loopback = Loopback::new(Owners::probe(), me(), private, None);
        let refused = loopback.choose(To::Port(asked)).await;
        assert!(
            matches!(refused, Err(DialError::NothingListens(_))),
            "{refused:?}"
        );
        // Nor is one of another session.
        let listener = TcpListener::bind((elsewhere, 0)).unwrap();
        let private = written(&directory, &listener, asked.get(), "open");
        let loopback = Loopback::new(Owners::probe(), me(), private, None);
        assert!(loopback.choose(To::Port(asked)).await.is_err());
    }

    #[tokio::test]
    async fn a_locked_server_is_shown_the_key() {
        if let Err(error) = private_localhost::try_lock() {
            println!("needs: TCP-MD5 ({error})");
            return;
        }
        let directory = TempDir::new().unwrap();
        let [own, _] = personal(me(), None);
        let listener = TcpListener::bind((own, 0)).unwrap();
        let private = written(&directory, &listener, 5500, "locked");
        private.key().unwrap().guard(&listener).unwrap();
        let port = TargetPort::new(5500).unwrap();
        let loopback = Loopback::new(Owners::probe(), me(), private, None);
        let target = loopback.choose(To::Port(port)).await.unwrap();
        loopback.dial(&target).await.unwrap();

        let Target::Port { address, .. } = target else {
            unreachable!("a port was asked for");
        };
        let wait = Duration::from_millis(50);
        let keyless = std::net::TcpStream::connect_timeout(&address, wait);
        assert_eq!(keyless.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    // Behaviour 125.
    #[tokio::test]
    async fn a_socket_is_used_where_nobody_else_can_put_one() {
        let directory = TempDir::new().unwrap();
        let mode = |mode| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(directory.path(), mode).unwrap();
        };
        let loopback = Loopback::new(
            Owners::probe(),
            me(),
            Localhost::new(me(), None, None),
            Some(directory.path().into()),
        );
        let to = To::Socket(SocketName::new("app").unwrap());
        mode(0o700);
        let missing = loopback.choose(to).await;
        assert!(
            matches!(missing, Err(DialError::NothingListens(_))),
            "{missing:?}"
        );
        let listener = std::os::unix::net::UnixListener::bind(directory.path().join("app"));
        let target = loopback.choose(to).await.unwrap();
        loopback.dial(&target).await.unwrap();
        // A later one is another, whatever number its inode gets.
        drop(listener);
        fs::remove_file(directory.path().join("app")).unwrap();
        let later = std::os::unix::net::UnixListener::bind(directory.path().join("app"));
        assert_ne!(loopback.choose(to).await.unwrap(), target);
        drop(later);
        let dead = loopback.dial(&target).await;
        assert!(
            matches!(dead, Err(DialError::NothingListens(_))),
            "{dead:?}"
        );
        mode(0o755);
        let open = loopback.choose(to).await;
        assert!(matches!(open, Err(DialError::OpenDirectory(_))), "{open:?}");
    }
}
