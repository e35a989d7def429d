//! `sbatch`: reads a script and its options, and puts a job into the queue.

mod array;
mod options;
mod script;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use self::options::Options;
use super::{Applet, Caller, Exit, Io, Result, UNREACHABLE, unreachable};
use crate::clock::Time;
use crate::cluster::{Cluster, DEFAULT_MEMORY_MB_PER_CPU};
use crate::environment;
use crate::getopt::Operands;
use crate::job::{ArrayTask, Job, MemoryMb, Reason, Request, State};
use crate::schedule;
use crate::spool::{Spool, SpoolError};

/// How often `--wait` looks.
const WAIT_POLL: Duration = Duration::from_millis(50);

const FAILED: &str = "sbatch: error: Batch job submission failed: ";

pub(super) fn run(args: &[String], caller: &Caller, io: &mut Io<'_>) -> Result {
    let parsed = super::parse(
        Applet::Sbatch,
        options::KNOWN,
        args,
        Operands::EndOptions,
        255,
        io,
    )?;
    if !caller.variables.contains_key(OsStr::new("PATH")) {
        io.complain("sbatch: error: No PATH environment variable");
    }
    let wrap = parsed.value("wrap").map(str::to_owned);
    if wrap.is_some() && !parsed.operands.is_empty() {
        return Err(Exit::saying(
            1,
            "sbatch: error: Script arguments not permitted with --wrap option",
        ));
    }
    let (script, source) = match &wrap {
        Some(command) => (script::wrapped(command), Source::Wrap),
        None => read_script(parsed.operands.first(), caller, io)?,
    };
    // The command line wins over the environment, and that over the script's own lines.
    let mut options = Options::default();
    let lines = script::option_lines(&script);
    let in_script = super::parse(
        Applet::Sbatch,
        options::KNOWN,
        &lines,
        Operands::Anywhere,
        255,
        io,
    )?;
    let now = Time::now();
    options.apply(&in_script.options, now)?;
    options.apply(&options::from_environment(caller), now)?;
    options.apply(&parsed.options, now)?;

    let spool = caller.spool();
    let controller = |error| unreachable(1, FAILED)(error);
    spool.ask().map_err(controller)?;
    let submission = Submission {
        args: parsed.operands.get(1..).unwrap_or_default().to_vec(),
        script,
        source,
        options,
        caller,
        now,
    };
    let answer = spool
        .update(|cluster| {
            if cluster.knobs.controller_up {
                submission.submit(cluster, &spool)
            } else {
                Ok(Err(Exit::saying(1, format!("{FAILED}{UNREACHABLE}"))))
            }
        })
        .and_then(|answer| answer)
        .map_err(controller)?;
    let ids = match answer? {
        Accepted::Queued(ids) => ids,
        Accepted::OnlyTested(line) => return Err(Exit::saying(0, line)),
    };
    let id = ids[0];
    if submission.options.parsable {
        io.say(id.to_string());
    } else if !submission.options.quiet {
        io.say(format!("Submitted batch job {id}"));
    }
    if submission.options.wait {
        let _ = io.out.flush();
        return Ok(Exit::code(wait_for(&spool, &ids)));
    }
    Ok(Exit::OK)
}

/// Where the script came from.
enum Source {
    Wrap,
    Stdin,
    File { name: String, path: String },
}

fn read_script(
    operand: Option<&String>,
    caller: &Caller,
    io: &mut Io<'_>,
) -> std::result::Result<(Vec<u8>, Source), Exit> {
    let (bytes, source) = match operand.map(String::as_str) {
        None | Some("-") => {
            let mut bytes = Vec::new();
            io.input.read_to_end(&mut bytes).map_err(|error| {
                Exit::saying(
                    1,
                    format!("sbatch: error: Error reading batch script: {error}"),
                )
            })?;
            (bytes, Source::Stdin)
        }
        Some(name) => {
            let path = find_script(name, caller);
            let bytes = fs::read(&path).map_err(|_| {
                Exit::saying(1, format!("sbatch: error: Unable to open file {name}"))
            })?;
            let file_name = Path::new(name).file_name().unwrap_or(OsStr::new(name));
            let source = Source::File {
                name: file_name.to_string_lossy().into_owned(),
                path: path.display().to_string(),
            };
            (bytes, source)
        }
    };
    script::check(&bytes).map_err(|message| Exit::saying(1, message))?;
    Ok((bytes, source))
}

