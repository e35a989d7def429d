//! `sinfo`: lists partitions and nodes.

mod fields;

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};

use super::{Applet, Caller, Exit, Io, Result, unreachable};
use crate::clock::Time;
use crate::cluster::{Health, Healths, Node, Partition, Usage};
use crate::format::Format;
use crate::getopt::{Known, Operands, Parsed, flag, value};
use crate::hostlist;

const KNOWN: &[Known] = &[
    flag("all", Some('a')),
    value("clusters", Some('M')),
    flag("dead", Some('d')),
    value("Format", Some('O')),
    value("format", Some('o')),
    flag("help", None),
    flag("list-reasons", Some('R')),
    flag("long", Some('l')),
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

/// The fields that belong to a partition; a format without any lists nodes as such.
const OF_PARTITION: &str = "PRalLhrsSgpIMB";

/// The fields whose values nodes of one line have in common.
const IN_COMMON: &str = "PRaltTmcLhrsSeEnoOgpIMB";

pub(super) fn run(args: &[String], caller: &Caller, io: &mut Io<'_>) -> Result {
    let parsed = super::parse(Applet::Sinfo, KNOWN, args, Operands::Anywhere, 1, io)?;
    if let Some(cluster) = parsed.value("clusters") {
        return Err(super::no_database(Applet::Sinfo, cluster));
    }
    let view = View::of(&parsed);
    let format = match (parsed.value("Format"), parsed.value("format")) {
        (Some(names), _) => fields::parse_names(names, io),
        (None, Some(text)) => fields::parse(text, io)?,
        (None, None) => fields::parse(view.format(), io)?,
    };
    let states = parsed.list("states").map(check_states).transpose()?;

    let spool = caller.spool();
    let cluster = spool
        .ask()
        .map_err(unreachable(1, "slurm_load_partitions: "))?;
    let health = spool.health(&cluster, Time::now());
    let used = cluster.usage();
    let names = parsed
        .value("nodes")
        .map(|list| hostlist::expand(list).unwrap_or_default());
    let wanted = parsed.list("partition");
    let by_partition = view.by_node() || format.letters().any(|l| OF_PARTITION.contains(l));
    let (mut lines, mut seen) = (Vec::new(), BTreeSet::new());
    for partition in &cluster.partitions {
        if wanted
            .as_ref()
            .is_some_and(|wanted| !wanted.contains(&partition.name.as_str()))
        {
            continue;
        }
        let nodes = partition.nodes.iter().filter_map(|node| cluster.node(node));
        let entries: Vec<Entry<'_>> = nodes
            .map(|node| Entry::new(&health, &used, node))
            .filter(|entry| names.as_ref().is_none_or(|n| n.contains(&entry.node.name)))
            .filter(|entry| states.as_ref().is_none_or(|states| entry.is_in(states)))
            .filter(|entry| !parsed.has("responding") || entry.health == Health::Well)
            .filter(|entry| !parsed.has("dead") || entry.health != Health::Well)
            .filter(|entry| view != View::Reasons || entry.node.reason.is_some())
            .filter(|entry| by_partition || seen.insert(entry.node.name.clone()))
            .collect();
        // A partition is shown, though nothing of it is.
        if entries.is_empty() && by_partition && !view.by_node() {
            lines.push(Line {
                partition,
                entries: vec![],
            });
        }
        if by_partition {
            lines.extend(Line::of(partition, entries, &format, view.by_node()));
        } else {
            Line::extend(&mut lines, partition, entries, &format);
        }
    }
    if !by_partition {
        lines.sort_by_key(|line| line.entries.first().map(|entry| entry.state().2));
    }
    if view.by_node() {
        lines.sort_by(|a, b| a.name().cmp(&b.name()));
    }
    if parsed.has("long") && !parsed.has("noheader") {
        io.say(Time::now().local("%a %b %d %H:%M:%S %Y"));
    }
    if !parsed.has("noheader") {
        io.say(format.line(|letter| fields::header(letter).to_owned()));
    }
    for line in &lines {
        io.say(format.line(|letter| fields::cell(letter, line)));
    }
    Ok(Exit::OK)
}

/// What is listed, when no format is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Partitions,
    LongPartitions,
    Summary,
    Nodes,
    LongNodes,
    Reasons,
}

impl View {
    fn of(parsed: &Parsed) -> Self {
        let long = parsed.has("long");
        match (parsed.has("list-reasons"), parsed.has("Node")) {
            (true, _) => Self::Reasons,
            (_, true) if long => Self::LongNodes,
            (_, true) => Self::Nodes,
            _ if parsed.has("summarize") => Self::Summary,
            _ if long => Self::LongPartitions,
            _ => Self::Partitions,
        }
    }

    fn by_node(self) -> bool {
        matches!(self, Self::Nodes | Self::LongNodes)
    }

    fn format(self) -> &'static str {
        match self {
            Self::Partitions => "%9P %.5a %.10l %.6D %.6t %N",
            Self::LongPartitions => "%9P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %N",
            Self::Summary => "%9P %.5a %.10l %.16F %N",
            Self::Nodes => "%9N %.6D %.9P %6t",
            Self::LongNodes => "%9N %.6D %.9P %.11T %4c %.8z %.6m %.8d %.6w %.8f %20E",
            Self::Reasons => "%20E %9u %19H %N",
        }
    }
}

