//! `hpc-manager`: see the library.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use hpc_proxy::{
    accept::{self, Listener},
    metrics::Metrics,
    process,
    text::{chain, is_unprintable},
};
use jiff::Timestamp;
use manager_sim::{
    auth::{self, SignedIn, Ways, marks::Marks, tokens::Tokens},
    check::Report,
    commands::{self, Surroundings, Terminal},
    config::{
        Cli, Config, ConfigErrors, Identity, Listen, LogFormat, Serve, TokenAction, calls::Call,
    },
    doctor::{self, Examined},
    front::Front,
    ide::Ides,
    names::UserName,
    port_hosts::PortHosts,
    router::{
        self, Router,
        desk::{self, Desk},
    },
    sessions::{Sessions, Terms},
    socket_file,
    state_dir::{self, StateDir, StateError},
    store::Store,
    token_command,
    watch::Watch,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How long requests under way may go on after a stop.
const GRACE: Duration = Duration::from_secs(2);
/// For whoever watches over it.
const WATCHED: accept::Terms = accept::Terms {
    max_connections: 64,
    grace: GRACE,
};
/// Bad usage; clap exits with the same.
const USAGE: u8 = 2;
/// It could not be done.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(cli.color() && std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::new(cli.log()));
    match cli.log_format() {
        LogFormat::Human => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let config = match cli.into_config() {
        Ok(config) => config,
        Err(errors) => {
            for error in errors.iter() {
                let (hint, error) = (error.hint(), error as &dyn std::error::Error);
                tracing::error!(error, hint, "bad configuration");
            }
            return ExitCode::from(USAGE);
        }
    };
    let done = match config {
        Config::Serve(config) => serve(*config),
        Config::Link { user, state_dir } => print_link(&user, &state_dir),
        Config::Token { action, file } => change_tokens(action, &file),
        Config::Call { call, state_dir } => return call_manager(&call, &state_dir),
        Config::Completions(shell) => complete(shell),
        Config::Doctor { json, serve } => match examine(serve) {
            Ok(examined) => {
                let told = print(&examined.show(json));
                if !examined.is_well() {
                    return ExitCode::FAILURE;
                }
                told
            }
            Err(error) => Err(error),
        },
        Config::Check(config) => {
            let report = Report::of(config);
            let told = print(&report.to_string());
            if !report.is_good() {
                return ExitCode::FAILURE;
            }
            told
        }
    };
    told(done)
}

fn told(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let hint = hint(&error);
            tracing::error!(error = format!("{error:#}"), hint, "cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// Why a link would lead nowhere.
#[derive(Debug, Error)]
enum NoLink {
    #[error("the manager that runs here takes no sign-in links")]
    None,
    #[error("`{user}` is no user of the manager that runs here")]
    Unknown { user: UserName, users: Vec<String> },
}

/// What to do about it, where that is known.
fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<StateError>() {
            return Some(error.hint().to_owned());
        }
        match cause.downcast_ref::<NoLink>() {
            Some(NoLink::None) => {
                return Some(
                    "add `link` to `identity`, or make an access token: `hpc-manager token add NAME --user USER`"
                        .into(),
                );
            }
            Some(NoLink::Unknown { users, .. }) => return Some(format!("it has: {}", users.join(", "))),
            None => {}
        }
        match cause.downcast_ref::<io::Error>()?.kind() {
            io::ErrorKind::AddrInUse => Some("stop who has it, or give another address with `--listen`".into()),
            io::ErrorKind::AddrNotAvailable => Some("give an address of this machine with `--listen`".into()),
            _ => None,
        }
    })
}

