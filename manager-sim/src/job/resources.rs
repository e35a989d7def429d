//! What a job asks of the cluster: values that sbatch takes, checked once, and its arguments.

use std::{num::NonZeroU32, str::FromStr};

use thiserror::Error;

use crate::names::{NodeName, PartitionName};

/// Text is not what sbatch takes for this option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not {expected}", .text.escape_debug())]
pub struct NotAnOption {
    text: String,
    expected: &'static str,
}

fn option(text: &str, valid: bool, expected: &'static str) -> Result<String, NotAnOption> {
    let text = text.to_owned();
    if valid {
        Ok(text)
    } else {
        Err(NotAnOption { text, expected })
    }
}

/// A time limit, such as `4:00:00` or `1-12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeLimit(String);

impl FromStr for TimeLimit {
    type Err = NotAnOption;

    fn from_str(text: &str) -> Result<Self, NotAnOption> {
        let valid = text.starts_with(|first: char| first.is_ascii_digit())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b":-".contains(&byte));
        option(text, valid, "a time limit such as `4:00:00`").map(Self)
    }
}

/// An amount of memory, such as `2000M` or `8G`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory(String);

impl FromStr for Memory {
    type Err = NotAnOption;

    fn from_str(text: &str) -> Result<Self, NotAnOption> {
        let number = text.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(text);
        let valid = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        option(text, valid, "an amount of memory such as `2000M` or `8G`").map(Self)
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
}

impl Resources {
    /// The options of sbatch, on `node` if one is asked for. Nothing in them needs a quote.
    pub(crate) fn options(&self, node: Option<&NodeName>) -> String {
        let mut options = format!(
            "--nodes=1 --time={} --cpus-per-task={}",
            self.time.0, self.cpus
        );
        if let Some(memory) = &self.memory {
            options += &format!(" --mem={}", memory.0);
        }
        if let Some(partition) = &self.partition {
            options += &format!(" --partition={partition}");
        }
        if let Some(node) = node {
            options += &format!(" --nodelist={node}");
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbatch_is_asked_for_what_the_user_wants() {
        let mut resources = Resources {
            time: "4:00:00".parse().unwrap(),
            cpus: NonZeroU32::MIN,
            memory: None,
            partition: None,
        };
        let plain = resources.options(None);
        assert_eq!(plain, "--nodes=1 --time=4:00:00 --cpus-per-task=1");
        resources.memory = Some("8G".parse().unwrap());
        resources.partition = Some("debug".parse().unwrap());
        let full = resources.options(Some(&"node02".parse().unwrap()));
        assert_eq!(
            full,
            format!("{plain} --mem=8G --partition=debug --nodelist=node02")
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
        for bad in ["", "-1", "1 ", "1;id", "$(id)", "G", "1\n"] {
            assert!(
                bad.parse::<TimeLimit>().is_err() && bad.parse::<Memory>().is_err(),
                "{bad:?}"
            );
        }
    }
}
