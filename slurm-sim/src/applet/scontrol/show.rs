//! `scontrol show`.

use std::collections::BTreeSet;

use super::ping;
use crate::applet::job_word::JobWord;
use crate::applet::squeue::fields::{reason, run_secs, start};
use crate::applet::{Caller, Exit, Io, Result, unreachable};
use crate::clock::Time;
use crate::cluster::{
    Cluster, DEFAULT_MEMORY_MB_PER_CPU, Health, Healths, KillMode, Node, Partition, VERSION,
};
use crate::job::{ArrayTask, Job, MemoryMb, State};
use crate::{account, dependency, hostlist, output, units};

pub(super) fn run(what: &[&str], oneliner: bool, caller: &Caller, io: &mut Io<'_>) -> Result {
    let [word, rest @ ..] = what else {
        return Err(Exit::saying(1, "too few arguments for keyword:show"));
    };
    // `job 1` and `JobId=1` are the same.
    let (kind, with) = word
        .split_once('=')
        .map_or((*word, None), |(kind, name)| (kind, Some(name)));
    let kind = &*kind.to_ascii_lowercase();
    let name = with.or_else(|| rest.first().copied());
    match kind {
        "hostnames" => return host_names(name, caller, io),
        "hostlist" | "hostlistsorted" => {
            let mut names: Vec<&str> = name.unwrap_or_default().split(',').collect();
            if kind == "hostlistsorted" {
                names.sort_unstable();
            }
            io.say(hostlist::compress(&names));
            return Ok(Exit::OK);
        }
        "job" | "jobs" | "jobid" | "node" | "nodes" | "partition" | "partitions" | "config" => {}
        _ => {
            return Err(Exit::saying(
                1,
                format!("invalid entity:{word} for keyword:show "),
            ));
        }
    }
    let spool = caller.spool();
    let prefix = match kind {
        "job" | "jobs" | "jobid" => "slurm_load_jobs error: ",
        "node" | "nodes" => "slurm_load_node error: ",
        _ => "slurm_load_partitions error: ",
    };
    let cluster = spool.ask().map_err(unreachable(1, prefix))?;
    let now = Time::now();
    let records = match kind {
        "config" => {
            config(&cluster, now).iter().for_each(|line| io.say(line));
            return Ok(ping(&cluster, io));
        }
        "job" | "jobs" | "jobid" => jobs(&cluster, name, now)?,
        "node" | "nodes" => {
            let health = spool.health(&cluster, now);
            let nodes: Vec<&Node> = cluster
                .nodes
                .iter()
                .filter(|node| name.is_none_or(|name| node.name == name))
                .collect();
            if nodes.is_empty() {
                io.say(format!("Node {} not found", name.unwrap_or_default()));
                return Err(Exit::code(1));
            }
            nodes
                .into_iter()
                .map(|node| node_record(&cluster, &health, node, now))
                .collect()
        }
        _ => {
            let found: Vec<&Partition> = cluster
                .partitions
                .iter()
                .filter(|partition| name.is_none_or(|name| partition.name == name))
                .collect();
            if found.is_empty() {
                io.say(format!("Partition {} not found", name.unwrap_or_default()));
                return Err(Exit::code(1));
            }
            found
                .into_iter()
                .map(|partition| partition_record(&cluster, partition))
                .collect()
        }
    };
    for record in records {
        io.say(print(&record, oneliner));
    }
    Ok(Exit::OK)
}

fn host_names(list: Option<&str>, caller: &Caller, io: &mut Io<'_>) -> Result {
    let Some(list) = list.or_else(|| caller.variable("SLURM_JOB_NODELIST")) else {
        return Err(Exit::saying(0, "scontrol: error: host list is empty"));
    };
    // scontrol takes no text behind a range, unlike others.
    let suffixed = list
        .split(']')
        .skip(1)
        .any(|rest| !rest.is_empty() && !rest.starts_with(','));
    match hostlist::expand(list).filter(|_| !suffixed) {
        Some(names) => names.iter().for_each(|name| io.say(name)),
        None => return Err(Exit::saying(0, format!("Invalid hostlist: {list}"))),
    }
    Ok(Exit::OK)
}

