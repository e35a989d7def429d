//! The command line and its environment, turned once into a complete configuration.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use hpc_proxy::{hostname::Domain, lease::Place, route::TargetPort, server::Rewrite};
use thiserror::Error;

use crate::{framework::Framework, node, state_dir::StateDir};

mod values;
pub(crate) use values::Listen;

/// A per-user reverse proxy for dev servers on shared HPC nodes.
///
/// Listens on one port, publishes it in ~/.hpc-proxy/port, and serves /port/N/ from this user's
/// own localhost:N.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
    /// Slurm's name for the job that this runs in.
    #[arg(long, env = "SLURM_JOB_ID", hide = true, global = true)]
    job: Option<String>,
    /// Slurm's name for the node that this runs on.
    #[arg(long, env = "SLURMD_NODENAME", hide = true, global = true)]
    node: Option<String>,
    /// Where `.hpc-proxy` is.
    #[arg(long, env = "HOME", hide = true, global = true)]
    home: Option<PathBuf>,
    /// The port file; its directory also gets the record and the token [default: ~/.hpc-proxy/port].
    #[arg(long, env = "HPC_PROXY_PORT_FILE", value_name = "PATH", global = true)]
    port_file: Option<PathBuf>,
    /// A directory of this node's own for what a running proxy keeps there, such as the Unix
    /// sockets of dev servers [default: $XDG_RUNTIME_DIR/hpc-proxy, else /tmp/hpc-proxy-UID].
    #[arg(long, env = "HPC_PROXY_STATE_DIR", value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Where the node keeps this user's runtime files.
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true, global = true)]
    runtime_dir: Option<PathBuf>,
    /// Whether the list of your servers shows the titles of their pages. Each server of the
    /// session is then asked for its first page now and then.
    #[arg(long, env = "HPC_PROXY_TITLES", global = true, value_name = "BOOL",
        default_value = "true", hide_possible_values = true, action = ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    titles: bool,
    /// How the log is written.
    #[arg(long, env = "HPC_PROXY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Human,
        global = true)]
    log_format: LogFormat,
    /// Logs every request (debug level).
    #[arg(
        long, env = "HPC_PROXY_VERBOSE", global = true, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value = "false", hide_default_value = true, hide_possible_values = true,
        value_parser = BoolishValueParser::new()
    )]
    verbose: bool,
    /// Any value switches colours off (no-color.org).
    #[arg(long, env = "NO_COLOR", hide = true, global = true)]
    no_color: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM (the default).
    Serve(ServeArgs),
    /// Prints where a dev server is opened: at the manager where the session has one, else by a link
    /// that signs a browser in to the running proxy, once.
    Url(UrlArgs),
    /// Lists your own listening servers on this node; a proxy need not be running.
    Ports(OutputArgs),
    /// Joins stdin and stdout to the running proxy of this job or node, for
    /// `ssh LOGIN srun --overlap --unbuffered --jobid JOB hpc-proxy bridge`.
    Bridge(BridgeArgs),
    /// Tells what this node offers, what is missing, and what follows from it.
    Doctor(OutputArgs),
    /// Prints a TCP port of this node that is free now.
    FreePort,
    /// Prints where a dev server has to listen so that /sock/NAME/ leads to it: a Unix socket that no
    /// other user of this node can connect to.
    SocketPath(SocketPathArgs),
    /// Runs a command, and all that it starts, in a localhost of your own: its servers have their
    /// ports whatever other users of this node listen on, and its clients meet your servers alone.
    /// Needs no privilege. Exits as the command does, or with 125 when it cannot be run in the way
    /// that was asked for, 126 when it is no program, 127 when there is none.
    Exec(ExecArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Where to listen: `tcp`, as --bind and --port say, or `unix:PATH`, a socket in a directory
    /// of yours alone, which needs no token. Several are given one by one or with commas.
    #[arg(long, env = "HPC_PROXY_LISTEN", value_name = "tcp|unix:PATH", default_value = "tcp",
        value_delimiter = ',', value_parser = values::listen)]
    listen: Vec<Listen>,
    /// The port to listen on; 0 is any free one.
    #[arg(long, env = "HPC_PROXY_PORT", default_value_t = 0)]
    port: u16,
    /// The address to listen on [default: 0.0.0.0, so that `ssh -L` through a login node reaches
    /// it; 127.0.0.1 with `--auth none`].
    #[arg(long, env = "HPC_PROXY_BIND", value_name = "IP")]
    bind: Option<IpAddr>,
    /// What a request must show.
    #[arg(long, env = "HPC_PROXY_AUTH", value_enum, default_value_t = Auth::Token)]
    auth: Auth,
    /// How long requests and WebSockets may go on after SIGTERM, such as `10s` or `500ms`.
    #[arg(long, env = "HPC_PROXY_GRACE", value_name = "TIME", default_value = "10s",
        value_parser = values::duration)]
    grace: Duration,
    /// How many connections may be open at once; 0 is as many as the limit on open files allows,
    /// two for each, but no more than 16384.
    #[arg(
        long,
        env = "HPC_PROXY_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 0
    )]
    max_connections: usize,
    #[command(flatten)]
    sockets: SocketDirArgs,
    /// Forwards to target ports below 1024 too.
    #[arg(long, env = "HPC_PROXY_LOW_PORTS", value_parser = BoolishValueParser::new())]
    low_ports: bool,
    /// Another protocol than WebSocket that a connection may be upgraded to. Several are given one
    /// by one or with commas.
    #[arg(long, env = "HPC_PROXY_UPGRADE", value_name = "PROTOCOL", value_delimiter = ',',
        value_parser = values::upgrade)]
    upgrade: Vec<String>,
    /// The domain below which each port has a host of its own: http://5500.localhost:PORT/ is your
    /// server on port 5500, with its own paths and an origin of its own. Empty: there are none.
    #[arg(long, env = "HPC_PROXY_HOST_SUFFIX", value_name = "DOMAIN", default_value = "localhost",
        value_parser = values::domain)]
    host_suffix: values::Suffix,
    /// Serves as root too, whose servers are the node's own.
    #[arg(long, env = "HPC_PROXY_ALLOW_ROOT", value_parser = BoolishValueParser::new())]
    allow_root: bool,
    /// Whether the URLs in pages and style sheets are moved under /port/N/: `auto` or `off` for all
    /// servers, `PORT=auto` or `PORT=off` for one. `urls` is `auto`, but does not hide /port/N
    /// from routers in the page, which compare the address with their routes. Several are given one
    /// by one or with commas [default: auto]. Redirects and cookies are always moved.
    #[arg(long, env = "HPC_PROXY_REWRITE", value_name = "[PORT=]auto|urls|off", value_delimiter = ',',
        value_parser = values::rewrite)]
    rewrite: Vec<values::Rewritten>,
    /// The original proxy's name for `--rewrite auto`, or `off` where it is false.
    #[arg(
        long, env = "HPC_PROXY_BASE_REWRITE", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_possible_values = true, value_parser = BoolishValueParser::new()
    )]
    base_rewrite: Option<bool>,
}

