//! The `hpc-proxy` program: parse, log, do what is asked, exit code.

use std::process::ExitCode;

use clap::Parser;

mod bridge;
mod cli;
mod doctor;
mod exec;
mod failure;
mod framework;
mod free_port;
mod list;
mod listen;
mod local;
mod log;
mod node;
#[cfg(test)]
mod reference;
mod serve;
mod socket_path;
mod state_dir;
mod url;

use cli::{Action, Cli};
use failure::{Failure, report};

fn main() -> ExitCode {
    let config = match Cli::parse_from(cli::with_double_dashes(std::env::args_os())).into_config() {
        Ok(config) => config,
        Err(error) => {
            report(&Failure::Usage(error));
            return ExitCode::from(2);
        }
    };
    log::to_stderr(&config);
    let done = match &config.action {
        Action::Serve(serve) => serve::serve(&config, serve),
        Action::Url(url) => url::print(&config, url),
        Action::Ports(output) => list::print(&config, *output),
        Action::Bridge { streams: false } => bridge::join(&config).map_err(Failure::from),
        Action::Bridge { streams: true } => bridge::join_streams(&config).map_err(Failure::from),
        Action::Doctor(output) => match doctor::print(&config, *output) {
            Ok(true) => Ok(()),
            // What is wrong has been said.
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Action::FreePort => free_port::print(),
        Action::SocketPath(wanted) => socket_path::print(&config, wanted),
        Action::Exec(command) => match exec::run(&config, command) {
            Ok(code) => return code,
            Err(error) => {
                let code = error.code();
                report(&Failure::Exec(error));
                return code;
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}
