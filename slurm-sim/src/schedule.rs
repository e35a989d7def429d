//! What the controller does as time goes by: gives up on lost nodes, enforces time limits, forgets
//! old jobs and starts waiting ones. Pure: the same state, health and time give the same result.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Time;
use crate::cluster::{Cluster, Health, Healths, Node, Partition};
use crate::dependency::{self, Verdict};
use crate::job::{Job, Knock, Outcome, Reason, Request, State, Target};

/// Moves the cluster on to `now`. Returns whether anything changed.
pub(crate) fn tick(cluster: &mut Cluster, health: &Healths, now: Time) -> bool {
    let mut changed = false;
    if !cluster.knobs.controller_up {
        return changed;
    }
    changed |= give_up_lost_nodes(cluster, health, now);
    changed |= enforce_limits(cluster, now);
    changed |= forget(cluster, now);
    changed |= start_waiting(cluster, health, now);
    changed
}

fn give_up_lost_nodes(cluster: &mut Cluster, health: &Healths, now: Time) -> bool {
    let delay = cluster.knobs.requeue_delay;
    let is_lost = |node: &&Node| node.put_down || health.get(&node.name) == Some(&Health::Down);
    let lost: Vec<String> = cluster
        .nodes
        .iter()
        .filter(is_lost)
        .map(|node| node.name.clone())
        .collect();
    let mut changed = false;
    for job in cluster.jobs.values_mut().filter(|job| job.occupies()) {
        if job.nodes.iter().any(|node| lost.contains(node)) {
            job.finish(Outcome::NodeLost, now, delay);
            changed = true;
        }
    }
    changed
}

fn enforce_limits(cluster: &mut Cluster, now: Time) -> bool {
    let (minute, lateness) = (cluster.knobs.minute, cluster.knobs.limit_lateness);
    let mut changed = false;
    for job in cluster
        .jobs
        .values_mut()
        .filter(|job| job.state == State::Running)
    {
        let Some(deadline) = job.deadline(minute) else {
            continue;
        };
        if let Some(warning) = job.request.warning
            && !job.warned
            && now + minute.mul_f64(warning.before_secs as f64 / 60.0) >= deadline
        {
            job.warned = true;
            changed = true;
            if warning.batch {
                // Recorded: it is woken for it.
                for signal in [warning.signal, nix::libc::SIGCONT] {
                    let target = Target::Batch;
                    job.knocks.push(Knock { signal, target });
                }
            }
        }
        if now > deadline + lateness {
            job.time_out(now);
            changed = true;
        }
    }
    changed
}

fn forget(cluster: &mut Cluster, now: Time) -> bool {
    let (before, age) = (cluster.jobs.len(), cluster.knobs.min_job_age);
    cluster.jobs.retain(|_, job| {
        !job.is_finished() || job.ended.is_none_or(|ended| now.since(ended) < age)
    });
    cluster.jobs.len() != before
}

fn start_waiting(cluster: &mut Cluster, health: &Healths, now: Time) -> bool {
    let mut room = Room::of(cluster, health);
    let mut changed = false;
    let mut waiting: Vec<u32> = cluster
        .jobs
        .values()
        .filter(|job| job.state == State::Pending && !job.completing)
        .map(|job| job.id)
        .collect();
    waiting.sort_by_key(|id| cluster.jobs[id].place());
    for id in waiting {
        let job = &cluster.jobs[&id];
        let verdict = consider(cluster, job, &room, now);
        let job = cluster.jobs.get_mut(&id).expect("taken from this map");
        match verdict {
            Decision::Start(nodes) => {
                room.take(&nodes, &job.request);
                job.start(nodes, now);
                changed = true;
            }
            Decision::End => {
                job.cancel(now);
                job.reason = Reason::DependencyNeverSatisfied;
                changed = true;
            }
            Decision::Wait { reason, holding } => {
                room.keep(&job.request, holding);
                changed |= job.reason != reason;
                job.reason = reason;
            }
        }
    }
    changed
}

enum Decision {
    Start(Vec<String>),
    /// It can never start, and is not to wait for that.
    End,
    /// `holding`: the nodes that are kept for this job.
    Wait {
        reason: Reason,
        holding: Vec<String>,
    },
}