#[derive(Debug, Args)]
struct UrlArgs {
    /// The dev server to open; without it the list of them.
    port: Option<TargetPort>,
    /// Prints the path alone, for which no proxy need be running.
    #[arg(long)]
    path: bool,
    /// Prints how a dev server of this kind is told the path that it is opened by, for those who
    /// prefer that to rewritten pages.
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        requires = "port",
        conflicts_with = "path",
        hide_possible_values = true
    )]
    framework: Option<Framework>,
    /// Where browsers see this proxy, as a session's manager says.
    #[arg(long, env = "HPC_PROXY_PUBLIC_URL", value_name = "URL", value_parser = values::public_url)]
    public_url: Option<String>,
}

#[derive(Debug, Args)]
struct BridgeArgs {
    /// Carries many connections at once, by yamux, as hpc-manager's `transport = "srun"` does.
    #[arg(long)]
    streams: bool,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// Prints JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ExecArgs {
    /// How localhost is made private.
    #[arg(long, env = "HPC_PROXY_ISOLATION", value_enum, default_value_t = Isolation::Auto)]
    isolation: Isolation,
    /// Whether private servers are kept from other users who know where they are.
    #[arg(long, env = "HPC_PROXY_LOCK", value_enum, default_value_t = Lock::Auto)]
    lock: Lock,
    /// A port whose servers others are to reach as ever, such as one that a tunnel leads to, or a
    /// range of them. Several are given one by one or with commas.
    #[arg(long, env = "HPC_PROXY_PUBLIC_PORTS", value_name = "PORT[-PORT]", value_delimiter = ',',
        value_parser = values::ports)]
    public: Vec<RangeInclusive<u16>>,
    /// A localhost of this Slurm job alone, which your other jobs on this node do not share.
    #[arg(long, env = "HPC_PROXY_SESSION", value_parser = BoolishValueParser::new())]
    session: bool,
    /// Says nothing about it.
    #[arg(short, long, env = "HPC_PROXY_QUIET", value_parser = BoolishValueParser::new())]
    quiet: bool,
    /// Replaces sockets also where that is not needed, to try it.
    #[arg(long, env = "HPC_PROXY_REPLACE_SOCKETS", hide = true,
        value_parser = BoolishValueParser::new())]
    replace_sockets: bool,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How localhost is made private.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// By seccomp where it is to be had; else not at all, which is said.
    Auto,
    /// By seccomp, or the command is not run.
    Seccomp,
    /// Not at all. $HPC_PROXY_LOCALHOST still is an address of your own to listen on.
    None,
}

