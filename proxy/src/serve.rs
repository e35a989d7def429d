//! A running proxy, from its listeners to its exit: bind, publish, serve.

use std::{
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hpc_proxy::{
    accept::{Listener, Terms},
    auth::{self, Token},
    lease::{Lease, Record},
    process,
    server::{self, Access, Identity, Rules},
    text::chain,
};
use private_localhost::PortMap;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Auth, Config, Listen, Serve},
    failure::Failure,
    listen::{self, SocketFile},
    node,
};

/// How often the proxy looks whether its lease is still there: a few questions to a file server, and all that
/// an idle proxy does. A lost session is looked for somewhat longer than this.
const LEASE_LOOK: Duration = Duration::from_secs(10);

/// Serves until it is asked to stop.
pub(crate) fn serve(config: &Config, serve: &Serve) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(run(config, serve));
    // Whatever still waits for a file server that hangs.
    runtime.shutdown_background();
    done
}

async fn run(config: &Config, serve: &Serve) -> Result<(), Failure> {
    if process::is_root() && !serve.allow_root {
        return Err(Failure::Root);
    }
    // Before there is a secret to keep.
    process::keep_secrets()?;
    let sockets = sockets(config, serve)?;
    let terms = terms(serve);
    let stop = stop_on_signal()?;
    let Listeners {
        listeners,
        port,
        files,
    } = listeners(serve).await?;
    let identity = Identity {
        uid: rustix::process::geteuid().as_raw(),
        port,
        instance: auth::random_instance()?,
        job: config.job.clone(),
        hosts: std::iter::once(node::host_name())
            .chain(config.node.clone())
            .collect(),
    };
    let token = Token::random()?;
    let record = record(config, serve, &identity);
    let lease = Lease::publish(&config.place(), &record, &token)?;
    tracing::info!(
        proxy_port = identity.port,
        job = identity.job,
        socket = record.socket.map(tracing::field::debug),
        "listening"
    );
    let access = match serve.auth {
        Auth::Token => Access::Token,
        Auth::None => {
            let ip = serve.ip;
            tracing::warn!(%ip, "no authentication: whoever can connect sees your dev servers");
            Access::Anyone
        }
    };
    // Withdrawn as soon as nobody new is served, not after the last pipe.
    let withdraw = async {
        let lease = keep(lease, &stop, serve.grace).await;
        tracing::info!("stopping");
        let withdrawn = tokio::task::spawn_blocking(move || drop((lease, files)));
        if timeout(serve.grace, withdrawn).await.is_err() {
            tracing::warn!("the home does not answer: the lease stays there");
        }
    };
    let rules = Rules {
        access,
        upgrades: serve.upgrades.clone(),
        low_ports: serve.low_ports,
        titles: config.titles,
        sockets,
        private: private_servers(config),
        domain: serve.domain.clone(),
        rewrite: serve.rewrite.clone(),
    };
    let serving = server::serve(listeners, identity, token, rules, &terms, stop.clone());
    tokio::join!(withdraw, serving);
    Ok(())
}

/// Has the lease put back where somebody removed it, until `stop`: without it nobody finds this
/// proxy again once they have lost it.
async fn keep(mut lease: Lease, stop: &CancellationToken, grace: Duration) -> Option<Lease> {
    let mut complaint = None;
    while stop.run_until_cancelled(sleep(LEASE_LOOK)).await.is_some() {
        // A file server may hang for minutes; who is served must not wait with us.
        let mut looked = tokio::task::spawn_blocking(move || {
            let restored = lease.restore();
            (lease, restored)
        });
        let looked = tokio::select! {
            biased;
            looked = &mut looked => looked,
            () = stop.cancelled() => timeout(grace, looked).await.ok()?,
        };
        let (kept, restored) = looked.ok()?;
        lease = kept;
        match restored {
            Ok(0) => {}
            Ok(files) => tracing::warn!(files, "the lease was removed; it is there again"),
            Err(error) => {
                let error = chain(&error);
                if complaint.replace(error.clone()).as_ref() != Some(&error) {
                    tracing::warn!(error, "the lease was removed and cannot be put back");
                }
                continue;
            }
        }
        complaint = None;
    }
    Some(lease)
}