/// The part of the configuration that a simulated cluster has values for.
fn config(cluster: &Cluster, now: Time) -> Vec<String> {
    let knobs = &cluster.knobs;
    let proctrack = match knobs.kill_mode {
        KillMode::Cgroup => "proctrack/cgroup",
        KillMode::Linuxproc => "proctrack/linuxproc",
    };
    let secs = |span: std::time::Duration| format!("{} sec", span.as_secs());
    let version = VERSION.rsplit(' ').next().unwrap_or_default();
    let lines = [
        (
            "AccountingStorageType",
            "accounting_storage/none".to_owned(),
        ),
        ("ClusterName", cluster.name.clone()),
        ("DefMemPerCPU", DEFAULT_MEMORY_MB_PER_CPU.to_string()),
        ("JobRequeue", "1".to_owned()),
        ("KillWait", secs(knobs.kill_wait)),
        ("MinJobAge", secs(knobs.min_job_age)),
        ("PriorityType", "priority/basic".to_owned()),
        ("ProctrackType", proctrack.to_owned()),
        ("SchedulerType", "sched/backfill".to_owned()),
        ("SelectType", "select/cons_tres".to_owned()),
        ("SlurmctldHost[0]", cluster.login.clone()),
        ("SlurmdTimeout", secs(knobs.node_timeout)),
        ("SLURM_VERSION", version.to_owned()),
    ];
    let mut text = vec![format!("Configuration data as of {now}")];
    text.extend(lines.map(|(name, value)| format!("{name:<23} = {value}")));
    text.push(String::new());
    text
}

/// Lines of a record; in one line they are joined by single blanks.
fn print(record: &[String], oneliner: bool) -> String {
    if oneliner {
        record.join(" ")
    } else {
        record.join("\n   ") + "\n"
    }
}

fn jobs(
    cluster: &Cluster,
    name: Option<&str>,
    now: Time,
) -> std::result::Result<Vec<Vec<String>>, Exit> {
    let Some(name) = name else {
        if cluster.jobs.is_empty() {
            return Ok(vec![vec!["No jobs in the system".into()]]);
        }
        let jobs = cluster.jobs.values();
        return Ok(records(cluster, jobs, now, true));
    };
    let Some(word) = JobWord::parse(name) else {
        let why = "scontrol_print_job error: Invalid job id specified";
        return Err(Exit::saying(1, why));
    };
    let found = records(cluster, word.jobs(cluster), now, !name.contains('_'));
    if found.is_empty() {
        return Err(Exit::saying(
            1,
            "slurm_load_jobs error: Invalid job id specified",
        ));
    }
    Ok(found)
}

fn records<'a>(
    cluster: &Cluster,
    jobs: impl Iterator<Item = &'a Job>,
    now: Time,
    together: bool,
) -> Vec<Vec<String>> {
    let mut arrays = BTreeSet::new();
    let first_of_its = |job: &&Job| match &job.array {
        Some(array) if together && job.state == State::Pending => arrays.insert(array.job),
        _ => true,
    };
    jobs.filter(first_of_its)
        .map(|job| job_record(cluster, job, now, together))
        .collect()
}

/// A task that waits has no number of its own yet.
fn shown_id(job: &Job) -> u32 {
    match &job.array {
        Some(array) if job.state == State::Pending => array.job,
        _ => job.id,
    }
}

/// The tasks that a record is of: those that wait are one, unless a single one is asked for.
fn tasks(cluster: &Cluster, job: &Job, array: &ArrayTask, together: bool) -> String {
    if !together || job.state != State::Pending {
        return array.task.to_string();
    }
    let waiting = cluster
        .jobs_of(array.job)
        .filter(|other| other.state == State::Pending);
    let mut tasks: Vec<u32> = waiting
        .filter_map(|other| Some(other.array.as_ref()?.task))
        .collect();
    tasks.sort_unstable();
    let tasks: Vec<String> = tasks.iter().map(u32::to_string).collect();
    hostlist::ranges(&tasks)
}

