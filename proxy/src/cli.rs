//! The command line and its environment, turned once into a complete configuration.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use hpc_proxy::route::TargetPort;
use thiserror::Error;

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
    /// Prints a link that signs a browser in to the running proxy, once.
    Url(UrlArgs),
    /// Prints a TCP port of this node that is free now.
    FreePort,
}

#[derive(Debug, Args)]
struct ServeArgs {
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
        value_parser = duration)]
    grace: Duration,
    /// Accepted from scripts for the original proxy. Redirects and cookies of a dev server are
    /// moved under /port/N/ with and without it.
    #[arg(
        long, env = "HPC_PROXY_BASE_REWRITE", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value = "false", hide_default_value = true, hide_possible_values = true,
        value_parser = BoolishValueParser::new()
    )]
    base_rewrite: bool,
}

#[derive(Debug, Args)]
struct UrlArgs {
    /// The dev server to open; without it the list of them.
    port: Option<TargetPort>,
}

/// Who may use the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Auth {
    /// Those who send the token of the token file, or come by a one-time link.
    Token,
    /// Everybody who can connect. Only your own servers are shown, but to anybody.
    None,
}

/// What to do, and with what.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) action: Action,
    pub(crate) job: Option<String>,
    pub(crate) node: Option<String>,
    /// The directory of the default port file, or an explicit port file.
    pub(crate) lease: LeasePath,
    pub(crate) verbose: bool,
    pub(crate) color: bool,
}

#[derive(Debug)]
pub(crate) enum Action {
    Serve(Serve),
    Url(Option<TargetPort>),
    FreePort,
}

#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) auth: Auth,
    pub(crate) grace: Duration,
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
            (None, _) => return Err(UsageError::NoHome),
        };
        let action = match self.command {
            None => Action::Serve(self.serve.check()),
            Some(Command::Serve(serve)) => Action::Serve(serve.check()),
            Some(Command::Url(UrlArgs { port })) => Action::Url(port),
            Some(Command::FreePort) => Action::FreePort,
        };
        Ok(Config {
            action,
            lease,
            job: self.job.filter(|job| !job.is_empty()),
            node: self.node.filter(|node| !node.is_empty()),
            verbose: self.verbose,
            color: self.no_color.is_none_or(|value| value.is_empty()),
        })
    }
}

impl ServeArgs {
    fn check(self) -> Serve {
        // Open to everybody takes two explicit words: `--auth none` and another `--bind`.
        let default = match self.auth {
            Auth::Token => Ipv4Addr::UNSPECIFIED,
            Auth::None => Ipv4Addr::LOCALHOST,
        };
        Serve {
            ip: self.bind.unwrap_or(default.into()),
            port: self.port,
            auth: self.auth,
            grace: self.grace,
        }
    }
}

/// `10`, `10s`, `500ms` or `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let milliseconds_per_unit = match unit {
        "" | "s" => 1000,
        "ms" => 1,
        "m" => 60_000,
        _ => return Err(format!("`{unit}` is not a unit; use ms, s or m")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds_per_unit))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a time; say for example 10s"))
}

/// The original proxy took its long flags with one dash as well; so does this.
pub(crate) fn with_double_dashes(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const ORIGINAL: [&str; 5] = ["port", "port-file", "base-rewrite", "verbose", "version"];
    args.map(|arg| {
        let name = arg
            .to_str()
            .and_then(|arg| arg.strip_prefix('-'))
            .unwrap_or_default();
        let is_original = ORIGINAL.contains(&name.split('=').next().unwrap_or_default());
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
    fn times_have_units() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "-1", "1h", "99999999999999999999", "1.5s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
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
}
