//! A whole cluster on one machine, with neither containers nor root: an SSH server in this process,
//! virtual users with homes of their own, and nodes that are loopback addresses.
//!
//! It is two processes. The outer one starts the inner one, which does everything, and both watch
//! for the other's end; so whichever is killed, the other is there to end what it leaves behind.

mod exec;
mod forward;
mod layout;
mod place;
mod pump;
mod server;
mod sshd;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use self::layout::Layout;
use self::place::Places;
use self::sshd::Sshd;
use crate::clock::Time;
use crate::cluster::Health;
use crate::control::ShapeArgs;
use crate::spool::Spool;
use crate::{processes, stop};

/// How long nodes may take to come up.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// How long nodes get to end their jobs before everything is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// SIGKILL needs no longer, unless a process hangs in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(10);

/// How often the running cluster is looked after.
const LOOK: Duration = Duration::from_millis(100);

/// How often orphans that have ended are taken in.
const REAP: Duration = Duration::from_secs(1);

/// `slurm-sim up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where everything is kept: keys, homes, spool. It is made if need be and never removed.
    #[arg(long)]
    dir: PathBuf,
    /// Stop when standard input ends, so that the cluster never outlives its caller.
    #[arg(long)]
    until_stdin_closes: bool,
    #[command(flatten)]
    shape: ShapeArgs,
    /// The inner process: standard input is the outer one's lifeline.
    #[arg(long, hide = true)]
    inner: bool,
}

/// Runs the cluster until it is asked to stop, and leaves nothing running.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("cannot become a subreaper")?;
    let result = if args.inner {
        run_inner(&args)
    } else {
        run_outer(args.until_stdin_closes)
    };
    let clean = processes::kill_descendants(KILL_DEADLINE);
    result?;
    ensure!(clean, "some processes could not be killed");
    Ok(())
}

fn run_outer(until_stdin_closes: bool) -> anyhow::Result<()> {
    let stop = stop::requests(until_stdin_closes)?;
    let mut inner = Command::new("/proc/self/exe")
        .arg0("slurm-sim")
        .args(std::env::args_os().skip(1))
        .arg("--inner")
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start the cluster")?;
    let lifeline = inner.stdin.take();
    let asked = loop {
        if let Some(status) = inner.try_wait().context("cannot wait for the cluster")? {
            break Err(status);
        }
        // Orphans of an inner process that was killed come here; see `run`.
        if stop.recv_timeout(POLL * 5).is_ok() {
            break Ok(());
        }
    };
    drop(lifeline);
    let status = match asked {
        Err(status) => status,
        Ok(()) => wait(&mut inner, STOP_DEADLINE + KILL_DEADLINE)?,
    };
    ensure!(status.success(), "the cluster ended badly: {status}");
    Ok(())
}

fn wait(child: &mut Child, within: Duration) -> anyhow::Result<std::process::ExitStatus> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a process")? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            bail!("process {} does not end", child.id());
        }
        thread::sleep(POLL);
    }
}

fn run_inner(args: &Args) -> anyhow::Result<()> {
    let stop = stop::requests(true)?;
    let names = args.shape.node_names()?;
    let users = match args.shape.users() {
        [] => &["alice", "bob"].map(str::to_owned)[..],
        users => users,
    };
    let layout = Layout::make(&args.dir, users, &names)?;
    let spool = Spool::at(layout.spool());
    let cluster = args.shape.cluster(&layout.homes(), users)?;
    spool.create(&cluster).context("cannot make the spool")?;

    let mut nodes = names
        .iter()
        .map(|name| start_node(&spool, name))
        .collect::<anyhow::Result<Vec<Child>>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let places = Places::new(&layout, &names, cluster.virtual_users.clone())?;
    let mut sshd = Sshd::new(places, runtime.handle().clone())?;
    let port = sshd.port();
    layout.write_client_config(port)?;
    sshd.set(true)?;
    await_nodes(&spool, &mut nodes)?;
    announce(&layout, port, users, &names)?;

    let mut orphans = Orphans::default();
    while stop.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        orphans.take_in();
        sshd.set(spool.read().context("cannot read the spool")?.knobs.sshd_up)?;
        // A node that died is the cluster's weather, not our end.
        let died = |node: &mut Child| node.try_wait().ok().flatten();
        nodes.retain_mut(|node| match died(node) {
            Some(status) => {
                tracing::warn!(%status, "a node's daemon has ended");
                false
            }
            None => true,
        });
    }
    runtime
        .block_on(async { tokio::time::timeout(STOP_DEADLINE, sshd.end()).await })
        .ok();
    runtime.shutdown_timeout(Duration::from_millis(100));
    for node in &mut nodes {
        drop(node.stdin.take());
    }
    for node in &mut nodes {
        // Whatever is left then is killed by `run`.
        let _ = wait(node, STOP_DEADLINE);
    }
    Ok(())
}

fn start_node(spool: &Spool, name: &str) -> anyhow::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("slurm-sim")
        .args(["node", "--until-stdin-closes", "--name", name, "--spool"])
        .arg(spool.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start the daemon of `{name}`"))
}

fn await_nodes(spool: &Spool, nodes: &mut [Child]) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        let cluster = spool.read().context("cannot read the spool")?;
        if spool
            .health(&cluster, Time::now())
            .values()
            .all(|health| *health == Health::Well)
        {
            return Ok(());
        }
        if let Some(dead) = nodes
            .iter_mut()
            .find_map(|node| node.try_wait().ok().flatten())
        {
            bail!("a node's daemon has ended: {dead}");
        }
        ensure!(Instant::now() < deadline, "the nodes do not come up");
        thread::sleep(POLL);
    }
}

/// The one line that says that the cluster is ready, and where.
fn announce(layout: &Layout, port: u16, users: &[String], nodes: &[String]) -> anyhow::Result<()> {
    let users: Vec<_> = users
        .iter()
        .map(|name| json!({"name": name, "home": layout.home(name)}))
        .collect();
    let line = json!({
        "ssh_config": layout.ssh_config(),
        "ssh_port": port,
        "users": users,
        "nodes": nodes,
        "spool": layout.spool(),
        "bin": layout.bin(),
    });
    let mut out = io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("cannot say that it is ready")
}

/// Takes in orphans: processes that nobody waits for, as this process has become their parent.
#[derive(Default)]
struct Orphans {
    /// Zombies seen last time. Our own children are waited for at once, so one that is seen twice
    /// is an orphan.
    seen: Vec<i32>,
    last: Option<Instant>,
}

impl Orphans {
    fn take_in(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() < REAP) {
            return;
        }
        self.last = Some(Instant::now());
        let me = Pid::this().as_raw();
        let zombies: Vec<i32> = processes::all()
            .into_iter()
            .filter(|process| process.zombie && process.parent == me)
            .map(|process| process.pid)
            .collect();
        for pid in zombies.iter().filter(|pid| self.seen.contains(pid)) {
            let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
        }
        self.seen = zombies;
    }
}