fn consider(cluster: &Cluster, job: &Job, room: &Room, now: Time) -> Decision {
    let wait = |reason| Decision::Wait {
        reason,
        holding: vec![],
    };
    if let Some(reason) = misfit(cluster, job, room) {
        return wait(reason);
    }
    if job.held {
        return wait(match job.reason {
            Reason::RequeuedInHeldState => job.reason,
            _ => Reason::JobHeldUser,
        });
    }
    if now < job.submitted + cluster.knobs.queue_delay {
        return wait(Reason::None);
    }
    match dependency::judge(job, cluster) {
        Verdict::Satisfied => {}
        Verdict::Waiting => return wait(Reason::Dependency),
        Verdict::Never if job.request.ends_if_never => return Decision::End,
        Verdict::Never => return wait(Reason::DependencyNeverSatisfied),
    }
    if now < job.eligible {
        return wait(Reason::BeginTime);
    }
    if array_is_full(cluster, job) {
        return wait(Reason::JobArrayTaskLimit);
    }
    let request = &job.request;
    if room.taken.contains(&request.partition) && request.nodelist.is_empty() {
        return wait(Reason::Priority);
    }
    let wanted = usize::try_from(request.node_count).unwrap_or(usize::MAX);
    let chosen: Vec<String> = candidates(cluster, job)
        .filter(|node| !room.reserved.contains(*node) && room.holds(node, request))
        .take(wanted)
        .cloned()
        .collect();
    if chosen.len() == wanted {
        return Decision::Start(chosen);
    }
    let out = |name: &String| cluster.node(name).is_some_and(Node::is_out);
    if request.nodelist.iter().any(out) {
        return wait(Reason::ReqNodeNotAvail);
    }
    let behind_another = candidates(cluster, job).any(|node| room.reserved.contains(node));
    let reason = if behind_another {
        Reason::Priority
    } else {
        Reason::Resources
    };
    Decision::Wait {
        reason,
        holding: candidates(cluster, job).cloned().collect(),
    }
}

/// What there is for jobs during one look at the queue. Sites have thousands of nodes and jobs, so
/// each is counted once, not for each of the other.
struct Room {
    /// The nodes that may have jobs.
    free: BTreeMap<String, Free>,
    /// The processors of each partition's largest node.
    largest: BTreeMap<String, u32>,
    /// Nodes that a job further ahead waits for: nobody may overtake it there.
    reserved: BTreeSet<String>,
    /// Partitions of which all nodes are reserved.
    taken: BTreeSet<String>,
}

/// What is left of a node.
struct Free {
    cpus: u32,
    memory_mb: u64,
    all_cpus: u32,
}

impl Room {
    fn of(cluster: &Cluster, health: &Healths) -> Self {
        let usage = cluster.usage();
        let usable = |node: &&Node| !node.is_out() && health.get(&node.name) == Some(&Health::Well);
        let free = |node: &Node| {
            let used = usage.get(node.name.as_str()).copied().unwrap_or_default();
            let free = Free {
                cpus: node.cpus.saturating_sub(used.cpus),
                memory_mb: node.memory_mb.saturating_sub(used.memory_mb),
                all_cpus: node.cpus,
            };
            (node.name.clone(), free)
        };
        let cpus: BTreeMap<&str, u32> = cluster
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node.cpus))
            .collect();
        let largest = |partition: &Partition| {
            let cpus = partition
                .nodes
                .iter()
                .filter_map(|node| cpus.get(node.as_str()));
            (partition.name.clone(), cpus.max().copied().unwrap_or(0))
        };
        Self {
            free: cluster.nodes.iter().filter(usable).map(free).collect(),
            largest: cluster.partitions.iter().map(largest).collect(),
            reserved: BTreeSet::new(),
            taken: BTreeSet::new(),
        }
    }

    fn holds(&self, node: &str, request: &Request) -> bool {
        self.free.get(node).is_some_and(|free| {
            let cpus = match request.exclusive {
                true => free.all_cpus,
                false => request.cpus_per_node(),
            };
            cpus <= free.cpus && request.memory_mb_per_node() <= free.memory_mb
        })
    }

    fn take(&mut self, nodes: &[String], request: &Request) {
        for name in nodes {
            if let Some(free) = self.free.get_mut(name) {
                free.cpus = match request.exclusive {
                    true => 0,
                    false => free.cpus.saturating_sub(request.cpus_per_node()),
                };
                free.memory_mb = free.memory_mb.saturating_sub(request.memory_mb_per_node());
            }
        }
    }

    /// Keeps nodes for a job that waits.
    fn keep(&mut self, request: &Request, nodes: Vec<String>) {
        if !nodes.is_empty() && request.nodelist.is_empty() && request.exclude.is_empty() {
            self.taken.insert(request.partition.clone());
        }
        self.reserved.extend(nodes);
    }
}

