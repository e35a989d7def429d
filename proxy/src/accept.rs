//! Clients' connections: accepted, bounded in number, and drained on request. What is answered is
//! somebody else's business.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::net::{listen, sockopt};
use tokio::{
    net::{TcpListener, UnixListener},
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    connection::{self, Shared},
    metrics::Metrics,
    pipe::Pipes,
    pool::Pool,
    service::{Peer, Service},
    socket::Socket,
};

/// Out of descriptors: time for some connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that wait to be accepted, as far as the kernel lets (`net.core.somaxconn`): beyond,
/// a client hears nothing for a second.
const BACKLOG: i32 = 4096;
/// Clients that have not shown yet that they may be here. Each may send a head of some 80 KiB.
const MOST_STRANGERS: usize = 1024;
/// A peer that vanished without a word is found out after this time of silence.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Where clients connect.
#[derive(Debug)]
pub enum Listener {
    /// From anywhere that reaches the address.
    Tcp(TcpListener),
    /// From this machine, as far as the directory lets them.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl Listener {
    /// Makes room for bursts, and sets what every connection inherits: small frames that do not wait
    /// for each other, and the search for peers that vanished.
    fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listen(listener, BACKLOG)?,
            Self::Unix(listener) => listen(listener, BACKLOG)?,
        }
        if let Self::Tcp(listener) = self {
            sockopt::set_tcp_nodelay(listener, true)?;
            sockopt::set_socket_keepalive(listener, true)?;
            sockopt::set_tcp_keepidle(listener, KEEPALIVE_IDLE)?;
        }
        Ok(())
    }

    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((stream.into(), Peer::Ip(address.ip().to_canonical())))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok((stream.into(), Peer::Local { uid }))
            }
        }
    }
}

/// How a proxy serves.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Connections at once, without upgraded ones.
    pub max_connections: usize,
    /// How long what is under way may go on after a stop.
    pub grace: Duration,
}

/// Serves `listeners` with `service` until `stop`, then closes them, ends idle connections at
/// once, and gives requests and pipes under way their grace.
pub async fn serve<S: Service>(
    listeners: Vec<Listener>,
    service: S,
    metrics: Arc<Metrics>,
    terms: &Terms,
    stop: CancellationToken,
) {
    let pipes = Pipes::default();
    let shared = Arc::new(Shared {
        service,
        pool: Pool::default(),
        pipes: pipes.clone(),
        metrics,
        stop: stop.clone(),
    });
    let (tasks, doors) = (
        TaskTracker::new(),
        Arc::new(Doors::new(terms.max_connections)),
    );
    let accepting = TaskTracker::new();
    for listener in listeners {
        if let Err(error) = listener.prepare() {
            tracing::warn!(%error, "a listening socket does not take its options");
        }
        let (shared, tasks, doors) = (Arc::clone(&shared), tasks.clone(), Arc::clone(&doors));
        accepting.spawn(accept_all(listener, shared, tasks, doors));
    }
    accepting.close();
    stop.cancelled().await;
    let end = Instant::now() + terms.grace;
    accepting.wait().await;
    tasks.close();
    // Whether it timed out is told by the number of those left.
    let _ = timeout_at(end, tasks.wait()).await;
    let requests = tasks.len();
    // Last, since a connection that just ended may have become a pipe.
    let pipes = pipes
        .drain(end.saturating_duration_since(Instant::now()))
        .await;
    if requests > 0 || pipes > 0 {
        tracing::warn!(
            requests,
            pipes,
            "cut what did not end within the grace period"
        );
    }
}

/// Serves a single connection, and the pipe that it may become, to their ends.
pub async fn serve_one<S: Service>(socket: Socket, peer: Peer, service: S, metrics: Arc<Metrics>) {
    let Some(admission) = Arc::new(Doors::new(1)).enter(&metrics) else {
        return;
    };
    let pipes = Pipes::default();
    let shared = Arc::new(Shared {
        service,
        pool: Pool::default(),
        pipes: pipes.clone(),
        metrics,
        stop: CancellationToken::new(),
    });
    connection::serve(shared, socket, peer, admission).await;
    pipes.drain(Duration::MAX).await;
}

async fn accept_all<S: Service>(
    listener: Listener,
    shared: Arc<Shared<S>>,
    tasks: TaskTracker,
    doors: Arc<Doors>,
) {
    let stop = shared.stop.clone();
    loop {
        let (socket, peer) = match stop.run_until_cancelled(listener.accept()).await {
            None => return,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                if stop
                    .run_until_cancelled(sleep(ACCEPT_PAUSE))
                    .await
                    .is_none()
                {
                    return;
                }
                continue;
            }
        };
        let Some(admission) = doors.enter(&shared.metrics) else {
            shared.metrics.turned_away();
            tracing::debug!(%peer, "turned away: too many connections");
            // As far as it goes at once: there is no room to wait for it.
            let _ = socket.try_write(&connection::full_house());
            continue;
        };
        let number = admission.number;
        let shared = Arc::clone(&shared);
        let task = tasks.spawn(connection::serve(shared, socket, peer, admission));
        doors.may_evict(number, task.abort_handle());
    }
}

/// Keeps the number of connections within bounds. When there are too many, the oldest client that
/// has not shown yet that it may be here makes room for the next (S22).
#[derive(Debug)]
struct Doors {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    count: usize,
    next: u64,
    /// Those that are not admitted yet, by age.
    strangers: BTreeMap<u64, Option<AbortHandle>>,
}

impl Doors {
    fn new(most: usize) -> Self {
        Self {
            most,
            inside: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Self>, metrics: &Arc<Metrics>) -> Option<Admission> {
        let mut inside = self.lock();
        if inside.count >= self.most || inside.strangers.len() >= MOST_STRANGERS {
            let (_, oldest) = inside.strangers.pop_first()?;
            if let Some(task) = oldest {
                metrics.turned_away();
                task.abort();
            }
        }
        inside.count += 1;
        let number = inside.next;
        inside.next += 1;
        inside.strangers.insert(number, None);
        metrics.connection_opened();
        Some(Admission {
            number,
            doors: Arc::clone(self),
            metrics: Arc::clone(metrics),
            admitted: false,
        })
    }

    fn may_evict(&self, number: u64, task: AbortHandle) {
        if let Some(stranger) = self.lock().strangers.get_mut(&number) {
            *stranger = Some(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct Admission {
    number: u64,
    doors: Arc<Doors>,
    metrics: Arc<Metrics>,
    admitted: bool,
}

impl Admission {
    /// Whether the client has shown that it may be here.
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// The client has shown that it may be here.
    pub(crate) fn admit(&mut self) {
        if !self.admitted {
            self.admitted = true;
            self.doors.lock().strangers.remove(&self.number);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.metrics.connection_closed();
        let mut inside = self.doors.lock();
        inside.count -= 1;
        inside.strangers.remove(&self.number);
    }
}
