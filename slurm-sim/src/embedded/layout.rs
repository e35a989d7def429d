//! The directory of an embedded cluster: keys, homes, commands, and the client's configuration.

use std::fs::{self, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

use crate::cli;

/// The login node's name.
pub(super) const LOGIN: &str = "login";

/// Knows where everything is.
pub(super) struct Layout {
    dir: PathBuf,
    hosts: Vec<String>,
}

impl Layout {
    /// Makes what is missing. Keys and homes of an earlier cluster are kept.
    pub(super) fn make(dir: &Path, users: &[String], nodes: &[String]) -> anyhow::Result<Self> {
        let plain = |name: &String| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
                && !name.starts_with('-')
        };
        for name in users.iter().chain(nodes) {
            ensure!(plain(name), "`{name}` is not a plain name");
        }
        fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        let dir = dir.canonicalize().context("cannot find the directory")?;
        let hosts = std::iter::once(LOGIN.to_owned())
            .chain(nodes.iter().cloned())
            .collect();
        let layout = Self { dir, hosts };
        private_dir(&layout.dir.join("keys"))?;
        for user in users {
            private_dir(&layout.home(user))?;
            make_key(&layout.dir.join("keys").join(user))?;
        }
        for host in &layout.hosts {
            make_key(&layout.host_key(host))?;
        }
        cli::install(&layout.bin())?;
        Ok(layout)
    }

    pub(super) fn home(&self, user: &str) -> PathBuf {
        self.homes().join(user)
    }

    pub(super) fn homes(&self) -> PathBuf {
        self.dir.join("home")
    }

    pub(super) fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    pub(super) fn ssh_config(&self) -> PathBuf {
        self.dir.join("ssh_config")
    }

    fn host_key(&self, host: &str) -> PathBuf {
        self.dir.join("keys").join(format!("host_{host}"))
    }

    pub(super) fn load_host_key(&self, host: &str) -> anyhow::Result<PrivateKey> {
        load_key(&self.host_key(host))
    }

    pub(super) fn load_user_key(&self, user: &str) -> anyhow::Result<PrivateKey> {
        load_key(&self.dir.join("keys").join(user))
    }

    /// Writes what the system's `ssh` needs to log in, with every host key pinned.
    pub(super) fn write_client_config(&self, port: u16) -> anyhow::Result<()> {
        let known_hosts = self.dir.join("known_hosts");
        let mut pins = String::new();
        for host in &self.hosts {
            let key = self.load_host_key(host)?.public_key().to_openssh()?;
            pins.push_str(&format!("{host} {key}\n"));
        }
        fs::write(&known_hosts, pins).context("cannot pin the host keys")?;
        let config = format!(
            "Host {LOGIN}\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias {LOGIN}\n\
             Host {nodes}\n  ProxyJump %r@{LOGIN}\n\
             Host *\n  UserKnownHostsFile \"{known_hosts}\"\n  GlobalKnownHostsFile none\n  \
             StrictHostKeyChecking yes\n  IdentitiesOnly yes\n  IdentityFile \"{keys}/%r\"\n  \
             IdentityAgent none\n  BatchMode yes\n  ConnectTimeout 10\n",
            nodes = self.hosts[1..].join(" "),
            known_hosts = known_hosts.display(),
            keys = self.dir.join("keys").display(),
        );
        fs::write(self.ssh_config(), config).context("cannot write the client's configuration")
    }
}

fn private_dir(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)
        .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot make `{}`", dir.display()))
}

fn make_key(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let context = || format!("cannot make the key `{}`", path.display());
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
        .with_context(context)?;
    let text = key.to_openssh(LineEnding::LF).with_context(context)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(context)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(context)?;
    fs::write(
        path.with_extension("pub"),
        key.public_key().to_openssh()? + "\n",
    )
    .with_context(context)
}

fn load_key(path: &Path) -> anyhow::Result<PrivateKey> {
    PrivateKey::read_openssh_file(path)
        .with_context(|| format!("cannot read the key `{}`", path.display()))
}
