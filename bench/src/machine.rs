//! On what, from what and when something was measured.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

/// A few words about the machine: kernel, processor, load.
pub fn machine() -> String {
    let name = rustix::system::uname();
    let kernel = name.release().to_string_lossy();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("Linux {kernel}, {model}, {cores} cores, load average {load} at the start")
}

/// Whether there is more than loopback: then a firewall's rules may cost every packet something.
pub fn network() -> &'static str {
    let devices = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    // Two lines of titles, and one for each device (proc(5)).
    match devices.lines().count() {
        3 => "in a network of its own",
        _ => "in the machine's own network",
    }
}

/// The commit that `directory` is at, and whether something was changed since.
///
/// # Errors
/// There is no git.
pub fn commit(directory: &Path) -> Result<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(directory)
            .args(args)
            .output();
        let output = output.context("run git")?;
        anyhow::Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Ok(match changed.is_empty() {
        true => commit,
        false => format!("{commit} and changes"),
    })
}
