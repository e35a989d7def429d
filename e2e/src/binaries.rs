//! Where the programs under test and the dev servers are. It finds them; it never builds them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The proxy under test: `E2E_PROXY`, else the workspace's own.
pub fn hpc_proxy() -> Result<PathBuf> {
    replaceable("E2E_PROXY", "hpc-proxy")
}

/// The manager under test: `E2E_MANAGER`, else the workspace's own.
pub fn hpc_manager() -> Result<PathBuf> {
    let replaced = std::env::var("E2E_MANAGER").unwrap_or_default();
    ensure!(
        !replaced.contains("://"),
        "E2E_MANAGER is an address: that is for `just judge`"
    );
    replaceable("E2E_MANAGER", "hpc-manager")
}

/// The table of raw exchanges.
pub(crate) fn conformance() -> Result<PathBuf> {
    built("conformance")
}

/// The dev server and the proxies that the judge brings along.
pub fn judged() -> PathBuf {
    workspace().join("fixtures/judge")
}

/// Whether a program is to be had by its name alone.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The stand-in for Slurm.
pub fn slurm_sim() -> Result<PathBuf> {
    built("slurm-sim")
}

/// The stand-in for `code serve-web`.
pub fn ide_stand_in() -> Result<PathBuf> {
    built("ide-stand-in")
}

/// A dev server from npm, `fixtures/NAME`.
pub fn fixture(name: &str) -> Result<PathBuf> {
    let bin = workspace()
        .join("fixtures")
        .join(name)
        .join("node_modules/.bin")
        .join(name);
    ensure!(
        bin.exists(),
        "`{}` is not installed\nhint: ./dev fixtures",
        bin.display()
    );
    Ok(bin)
}

/// code-server, as a program for node.
pub fn code_server() -> Result<PathBuf> {
    let entry = fixture_cache().join("code-server/node_modules/code-server/out/node/entry.js");
    ensure!(
        entry.exists(),
        "`{}` is not installed\nhint: ./dev code-server",
        entry.display()
    );
    Ok(entry)
}

/// All of them, with what else is needed to try them.
pub fn fixtures() -> PathBuf {
    workspace().join("fixtures")
}

/// What is installed for those that the compatibility matrix alone needs.
pub fn fixture_cache() -> PathBuf {
    workspace().join(".cache/fixtures")
}

/// Pages about the project.
pub fn docs() -> PathBuf {
    workspace().join("docs")
}

/// The site that the dev servers show: a page with a style sheet, a script and an image.
pub fn site() -> PathBuf {
    workspace().join("fixtures/site")
}

/// A dev server whose pages mean ill.
pub fn hostile() -> PathBuf {
    workspace().join("fixtures/hostile")
}

/// Where failed stories leave what they saw.
pub fn evidence_dir() -> PathBuf {
    workspace().join("target/evidence")
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies below the workspace")
}

fn replaceable(variable: &str, name: &str) -> Result<PathBuf> {
    let Some(path) = std::env::var_os(variable) else {
        return built(name);
    };
    let path = on_path(Path::new(&path)).unwrap_or_else(|| path.into());
    std::path::absolute(&path)
        .with_context(|| format!("{variable} is not a path: `{}`", path.display()))
}

/// Where the system finds a program that is called by its name alone.
fn on_path(program: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(program));
    let is_name = program.components().count() == 1 && !program.exists();
    places.find(|place| is_name && place.is_file())
}

/// Cargo puts a package's tests and examples one directory below the workspace's programs.
fn built(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("where this program is")?;
    let mut dir = here.parent().context("a program lies in a directory")?;
    if dir.ends_with("deps") {
        dir = dir.parent().context("`deps` lies in a directory")?;
    }
    let program = dir.join(name);
    ensure!(
        program.exists(),
        "`{}` is not built\nhint: cargo build --workspace --bins",
        program.display()
    );
    Ok(program)
}
