//! The keys of one cluster of containers, and the ssh configuration that pins them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tokio::process::Command;

use crate::cluster::{NODES, USERS};

/// Fresh keys: one per host, one per user.
pub(super) struct Keys {
    dir: PathBuf,
    for_hosts: PathBuf,
}

impl Keys {
    /// Makes them below `dir`.
    pub(super) async fn make(dir: &Path) -> Result<Keys> {
        let keys = Keys {
            dir: dir.join("keys"),
            for_hosts: dir.join("host-keys"),
        };
        for dir in [&keys.dir, &keys.for_hosts] {
            std::fs::create_dir(dir).with_context(|| format!("create `{}`", dir.display()))?;
        }
        let users = USERS.iter().map(|user| keys.dir.join(user));
        let hosts = hosts().map(|host| keys.host_key(host));
        try_join_all(users.chain(hosts).map(generate)).await?;
        for user in USERS {
            let public = format!("{user}.pub");
            std::fs::copy(keys.dir.join(&public), keys.for_hosts.join(&public))
                .with_context(|| format!("copy `{public}`"))?;
        }
        Ok(keys)
    }

    /// What the containers get to see: private keys of hosts, public keys of users.
    pub(super) fn for_hosts(&self) -> &Path {
        &self.for_hosts
    }

    /// Writes the configuration for a login node whose sshd is published on `port`.
    pub(super) fn ssh_config(&self, port: u16) -> Result<PathBuf> {
        let mut known = String::new();
        for host in hosts() {
            let public = self.host_key(host).with_extension("pub");
            let key = std::fs::read_to_string(&public)
                .with_context(|| format!("read `{}`", public.display()))?;
            known.push_str(&format!("{host} {key}"));
        }
        let keys = self.dir.display();
        let nodes = NODES.join(" ");
        // `HostKeyAlias` makes the pin independent of the port. Without `%r` the jump would be
        // made under the name that this machine's user has.
        let config = format!(
            "Host login\n\
             \x20 HostName 127.0.0.1\n\
             \x20 Port {port}\n\
             \x20 HostKeyAlias login\n\
             Host {nodes}\n\
             \x20 ProxyJump %r@login\n\
             Host *\n\
             \x20 IdentityFile {keys}/%r\n\
             \x20 IdentitiesOnly yes\n\
             \x20 UserKnownHostsFile {keys}/known_hosts\n\
             \x20 GlobalKnownHostsFile none\n\
             \x20 StrictHostKeyChecking yes\n\
             \x20 BatchMode yes\n\
             \x20 ConnectTimeout 5\n"
        );
        let path = self.dir.join("ssh_config");
        std::fs::write(self.dir.join("known_hosts"), known)
            .and_then(|()| std::fs::write(&path, config))
            .context("write the ssh configuration")?;
        Ok(path)
    }

    fn host_key(&self, host: &str) -> PathBuf {
        self.for_hosts.join(format!("host_{host}"))
    }
}

fn hosts() -> impl Iterator<Item = &'static str> {
    std::iter::once("login").chain(NODES)
}

async fn generate(path: PathBuf) -> Result<()> {
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&path)
        .output()
        .await
        .context("run ssh-keygen")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ssh-keygen failed: {said}");
    Ok(())
}
