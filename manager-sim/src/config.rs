//! The command line, its environment and the configuration file, turned once into a complete and
//! checked configuration: flags win over variables, both over the file.

use std::{
    collections::BTreeSet,
    error::Error as StdError,
    fs,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use calls::Call;
use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use clap_complete::Shell;
use hpc_proxy::hostname::Domain;
use serde::Deserialize;

use crate::{
    cluster::Ssh,
    front::Front,
    ide::IdeConfig,
    job::Resources,
    names::{HostName, TokenName, UserName},
    wish::Limits,
};
use error::Gathered;
pub use error::{ConfigError, ConfigErrors};
use identity::HeaderSettings;
pub use identity::Identity;
use ides::{Common, IdeSettings, Single};
pub use listen::Listen;
use people::{ClusterSettings, UserSettings};

pub mod calls;
mod error;
mod identity;
mod ides;
mod listen;
mod people;

const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
/// Every name below it is this machine, to browsers (RFC 6761 section 6.3).
const DEFAULT_SUBDOMAINS: &str = "localhost";
const DEFAULT_LOCAL_PORT: u16 = 9000;
/// How long a token is good, unless somebody says otherwise, and at most: ten years.
const DEFAULT_DAYS: u16 = 90;
const MOST_DAYS: i64 = 3650;
/// How many sessions a user may have at a time.
const DEFAULT_MAX_SESSIONS: u16 = 4;
const DEFAULT_TIME: &str = "4:00:00";

/// Launches IDE sessions on a Slurm cluster over ssh, and serves each user's own at /code/ and
/// /port/N/.
#[derive(Debug, Parser)]
#[command(name = "hpc-manager", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    place: Place,
    /// What to log on standard error, as `tracing` filters it: `debug` has every request.
    #[arg(
        long,
        env = "HPC_MANAGER_LOG",
        value_name = "FILTER",
        default_value = "info",
        global = true
    )]
    log: String,
    /// Lines for people or objects for programs.
    #[arg(long, env = "HPC_MANAGER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Human,
        global = true)]
    log_format: LogFormat,
    /// Any value switches colours off (no-color.org).
    #[arg(long, env = "NO_COLOR", hide = true, global = true)]
    no_color: Option<String>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM (the default).
    Serve(Box<ServeArgs>),
    /// Prints a link that signs a browser in to the running manager, once.
    Link {
        /// Whom it signs in.
        user: UserName,
    },
    /// Makes, lists and removes access tokens.
    Token(TokenArgs),
    /// Says what a configuration means, or everything that is wrong with it, and serves nobody.
    Check(Box<ServeArgs>),
    #[command(flatten)]
    Call(Box<Call>),
    /// Looks at all that a manager needs, here and at the login nodes, and says what follows.
    Doctor {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        serve: Box<ServeArgs>,
    },
    /// Prints what a shell needs to complete this command line, such as for
    /// ~/.local/share/bash-completion/completions/hpc-manager.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct TokenArgs {
    #[command(subcommand)]
    action: TokenCommand,
    /// The manager's TOML file: it says where the tokens are, and which users there are.
    #[arg(long, env = "HPC_MANAGER_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where the tokens are [default: tokens.toml in the manager's directory].
    #[arg(
        long,
        env = "HPC_MANAGER_TOKEN_FILE",
        value_name = "FILE",
        global = true
    )]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Makes a token and prints it, once: the manager keeps a hash of it alone.
    Add {
        /// What to call it.
        name: TokenName,
        /// Whom it signs in [default: the user called NAME].
        #[arg(long)]
        user: Option<UserName>,
        /// How long it is good.
        #[arg(long, value_name = "N", default_value_t = DEFAULT_DAYS,
            value_parser = clap::value_parser!(u16).range(1..=MOST_DAYS))]
        days: u16,
    },
    /// Lists the tokens.
    Ls,
    /// Removes a token. Within seconds it is good no more, nor is whoever signed in by it.
    Rm {
        /// What it is called.
        name: TokenName,
    },
}

/// Where the manager keeps its files.
#[derive(Debug, Args)]
struct Place {
    /// A directory of the manager's alone [default: hpc-manager in $XDG_RUNTIME_DIR, or in
    /// ~/.local/state].
    #[arg(long, env = "HPC_MANAGER_STATE_DIR", value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true, global = true)]
    runtime_dir: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true, global = true)]
    home: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// A TOML file with any of the settings below, by the same names.
    #[arg(long, env = "HPC_MANAGER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Cancels all jobs when the manager ends, instead of leaving them.
    #[arg(long)]
    cancel_on_exit: bool,
}

