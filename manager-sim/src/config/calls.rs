//! The commands that ask a running manager for something.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    client::Address,
    names::{ClusterName, UserName},
    wish::Wish,
};

/// What exit codes mean, below the help of each command.
const EXIT_CODES: &str = "Exit status: 0 done; 1 it could not be done, and why is said on standard \
    error; 2 bad usage.";

/// A command for a running manager.
#[derive(Debug, Subcommand)]
pub enum Call {
    /// Launches a session.
    #[command(after_help = EXIT_CODES)]
    Launch(LaunchArgs),
    /// Lists the sessions.
    #[command(after_help = EXIT_CODES)]
    Ls(ListArgs),
    /// Opens a session in the browser.
    #[command(after_help = EXIT_CODES)]
    Open(OpenArgs),
    /// Prints what a session's job has printed.
    #[command(after_help = EXIT_CODES)]
    Logs(LogsArgs),
    /// Cancels sessions.
    #[command(after_help = EXIT_CODES)]
    Cancel(CancelArgs),
}

/// Which manager is asked, and as whom.
#[derive(Debug, Args)]
pub struct WayArgs {
    /// For whom, at the manager that runs here as this user and has several.
    #[arg(long, env = "HPC_MANAGER_USER", value_name = "NAME")]
    pub user: Option<UserName>,
    /// A manager elsewhere, such as `https://hpc.example.org`: it is sent the access token in
    /// $HPC_MANAGER_TOKEN [default: the one that runs here as this user].
    #[arg(
        long,
        env = "HPC_MANAGER_REMOTE_URL",
        value_name = "URL",
        conflicts_with = "user"
    )]
    pub url: Option<Address>,
    /// A file of this user's alone with the access token.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
}

/// `launch`.
#[derive(Debug, Args)]
pub struct LaunchArgs {
    #[command(flatten)]
    wish: WishArgs,
    /// Waits until it is connected, or has ended.
    #[arg(long)]
    pub wait: bool,
    /// Waits, and opens it in the browser.
    #[arg(long)]
    pub open: bool,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// Which manager.
    #[command(flatten)]
    pub way: WayArgs,
}

#[derive(Debug, Args)]
struct WishArgs {
    /// The partition.
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// How long it may run, such as 4:00:00.
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Processors.
    #[arg(long, value_name = "COUNT")]
    cpus: Option<std::num::NonZeroU32>,
    /// Memory, such as 8G.
    #[arg(long, value_name = "SIZE")]
    mem: Option<String>,
    /// Generic resources, such as gpu:1.
    #[arg(long, value_name = "GRES")]
    gres: Option<String>,
    /// Whom it is charged to.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// The node that it must be on.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// The cluster, for a user of several.
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// The IDE, where the manager has several.
    #[arg(long, value_name = "NAME")]
    ide: Option<String>,
    /// Another option of sbatch that the manager allows, by its long name.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    option: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("it is not of the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl LaunchArgs {
    /// What the job is to have.
    pub fn wish(&self) -> Wish {
        let wish = &self.wish;
        Wish {
            node: wish.node.clone(),
            partition: wish.partition.clone(),
            time: wish.time.clone(),
            cpus: wish.cpus,
            mem: wish.mem.clone(),
            gres: wish.gres.clone(),
            account: wish.account.clone(),
            cluster: wish.cluster.clone(),
            ide: wish.ide.clone(),
            options: wish.option.iter().cloned().collect(),
        }
    }
}

/// `ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// Which manager.
    #[command(flatten)]
    pub way: WayArgs,
}

/// `open`.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// The session, or its job [default: the newest that lives].
    #[arg(value_name = "ID|JOB")]
    pub session: Option<String>,
    /// The dev server on this port, in place of the IDE.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Prints the address. Where people sign in by links it is one, good once and for a short time.
    #[arg(long)]
    pub print: bool,
    /// Which manager.
    #[command(flatten)]
    pub way: WayArgs,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The session, or its job [default: the newest that lives].
    #[arg(value_name = "ID|JOB")]
    pub session: Option<String>,
    /// Goes on until the session has ended.
    #[arg(long, short)]
    pub follow: bool,
    /// Which manager.
    #[command(flatten)]
    pub way: WayArgs,
}

/// `cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The sessions, or their jobs.
    #[arg(value_name = "ID|JOB", required_unless_present = "all")]
    pub sessions: Vec<String>,
    /// All that live.
    #[arg(long, conflicts_with = "sessions")]
    pub all: bool,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// Which manager.
    #[command(flatten)]
    pub way: WayArgs,
}

impl Call {
    /// Which manager is asked, and as whom.
    pub fn way(&self) -> &WayArgs {
        match self {
            Self::Launch(args) => &args.way,
            Self::Ls(args) => &args.way,
            Self::Open(args) => &args.way,
            Self::Logs(args) => &args.way,
            Self::Cancel(args) => &args.way,
        }
    }
}
