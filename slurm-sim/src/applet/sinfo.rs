//! `sinfo`: lists partitions and nodes.

use std::fs;

use super::{Applet, Caller, Exit, Io, Result, unreachable};
use crate::clock::Time;
use crate::cluster::{Cluster, Health, Healths, Node, Partition};
use crate::format::Format;
use crate::getopt::{Known, Operands, flag, value};
use crate::{hostlist, units};

const KNOWN: &[Known] = &[
    flag("all", Some('a')),
    value("format", Some('o')),
    flag("help", None),
    flag("Node", Some('N')),
    flag("noheader", Some('h')),
    value("nodes", Some('n')),
    value("partition", Some('p')),
    flag("responding", Some('r')),
    value("states", Some('t')),
    flag("summarize", Some('s')),
    flag("usage", None),
    flag("verbose", Some('v')),
    flag("version", Some('V')),
];

const DEFAULT_FORMAT: &str = "%9P %.5a %.10l %.6D %.6t %N";
const NODE_FORMAT: &str = "%8N %.6D %9P %6t";
const SUMMARY_FORMAT: &str = "%9P %.5a %.10l %.16F %N";

/// The fields that belong to a partition; a format without any lists nodes as such.
const OF_PARTITION: &str = "PRalLhrsS";

/// The fields whose values nodes of one line have in common.
const IN_COMMON: &str = "PRaltTmcLhrsSeEn";

pub(super) fn run(args: &[String], caller: &Caller, io: &mut Io<'_>) -> Result {
    let parsed = super::parse(Applet::Sinfo, KNOWN, args, Operands::Anywhere, 1, io)?;
    let node_oriented = parsed.has("Node");
    let default = match (node_oriented, parsed.has("summarize")) {
        (true, _) => NODE_FORMAT,
        (_, true) => SUMMARY_FORMAT,
        _ => DEFAULT_FORMAT,
    };
    let format = parse_format(parsed.value("format").unwrap_or(default))?;

    let spool = caller.spool();
    let cluster = spool
        .ask()
        .map_err(unreachable(1, "slurm_load_partitions: "))?;
    let health = spool.health(&cluster, Time::now());
    let mut entries = Vec::new();
    let by_partition = node_oriented || format.letters().any(|l| OF_PARTITION.contains(l));
    for partition in &cluster.partitions {
        let wanted = parsed.list("partition");
        if wanted.is_some_and(|wanted| !wanted.contains(&partition.name.as_str())) {
            continue;
        }
        for node in partition.nodes.iter().filter_map(|node| cluster.node(node)) {
            let entry = Entry::new(&cluster, &health, partition, node);
            let named = parsed.value("nodes").is_none_or(|list| {
                hostlist::expand(list)
                    .unwrap_or_default()
                    .contains(&node.name)
            });
            let in_state = parsed.list("states").is_none_or(|states| {
                let plain = |name: &str| name.trim_end_matches('*').to_owned();
                let (short, long) = (plain(&entry.short_state()), plain(&entry.long_state()));
                states
                    .iter()
                    .any(|s| s.eq_ignore_ascii_case(&short) || s.eq_ignore_ascii_case(&long))
            });
            let responding = !parsed.has("responding") || entry.health == Health::Well;
            let known = entries
                .iter()
                .any(|other: &Entry<'_>| other.node.name == node.name);
            if named && in_state && responding && (by_partition || !known) {
                entries.push(entry);
            }
        }
    }
    if !parsed.has("noheader") {
        io.say(format.line(|letter| header(letter).to_owned()));
    }
    for line in lines(&entries, &format, node_oriented) {
        io.say(format.line(|letter| cell(letter, &line)));
    }
    Ok(Exit::OK)
}

/// A node as a member of a partition.
struct Entry<'a> {
    partition: &'a Partition,
    node: &'a Node,
    health: Health,
    cpus_used: u32,
}

impl<'a> Entry<'a> {
    fn new(cluster: &Cluster, health: &Healths, partition: &'a Partition, node: &'a Node) -> Self {
        let health = health.get(&node.name).copied().unwrap_or(Health::Unknown);
        Self {
            partition,
            node,
            health,
            cpus_used: cluster.occupied(&node.name).0,
        }
    }

    fn state(&self) -> (&'static str, &'static str) {
        match (self.health, self.node.drained, self.cpus_used) {
            (Health::Unknown, ..) => ("unk", "unknown"),
            (Health::Down, ..) => ("down", "down"),
            (_, true, 0) => ("drain", "drained"),
            (_, true, _) => ("drng", "draining"),
            (_, _, 0) => ("idle", "idle"),
            (_, _, used) if used >= self.node.cpus => ("alloc", "allocated"),
            _ => ("mix", "mixed"),
        }
    }