/// Whether private servers are kept from other users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lock {
    /// Where the kernel offers it.
    Auto,
    /// Yes, or the command is not run.
    On,
    /// No.
    Off,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    Human,
    /// A JSON object a line.
    Json,
}

/// Who may use the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Auth {
    /// Those who send the token of the token file, or come by a one-time link.
    Token,
    /// Everybody who can connect. Only your own servers are shown, but to anybody.
    None,
}

#[derive(Debug, Args)]
struct SocketDirArgs {
    /// Where the sockets are that /sock/NAME/ leads to [default: `sock` in the state directory].
    #[arg(long, env = "HPC_PROXY_SOCKET_DIR", value_name = "DIR")]
    socket_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SocketPathArgs {
    /// The server's name: letters, digits, `.`, `_` and `-`.
    #[arg(value_parser = values::socket_name)]
    name: String,
    #[command(flatten)]
    sockets: SocketDirArgs,
}

/// What to do, and with what.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) action: Action,
    pub(crate) job: Option<String>,
    pub(crate) node: Option<String>,
    /// The directory of the default port file, or an explicit port file.
    pub(crate) lease: LeasePath,
    pub(crate) state_dir: StateDir,
    pub(crate) titles: bool,
    pub(crate) verbose: bool,
    pub(crate) log_format: LogFormat,
    pub(crate) color: bool,
}

#[derive(Debug)]
pub(crate) enum Action {
    Serve(Serve),
    Url(Url),
    Ports(Output),
    Bridge {
        /// Whether stdin and stdout carry many connections.
        streams: bool,
    },
    Doctor(Output),
    FreePort,
    SocketPath(SocketPath),
    Exec(Exec),
}

/// Which server's socket is asked for.
#[derive(Debug)]
pub(crate) struct SocketPath {
    /// A [`hpc_proxy::route::SocketName`].
    pub(crate) name: String,
    /// Nothing: `sock` in the state directory.
    pub(crate) directory: Option<PathBuf>,
}

/// What is to be opened, and how that is told.
#[derive(Debug)]
pub(crate) struct Url {
    pub(crate) port: Option<TargetPort>,
    pub(crate) told: Told,
    /// Where browsers see this proxy, without a slash at its end, if that is known.
    pub(crate) front: Option<String>,
}

