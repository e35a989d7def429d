//! The user's own listening servers: which ports, which processes, what they call themselves, and
//! whether they belong to this session or to something else of the same user on the node.
//!
//! A view for people; what may be forwarded to is decided by [`crate::upstream`] alone.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use private_localhost::Private;
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    private::Localhost,
    upstream::owner::{Owners, Socket},
};

mod events;
mod holder;
mod page;
mod title;

pub use events::{CONTENT_TYPE as EVENTS_CONTENT_TYPE, events, feed};
use holder::Known;
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
    /// Its port, as its clients know it: that which a private server asked for.
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
    /// Whether it is in a private localhost: `hpc-proxy exec` started it.
    #[serde(default)]
    pub private: bool,
    /// Whether other users of the node cannot even connect to it.
    #[serde(default)]
    pub locked: bool,
}

/// `servers` as programs read them: `{"ports":[{"port":..}]}`, the fields in their order.
pub fn json(servers: &[Listening]) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        ports: &'a [Listening],
    }
    serde_json::to_string(&List { ports: servers }).expect("plain fields")
}

/// A listening socket, and what it is in a private localhost if it is in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    socket: Socket,
    private: Option<Private>,
}

impl Found {
    /// What its clients know it by.
    fn port(&self) -> u16 {
        let asked = self.private.map(|private| private.asked);
        asked.unwrap_or(self.socket.address.port())
    }

    fn key(&self) -> (u16, u64) {
        (self.port(), self.socket.inode)
    }
}

/// The listening servers of one user on this node.
#[derive(Debug)]
pub struct Servers {
    owners: Owners,
    uid: u32,
    private: Localhost,
    /// Of proxies, which are not listed.
    own_ports: Vec<u16>,
    job: Option<String>,
    asks_titles: bool,
    /// What was last seen of each listener: its port and its inode.
    seen: Mutex<HashMap<(u16, u64), (Instant, Seen)>>,
    known: Arc<Mutex<Known>>,
}

impl Servers {
    /// Those of `uid`, also those that are `private`, on other ports than `own_ports`; `job` is the
    /// Slurm job that the session is.
    pub fn new(
        owners: Owners,
        uid: u32,
        private: Localhost,
        own_ports: Vec<u16>,
        job: Option<String>,
    ) -> Self {
        Self {
            owners,
            uid,
            private,
            own_ports,
            job,
            asks_titles: false,
            seen: Mutex::default(),
            known: Arc::default(),
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
        let found = self.listeners().await?;
        let servers = self.describe(&found).await?;
        Ok(self.titled(&found, servers))
    }

    /// As [`Self::list`], after asking those servers of the session for their titles that were not
    /// asked lately.
    ///
    /// # Errors
    /// When the kernel does not list sockets.
    pub async fn list_with_titles(&self) -> io::Result<Vec<Listening>> {
        let found = self.listeners().await?;
        let servers = self.describe(&found).await?;
        if self.asks_titles {
            let here = found.iter().zip(&servers);
            let here: Vec<Found> = here
                .filter(|(found, server)| server.in_session && found.port() >= FIRST_ASKED_PORT)
                .map(|(found, _)| *found)
                .collect();
            self.ask(&here).await;
        }
        Ok(self.titled(&found, servers))
    }

    /// The sockets behind [`Self::list`]: cheap to ask for, and the same while nothing changes.
    async fn listeners(&self) -> io::Result<Vec<Found>> {
        let mut sockets = self.owners.listeners().await?;
        sockets.retain(|socket| {
            socket.uid == self.uid && !self.own_ports.contains(&socket.address.port())
        });
        let known = self.private.known();
        let mut found: Vec<Found> = sockets
            .into_iter()
            .map(|socket| {
                let is_it = |it: &&Private| {
                    it.inode == socket.inode && socket.address == (it.ip, it.port).into()
                };
                let private = known.iter().find(is_it).copied();
                Found { socket, private }
            })
            // Nobody reaches those of another session by their port.
            .filter(|found| found.private.is_none_or(|it| self.private.includes(&it)))
            .collect();
        // Of two servers the private one answers.
        found.sort_by_key(|it| (it.port(), it.private.is_none(), it.socket.address.ip()));
        found.dedup_by_key(|it| it.port());
        Ok(found)
    }

    /// One server for each socket, still without its title.
    async fn describe(&self, found: &[Found]) -> io::Result<Vec<Listening>> {
        let (found, job) = (found.to_owned(), self.job.clone());
        let known = Arc::clone(&self.known);
        let described = tokio::task::spawn_blocking(move || {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.describe(&found, job.as_deref())
        });
        described.await.map_err(io::Error::other)
    }

    fn titled(&self, found: &[Found], mut servers: Vec<Listening>) -> Vec<Listening> {
        let seen = self.seen();
        for (found, server) in found.iter().zip(&mut servers) {
            if let Some((_, Seen::Page(title))) = seen.get(&found.key()) {
                server.title.clone_from(title);
            }
        }
        servers
    }

    /// Asks each server for its title that was not asked lately, all at once.
    async fn ask(&self, servers: &[Found]) {
        let due: Vec<Found> = {
            let mut seen = self.seen();
            seen.retain(|listener, _| servers.iter().any(|it| it.key() == *listener));
            let is_due = |it: &&Found| {
                let last = seen.get(&it.key());
                last.is_none_or(|(at, seen)| has_expired(*at, seen))
            };
            servers
                .iter()
                .filter(is_due)
                .take(MOST_TITLES)
                .copied()
                .collect()
        };
        let mut asked = JoinSet::new();
        for found in due {
            let (owners, uid) = (self.owners.clone(), self.uid);
            let address = reachable(found.socket.address);
            let is_locked = found.private.is_some_and(|it| it.is_locked);
            // Without a key there is no answer, and no title.
            let key = is_locked.then(|| self.private.key().ok()).flatten();
            asked.spawn(async move {
                let seen = title::ask(&owners, address, uid, key.as_ref(), found.port()).await;
                (found.key(), seen)
            });
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

#[cfg(test)]
impl Listening {
    pub(crate) fn example(port: u16) -> Self {
        Self {
            port,
            address: "127.0.0.1".into(),
            private: false,
            locked: false,
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
        let private = Localhost::new(uid, job.as_deref(), None);
        let servers = Servers::new(Owners::probe(), uid, private, own_ports, job);
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
