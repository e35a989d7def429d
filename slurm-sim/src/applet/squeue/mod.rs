//! `squeue`: lists jobs.

pub(super) mod fields;
mod json;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::job_word::JobWord;
use super::{Applet, Caller, Exit, Io, Result, unreachable};
use crate::account;
use crate::clock::Time;
use crate::cluster::Cluster;
use crate::getopt::{Known, Operands, Parsed, flag, value};
use crate::job::{ArrayTask, Job, State};

const KNOWN: &[Known] = &[
    value("account", Some('A')),
    value("clusters", Some('M')),
    value("Format", Some('O')),
    flag("all", Some('a')),
    flag("array", Some('r')),
    flag("help", None),
    value("jobs", Some('j')),
    flag("json", None),
    flag("long", Some('l')),
    flag("me", None),
    value("name", Some('n')),
    flag("noconvert", None),
    flag("noheader", Some('h')),
    value("nodelist", Some('w')),
    value("format", Some('o')),
    value("partition", Some('p')),
    value("qos", Some('q')),
    value("sort", Some('S')),
    value("states", Some('t')),
    flag("usage", None),
    value("user", Some('u')),
    flag("verbose", Some('v')),
    flag("version", Some('V')),
];

const USAGE: &str = "\
Usage: squeue [-A account] [--clusters names] [-i seconds] [--job jobid]
              [-n name] [-o format] [-p partitions] [--qos qos]
              [--reservation reservation] [--sort fields] [--start]
              [--step step_id] [-t states] [-u user_name] [--usage]
              [-L licenses] [-w nodes] [--federation] [--local] [--sibling]
\t      [-ahjlrsv]";

const DEFAULT_FORMAT: &str = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R";
const LONG_FORMAT: &str = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R";

/// Slurm's states, in its order. A simulated job cannot be in all; asking for the others finds nothing.
const STATES: [(&str, &str); 24] = [
    ("PENDING", "PD"),
    ("RUNNING", "R"),
    ("SUSPENDED", "S"),
    ("COMPLETED", "CD"),
    ("CANCELLED", "CA"),
    ("FAILED", "F"),
    ("TIMEOUT", "TO"),
    ("NODE_FAIL", "NF"),
    ("PREEMPTED", "PR"),
    ("BOOT_FAIL", "BF"),
    ("DEADLINE", "DL"),
    ("OUT_OF_MEMORY", "OOM"),
    ("COMPLETING", "CG"),
    ("CONFIGURING", "CF"),
    ("RESIZING", "RS"),
    ("RESV_DEL_HOLD", "RD"),
    ("REQUEUED", "RQ"),
    ("REQUEUE_FED", "RF"),
    ("REQUEUE_HOLD", "RH"),
    ("REVOKED", "RV"),
    ("SIGNALING", "SI"),
    ("SPECIAL_EXIT", "SE"),
    ("STAGE_OUT", "SO"),
    ("STOPPED", "ST"),
];

