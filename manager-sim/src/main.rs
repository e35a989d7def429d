//! `hpc-manager`: see the library.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::Parser;

use hpc_proxy::{
    accept::{self, Listener},
    metrics::Metrics,
    process,
};
use manager_sim::{
    auth::{self, SignedIn, Ways},
    config::{Cli, Config, Serve},
    front::Front,
    names::UserName,
    port_hosts::PortHosts,
    router::Router,
    sessions::{Sessions, Terms},
    state_dir::{self, StateDir},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How long requests under way may go on after a stop.
const GRACE: Duration = Duration::from_secs(2);
/// Bad usage; clap exits with the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(cli.color() && std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::new(cli.log()))
        .init();
    let config = match cli.into_config() {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "bad configuration"
            );
            return ExitCode::from(USAGE);
        }
    };
    let done = match config {
        Config::Serve(config) => serve(*config),
        Config::Link { user, state_dir } => print_link(&user, &state_dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot go on");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(config: Serve) -> anyhow::Result<()> {
    // Before anything is started, so that a signal always ends it in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let state = StateDir::open(&config.state_dir)?;
    let users: Vec<_> = config
        .logins
        .iter()
        .map(|ssh| ssh.login.user.clone())
        .collect();
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on `{}`", config.listen))?;
    let mut authority = listener.local_addr()?.to_string();
    if let Some(host) = config.hosts.first()
        && config.listen.ip().is_unspecified()
    {
        authority = format!("{host}:{}", listener.local_addr()?.port());
    }
    let front = config.front.unwrap_or_else(|| Front::plain(authority));
    let terms = Terms {
        script: config
            .script
            .build(&front)
            .context("cannot build the job script")?,
        kind: config.script.kind,
        resources: config.resources,
    };
    let sessions = Sessions::new(config.logins, terms, state.path(), config.local_port)?;
    let sessions = Arc::new(sessions);
    let url = front.to_string();
    state.set_url(&url)?;
    if !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "serving beyond this machine without encryption");
    }
    announce(&url, &users, &state)?;

    let stop = CancellationToken::new();
    let router = Router {
        sessions: Arc::clone(&sessions),
        signed_in: SignedIn::new(state.key().clone(), Ways::links()),
        hosts: config.hosts,
        front,
        port_hosts: config
            .subdomains
            .map(|domain| PortHosts::new(domain, state.key().clone())),
    };
    let descriptors = process::raise_descriptors();
    let terms = accept::Terms {
        max_connections: process::connections_for(descriptors),
        grace: GRACE,
    };
    let (listeners, served) = (vec![Listener::from(listener)], stop.clone());
    // Pipes end with the tunnels that they go through.
    let serving = tokio::spawn(async move {
        accept::serve(
            listeners,
            router,
            Arc::new(Metrics::default()),
            &terms,
            served,
        )
        .await;
    });
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop");
    stop.cancel();
    let (served, left) = tokio::join!(serving, sessions.close(config.cancel_on_exit));
    for (user, job) in left {
        tracing::warn!(%user, %job, "this job is left; `scancel` ends it");
    }
    served?;
    Ok(())
}

fn announce(url: &str, users: &[UserName], state: &StateDir) -> anyhow::Result<()> {
    let mut lines = format!("listening {url}\n");
    for user in users {
        let code = auth::mint(state.key(), user, SystemTime::now())?;
        lines += &format!("{user} {url}/login?code={code}\n");
    }
    print(&lines)
}

fn print_link(user: &UserName, state_dir: &std::path::Path) -> anyhow::Result<()> {
    let (key, url) = state_dir::read(state_dir).context("no manager runs here")?;
    let code = auth::mint(&key, user, SystemTime::now())?;
    print(&format!("{url}/login?code={code}\n"))
}

/// Data for another program or a person, complete when it is seen.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush().context("cannot write to standard output")
}