/// What can be set, not yet checked.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// Where to serve browsers: an address, where port 0 is any free one, or a Unix socket for a front
    /// on this machine [default: 127.0.0.1:8080].
    #[arg(long, env = "HPC_MANAGER_LISTEN", value_name = "IP:PORT|unix:PATH")]
    listen: Option<String>,
    /// Where to tell whoever watches over the manager of its health (`/health`) and its counts (`/metrics`, for
    /// Prometheus), without asking who they are [default: nowhere].
    #[arg(long, env = "HPC_MANAGER_WATCH_LISTEN", value_name = "IP:PORT")]
    watch_listen: Option<SocketAddr>,
    /// Names under which browsers may ask for the manager, besides those of this machine itself.
    #[arg(
        long,
        env = "HPC_MANAGER_HOSTS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    host: Vec<String>,
    /// The address by which browsers know the manager, where that is a front's: one with TLS, such as
    /// https://hpc.example.org [default: where it listens].
    #[arg(long, env = "HPC_MANAGER_URL", value_name = "URL")]
    url: Option<String>,
    /// The domain below which each dev server has a host of its own, such as apps.example.org for
    /// 5500--JOB.apps.example.org; all names below it must lead here. Empty: there are none
    /// [default: localhost, where the manager listens on the loopback and has no other address].
    #[arg(long, env = "HPC_MANAGER_SUBDOMAINS", value_name = "DOMAIN")]
    subdomains: Option<String>,
    /// An account on a login node, once for each user of the manager.
    #[arg(
        long,
        env = "HPC_MANAGER_LOGINS",
        value_name = "USER@HOST",
        value_delimiter = ','
    )]
    login: Vec<String>,
    /// The ways in which people are known, of `link`, `header` and `tokens` [default: link]. `header`
    /// needs `[trusted-header]` in the file.
    #[arg(
        long,
        env = "HPC_MANAGER_IDENTITY",
        value_name = "WAY",
        value_delimiter = ','
    )]
    identity: Option<Vec<String>>,
    /// Where the access tokens are [default: tokens.toml in the manager's directory].
    #[arg(long, env = "HPC_MANAGER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[arg(skip)]
    trusted_header: Option<HeaderSettings>,
    #[arg(skip)]
    user: Vec<UserSettings>,
    #[arg(skip)]
    cluster: Vec<ClusterSettings>,
    #[arg(skip)]
    ide: Vec<IdeSettings>,
    /// The ssh configuration [default: the user's own].
    #[arg(long, env = "HPC_MANAGER_SSH_CONFIG", value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// How proxies on nodes are reached: `login` (the login node connects to the node), `jump` (ssh to the
    /// node itself, where the proxy listens on the loopback alone), `jump-socket` (the same, to a Unix
    /// socket in the user's home) or `srun` (a step of the job) [default: login].
    #[arg(long, env = "HPC_MANAGER_TRANSPORT", value_name = "TRANSPORT")]
    transport: Option<String>,
    /// Where the tunnel begins on 127.0.0.1, with a single login [default: 9000].
    #[arg(long, env = "HPC_PROXY_LOCAL_PORT", value_name = "PORT")]
    local_port: Option<u16>,
    /// Which IDE it is, where the file has no `[[ide]]`: `vscode`, or `other` for one that brings a port proxy of its own
    /// [default: vscode].
    #[arg(long, env = "HPC_MANAGER_IDE_KIND", value_name = "KIND")]
    ide_kind: Option<String>,
    /// The shell command that runs the IDE on $IDE_PORT with the token in $IDE_TOKEN_FILE, or else on
    /// the Unix socket $IDE_SOCKET [default: code serve-web ...].
    #[arg(long, env = "HPC_MANAGER_IDE_COMMAND", value_name = "COMMAND")]
    ide_command: Option<String>,
    /// Whether that command listens on $IDE_SOCKET, to which no other user of the node can connect, so
    /// that the IDE itself needs to ask nobody who they are [default: false].
    #[arg(long, env = "HPC_MANAGER_IDE_SOCKET", value_name = "BOOL",
        value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    ide_socket: Option<bool>,
    /// The hpc-proxy program on the nodes [default: hpc-proxy].
    #[arg(long, env = "HPC_MANAGER_HPC_PROXY_COMMAND", value_name = "PROGRAM")]
    hpc_proxy_command: Option<String>,
    /// Whether VS Code and what runs in its terminals get a localhost of the user's own, where the
    /// node offers one: `hpc-proxy exec` [default: true].
    #[arg(long, env = "HPC_MANAGER_PRIVATE_LOCALHOST", value_name = "BOOL",
        value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    private_localhost: Option<bool>,
    /// How long a job may run [default: 4:00:00].
    #[arg(long, env = "HPC_MANAGER_TIME", value_name = "TIME")]
    time: Option<String>,
    /// Processors of a job [default: 1].
    #[arg(long, env = "HPC_MANAGER_CPUS", value_name = "COUNT")]
    cpus: Option<NonZeroU32>,
    /// Memory of a job, such as 8G [default: the cluster's].
    #[arg(long, env = "HPC_MANAGER_MEM", value_name = "SIZE")]
    mem: Option<String>,
    /// Partition of a job [default: the cluster's, or the first of `partitions`].
    #[arg(long, env = "HPC_MANAGER_PARTITION", value_name = "NAME")]
    partition: Option<String>,
    /// The partitions that users may choose [default: any].
    #[arg(
        long,
        env = "HPC_MANAGER_PARTITIONS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    partitions: Vec<String>,
    /// The longest time that users may ask for [default: Slurm decides].
    #[arg(long, env = "HPC_MANAGER_MAX_TIME", value_name = "TIME")]
    max_time: Option<String>,
    /// Most processors that users may ask for [default: Slurm decides].
    #[arg(long, env = "HPC_MANAGER_MAX_CPUS", value_name = "COUNT")]
    max_cpus: Option<NonZeroU32>,
    /// Most memory that users may ask for [default: Slurm decides].
    #[arg(long, env = "HPC_MANAGER_MAX_MEM", value_name = "SIZE")]
    max_mem: Option<String>,
    /// Further options of sbatch that users may give, such as `constraint` [default: none].
    #[arg(
        long,
        env = "HPC_MANAGER_SBATCH_OPTIONS",
        value_name = "OPTION",
        value_delimiter = ','
    )]
    sbatch_options: Vec<String>,
    /// How many sessions a user may have at a time [default: 4].
    #[arg(long, env = "HPC_MANAGER_MAX_SESSIONS", value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(1..))]
    max_sessions: Option<u16>,
    /// Cancels a session through which nothing has gone for so long, such as 2h [default: never].
    #[arg(long, env = "HPC_MANAGER_IDLE_TIMEOUT", value_name = "TIME")]
    idle_timeout: Option<String>,
}

