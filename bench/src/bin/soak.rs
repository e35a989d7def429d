//! `soak`: parse, run the scenarios, say what they saw, exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result};
use bench::{
    arguments::ProxyArguments,
    peer::{self, Peers},
    soak::{Outcome, Scenario, Soak},
};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

/// Puts a proxy under load for long, and says what it withstood.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to run [default: everything].
    #[arg(value_enum, value_name = "NAME")]
    scenarios: Vec<Scenario>,
    /// Which part of the full size, such as 0.01.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    #[command(flatten)]
    proxy: ProxyArguments,
}

fn main() -> ExitCode {
    if let Some(end) = peer::main() {
        return end;
    }
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell it to when stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as it should be.
#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments) -> Result<bool> {
    let soak = Soak {
        program: arguments.proxy.program()?,
        peers: Peers::of_this_program()?,
        scale: arguments.scale,
    };
    let scenarios = match arguments.scenarios.as_slice() {
        [] => Scenario::value_variants(),
        named => named,
    };
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut good = true;
    for scenario in scenarios {
        let start = Instant::now();
        // Whatever runs for a scenario ends as it is dropped.
        let outcome = tokio::select! {
            outcome = soak.run(*scenario) => outcome,
            _ = terminate.recv() => return Ok(false),
            _ = interrupt.recv() => return Ok(false),
        };
        let outcome = outcome.unwrap_or_else(|error| Outcome {
            faults: vec![format!("it could not go on: {error:#}")],
            ..Outcome::default()
        });
        good &= outcome.faults.is_empty();
        print(*scenario, &outcome, start)?;
    }
    Ok(good)
}

fn print(scenario: Scenario, outcome: &Outcome, start: Instant) -> Result<()> {
    let value = scenario
        .to_possible_value()
        .context("every scenario has a name")?;
    let verdict = match (&outcome.needs, outcome.faults.as_slice()) {
        (Some(needs), _) => format!("skipped, needs: {needs}"),
        (None, []) => "PASS".to_owned(),
        (None, _) => "FAIL".to_owned(),
    };
    let mut text = format!(
        "{:<12} {verdict}  ({:.0?})\n",
        value.get_name(),
        start.elapsed()
    );
    for (name, figure) in &outcome.figures {
        text += &format!("  {name:<26} {figure}\n");
    }
    for fault in &outcome.faults {
        text += &format!("  FAULT: {fault}\n");
    }
    io::stdout().write_all(text.as_bytes()).context("say it")
}
