//! Jobs as command lines name them: `56`, or `56_1` for a task of an array.

use std::fmt;

use crate::cluster::Cluster;
use crate::job::Job;

/// One such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JobWord {
    pub(super) id: u32,
    task: Option<u32>,
}

impl JobWord {
    pub(super) fn parse(word: &str) -> Option<Self> {
        let (id, task) = match word.split_once('_') {
            Some((id, task)) => (id, Some(task.parse().ok()?)),
            None => (word, None),
        };
        Some(Self {
            id: id.parse().ok().filter(|&id| id > 0)?,
            task,
        })
    }

    /// Whether it names this job, alone or among others.
    pub(super) fn means(self, job: &Job) -> bool {
        match (&job.array, self.task) {
            (Some(array), Some(task)) => array.job == self.id && array.task == task,
            (Some(array), None) => array.job == self.id || job.id == self.id,
            (None, task) => task.is_none() && job.id == self.id,
        }
    }

    pub(super) fn jobs(self, cluster: &Cluster) -> impl Iterator<Item = &Job> {
        cluster.jobs.values().filter(move |job| self.means(job))
    }
}

impl fmt::Display for JobWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task {
            Some(task) => write!(f, "{}_{task}", self.id),
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
            ("5", false),
        ] {
            assert_eq!(JobWord::parse(word).unwrap().means(&task), means, "{word}");
        }
        assert!(!JobWord::parse("3_1").unwrap().means(&job(3)));
        for bad in ["", "0", "abc", "1_", "1_x", "-1"] {
            assert_eq!(JobWord::parse(bad), None, "{bad}");
        }
    }
}