/// What to do, and with what.
#[derive(Debug)]
pub enum Config {
    /// Serve.
    Serve(Box<Serve>),
    /// Print a link for a user of the manager that runs in this directory.
    Link {
        /// Whom it signs in.
        user: UserName,
        /// The manager's directory.
        state_dir: PathBuf,
    },
    /// Do this with the tokens in this file.
    Token {
        /// What.
        action: TokenAction,
        /// Where they are.
        file: PathBuf,
    },
    /// Say what it means.
    Check(Result<Box<Serve>, ConfigErrors>),
    /// Ask a running manager.
    Call {
        /// For what.
        call: Box<Call>,
        /// The directory of the one that runs here.
        state_dir: PathBuf,
    },
    /// Look at all that it needs.
    Doctor {
        /// Whether a program reads it.
        json: bool,
        /// With what.
        serve: Result<Box<Serve>, ConfigErrors>,
    },
    /// Tell a shell how it is completed.
    Completions(Shell),
}

/// What to do with tokens.
#[derive(Debug)]
pub enum TokenAction {
    /// Make one.
    Add {
        /// What to call it.
        name: TokenName,
        /// Whom it signs in.
        user: UserName,
        /// How long.
        days: u16,
    },
    /// List them.
    List,
    /// Remove one.
    Remove {
        /// What it is called.
        name: TokenName,
    },
}

/// How to serve.
#[derive(Debug)]
pub struct Serve {
    /// Where browsers come in.
    pub listen: Listen,
    /// Where it is watched over, if it is.
    pub watch_listen: Option<SocketAddr>,
    /// Names of the manager besides those of the loopback.
    pub hosts: Vec<HostName>,
    /// What browsers call it, if not by where it listens.
    pub front: Option<Front>,
    /// Below which dev servers have hosts of their own, if they have.
    pub subdomains: Option<Domain>,
    /// How people are known.
    pub identity: Identity,
    /// The users' accounts, each user once.
    pub logins: Vec<Ssh>,
    /// Where a single user's tunnel begins.
    pub local_port: u16,
    /// What their jobs may run, the usual one first.
    pub ides: Vec<IdeConfig>,
    /// What their jobs ask for, unless they say otherwise.
    pub resources: Resources,
    /// What they may ask for.
    pub limits: Limits,
    /// How many sessions each may have at a time.
    pub max_sessions: u16,
    /// How long a session may be idle, if that is bounded.
    pub idle_timeout: Option<Duration>,
    /// The manager's directory.
    pub state_dir: PathBuf,
    /// Whether jobs end with the manager.
    pub cancel_on_exit: bool,
}

