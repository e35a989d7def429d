//! The login node's SSH server as a daemon: up, or down with all its connections, on one address.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::place::Places;
use super::server;

/// How many clients may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The daemon.
pub(super) struct Sshd {
    address: SocketAddr,
    /// Bound and never listening: it refuses while the daemon is down, and keeps the port from others.
    _reserved: TcpSocket,
    runtime: Handle,
    places: Arc<Places>,
    tasks: TaskTracker,
    /// Ends the daemon that is up.
    running: Option<CancellationToken>,
}

impl Sshd {
    /// One on a free port of 127.0.0.1, down.
    pub(super) fn new(places: Places, runtime: Handle) -> anyhow::Result<Self> {
        let _guard = runtime.enter();
        let reserved = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr().context("cannot find the port")?;
        Ok(Self {
            address,
            _reserved: reserved,
            runtime: runtime.clone(),
            places: Arc::new(places),
            tasks: TaskTracker::new(),
            running: None,
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sees to it that it is up, or down.
    pub(super) fn set(&mut self, up: bool) -> anyhow::Result<()> {
        match (up, &self.running) {
            (true, None) => {
                let stop = CancellationToken::new();
                let serving = server::serve(
                    self.listen()?,
                    Arc::clone(&self.places),
                    stop.clone(),
                    self.tasks.clone(),
                );
                self.runtime.spawn(self.tasks.track_future(serving));
                self.running = Some(stop);
            }
            (false, Some(stop)) => {
                stop.cancel();
                self.running = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        Ok(())
    }

    /// Takes it down, and waits until nothing of it is left.
    pub(super) async fn end(mut self) {
        if let Some(stop) = self.running.take() {
            stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn listen(&self) -> anyhow::Result<TcpListener> {
        let _guard = self.runtime.enter();
        bound(self.address)?
            .listen(BACKLOG)
            .context("cannot listen")
    }
}

/// A socket that shares its address with others of ours, of which one at a time listens.
fn bound(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = TcpSocket::new_v4().context("cannot make a socket")?;
    socket
        .set_reuseaddr(true)
        .and_then(|()| socket.bind(address))
        .context("cannot bind")?;
    Ok(socket)
}
