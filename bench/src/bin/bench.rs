//! `bench`: parse, measure, say it and write it down, exit code.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bench::{
    alone,
    arguments::ProxyArguments,
    descriptors, lab,
    load::{self, Figures, Load},
    localhost, machine,
    peer::{self, Peers},
    proxy::Program,
    results::{self, Row, spread},
    subject::Subject,
};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Of a proxy that has just started (issue 3): 4 MB.
const RESIDENT_BYTES: f64 = 4e6;
/// What a rewritten page may cost, in times what the same page costs that is passed on.
const REWRITTEN: f64 = 3.0;
/// From exec to a complete lease: 20 ms.
const START_MS: f64 = 20.0;
/// For an idle WebSocket, used or not: 12 KB.
const SOCKET_BYTES: u64 = 12_000;
/// For how long nothing is done, to see that nothing is.
const IDLE: Duration = Duration::from_secs(5);
/// Two descriptors each.
const SOCKETS: u64 = 5_000;
/// Issue 6: 200 sessions of 50 users, and 2,000 WebSockets.
const LAB: lab::Size = lab::Size {
    users: 50,
    sessions: 4,
    sockets: 10,
    launches: 20,
};

/// What is compared. Each load is one line for each subject; those of one group take turns.
const LOADS: [&[Load]; 7] = [
    &[Load::Kept(1)],
    &[Load::Kept(64)],
    &[Load::New(16)],
    &[Load::Echo(64)],
    &[Load::Down(1_000_000_000)],
    &[Load::Page(1), Load::Rewritten(1)],
    &[Load::Page(8), Load::Rewritten(8)],
];

/// Measures what a proxy costs, alone and beside others.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each load.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of a round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many starts are timed.
    #[arg(long, default_value_t = 31)]
    starts: usize,
    /// Only what a private localhost costs, which is printed alone.
    #[arg(long)]
    localhost: bool,
    /// Only what a manager for a lab costs, which alone is replaced in the results.
    #[arg(long)]
    lab: bool,
    /// How many users that lab has.
    #[arg(long, default_value_t = LAB.users, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..))]
    lab_users: u32,
    /// Only the loads whose name holds this, which are printed alone.
    #[arg(long, value_name = "TEXT")]
    load: Option<String>,
    /// Where the results are written to.
    #[arg(long, value_name = "PATH", default_value = "bench/RESULTS.md")]
    results: PathBuf,
    #[command(flatten)]
    proxy: ProxyArguments,
}

fn main() -> ExitCode {
    if let Some(end) = peer::main().or_else(localhost::main) {
        return end;
    }
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell it to when stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was within its limit.
#[tokio::main(flavor = "current_thread")]
async fn run(arguments: &Arguments) -> Result<bool> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    // Whatever runs for a measurement ends as it is dropped.
    tokio::select! {
        done = measure(arguments) => done,
        _ = terminate.recv() => Ok(false),
        _ = interrupt.recv() => Ok(false),
    }
}

async fn measure(arguments: &Arguments) -> Result<bool> {
    let (program, peers) = (arguments.proxy.program()?, Peers::of_this_program()?);
    if let Some(wanted) = &arguments.load {
        let (compared, good) = compare(&program, &peers, arguments, wanted).await?;
        say(&compared)?;
        return Ok(good);
    }
    if arguments.lab {
        let (part, good) = of_a_lab(&program, &peers, arguments).await?;
        let written = fs::read_to_string(&arguments.results).unwrap_or_default();
        write_down(arguments, &results::with_part(&written, &part))?;
        return Ok(good);
    }
    let head = head()?;
    say(&head)?;
    let private = localhost::table(program.path(), arguments.rounds)?;
    say(&private)?;
    if arguments.localhost {
        return Ok(true);
    }
    let alone = alone(&program, &peers, arguments.starts).await?;
    let table = results::table("alone", &alone);
    say(&table)?;
    let (compared, good) = compare(&program, &peers, arguments, "").await?;
    say(&compared)?;
    let (lab, lab_is_good) = of_a_lab(&program, &peers, arguments).await?;
    let text = format!("{head}\n{table}\n{compared}\n{private}");
    write_down(arguments, &results::with_part(&text, &lab))?;
    Ok(good && lab_is_good && alone.iter().all(Row::is_good))
}

fn write_down(arguments: &Arguments, text: &str) -> Result<()> {
    let path = &arguments.results;
    fs::write(path, text).with_context(|| format!("write `{}`", path.display()))
}

/// What a manager for a lab costs, as a part of the results, and whether that is within its limits.
async fn of_a_lab(
    program: &Program,
    peers: &Peers,
    arguments: &Arguments,
) -> Result<(String, bool)> {
    let (commit, machine) = (machine::commit(".".as_ref())?, machine::machine());
    let size = lab::Size {
        users: arguments.lab_users,
        ..LAB
    };
    let rows = lab::measure(program, peers, size).await?;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    let table = results::table("a manager", &rows);
    let part = format!(
        "## A manager for a lab\n\nWritten by `just bench --lab` at {commit}, {now}.\n{machine}.\n\
         Login node, nodes, jobs, dev servers and browsers share the cores with it; each session is a real \
         job with a proxy,\nan IDE and a tunnel of its own.\n\n{table}"
    );
    say(&part)?;
    Ok((part, rows.iter().all(Row::is_good)))
}

