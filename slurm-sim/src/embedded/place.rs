//! Where one can be logged in: the login node and the compute nodes, which are loopback addresses.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use russh::keys::PublicKey;

use super::layout::{LOGIN, Layout};
use crate::account::Account;

/// The port on which one logs in to a node; only ever dialled through the login node.
const SSH_PORT: u16 = 22;

/// Everything that sessions need to know.
pub(super) struct Places {
    /// The login node first.
    hosts: Vec<Host>,
    users: BTreeMap<String, (Account, PublicKey)>,
    path: OsString,
    shell: PathBuf,
    spool: PathBuf,
}

/// A host that one can be logged in to.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) config: Arc<russh::server::Config>,
}

/// Where a forward leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The SSH server of a node.
    Login(usize),
    Address(Ipv4Addr, u16),
}

impl Places {
    pub(super) fn new(
        layout: &Layout,
        nodes: &[String],
        users: Vec<Account>,
    ) -> anyhow::Result<Self> {
        let host = |name: &str, address| -> anyhow::Result<Host> {
            let config = russh::server::Config {
                keys: vec![layout.load_host_key(name)?],
                methods: russh::MethodSet::from(&[russh::MethodKind::PublicKey][..]),
                // Every client first asks whether it needs to prove anything; that is no attack.
                auth_rejection_time: Duration::from_millis(10),
                auth_rejection_time_initial: Some(Duration::ZERO),
                // An idle tunnel is still a tunnel.
                inactivity_timeout: None,
                nodelay: true,
                ..Default::default()
            };
            Ok(Host {
                name: name.to_owned(),
                address,
                config: Arc::new(config),
            })
        };
        let mut hosts = vec![host(LOGIN, Ipv4Addr::LOCALHOST)?];
        for (number, name) in (1..).zip(nodes) {
            hosts.push(host(name, Ipv4Addr::new(127, 0, 1, number))?);
        }
        let users = users
            .into_iter()
            .map(|user| {
                let key = layout.load_user_key(&user.name)?.public_key().clone();
                Ok((user.name.clone(), (user, key)))
            })
            .collect::<anyhow::Result<_>>()?;
        let own = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let path = std::iter::once(layout.bin()).chain(std::env::split_paths(&own));
        let bash = Path::new("/bin/bash");
        Ok(Self {
            hosts,
            users,
            path: std::env::join_paths(path).context("the directory's name has a colon")?,
            shell: if bash.exists() {
                bash
            } else {
                Path::new("/bin/sh")
            }
            .to_owned(),
            spool: layout.spool(),
        })
    }

    pub(super) fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// The user of this name, if this is its key.
    pub(super) fn admit(&self, name: &str, key: &PublicKey) -> Option<&Account> {
        let (account, own) = self.users.get(name)?;
        (own.key_data() == key.key_data()).then_some(account)
    }

    pub(super) fn shell(&self) -> &Path {
        &self.shell
    }

    /// Where a forward to `name` and `port` leads, as the cluster's name service would say.
    pub(super) fn resolve(&self, name: &str, port: u16) -> Option<Target> {
        let host = self.hosts.iter().position(|host| host.name == name);
        let mut hosts = self.hosts.iter();
        let by_address = hosts.position(|host| name.parse() == Ok(host.address));
        match (host, name.parse::<Ipv4Addr>()) {
            // As sshd itself says where it is (`SSH_CONNECTION`).
            (None, Ok(_)) if port == SSH_PORT && by_address.is_some() => {
                by_address.map(Target::Login)
            }
            (Some(0), _) => Some(Target::Address(Ipv4Addr::LOCALHOST, port)),
            (Some(index), _) if port == SSH_PORT => Some(Target::Login(index)),
            (Some(index), _) => Some(Target::Address(self.hosts[index].address, port)),
            (None, Ok(address)) if address.is_loopback() => Some(Target::Address(address, port)),
            (None, Err(_)) if name == "localhost" => {
                Some(Target::Address(Ipv4Addr::LOCALHOST, port))
            }
            _ => None,
        }
    }

    /// The environment of a command, as sshd would set it.
    pub(super) fn environment(
        &self,
        host: usize,
        user: &Account,
        client: &str,
    ) -> Vec<(OsString, OsString)> {
        let host = self.host(host);
        let mut set: Vec<(OsString, OsString)> = vec![
            ("HOME".into(), user.home.clone().into()),
            ("USER".into(), user.name.clone().into()),
            ("LOGNAME".into(), user.name.clone().into()),
            ("SHELL".into(), self.shell.clone().into()),
            ("PATH".into(), self.path.clone()),
            ("LANG".into(), "C.UTF-8".into()),
            ("MOTD_SHOWN".into(), "pam".into()),
            ("SSH_CLIENT".into(), format!("{client} 22").into()),
            (
                "SSH_CONNECTION".into(),
                format!("{client} {} 22", host.address).into(),
            ),
            ("HOSTNAME".into(), host.name.clone().into()),
            ("SLURM_SIM_HOST".into(), host.name.clone().into()),
            ("SLURM_SIM_SPOOL".into(), self.spool.clone().into()),
            ("SLURM_SIM_USER".into(), user.name.clone().into()),
        ];
        if host.name != LOGIN {
            set.push(("SLURMD_NODENAME".into(), host.name.clone().into()));
        }
        set
    }
}