/// Why this job can never start as it stands, if so.
fn misfit(cluster: &Cluster, job: &Job, room: &Room) -> Option<Reason> {
    let partition = cluster.partition(&job.request.partition)?;
    if job
        .request
        .limit_minutes
        .is_none_or(|minutes| minutes > partition.max_minutes)
    {
        return Some(Reason::PartitionTimeLimit);
    }
    if usize::try_from(job.request.node_count).is_ok_and(|count| count > partition.nodes.len()) {
        return Some(Reason::PartitionNodeLimit);
    }
    let largest = room.largest.get(&partition.name).copied();
    if job.request.cpus_per_node() > largest.unwrap_or(0) {
        return Some(Reason::PartitionConfig);
    }
    None
}

fn array_is_full(cluster: &Cluster, job: &Job) -> bool {
    let Some(array) = &job.array else {
        return false;
    };
    let Some(at_once) = array.at_once else {
        return false;
    };
    let running = cluster
        .jobs_of(array.job)
        .filter(|job| job.occupies())
        .count();
    u32::try_from(running).is_ok_and(|running| running >= at_once)
}

/// The nodes a job may use at all: its partition's, within its own wishes.
fn candidates<'a>(cluster: &'a Cluster, job: &'a Job) -> impl Iterator<Item = &'a String> {
    let request = &job.request;
    let partition = cluster.partition(&request.partition);
    partition
        .map_or(&[][..], |partition| &partition.nodes)
        .iter()
        .filter(|node| request.nodelist.is_empty() || request.nodelist.contains(node))
        .filter(|node| !request.exclude.contains(node))
}

