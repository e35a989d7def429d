//! The tunnel: one ssh from a local end to the proxy on its node, by the cluster's [`Transport`]. Ready when the proxy
//! has proved itself through it; gone when ssh ends or the proxy proves itself no more.
//!
//! `ExitOnForwardFailure` says nothing about the far end: ssh connects to it only when used.

use std::{io, net::Ipv4Addr, path::Path, time::Duration};

use hpc_proxy::text::chain;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::{
    cluster::{Cluster, Lifeline, SshError, literal_socket_path},
    holder::{self, Holder},
    lease::{Door, Lease},
    local_end::{Address, DialError, LocalEnd},
    transport::Transport,
};

mod step;
use step::Step;

/// A Unix socket's path has 107 bytes at most.
const LONGEST_SOCKET_PATH_BYTES: usize = 107;
/// How often a tunnel that seems well is asked for a proof: ssh notices a dead login node by
/// itself, but not that the proxy behind it died.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// After one failed probe a second one decides.
const PROBE_AGAIN: Duration = Duration::from_millis(500);

/// Why there is no tunnel.
#[derive(Debug, Error)]
pub enum TunnelError {
    /// Somebody else has the local end.
    #[error(
        "the local port `{port}` is taken by {}; stop it, or set HPC_PROXY_LOCAL_PORT",
        .holder.as_ref().map_or_else(|| "another process".to_owned(), Holder::to_string)
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// Who has it, where that can be told.
        holder: Option<Holder>,
    },
    /// The local end cannot be used.
    #[error("cannot listen on `{0}`")]
    LocalEnd(Address, #[source] io::Error),
    /// It began when the cluster was reached by another way.
    #[error("hpc-proxy of this job does not listen where `transport = \"{0}\"` leads")]
    OtherDoor(Transport),
    /// ssh did not connect, or does not forward.
    #[error("the tunnel cannot be opened")]
    Ssh(#[from] SshError),
    /// The far end is not the proxy.
    #[error("the tunnel does not lead to the proxy ({complaints})")]
    NotProved {
        /// What ssh says about it: a connection refused, a forward not allowed.
        complaints: String,
        /// What became of the question.
        #[source]
        source: DialError,
    },
}

/// An open tunnel. It ends when dropped, and its local socket is unlinked.
#[derive(Debug)]
pub struct Tunnel {
    lifeline: Lifeline,
    step: Option<Step>,
    local_end: LocalEnd,
    /// Unlinks the local end when ssh, killed, does not.
    _unlink: Unlink,
}

impl Tunnel {
    /// Opens `address` here towards the proxy of `lease`, and has it prove itself.
    ///
    /// # Errors
    /// See [`TunnelError`].
    pub async fn open(
        cluster: &Cluster,
        address: &Address,
        lease: &Lease,
        local_end: LocalEnd,
    ) -> Result<Self, TunnelError> {
        let (lifeline, step) = if cluster.ssh().transport == Transport::Srun {
            let (lifeline, step) = Step::open(cluster, address, lease).await?;
            (lifeline, Some(step))
        } else {
            (forward(cluster, address, lease).await?, None)
        };
        let tunnel = Self {
            lifeline,
            step,
            local_end,
            _unlink: Unlink(address.clone()),
        };
        match tunnel.local_end.connect().await {
            Ok(_) => Ok(tunnel),
            Err(source) => Err(TunnelError::NotProved {
                complaints: tunnel.lifeline.complaints(),
                source,
            }),
        }
    }

    /// Waits until the tunnel is of no use any more; says why.
    pub async fn lost(&mut self) -> String {
        tokio::select! {
            how = self.lifeline.gone() => format!("the connection to the login node broke ({how})"),
            how = step_gone(&mut self.step) => how,
            error = unproved(&self.local_end) => in_words(&error),
        }
    }
}

async fn step_gone(step: &mut Option<Step>) -> String {
    match step {
        Some(step) => step.gone().await,
        None => std::future::pending().await,
    }
}

/// An ssh that forwards `address` to the proxy.
async fn forward(
    cluster: &Cluster,
    address: &Address,
    lease: &Lease,
) -> Result<Lifeline, TunnelError> {
    let transport = cluster.ssh().transport;
    let far = match (&lease.door, transport) {
        (Door::Port(port), Transport::Login) => format!("{}:{port}", lease.node),
        (Door::Port(port), Transport::Jump) => format!("127.0.0.1:{port}"),
        (Door::Socket(path), Transport::JumpSocket) => {
            literal_socket_path(path, LONGEST_SOCKET_PATH_BYTES)?
        }
        _ => return Err(TunnelError::OtherDoor(transport)),
    };
    let local = match address {
        Address::Tcp(local_port) => {
            check_free(*local_port).await?;
            format!("127.0.0.1:{local_port}")
        }
        Address::Unix(path) => literal_socket_path(path, LONGEST_SOCKET_PATH_BYTES)?,
    };
    let forward = format!("{local}:{far}");
    let options = [
        // A connection of its own: it carries all of a user's traffic, and ends by itself.
        ["-S", "none"],
        ["-o", "ExitOnForwardFailure=yes"],
        ["-o", "StreamLocalBindUnlink=yes"],
        ["-o", "StreamLocalBindMask=0177"],
        ["-L", &forward],
    ];
    let options = options.as_flattened();
    Ok(if transport == Transport::Login {
        cluster.stay(options).await?
    } else {
        cluster.stay_on(&lease.node, options).await?
    })
}

/// What a failed probe means, for a person.
fn in_words(error: &DialError) -> String {
    let error = chain(error);
    format!("nothing gets through to the session's proxy; the network or a host is down ({error})")
}

/// Waits until the proxy fails to prove itself twice in a row.
async fn unproved(local_end: &LocalEnd) -> DialError {
    loop {
        tokio::time::sleep(PROBE_INTERVAL).await;
        if local_end.connect().await.is_err() {
            tokio::time::sleep(PROBE_AGAIN).await;
            if let Err(error) = local_end.connect().await {
                return error;
            }
        }
    }
}

/// ssh would only say that the address is in use, not by whom.
async fn check_free(port: u16) -> Result<(), TunnelError> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = tokio::task::spawn_blocking(move || holder::find(port)).await;
            Err(TunnelError::PortTaken {
                port,
                holder: holder.ok().flatten(),
            })
        }
        Err(error) => Err(TunnelError::LocalEnd(Address::Tcp(port), error)),
    }
}

#[derive(Debug)]
struct Unlink(Address);

impl Drop for Unlink {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.0 {
            let _ = std::fs::remove_file::<&Path>(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_refused_in_the_name_of_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = check_free(port).await.unwrap_err().to_string();
        let own_pid = format!("(pid {})", std::process::id());
        assert!(
            error.contains(&port.to_string()) && error.contains(&own_pid),
            "{error}"
        );
    }
}
