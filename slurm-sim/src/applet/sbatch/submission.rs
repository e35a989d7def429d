//! A submission as the controller sees it: judged, given its ids, and queued.

use super::options::Options;
use super::{FAILED, Source};
use crate::applet::{Caller, Exit, UNREACHABLE, unreachable};
use crate::clock::Time;
use crate::cluster::{Cluster, DEFAULT_MEMORY_MB_PER_CPU};
use crate::job::{ArrayTask, Job, MemoryMb, Reason, Request, State};
use crate::spool::Spool;
use crate::{environment, hostlist, schedule};

/// How a submission was taken.
pub(super) enum Accepted {
    /// The ids of all jobs, the one to be named first.
    Queued(Vec<u32>),
    /// What `--test-only` says.
    OnlyTested(String),
}

/// What is submitted, by whom.
pub(super) struct Submission<'a> {
    pub(super) script: Vec<u8>,
    pub(super) source: Source,
    pub(super) args: Vec<String>,
    pub(super) options: Options,
    pub(super) caller: &'a Caller,
    pub(super) now: Time,
}

impl Submission<'_> {
    /// Judges the request as the controller does, and queues it.
    pub(super) fn submit(&self, cluster: &mut Cluster, spool: &Spool) -> Result<Accepted, Exit> {
        if !cluster.knobs.controller_up {
            return Err(failed(UNREACHABLE));
        }
        let request = self.request(cluster).map_err(|exit| {
            // A try fails in words of its own.
            let message = match self.options.test_only {
                true => exit.message.replace(FAILED, "allocation failure: "),
                false => exit.message,
            };
            Exit::saying(exit.code, message)
        })?;
        let first = cluster.take_id();
        let mut job = self.job(cluster, first, request);
        if let Err(remark) = can_ever_run(cluster, &job.request) {
            // Refused, but known under its id from now on.
            (job.state, job.reason) = (State::Failed, Reason::BadConstraints);
            job.exit.code = 1;
            job.ended = Some(self.now);
            cluster.jobs.insert(first, job);
            let Exit { message, code } = failed("Requested node configuration is not available");
            return Err(Exit::saying(code, format!("{remark}{message}")));
        }
        if self.options.test_only {
            let nodes = schedule::would_start_on(cluster, &job);
            return Ok(Accepted::OnlyTested(format!(
                "sbatch: Job {first} to start at {} using {} processors on nodes {} in partition {}",
                self.now,
                job.request.cpus(),
                hostlist::compress(&nodes),
                job.request.partition,
            )));
        }
        let jobs = self.tasks(cluster, job);
        let mut ids: Vec<u32> = jobs.iter().map(|job| job.id).collect();
        ids.sort_unstable();
        let environment =
            environment::exported(&self.caller.variables, self.options.export.as_deref());
        for id in &ids {
            spool
                .store_job(*id, &self.script, &environment)
                .map_err(unreachable(1, FAILED))?;
        }
        cluster
            .jobs
            .extend(jobs.into_iter().map(|job| (job.id, job)));
        Ok(Accepted::Queued(ids))
    }

    /// One job, or one per task of the array. The array's own id stays with its last task, as in
    /// Slurm, where the others are split off as they start.
    fn tasks(&self, cluster: &mut Cluster, job: Job) -> Vec<Job> {
        let Some(array) = &self.options.array else {
            return vec![job];
        };
        let last = array.tasks.len() - 1;
        let task = |(index, &task): (usize, &u32)| {
            let id = if index == last {
                job.id
            } else {
                cluster.take_id()
            };
            let place = ArrayTask {
                job: job.id,
                task,
                count: u32::try_from(array.tasks.len()).unwrap_or(u32::MAX),
                min: array.tasks[0],
                max: array.tasks[last],
                step: array.step,
                at_once: array.at_once,
            };
            Job {
                id,
                array: Some(place),
                ..job.clone()
            }
        };
        array.tasks.iter().enumerate().map(task).collect()
    }

    fn job(&self, cluster: &Cluster, id: u32, request: Request) -> Job {
        let account = self.caller.account(cluster);
        let name = match (&self.options.name, &self.source) {
            (Some(name), _) => name.clone(),
            (None, Source::Wrap) => "wrap".into(),
            (None, Source::Stdin) => "sbatch".into(),
            (None, Source::File { name, .. }) => name.clone(),
        };
        let os = self.caller.os_ids(&account);
        Job {
            submit_host: self.caller.host.clone(),
            submit_session: self.caller.session,
            eligible: self.options.begin.unwrap_or(self.now),
            reason: if self.options.hold {
                Reason::JobHeldUser
            } else {
                Reason::None
            },
            held: self.options.hold,
            ..Job::pending(id, name, account, os, request, self.now)
        }
    }

    fn request(&self, cluster: &Cluster) -> Result<Request, Exit> {
        let options = &self.options;
        let partition = match &options.partition {
            None => cluster.default_partition(),
            Some(name) => Some(cluster.partition(name).ok_or_else(|| {
                Exit::saying(
                    1,
                    format!(
                        "sbatch: error: invalid partition specified: {name}\n\
                         {FAILED}Invalid partition name specified"
                    ),
                )
            })?),
        };
        let partition = partition
            .ok_or_else(|| failed("No partition specified or system default partition"))?;
        if options
            .nodelist
            .iter()
            .chain(&options.exclude)
            .any(|node| cluster.node(node).is_none())
        {
            return Err(failed("Invalid node name specified"));
        }
        if options.nodes == Some(0) {
            return Err(failed("Node count specification invalid"));
        }
        if let Some(why) = options.lacking {
            return Err(failed(why));
        }
        let directory = match &options.chdir {
            Some(dir) => self.caller.directory.join(dir),
            None => self.caller.directory.clone(),
        };
        let command = match &self.source {
            Source::File { path, .. } => Some(path.clone()),
            Source::Wrap | Source::Stdin => None,
        };
        Ok(Request {
            partition: partition.name.clone(),
            limit_minutes: options.limit.unwrap_or(Some(partition.default_minutes)),
            node_count: options
                .nodes
                .unwrap_or(1)
                .max(u32::try_from(options.nodelist.len()).unwrap_or(u32::MAX)),
            tasks: options.tasks,
            cpus_per_task: options.cpus_per_task,
            memory: options
                .memory
                .unwrap_or(MemoryMb::PerCpu(DEFAULT_MEMORY_MB_PER_CPU)),
            nodelist: options.nodelist.clone(),
            exclude: options.exclude.clone(),
            dependency: options.dependency.clone(),
            account: options.account.clone(),
            // There is none without accounting, whatever is asked for.
            qos: None,
            exclusive: options.exclusive,
            ends_if_never: options.ends_if_never,
            most_nodes: options.most_nodes.clone(),
            submit_dir: self.caller.directory.clone(),
            comment: options.comment.clone(),
            requeue: options.requeue.unwrap_or(true),
            append_output: options.append_output,
            warning: options.warning,
            stdout: options.output.clone(),
            stderr: options.error.clone(),
            stdin: options.input.clone(),
            work_dir: directory,
            command,
            script_args: self.args.clone(),
            umask: self.caller.umask,
        })
    }
}

fn failed(why: &str) -> Exit {
    Exit::saying(1, format!("{FAILED}{why}"))
}

/// Whether the partition has the nodes that it names, and any with the memory; if not, what is said first.
/// More processors than there are may come one day and are waited for; these are refused at once.
fn can_ever_run(cluster: &Cluster, request: &Request) -> Result<(), &'static str> {
    let (MemoryMb::PerNode(wanted) | MemoryMb::PerCpu(wanted)) = request.memory;
    let partition = cluster.partition(&request.partition);
    let nodes = partition.map_or(&[][..], |partition| &partition.nodes);
    if !request.nodelist.iter().all(|node| nodes.contains(node)) {
        return Err("");
    }
    let mut known = nodes.iter().filter_map(|node| cluster.node(node));
    if !known.any(|node| node.memory_mb >= wanted) {
        return Err("sbatch: error: Memory specification can not be satisfied\n");
    }
    Ok(())
}
