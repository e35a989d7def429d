//! The users of the manager, and the clusters that they have accounts on, as they are written in
//! the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::{Gathered, error::ConfigError, parse, parse_all};
use crate::{
    cluster::{Squeue, Ssh},
    names::{ClusterName, HostName, Login, NotALogin, UserName},
    transport::Transport,
};

/// A `[[user]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct UserSettings {
    name: String,
    login: Option<String>,
    cluster: Option<String>,
    key: Option<PathBuf>,
}

/// A `[[cluster]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ClusterSettings {
    name: String,
    login: String,
    ssh_config: Option<PathBuf>,
    transport: Option<String>,
    squeue_as: Option<String>,
    squeue_key: Option<PathBuf>,
}

/// Why a user has no account that we could use.
#[derive(Debug, Error)]
enum NoAccount {
    #[error("there is no `[[cluster]]` called `{}`", .0.escape_debug())]
    NoSuchCluster(String),
    #[error("neither `login` nor `cluster` is given, and there is not exactly one `[[cluster]]`")]
    WhichCluster,
    #[error("`{0}` is not a path that ssh takes as it is")]
    NotLiteral(PathBuf),
    #[error("no `squeue-as` says whose key it is")]
    NobodysKey,
}

struct Cluster {
    name: ClusterName,
    host: HostName,
    config: Option<PathBuf>,
    transport: Option<Transport>,
    squeue: Option<Squeue>,
}

/// How ssh is called where neither a user nor a cluster says otherwise.
#[derive(Clone, Copy)]
pub(super) struct Usual<'a> {
    pub(super) config: Option<&'a Path>,
    pub(super) transport: Transport,
    pub(super) hpc_proxy: &'a str,
}

/// Everybody's account: those of `logins`, where the user is called as the account is, and those of
/// `users`.
pub(super) fn accounts(
    logins: &[String],
    users: Vec<UserSettings>,
    clusters: Vec<ClusterSettings>,
    usual: Usual<'_>,
    wrong: &mut Gathered,
) -> Vec<Ssh> {
    let mut known: Vec<Cluster> = Vec::new();
    for settings in clusters {
        let Some(cluster) = wrong.ok(cluster(settings)) else {
            continue;
        };
        if known.iter().any(|other| other.name == cluster.name) {
            wrong.push(ConfigError::TwoClusters(cluster.name));
        } else {
            known.push(cluster);
        }
    }
    let mut accounts = Vec::new();
    for login in wrong
        .ok(parse_all::<Login>("login", logins))
        .unwrap_or_default()
    {
        accounts.push(Ssh {
            user: login.user.clone(),
            cluster: None,
            login,
            config: usual.config.map(Path::to_owned),
            key: None,
            transport: usual.transport,
            hpc_proxy: usual.hpc_proxy.to_owned(),
            squeue: None,
        });
    }
    for settings in users {
        accounts.extend(wrong.ok(user(settings, &known, usual)));
    }
    accounts
}

fn cluster(settings: ClusterSettings) -> Result<Cluster, ConfigError> {
    let host: HostName = parse("cluster.login", &settings.login)?;
    let of_cluster =
        |setting, why: Box<dyn std::error::Error + Send + Sync>| ConfigError::OfCluster {
            setting,
            cluster: settings.name.clone(),
            source: why,
        };
    let key = settings.squeue_key.clone();
    if let Some(key) = key.as_deref().filter(|key| !is_literal(key)) {
        return Err(of_cluster(
            "squeue-key",
            NoAccount::NotLiteral(key.to_owned()).into(),
        ));
    }
    let squeue = match &settings.squeue_as {
        Some(account) => {
            let login = format!("{account}@{host}").parse();
            let login = login.map_err(|error: NotALogin| of_cluster("squeue-as", error.into()))?;
            Some(Squeue { login, key })
        }
        None if key.is_some() => {
            return Err(of_cluster("squeue-key", NoAccount::NobodysKey.into()));
        }
        None => None,
    };
    Ok(Cluster {
        name: parse("cluster.name", &settings.name)?,
        host,
        config: settings.ssh_config,
        squeue,
        transport: settings
            .transport
            .map(|name| parse("cluster.transport", &name))
            .transpose()?,
    })
}

