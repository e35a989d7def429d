//! What can be wrong with a configuration, and what to do about it.

use std::{error::Error as StdError, fmt, io, net::IpAddr, path::PathBuf};

use hpc_proxy::text::chain;
use thiserror::Error;

use crate::names::{ClusterName, IdeName, UserName};

/// One thing that is wrong with the configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be understood.
    #[error("cannot understand `{path}`")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A setting in the file cannot be understood.
    #[error("cannot understand `{setting}` in `{path}`")]
    ParseSetting {
        /// The file.
        path: PathBuf,
        /// Which.
        setting: String,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A setting is wrong.
    #[error("bad `{setting}`")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A setting of one user is wrong.
    #[error("bad `{setting}` of the `[[user]]` called `{}`", user.escape_debug())]
    OfUser {
        /// Which.
        setting: &'static str,
        /// Whose.
        user: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A setting of one cluster is wrong.
    #[error("bad `{setting}` of the `[[cluster]]` called `{}`", cluster.escape_debug())]
    OfCluster {
        /// Which.
        setting: &'static str,
        /// Whose.
        cluster: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A setting of one IDE is wrong.
    #[error("bad `{setting}` of the `[[ide]]` called `{}`", ide.escape_debug())]
    OfIde {
        /// Which.
        setting: &'static str,
        /// Of which.
        ide: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// An IDE twice.
    #[error("`[[ide]]` `{0}` is there twice")]
    TwoIdes(IdeName),
    /// A setting of a single IDE where there are several.
    #[error("`{0}` is given beside `[[ide]]`")]
    BesideIdes(&'static str),
    /// Every address, or one that no browser can be pointed at by name: then a name is needed.
    #[error("`{0}` is no address to open in a browser; --host gives this manager's name")]
    NoHost(IpAddr),
    /// A socket, which no browser can be pointed at.
    #[error("`listen` is a Unix socket, and no `url` is given")]
    NoUrl,
    /// Nobody to serve.
    #[error("no `login` is given")]
    NoLogin,
    /// A user twice on one cluster.
    #[error("user `{0}` has two logins")]
    TwoLogins(UserName),
    /// A cluster twice.
    #[error("cluster `{0}` is there twice")]
    TwoClusters(ClusterName),
    /// No way to sign in.
    #[error("`identity` is empty")]
    NoIdentity,
    /// A way to sign in that lacks its settings.
    #[error("`identity` has `header`, and there is no `[trusted-header]`")]
    NoHeader,
    /// Settings of a way that is not taken.
    #[error("`{setting}` is given, and `identity` does not have `{way}`")]
    Unused {
        /// Which.
        setting: &'static str,
        /// Of which way.
        way: &'static str,
    },
    /// Neither a directory nor a home is known.
    #[error("no `state-dir` is given, and there is no home directory")]
    NoStateDir,
}

impl ConfigError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "`--config` names a file that this user can read".into(),
            Self::Parse { .. } => "it is TOML (toml.io): `name = value` a line".into(),
            Self::ParseSetting { .. } => {
                "`hpc-manager --help` tells the settings, the README those of tables".into()
            }
            Self::Setting { setting, .. }
            | Self::OfUser { setting, .. }
            | Self::OfCluster { setting, .. }
            | Self::OfIde { setting, .. } => of_setting(setting),
            Self::TwoIdes(_) => "give each `[[ide]]` a `name` of its own".into(),
            Self::BesideIdes(_) => "say it in an `[[ide]]`, or have none".into(),
            Self::NoHost(_) => "give `host`, such as `hpc.example.org`".into(),
            Self::NoUrl => "give `url`, such as `https://hpc.example.org`".into(),
            Self::NoLogin => {
                "give `login`, such as `alice@login.example.org`, or `[[user]]`".into()
            }
            Self::TwoLogins(_) => {
                "leave one of them, in `login` and `[[user]]` together, or give each `[[user]]` another `cluster`".into()
            }
            Self::TwoClusters(_) => "give each `[[cluster]]` a `name` of its own".into(),
            Self::NoIdentity => "leave it out, or take of `link`, `header`, `tokens`".into(),
            Self::NoHeader => "add `[trusted-header]` with `name` and `from`".into(),
            Self::Unused { setting, way } => {
                format!("add `{way}` to `identity`, or take `{setting}` out")
            }
            Self::NoStateDir => "give `--state-dir`, a directory of the manager's alone".into(),
        }
    }
}

/// What a setting should look like.
fn of_setting(setting: &str) -> String {
    let hint = match setting {
        "listen" => "give an address and a port, such as `127.0.0.1:8080`, or `unix:/PATH`",
        "host" => "give a name, such as `hpc.example.org`, without scheme or port",
        "url" => "give scheme and name, such as `https://hpc.example.org`",
        "subdomains" => "give a domain, such as `apps.example.org`, without `*.`",
        "login" => "give an account and a login node, such as `alice@login.example.org`",
        "squeue-as" => "give the name of an account on the login node, such as `hpc-manager`",
        "squeue-key" => {
            "give `squeue-as` too, and the absolute path of its key, in plain characters"
        }
        "ssh-config" | "key" => "give the absolute path of a file, in plain characters",
        "ide-kind" | "kind" => "take `vscode` or `other`",
        "title" => "give what a button may say, such as `VS Code`",
        "command" => "give the shell command that runs the IDE",
        "ide-command" | "hpc-proxy-command" => "leave the NUL byte out",
        "time" | "max-time" => "give a time as Slurm reads it, such as `4:00:00` or `1-12`",
        "mem" | "max-mem" => "give a size as Slurm reads it, such as `8G`",
        "partition" | "partitions" => "give the name of a partition, as `sinfo` shows it",
        "idle-timeout" => "give a time such as `30m`, `2h` or `1d`, or leave it out",
        "sbatch-options" => "give long options of sbatch, such as `constraint`, without `--`",
        "local-port" => "give a port from 1 on, or leave it out",
        "limits" => {
            "let what a job asks for by default be within `max-time`, `max-cpus`, `max-mem` and `partitions`"
        }
        "identity" => "take of `link`, `header`, `tokens`",
        "trusted-header.name" => "give the field that the front sets, such as `X-Forwarded-User`",
        "trusted-header.from" => {
            "give the front's address, such as `10.0.0.5`, `10.1.0.0/24` or `unix`"
        }
        "user.name" | "cluster.name" => "give a name of letters, digits, `.`, `_` and `-`",
        "user.cluster" => "name a `[[cluster]]`, or give the user's `login` in full",
        "cluster.login" => "give the login node, such as `login.example.org`",
        "token-file" => "give the absolute path of a file of the manager's alone",
        "user" => "take one of the users of this manager",
        _ => "`hpc-manager --help` tells what it takes",
    };
    hint.to_owned()
}

/// Everything that is wrong with the configuration.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    /// A line each, with its next step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}; hint: {}", chain(error), error.hint())?;
        }
        Ok(())
    }
}

impl StdError for ConfigErrors {}

/// Gathers what is wrong while the rest is looked at.
#[derive(Debug, Default)]
pub(super) struct Gathered(Vec<ConfigError>);

impl Gathered {
    /// Notes an error.
    pub(super) fn push(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    /// Whether something is wrong.
    pub(super) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// The value, or nothing once its error is noted.
    pub(super) fn ok<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// The value, if nothing was wrong anywhere.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(ConfigErrors(self.0)),
        }
    }
}