/// The states that `--states` knows.
const STATES: &str = "unknown,down,idle,allocated,?,mixed,future,drain,drained,draining,no_respond,\
    reserved,perfctrs,cloud,completing,powering_down,powered_down,power_down,powering_up,fail,maint,\
    reboot,reboot^,unknown";

fn check_states(states: Vec<&str>) -> std::result::Result<Vec<String>, Exit> {
    let short = ["unk", "alloc", "mix", "drng", "comp", "all"];
    let known = |state: &str| STATES.split(',').chain(short).any(|known| known == state);
    let lower: Vec<String> = states
        .iter()
        .map(|state| state.to_ascii_lowercase())
        .collect();
    match lower.iter().position(|state| !known(state)) {
        Some(at) => Err(Exit::saying(
            1,
            format!(
                "sinfo: error: Bad state string: \"{}\"\nsinfo: error: valid states: {STATES}",
                states[at]
            ),
        )),
        None => Ok(lower),
    }
}

/// A node as it is now.
struct Entry<'a> {
    node: &'a Node,
    health: Health,
    cpus_used: u32,
}

impl<'a> Entry<'a> {
    fn new(health: &Healths, used: &Usage<'_>, node: &'a Node) -> Self {
        let health = health.get(&node.name).copied().unwrap_or(Health::Unknown);
        Self {
            node,
            health,
            cpus_used: used.get(node.name.as_str()).map_or(0, |used| used.cpus),
        }
    }

    /// Its short and its long name, and where it stands when lines are sorted.
    fn state(&self) -> (&'static str, &'static str, u8) {
        match (self.health, self.node.drained, self.cpus_used) {
            (Health::Unknown, ..) => ("unk", "unknown", 6),
            (Health::Down, ..) => ("down", "down", 0),
            _ if self.node.put_down => ("down", "down", 5),
            (_, true, 0) => ("drain", "drained", 1),
            (_, true, _) => ("drng", "draining", 1),
            (_, _, 0) => ("idle", "idle", 4),
            (_, _, used) if used >= self.node.cpus => ("alloc", "allocated", 3),
            _ => ("mix", "mixed", 2),
        }
    }

    /// Whether one of these states of `--states` is its own. A node with any job is allocated, and a
    /// drained one counts as draining or not.
    fn is_in(&self, states: &[String]) -> bool {
        let (short, long, _) = self.state();
        states.iter().any(|state| match state.as_str() {
            "all" => true,
            "alloc" | "allocated" => matches!(short, "alloc" | "mix"),
            "drain" => matches!(short, "drain" | "drng"),
            state => state == short || state == long,
        })
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

    fn is_out(&self) -> bool {
        self.node.is_out() || matches!(self.health, Health::Down | Health::Unknown)
    }

    /// Allocated, idle, other and all processors.
    fn cpus(&self) -> [u32; 4] {
        let (used, all) = (self.cpus_used, self.node.cpus);
        if self.is_out() {
            [0, 0, all, all]
        } else {
            [used.min(all), all - used.min(all), 0, all]
        }
    }
}

/// Entries that share a line; none, for a partition of which no node is shown.
struct Line<'a> {
    partition: &'a Partition,
    entries: Vec<Entry<'a>>,
}

impl<'a> Line<'a> {
    /// The lines of a partition, the busiest first.
    fn of(
        partition: &'a Partition,
        entries: Vec<Entry<'a>>,
        format: &Format,
        by_node: bool,
    ) -> Vec<Self> {
        if by_node {
            let line = |entry| Line {
                partition,
                entries: vec![entry],
            };
            return entries.into_iter().map(line).collect();
        }
        let mut lines = Vec::new();
        Self::extend(&mut lines, partition, entries, format);
        lines.sort_by_key(|line| line.entries.first().map(|entry| entry.state().2));
        lines
    }

    /// Adds entries to lines with which they have in common what the format shows.
    fn extend(
        lines: &mut Vec<Self>,
        partition: &'a Partition,
        entries: Vec<Entry<'a>>,
        format: &Format,
    ) {
        let letters: Vec<char> = format
            .letters()
            .filter(|&letter| IN_COMMON.contains(letter))
            .collect();
        let key = |line: &Self| -> Vec<String> {
            letters
                .iter()
                .map(|&letter| fields::cell(letter, line))
                .collect()
        };
        let mut known: BTreeMap<Vec<String>, usize> = lines.iter().map(key).zip(0..).collect();
        for entry in entries {
            let alone = Line {
                partition,
                entries: vec![entry],
            };
            match known.entry(key(&alone)) {
                MapEntry::Occupied(at) => lines[*at.get()].entries.extend(alone.entries),
                MapEntry::Vacant(place) => {
                    place.insert(lines.len());
                    lines.push(alone);
                }
            }
        }
    }

    fn name(&self) -> Option<&'a str> {
        self.entries.first().map(|entry| entry.node.name.as_str())
    }
}
