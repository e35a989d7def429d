//! sbatch's options: which there are, how their values are spelled, and what is said of bad ones.
//! Options of Slurm that are not here are refused, so that nobody believes they did something.

use super::array::{self, Array};
use crate::applet::{Applet, Caller, Exit};
use crate::clock::Time;
use crate::dependency::{self, Dependency};
use crate::getopt::{Known, flag, perhaps, value};
use crate::hostlist;
use crate::job::{MemoryMb, Warning};
use crate::units::{self, Limit};

pub(super) const KNOWN: &[Known] = &[
    value("account", Some('A')),
    value("array", Some('a')),
    value("begin", Some('b')),
    value("chdir", Some('D')),
    value("clusters", Some('M')),
    value("comment", None),
    value("constraint", Some('C')),
    value("cpus-per-task", Some('c')),
    value("dependency", Some('d')),
    value("error", Some('e')),
    value("exclude", Some('x')),
    perhaps("exclusive", None),
    value("export", None),
    perhaps("get-user-env", None),
    value("gpus", Some('G')),
    value("gres", None),
    flag("help", Some('h')),
    flag("hold", Some('H')),
    value("input", Some('i')),
    value("job-name", Some('J')),
    value("kill-on-invalid-dep", None),
    value("licenses", Some('L')),
    value("mail-type", None),
    value("mail-user", None),
    value("mem", None),
    value("mem-per-cpu", None),
    value("nodelist", Some('w')),
    value("nodes", Some('N')),
    flag("no-requeue", None),
    value("ntasks", Some('n')),
    value("open-mode", None),
    value("output", Some('o')),
    flag("parsable", None),
    value("partition", Some('p')),
    value("qos", Some('q')),
    flag("quiet", Some('Q')),
    flag("requeue", None),
    value("reservation", None),
    value("signal", None),
    flag("test-only", None),
    value("time", Some('t')),
    flag("usage", None),
    perhaps("verbose", Some('v')),
    flag("version", Some('V')),
    flag("wait", Some('W')),
    value("wrap", None),
];

/// The environment variables that stand for options.
const VARIABLES: &[(&str, &str)] = &[
    ("SBATCH_ACCOUNT", "account"),
    ("SBATCH_ARRAY_INX", "array"),
    ("SBATCH_EXPORT", "export"),
    ("SBATCH_JOB_NAME", "job-name"),
    ("SBATCH_MEM_PER_CPU", "mem-per-cpu"),
    ("SBATCH_MEM_PER_NODE", "mem"),
    ("SBATCH_NO_REQUEUE", "no-requeue"),
    ("SBATCH_OPEN_MODE", "open-mode"),
    ("SBATCH_OUTPUT", "output"),
    ("SBATCH_ERROR", "error"),
    ("SBATCH_INPUT", "input"),
    ("SBATCH_PARTITION", "partition"),
    ("SBATCH_QOS", "qos"),
    ("SBATCH_REQUEUE", "requeue"),
    ("SBATCH_SIGNAL", "signal"),
    ("SBATCH_TIMELIMIT", "time"),
    ("SBATCH_WAIT", "wait"),
];

/// The options that the environment stands for.
pub(super) fn from_environment(caller: &Caller) -> Vec<(&'static str, Option<String>)> {
    VARIABLES
        .iter()
        .filter_map(|(name, long)| Some((*long, Some(caller.variable(name)?.to_owned()))))
        .collect()
}

/// What the options say so far.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) account: Option<String>,
    pub(super) array: Option<Array>,
    pub(super) begin: Option<Time>,
    pub(super) chdir: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) cpus_per_task: Option<u32>,
    pub(super) dependency: Vec<Dependency>,
    pub(super) error: Option<String>,
    /// The job ends where its dependency can never be satisfied.
    pub(super) ends_if_never: bool,
    pub(super) exclude: Vec<String>,
    pub(super) exclusive: bool,
    pub(super) export: Option<String>,
    pub(super) hold: bool,
    pub(super) input: Option<String>,
    /// What the controller says of something that the cluster has nothing of.
    pub(super) lacking: Option<&'static str>,
    pub(super) name: Option<String>,
    pub(super) memory: Option<MemoryMb>,
    pub(super) nodelist: Vec<String>,
    pub(super) nodes: Option<u32>,
    /// As it was written; the least number of nodes is all that is given.
    pub(super) most_nodes: Option<String>,
    pub(super) tasks: Option<u32>,
    pub(super) append_output: bool,
    pub(super) output: Option<String>,
    pub(super) parsable: bool,
    pub(super) partition: Option<String>,
    pub(super) qos: Option<String>,
    pub(super) quiet: bool,
    pub(super) requeue: Option<bool>,
    pub(super) warning: Option<Warning>,
    pub(super) test_only: bool,
    pub(super) limit: Option<Limit>,
    pub(super) wait: bool,
}

