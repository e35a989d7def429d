//! The `hpc-proxy` program: parse, log, bind, publish, serve, exit code.

use std::{
    error::Error,
    fs,
    io::{self, IsTerminal, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use hpc_proxy::{
    auth::{self, Token},
    lease::{self, Lease, LeaseError, Place, Record},
    link,
    route::TargetPort,
    server::{self, Access, Identity},
    upstream::owner::Owners,
};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;

mod cli;
mod node;

use cli::{Action, Auth, Cli, Config, LeasePath, Serve, UsageError};

fn main() -> ExitCode {
    let config = match Cli::parse_from(cli::with_double_dashes(std::env::args_os())).into_config() {
        Ok(config) => config,
        Err(error) => {
            report(&Failure::Usage(error));
            return ExitCode::from(2);
        }
    };
    log_to_stderr(&config);
    let done = match &config.action {
        Action::Serve(serve) => run(&config, serve),
        Action::Url(port) => print_url(&config, *port),
        Action::FreePort => print_free_port(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Why the program could not start or go on; the next step belongs to it.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("cannot listen on `{address}`{holder}")]
    Listen {
        address: SocketAddr,
        holder: String,
        source: io::Error,
    },
    #[error("cannot publish the port")]
    Publish(#[from] LeaseError),
    #[error("cannot make a token")]
    Token(#[from] auth::NoRandom),
    #[error("no proxy is running here: `{path}` cannot be read")]
    NoProxy {
        path: String,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("cannot go on")]
    Io(#[from] io::Error),
}

impl Failure {
    fn hint(&self) -> &'static str {
        match self {
            Self::Usage(UsageError::NoHome) => "say where to publish the port with --port-file",
            Self::Listen { .. } => "leave --port out, or say --port 0, for any free port",
            Self::Publish(LeaseError::OpenDirectory(_) | LeaseError::ForeignDirectory { .. }) => {
                "choose a directory that only you can write to, with --port-file"
            }
            Self::Publish(LeaseError::Io { .. }) => {
                "is the disk full or the home read-only? --port-file moves the file elsewhere"
            }
            Self::NoProxy { .. } => "start one with `hpc-proxy`, on this node",
            Self::Token(_) | Self::Io(_) => "run it with --verbose for more",
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(config: &Config, serve: &Serve) -> Result<(), Failure> {
    let stop = stop_on_signal()?;
    let address = SocketAddr::new(serve.ip, serve.port);
    let listener = match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(source) => {
            return Err(Failure::Listen {
                holder: holder(address).await,
                address,
                source,
            });
        }
    };
    let identity = Identity {
        uid: rustix::process::geteuid().as_raw(),
        port: listener.local_addr()?.port(),
        instance: auth::random_instance()?,
        job: config.job.clone(),
    };
    let token = Token::random()?;
    let lease = Lease::publish(&place(config), &record(config, serve, &identity), &token)?;
    tracing::info!(proxy_port = identity.port, job = identity.job, "listening");
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
        stop.cancelled().await;
        tracing::info!("stopping");
        drop(lease);
    };
    tokio::join!(
        withdraw,
        server::serve(listener, identity, token, access, stop.clone(), serve.grace)
    );
    Ok(())
}

/// Cancelled by SIGTERM, SIGINT or, unless started by nohup(1), SIGHUP.
fn stop_on_signal() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let hangup = (!node::ignores_hangup()).then(SignalKind::hangup);
    let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
    for kind in kinds.into_iter().chain(hangup) {
        let (mut signal, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            signal.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}

fn place(config: &Config) -> Place {
    let (job, host) = (config.job.as_deref(), node::host_name());
    match &config.lease {
        LeasePath::Home(home) => Place::in_home(home, job, &host),
        LeasePath::PortFile(file) => Place::beside(file, job, &host),
    }
}

fn record(config: &Config, serve: &Serve, identity: &Identity) -> Record {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Record {
        version: Record::VERSION,
        instance: identity.instance.clone(),
        host: node::host_name(),
        addresses: node::addresses(serve.ip),
        port: identity.port,
        pid: std::process::id(),
        start_ticks: node::start_ticks(),
        boot_id: node::boot_id(),
        job_id: config.job.clone(),
        node: config.node.clone(),
        token_file: place(config).token_file(),
        started: now.as_secs(),
    }
}

/// Whose port it is that cannot be bound, as far as the kernel says.
async fn holder(address: SocketAddr) -> String {
    match Owners::probe().listener(address).await {
        Ok(Some(socket)) => format!(", which user `{}` holds", socket.uid),
        Ok(None) | Err(_) => String::new(),
    }
}

/// A link to the proxy of this job or host, else to the last one that the user started anywhere: a
/// person with `ssh -L` asks from a login node.
fn print_url(config: &Config, port: Option<TargetPort>) -> Result<(), Failure> {
    let place = place(config);
    let own = (|| {
        let record = Record::parse(&fs::read(place.record_file()).ok()?).ok()?;
        Some((record.port, place.token_file()))
    })();
    let (proxy_port, token_file) = match own {
        Some(own) => own,
        None => (last_port(place.port_file())?, place.last_token_file()),
    };
    let no_proxy = |source: Box<dyn Error + Send + Sync>| no_proxy(&token_file, source);
    let token = fs::read(&token_file).map_err(|error| no_proxy(error.into()))?;
    let token = Token::parse(&token).map_err(|error| no_proxy(error.into()))?;
    let code = link::mint(&token, "", SystemTime::now())?;
    let to = port.map(|port| format!("&port={port}")).unwrap_or_default();
    let link = format!("http://localhost:{proxy_port}/_hpc-proxy/login?code={code}{to}");
    Ok(writeln!(io::stdout(), "{link}")?)
}

fn last_port(file: &Path) -> Result<u16, Failure> {
    let found = fs::read(file).map_err(|error| no_proxy(file, error.into()))?;
    lease::parse_port(&found).ok_or_else(|| no_proxy(file, "it holds no port number".into()))
}

fn no_proxy(path: &Path, source: Box<dyn Error + Send + Sync>) -> Failure {
    Failure::NoProxy {
        path: path.display().to_string(),
        source,
    }
}

/// Below the ports that outgoing connections are given (ip_local_port_range(7), 32768 by default):
/// one of those could be taken before whoever asked for it binds it.
const FREE_PORTS: std::ops::Range<u16> = 20_000..32_000;

fn print_free_port() -> Result<(), Failure> {
    let seed = usize::from_str_radix(&auth::random_instance()?[..8], 16).unwrap_or_default();
    // Somewhere else each time, so that two jobs that start together do not meet.
    let free = FREE_PORTS
        .cycle()
        .skip(seed % FREE_PORTS.len())
        .take(FREE_PORTS.len())
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok());
    let port = free.ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
    Ok(writeln!(io::stdout(), "{port}")?)
}

fn log_to_stderr(config: &Config) {
    let level = if config.verbose {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(config.color && io::stderr().is_terminal())
        .with_max_level(level)
        .with_target(false)
        .init();
}

/// Prints an error with its causes, once, and the next step.
fn report(failure: &Failure) {
    let mut text = format!("error: {failure}");
    let mut cause = failure.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    // Nothing is left to tell it to when stderr is closed.
    let _ = writeln!(io::stderr(), "{text}\nhint: {}", failure.hint());
}