/// What the proxy listens on, and what must be undone at the end.
struct Listeners {
    listeners: Vec<Listener>,
    /// 0 without a TCP listener.
    port: u16,
    files: Vec<SocketFile>,
}

async fn listeners(serve: &Serve) -> Result<Listeners, Failure> {
    let mut all = Listeners {
        listeners: Vec::new(),
        port: 0,
        files: Vec::new(),
    };
    for place in &serve.listen {
        let listener = match place {
            Listen::Tcp => {
                let (first, second) = listen::tcp(SocketAddr::new(serve.ip, serve.port)).await?;
                all.port = first.local_addr()?.port();
                all.listeners.extend(second.map(Listener::from));
                first.into()
            }
            Listen::Unix(path) => {
                let (listener, file) = listen::unix(path)?;
                all.files.push(file);
                UnixListener::from_std(listener)?.into()
            }
        };
        all.listeners.push(listener);
    }
    Ok(all)
}

fn terms(serve: &Serve) -> Terms {
    let descriptors = process::raise_descriptors();
    let fits = process::connections_for(descriptors);
    let fits = NonZeroUsize::new(fits).unwrap_or(NonZeroUsize::MIN);
    let max_connections = serve.max_connections.unwrap_or(fits);
    if max_connections > fits {
        tracing::warn!(
            %max_connections, %fits, descriptors,
            "more connections are allowed than there are open files for"
        );
    }
    Terms {
        max_connections: max_connections.get(),
        grace: serve.grace,
    }
}

/// Where dev servers put their sockets. One that was asked for must be safe; without the default
/// one there are no sockets, and everything else works.
fn sockets(config: &Config, serve: &Serve) -> Result<Option<PathBuf>, Failure> {
    let asked = serve.socket_dir.as_deref();
    match config.state_dir.sockets(asked) {
        Ok(path) => Ok(Some(path)),
        Err(error) if asked.is_some() => Err(Failure::Sockets(error)),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "there is no safe place for the sockets of dev servers"
            );
            Ok(None)
        }
    }
}

/// Where `exec` writes down its servers. Without it they are found by their usual address and port,
/// unless they are locked.
fn private_servers(config: &Config) -> Option<PortMap> {
    let map = config.state_dir.private_servers();
    map.inspect_err(|error| {
        let error = error as &dyn std::error::Error;
        tracing::warn!(error, "cannot know which servers are private");
    })
    .ok()
}

/// Cancelled by SIGTERM, SIGINT, SIGUSR1, of which Slurm's `--signal` may warn a job of its end, or, unless started
/// by nohup(1), SIGHUP.
fn stop_on_signal() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let hangup = (!node::ignores_hangup()).then(SignalKind::hangup);
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::user_defined1(),
    ];
    for kind in kinds.into_iter().chain(hangup) {
        let (mut signal, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            signal.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}

fn record(config: &Config, serve: &Serve, identity: &Identity) -> Record {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let addresses = match identity.port {
        0 => Vec::new(),
        _ => node::addresses(serve.ip),
    };
    let socket = serve.listen.iter().find_map(|place| match place {
        Listen::Unix(path) => Some(path.clone()),
        Listen::Tcp => None,
    });
    Record {
        version: Record::VERSION,
        instance: identity.instance.clone(),
        host: node::host_name(),
        addresses,
        port: identity.port,
        socket,
        pid: std::process::id(),
        start_ticks: node::start_ticks(),
        boot_id: node::boot_id(),
        job_id: config.job.clone(),
        node: config.node.clone(),
        token_file: config.place().token_file(),
        started: now.as_secs(),
    }
}
