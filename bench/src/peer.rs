//! Peers: this program again, in a process of its own, as a dev server or a crowd of clients.
//!
//! Descriptors and, where it matters whose a socket is, users are a process's own. A peer is told what
//! to be by one line on its standard input, does what further lines say, answers each by a line, and
//! ends when its standard input does: with us, however we end.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::LazyLock,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    time::timeout,
};

use crate::{descriptors, process::Process, route::Route};

mod crowd;
mod server;
mod tenant;

/// What a peer answers, it answers at once; some wait for hundreds of connections first.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a dev server answers to `GET /small`: a line of a style sheet.
pub const SMALL: &str = "body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: #222 }\n";

/// What a dev server answers to `GET /ten`: 10 kB.
pub static TEN: LazyLock<&str> = LazyLock::new(|| &PAGE[..10_000]);

/// What a dev server answers to `GET /page`: 50 kB of a page whose links are all from the root.
pub static PAGE: LazyLock<String> = LazyLock::new(|| {
    let mut page = String::from(
        "<!doctype html><html><head><meta charset=\"utf-8\"><title>List</title>\
         <link rel=\"stylesheet\" href=\"/site.css\"></head><body>\n",
    );
    for item in 0.. {
        if page.len() > 50_000 {
            break;
        }
        page.push_str(&format!(
            "<div class=\"row item-{item}\"><a href=\"/items/{item}/show\" title=\"Item {item}\">Item {item}</a>\
             <img src=\"/images/{item}.png\" alt=\"\"><p>Lorem ipsum dolor sit amet, consectetur adipiscing \
             elit, sed do eiusmod tempor incididunt.</p></div>\n"
        ));
    }
    page + "</body></html>\n"
});

/// The argument that makes this program a peer.
const ARGUMENT: &str = "peer";

/// What a peer is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Role {
    /// A dev server for all loads; answers with its target port.
    Server,
    /// Clients that take their time; see `peer/crowd.rs`. Answers with their number once all are connected;
    /// then, to each line, how many are and how often one was sent away.
    Crowd {
        /// How they come to the dev server.
        route: Route,
        /// How many.
        clients: usize,
    },
    /// Who has a target port now and then; see `peer/tenant.rs`. Answers `ready`, then each command.
    Tenant {
        /// The target port.
        port: u16,
        /// What all its answers hold.
        name: String,
        /// Whether it speaks before it is asked.
        forward: bool,
    },
}

/// A running peer; killed when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    /// What it said first.
    pub greeting: String,
}

/// The program that peers are made of.
#[derive(Clone, Debug)]
pub struct Peers {
    program: PathBuf,
    uid: Option<u32>,
}

impl Peers {
    /// This very program.
    ///
    /// # Errors
    /// It does not know where it is.
    pub fn of_this_program() -> Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        Ok(Self { program, uid: None })
    }

    /// A copy in `directory`, which other users can reach where they cannot reach this one.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copied_to(mut self, directory: &Path) -> Result<Self> {
        let copy = directory.join("peer");
        std::fs::copy(&self.program, &copy).context("copy this program")?;
        self.program = copy;
        Ok(self)
    }

    /// Run by another user; only root can.
    #[must_use]
    pub fn by(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Starts one.
    ///
    /// # Errors
    /// It cannot be run, or cannot do what it should.
    pub async fn start(&self, role: &Role) -> Result<Peer> {
        let mut command = Command::new(&self.program);
        command
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid).current_dir("/");
        }
        let mut child = command.spawn().context("start a peer")?;
        let stdin = child.stdin.take().context("its standard input")?;
        let stdout = child.stdout.take().context("its standard output")?;
        let mut peer = Peer {
            child,
            stdin,
            stdout: BufReader::new(stdout).lines(),
            greeting: String::new(),
        };
        peer.greeting = peer.ask(&serde_json::to_string(role)?).await?;
        Ok(peer)
    }

    /// Starts a dev server, and returns it with its target port.
    ///
    /// # Errors
    /// It cannot be run.
    pub async fn server(&self) -> Result<(Peer, u16)> {
        let peer = self.start(&Role::Server).await?;
        let port = peer.greeting.parse().context("the port of a dev server")?;
        Ok((peer, port))
    }
}

impl Peer {
    /// Its process.
    pub fn process(&self) -> Process {
        Process(self.child.id().unwrap_or_default())
    }

    /// Sends a line, and returns the answer.
    ///
    /// # Errors
    /// It has ended, or does not answer.
    pub async fn ask(&mut self, line: &str) -> Result<String> {
        self.tell(line).await?;
        self.hear().await
    }

    /// Sends a line.
    ///
    /// # Errors
    /// It has ended.
    pub async fn tell(&mut self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        let told = self.stdin.write_all(line.as_bytes()).await;
        told.context("tell a peer")
    }

    /// Returns the next answer.
    ///
    /// # Errors
    /// It has ended, or does not answer.
    pub async fn hear(&mut self) -> Result<String> {
        match timeout(DEADLINE, self.stdout.next_line()).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => bail!("a peer has ended"),
            Ok(Err(error)) => Err(error).context("hear a peer"),
            Err(_) => bail!("a peer said nothing for {DEADLINE:?}"),
        }
    }
}

/// Runs as a peer if this process was started as one.
pub fn main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != ARGUMENT) {
        return None;
    }
    Some(match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads it, whoever started us is gone.
            let _ = writeln!(std::io::stderr(), "peer: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn run() -> Result<()> {
    let mut first = String::new();
    std::io::stdin()
        .read_line(&mut first)
        .context("read a role")?;
    let role: Role = serde_json::from_str(&first).context("understand a role")?;
    descriptors::raise()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match role {
            Role::Server => server::run().await,
            Role::Crowd { route, clients } => crowd::run(route, clients, commands()).await,
            Role::Tenant {
                port,
                name,
                forward,
            } => tenant::run(port, name, forward, commands()).await,
        }
    })
}

/// Answers whoever started us.
fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .context("answer")
}

/// The lines on standard input. The process ends with them.
fn commands() -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    receive
}
