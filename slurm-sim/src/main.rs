//! `slurm-sim` plays Slurm for tests and demonstrations: the commands of a login node, the daemon
//! of a compute node, and a whole cluster with an SSH login on one machine. It is no scheduler
//! to run real work on, and keeps no accounts apart that do not trust each other.

mod account;
mod applet;
mod cli;
mod clock;
mod cluster;
mod control;
mod dependency;
mod embedded;
mod environment;
mod fill;
mod format;
mod getopt;
mod hostlist;
mod job;
mod node;
mod output;
mod processes;
mod schedule;
mod spool;
mod step;
mod stepd;
mod stop;
mod task;
mod units;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use self::applet::{Applet, Caller, Io};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    if let Some(applet) = Path::new(&program).file_name().and_then(Applet::named) {
        return play(applet, &args.collect::<Vec<_>>());
    }
    cli::run()
}

fn play(applet: Applet, args: &[OsString]) -> ExitCode {
    let caller = match Caller::here() {
        Ok(caller) => caller,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: error: {error}", applet.name());
            return ExitCode::FAILURE;
        }
    };
    let (mut input, mut out, mut err) = (io::stdin(), io::stdout(), io::stderr());
    let mut io = Io {
        input: &mut input,
        out: &mut out,
        err: &mut err,
    };
    ExitCode::from(applet.run(args, &caller, &mut io))
}
