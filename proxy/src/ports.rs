//! The user's own listening servers: which ports, which processes, what they call themselves, and
//! whether they belong to this session or to something else of the same user on the node.
//!
//! A view for people; what may be forwarded to is decided by [`crate::upstream`] alone.

use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    text::is_unprintable,
    upstream::owner::{Owners, Socket},
};

mod events;
mod page;
mod title;

pub use events::{CONTENT_TYPE as EVENTS_CONTENT_TYPE, events, feed};
pub use page::{POLICY, SCRIPT, html, index, rows_html, script};
use title::Seen;

/// How long a title is believed: dev servers log each request for their page, and a title that
/// changes is no news.
const TITLE_VALID_FOR: Duration = Duration::from_secs(30);
/// A server that did not answer may still be starting.
const SILENCE_VALID_FOR: Duration = Duration::from_secs(5);
/// Whatever does not speak HTTP will not learn it.
const NOT_HTTP_VALID_FOR: Duration = Duration::from_secs(600);
/// Servers that are asked for their titles at once. Nobody reads a longer list.
const MOST_TITLES: usize = 64;
/// Below are services of the node, also those of root where root has dev servers.
const FIRST_ASKED_PORT: u16 = 1024;

/// A listening server of this user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Its port.
    pub port: u16,
    /// The address that it listens on.
    pub address: String,
    /// The name of its process, where that can be told.
    pub process: Option<String>,
    /// Its process, where that can be told.
    pub pid: Option<u32>,
    /// The title of its page, where it has one.
    #[serde(default)]
    pub title: Option<String>,
    /// Where the proxy serves it: `/port/N/`.
    #[serde(default)]
    pub link: String,
    /// Whether it runs in the same Slurm job as the proxy; without a job, always.
    pub in_session: bool,
}

/// `servers` as programs read them: `{"ports":[{"port":..}]}`, the fields in their order.
pub fn json(servers: &[Listening]) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        ports: &'a [Listening],
    }
    serde_json::to_string(&List { ports: servers }).expect("plain fields")
}

/// The listening servers of one user on this node.
#[derive(Debug)]
pub struct Servers {
    owners: Owners,
    uid: u32,
    /// Of proxies, which are not listed.
    own_ports: Vec<u16>,
    job: Option<String>,
    asks_titles: bool,
    /// What was last seen of each listener: its port and its inode.
    seen: Mutex<HashMap<(u16, u64), (Instant, Seen)>>,
}

impl Servers {
    /// Those of `uid` on other ports than `own_ports`; `job` is the Slurm job that the session is.
    pub fn new(owners: Owners, uid: u32, own_ports: Vec<u16>, job: Option<String>) -> Self {
        Self {
            owners,
            uid,
            own_ports,
            job,
            asks_titles: false,
            seen: Mutex::default(),
        }
    }

    /// The same, if `asks` with [`Self::list_with_titles`] asking for them. A server is asked with
    /// a request of its own, which some are not made for: a debugger's stub that takes one
    /// connection, say.
    #[must_use]
    pub fn asking_titles(self, asks: bool) -> Self {
        Self {
            asks_titles: asks,
            ..self
        }
    }

    /// All of them, each port once, by number, with those titles that are known already.
    ///
    /// # Errors
    /// When the kernel does not list sockets.
    pub async fn list(&self) -> io::Result<Vec<Listening>> {
        let sockets = self.listeners().await?;
        let servers = self.describe(&sockets).await?;
        Ok(self.titled(&sockets, servers))
    }

    /// As [`Self::list`], after asking those servers of the session for their titles that were not
    /// asked lately.
    ///
    /// # Errors
    /// When the kernel does not list sockets.
    pub async fn list_with_titles(&self) -> io::Result<Vec<Listening>> {
        let sockets = self.listeners().await?;
        let servers = self.describe(&sockets).await?;
        if self.asks_titles {
            let here = sockets.iter().zip(&servers);
            let here: Vec<Socket> = here
                .filter(|(socket, server)| {
                    server.in_session && socket.address.port() >= FIRST_ASKED_PORT
                })
                .map(|(socket, _)| *socket)
                .collect();
            self.ask(&here).await;
        }
        Ok(self.titled(&sockets, servers))
    }

    /// The sockets behind [`Self::list`]: cheap to ask for, and the same while nothing changes.
    async fn listeners(&self) -> io::Result<Vec<Socket>> {
        let mut sockets = self.owners.listeners().await?;
        sockets.retain(|socket| {
            socket.uid == self.uid && !self.own_ports.contains(&socket.address.port())
        });
        sockets.sort_by_key(|socket| (socket.address.port(), socket.address.ip()));
        sockets.dedup_by_key(|socket| socket.address.port());
        Ok(sockets)
    }

    /// One server for each socket, still without its title.
    async fn describe(&self, sockets: &[Socket]) -> io::Result<Vec<Listening>> {
        let (sockets, job) = (sockets.to_owned(), self.job.clone());
        let described = tokio::task::spawn_blocking(move || {
            let holders = holders(&sockets);
            let describe =
                |socket: &Socket| describe(socket, holders.get(&socket.inode), job.as_deref());
            sockets.iter().map(describe).collect()
        });
        described.await.map_err(io::Error::other)
    }