/// A script is looked for in the working directory, then along the path.
fn find_script(name: &str, caller: &Caller) -> std::path::PathBuf {
    let here = caller.directory.join(name);
    if name.contains('/') || here.exists() {
        return here;
    }
    let path = caller
        .variables
        .get(OsStr::new("PATH"))
        .cloned()
        .unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or(here)
}

enum Accepted {
    /// The ids of all jobs, the one to be named first.
    Queued(Vec<u32>),
    OnlyTested(String),
}

struct Submission<'a> {
    script: Vec<u8>,
    source: Source,
    args: Vec<String>,
    options: Options,
    caller: &'a Caller,
    now: Time,
}

impl Submission<'_> {
    /// Judges the request as the controller does, and queues it.
    fn submit(
        &self,
        cluster: &mut Cluster,
        spool: &Spool,
    ) -> std::result::Result<std::result::Result<Accepted, Exit>, SpoolError> {
        let request = match self.request(cluster) {
            Ok(request) => request,
            Err(exit) => return Ok(Err(exit)),
        };
        let first = cluster.take_id();
        let mut job = self.job(cluster, first, request);
        let most = cluster
            .partition(&job.request.partition)
            .into_iter()
            .flat_map(|partition| &partition.nodes)
            .filter_map(|node| cluster.node(node))
            .map(|node| node.memory_mb)
            .max()
            .unwrap_or(0);
        // More processors than a node has may come one day; memory is refused at once.
        let memory = match job.request.memory {
            MemoryMb::PerNode(mb) | MemoryMb::PerCpu(mb) => mb,
        };
        if memory > most {
            (job.state, job.reason) = (State::Failed, Reason::BadConstraints);
            job.exit.code = 1;
            job.ended = Some(self.now);
            cluster.jobs.insert(first, job);
            return Ok(Err(Exit::saying(
                1,
                format!(
                    "sbatch: error: Memory specification can not be satisfied\n\
                     {FAILED}Requested node configuration is not available"
                ),
            )));
        }
        if self.options.test_only {
            let nodes = schedule::would_start_on(cluster, &job);
            return Ok(Ok(Accepted::OnlyTested(format!(
                "sbatch: Job {first} to start at {} using {} processors on nodes {} in partition {}",
                self.now,
                job.request.cpus(),
                crate::hostlist::compress(&nodes),
                job.request.partition,
            ))));
        }
        let jobs = self.tasks(cluster, job);
        let mut ids: Vec<u32> = jobs.iter().map(|job| job.id).collect();
        ids.sort_unstable();
        let environment =
            environment::exported(&self.caller.variables, self.options.export.as_deref());
        for job in jobs {
            spool.store_job(job.id, &self.script, &environment)?;
            cluster.jobs.insert(job.id, job);
        }
        Ok(Ok(Accepted::Queued(ids)))
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
        Job {
            id,
            array: None,
            name,
            os: self.caller.os_ids(&account),
            user: account.name,
            uid: account.uid,
            gid: account.gid,
            request,
            submit_host: self.caller.host.clone(),
            submit_session: self.caller.session,
            submitted: self.now,
            eligible: self.options.begin.unwrap_or(self.now),
            started: None,
            ended: None,
            state: State::Pending,
            completing: false,
            reason: if self.options.hold {
                Reason::JobHeldUser
            } else {
                Reason::None
            },
            exit: Default::default(),
            held: self.options.hold,
            nodes: vec![],
            restarts: 0,
            knocks: vec![],
            warned: false,
        }
    }

    fn request(&self, cluster: &Cluster) -> std::result::Result<Request, Exit> {
        let options = &self.options;
        let failed = |why: &str| Exit::saying(1, format!("{FAILED}{why}"));
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
            qos: options.qos.clone(),
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

/// Waits until every job has ended; the worst exit code, 128 and the signal for a killed one.
fn wait_for(spool: &Spool, ids: &[u32]) -> u8 {
    loop {
        if let Ok(cluster) = spool.ask() {
            let jobs: Vec<&Job> = ids.iter().filter_map(|id| cluster.jobs.get(id)).collect();
            if jobs.iter().all(|job| job.is_finished()) {
                let code = |job: &&Job| match job.exit.signal {
                    0 => job.exit.code,
                    signal => 128 + signal,
                };
                return u8::try_from(jobs.iter().map(code).max().unwrap_or(0)).unwrap_or(u8::MAX);
            }
        }
        thread::sleep(WAIT_POLL);
    }
}
