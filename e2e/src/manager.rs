//! The manager under test as a process: its settings, its sign-in links, its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::binaries;
use crate::child::{Child, Lifeline};
use crate::cluster::Tools;

/// Before it listens it contacts nobody, so this is about a busy machine only.
const START: Duration = Duration::from_secs(20);

/// What a manager is told.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Who may sign in: one is single-user mode, several multi-user mode.
    pub users: &'a [String],
    /// The way to the login node.
    pub ssh_config: &'a Path,
    /// What jobs start.
    pub tools: &'a Tools,
    /// What IDE jobs start.
    pub ide: &'a Ide,
    /// Whether IDEs share localhost with everybody on their node.
    pub shared_localhost: bool,
    /// How it reaches proxies, if not as usual.
    pub transport: Option<&'a str>,
    /// How long a session may be idle, if that is bounded.
    pub idle_timeout: Option<&'a str>,
    /// Whether people may also sign in by an access token.
    pub takes_tokens: bool,
    /// Where it listens; 0 takes any free port.
    pub port: u16,
    /// `HPC_PROXY_LOCAL_PORT`, for single-user mode.
    pub local_port: Option<u16>,
    /// The name by which browsers know it, and the domain of dev servers' own hosts.
    pub names: Option<[&'a str; 2]>,
}

/// An IDE.
#[derive(Clone, Debug, Default)]
pub enum Ide {
    /// The stand-in for VS Code.
    #[default]
    StandIn,
    /// The same on `$IDE_SOCKET`.
    StandInOnSocket,
    /// What this command starts on `$IDE_SOCKET`.
    OnSocket(String),
    /// What this command starts; it brings a port proxy of its own.
    WithItsOwnProxy(String),
    /// A choice of the stand-in, called `code`, and what this command starts on `$IDE_PORT`, called `files`.
    OrFiles(String),
}

/// A running manager.
#[derive(Debug)]
pub struct Manager {
    process: Child,
    state_dir: PathBuf,
    origin: String,
    links: BTreeMap<String, String>,
}

impl Manager {
    /// Starts one that keeps its state and log below `dir`, and waits until it listens.
    ///
    /// # Errors
    /// It did not come up; its own words are in the error.
    pub async fn start(dir: &Path, settings: &Settings<'_>) -> Result<Manager> {
        let state_dir = dir.join("state");
        let mut process = spawn(dir, &state_dir, settings)?;
        let origin = loop {
            let line = process.next_line(START).await?;
            if let Some(origin) = line.strip_prefix("listening ") {
                break origin.trim_end_matches('/').to_owned();
            }
        };
        let mut links = BTreeMap::new();
        while links.len() < settings.users.len() {
            let line = process.next_line(START).await?;
            let (user, link) = line
                .split_once(' ')
                .with_context(|| format!("not a sign-in link: `{line}`"))?;
            links.insert(user.to_owned(), link.to_owned());
        }
        Ok(Manager {
            process,
            state_dir,
            origin,
            links,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The port in that.
    ///
    /// # Errors
    /// There is none.
    pub fn port(&self) -> Result<u16> {
        let port = self.origin.rsplit(':').next().unwrap_or_default();
        port.parse()
            .with_context(|| format!("no port in {}", self.origin))
    }

    /// The link printed at start for this user; it works once.
    ///
    /// # Errors
    /// The manager does not know the user.
    pub fn first_link(&self, user: &str) -> Result<&str> {
        let link = self.links.get(user);
        Ok(link.with_context(|| format!("no link for {user}"))?)
    }

    /// Another one-time link.
    ///
    /// # Errors
    /// `hpc-manager link` failed.
    pub async fn another_link(&self, user: &str) -> Result<String> {
        let output = Command::new(binaries::hpc_manager()?)
            .args(["link", "--state-dir"])
            .arg(&self.state_dir)
            .arg(user)
            .output()
            .await
            .context("run `hpc-manager link`")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`hpc-manager link` failed: {said}");
        let link = String::from_utf8(output.stdout).context("a link is text")?;
        // Either the link alone or as at start, after the user's name.
        let link = link
            .split_whitespace()
            .last()
            .context("no link was printed")?;
        Ok(link.to_owned())
    }

    /// `hpc-manager` as a person starts it at a terminal of the manager's machine.
    ///
    /// # Errors
    /// It is not built.
    pub fn tool(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binaries::hpc_manager()?);
        command
            .args(args)
            .env("HPC_MANAGER_STATE_DIR", &self.state_dir)
            .kill_on_drop(true);
        Ok(command)
    }

    /// The process below which its `ssh` children are found.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it keeps its state.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks it to end, which cancels its sessions, and expects it to end well.
    ///
    /// # Errors
    /// It did not.
    pub async fn end(self) -> Result<()> {
        self.process.end().await
    }
}

fn on_socket(command: &str) -> Vec<String> {
    ["--ide-socket=true", "--ide-command", command]
        .map(str::to_owned)
        .to_vec()
}

fn spawn(dir: &Path, state_dir: &Path, settings: &Settings<'_>) -> Result<Child> {
    let mut args = vec![
        "--listen".to_owned(),
        format!("127.0.0.1:{}", settings.port),
    ];
    for user in settings.users {
        args.extend(["--login".to_owned(), format!("{user}@login")]);
    }
    let path = |path: &Path| path.display().to_string();
    args.extend(["--ssh-config".to_owned(), path(settings.ssh_config)]);
    args.extend(["--state-dir".to_owned(), path(state_dir)]);
    let tools = settings.tools;
    let ide = match settings.ide {
        Ide::StandIn => ["--ide-command".to_owned(), tools.ide_command()].to_vec(),
        Ide::StandInOnSocket => on_socket(&tools.ide_command_on_socket()),
        Ide::OnSocket(command) => on_socket(command),
        Ide::WithItsOwnProxy(command) => ["--ide-kind=other", "--ide-command", command]
            .map(str::to_owned)
            .to_vec(),
        Ide::OrFiles(command) => {
            let file = dir.join("manager.toml");
            let ide = |name: &str, command: &str| {
                format!(
                    "[[ide]]\nname = \"{name}\"\ntitle = \"IDE {name}\"\ncommand = '''{command}'''\n"
                )
            };
            let text = ide("code", &tools.ide_command()) + &ide("files", command);
            std::fs::write(&file, text)?;
            ["--config".to_owned(), path(&file)].to_vec()
        }
    };
    args.extend(ide);
    args.extend(["--hpc-proxy-command".to_owned(), tools.hpc_proxy.clone()]);
    if settings.shared_localhost {
        args.push("--private-localhost=false".to_owned());
    }
    if let Some(transport) = settings.transport {
        args.push(format!("--transport={transport}"));
    }
    args.push("--cancel-on-exit".to_owned());
    if settings.takes_tokens {
        args.push("--identity=link,tokens".to_owned());
    }
    if let Some(idle_timeout) = settings.idle_timeout {
        args.extend(["--idle-timeout", idle_timeout].map(str::to_owned));
    }
    if let Some([host, domain]) = settings.names {
        let url = format!("http://{host}:{}", settings.port);
        args.extend(["--host", host, "--subdomains", domain, "--url", &url].map(str::to_owned));
    }

    let local_port = settings.local_port.map(|port| port.to_string());
    let mut env = vec![("HPC_MANAGER_LOG", "debug"), ("NO_COLOR", "1")];
    env.extend(
        local_port
            .as_deref()
            .map(|port| ("HPC_PROXY_LOCAL_PORT", port)),
    );
    let program = binaries::hpc_manager()?;
    Child::start("manager", Lifeline::Guarded, dir, &program, args, &env)
}
