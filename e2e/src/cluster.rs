//! What a story needs of a cluster, so that it can be told on each kind of them unchanged.
//!
//! A [`Cluster`] is a kind; starting it gives a [`Site`] of its own to one story. Everything that
//! a user could do goes over `ssh` and the browser and is not here.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use futures_util::future::LocalBoxFuture;

use crate::faults::Container;

mod containers;
pub mod docker;
pub mod embedded;
pub mod scheduler;
pub mod slurm;

pub use docker::{Docker, DockerConfined};
pub use embedded::Embedded;
pub use scheduler::{Order, Scheduler};
pub use slurm::{Slurm, SlurmCgroup};

/// The accounts of every cluster.
pub const USERS: [&str; 2] = ["alice", "bob"];

/// The nodes of every cluster; jobs that ask for none land on the first.
pub const NODES: [&str; 2] = ["node01", "node02"];

/// A property that not every cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Users are Unix accounts of their own, so that the kernel tells them apart.
    SeveralUids,
    /// The machine has a freezer hierarchy of its own (cgroup v1), which Slurm in containers can use.
    Freezer,
    /// Hosts are containers, with networks, file systems and processes of their own.
    Containers,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::SeveralUids => "several uids",
            Need::Freezer => "a machine with cgroup v1's freezer at /sys/fs/cgroup/freezer",
            Need::Containers => "containers",
        })
    }
}

/// A kind of cluster.
pub trait Cluster {
    /// As the tests on it are named.
    fn name(&self) -> &'static str;

    /// What every story on it needs.
    fn needs(&self) -> &'static [Need] {
        &[]
    }

    /// Whether a story that needs this can be told here; as on most containers, unless said otherwise.
    fn meets(&self, need: Need) -> bool {
        match need {
            Need::SeveralUids | Need::Containers => true,
            Need::Freezer => false,
        }
    }

    /// Whether one program of a user's may take another's sockets on its nodes, where that is known:
    /// a private localhost is made in one way or another. On most containers it may.
    fn takes_sockets(&self) -> Option<bool> {
        Some(true)
    }

    /// What runs that are over have left outside this machine's processes and directories.
    ///
    /// # Errors
    /// It cannot be told.
    fn leftovers(&self) -> Result<Vec<String>> {
        containers::leftovers()
    }

    /// Brings one up, keeping whatever it keeps in `dir`.
    fn start(&self, dir: &Path) -> impl Future<Output = Result<Box<dyn Site>>>;
}

/// A running cluster. Dropped, it is gone.
pub trait Site {
    /// For `ssh -F`: knows `login` and the nodes, pins their keys, has one key per user.
    fn ssh_config(&self) -> &Path;

    /// The programs that jobs and terminals start.
    fn tools(&self) -> &Tools;

    /// A port that a dev server may take on any one node: the wanted one, unless all nodes and
    /// all other stories share this machine's ports.
    ///
    /// # Errors
    /// No port is free.
    fn port(&self, wanted: u16) -> Result<u16>;

    /// Which Slurm it has.
    fn scheduler(&self) -> Scheduler;

    /// Has its Slurm do something, in the name of the one who runs the cluster.
    fn orders<'a>(&'a self, order: Order<'a>) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let line = self.scheduler().line(order);
            self.administers(&line).await.map(drop)
        })
    }

    /// Runs a line of shell on the login node as the one who runs the cluster.
    fn administers<'a>(&'a self, command: &'a str) -> LocalBoxFuture<'a, Result<String>>;

    /// Ends the login node's sshd and every connection that it has, and starts it anew.
    fn restarts_sshd(&self) -> LocalBoxFuture<'_, Result<()>>;

    /// Ends a node with all that runs on it, as a power cut does.
    fn loses<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>>;

    /// A host that is a container. Whoever has them has the faults below, too.
    ///
    /// # Errors
    /// It is none.
    fn container(&self, host: &str) -> Result<Container> {
        bail!("{host} is no container")
    }

    /// Starts a node that was lost, as empty as after its power came back.
    fn regains<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move { self.container(node)?.starts_again().await })
    }

    /// Stops every process of a node where it is.
    fn freezes<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move { self.container(node)?.pauses().await })
    }

    /// Lets them go on.
    fn thaws<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move { self.container(node)?.goes_on().await })
    }

    /// Kills the processes of a user on a host whose command line a pattern of pgrep(1)'s matches, and
    /// tells how many.
    fn kills<'a>(
        &'a self,
        host: &'a str,
        user: &'a str,
        pattern: &'a str,
    ) -> LocalBoxFuture<'a, Result<usize>> {
        Box::pin(async move {
            let kill = format!("pkill -KILL -c -u {user} -f '{pattern}'; :");
            let count = self.container(host)?.runs(&kill).await?;
            count.trim().parse().context("a count")
        })
    }

    /// What its parties have logged, for a person to read.
    fn logs(&self) -> Vec<Log>;

    /// Takes it down in good order.
    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, Result<()>>;
}

/// How the programs are called on a node; all but the proxy ready for a shell.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The proxy under test: a path or a name.
    pub hpc_proxy: String,
    /// The IDE.
    pub ide: String,
    /// Live Server.
    pub live_server: String,
    /// browser-sync.
    pub browser_sync: String,
}

impl Tools {
    /// The proxy under test as a word of shell.
    pub fn hpc_proxy_word(&self) -> String {
        shell_word(Path::new(&self.hpc_proxy))
    }

    /// The IDE's whole command line, as the job script wants it.
    pub fn ide_command(&self) -> String {
        let ide = &self.ide;
        format!(
            r#"{ide} --host 0.0.0.0 --port "$IDE_PORT" --connection-token-file "$IDE_TOKEN_FILE""#
        )
    }

    /// The same for an IDE on a Unix socket, which asks nobody who they are.
    pub fn ide_command_on_socket(&self) -> String {
        let ide = &self.ide;
        format!(r#"{ide} --socket-path "$IDE_SOCKET" --without-connection-token"#)
    }
}

/// One party's log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Whose.
    pub party: String,
    /// All of it.
    pub text: String,
}

impl Log {
    /// The file's contents; a file that is not there is an empty log.
    pub fn of_file(party: &str, path: &Path) -> Log {
        Log {
            party: party.to_owned(),
            text: std::fs::read_to_string(path).unwrap_or_default(),
        }
    }
}

/// A path as one word of shell. Paths of ours hold no quotes.
fn shell_word(path: &Path) -> String {
    format!("'{}'", path.display())
}

/// What users' programs left in a home: the jobs' outputs and the proxies' records.
fn home_files(home: &Path) -> Vec<PathBuf> {
    let interesting = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        path.is_file()
            && (name.ends_with(".out") || name.ends_with(".log") || name.ends_with(".json"))
    };
    [home.to_owned(), home.join(".hpc-proxy")]
        .iter()
        .flat_map(|dir| dir.read_dir().into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(interesting)
        .collect()
}