pub(super) fn run(args: &[String], caller: &Caller, io: &mut Io<'_>) -> Result {
    let parsed = super::parse(Applet::Squeue, KNOWN, args, Operands::Anywhere, 1, io)?;
    if let Some(cluster) = parsed.value("clusters") {
        return Err(super::no_database(Applet::Squeue, cluster));
    }
    if let Some(operand) = parsed.operands.first() {
        io.say(USAGE);
        return Err(Exit::saying(
            1,
            format!("squeue: error: Unrecognized option: {operand}"),
        ));
    }
    let long = parsed.has("long");
    let named = parsed.value("Format").map(str::to_owned);
    let format = parsed.value("format").map(str::to_owned);
    let format = format.or_else(|| caller.variable("SQUEUE_FORMAT").map(str::to_owned));
    let format =
        format.unwrap_or_else(|| if long { LONG_FORMAT } else { DEFAULT_FORMAT }.to_owned());
    let format = match named {
        Some(names) => fields::parse_names(&names, io),
        None => fields::parse(&format, io)?,
    };
    let states = States::parse(parsed.value("states"))?;
    let wanted: Option<Vec<JobWord>> = match parsed.list("jobs") {
        None => None,
        Some(words) => Some(
            words
                .into_iter()
                .map(job_word)
                .collect::<std::result::Result<_, _>>()?,
        ),
    };
    if parsed.has("json") {
        // Filters are not for it: the document has every job that is known.
        let cluster = caller
            .spool()
            .ask()
            .map_err(unreachable(1, "slurm_load_jobs error: "))?;
        let all: Vec<&Job> = cluster.jobs.values().collect();
        io.say(json::render(&cluster, &all));
        return Ok(Exit::OK);
    }
    let sort = Sort::parse(parsed.value("sort").unwrap_or("P,t,-p"))?;

    let spool = caller.spool();
    let cluster = spool
        .ask()
        .map_err(unreachable(1, "slurm_load_jobs error: "))?;
    // Only a single id is looked up; in a list, unknown ones are passed over.
    if let Some([only]) = wanted.as_deref()
        && only.jobs(&cluster).next().is_none()
    {
        return Err(Exit::saying(
            1,
            "slurm_load_jobs error: Invalid job id specified",
        ));
    }
    let stranger = parsed
        .value("nodelist")
        .and_then(crate::hostlist::expand)
        .and_then(|names| names.into_iter().find(|name| cluster.node(name).is_none()));
    if let Some(stranger) = stranger {
        let why = format!("squeue: error: Invalid node name {stranger}");
        return Err(Exit::saying(1, why));
    }
    let filter = Filter::new(&parsed, caller, &cluster, io);
    let mut jobs: Vec<&Job> = cluster
        .jobs
        .values()
        .filter(|job| states.admit(job) && filter.admits(job))
        .filter(|job| {
            wanted
                .as_ref()
                .is_none_or(|words| words.iter().any(|word| word.means(job)))
        })
        .collect();
    jobs.sort_by(|a, b| sort.compare(a, b).then(a.place().cmp(&b.place())));

    let now = Time::now();
    if long && !parsed.has("noheader") {
        io.say(now.local("%a %b %d %H:%M:%S %Y"));
    }
    if !parsed.has("noheader") {
        io.say(format.line(|letter| fields::header(letter).to_owned()));
    }
    for row in rows(&jobs, parsed.has("array")) {
        io.say(format.line(|letter| fields::cell(letter, &cluster, &row, now)));
    }
    Ok(Exit::OK)
}

fn job_word(word: &str) -> std::result::Result<JobWord, Exit> {
    // It reads a number as far as it goes.
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &word[digits..];
    if digits > 0 && !rest.is_empty() && !rest.starts_with(['_', '.', '+']) {
        return job_word(&word[..digits]);
    }
    JobWord::parse(word)
        .ok_or_else(|| Exit::saying(1, format!("squeue: error: Invalid job id: {word}")))
}

/// One line: a job, or the waiting tasks of an array together.
struct Row<'a> {
    job: &'a Job,
    tasks: Vec<String>,
}

impl Row<'_> {
    /// Its tasks, and how many of them may run at once.
    fn tasks(&self, array: &ArrayTask) -> String {
        let limit = array.at_once.map(|n| format!("%{n}")).unwrap_or_default();
        format!("{}{limit}", crate::hostlist::ranges(&self.tasks))
    }

    fn id(&self) -> String {
        match &self.job.array {
            None => self.job.id.to_string(),
            Some(array) if self.job.state == State::Pending && !self.tasks.is_empty() => {
                format!("{}_[{}]", array.job, self.tasks(array))
            }
            Some(array) => format!("{}_{}", array.job, array.task),
        }
    }
}

fn rows<'a>(jobs: &[&'a Job], one_per_task: bool) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    let mut joined: BTreeMap<u32, usize> = BTreeMap::new();
    for &job in jobs {
        let waiting = match &job.array {
            Some(array) if job.state == State::Pending && !job.completing && !one_per_task => array,
            _ => {
                rows.push(Row { job, tasks: vec![] });
                continue;
            }
        };
        let index = *joined.entry(waiting.job).or_insert_with(|| {
            rows.push(Row { job, tasks: vec![] });
            rows.len() - 1
        });
        rows[index].tasks.push(waiting.task.to_string());
    }
    for row in &mut rows {
        row.tasks
            .sort_by_key(|task| task.parse::<u32>().unwrap_or(0));
    }
    rows
}

