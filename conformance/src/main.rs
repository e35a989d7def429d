//! The `conformance` program: plays the table against a proxy and prints it.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use conformance::{Kind, Options, list, run, serve_as_stranger};

/// Plays what a first-class proxy must do against a program, and prints a table.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// `PROXY=PATH` names the program; without it the workspace's own hpc-proxy is judged. Other words
    /// select rows as `--only` does.
    words: Vec<String>,
    /// Which program it is [default: as its file name tells].
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Rows with this id (`A19`, `A19.3`), of this section (`C`), or with these words in their name.
    #[arg(long, value_name = "ROWS")]
    only: Vec<String>,
    /// Names the rows and plays none.
    #[arg(long)]
    list: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Waits and sizes in full: minutes and gigabytes, as the behaviours say.
    #[arg(long)]
    slow: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays another user's dev server until its stdin ends.
    #[command(hide = true)]
    Stranger {
        /// Where to listen.
        address: String,
        /// What to answer.
        body: String,
    },
}

fn main() -> ExitCode {
    match answer(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell it to when stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether no row failed.
fn answer(cli: Cli) -> Result<bool> {
    let mut out = io::stdout().lock();
    if let Some(Command::Stranger { address, body }) = cli.command {
        drop(out);
        serve_as_stranger(&address, &body)?;
        return Ok(true);
    }
    let (proxies, words): (Vec<_>, Vec<_>) = cli
        .words
        .into_iter()
        .partition(|word| word.starts_with("PROXY="));
    let only: Vec<_> = cli.only.into_iter().chain(words).collect();
    if cli.list {
        for [id, cites, name] in list(&only) {
            writeln!(out, "{id:7} {cites:12} {name}")?;
        }
        return Ok(true);
    }
    let program = match proxies.last().and_then(|word| word.strip_prefix("PROXY=")) {
        Some(path) => PathBuf::from(path),
        None => neighbour("hpc-proxy")?,
    };
    let kind = cli.kind.unwrap_or_else(|| Kind::of(&program));
    let program = found(&program)?;
    let helper = env::current_exe().ok();
    let report = run(&Options {
        kind,
        program,
        only,
        is_slow: cli.slow,
        helper,
    })?;
    if cli.json {
        writeln!(out, "{:#}", report.to_json())?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(report.failed().next().is_none())
}

/// A program beside this one.
fn neighbour(name: &str) -> Result<PathBuf> {
    let here = env::current_exe().context("where this program is")?;
    let program = here.with_file_name(name);
    ensure!(
        program.exists(),
        "`{}` is not built\nhint: just build, or name one with PROXY=PATH",
        program.display()
    );
    Ok(program)
}

/// The program as a path from the root; a plain name is looked up in `PATH`.
fn found(program: &Path) -> Result<PathBuf> {
    if program.components().count() > 1 || program.exists() {
        return std::path::absolute(program).context("the program's path");
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).map(|dir| dir.join(program));
    let place = places.find(|place| place.exists());
    place.with_context(|| format!("`{}` is not in PATH", program.display()))
}
