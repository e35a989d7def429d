//! Jobs as command lines name them: `56`, `56_1` for a task of an array, `56_[1-3]` for several.

use std::fmt;

use crate::cluster::Cluster;
use crate::hostlist;
use crate::job::Job;

/// One such name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobWord {
    pub(super) id: u32,
    tasks: Option<Tasks>,
}

/// Tasks, as they were written and by number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tasks {
    word: String,
    numbers: Vec<u32>,
}

impl Tasks {
    fn parse(word: &str) -> Option<Self> {
        let list = word
            .strip_prefix('[')
            .and_then(|word| word.strip_suffix(']'));
        let numbers = match list {
            Some(_) => hostlist::expand(word)?
                .iter()
                .map(|number| number.parse().ok())
                .collect::<Option<_>>()?,
            None => vec![word.parse().ok()?],
        };
        let word = word.to_owned();
        Some(Self { word, numbers })
    }
}

impl JobWord {
    pub(super) fn parse(word: &str) -> Option<Self> {
        let (id, tasks) = match word.split_once('_') {
            Some((id, tasks)) => (id, Some(Tasks::parse(tasks)?)),
            None => (word, None),
        };
        Some(Self {
            id: id.parse().ok().filter(|&id| id > 0)?,
            tasks,
        })
    }

    /// Whether it names this job, alone or among others.
    pub(super) fn means(&self, job: &Job) -> bool {
        match (&job.array, &self.tasks) {
            (Some(array), Some(tasks)) => {
                array.job == self.id && tasks.numbers.contains(&array.task)
            }
            (Some(array), None) => array.job == self.id || job.id == self.id,
            (None, tasks) => tasks.is_none() && job.id == self.id,
        }
    }

    pub(super) fn jobs<'a>(&'a self, cluster: &'a Cluster) -> impl Iterator<Item = &'a Job> {
        cluster.jobs.values().filter(move |job| self.means(job))
    }
}

impl fmt::Display for JobWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tasks {
            Some(tasks) => write!(f, "{}_{}", self.id, tasks.word),
            None => write!(f, "{}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ArrayTask;
    use crate::job::tests::job;

    #[test]
    fn a_word_means_a_job_an_array_or_a_task() {
        let mut task = job(57);
        task.array = Some(ArrayTask {
            job: 56,
            task: 1,
            count: 2,
            min: 1,
            max: 2,
            step: 1,
            at_once: None,
        });
        for (word, means) in [
            ("56", true),
            ("57", true),
            ("56_1", true),
            ("56_2", false),
            ("56_[1-2]", true),
            ("56_[2,3]", false),
            ("5", false),
        ] {
            assert_eq!(JobWord::parse(word).unwrap().means(&task), means, "{word}");
        }
        assert!(!JobWord::parse("3_1").unwrap().means(&job(3)));
        for bad in ["", "0", "abc", "1_", "1_x", "-1", "1_[", "1_[a]"] {
            assert_eq!(JobWord::parse(bad), None, "{bad}");
        }
    }
}