/// How an address is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// So that a browser can open it.
    Whole,
    /// By its path.
    Path,
    /// To a dev server.
    To(Framework),
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Human,
    Json,
}

#[derive(Debug)]
pub(crate) struct Serve {
    /// Not empty, and nothing twice.
    pub(crate) listen: Vec<Listen>,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) auth: Auth,
    pub(crate) grace: Duration,
    /// Nothing: as many as the limit on open files allows.
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// Nothing: `sock` in the state directory.
    pub(crate) socket_dir: Option<PathBuf>,
    pub(crate) low_ports: bool,
    /// Below which each port has a host of its own, if any does.
    pub(crate) domain: Option<Domain>,
    /// In lowercase.
    pub(crate) upgrades: Vec<String>,
    pub(crate) allow_root: bool,
    pub(crate) rewrite: Rewrite,
}

#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) isolation: Isolation,
    pub(crate) lock: Lock,
    pub(crate) public: Vec<RangeInclusive<u16>>,
    pub(crate) session: bool,
    pub(crate) quiet: bool,
    pub(crate) replace_sockets: bool,
    /// Not empty.
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug)]
pub(crate) enum LeasePath {
    Home(PathBuf),
    PortFile(PathBuf),
}

/// A command line that parses and still makes no sense.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum UsageError {
    #[error("$HOME is not set")]
    NoHome,
}

impl Cli {
    /// The configuration, complete and checked.
    pub(crate) fn into_config(self) -> Result<Config, UsageError> {
        let lease = match (self.port_file, self.home) {
            (Some(file), _) => LeasePath::PortFile(file),
            (None, Some(home)) if !home.as_os_str().is_empty() => LeasePath::Home(home),
            // It has nothing to do with leases, and runs in any environment.
            (None, _) if matches!(self.command, Some(Command::Exec(_))) => {
                LeasePath::Home(PathBuf::new())
            }
            (None, _) => return Err(UsageError::NoHome),
        };
        let action = match self.command {
            None => Action::Serve(self.serve.check()),
            Some(Command::Serve(serve)) => Action::Serve(serve.check()),
            Some(Command::Url(url)) => Action::Url(url.check()),
            Some(Command::Ports(output)) => Action::Ports(output.check()),
            Some(Command::Bridge(BridgeArgs { streams })) => Action::Bridge { streams },
            Some(Command::Doctor(output)) => Action::Doctor(output.check()),
            Some(Command::FreePort) => Action::FreePort,
            Some(Command::SocketPath(SocketPathArgs { name, sockets })) => {
                Action::SocketPath(SocketPath {
                    name,
                    directory: sockets.socket_dir,
                })
            }
            Some(Command::Exec(exec)) => Action::Exec(exec.check()),
        };
        Ok(Config {
            action,
            lease,
            job: self.job.filter(|job| !job.is_empty()),
            node: self.node.filter(|node| !node.is_empty()),
            state_dir: StateDir::locate(self.state_dir, self.runtime_dir),
            titles: self.titles,
            verbose: self.verbose,
            log_format: self.log_format,
            color: self.no_color.is_none_or(|value| value.is_empty()),
        })
    }
}

impl Config {
    /// Where the lease of this job, or of this host outside one, is.
    pub(crate) fn place(&self) -> Place {
        let (job, host) = (self.job.as_deref(), node::host_name());
        match &self.lease {
            LeasePath::Home(home) => Place::in_home(home, job, &host),
            LeasePath::PortFile(file) => Place::beside(file, job, &host),
        }
    }
}

impl UrlArgs {
    fn check(self) -> Url {
        let told = match self.framework {
            Some(framework) => Told::To(framework),
            None if self.path => Told::Path,
            None => Told::Whole,
        };
        Url {
            port: self.port,
            told,
            front: self.public_url.filter(|url| !url.is_empty()),
        }
    }
}

