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
    contest::{self, Contest},
    descriptors, lab,
    load::{Figures, Load},
    localhost, machine,
    peer::{self, Peers},
    proxy::Program,
    results::{self, Row, spread},
    rival::Rival,
    subject::{HPC_PROXY, Subject},
};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Of a proxy that has just started (issue 8): 1.5 MiB, as it is linked statically.
const RESIDENT_BYTES: f64 = 1.5 * 1024.0 * 1024.0;
/// What a rewritten page may cost, in times what the same page costs that is passed on.
const REWRITTEN: f64 = 3.0;
/// From exec to a complete lease, the best of the starts.
const START_MS: f64 = 6.0;
/// For an idle WebSocket, used or not: 1.6 kB.
const SOCKET_BYTES: u64 = 1_600;
/// After all of them have closed: 8 MiB.
const KEPT_BYTES: u64 = 8 << 20;
/// Everything in it: 4 MiB.
const PROGRAM_BYTES: u64 = 4 << 20;
/// For how long nothing is done, to see that nothing is, and what of it is nothing: a look at the lease.
const IDLE: Duration = Duration::from_secs(10);
const IDLE_CPU: Duration = Duration::from_micros(500);
/// Two descriptors each.
const SOCKETS: u64 = 5_000;
/// The results' part about it.
const LAB_HEADING: &str = "## A manager for a lab";
/// Issue 6: 200 sessions of 50 users, and 2,000 WebSockets.
const LAB: lab::Size = lab::Size {
    users: 50,
    sessions: 4,
    sockets: 10,
    launches: 20,
};

