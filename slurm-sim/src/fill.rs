//! A queue as long as a large site's, to measure commands against: jobs that have no processes, as
//! many of them running as the nodes hold. It is a picture: no node's daemon knows of them.

use std::time::Duration;

use crate::account::{Account, OsIds};
use crate::clock::Time;
use crate::cluster::{Cluster, Health, Healths};
use crate::job::{Job, Request};
use crate::schedule;

/// Whose the jobs are: so many users have them in turn.
const USERS: u32 = 250;

/// The first of their numbers.
const FIRST_UID: u32 = 10_000;

/// Puts `count` jobs into the queue and starts those for which there is room.
pub(crate) fn fill(cluster: &mut Cluster, count: u32, now: Time) {
    // Long enough ago that none has still to wait for that.
    let submitted = Time(now.0.saturating_sub(60_000));
    for number in 0..count {
        let id = cluster.take_id();
        let job = job(id, number % USERS, submitted);
        cluster.jobs.insert(id, job);
    }
    let health: Healths = cluster
        .nodes
        .iter()
        .map(|node| (node.name.clone(), Health::Well))
        .collect();
    schedule::tick(cluster, &health, submitted + Duration::from_secs(30));
}

fn job(id: u32, user: u32, submitted: Time) -> Job {
    let uid = FIRST_UID + user;
    let account = Account {
        name: format!("user{user:03}"),
        uid,
        gid: uid,
        home: format!("/home/user{user:03}"),
    };
    let request = Request {
        stdout: Some(".hpc-proxy/job-%j.log".into()),
        ..Request::plain("compute", 60, account.home.as_ref())
    };
    let os = OsIds {
        uid,
        gid: uid,
        groups: vec![],
    };
    let name = format!("hpc-vscode-{id}");
    Job::pending(id, name, account, os, request, submitted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Knobs, Node};
    use crate::job::State;

    #[test]
    fn as_many_run_as_there_is_room_for() {
        let nodes = (1..=3).map(|n| Node {
            name: format!("node{n}"),
            cpus: 4,
            memory_mb: 2000,
            drained: false,
            put_down: false,
            reason: None,
        });
        let mut cluster = Cluster::new(nodes.collect(), vec![], Knobs::default());
        fill(&mut cluster, 20, Time(1_000_000));
        let of = |state| {
            cluster
                .jobs
                .values()
                .filter(|job| job.state == state)
                .count()
        };
        assert_eq!((of(State::Running), of(State::Pending)), (12, 8));
    }
}