/// `together`: the record stands for all tasks of its array that wait.
fn job_record(cluster: &Cluster, job: &Job, now: Time, together: bool) -> Vec<String> {
    let request = &job.request;
    let or_null = |text: Option<&str>| text.unwrap_or("(null)").to_owned();
    let list = |names: &[String]| match names {
        [] => "(null)".to_owned(),
        names => hostlist::compress(names),
    };
    let at = |time: Option<Time>| time.map_or_else(|| "Unknown".into(), |at| at.to_string());
    let limit = request.limit_minutes.map_or_else(
        || "UNLIMITED".into(),
        |minutes| units::long_span(minutes * 60),
    );
    let (cpus, nodes) = (request.cpus(), request.node_count);
    let group = account::group_name(job.gid, &cluster.virtual_users);
    let memory = match request.memory {
        MemoryMb::PerCpu(mb) => format!("MinMemoryCPU={}", units::memory(mb)),
        MemoryMb::PerNode(mb) => format!("MinMemoryNode={}", units::memory(mb)),
    };
    let total = units::memory(request.memory_mb_per_node() * u64::from(nodes));
    let stdout = output::stdout_path(job);
    let stderr = output::stderr_path(job).unwrap_or_else(|| stdout.clone());
    let mut record = vec![match &job.array {
        None => format!("JobId={} JobName={}", job.id, job.name),
        Some(array) => format!(
            "JobId={} ArrayJobId={} ArrayTaskId={} JobName={}",
            shown_id(job),
            array.job,
            tasks(cluster, job, array, together),
            job.name
        ),
    }];
    record.extend([
        format!(
            "UserId={}({}) GroupId={group}({}) MCS_label=N/A",
            job.user, job.uid, job.gid
        ),
        format!(
            "Priority={} Nice=0 Account={} QOS={}",
            job.priority(),
            or_null(request.account.as_deref()),
            or_null(request.qos.as_deref())
        ),
        format!(
            "JobState={} Reason={} Dependency={}",
            job.state_names().0,
            reason(cluster, job),
            dependency::show(job, cluster)
        ),
        format!(
            "Requeue={} Restarts={} BatchFlag=1 Reboot=0 ExitCode={}",
            u8::from(request.requeue),
            job.restarts,
            job.exit
        ),
        format!(
            "RunTime={} TimeLimit={limit} TimeMin=N/A",
            units::long_span(run_secs(job, now))
        ),
        format!("SubmitTime={} EligibleTime={}", job.submitted, job.eligible),
        format!("AccrueTime={}", at(accrues_since(job, now))),
        format!(
            "StartTime={} EndTime={} Deadline=N/A",
            at(start(job, now)),
            at(end(cluster, job, now))
        ),
        format!(
            "SuspendTime=None SecsPreSuspend=0 LastSchedEval={} Scheduler=Main",
            job.started.unwrap_or(job.submitted)
        ),
        format!(
            "Partition={} AllocNode:Sid={}:{}",
            request.partition, job.submit_host, job.submit_session
        ),
        format!(
            "ReqNodeList={} ExcNodeList={}",
            list(&request.nodelist),
            list(&request.exclude)
        ),
        format!(
            "NodeList={}",
            if job.nodes.is_empty() {
                String::new()
            } else {
                list(&job.nodes)
            }
        ),
    ]);
    record.extend(job.batch_host().map(|host| format!("BatchHost={host}")));
    record.extend([
        format!(
            "NumNodes={} NumCPUs={cpus} NumTasks={} CPUs/Task={} ReqB:S:C:T=0:0:*:*",
            node_range(job),
            request.task_count(),
            request.cpus_per_task.unwrap_or(1)
        ),
        format!("TRES=cpu={cpus},mem={total},node={nodes},billing={cpus}"),
        "Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=*".into(),
        format!(
            "MinCPUsNode={} {memory} MinTmpDiskNode=0",
            request.cpus_per_task.unwrap_or(1)
        ),
        "Features=(null) DelayBoot=00:00:00".into(),
        "OverSubscribe=OK Contiguous=0 Licenses=(null) Network=(null)".into(),
        format!("Command={}", command(job)),
        format!("WorkDir={}", request.work_dir.display()),
    ]);
    record.extend(
        request
            .comment
            .as_ref()
            .map(|comment| format!("Comment={comment} ")),
    );
    record.extend([
        format!("StdErr={}", stderr.display()),
        format!("StdIn={}", output::stdin_path(job).display()),
        format!("StdOut={}", stdout.display()),
        "Power=".into(),
        String::new(),
    ]);
    record
}

/// Since when it gains by its age: not while it is held or may not begin.
fn accrues_since(job: &Job, now: Time) -> Option<Time> {
    let waits = job.state == State::Pending && (job.held || job.eligible > now);
    (!waits).then_some(job.eligible)
}

/// When it ended, or is to end, counted for a job that is put off from when it is to start.
fn end(cluster: &Cluster, job: &Job, now: Time) -> Option<Time> {
    let planned = || {
        let minutes = u32::try_from(job.request.limit_minutes?).ok()?;
        Some(start(job, now)? + cluster.knobs.minute.saturating_mul(minutes))
    };
    job.ended
        .or_else(|| job.deadline(cluster.knobs.minute))
        .or_else(planned)
}

