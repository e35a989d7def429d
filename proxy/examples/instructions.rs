//! Counts the instructions of each piece of work of a request, with callgrind, which no noise of a machine
//! fools, and compares them with the counts in a file. `just instructions` calls it.
//!
//! `instructions FILE` compares, `instructions FILE --write` keeps them; `instructions NAME TIMES` does the work.

use std::{collections::BTreeMap, error::Error, fs, process::Command};

#[path = "../benches/works/mod.rs"]
mod works;

/// A compiler or a C library of another version counts otherwise by so much; what is a change for the worse is more.
const TOLERANCE: f64 = 0.08;
/// Two runs differ by the pieces of work alone, whatever a start costs.
const TIMES: [u64; 2] = [20, 120];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [file] => compare(&read(file)?, &count_all()?),
        [file, "--write"] => write(file, &count_all()?),
        [name, times] => work(name, times.parse()?),
        _ => Err("usage: instructions FILE [--write]".into()),
    }
}

fn work(name: &str, times: u64) -> Result<()> {
    let mut all = works::all().into_iter();
    let mut work = all.find(|work| work.name == name).ok_or("no such work")?;
    for _ in 0..times {
        (work.once)();
    }
    Ok(())
}

fn count_all() -> Result<BTreeMap<String, u64>> {
    let names = works::all().into_iter().map(|work| work.name);
    names
        .map(|name| {
            let [few, many] = TIMES.map(|times| count(name, times));
            let count = (many? - few?) / (TIMES[1] - TIMES[0]);
            Ok((name.to_owned(), count))
        })
        .collect()
}

/// Callgrind's last line is `==PID== Collected : COUNT`.
fn count(name: &str, times: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([name, &times.to_string()])
        .output()
        .map_err(|error| format!("cannot start valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .filter(|_| output.status.success());
    let (_, count) = collected.ok_or_else(|| format!("valgrind did not count: {said}"))?;
    Ok(count.trim().parse()?)
}

fn read(file: &str) -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, count) = line.split_once(' ').ok_or("no count")?;
            Ok((name.to_owned(), count.trim().parse()?))
        })
        .collect()
}

fn write(file: &str, counts: &BTreeMap<String, u64>) -> Result<()> {
    let mut text =
        "# Instructions of one piece of work, as `just instructions --write` counted them.\n"
            .to_owned();
    for (name, count) in counts {
        text += &format!("{name:<20} {count}\n");
    }
    Ok(fs::write(file, text)?)
}

#[expect(clippy::print_stdout, reason = "the table is what it is asked for")]
fn compare(kept: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Result<()> {
    let mut worse = Vec::new();
    println!("{:<20} {:>10} {:>10}", "instructions", "kept", "now");
    for (name, count) in now {
        let before = kept.get(name).copied();
        let shown = before.map_or_else(|| "-".to_owned(), |before| before.to_string());
        let change = before.map_or(f64::INFINITY, |before| *count as f64 / before as f64 - 1.0);
        println!(
            "{name:<20} {shown:>10} {count:>10} {:+.1} %",
            change * 100.0
        );
        if change > TOLERANCE {
            worse.push(name.as_str());
        }
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} costs more than {:.0} % more than before; if that is as it must be: just instructions --write",
        worse.join(", "),
        TOLERANCE * 100.0
    )
    .into())
}