impl Cli {
    /// What to log.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// How to log it.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Whether a terminal may be written to in colours.
    pub fn color(&self) -> bool {
        self.no_color.as_ref().is_none_or(String::is_empty)
    }

    /// Reads the file, if one is given, and checks everything.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn into_config(self) -> Result<Config, ConfigErrors> {
        let state_dir = self.place.resolve().map_err(ConfigErrors::from);
        let command = self.command.unwrap_or(Command::Serve(Box::new(self.serve)));
        Ok(match command {
            Command::Serve(args) => Config::Serve(Box::new(args.into_serve(state_dir?)?)),
            Command::Link { user } => Config::Link {
                user,
                state_dir: state_dir?,
            },
            Command::Token(args) => args.resolve(&state_dir?)?,
            Command::Check(args) => {
                let serve = state_dir.and_then(|state_dir| args.into_serve(state_dir));
                Config::Check(serve.map(Box::new))
            }
            Command::Call(call) => Config::Call {
                call,
                state_dir: state_dir?,
            },
            Command::Doctor { json, serve } => {
                let serve = state_dir.and_then(|state_dir| serve.into_serve(state_dir));
                Config::Doctor {
                    json,
                    serve: serve.map(Box::new),
                }
            }
            Command::Completions { shell } => Config::Completions(shell),
        })
    }
}

impl ServeArgs {
    fn into_serve(self, state_dir: PathBuf) -> Result<Serve, ConfigErrors> {
        let mut wrong = Gathered::default();
        let file = Settings::read_if(self.config.as_deref(), &mut wrong);
        let settings = self.settings.or(file);
        settings.check(state_dir, self.cancel_on_exit, wrong)
    }
}

impl TokenArgs {
    fn resolve(self, state_dir: &Path) -> Result<Config, ConfigErrors> {
        let mut wrong = Gathered::default();
        let settings = Settings::read_if(self.config.as_deref(), &mut wrong);
        let users = settings.accounts(&mut wrong);
        let file = self.token_file.or(settings.token_file);
        let file = wrong.ok(identity::token_path(file, state_dir));
        let action = match self.action {
            TokenCommand::Add { name, user, days } => {
                let user = user.or_else(|| name.as_str().parse().ok());
                let user = user.expect("names have one grammar");
                // Without a file only the manager knows who they are.
                if !users.is_empty() && !users.iter().any(|ssh| ssh.user == user) {
                    wrong.push(ConfigError::Setting {
                        setting: "user",
                        source: format!("`{user}` has no account").into(),
                    });
                }
                TokenAction::Add { name, user, days }
            }
            TokenCommand::Ls => TokenAction::List,
            TokenCommand::Rm { name } => TokenAction::Remove { name },
        };
        wrong.finish(file.map(|file| Config::Token { action, file }))
    }
}

impl Place {
    fn resolve(self) -> Result<PathBuf, ConfigError> {
        let directory = self
            .state_dir
            .or_else(|| self.runtime_dir.map(|dir| dir.join("hpc-manager")))
            .or_else(|| self.home.map(|home| home.join(".local/state/hpc-manager")))
            .ok_or(ConfigError::NoStateDir)?;
        // ssh takes a socket's path as it is only if it is absolute.
        std::path::absolute(directory).map_err(|source| ConfigError::Setting {
            setting: "state-dir",
            source: source.into(),
        })
    }
}

impl Settings {
    /// The settings of a file, as far as they can be understood; none without a file.
    fn read_if(path: Option<&Path>, wrong: &mut Gathered) -> Self {
        let Some(path) = path else {
            return Self::default();
        };
        let at = || path.to_owned();
        let text = fs::read_to_string(path);
        let text = wrong.ok(text.map_err(|source| ConfigError::Read { path: at(), source }));
        let parsed = text.map(|text| text.parse::<toml::Table>());
        let table = parsed.and_then(|table| {
            wrong.ok(table.map_err(|source| ConfigError::Parse {
                path: at(),
                source: Box::new(source),
            }))
        });
        let mut settings = Self::default();
        // One by one, so that each that is wrong is told.
        for (setting, value) in table.unwrap_or_default() {
            let alone = toml::Table::from_iter([(setting.clone(), value)]);
            let read = Self::deserialize(alone).map_err(|source| ConfigError::ParseSetting {
                path: at(),
                setting,
                source: Box::new(source),
            });
            settings = settings.or(wrong.ok(read).unwrap_or_default());
        }
        settings
    }