/// How many nodes it has, or may be given.
fn node_range(job: &Job) -> String {
    match &job.request.most_nodes {
        Some(most) if job.state == State::Pending => format!("{}-{most}", job.request.node_count),
        _ => job.request.node_count.to_string(),
    }
}

fn command(job: &Job) -> String {
    let Some(command) = &job.request.command else {
        return "(null)".into();
    };
    let args = job.request.script_args.iter().map(String::as_str);
    [command.as_str()]
        .into_iter()
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

fn partition_record(cluster: &Cluster, partition: &Partition) -> Vec<String> {
    let nodes: Vec<&Node> = partition
        .nodes
        .iter()
        .filter_map(|node| cluster.node(node))
        .collect();
    let cpus: u32 = nodes.iter().map(|node| node.cpus).sum();
    let memory: u64 = nodes.iter().map(|node| node.memory_mb).sum();
    let yes = if partition.default { "YES" } else { "NO" };
    vec![
        format!("PartitionName={}", partition.name),
        "AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL".into(),
        format!("AllocNodes=ALL Default={yes} QoS=N/A"),
        format!(
            "DefaultTime={} DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO",
            units::long_span(partition.default_minutes * 60)
        ),
        format!(
            "MaxNodes=UNLIMITED MaxTime={} MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED",
            units::long_span(partition.max_minutes * 60)
        ),
        format!("Nodes={}", hostlist::compress(&partition.nodes)),
        "PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO".into(),
        "OverTimeLimit=NONE PreemptMode=OFF".into(),
        format!(
            "State=UP TotalCPUs={cpus} TotalNodes={} SelectTypeParameters=NONE",
            nodes.len()
        ),
        "JobDefaults=(null)".into(),
        "DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED".into(),
        format!(
            "TRES=cpu={cpus},mem={memory}M,node={},billing={cpus}",
            nodes.len()
        ),
    ]
}

fn node_record(cluster: &Cluster, health: &Healths, node: &Node, now: Time) -> Vec<String> {
    let (cpus, memory) = cluster.occupied(&node.name);
    let health = health.get(&node.name).copied().unwrap_or(Health::Unknown);
    let state = match (health, cpus) {
        (Health::Unknown, _) => "UNKNOWN",
        (Health::Down, _) => "DOWN",
        _ if node.put_down => "DOWN",
        (_, 0) => "IDLE",
        (_, used) if used >= node.cpus => "ALLOCATED",
        _ => "MIXED",
    };
    let silent = matches!(health, Health::Silent | Health::Down);
    let partitions: Vec<&str> = cluster
        .partitions
        .iter()
        .filter(|partition| partition.nodes.contains(&node.name))
        .map(|partition| partition.name.as_str())
        .collect();
    let (all, mb) = (node.cpus, units::memory(node.memory_mb));
    let allocated = match cpus {
        0 => String::new(),
        _ => format!("cpu={cpus},mem={}", units::memory(memory)),
    };
    let mut record = vec![
        format!("NodeName={} Arch=x86_64 CoresPerSocket=1 ", node.name),
        format!("CPUAlloc={cpus} CPUEfctv={all} CPUTot={all} CPULoad=0.00"),
        "AvailableFeatures=(null)".into(),
        "ActiveFeatures=(null)".into(),
        "Gres=(null)".into(),
        format!("NodeAddr={0} NodeHostName={0} Version=22.05.8", node.name),
        format!(
            "RealMemory={} AllocMem={memory} FreeMem={} Sockets={all} Boards=1",
            node.memory_mb,
            node.memory_mb.saturating_sub(memory)
        ),
        format!(
            "State={state}{}{} ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A",
            if silent { "*" } else { "" },
            if node.drained { "+DRAIN" } else { "" }
        ),
        format!("Partitions={} ", partitions.join(",")),
        format!("LastBusyTime={now}"),
        format!("CfgTRES=cpu={all},mem={mb},billing={all}"),
        format!("AllocTRES={allocated}"),
        "CapWatts=n/a".into(),
        "CurrentWatts=0 AveWatts=0".into(),
        "ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s".into(),
    ];
    if health == Health::Down {
        record.push("Reason=Not responding".into());
    } else if let Some((reason, since)) = &node.reason {
        record.push(format!("Reason={reason} [root@{since}]"));
    }
    record
}
