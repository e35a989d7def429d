//! What a user asks of a session, and what a manager allows: every value is checked here, before it
//! gets near a shell.

use std::{collections::BTreeMap, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    job::{Memory, OptionName, Resources, TimeLimit},
    names::{ClusterName, NodeName, PartitionName},
};

/// A call's body, as it is written; what is not there is the manager's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wish {
    /// The node it must be on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// How long it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<NonZeroU32>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<String>,
    /// Generic resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gres: Option<String>,
    /// Whom it is charged to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Which cluster, for a user of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Which IDE, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ide: Option<String>,
    /// Other options of sbatch, by their long names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// What users may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The partitions; none given is any.
    pub partitions: Vec<PartitionName>,
    /// The longest time.
    pub time: Option<TimeLimit>,
    /// Most processors.
    pub cpus: Option<NonZeroU32>,
    /// Most memory.
    pub memory: Option<Memory>,
    /// Options of sbatch without a setting of their own here.
    pub options: Vec<OptionName>,
}

/// Why a wish is not granted: the value, and what would be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// It makes no sense.
    #[error("`{option}`: {why}")]
    Malformed {
        /// Which option.
        option: &'static str,
        /// Why.
        why: String,
    },
    /// More than is allowed.
    #[error("`{option}`: `{value}` is more than the `{most}` that this manager allows")]
    TooMuch {
        /// Which option.
        option: &'static str,
        /// The value.
        value: String,
        /// What would do.
        most: String,
    },
    /// Not among what is allowed.
    #[error("`{option}`: `{}` is not among what this manager allows: {allowed}", value.escape_debug())]
    NotAmong {
        /// Which option.
        option: &'static str,
        /// The value.
        value: String,
        /// What would do.
        allowed: String,
    },
}

impl Wish {
    /// Reads a call's body; an empty one asks for nothing in particular.
    ///
    /// # Errors
    /// When it is no wish in JSON.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(body)
    }

    /// What sbatch is asked for, from what it is usually asked for and what this wish says.
    ///
    /// # Errors
    /// When something is malformed, or more than `limits` allow.
    pub fn resources(&self, usual: &Resources, limits: &Limits) -> Result<Resources, Refused> {
        let mut wanted = usual.clone();
        if let Some(time) = parsed("time", self.time.as_deref())? {
            wanted.time = time;
        }
        wanted.cpus = self.cpus.unwrap_or(wanted.cpus);
        wanted.memory = parsed("mem", self.mem.as_deref())?.or(wanted.memory);
        wanted.partition = parsed("partition", self.partition.as_deref())?.or(wanted.partition);
        wanted.gres = parsed("gres", self.gres.as_deref())?.or(wanted.gres);
        wanted.account = parsed("account", self.account.as_deref())?.or(wanted.account);
        for (name, value) in &self.options {
            let known = limits.options.iter().find(|it| it.to_string() == *name);
            let known = known.ok_or_else(|| not_among("options", name, &limits.options))?;
            let value = value.parse().map_err(|why| malformed("options", why))?;
            wanted.more.push((known.clone(), value));
        }
        limits.check(&wanted)?;
        Ok(wanted)
    }

    /// The node that it must be on.
    ///
    /// # Errors
    /// When that is no node's name.
    pub fn wanted_node(&self) -> Result<Option<NodeName>, Refused> {
        parsed("node", self.node.as_deref())
    }
}

impl Limits {
    /// Whether so much may be asked for.
    ///
    /// # Errors
    /// When not.
    pub fn check(&self, wanted: &Resources) -> Result<(), Refused> {
        let too_much = |option, value: &dyn ToString, most: &dyn ToString| Refused::TooMuch {
            option,
            value: value.to_string(),
            most: most.to_string(),
        };
        match &self.time {
            Some(most) if wanted.time.exceeds(most) => {
                return Err(too_much("time", &wanted.time, most));
            }
            _ => {}
        }
        match &self.cpus {
            Some(most) if wanted.cpus > *most => {
                return Err(too_much("cpus", &wanted.cpus, most));
            }
            _ => {}
        }
        match (&self.memory, &wanted.memory) {
            (Some(most), Some(memory)) if memory.exceeds(most) => {
                return Err(too_much("mem", memory, most));
            }
            _ => {}
        }
        match &wanted.partition {
            Some(partition)
                if !self.partitions.is_empty() && !self.partitions.contains(partition) =>
            {
                let (name, all) = (partition.as_str(), &self.partitions);
                Err(not_among("partition", name, all))
            }
            _ => Ok(()),
        }
    }
}