/// Measures what a proxy costs, alone and beside others.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each load.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of a round.
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    /// How many starts are timed.
    #[arg(long, default_value_t = 31)]
    starts: usize,
    /// Only what a private localhost costs, which is printed alone.
    #[arg(long)]
    localhost: bool,
    /// Only what a proxy costs that is not under load, which is printed alone.
    #[arg(long)]
    alone: bool,
    /// The proxy that hpc-proxy took the place of, to be compared with too.
    #[arg(long, value_name = "PATH")]
    original: Option<PathBuf>,
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
    if arguments.alone {
        let alone = alone(&program, &peers, arguments.starts).await?;
        say(&results::table("alone", &alone))?;
        return Ok(alone.iter().all(Row::is_good));
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
    let mut text = format!("{head}\n{table}\n{compared}\n{private}");
    // Which takes as long as all else, and was measured when it says.
    let before = fs::read_to_string(&arguments.results).unwrap_or_default();
    if let Some(lab) = results::part(&before, LAB_HEADING) {
        text = results::with_part(&text, lab);
    }
    write_down(arguments, &text)?;
    Ok(good && alone.iter().all(Row::is_good))
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
        "{LAB_HEADING}\n\nWritten by `just bench --lab` at {commit}, {now}.\n{machine}.\n\
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
    let (machine, network) = (machine::machine(), machine::network());
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    Ok(format!(
        "# Results\n\nWritten by `{command}` at {commit}, {now}.\n{machine}, {network}.\nEach figure is \
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
        .limited("best <= 6 ms", starts.min() <= START_MS),
    );
    let resident = alone::resident(program, 5).await?;
    rows.push(
        Row::new(
            "resident after start (VmRSS)",
            spread(&resident.rss, 1024.0, 0, "KiB"),
            format!("{} processes", resident.rss.count()),
        )
        .limited("1.5 MiB", resident.rss.max() <= RESIDENT_BYTES),
    );
    rows.push(Row::new(
        "its own share of that (PSS)",
        spread(&resident.pss, 1024.0, 0, "KiB"),
        format!("{} processes", resident.pss.count()),
    ));
    let idle = alone::idle(program, IDLE).await?;
    let row = Row::new(
        "idle",
        format!(
            "{} us of CPU, {} switches",
            idle.cpu.as_micros(),
            idle.switches
        ),
        format!("{} s", IDLE.as_secs()),
    );
    rows.push(row.limited("0.5 ms", idle.cpu <= IDLE_CPU));
    descriptors::raise()?;
    for subject in [
        Subject::HpcProxy(program.clone()),
        Subject::Rival(Rival::Nginx),
        Subject::Rival(Rival::HaProxy),
    ] {
        rows.extend(held(&subject, peers).await?);
    }
    let binary = fs::metadata(program.path())
        .context("the size of the program")?
        .len();
    let row = Row::new(
        "the program",
        format!("{} KiB", binary / 1024),
        "1 file".to_owned(),
    );
    rows.push(row.limited("4 MiB", binary <= PROGRAM_BYTES));
    Ok(rows)
}

/// What many WebSockets cost at rest; there are limits for ours.
async fn held(subject: &Subject, peers: &Peers) -> Result<Vec<Row>> {
    let held = alone::held(subject, peers, SOCKETS).await?;
    let (name, ours) = (subject.name(), subject.name() == HPC_PROXY);
    let row = |what: &str, value, limit, kept| {
        let row = Row::new(
            &format!("{name}: {what}"),
            value,
            format!("{} sockets", held.sockets),
        );
        if ours { row.limited(limit, kept) } else { row }
    };
    let each = |what, each| {
        row(
            what,
            format!("{each} bytes"),
            "1.6 kB",
            each <= SOCKET_BYTES,
        )
    };
    let kept = format!("{} KiB", held.kept / 1024);
    Ok(vec![
        each("idle WebSocket, unused", held.unused_each),
        each("idle WebSocket, after 16 KiB and back", held.used_each),
        row(
            "kept after all have closed",
            kept,
            "8 MiB",
            held.kept <= KEPT_BYTES,
        ),
    ])
}

/// What it costs under loads of these names, beside the others, and whether that is within its limits.
async fn compare(
    program: &Program,
    peers: &Peers,
    arguments: &Arguments,
    wanted: &str,
) -> Result<(String, bool)> {
    let mut contests = contest::contests(arguments.original.as_deref());
    let names = Vec::from_iter(
        contests
            .iter()
            .flat_map(|contest| &contest.loads)
            .map(|load| load.name()),
    );
    for contest in &mut contests {
        contest.loads.retain(|load| load.name().contains(wanted));
    }
    contests.retain(|contest: &Contest| !contest.loads.is_empty());
    if contests.is_empty() && !lab::THROUGH_A_MANAGER.contains(wanted) {
        bail!(
            "no load is named `{wanted}`; there are `{}`",
            names.join("`, `")
        );
    }
    let time = Duration::try_from_secs_f64(arguments.seconds).context("seconds of a round")?;
    let rounds = arguments.rounds;
    let (mut figures, mut ratios) = (Vec::new(), Vec::new());
    for contest in contests {
        let (more, rows) = contest.hold(program, peers, rounds, time).await?;
        figures.extend(more);
        ratios.extend(rows);
    }
    if lab::THROUGH_A_MANAGER.contains(wanted) {
        figures.extend(lab::through_a_manager(program, peers, rounds, time).await?);
    }
    ratios.extend(rewritten(&figures));
    let good = ratios.iter().all(Row::is_good);
    let mut compared = results::comparison(&figures);
    compared += &format!(
        "\n{rounds} rounds of each, of {} s or one body. nginx and HAProxy ask neither for a token nor for the owner of \
         a server,\nhpc-proxy for both.\n",
        arguments.seconds
    );
    if !ratios.is_empty() {
        compared += "\n";
        compared += &results::table("processor time", &ratios);
        compared += "\nEach ratio is the median of the rounds', and their middle half in brackets, which must clear the bar.\n";
    }
    Ok((compared, good))
}

/// What a page costs that is rewritten, wherever both were measured in turn.
fn rewritten(figures: &[Figures]) -> Vec<Row> {
    let cost = |wanted: Load| {
        let mut found = figures.iter().filter(|figures| figures.load == wanted);
        found.find(|figures| figures.subject == HPC_PROXY)
    };
    let ratio = |clients: usize| {
        let (passed, moved) = (cost(Load::Page(clients))?, cost(Load::Rewritten(clients))?);
        let ratio = moved.cpu_micros.median() / passed.cpu_micros.median();
        let row = Row::new(
            &format!("{}, rewritten : passed on", Load::Page(clients).name()),
            format!("{ratio:.2}"),
            format!("{} rounds", moved.cpu_micros.count()),
        );
        Some(row.limited("<= 3", ratio <= REWRITTEN))
    };
    [1, 8].into_iter().filter_map(ratio).collect()
}

fn say(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("say it")
}