    fn hpc_proxy(&self) -> &str {
        self.hpc_proxy_command.as_deref().unwrap_or("hpc-proxy")
    }

    /// Everybody's account, each user once.
    fn accounts(&self, wrong: &mut Gathered) -> Vec<Ssh> {
        let (users, clusters) = (self.user.clone(), self.cluster.clone());
        let transport = self
            .transport
            .as_deref()
            .map(|name| parse("transport", name));
        let usual = people::Usual {
            config: self.ssh_config.as_deref(),
            transport: transport.and_then(|it| wrong.ok(it)).unwrap_or_default(),
            hpc_proxy: self.hpc_proxy(),
        };
        let accounts = people::accounts(&self.login, users, clusters, usual, wrong);
        let mut users = BTreeSet::new();
        for ssh in &accounts {
            // Several clusters have to have names, so that users can choose.
            let nameless = |other: &Ssh| other.user == ssh.user && other.cluster.is_none();
            let first = users.insert((&ssh.user, &ssh.cluster));
            let second = users.iter().filter(|(user, _)| **user == ssh.user).count() > 1;
            if !first || (second && accounts.iter().any(nameless)) {
                wrong.push(ConfigError::TwoLogins(ssh.user.clone()));
            }
        }
        accounts
    }

    /// These settings, and where there is none, `other`'s.
    fn or(self, other: Self) -> Self {
        fn longer<T>(own: Vec<T>, other: Vec<T>) -> Vec<T> {
            if own.is_empty() { other } else { own }
        }
        Self {
            listen: self.listen.or(other.listen),
            watch_listen: self.watch_listen.or(other.watch_listen),
            host: longer(self.host, other.host),
            url: self.url.or(other.url),
            subdomains: self.subdomains.or(other.subdomains),
            login: longer(self.login, other.login),
            identity: self.identity.or(other.identity),
            token_file: self.token_file.or(other.token_file),
            trusted_header: self.trusted_header.or(other.trusted_header),
            user: longer(self.user, other.user),
            cluster: longer(self.cluster, other.cluster),
            ide: longer(self.ide, other.ide),
            ssh_config: self.ssh_config.or(other.ssh_config),
            transport: self.transport.or(other.transport),
            local_port: self.local_port.or(other.local_port),
            ide_kind: self.ide_kind.or(other.ide_kind),
            ide_command: self.ide_command.or(other.ide_command),
            ide_socket: self.ide_socket.or(other.ide_socket),
            hpc_proxy_command: self.hpc_proxy_command.or(other.hpc_proxy_command),
            private_localhost: self.private_localhost.or(other.private_localhost),
            time: self.time.or(other.time),
            cpus: self.cpus.or(other.cpus),
            mem: self.mem.or(other.mem),
            partition: self.partition.or(other.partition),
            partitions: longer(self.partitions, other.partitions),
            max_time: self.max_time.or(other.max_time),
            max_cpus: self.max_cpus.or(other.max_cpus),
            max_mem: self.max_mem.or(other.max_mem),
            sbatch_options: longer(self.sbatch_options, other.sbatch_options),
            max_sessions: self.max_sessions.or(other.max_sessions),
            idle_timeout: self.idle_timeout.or(other.idle_timeout),
        }
    }

