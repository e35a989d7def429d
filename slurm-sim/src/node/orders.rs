//! What the cluster's state asks of one node. Pure.

use std::collections::BTreeMap;

use super::runs::Run;
use crate::cluster::Cluster;
use crate::job::{Job, State};
use crate::stepd::EndReason;

/// What is to be done about the runs of one node.
pub(super) struct Orders {
    /// Every run that this node has to answer for, and why it must end, if it must.
    pub(super) runs: BTreeMap<Run, Option<EndReason>>,
    /// The runs that are to be under way.
    pub(super) assignments: Vec<(Run, Job)>,
    /// Signals or steps wait to be passed on.
    pub(super) knocks: bool,
}

impl Orders {
    pub(super) fn for_node(cluster: &Cluster, node: &str) -> Self {
        let mut orders = Self {
            runs: BTreeMap::new(),
            assignments: vec![],
            knocks: false,
        };
        let mine = |job: &&Job| job.occupies() && job.batch_host() == Some(node);
        for job in cluster.jobs.values().filter(mine) {
            let run = (job.id, job.restarts);
            let end = job.completing.then_some(match job.state {
                State::Timeout => EndReason::TimeLimit,
                State::Pending => EndReason::Requeue,
                _ => EndReason::Cancelled,
            });
            orders.runs.insert(run, end);
            orders.knocks |= !job.knocks.is_empty() || !job.waiting_steps.is_empty();
            if end.is_none() {
                orders.assignments.push((run, job.clone()));
            }
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::cluster::Knobs;
    use crate::job::tests::job;

    #[test]
    fn a_node_answers_for_the_jobs_whose_batch_host_it_is() {
        let mut cluster = Cluster::new(vec![], vec![], Knobs::default());
        for (id, nodes) in [
            (1, vec!["node01"]),
            (2, vec!["node02", "node01"]),
            (3, vec![]),
        ] {
            let mut job = job(id);
            if !nodes.is_empty() {
                job.start(nodes.into_iter().map(str::to_owned).collect(), Time(1));
            }
            cluster.jobs.insert(id, job);
        }
        let orders = Orders::for_node(&cluster, "node01");
        assert_eq!(
            orders.runs.into_iter().collect::<Vec<_>>(),
            [((1, 0), None)]
        );
        assert_eq!(orders.assignments.len(), 1);
    }

    #[test]
    fn a_completing_job_is_to_end_for_the_reason_that_its_state_tells() {
        for reason in [
            EndReason::Cancelled,
            EndReason::TimeLimit,
            EndReason::Requeue,
        ] {
            let mut job = job(1);
            job.start(vec!["node01".into()], Time(1));
            match reason {
                EndReason::TimeLimit => job.time_out(Time(2)),
                EndReason::Requeue => job.requeue(Time(2), std::time::Duration::ZERO),
                _ => job.cancel(Time(2)),
            }
            let mut cluster = Cluster::new(vec![], vec![], Knobs::default());
            cluster.jobs.insert(1, job);
            let orders = Orders::for_node(&cluster, "node01");
            assert_eq!(orders.runs[&(1, 0)], Some(reason));
            assert!(orders.assignments.is_empty());
        }
    }
}