impl OutputArgs {
    fn check(&self) -> Output {
        if self.json {
            Output::Json
        } else {
            Output::Human
        }
    }
}

impl ExecArgs {
    fn check(self) -> Exec {
        Exec {
            isolation: self.isolation,
            lock: self.lock,
            public: self.public,
            session: self.session,
            quiet: self.quiet,
            replace_sockets: self.replace_sockets,
            command: self.command,
        }
    }
}

impl ServeArgs {
    fn check(self) -> Serve {
        let mut listen = Vec::new();
        for place in self.listen {
            if !listen.contains(&place) {
                listen.push(place);
            }
        }
        // Open to everybody takes two explicit words: `--auth none` and another `--bind`.
        let default = match self.auth {
            Auth::Token => Ipv4Addr::UNSPECIFIED,
            Auth::None => Ipv4Addr::LOCALHOST,
        };
        Serve {
            listen,
            ip: self.bind.unwrap_or(default.into()),
            port: self.port,
            auth: self.auth,
            grace: self.grace,
            max_connections: NonZeroUsize::new(self.max_connections),
            socket_dir: self.sockets.socket_dir,
            low_ports: self.low_ports,
            domain: self.host_suffix.0,
            upgrades: self.upgrade,
            allow_root: self.allow_root,
            rewrite: values::rewrite_of(&self.rewrite, self.base_rewrite),
        }
    }
}

/// The original proxy took its long flags with one dash as well; so does this, but for what is
/// another program's.
pub(crate) fn with_double_dashes(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const ORIGINAL: [&str; 5] = ["port", "port-file", "base-rewrite", "verbose", "version"];
    let mut is_ours = true;
    args.map(|arg| {
        is_ours &= arg != "exec" && arg != "--";
        let name = arg
            .to_str()
            .and_then(|arg| arg.strip_prefix('-'))
            .unwrap_or_default();
        let is_original = is_ours && ORIGINAL.contains(&name.split('=').next().unwrap_or_default());
        if is_original {
            format!("--{name}").into()
        } else {
            arg
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn single_dashes_of_the_original_are_understood() {
        let args = [
            "hpc-proxy",
            "-port",
            "0",
            "-verbose=true",
            "--grace",
            "1",
            "-x",
            "-5",
        ];
        let expected = [
            "hpc-proxy",
            "--port",
            "0",
            "--verbose=true",
            "--grace",
            "1",
            "-x",
            "-5",
        ];
        assert_eq!(
            with_double_dashes(args.map(OsString::from).into_iter()),
            expected.map(OsString::from)
        );
    }

    #[test]
    fn arguments_of_another_program_are_left_alone() {
        let args = ["hpc-proxy", "exec", "java", "-version"].map(OsString::from);
        assert_eq!(with_double_dashes(args.clone().into_iter()), args);
    }

    #[test]
    fn a_command_keeps_its_flags() {
        for args in [
            &[
                "exec",
                "--lock",
                "off",
                "--public=80,8000-8010",
                "node",
                "-p",
                "--quiet",
            ][..],
            &[
                "exec",
                "--lock=off",
                "--public",
                "80",
                "--public",
                "8000-8010",
                "--",
                "node",
                "-p",
                "--quiet",
            ],
        ] {
            let cli = Cli::try_parse_from(std::iter::once(&"hpc-proxy").chain(args)).unwrap();
            let Some(Command::Exec(exec)) = cli.command else {
                panic!("{args:?}");
            };
            assert_eq!(exec.command, ["node", "-p", "--quiet"]);
            assert_eq!(exec.public, [80..=80, 8000..=8010]);
            assert_eq!((exec.lock, exec.quiet), (Lock::Off, false));
        }
        assert!(Cli::try_parse_from(["hpc-proxy", "exec"]).is_err());
        assert!(Cli::try_parse_from(["hpc-proxy", "exec", "--no-such-flag", "node"]).is_err());
    }
}