    fn titled(&self, sockets: &[Socket], mut servers: Vec<Listening>) -> Vec<Listening> {
        let seen = self.seen();
        for (socket, server) in sockets.iter().zip(&mut servers) {
            if let Some((_, Seen::Page(title))) = seen.get(&key(socket)) {
                server.title.clone_from(title);
            }
        }
        servers
    }

    /// Asks each of `sockets` for its title that was not asked lately, all at once.
    async fn ask(&self, sockets: &[Socket]) {
        let due: Vec<Socket> = {
            let mut seen = self.seen();
            seen.retain(|listener, _| sockets.iter().any(|socket| key(socket) == *listener));
            let is_due = |socket: &&Socket| {
                let last = seen.get(&key(socket));
                last.is_none_or(|(at, seen)| has_expired(*at, seen))
            };
            sockets
                .iter()
                .filter(is_due)
                .take(MOST_TITLES)
                .copied()
                .collect()
        };
        let mut asked = JoinSet::new();
        for socket in due {
            let (owners, uid) = (self.owners.clone(), self.uid);
            let address = reachable(socket.address);
            asked.spawn(async move { (key(&socket), title::ask(&owners, address, uid).await) });
        }
        for (listener, found) in asked.join_all().await {
            self.seen().insert(listener, (Instant::now(), found));
        }
    }

    /// Whether a server is to be asked again for its title.
    fn a_title_is_due(&self) -> bool {
        self.seen()
            .values()
            .any(|(at, seen)| has_expired(*at, seen))
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<(u16, u64), (Instant, Seen)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(socket: &Socket) -> (u16, u64) {
    (socket.address.port(), socket.inode)
}

fn has_expired(at: Instant, seen: &Seen) -> bool {
    at.elapsed()
        >= match seen {
            Seen::Page(_) => TITLE_VALID_FOR,
            Seen::Silence => SILENCE_VALID_FOR,
            Seen::NotHttp => NOT_HTTP_VALID_FOR,
        }
}

/// Where this node reaches a listener at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn describe(socket: &Socket, pid: Option<&u32>, job: Option<&str>) -> Listening {
    let process = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    let in_session = match (job, pid) {
        (None, _) => true,
        (Some(job), Some(pid)) => job_of(*pid).as_deref() == Some(job),
        (Some(_), None) => false,
    };
    Listening {
        port: socket.address.port(),
        address: socket.address.ip().to_string(),
        process: process.map(|name| name.chars().filter(|c| !is_unprintable(*c)).collect()),
        pid: pid.copied(),
        title: None,
        link: format!("/port/{}/", socket.address.port()),
        in_session,
    }
}

/// The Slurm job of a process: from its environment, as Slurm set it for the batch script.
fn job_of(pid: u32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let job = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"SLURM_JOB_ID="))?;
    String::from_utf8(job.to_vec()).ok()
}

/// Which process holds each of `sockets`: proc_pid_fd(5) of those processes that we may look into.
fn holders(sockets: &[Socket]) -> HashMap<u64, u32> {
    let mut holders: HashMap<u64, u32> = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        for inode in socket_inodes(&process.path().join("fd")) {
            if sockets.iter().any(|socket| socket.inode == inode) {
                // Of a parent and a forked child the older, smaller number is the server's own.
                let holder = holders.entry(inode).or_insert(pid);
                *holder = pid.min(*holder);
            }
        }
    }
    holders
}

fn socket_inodes(descriptors: &Path) -> impl Iterator<Item = u64> {
    fs::read_dir(descriptors)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|descriptor| {
            let target = fs::read_link(descriptor.path()).ok()?;
            target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        })
}

#[cfg(test)]
impl Listening {
    pub(crate) fn example(port: u16) -> Self {
        Self {
            port,
            address: "127.0.0.1".into(),
            process: Some("node".into()),
            pid: Some(1),
            title: None,
            link: format!("/port/{port}/"),
            in_session: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    async fn list(uid: u32, own_ports: Vec<u16>, job: Option<String>) -> Vec<Listening> {
        let servers = Servers::new(Owners::probe(), uid, own_ports, job);
        servers.list().await.unwrap()
    }

    #[tokio::test]
    async fn lists_what_this_user_serves_and_not_the_proxy() {
        let uid = rustix::process::geteuid().as_raw();
        let (one, two) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("[::1]:0").unwrap(),
        );
        let [one, two] = [&one, &two].map(|listener| listener.local_addr().unwrap());
        let listed = list(uid, vec![two.port()], None).await;
        let found = listed
            .iter()
            .find(|server| server.port == one.port())
            .unwrap();
        assert_eq!(found.pid, Some(std::process::id()));
        assert_eq!(found.address, "127.0.0.1");
        assert!(found.in_session);
        assert!(!listed.iter().any(|server| server.port == two.port()));

        let strangers = list(uid + 1, Vec::new(), None).await;
        assert!(!strangers.iter().any(|server| server.port == one.port()));
    }

    #[tokio::test]
    async fn a_server_outside_the_job_is_marked() {
        let uid = rustix::process::geteuid().as_raw();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let listed = list(uid, Vec::new(), Some("no such job".into())).await;
        assert!(
            !listed
                .iter()
                .find(|server| server.port == port)
                .unwrap()
                .in_session
        );
    }
}
