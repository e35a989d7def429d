//! What a job asks of the cluster: values that sbatch takes, checked once, and its arguments.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use thiserror::Error;

use crate::{
    names::{AccountName, NodeName, PartitionName},
    shell::quote,
};

/// Options of sbatch that have a setting of their own here, or on which a session depends.
const OURS: [&str; 18] = [
    "account",
    "array",
    "chdir",
    "cpus-per-task",
    "error",
    "export",
    "gres",
    "job-name",
    "mem",
    "nodelist",
    "nodes",
    "ntasks",
    "output",
    "parsable",
    "partition",
    "time",
    "wait",
    "wrap",
];
/// Longest value of an option without a setting of its own.
const LONGEST_VALUE_BYTES: usize = 256;

/// Text is not what sbatch takes for this option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not {expected}", .text.escape_debug())]
pub struct NotAnOption {
    text: String,
    expected: &'static str,
}

fn not_an_option(text: &str, expected: &'static str) -> NotAnOption {
    let text = text.to_owned();
    NotAnOption { text, expected }
}

/// A time limit, such as `4:00:00` or `1-12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeLimit {
    text: String,
    seconds: u64,
}

impl TimeLimit {
    /// How long it is.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Whether it is longer than `most`. To Slurm, 0 is no limit at all.
    pub fn exceeds(&self, most: &Self) -> bool {
        self.seconds == 0 || self.seconds > most.seconds
    }
}

impl FromStr for TimeLimit {
    type Err = NotAnOption;

    fn from_str(text: &str) -> Result<Self, NotAnOption> {
        let seconds = seconds(text);
        let seconds = seconds.ok_or(not_an_option(text, "a time limit such as `4:00:00`"))?;
        let text = text.to_owned();
        Ok(Self { text, seconds })
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M` or `D-H:M:S` (sbatch(1), `--time`).
fn seconds(text: &str) -> Option<u64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, text),
    };
    let parts: Vec<u64> = rest.split(':').map(number).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = match (days, parts.as_slice()) {
        (Some(_), [hours]) => [*hours, 0, 0],
        (Some(_), [hours, minutes]) => [*hours, *minutes, 0],
        (None, [minutes]) => [0, *minutes, 0],
        (None, [minutes, seconds]) => [0, *minutes, *seconds],
        (_, [hours, minutes, seconds]) => [*hours, *minutes, *seconds],
        _ => return None,
    };
    Some(((days.unwrap_or(0) * 24 + hours) * 60 + minutes) * 60 + seconds)
}

/// A number of at most nine digits, so that no sum of some overflows.
fn number(text: &str) -> Option<u64> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// An amount of memory, such as `2000M` or `8G`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    text: String,
    kibibytes: u64,
}

impl Memory {
    /// Whether it is more than `most`. To Slurm, 0 is all that a node has.
    pub fn exceeds(&self, most: &Self) -> bool {
        self.kibibytes == 0 || self.kibibytes > most.kibibytes
    }
}

impl FromStr for Memory {
    type Err = NotAnOption;

    fn from_str(text: &str) -> Result<Self, NotAnOption> {
        let count = text.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(text);
        let unit = match text.bytes().next_back() {
            Some(b'K') => 1,
            Some(b'G') => 1 << 20,
            Some(b'T') => 1 << 30,
            _ => 1 << 10,
        };
        let count = number(count);
        let count = count.ok_or(not_an_option(
            text,
            "an amount of memory such as `2000M` or `8G`",
        ))?;
        let text = text.to_owned();
        Ok(Self {
            text,
            kibibytes: count * unit,
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Generic resources, such as `gpu:2` or `gpu:a100:1,ssd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gres(String);

impl FromStr for Gres {
    type Err = NotAnOption;

    fn from_str(text: &str) -> Result<Self, NotAnOption> {
        let word = |word: &str| {
            word.starts_with(|first: char| first.is_ascii_alphanumeric())
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let resource = |text: &str| text.split(':').count() <= 3 && text.split(':').all(word);
        if text.len() <= LONGEST_VALUE_BYTES && text.split(',').all(resource) {
            Ok(Self(text.to_owned()))
        } else {
            Err(not_an_option(text, "a resource such as `gpu:2`"))
        }
    }
}

/// An option of sbatch without a setting of its own here, such as `constraint`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OptionName(String);

impl FromStr for OptionName {
    type Err = NotAnOption;

    fn from_str(text: &str) -> Result<Self, NotAnOption> {
        let long = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.len() <= 32
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        // getopt_long(3) takes the start of an option for the option.
        if long && !OURS.iter().any(|ours| ours.starts_with(text)) {
            Ok(Self(text.to_owned()))
        } else {
            let expected = "a long option of sbatch such as `constraint`, without `--`, that has no \
                            setting of its own";
            Err(not_an_option(text, expected))
        }
    }
}

impl fmt::Display for OptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of such an option: any line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionValue(String);

impl FromStr for OptionValue {
    type Err = NotAnOption;

    fn from_str(text: &str) -> Result<Self, NotAnOption> {
        let one_line = !text.chars().any(char::is_control);
        if one_line && (1..=LONGEST_VALUE_BYTES).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(not_an_option(text, "one short line"))
        }
    }
}

/// What a job asks of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// After which Slurm ends the job.
    pub time: TimeLimit,
    /// Processors.
    pub cpus: NonZeroU32,
    /// Memory, or the cluster's default.
    pub memory: Option<Memory>,
    /// Partition, or the cluster's default.
    pub partition: Option<PartitionName>,
    /// Generic resources, or none.
    pub gres: Option<Gres>,
    /// Whom it is charged to, or the user's default.
    pub account: Option<AccountName>,
    /// Whatever else.
    pub more: Vec<(OptionName, OptionValue)>,
}

impl Resources {
    /// So much time and one processor.
    pub fn plain(time: TimeLimit) -> Self {
        Self {
            time,
            cpus: NonZeroU32::MIN,
            memory: None,
            partition: None,
            gres: None,
            account: None,
            more: Vec::new(),
        }
    }

