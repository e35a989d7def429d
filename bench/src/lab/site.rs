//! A manager and the cluster that it manages, both as they ship, on this machine: the mock Slurm with a login
//! node of its own, hpc-manager, and real ssh between them.

use std::{
    fs::{self, File, Permissions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};

use crate::{client::Connection, descriptors, http::keep, process::Process, route::Route};

/// Programs start within a second; this is about a busy machine.
const START: Duration = Duration::from_secs(60);
/// Until all sessions are there.
const CONNECTED: Duration = Duration::from_secs(300);
/// A manager that leaves its jobs ends at once.
const END: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 4096;
/// More than are ever asked for: it is not Slurm that is measured.
const SHAPE: [&str; 6] = [
    "--nodes=node[01-08]",
    "--cpus=64",
    "--mem=1000000",
    "--queue-delay=0",
    "--minute=60",
    "--until-stdin-closes",
];
/// What slurm-sim logs of each command on the login node.
const COMMAND: &str = "a command is run";

/// A running site; everything ends when it is dropped.
pub(super) struct Site {
    manager: Child,
    /// After the manager, which needs it to its end.
    _cluster: (Child, ChildStdin),
    users: Vec<User>,
    watch: SocketAddr,
    cluster_log: PathBuf,
    _dir: TempDir,
}

/// Somebody who has signed in.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    /// To the manager, as the manager's own page asks it.
    pub(super) page: Route,
    cookie: String,
}

#[derive(Deserialize)]
struct Ready {
    ssh_config: PathBuf,
}

#[derive(Deserialize)]
struct Listed {
    sessions: Vec<Session>,
}

/// What the API tells of a session.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Session {
    id: String,
}

impl Site {
    /// Starts both, for so many users, each of whom may have `most` sessions.
    pub(super) async fn start(proxy: &Path, users: u32, most: u32) -> Result<Self> {
        let dir = TempDir::with_prefix("hpc-bench-").context("make a directory")?;
        let names: Vec<_> = (1..=users).map(|number| format!("u{number:02}")).collect();
        let cluster_log = dir.path().join("cluster.log");
        let (mut cluster, mut lines) = spawn(
            Command::new(beside("slurm-sim")?)
                .arg("up")
                .args(SHAPE)
                .arg("--dir")
                .arg(dir.path().join("cluster"))
                .args(["--users", &names.join(",")])
                .env("SLURM_SIM_LOG", "warn,slurm_sim::embedded::exec=debug"),
            &cluster_log,
        )?;
        let stdin = cluster.stdin.take().context("its standard input")?;
        let ready: Ready = serde_json::from_str(&next(&mut lines).await?)?;

        let watch = free_address().await?;
        let mut command = Command::new(beside("hpc-manager")?);
        command
            .args(["--listen=127.0.0.1:0", "--private-localhost=false"])
            .arg(format!("--watch-listen={watch}"))
            .arg(format!("--max-sessions={most}"))
            .arg("--ssh-config")
            .arg(ready.ssh_config)
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            .arg("--hpc-proxy-command")
            .arg(for_root(dir.path(), proxy)?)
            .arg("--ide-command")
            .arg(format!(
                r#"{} --port "$IDE_PORT" --connection-token-file "$IDE_TOKEN_FILE""#,
                beside("ide-stand-in")?.display()
            ));
        for name in &names {
            command.arg(format!("--login={name}@login"));
        }
        let (manager, mut lines) = spawn(&mut command, &dir.path().join("manager.log"))?;
        let mut signed_in = Vec::new();
        let first = next(&mut lines).await?;
        let origin = first.strip_prefix("listening http://");
        let address = origin.context("where it listens")?.parse()?;
        for _ in &names {
            let line = next(&mut lines).await?;
            signed_in.push(User::sign_in(address, &line).await?);
        }
        Ok(Self {
            manager,
            _cluster: (cluster, stdin),
            users: signed_in,
            watch,
            cluster_log,
            _dir: dir,
        })
    }

    pub(super) fn users(&self) -> &[User] {
        &self.users
    }

    pub(super) fn manager(&self) -> Process {
        Process(self.manager.id().unwrap_or_default())
    }

    /// How many commands the login node has run.
    pub(super) fn commands(&self) -> Result<usize> {
        let log = fs::read_to_string(&self.cluster_log).context("the cluster's log")?;
        Ok(log.matches(COMMAND).count())
    }

    /// Waits until so many sessions are connected; how long that took.
    pub(super) async fn awaits_connected(&self, number: usize) -> Result<Duration> {
        let start = Instant::now();
        let wanted = format!("hpc_manager_sessions{{phase=\"connected\"}} {number}");
        let watch = Route {
            address: self.watch,
            prefix: String::new(),
            fields: String::new(),
        };
        let mut text = String::new();
        while start.elapsed() < CONNECTED {
            let mut body = Vec::new();
            let mut connection = Connection::open(&watch, BUFFER_BYTES).await?;
            connection.get("/metrics", keep(&mut body)).await?;
            text = String::from_utf8(body)?;
            if text.lines().any(|line| line == wanted) {
                return Ok(start.elapsed());
            }
            sleep(Duration::from_millis(100)).await;
        }
        let phases = text.lines().filter(|line| line.contains("{phase="));
        let phases = phases.collect::<Vec<_>>().join(", ");
        bail!("not connected after {CONNECTED:?}: {phases}")
    }

