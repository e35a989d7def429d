//! Those who ask for the port through the proxy, and judge what they get.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::time::timeout;

use super::{FOREIGN, OWN};
use crate::{
    client::{Connection, Unanswered},
    http::keep,
    route::Route,
};

/// No answer here takes long.
const DEADLINE: Duration = Duration::from_secs(10);

/// How a client asks; several of each kind at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    KeepAlive,
    NewConnection,
    WebSocket,
}

/// What the clients saw, all together.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) faults: Vec<String>,
}

/// All clients, and how much they have still to ask.
pub(super) struct Clients {
    route: Route,
    left: AtomicU64,
    seen: Mutex<Seen>,
}

impl Clients {
    /// Who will ask `requests` times in all.
    pub(super) fn new(route: Route, requests: u64) -> Self {
        Self {
            route,
            left: AtomicU64::new(requests),
            seen: Mutex::default(),
        }
    }

    /// What they have seen since this was last asked.
    pub(super) fn seen(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks until enough was asked, by all together.
    pub(super) async fn ask(&self, number: usize, way: Way) {
        let mut kept = None;
        let take = |left: u64| left.checked_sub(1);
        while let Ok(left) = self.left.fetch_update(Relaxed, Relaxed, take) {
            let path = format!("/{number}/{left}");
            let asked = async {
                match way {
                    Way::WebSocket => self.speak(&path).await,
                    Way::NewConnection => self.get(&mut None, &path).await,
                    Way::KeepAlive => self.get(&mut kept, &path).await,
                }
            };
            let saw = match timeout(DEADLINE, asked).await {
                Ok(Ok(saw)) => Ok(saw),
                Ok(Err(error)) => Err(format!("{way:?} {path}: {error:#}")),
                Err(_) => Err(format!("{way:?} {path}: no answer in {DEADLINE:?}")),
            };
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match saw {
                Ok(saw) => *seen.counts.entry(saw).or_default() += 1,
                Err(fault) if seen.faults.len() < 20 => seen.faults.push(fault),
                Err(_) => {}
            }
        }
    }

    /// One request, on a connection that was kept if there is one.
    async fn get(&self, kept: &mut Option<Connection>, path: &str) -> Result<String> {
        let (mut connection, reused) = match kept.take() {
            Some(connection) => (connection, true),
            None => (Connection::open(&self.route, 4096).await?, false),
        };
        let mut body = Vec::new();
        let answered = connection.get(path, keep(&mut body));
        let status = match answered.await {
            Ok(status) => status,
            // As when a server closes an idle connection just as it is used again.
            Err(error) if reused && error.is::<Unanswered>() => {
                return Ok("closed while kept".to_owned());
            }
            Err(error) => return Err(error),
        };
        judge(status, connection.head(), &body, path)?;
        *kept = (!connection.closes()).then_some(connection);
        Ok(format!("answered {status}"))
    }

    /// One WebSocket with one message.
    async fn speak(&self, path: &str) -> Result<String> {
        let mut body = Vec::new();
        let connection = Connection::open(&self.route, 4096).await?;
        let switched = connection.upgrade(path, keep(&mut body));
        let mut socket = match switched.await? {
            Ok(socket) => socket,
            Err(status) => {
                judge(status, b"", &body, path)?;
                return Ok(format!("answered {status}"));
            }
        };
        let (mut back, cut) = (Vec::new(), Ok("switched, then cut".to_owned()));
        if socket.send(path.as_bytes()).await.is_err() {
            return cut;
        }
        match socket.receive(&mut back).await {
            Ok(true) => ensure!(back == path.as_bytes(), "an echo of other bytes: {back:?}"),
            Ok(false) | Err(_) => return cut,
        }
        Ok("switched".to_owned())
    }
}

/// An answer is the user's server's, or the proxy's own.
fn judge(status: u16, head: &[u8], body: &[u8], path: &str) -> Result<()> {
    let (head, body) = (String::from_utf8_lossy(head), String::from_utf8_lossy(body));
    ensure!(
        !head.contains(FOREIGN) && !body.contains(FOREIGN),
        "the stranger's answer: {body}"
    );
    match status {
        200 => ensure!(body == format!("{OWN} {path}"), "other content: {body}"),
        403 | 502 | 504 => {}
        _ => ensure!(false, "answered {status}: {body}"),
    }
    Ok(())
}