    /// The options of sbatch, on `node` if one is asked for. What could need a quote has one.
    pub(crate) fn options(&self, node: Option<&NodeName>) -> String {
        let mut options = format!(
            "--nodes=1 --time={} --cpus-per-task={}",
            self.time, self.cpus
        );
        let mut add = |name: &str, value: Option<&dyn fmt::Display>| {
            if let Some(value) = value {
                options += &format!(" --{name}={value}");
            }
        };
        add("mem", self.memory.as_ref().map(|it| it as _));
        add("partition", self.partition.as_ref().map(|it| it as _));
        add("gres", self.gres.as_ref().map(|it| &it.0 as _));
        add("account", self.account.as_ref().map(|it| it as _));
        add("nodelist", node.map(|it| it as _));
        for (name, value) in &self.more {
            let value = quote(&value.0).expect("no control character");
            add(&name.0, Some(&value));
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sbatch_is_asked_for_what_the_user_wants() {
        let mut resources = Resources::plain("4:00:00".parse().unwrap());
        let plain = resources.options(None);
        assert_eq!(plain, "--nodes=1 --time=4:00:00 --cpus-per-task=1");
        resources.memory = Some("8G".parse().unwrap());
        resources.partition = Some("debug".parse().unwrap());
        resources.gres = Some("gpu:a100:2,ssd".parse().unwrap());
        resources.account = Some("lab-1".parse().unwrap());
        let more = ("constraint".parse().unwrap(), "a&b".parse().unwrap());
        resources.more = vec![more];
        let full = resources.options(Some(&"node02".parse().unwrap()));
        assert_eq!(
            full,
            format!(
                "{plain} --mem=8G --partition=debug --gres=gpu:a100:2,ssd --account=lab-1 \
                 --nodelist=node02 --constraint='a&b'"
            )
        );
    }

    #[test]
    fn values_are_checked() {
        for time in ["4:00:00", "1-12", "30"] {
            assert!(time.parse::<TimeLimit>().is_ok(), "{time}");
        }
        for memory in ["8G", "2000M", "100"] {
            assert!(memory.parse::<Memory>().is_ok(), "{memory}");
        }
        for bad in [
            "", "-1", "1 ", "1;id", "$(id)", "G", "1\n", ":", "1-", "1:2:3:4",
        ] {
            assert!(bad.parse::<TimeLimit>().is_err(), "{bad:?}");
            assert!(bad.parse::<Memory>().is_err(), "{bad:?}");
        }
        for bad in ["", "-x", "gpu:", "gpu,", "gpu;id", "a:b:c:d", "gpu 1", "$x"] {
            assert!(bad.parse::<Gres>().is_err(), "{bad:?}");
        }
        // The start of one that is ours is ours too.
        for bad in ["", "Wrap", "wrap", "wra", "--qos", "q=1", "out", "time"] {
            assert!(bad.parse::<OptionName>().is_err(), "{bad:?}");
        }
        assert!("qos".parse::<OptionName>().is_ok());
        assert!("a\nb".parse::<OptionValue>().is_err());
    }

    #[test]
    fn amounts_are_compared_whatever_their_unit() {
        let time = |text: &str| text.parse::<TimeLimit>().unwrap();
        assert_eq!(time("1-12:30").duration(), Duration::from_secs(131_400));
        assert_eq!(time("90").duration(), time("1:30:00").duration());
        assert_eq!(time("2:5").duration(), Duration::from_secs(125));
        assert!(time("61").exceeds(&time("1:00:00")) && !time("60").exceeds(&time("1:00:00")));
        assert!(time("0").exceeds(&time("1-0")));
        let memory = |text: &str| text.parse::<Memory>().unwrap();
        assert!(memory("8193").exceeds(&memory("8G")) && !memory("8192M").exceeds(&memory("8G")));
        assert!(memory("0").exceeds(&memory("1T")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn an_option_is_one_word_to_a_shell(value in "[ -~]{1,40}|\\PC{1,30}") {
            let Ok(checked) = value.parse::<OptionValue>() else { return Ok(()) };
            let mut resources = Resources::plain("1".parse().unwrap());
            resources.more = vec![("comment".parse().unwrap(), checked)];
            let script = format!("printf '%s\\n' {}", resources.options(None));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            prop_assert_eq!(said.lines().last().unwrap(), format!("--comment={value}"));
        }

        #[test]
        fn no_text_panics(text in "[0-9:-]{0,30}|[0-9]{0,12}[KMGT]?|.{0,20}") {
            let _ = (text.parse::<TimeLimit>(), text.parse::<Memory>(), text.parse::<Gres>());
        }
    }
}