impl Options {
    /// Notes that something is asked for that this cluster has nothing of: the controller says so.
    fn lacks(&mut self, why: &'static str, wanted: &str) {
        self.lacking = (!wanted.is_empty()).then_some(why);
    }

    /// Takes in options, each overriding what was said before.
    pub(super) fn apply(
        &mut self,
        options: &[(&'static str, Option<String>)],
        now: Time,
    ) -> Result<(), Exit> {
        for (name, value) in options {
            self.apply_one(name, value.clone().unwrap_or_default(), now)?;
        }
        Ok(())
    }

    fn apply_one(&mut self, name: &str, value: String, now: Time) -> Result<(), Exit> {
        let invalid = || {
            Exit::saying(
                255,
                format!("sbatch: error: Invalid --{name} specification"),
            )
        };
        match name {
            "account" => self.account = Some(value),
            "array" if value.is_empty() => self.array = None,
            "array" => self.array = Some(array::parse(&value).ok_or_else(|| {
                Exit::saying(
                    1,
                    "sbatch: error: Batch job submission failed: Invalid job array specification",
                )
            })?),
            "begin" => {
                self.begin = Some(units::parse_begin(&value, now).ok_or_else(|| {
                    let Exit { message, code } = invalid();
                    let why = units::complain_of_begin(&value);
                    Exit::saying(code, format!("{why}\n{message}"))
                })?);
            }
            "chdir" => self.chdir = Some(value),
            "clusters" => return Err(super::super::no_database(Applet::Sbatch, &value)),
            "comment" => self.comment = Some(value),
            "constraint" => self.lacks("Invalid feature specification", &value),
            "cpus-per-task" => self.cpus_per_task = Some(positive(name, &value)?),
            "dependency" => {
                self.dependency = dependency::parse(&value).ok_or_else(|| {
                    Exit::saying(
                        1,
                        "sbatch: error: Batch job submission failed: Job dependency problem",
                    )
                })?;
            }
            "error" => self.error = Some(value),
            // A list that is none is no node's name either.
            "exclude" => self.exclude = hostlist::expand(&value).unwrap_or(vec![value]),
            "exclusive" => self.exclusive = true,
            "export" => self.export = Some(value),
            "gres" | "gpus" => {
                return Err(Exit::saying(
                    1,
                    "sbatch: error: Invalid generic resource (gres) specification",
                ));
            }
            "hold" => self.hold = true,
            "input" => self.input = Some(value),
            "job-name" => self.name = Some(value),
            "kill-on-invalid-dep" => match value.to_ascii_lowercase().as_str() {
                "yes" => self.ends_if_never = true,
                "no" => self.ends_if_never = false,
                _ => return Err(invalid()),
            },
            "licenses" => self.lacks("Invalid license specification", &value),
            "mail-type" if !value.split(',').all(is_mail_type) => return Err(invalid()),
            "mem" | "mem-per-cpu" => {
                let mb = units::parse_memory_mb(&value).ok_or_else(invalid)?;
                let whole = name == "mem";
                self.memory = Some(if whole {
                    MemoryMb::PerNode(mb)
                } else {
                    MemoryMb::PerCpu(mb)
                });
            }
            "nodelist" => self.nodelist = hostlist::expand(&value).unwrap_or(vec![value]),
            // `min-max` is a wish that the least satisfies.
            "nodes" => {
                let least = value.split_once('-').map_or(&*value, |range| range.0);
                self.nodes = Some(least.parse().map_err(|_| {
                    let why = format!("\"{value}\" is not a valid node count");
                    Exit::saying(255, format!("sbatch: error: {why}"))
                })?);
                self.most_nodes = Some(value.split_once('-').map_or(&*value, |r| r.1).to_owned());
            }
            "no-requeue" => self.requeue = Some(false),
            "ntasks" => self.tasks = Some(positive(name, &value)?),
            "open-mode" => match value.as_str() {
                "a" | "append" => self.append_output = true,
                "t" | "truncate" => self.append_output = false,
                _ => return Err(invalid()),
            },
            "output" => self.output = Some(value),
            "parsable" => self.parsable = true,
            "partition" => self.partition = Some(value),
            "qos" => self.qos = Some(value),
            "quiet" => self.quiet = true,
            "requeue" => self.requeue = Some(true),
            "reservation" => self.lacks("Requested reservation is invalid", &value),
            "signal" => self.warning = Some(warning(&value).ok_or_else(invalid)?),
            "test-only" => self.test_only = true,
            "time" => {
                // Zero asks for no limit, as the manual says.
                let limit = units::parse_limit(&value).ok_or_else(invalid)?;
                self.limit = Some(limit.filter(|&minutes| minutes > 0));
            }
            "wait" => self.wait = true,
            // Mail is not sent, `wrap` is the script, and the rest asks for nothing.
            _ => {}
        }
        Ok(())
    }
}

/// The kinds of mail that sbatch knows. None is sent.
fn is_mail_type(word: &str) -> bool {
    const TYPES: [&str; 13] = [
        "ALL",
        "ARRAY_TASKS",
        "BEGIN",
        "END",
        "FAIL",
        "INVALID_DEPEND",
        "NONE",
        "REQUEUE",
        "STAGE_OUT",
        "TIME_LIMIT",
        "TIME_LIMIT_50",
        "TIME_LIMIT_80",
        "TIME_LIMIT_90",
    ];
    TYPES.iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn positive(name: &str, value: &str) -> Result<u32, Exit> {
    value
        .parse()
        .ok()
        .filter(|&number| number > 0)
        .ok_or_else(|| {
            Exit::saying(
                1,
                format!("sbatch: error: Invalid numeric value \"{value}\" for --{name}."),
            )
        })
}

/// Slurm warns a minute before the end unless told otherwise.
const WARNING_SECS: u64 = 60;

fn warning(text: &str) -> Option<Warning> {
    let (flags, rest) = text.split_once(':').unwrap_or(("", text));
    let (name, secs) = match rest.split_once('@') {
        Some((name, secs)) => (name, secs.parse().ok()?),
        None => (rest, WARNING_SECS),
    };
    let batch = match flags {
        "" | "R" => false,
        "B" | "BR" | "RB" => true,
        _ => return None,
    };
    Some(Warning {
        signal: super::super::signal_number(name)?,
        batch,
        before_secs: secs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&'static str, &str)]) -> Result<Options, Exit> {
        let mut options = Options::default();
        let given: Vec<_> = given
            .iter()
            .map(|(name, value)| (*name, Some((*value).to_owned())))
            .collect();
        options.apply(&given, Time(0))?;
        Ok(options)
    }

    #[test]
    fn what_is_said_later_wins() {
        let options = options(&[("partition", "a"), ("partition", "b"), ("no-requeue", "")]);
        let options = options.unwrap();
        assert_eq!(options.partition.as_deref(), Some("b"));
        assert_eq!(options.requeue, Some(false));
    }

    #[test]
    fn a_warning_may_name_its_signal_and_its_time() {
        let expected = Warning {
            signal: 10,
            batch: true,
            before_secs: 30,
        };
        assert_eq!(warning("B:USR1@30"), Some(expected));
        assert_eq!(warning("12").unwrap().before_secs, 60);
        assert_eq!(warning("X:USR1"), None);
        assert_eq!(warning("NOPE"), None);
    }

    #[test]
    fn a_limit_of_zero_is_no_limit() {
        assert_eq!(options(&[("time", "0")]).unwrap().limit, Some(None));
    }
}