fn user(
    settings: UserSettings,
    clusters: &[Cluster],
    usual: Usual<'_>,
) -> Result<Ssh, ConfigError> {
    let user: UserName = parse("user.name", &settings.name)?;
    let wrong = |setting, source: Box<dyn std::error::Error + Send + Sync>| ConfigError::OfUser {
        setting,
        user: settings.name.clone(),
        source,
    };
    let no_account = |setting, why: NoAccount| wrong(setting, why.into());
    let named = settings.cluster.as_deref().map(|name| {
        let mut all = clusters.iter();
        all.find(|cluster| cluster.name.as_str() == name)
            .ok_or_else(|| no_account("user.cluster", NoAccount::NoSuchCluster(name.to_owned())))
    });
    let several = clusters.len() > 1;
    let cluster = match (named, clusters) {
        (Some(named), _) => Some(named?),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    // `alice@login`, or the account alone where the cluster tells the rest.
    let login = match (settings.login.as_deref(), cluster) {
        (Some(login), _) if login.contains('@') => login.parse(),
        (account, Some(cluster)) => {
            let account = account.unwrap_or(user.as_str());
            format!("{account}@{}", cluster.host).parse()
        }
        (Some(login), None) => login.parse(),
        (None, None) => return Err(no_account("user.cluster", NoAccount::WhichCluster)),
    };
    let login: Login = login.map_err(|error: NotALogin| wrong("login", error.into()))?;
    // A login node of another cluster is not reached by this one's configuration.
    let cluster = cluster.filter(|cluster| cluster.host == login.host);
    let config = cluster.and_then(|cluster| cluster.config.clone());
    if let Some(key) = settings.key.as_deref().filter(|key| !is_literal(key)) {
        return Err(no_account("key", NoAccount::NotLiteral(key.to_owned())));
    }
    Ok(Ssh {
        user,
        cluster: cluster
            .filter(|_| several)
            .map(|cluster| cluster.name.clone()),
        login,
        config: config.or_else(|| usual.config.map(Path::to_owned)),
        key: settings.key,
        transport: cluster
            .and_then(|cluster| cluster.transport)
            .unwrap_or(usual.transport),
        hpc_proxy: usual.hpc_proxy.to_owned(),
        squeue: cluster.and_then(|cluster| cluster.squeue.clone()),
    })
}

/// Whether ssh takes a path as it is: it expands `~`, `%h` and `${HOME}` in the names of keys.
fn is_literal(path: &Path) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@,=".contains(&byte);
    let text = path.to_str().unwrap_or_default();
    text.starts_with('/') && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Written {
        user: Vec<UserSettings>,
        cluster: Vec<ClusterSettings>,
    }

    /// A line for each account, or for each thing that is wrong.
    fn read(text: &str) -> Result<Vec<String>, Vec<String>> {
        let Written { user, cluster } = toml::from_str(text).unwrap();
        let mut wrong = Gathered::default();
        let usual = Usual {
            config: Some(Path::new("/ssh")),
            transport: Transport::Login,
            hpc_proxy: "hpc-proxy",
        };
        let accounts = accounts(&[], user, cluster, usual, &mut wrong);
        let shown = |ssh: &Ssh| {
            let path =
                |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
            let [config, key] = [&ssh.config, &ssh.key].map(|it| path(it).unwrap_or_default());
            format!("{} {} {config} {key}", ssh.user, ssh.login)
        };
        match wrong.finish(Some(accounts)) {
            Ok(accounts) => Ok(accounts.iter().map(shown).collect()),
            Err(errors) => Err(errors
                .iter()
                .map(|error| hpc_proxy::text::chain(error))
                .collect()),
        }
    }

    const BIG: &str = "[[cluster]]\nname = 'big'\nlogin = 'login.big'\nssh-config = '/big'\n";
    const SMALL: &str = "[[cluster]]\nname = 'small'\nlogin = 'login.small'\n";

    #[test]
    fn a_user_has_an_account_by_login_or_by_cluster() {
        let one = |user: &str, clusters: &str| {
            let text = format!("{clusters}[[user]]\nname = 'alice'\n{user}");
            read(&text).unwrap().remove(0)
        };
        assert_eq!(one("login = 'a1@login'", ""), "alice a1@login /ssh ");
        assert_eq!(one("", BIG), "alice alice@login.big /big ");
        assert_eq!(one("login = 'a1'", BIG), "alice a1@login.big /big ");
        assert_eq!(one("login = 'a1@other'", BIG), "alice a1@other /ssh ");
        let both = format!("{BIG}{SMALL}");
        assert_eq!(
            one("cluster = 'small'", &both),
            "alice alice@login.small /ssh "
        );
        let key = one("login = 'a@l'\nkey = '/keys/alice'", "");
        assert_eq!(key, "alice a@l /ssh /keys/alice");
    }

    #[test]
    fn a_cluster_may_have_an_account_that_asks_squeue() {
        let text = "[[cluster]]\nname = 'big'\nlogin = 'login.big'\nsqueue-as = 'watcher'\n\
                    squeue-key = '/keys/watcher'\n[[user]]\nname = 'alice'\n\
                    [[user]]\nname = 'bob'\nlogin = 'bob@elsewhere'\n";
        let Written { user, cluster } = toml::from_str(text).unwrap();
        let usual = Usual {
            config: None,
            transport: Transport::Login,
            hpc_proxy: "hpc-proxy",
        };
        let accounts = accounts(&[], user, cluster, usual, &mut Gathered::default());
        let watcher = accounts[0].watcher().unwrap();
        assert_eq!(watcher.login.to_string(), "watcher@login.big");
        assert_eq!(watcher.key.as_deref(), Some(Path::new("/keys/watcher")));
        assert!(accounts[1].watcher().is_none());
    }

    #[test]
    fn whatever_is_wrong_is_told_at_once() {
        let text = format!(
            "{BIG}{SMALL}{SMALL}[[cluster]]\nname = 'x'\nlogin = '-oX=y'\n\
             [[user]]\nname = 'nowhere'\n[[user]]\nname = '-l'\n\
             [[user]]\nname = 'a'\ncluster = 'huge'\n\
             [[user]]\nname = 'b'\nlogin = 'b@-oX'\n\
             [[user]]\nname = 'c'\ncluster = 'big'\nkey = '~/.ssh/%h'\n\
             [[cluster]]\nname = 'y'\nlogin = 'y'\nsqueue-as = '-x'\n\
             [[cluster]]\nname = 'z'\nlogin = 'z'\nsqueue-key = '/k'\n"
        );
        let told = read(&text).unwrap_err();
        let wants = [
            "cluster `small` is there twice",
            "bad `cluster.login`",
            "bad `squeue-as` of the `[[cluster]]` called `y`",
            "no `squeue-as` says whose",
            "called `nowhere`: neither `login` nor",
            "bad `user.name`",
            "no `[[cluster]]` called `huge`",
            "bad `login` of the `[[user]]` called `b`",
            "bad `key` of the `[[user]]` called `c`",
        ];
        assert_eq!(told.len(), wants.len(), "{told:#?}");
        for (told, wanted) in told.iter().zip(wants) {
            assert!(told.contains(wanted), "{told}");
        }
    }
}