    fn check(
        self,
        state_dir: PathBuf,
        cancel_on_exit: bool,
        mut wrong: Gathered,
    ) -> Result<Serve, ConfigErrors> {
        let logins = self.accounts(&mut wrong);
        let hpc_proxy = self.hpc_proxy().to_owned();
        // Where something could not be read, that may have been it.
        if logins.is_empty() && !wrong.is_any() {
            wrong.push(ConfigError::NoLogin);
        }
        let identity = identity::identity(
            self.identity.as_deref(),
            self.trusted_header,
            self.token_file,
            &state_dir,
            &mut wrong,
        );
        let listen: Option<Listen> = wrong.ok(parse(
            "listen",
            self.listen.as_deref().unwrap_or(DEFAULT_LISTEN),
        ));
        let front: Option<Front> = self.url.and_then(|url| wrong.ok(parse("url", &url)));
        let mut names = self.host;
        if let Some(host) = front.as_ref().map(Front::host)
            && !host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        {
            names.push(host.to_owned());
        }
        let hosts = match &listen {
            Some(Listen::Tcp(address)) => wrong.ok(hosts(&names, address.ip())),
            Some(Listen::Unix(_)) if front.is_none() => {
                wrong.push(ConfigError::NoUrl);
                None
            }
            Some(Listen::Unix(_)) | None => wrong.ok(parse_all("host", &names)),
        };
        let at_home = listen.as_ref().is_some_and(Listen::is_here) && front.is_none();
        let subdomains = match self.subdomains.as_deref() {
            None if at_home => Some(DEFAULT_SUBDOMAINS),
            None | Some("") => None,
            Some(domain) => Some(domain),
        };
        let subdomains = subdomains.and_then(|domain| wrong.ok(parse("subdomains", domain)));
        let single = Single {
            kind: self.ide_kind,
            command: self.ide_command,
            socket: self.ide_socket,
        };
        let common = Common {
            hpc_proxy,
            private_localhost: self.private_localhost.unwrap_or(true),
        };
        let ides = ides::ides(self.ide, single, &common, &mut wrong);
        let limits = Limits {
            partitions: wrong
                .ok(parse_all("partitions", &self.partitions))
                .unwrap_or_default(),
            time: optional("max-time", self.max_time.as_deref(), &mut wrong),
            cpus: self.max_cpus,
            memory: optional("max-mem", self.max_mem.as_deref(), &mut wrong),
            options: wrong
                .ok(parse_all("sbatch-options", &self.sbatch_options))
                .unwrap_or_default(),
        };
        let idle_timeout = self.idle_timeout.as_deref();
        let idle_timeout: Option<Span> = optional("idle-timeout", idle_timeout, &mut wrong);
        let max_sessions = self.max_sessions.unwrap_or(DEFAULT_MAX_SESSIONS);
        if max_sessions == 0 {
            wrong.push(ConfigError::Setting {
                setting: "max-sessions",
                source: "`0` sessions are none".into(),
            });
        }
        // ssh cannot say which port it has taken.
        if self.local_port == Some(0) {
            wrong.push(ConfigError::Setting {
                setting: "local-port",
                source: "`0` is no port where a tunnel can be found".into(),
            });
        }
        let time = self.time.as_deref().unwrap_or(DEFAULT_TIME);
        let time = wrong.ok(parse("time", time));
        let partition = optional("partition", self.partition.as_deref(), &mut wrong);
        let resources = time.map(|time| Resources {
            cpus: self.cpus.unwrap_or(NonZeroU32::MIN),
            memory: optional("mem", self.mem.as_deref(), &mut wrong),
            partition: partition.or_else(|| limits.partitions.first().cloned()),
            ..Resources::plain(time)
        });
        if let Some(resources) = &resources {
            let within = limits.check(resources);
            wrong.ok(within.map_err(|refused| ConfigError::Setting {
                setting: "limits",
                source: refused.into(),
            }));
        }
        let serve = match (listen, hosts, resources) {
            (Some(listen), Some(hosts), Some(resources)) => Some(Serve {
                listen,
                watch_listen: self.watch_listen,
                hosts,
                front,
                subdomains,
                identity,
                logins,
                local_port: self.local_port.unwrap_or(DEFAULT_LOCAL_PORT),
                ides,
                resources,
                limits,
                max_sessions,
                idle_timeout: idle_timeout.map(|span| span.0),
                state_dir,
                cancel_on_exit,
            }),
            _ => None,
        };
        wrong.finish(serve)
    }
}

fn parse<T>(setting: &'static str, text: &str) -> Result<T, ConfigError>
where
    T: FromStr<Err: Into<Box<dyn StdError + Send + Sync>>>,
{
    text.parse().map_err(|error: T::Err| ConfigError::Setting {
        setting,
        source: error.into(),
    })
}

fn optional<T>(setting: &'static str, text: Option<&str>, wrong: &mut Gathered) -> Option<T>
where
    T: FromStr<Err: Into<Box<dyn StdError + Send + Sync>>>,
{
    text.and_then(|text| wrong.ok(parse(setting, text)))
}

/// A time such as `90s`, `30m`, `2h` or `1d`.
struct Span(Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 24 * 3600)];
        let mut units = units.into_iter();
        let split = units.find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
        let span = split.and_then(|(count, seconds)| {
            let count: u32 = count.parse().ok()?;
            (count > 0).then(|| Duration::from_secs(u64::from(count) * seconds))
        });
        let wrong = || format!("`{}` is not a time such as `2h`", text.escape_debug());
        span.map(Self).ok_or_else(wrong)
    }
}