/// Which states to list.
enum States {
    /// Everything that is not over.
    Unfinished,
    All,
    /// Long names.
    These(Vec<&'static str>),
}

impl States {
    fn parse(text: Option<&str>) -> std::result::Result<Self, Exit> {
        let Some(text) = text else {
            return Ok(Self::Unfinished);
        };
        if text.eq_ignore_ascii_case("all") {
            return Ok(Self::All);
        }
        let name = |word: &str| {
            STATES
                .into_iter()
                .find(|(long, short)| {
                    word.eq_ignore_ascii_case(long) || word.eq_ignore_ascii_case(short)
                })
                .map(|(long, _)| long)
                .ok_or_else(|| {
                    let valid: Vec<&str> = STATES.iter().map(|(long, _)| *long).collect();
                    Exit::saying(
                        1,
                        format!(
                            "squeue: error: Invalid job state specified: {word}\n\
                             squeue: error: Valid job states include: {}\n",
                            valid.join(",")
                        ),
                    )
                })
        };
        let words = text.split(',').filter(|word| !word.is_empty());
        Ok(Self::These(
            words.map(name).collect::<std::result::Result<_, _>>()?,
        ))
    }

    fn admit(&self, job: &Job) -> bool {
        match self {
            Self::Unfinished => !job.is_finished(),
            Self::All => true,
            Self::These(names) => {
                names.contains(&job.state_names().0) || names.contains(&job.state.names().0)
            }
        }
    }
}

/// The filters that name something of a job.
struct Filter<'a> {
    users: Option<Vec<String>>,
    parsed: &'a Parsed,
}

impl<'a> Filter<'a> {
    fn new(parsed: &'a Parsed, caller: &Caller, cluster: &Cluster, io: &mut Io<'_>) -> Self {
        let mut users = parsed.list("user").map(|names| {
            let known = names.into_iter().filter_map(|name| {
                let known = account::named(name, &cluster.virtual_users);
                if known.is_none() {
                    // Recorded: an empty line follows, and the command goes on.
                    io.complain(format!("squeue: error: Invalid user: {name}\n"));
                }
                known
            });
            known.collect::<Vec<_>>()
        });
        if parsed.has("me") {
            users = Some(vec![caller.account(cluster).name]);
        }
        Self { users, parsed }
    }

    fn admits(&self, job: &Job) -> bool {
        let lists = |option: &str, actual: Option<&str>| {
            self.parsed
                .list(option)
                .is_none_or(|wanted| actual.is_some_and(|actual| wanted.contains(&actual)))
        };
        self.users
            .as_ref()
            .is_none_or(|users| users.contains(&job.user))
            && lists("name", Some(&job.name))
            && lists("partition", Some(&job.request.partition))
            && lists("account", job.request.account.as_deref())
            && lists("qos", job.request.qos.as_deref())
            && self.parsed.value("nodelist").is_none_or(|list| {
                let wanted = crate::hostlist::expand(list).unwrap_or_default();
                job.nodes.iter().any(|node| wanted.contains(node))
            })
    }
}

/// `--sort`: letters of fields, each with `-` for falling.
struct Sort(Vec<(char, bool)>);

impl Sort {
    fn parse(text: &str) -> std::result::Result<Self, Exit> {
        let key = |word: &str| {
            let falling = word.starts_with('-');
            let letter = word.trim_start_matches(['+', '-']);
            match letter.chars().next() {
                Some(c) if letter.len() == 1 && "ijPuptTSVeM".contains(c) => Ok((c, falling)),
                _ => Err(Exit::saying(
                    1,
                    format!("squeue: error: Invalid sort specification: {word}"),
                )),
            }
        };
        Ok(Self(
            text.split(',')
                .map(key)
                .collect::<std::result::Result<_, _>>()?,
        ))
    }

    fn compare(&self, a: &Job, b: &Job) -> Ordering {
        let by = |letter: char| match letter {
            'i' => a.place().cmp(&b.place()),
            'j' => a.name.cmp(&b.name),
            'P' => a.request.partition.cmp(&b.request.partition),
            'u' => a.user.cmp(&b.user),
            'p' => a.priority().cmp(&b.priority()),
            't' | 'T' => a.state.cmp(&b.state),
            'V' => a.submitted.cmp(&b.submitted),
            'e' => a.ended.cmp(&b.ended),
            // A long run time is an early start.
            'M' => b.started.cmp(&a.started),
            _ => a.started.cmp(&b.started),
        };
        self.0
            .iter()
            .map(|&(letter, falling)| {
                if falling {
                    by(letter).reverse()
                } else {
                    by(letter)
                }
            })
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}