#[tokio::main]
async fn serve(config: Serve) -> anyhow::Result<()> {
    // Before anything is started, so that a signal always ends it in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let state = StateDir::open(&config.state_dir)?;
    let users: BTreeSet<_> = config.logins.iter().map(|ssh| ssh.user.clone()).collect();
    let store = Store::open(state.path()).context("the sessions of before cannot be read")?;
    let store = Arc::new(store);
    let marks = Marks::of(&store)?;
    let ways = ways(config.identity)?;
    // The file of a Unix socket goes with the manager.
    let (listener, authority, _file) = match &config.listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on `{address}`"))?;
            let bound = listener.local_addr()?;
            let authority = match config.hosts.first() {
                Some(host) if address.ip().is_unspecified() => format!("{host}:{}", bound.port()),
                _ => bound.to_string(),
            };
            (Listener::from(listener), authority, None)
        }
        Listen::Unix(path) => {
            let (listener, file) = socket_file::listen(path)?;
            let listener = UnixListener::from_std(listener)?;
            // Unused: a socket has a front.
            (Listener::from(listener), "localhost".to_owned(), Some(file))
        }
    };
    let front = config.front.unwrap_or_else(|| Front::plain(authority));
    let terms = Terms {
        ides: Ides::build(config.ides, &front).context("cannot build the job script")?,
        resources: config.resources,
        limits: config.limits,
        max_sessions: config.max_sessions.into(),
        idle_timeout: config.idle_timeout,
    };
    let sessions = Sessions::new(
        config.logins,
        terms,
        state.path(),
        config.local_port,
        Arc::clone(&store),
    )?;
    let sessions = Arc::new(sessions);
    let url = front.to_string();
    state.set_url(&url)?;
    if !config.listen.is_here() {
        tracing::warn!(listen = %config.listen, "serving beyond this machine without encryption");
    }
    let watched = match config.watch_listen {
        Some(listen) => {
            let listener = TcpListener::bind(listen).await;
            Some(listener.with_context(|| format!("cannot listen on `{listen}`"))?)
        }
        None => None,
    };
    let of_links = if ways.links {
        state.set_links(&users)?;
        users
    } else {
        BTreeSet::new()
    };
    // Whoever reads that it listens may call at once.
    let (at_desk, _desk_file) = socket_file::listen(&state.path().join(desk::SOCKET))?;
    announce(&url, &of_links, &state)?;

    let stop = CancellationToken::new();
    let tokens = ways.tokens.clone();
    let watching = tokens.map(|tokens| tokio::spawn(tokens.watch(stop.clone())));
    let router = Router {
        sessions: Arc::clone(&sessions),
        signed_in: Arc::new(SignedIn::new(
            state.key().clone(),
            ways,
            marks.clone(),
            Arc::clone(&store),
        )),
        hosts: config.hosts,
        front,
        port_hosts: config
            .subdomains
            .map(|domain| Arc::new(PortHosts::new(domain, state.key().clone(), marks, store))),
        streams: router::Streams::until(stop.clone()),
    };
    let descriptors = process::raise_descriptors();
    let terms = accept::Terms {
        max_connections: process::connections_for(descriptors),
        grace: GRACE,
    };
    let metrics = Arc::new(Metrics::default());
    if let Some(listener) = watched {
        let (sessions, metrics) = (Arc::clone(&sessions), Arc::clone(&metrics));
        let watch = Watch { sessions, metrics };
        let listeners = vec![Listener::from(listener)];
        let (own, stop) = (Arc::new(Metrics::default()), stop.clone());
        tokio::spawn(async move { accept::serve(listeners, watch, own, &WATCHED, stop).await });
    }
    let desk = Desk::new(router.clone(), rustix::process::geteuid());
    let at_desk = vec![Listener::from(UnixListener::from_std(at_desk)?)];
    let (own, desk_stop) = (Arc::new(Metrics::default()), stop.clone());
    tokio::spawn(async move { accept::serve(at_desk, desk, own, &WATCHED, desk_stop).await });
    let (listeners, served) = (vec![listener], stop.clone());
    // Pipes end with the tunnels that they go through.
    let serving = tokio::spawn(async move {
        accept::serve(listeners, router, metrics, &terms, served).await;
    });
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop");
    stop.cancel();
    let (served, left) = tokio::join!(serving, sessions.close(config.cancel_on_exit));
    for (user, job) in left {
        tracing::info!(%user, %job, "this job is left; the next start takes it up");
    }
    served?;
    if let Some(watching) = watching {
        watching.await?;
    }
    Ok(())
}

/// For a person at a terminal, whose mistakes are no matter for a log.
#[tokio::main(flavor = "current_thread")]
async fn call_manager(call: &Call, state_dir: &Path) -> ExitCode {
    let variable = |name| std::env::var(name).ok();
    let around = Surroundings {
        token: variable("HPC_MANAGER_TOKEN"),
        browser: variable("BROWSER"),
        has_display: ["DISPLAY", "WAYLAND_DISPLAY"]
            .into_iter()
            .any(|name| variable(name).is_some_and(|display| !display.is_empty())),
    };
    match commands::run(call, state_dir, &around, &mut Streams).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = chain(&error).replace(is_unprintable, "\u{fffd}");
            Streams.tells(&format!("error: {why}\nhint: {}", error.hint()));
            ExitCode::from(if error.is_usage() { USAGE } else { FAILED })
        }
    }
}

struct Streams;

impl Terminal for Streams {
    fn prints(&mut self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    fn tells(&mut self, text: &str) {
        // Nobody may be there to read it.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn complete(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hpc-manager", &mut script);
    print(&String::from_utf8(script).context("a shell's script is text")?)
}

#[tokio::main(flavor = "current_thread")]
async fn examine(serve: Result<Box<Serve>, ConfigErrors>) -> anyhow::Result<Examined> {
    Ok(doctor::examine(serve).await)
}

fn ways(identity: Identity) -> anyhow::Result<Ways> {
    let tokens = identity.token_file.as_deref().map(Tokens::open).transpose();
    Ok(Ways {
        links: identity.links,
        header: identity.header,
        tokens: tokens.context("no tokens can be checked")?.map(Arc::new),
    })
}

fn change_tokens(action: TokenAction, file: &Path) -> anyhow::Result<()> {
    let now = Timestamp::now();
    match action {
        TokenAction::Add { name, user, days } => {
            let token = token_command::add(file, name, user.clone(), days, now)?;
            tracing::info!(%user, days, "made a token; it is shown this once");
            print(&format!("{}\n", token.reveal()))
        }
        TokenAction::List => print(&token_command::list(file, now)?),
        TokenAction::Remove { name } => Ok(token_command::remove(file, name)?),
    }
}

fn announce(url: &str, users: &BTreeSet<UserName>, state: &StateDir) -> anyhow::Result<()> {
    let mut lines = format!("listening {url}\n");
    for user in users {
        let code = auth::mint(state.key(), user, SystemTime::now())?;
        lines += &format!("{user} {url}/login?code={code}\n");
    }
    print(&lines)
}

fn print_link(user: &UserName, state_dir: &Path) -> anyhow::Result<()> {
    let (key, url) = state_dir::read(state_dir).context("no manager runs here")?;
    let users = state_dir::users_of_links(state_dir).ok_or(NoLink::None)?;
    if !users.iter().any(|known| known == user.as_str()) {
        let user = user.clone();
        return Err(NoLink::Unknown { user, users }.into());
    }
    let code = auth::mint(&key, user, SystemTime::now())?;
    print(&format!("{url}/login?code={code}\n"))
}

/// Data for another program or a person, complete when it is seen.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush().context("cannot write to standard output")
}