fn parse_all<T>(setting: &'static str, texts: &[String]) -> Result<Vec<T>, ConfigError>
where
    T: FromStr<Err: Into<Box<dyn StdError + Send + Sync>>>,
{
    texts.iter().map(|text| parse(setting, text)).collect()
}

/// The names of this manager beside those of the loopback: those given, and a plain address.
fn hosts(given: &[String], listen: IpAddr) -> Result<Vec<HostName>, ConfigError> {
    let mut hosts = parse_all::<HostName>("host", given)?;
    match listen {
        IpAddr::V4(ip) if !ip.is_unspecified() => hosts.extend(ip.to_string().parse()),
        _ if hosts.is_empty() && !listen.is_loopback() => return Err(ConfigError::NoHost(listen)),
        _ => {}
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, ConfigErrors> {
        let args = [&["hpc-manager"], args, &["--state-dir", "/run/x"]].concat();
        Cli::try_parse_from(args).unwrap().into_config()
    }

    fn serve(args: &[&str]) -> Serve {
        match config(args).unwrap() {
            Config::Serve(serve) => *serve,
            other => panic!("serve is meant: {other:?}"),
        }
    }

    #[test]
    fn a_login_is_all_that_is_needed() {
        let serve = serve(&["--login", "alice@login"]);
        assert_eq!(serve.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(serve.local_port, 9000);
        assert_eq!(serve.ides.len(), 1);
        assert!(serve.ides[0].script.private_localhost);
        assert_eq!(serve.state_dir, Path::new("/run/x"));
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "login = [\"alice@login\", \"bob@login\"]\nlocal-port = 9100\ntime = \"1:00:00\"\n\
            ide-kind = \"other\"\nlisten = \"127.0.0.1:0\"\n";
        fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        let serve = serve(&["serve", "--config", path, "--local-port", "9200"]);
        assert_eq!((serve.logins.len(), serve.local_port), (2, 9200));
        assert_eq!(serve.ides[0].name.as_str(), "other");
        assert_eq!(serve.resources.time, "1:00:00".parse().unwrap());
        assert_eq!(serve.listen.to_string(), "127.0.0.1:0");
    }

    #[test]
    fn every_flag_wins_over_the_file() {
        let names = [
            "listen",
            "host",
            "url",
            "subdomains",
            "login",
            "identity",
            "token-file",
            "ssh-config",
            "local-port",
            "ide-kind",
            "ide-command",
            "hpc-proxy-command",
            "private-localhost",
            "time",
            "cpus",
            "mem",
            "partition",
            "partitions",
            "max-time",
            "max-cpus",
            "max-mem",
            "sbatch-options",
            "max-sessions",
            "idle-timeout",
        ];
        let ours = [
            "127.0.0.1:1",
            "a",
            "https://a",
            "a",
            "a@a",
            "tokens",
            "/a",
            "/a",
            "1",
            "vscode",
            "a",
            "a",
            "no",
            "1",
            "1",
            "1M",
            "a",
            "a,c",
            "9",
            "9",
            "9M",
            "qos",
            "1",
            "1h",
        ];
        let theirs = [
            "\"127.0.0.1:2\"",
            "[\"b\"]",
            "\"https://b\"",
            "\"b\"",
            "[\"b@b\"]",
            "[\"tokens\", \"link\"]",
            "\"/b\"",
            "\"/b\"",
            "2",
            "\"other\"",
            "\"b\"",
            "\"b\"",
            "true",
            "\"2\"",
            "2",
            "\"2M\"",
            "\"b\"",
            "[\"b\", \"c\"]",
            "\"8\"",
            "8",
            "\"8M\"",
            "[\"reservation\"]",
            "2",
            "\"2h\"",
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines: Vec<_> = names
            .iter()
            .zip(theirs)
            .map(|(n, v)| format!("{n} = {v}"))
            .collect();
        fs::write(file.path(), lines.join("\n")).unwrap();
        let flags: Vec<_> = names
            .iter()
            .zip(ours)
            .map(|(n, v)| format!("--{n}={v}"))
            .collect();
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let path = file.path().to_str().unwrap();

        let alone = serve(&flags);
        let with_file = serve(&[&flags[..], &["--config", path]].concat());
        assert_eq!(format!("{with_file:?}"), format!("{alone:?}"));
        assert_ne!(
            format!("{:?}", serve(&["--config", path])),
            format!("{alone:?}")
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let says = |args: &[&str]| {
            let errors = config(args).unwrap_err();
            let said: Vec<_> = errors.iter().map(ToString::to_string).collect();
            said.join(", ")
        };
        assert_eq!(says(&[]), "no `login` is given");
        assert_eq!(
            says(&["--login", "a@b", "--login", "a@c"]),
            "user `a` has two logins"
        );
        assert_eq!(says(&["--login", "a@-oX=y"]), "bad `login`");
        assert_eq!(says(&["--login", "a@b", "--time", "1;id"]), "bad `time`");
        assert_eq!(
            says(&["--login", "a@b", "--local-port", "0"]),
            "bad `local-port`"
        );
        assert_eq!(
            says(&["--login", "a@b", "--ide-kind", "emacs"]),
            "bad `ide-kind`"
        );
        for (args, told) in [
            (&["--max-time", "1:00:00"][..], "bad `limits`"),
            (&["--max-mem", "lots"], "bad `max-mem`"),
            (&["--partition", "a", "--partitions", "b,c"], "bad `limits`"),
            (&["--sbatch-options", "wrap"], "bad `sbatch-options`"),
            (&["--idle-timeout", "soon"], "bad `idle-timeout`"),
            (&["--idle-timeout", "0h"], "bad `idle-timeout`"),
        ] {
            assert_eq!(says(&[&["--login", "a@b"], args].concat()), told);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "logins = []").unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(
            says(&["--config", path]),
            format!("cannot understand `logins` in `{path}`")
        );
        fs::write(file.path(), "login = [").unwrap();
        assert_eq!(
            says(&["--config", path]),
            format!("cannot understand `{path}`")
        );
    }

    #[test]
    fn a_user_may_have_accounts_on_several_clusters() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let clusters =
            "[[cluster]]\nname = 'big'\nlogin = 'a'\n[[cluster]]\nname = 'small'\nlogin = 'b'\n";
        let read = |users: &str| {
            fs::write(file.path(), format!("{clusters}{users}")).unwrap();
            config(&["--config", path]).map_err(|errors| errors.to_string())
        };
        let alice = |cluster: &str| format!("[[user]]\nname = 'alice'\n{cluster}\n");
        let both = alice("cluster = 'big'") + &alice("cluster = 'small'");
        let Ok(Config::Serve(serve)) = read(&both) else {
            panic!("each has a name");
        };
        let names = serve
            .logins
            .iter()
            .map(|ssh| ssh.cluster.as_ref().unwrap().as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["big", "small"]);
        // Without a name there is nothing to choose by.
        for second in ["cluster = 'big'", "login = 'alice@elsewhere'"] {
            let refused = read(&(alice("cluster = 'big'") + &alice(second))).unwrap_err();
            assert!(refused.contains("user `alice` has two logins"), "{refused}");
        }
    }

    #[test]
    fn dev_servers_have_hosts_of_their_own_where_their_names_lead() {
        let domain = |args: &[&str]| {
            let serve = serve(&[&["--login", "alice@login"], args].concat());
            serve.subdomains.map(|domain| domain.to_string())
        };
        let apps = Some("apps.example.org".to_owned());
        assert_eq!(domain(&[]), Some("localhost".into()));
        assert_eq!(domain(&["--subdomains", ""]), None);
        assert_eq!(domain(&["--listen", "10.0.0.1:80"]), None);
        assert_eq!(domain(&["--url", "https://hpc.example.org"]), None);
        assert_eq!(domain(&["--subdomains", "Apps.example.org"]), apps);
        let bad = config(&["--login", "a@b", "--subdomains", "*.localhost"]);
        let bad = bad.unwrap_err().to_string();
        assert!(bad.starts_with("bad `subdomains`"), "{bad}");
        let front = serve(&["--login", "a@b", "--url", "https://hpc.example.org"]);
        assert_eq!(front.hosts[0].as_str(), "hpc.example.org");
    }

    #[test]
    fn a_link_needs_a_user_only() {
        let config = config(&["link", "alice"]).unwrap();
        assert!(matches!(config, Config::Link { user, .. } if user.as_str() == "alice"));
    }

    #[test]
    fn an_address_to_serve_on_is_one_to_open() {
        let names = |given: &[&str], listen: &str| {
            let given: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
            let hosts = hosts(&given, listen.parse().unwrap())?;
            Ok(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let named = |found: Result<Vec<String>, ConfigError>| found.unwrap();
        assert_eq!(named(names(&[], "10.0.0.1")), ["10.0.0.1"]);
        assert_eq!(named(names(&["lab"], "0.0.0.0")), ["lab"]);
        assert!(named(names(&[], "::1")).is_empty());
        for listen in ["0.0.0.0", "::"] {
            assert!(
                matches!(names(&[], listen), Err(ConfigError::NoHost(_))),
                "{listen}"
            );
        }
    }
}
