//! `slurm-sim`'s own command line, apart from the Slurm commands that it plays.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::applet::Applet;
use crate::control::{self, ShapeArgs, SpoolArgs, Turn};
use crate::{embedded, node, step, stepd, stop, task};

/// A mock Slurm cluster, faithful to recorded Slurm.
#[derive(Debug, Parser)]
#[command(name = "slurm-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the Slurm commands that are played in a directory.
    Install { dir: PathBuf },
    /// Make a cluster's spool, with no jobs in it.
    Init {
        #[command(flatten)]
        spool: SpoolArgs,
        #[command(flatten)]
        shape: ShapeArgs,
    },
    /// Run a node's daemon.
    Node {
        #[command(flatten)]
        spool: SpoolArgs,
        /// Which node this is.
        #[arg(long)]
        name: String,
        /// Stop when standard input ends.
        #[arg(long)]
        until_stdin_closes: bool,
    },
    /// Tune or break a cluster.
    Control {
        #[command(flatten)]
        spool: SpoolArgs,
        #[command(subcommand)]
        turn: Turn,
    },
    /// Run a whole cluster on this machine, with an SSH login.
    Up(embedded::Args),
    #[command(hide = true)]
    Stepd,
    #[command(hide = true)]
    Step,
    #[command(hide = true)]
    Task(task::Args),
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("SLURM_SIM_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    let result = match cli.command {
        Command::Install { dir } => install(&dir),
        Command::Init { spool, shape } => init(&spool, &shape),
        Command::Node {
            spool,
            name,
            until_stdin_closes,
        } => run_node(&spool, &name, until_stdin_closes),
        Command::Control { spool, turn } => {
            spool.spool().and_then(|spool| control::turn(&spool, &turn))
        }
        Command::Up(args) => embedded::run(args),
        Command::Stepd => stepd::run(),
        Command::Step => step::run(),
        Command::Task(args) => return task::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "slurm-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes every applet a symbolic link to this program.
pub(crate) fn install(dir: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find myself")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    for applet in Applet::ALL {
        let link = dir.join(applet.name());
        if fs::read_link(&link).is_ok_and(|target| target == program) {
            continue;
        }
        let _ = fs::remove_file(&link);
        symlink(&program, &link).with_context(|| format!("cannot make `{}`", link.display()))?;
    }
    Ok(())
}

fn init(spool: &SpoolArgs, shape: &ShapeArgs) -> anyhow::Result<()> {
    spool
        .spool()?
        .create(&shape.cluster(Path::new("/home"), shape.users())?)
        .context("cannot make the spool")
}

fn run_node(spool: &SpoolArgs, name: &str, until_stdin_closes: bool) -> anyhow::Result<()> {
    let stop = stop::requests(until_stdin_closes)?;
    node::run(spool.spool()?, name, &stop)
}