    /// Ends the manager, which leaves its jobs, and then the cluster, which ends them.
    pub(super) async fn end(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.manager().0.try_into()?);
        let pid = pid.context("a manager that runs")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        timeout(END, self.manager.wait())
            .await
            .context("its end")??;
        let (mut cluster, stdin) = self._cluster;
        drop(stdin);
        timeout(END, cluster.wait()).await.context("its end")??;
        Ok(())
    }
}

impl User {
    /// By the line that a manager prints.
    async fn sign_in(address: SocketAddr, line: &str) -> Result<Self> {
        let (name, link) = line.split_once(' ').context("a user's link")?;
        let code = link.split_once("/login").context("a link")?.1;
        let mut route = Route {
            address,
            prefix: String::new(),
            fields: "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n".to_owned(),
        };
        let mut connection = Connection::open(&route, BUFFER_BYTES).await?;
        let mut body = Vec::new();
        connection
            .get(&format!("/login{code}"), keep(&mut body))
            .await?;
        let cookie = crate::http::field(connection.head(), "set-cookie");
        let cookie = cookie.context("a link that signs nobody in")?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        route.fields += &format!("Cookie: {cookie}\r\n");

        let mut connection = Connection::open(&route, BUFFER_BYTES).await?;
        body.clear();
        let status = connection.get("/", keep(&mut body)).await?;
        ensure!(status == 200, "the page answers {status}");
        let page = String::from_utf8(body)?;
        let key = page.split_once("name=\"hpc-manager-page\" content=\"");
        let key = key.and_then(|(_, rest)| rest.split('"').next());
        let key = key.context("a page without a key")?;
        route.fields = format!(
            "Cookie: {cookie}\r\nX-Hpc-Manager: 1\r\nX-Hpc-Manager-Page: {key}\r\n\
             Sec-Fetch-Site: same-origin\r\n"
        );
        Ok(Self {
            name: name.to_owned(),
            page: route,
            cookie,
        })
    }

    /// Asks for one more session.
    pub(super) async fn launch(&self) -> Result<()> {
        let fields = "Content-Length: 2\r\n";
        let head = self.page.head("POST", "/api/v1/sessions", fields);
        let mut connection = Connection::open(&self.page, BUFFER_BYTES).await?;
        connection.send(format!("{head}{{}}").as_bytes()).await?;
        let mut body = Vec::new();
        let status = connection.answer(keep(&mut body)).await?;
        let body = String::from_utf8_lossy(&body);
        ensure!(
            status == 202,
            "a launch of {} answers {status}: {body}",
            self.name
        );
        Ok(())
    }

    /// The ways to a dev server through each session.
    pub(super) async fn routes(&self, target_port: u16) -> Result<Vec<Route>> {
        let mut connection = Connection::open(&self.page, BUFFER_BYTES).await?;
        let mut body = Vec::new();
        connection.get("/api/v1/sessions", keep(&mut body)).await?;
        let listed: Listed = serde_json::from_slice(&body)?;
        let route = |session: Session| Route {
            address: self.page.address,
            prefix: format!("/port/{target_port}"),
            fields: format!(
                "Cookie: {}; hpc_manager_session={}\r\n",
                self.cookie, session.id
            ),
        };
        Ok(listed.sessions.into_iter().map(route).collect())
    }
}

/// A program beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()
        .context("where this program is")?
        .with_file_name(name);
    ensure!(
        path.exists(),
        "`{}` is not built\nhint: just bench",
        path.display()
    );
    Ok(path)
}

/// The proxy as a program that serves root too: every account there is whoever runs this.
fn for_root(dir: &Path, program: &Path) -> Result<PathBuf> {
    let path = dir.join("hpc-proxy");
    let program = program.display();
    let script = format!("#!/bin/sh\nHPC_PROXY_ALLOW_ROOT=true exec '{program}' \"$@\"\n");
    fs::write(&path, script)
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
        .context("write a script")?;
    Ok(path)
}

async fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    Ok(listener.context("listen")?.local_addr()?)
}

/// Starts a program that says on standard output what it has to say.
fn spawn(command: &mut Command, log: &Path) -> Result<(Child, Lines<BufReader<ChildStdout>>)> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(log).context("make a log")?)
        .kill_on_drop(true);
    // The mock carries every WebSocket, and is not measured.
    descriptors::raise()?;
    let mut child = command.spawn().context("start a program")?;
    let stdout = child.stdout.take().context("its standard output")?;
    Ok((child, BufReader::new(stdout).lines()))
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    let line = timeout(START, lines.next_line()).await;
    let line = line.context("a program that says nothing")??;
    line.context("a program that ended")
}