    fn star(&self) -> &'static str {
        if matches!(self.health, Health::Silent | Health::Down) {
            "*"
        } else {
            ""
        }
    }

    fn short_state(&self) -> String {
        format!("{}{}", self.state().0, self.star())
    }

    fn long_state(&self) -> String {
        format!("{}{}", self.state().1, self.star())
    }

    /// Allocated, idle, other and all processors.
    fn cpus(&self) -> [u32; 4] {
        let (used, all) = (self.cpus_used, self.node.cpus);
        let usable = self.health != Health::Down && !self.node.drained;
        let idle = if usable { all - used.min(all) } else { 0 };
        [used, idle, all - used.min(all) - idle, all]
    }
}

/// Entries that share a line.
fn lines<'a>(
    entries: &'a [Entry<'a>],
    format: &Format,
    node_oriented: bool,
) -> Vec<Vec<&'a Entry<'a>>> {
    let mut lines: Vec<(Vec<String>, Vec<&Entry<'_>>)> = Vec::new();
    for entry in entries {
        let mut key: Vec<String> = format
            .letters()
            .filter(|letter| IN_COMMON.contains(*letter))
            .map(|letter| cell(letter, &[entry]))
            .collect();
        if node_oriented {
            key.extend([entry.node.name.clone(), entry.partition.name.clone()]);
        }
        match lines.iter_mut().find(|(known, _)| *known == key) {
            Some((_, line)) => line.push(entry),
            None => lines.push((key, vec![entry])),
        }
    }
    let mut lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
    if node_oriented {
        lines.sort_by(|a, b| a[0].node.name.cmp(&b[0].node.name));
    }
    lines
}

fn parse_format(text: &str) -> std::result::Result<Format, Exit> {
    let refuse = |what: &str| {
        Exit::saying(
            1,
            format!("sinfo: error: Invalid node format specification: {what}"),
        )
    };
    let format = Format::parse(text).map_err(|rest| refuse(&rest))?;
    let unknown = format.letters().find(|&letter| header(letter).is_empty());
    match unknown {
        Some(unknown) => Err(refuse(&unknown.to_string())),
        None => Ok(format),
    }
}

fn header(letter: char) -> &'static str {
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
        'n' => "HOSTNAMES",
        'N' => "NODELIST",
        'P' | 'R' => "PARTITION",
        'r' => "ROOT",
        's' => "JOB_SIZE",
        'S' => "ALLOCNODES",
        't' | 'T' => "STATE",
        _ => "",
    }
}

fn cell(letter: char, line: &[&Entry<'_>]) -> String {
    let [first, ..] = line else {
        return String::new();
    };
    let partition = first.partition;
    match letter {
        'a' => "up".into(),
        'A' => format!("{}/{}", count(line)[0], count(line)[1]),
        'c' => first.node.cpus.to_string(),
        'C' => sum(line.iter().map(|entry| entry.cpus())),
        'D' => line.len().to_string(),
        'e' => free_memory_mb().map_or_else(|| "N/A".into(), |mb| mb.to_string()),
        'E' => reason(first).into(),
        'F' => count(line).map(|n| n.to_string()).join("/"),
        'f' | 'G' => "(null)".into(),
        'h' | 'r' => "NO".to_lowercase(),
        'l' => units::span(partition.max_minutes * 60),
        'L' => units::span(partition.default_minutes * 60),
        'm' => first.node.memory_mb.to_string(),
        'n' => first.node.name.clone(),
        'N' => {
            let names: Vec<&str> = line.iter().map(|entry| entry.node.name.as_str()).collect();
            hostlist::compress(&names)
        }
        'P' if partition.default => format!("{}*", partition.name),
        'P' | 'R' => partition.name.clone(),
        's' => "1-infinite".into(),
        'S' => "all".into(),
        't' => first.short_state(),
        'T' => first.long_state(),
        _ => String::new(),
    }
}

/// Nodes with jobs, without, out of service, and all.
fn count(line: &[&Entry<'_>]) -> [usize; 4] {
    let out =
        |e: &&&Entry<'_>| e.node.drained || matches!(e.health, Health::Down | Health::Unknown);
    let other = line.iter().filter(out).count();
    let busy = line.iter().filter(|e| !out(e) && e.cpus_used > 0).count();
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

fn reason(entry: &Entry<'_>) -> &'static str {
    match (entry.health, entry.node.drained) {
        (Health::Down, _) => "Not responding",
        (_, true) => "drained by the harness",
        _ => "none",
    }
}

/// This host's: an embedded cluster's nodes are on it, and nobody asks another's.
fn free_memory_mb() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemFree:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