/// Where a job would start if it were alone: what `--test-only` answers.
pub(crate) fn would_start_on(cluster: &Cluster, job: &Job) -> Vec<String> {
    let wanted = usize::try_from(job.request.node_count).unwrap_or(usize::MAX);
    candidates(cluster, job).take(wanted).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::cluster::Knobs;
    use crate::job::MemoryMb;
    use crate::job::tests::job;

    const LATER: Time = Time(10_000);

    fn node(name: &str) -> Node {
        Node {
            name: name.into(),
            cpus: 4,
            memory_mb: 2000,
            drained: false,
            put_down: false,
            reason: None,
        }
    }

    fn cluster(jobs: impl IntoIterator<Item = Job>) -> Cluster {
        let nodes = vec![node("node01"), node("node02")];
        let mut cluster = Cluster::new(nodes, vec![], Knobs::default());
        cluster.jobs = jobs.into_iter().map(|job| (job.id, job)).collect();
        cluster
    }

    fn well() -> Healths {
        ["node01", "node02"]
            .map(|name| (name.to_owned(), Health::Well))
            .into()
    }

    fn asking(id: u32, ask: impl FnOnce(&mut Job)) -> Job {
        let mut job = job(id);
        ask(&mut job);
        job
    }

    fn cpus(id: u32, cpus: u32) -> Job {
        asking(id, |job| job.request.cpus_per_task = Some(cpus))
    }

    #[test]
    fn small_jobs_share_the_first_node() {
        let mut cluster = cluster([job(1), job(2)]);
        assert!(tick(&mut cluster, &well(), LATER));
        assert_eq!(cluster.jobs[&1].nodes, ["node01"]);
        assert_eq!(cluster.jobs[&2].nodes, ["node01"]);
        assert!(!tick(&mut cluster, &well(), LATER), "nothing more to do");
    }

    #[test]
    fn a_job_waits_out_the_queue_delay_without_a_reason() {
        let mut cluster = cluster([job(1)]);
        cluster.knobs.queue_delay = Duration::from_secs(60);
        assert!(!tick(&mut cluster, &well(), LATER));
        assert_eq!(cluster.jobs[&1].reason, Reason::None);
        assert!(tick(&mut cluster, &well(), Time(60_000)));
        assert_eq!(cluster.jobs[&1].state, State::Running);
    }

    #[test]
    fn the_first_that_finds_no_room_waits_for_resources_and_the_next_for_its_turn() {
        let mut cluster = cluster([cpus(1, 4), cpus(2, 3), cpus(3, 2), cpus(4, 1)]);
        tick(&mut cluster, &well(), LATER);
        let reasons: Vec<Reason> = cluster.jobs.values().map(|job| job.reason).collect();
        assert_eq!(
            reasons,
            [
                Reason::None,
                Reason::None,
                Reason::Resources,
                Reason::Priority
            ]
        );
    }

    #[test]
    fn a_job_waiting_for_one_node_keeps_nobody_from_the_other() {
        let full = asking(1, |job| job.request.cpus_per_task = Some(4));
        let picky = asking(2, |job| job.request.nodelist = vec!["node01".into()]);
        let mut cluster = cluster([full, picky, job(3)]);
        tick(&mut cluster, &well(), LATER);
        assert_eq!(cluster.jobs[&2].reason, Reason::Resources);
        assert_eq!(cluster.jobs[&3].nodes, ["node02"]);
    }

    #[test]
    fn impossible_wishes_are_named() {
        for (ask, reason) in [
            (
                asking(1, |job| job.request.limit_minutes = Some(2880)),
                Reason::PartitionTimeLimit,
            ),
            (
                asking(1, |job| job.request.limit_minutes = None),
                Reason::PartitionTimeLimit,
            ),
            (
                asking(1, |job| job.request.node_count = 5),
                Reason::PartitionNodeLimit,
            ),
            (cpus(1, 99), Reason::PartitionConfig),
            (asking(1, |job| job.held = true), Reason::JobHeldUser),
            (
                asking(1, |job| job.eligible = Time(99_000)),
                Reason::BeginTime,
            ),
        ] {
            let mut cluster = cluster([ask]);
            tick(&mut cluster, &well(), LATER);
            assert_eq!(cluster.jobs[&1].reason, reason);
            assert_eq!(cluster.jobs[&1].state, State::Pending);
        }
    }

    #[test]
    fn excluded_drained_and_silent_nodes_get_no_job() {
        let mut excluding = cluster([asking(1, |job| job.request.exclude = vec!["node01".into()])]);
        tick(&mut excluding, &well(), LATER);
        assert_eq!(excluding.jobs[&1].nodes, ["node02"]);

        let mut drained = cluster([job(1)]);
        drained.nodes[0].drained = true;
        tick(&mut drained, &well(), LATER);
        assert_eq!(drained.jobs[&1].nodes, ["node02"]);

        let mut silent = cluster([job(1)]);
        let health = [
            ("node01".to_owned(), Health::Silent),
            ("node02".to_owned(), Health::Well),
        ];
        tick(&mut silent, &health.into(), LATER);
        assert_eq!(silent.jobs[&1].nodes, ["node02"]);
    }

    #[test]
    fn a_time_limit_ends_a_job_and_warns_it_before() {
        let mut cluster = cluster([asking(1, |job| {
            job.request.limit_minutes = Some(1);
            job.request.warning = Some(crate::job::Warning {
                signal: 10,
                batch: true,
                before_secs: 20,
            });
        })]);
        tick(&mut cluster, &well(), LATER);
        tick(&mut cluster, &well(), LATER + Duration::from_secs(39));
        assert!(cluster.jobs[&1].knocks.is_empty());
        tick(&mut cluster, &well(), LATER + Duration::from_secs(41));
        assert_eq!(
            cluster.jobs[&1].knocks,
            [10, nix::libc::SIGCONT].map(|signal| Knock {
                signal,
                target: Target::Batch,
            })
        );
        assert_eq!(cluster.jobs[&1].state, State::Running);
        tick(&mut cluster, &well(), LATER + Duration::from_secs(61));
        let job = &cluster.jobs[&1];
        assert_eq!(
            (job.state, job.reason, job.completing),
            (State::Timeout, Reason::TimeLimit, true)
        );
    }

    #[test]
    fn a_finished_job_is_forgotten_after_its_age() {
        let mut cluster = cluster([asking(1, |job| job.cancel(Time(1000)))]);
        tick(&mut cluster, &well(), Time(300_999));
        assert!(cluster.jobs.contains_key(&1));
        tick(&mut cluster, &well(), Time(301_001));
        assert!(cluster.jobs.is_empty());
    }

    #[test]
    fn nothing_moves_while_the_controller_is_down() {
        let mut cluster = cluster([job(1)]);
        cluster.knobs.controller_up = false;
        assert!(!tick(&mut cluster, &well(), LATER));
        assert_eq!(cluster.jobs[&1].state, State::Pending);
    }

    proptest! {
        #[test]
        fn no_node_is_ever_overbooked(
            wishes in proptest::collection::vec((1u32..6, 1u64..2500, 1u32..3, any::<bool>()), 1..20),
        ) {
            let mut cluster = cluster(wishes.into_iter().zip(1..).map(|((cpus, mb, nodes, end), id)| {
                asking(id, |job| {
                    job.request.cpus_per_task = Some(cpus);
                    job.request.memory = MemoryMb::PerNode(mb);
                    job.request.node_count = nodes;
                    job.held = end;
                })
            }));
            for step in 1..4 {
                tick(&mut cluster, &well(), LATER + Duration::from_secs(step));
                for node in &cluster.nodes {
                    let (cpus, mb) = cluster.occupied(&node.name);
                    prop_assert!(cpus <= node.cpus && mb <= node.memory_mb);
                }
                let first = cluster.jobs.values_mut().find(|job| job.state == State::Running);
                if let Some(job) = first {
                    job.finish(Outcome::NodeLost, LATER, Duration::ZERO);
                }
            }
        }
    }
}