fn head() -> Result<String> {
    let commit = machine::commit(".".as_ref())?;
    let mut command = "just bench".to_owned();
    for argument in std::env::args().skip(1) {
        command += &format!(" {argument}");
    }
    let machine = machine::machine();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    Ok(format!(
        "# Results\n\nWritten by `{command}` at {commit}, {now}.\n{machine}.\nEach figure is \
         a median, with the lowest and the highest in brackets. Load generator, dev server\nand proxy \
         share the cores; rounds take turns between the subjects. The kernel books some of a\nproxy's work \
         to threads of its own, so the CPU of the whole machine stands beside.\n"
    ))
}

/// What the proxy costs by itself.
async fn alone(program: &Program, peers: &Peers, times: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let starts = alone::starts(program, times)?;
    rows.push(
        Row::new(
            "exec to complete lease",
            spread(&starts, 1.0, 1, "ms"),
            format!("{times} starts"),
        )
        .limited("20 ms", starts.median() < START_MS),
    );
    let resident = alone::resident(program, 5).await?;
    rows.push(
        Row::new(
            "resident after start (VmRSS)",
            spread(&resident.rss, 1024.0, 0, "KiB"),
            format!("{} processes", resident.rss.count()),
        )
        .limited("4 MB", resident.rss.max() < RESIDENT_BYTES),
    );
    rows.push(Row::new(
        "its own share of that (PSS)",
        spread(&resident.pss, 1024.0, 0, "KiB"),
        format!("{} processes", resident.pss.count()),
    ));
    let idle = alone::idle(program, IDLE).await?;
    rows.push(Row::new(
        "idle",
        format!(
            "{} ms of CPU, {} switches",
            idle.cpu.as_millis(),
            idle.switches
        ),
        format!("{} s", IDLE.as_secs()),
    ));
    descriptors::raise()?;
    let held = alone::held(program, peers, SOCKETS).await?;
    let sockets = format!("{} sockets", held.sockets);
    for (what, each) in [
        ("idle WebSocket, unused", held.unused_each),
        ("idle WebSocket, after 16 KiB and back", held.used_each),
    ] {
        let row = Row::new(what, format!("{each} bytes"), sockets.clone());
        rows.push(row.limited("12 KB", each < SOCKET_BYTES));
    }
    rows.push(Row::new(
        "kept after all have closed",
        format!("{} KiB", held.kept / 1024),
        sockets,
    ));
    let binary = fs::metadata(program.path())
        .context("the size of the program")?
        .len();
    rows.push(Row::new(
        "the program",
        format!("{} KiB", binary / 1024),
        "1 file".to_owned(),
    ));
    Ok(rows)
}

/// What it costs under loads of these names, beside the others, and whether that is within its limits.
async fn compare(
    program: &Program,
    peers: &Peers,
    arguments: &Arguments,
    wanted: &str,
) -> Result<(String, bool)> {
    let is_wanted = |load: &&Load| load.name().contains(wanted);
    let groups = LOADS.map(|group| Vec::from_iter(group.iter().filter(is_wanted).copied()));
    if groups.iter().all(Vec::is_empty) {
        let names: Vec<_> = LOADS.concat().into_iter().map(Load::name).collect();
        let names = names.join("`, `");
        bail!("no load is named `{wanted}`; there are `{names}`");
    }
    let (_server, target_port) = peers.server().await?;
    let subjects = [Subject::NoProxy, Subject::HpcProxy(program.clone())];
    let serving = subjects.iter().map(|subject| subject.start(target_port));
    let serving = serving.collect::<Result<Vec<_>>>()?;
    let time = Duration::try_from_secs_f64(arguments.seconds).context("seconds of a round")?;
    let mut figures = Vec::new();
    for group in groups {
        figures.extend(load::compare(&serving, &group, arguments.rounds, time).await?);
    }
    let rounds = arguments.rounds;
    let samples = format!(
        "\n{rounds} rounds of each, of {} s or one body.\n",
        arguments.seconds
    );
    let ratios = rewritten(&figures);
    let good = ratios.iter().all(Row::is_good);
    let mut compared = results::comparison(&figures) + &samples;
    if !ratios.is_empty() {
        compared += "\n";
        compared += &results::table("of the proxy's CPU", &ratios);
    }
    Ok((compared, good))
}

/// What a page costs that is rewritten, wherever both were measured in turn.
fn rewritten(figures: &[Figures]) -> Vec<Row> {
    let cost = |wanted: Load| {
        let mut found = figures.iter().filter(|figures| figures.load == wanted);
        found.find_map(|figures| Some(&figures.cpu_micros).filter(|cost| cost.count() > 0))
    };
    let ratio = |clients: usize| {
        let (passed, moved) = (cost(Load::Page(clients))?, cost(Load::Rewritten(clients))?);
        let ratio = moved.median() / passed.median();
        let row = Row::new(
            &format!("{}, rewritten : passed on", Load::Page(clients).name()),
            format!("{ratio:.2}"),
            format!("{} rounds", moved.count()),
        );
        Some(row.limited("3", ratio <= REWRITTEN))
    };
    [1, 8].into_iter().filter_map(ratio).collect()
}

fn say(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("say it")
}
