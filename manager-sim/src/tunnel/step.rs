//! A tunnel through a step of the job: `srun --overlap ... hpc-proxy bridge --streams` on the login node,
//! in which each connection to the local end is a stream.

use std::{fs::Permissions, io, os::unix::fs::PermissionsExt};

use hpc_proxy::streams;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
    task::JoinSet,
    time::{Duration, sleep},
};
use tokio_util::either::Either;

use super::{TunnelError, check_free};
use crate::{
    cluster::{Cluster, Lifeline},
    lease::Lease,
    local_end::Address,
};

/// What a listener without a free descriptor waits for others to be closed.
const BREATH: Duration = Duration::from_millis(50);

/// The tasks behind the local end; it is gone with them.
#[derive(Debug)]
pub(super) struct Step(JoinSet<String>);

impl Step {
    /// Starts the step, and listens at `address`.
    pub(super) async fn open(
        cluster: &Cluster,
        address: &Address,
        lease: &Lease,
    ) -> Result<(Lifeline, Self), TunnelError> {
        let local = |source| TunnelError::LocalEnd(address.clone(), source);
        if let Address::Tcp(port) = address {
            check_free(*port).await?;
        }
        let (lifeline, carrier) = cluster.step(lease.job, &lease.node).await?;
        let listener = Local::bind(address).await.map_err(local)?;
        let (sender, sockets) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let Ok(socket) = listener.accept().await else {
                    sleep(BREATH).await;
                    continue;
                };
                // Then the other task has ended, and told why.
                if sender.send(socket).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        tasks.spawn(async move {
            match streams::carry(carrier, sockets).await {
                Ok(()) => "the step of the job ended".to_owned(),
                Err(error) => format!("the step of the job ended: {error}"),
            }
        });
        Ok((lifeline, Self(tasks)))
    }

    /// Waits until nothing comes through any more; says why.
    pub(super) async fn gone(&mut self) -> String {
        let ended = self.0.join_next().await;
        ended.and_then(Result::ok).unwrap_or_default()
    }
}

enum Local {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Local {
    async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(port) => Ok(Self::Tcp(TcpListener::bind(("127.0.0.1", *port)).await?)),
            Address::Unix(path) => {
                // One of a manager that was killed; nobody else can make any there.
                let _ = std::fs::remove_file(path);
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    async fn accept(&self) -> io::Result<Either<TcpStream, UnixStream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Either::Left(stream))
            }
            Self::Unix(listener) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}
