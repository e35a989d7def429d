//! Removes what dead owners left: a test process that was killed could not remove its containers
//! and its network. Several sweeps may run at once.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::OWNER_LABEL;
use crate::owner::{DIR_PREFIX, Owner};

/// A container or a network whose owner is dead.
pub(super) struct Leftover {
    pub(super) name: String,
    removal: &'static [&'static str],
}

/// Removes them all.
pub(super) fn sweep() -> Result<()> {
    for left in leftovers()? {
        // Another sweep may have been quicker.
        let _ = docker(&[left.removal, &[&left.name]].concat());
    }
    Ok(())
}

/// Containers first, as they hold their networks.
pub(super) fn leftovers() -> Result<Vec<Leftover>> {
    let of_the_dead = |owner: Option<Owner>| owner.is_some_and(Owner::is_dead);
    let filter = format!("label={OWNER_LABEL}");
    let format = format!("{{{{.Names}}}} {{{{.Label \"{OWNER_LABEL}\"}}}}");
    let containers = docker(&["ps", "--all", "--filter", &filter, "--format", &format])?;
    let containers = containers
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, mark)| of_the_dead(Owner::parse(mark)))
        .map(|(name, _)| Leftover {
            name: name.to_owned(),
            removal: &["rm", "--force", "--volumes"],
        });

    let filter = format!("name=^{DIR_PREFIX}");
    let networks = docker(&[
        "network",
        "ls",
        "--filter",
        &filter,
        "--format",
        "{{.Name}}",
    ])?;
    let networks = networks
        .lines()
        .filter(|name| of_the_dead(Owner::of_directory(name)))
        .map(|name| Leftover {
            name: name.to_owned(),
            removal: &["network", "rm"],
        });
    Ok(containers.chain(networks).collect())
}

fn docker(args: &[&str]) -> Result<String> {
    let output = Command::new("docker")
        .args(args)
        .output()
        .context("run docker\nhint: ./dev images")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "docker {args:?} failed: {said}\nhint: ./dev images"
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
