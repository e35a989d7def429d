//! The fields of sinfo's formats.

use std::fs;

use super::{Entry, Line};
use crate::applet::{Exit, Io};
use crate::cluster::{Health, VERSION};
use crate::format::Format;
use crate::{hostlist, units};

/// Reads a format. What there is not is said, and stays as it is in each line.
pub(super) fn parse(text: &str, io: &mut Io<'_>) -> Result<Format, Exit> {
    let refuse = |what: &str| Exit::saying(1, format!("{REFUSAL}{what}"));
    let mut format = Format::parse(text).map_err(|rest| refuse(&rest))?;
    for stranger in format.settle(|letter| !header(letter).is_empty()) {
        io.complain(format!("{REFUSAL}{stranger}"));
    }
    Ok(format)
}

const REFUSAL: &str = "Invalid node format specification: ";

/// Reads the names of `--Format`; behind one that there is not, nothing is shown.
pub(super) fn parse_names(text: &str, io: &mut Io<'_>) -> Format {
    Format::of_names(text, letter).unwrap_or_else(|(understood, stranger)| {
        io.complain(format!(
            "sinfo: error: Invalid job format specification: {stranger}"
        ));
        understood
    })
}

/// The letter of a field by its long name, in lower case.
fn letter(name: &str) -> Option<char> {
    Some(match name {
        "available" => 'a',
        "nodeai" => 'A',
        "cpus" => 'c',
        "cpusstate" => 'C',
        "nodes" => 'D',
        "freemem" => 'e',
        "reason" => 'E',
        "features" => 'f',
        "nodeaiot" => 'F',
        "gres" => 'G',
        "time" => 'l',
        "defaulttime" => 'L',
        "memory" => 'm',
        "nodehost" => 'n',
        "nodelist" => 'N',
        "partition" => 'P',
        "partitionname" => 'R',
        "statecompact" => 't',
        "state" | "statelong" => 'T',
        "version" => 'v',
        _ => return None,
    })
}

/// The heading of a field; empty if there is no such field.
pub(super) fn header(letter: char) -> &'static str {
    match letter {
        'a' => "AVAIL",
        'A' => "NODES(A/I)",
        'c' => "CPUS",
        'C' => "CPUS(A/I/O/T)",
        'D' => "NODES",
        'e' => "FREE_MEM",
        'E' => "REASON",
        'f' => "AVAIL_FEATURES",
        'F' => "NODES(A/I/O/T)",
        'G' => "GRES",
        'h' => "OVERSUBSCRIBE",
        'l' => "TIMELIMIT",
        'L' => "DEFAULTTIME",
        'm' => "MEMORY",
        'b' => "ACTIVE_FEATURES",
        'B' => "MAX_CPUS_PER_NODE",
        'd' => "TMP_DISK",
        'g' => "GROUPS",
        'H' => "TIMESTAMP",
        'I' => "PRIO_JOB_FACTOR",
        'M' => "PREEMPT_MODE",
        'n' => "HOSTNAMES",
        'N' => "NODELIST",
        'P' | 'R' => "PARTITION",
        'o' => "NODE_ADDR",
        'O' => "CPU_LOAD",
        'p' => "PRIO_TIER",
        'r' => "ROOT",
        's' => "JOB_SIZE",
        'S' => "ALLOCNODES",
        't' | 'T' => "STATE",
        'u' | 'U' => "USER",
        'v' => "VERSION",
        'V' => "CLUSTER",
        'w' => "WEIGHT",
        'X' => "SOCKETS",
        'Y' => "CORES",
        'z' => "S:C:T",
        'Z' => "THREADS",
        _ => "",
    }
}

/// What a field shows of a line.
pub(super) fn cell(letter: char, line: &Line<'_>) -> String {
    let partition = line.partition;
    let entries = &line.entries;
    match letter {
        'a' => return "up".into(),
        'A' => return format!("{}/{}", count(entries)[0], count(entries)[1]),
        'B' => return "UNLIMITED".into(),
        'C' => return sum(entries.iter().map(Entry::cpus)),
        'D' => return entries.len().to_string(),
        'F' => return count(entries).map(|n| n.to_string()).join("/"),
        'g' | 'S' => return "all".into(),
        'h' => return "NO".into(),
        'I' | 'p' => return "1".into(),
        'l' => return units::span(partition.max_minutes * 60),
        'L' => return units::span(partition.default_minutes * 60),
        'M' => return "OFF".into(),
        'N' => {
            let names: Vec<&str> = entries
                .iter()
                .map(|entry| entry.node.name.as_str())
                .collect();
            return hostlist::compress(&names);
        }
        'P' if partition.default => return format!("{}*", partition.name),
        'P' | 'R' => return partition.name.clone(),
        'r' => return "no".into(),
        's' => return "1-infinite".into(),
        'V' => return "N/A".into(),
        _ => {}
    }
    let Some(first) = entries.first() else {
        return "n/a".into();
    };
    match letter {
        'b' | 'f' | 'G' => "(null)".into(),
        'c' | 'X' => first.node.cpus.to_string(),
        'd' => "0".into(),
        'e' => free_memory_mb().map_or_else(|| "N/A".into(), |mb| mb.to_string()),
        'E' => reason(first).to_owned(),
        'm' => first.node.memory_mb.to_string(),
        'n' | 'o' => first.node.name.clone(),
        'O' => "0.00".into(),
        't' => first.short_state(),
        'T' => first.long_state(),
        'u' | 'U' | 'H' => match (&first.node.reason, letter) {
            (None, _) => "Unknown".into(),
            (Some(_), 'u') => "root".into(),
            (Some(_), 'U') => "root(0)".into(),
            (Some((_, since)), _) => since.to_string(),
        },
        'v' => VERSION.rsplit(' ').next().unwrap_or_default().into(),
        'w' | 'Y' | 'Z' => "1".into(),
        'z' => format!("{}:1:1", first.node.cpus),
        _ => String::new(),
    }
}

/// Nodes with jobs, without, out of service, and all.
fn count(line: &[Entry<'_>]) -> [usize; 4] {
    let other = line.iter().filter(|e| e.is_out()).count();
    let busy = |e: &&Entry<'_>| !e.is_out() && e.cpus_used > 0;
    let busy = line.iter().filter(busy).count();
    [busy, line.len() - other - busy, other, line.len()]
}

fn sum(cpus: impl Iterator<Item = [u32; 4]>) -> String {
    let total = cpus.fold([0; 4], |mut total, cpus| {
        total
            .iter_mut()
            .zip(cpus)
            .for_each(|(total, n)| *total += n);
        total
    });
    total.map(|n| n.to_string()).join("/")
}

fn reason<'a>(entry: &'a Entry<'_>) -> &'a str {
    match entry.health {
        Health::Down => "Not responding",
        _ => entry.node.reason.as_ref().map_or("none", |(why, _)| why),
    }
}

/// This host's: an embedded cluster's nodes are on it, and nobody asks another's.
fn free_memory_mb() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemFree:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