fn parsed<T>(option: &'static str, text: Option<&str>) -> Result<Option<T>, Refused>
where
    T: FromStr<Err: ToString>,
{
    // A form sends what was left empty.
    let text = text.filter(|text| !text.is_empty());
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|why| malformed(option, why))
}

fn malformed(option: &'static str, why: impl ToString) -> Refused {
    let why = why.to_string();
    Refused::Malformed { option, why }
}

/// Names the value and everything that would do.
pub(crate) fn not_among(option: &'static str, value: &str, all: &[impl ToString]) -> Refused {
    let all: Vec<_> = all
        .iter()
        .map(|it| format!("`{}`", it.to_string()))
        .collect();
    let allowed = if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    };
    Refused::NotAmong {
        option,
        value: value.to_owned(),
        allowed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            partitions: vec!["cpu".parse().unwrap(), "gpu".parse().unwrap()],
            time: Some("8:00:00".parse().unwrap()),
            cpus: NonZeroU32::new(8),
            memory: Some("16G".parse().unwrap()),
            options: vec!["constraint".parse().unwrap()],
        }
    }

    fn usual() -> Resources {
        Resources {
            partition: Some("cpu".parse().unwrap()),
            ..Resources::plain("4:00:00".parse().unwrap())
        }
    }

    fn options(body: &str) -> Result<String, String> {
        let wish = Wish::parse(body.as_bytes()).map_err(|error| error.to_string())?;
        let resources = wish.resources(&usual(), &limits());
        resources
            .map(|resources| resources.options(None))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_wished_for_is_as_usual() {
        let as_usual = usual().options(None);
        for body in ["", " ", "{}", r#"{"time":"","partition":""}"#] {
            assert_eq!(options(body).as_ref(), Ok(&as_usual), "{body}");
        }
        let body = r#"{"partition":"gpu","time":"1:00:00","cpus":4,"mem":"8G","gres":"gpu:1",
            "account":"lab","options":{"constraint":"a100&x"}}"#;
        assert_eq!(
            options(body).unwrap(),
            "--nodes=1 --time=1:00:00 --cpus-per-task=4 --mem=8G --partition=gpu --gres=gpu:1 \
             --account=lab --constraint='a100&x'"
        );
    }

    #[test]
    fn a_refusal_names_the_value_and_what_is_allowed() {
        for (body, told) in [
            (
                r#"{"time":"9:00:00"}"#,
                "`time`: `9:00:00` is more than the `8:00:00`",
            ),
            (r#"{"time":"0"}"#, "`time`: `0` is more than"),
            (r#"{"cpus":9}"#, "`cpus`: `9` is more than the `8`"),
            (r#"{"mem":"1T"}"#, "`mem`: `1T` is more than the `16G`"),
            (r#"{"mem":"0"}"#, "`mem`: `0` is more than"),
            (
                r#"{"partition":"big"}"#,
                "`partition`: `big` is not among what this manager allows: `cpu`, `gpu`",
            ),
            (
                r#"{"options":{"wrap":"id"}}"#,
                "`options`: `wrap` is not among what this manager allows: `constraint`",
            ),
            (
                r#"{"mem":"$(id)"}"#,
                "`mem`: `$(id)` is not an amount of memory",
            ),
            (r#"{"account":"-x"}"#, "`account`: `-x` is not a name"),
            (r#"{"gres":"gpu;id"}"#, "`gres`: `gpu;id` is not a resource"),
            (
                r#"{"options":{"constraint":"a\nb"}}"#,
                "`options`: `a\\nb` is not one short line",
            ),
            (r#"{"cpus":0}"#, "invalid value"),
            (r#"{"sudo":1}"#, "unknown field `sudo`"),
        ] {
            let refused = options(body).unwrap_err();
            assert!(refused.starts_with(told), "{body}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn nothing_above_the_limits_is_granted(minutes in 0..100_000u64, cpus in 1..64u32, mem in 0..64u32) {
            let body = format!(r#"{{"time":"{minutes}","cpus":{cpus},"mem":"{mem}G"}}"#);
            let granted = options(&body).is_ok();
            prop_assert_eq!(granted, (1..=480).contains(&minutes) && cpus <= 8 && (1..=16).contains(&mem));
        }

        #[test]
        fn a_wish_is_kept_as_it_was(node in prop::option::of("[a-z]{1,8}"), time in prop::option::of(".{0,8}")) {
            let wish = Wish { node, time, ..Wish::default() };
            let kept = serde_json::to_vec(&wish).unwrap();
            prop_assert_eq!(Wish::parse(&kept).unwrap(), wish);
        }
    }
}
