//! `scontrol show`.

use crate::applet::job_word::JobWord;
use crate::applet::squeue::fields::{run_secs, start};
use crate::applet::{Caller, Exit, Io, Result, unreachable};
use crate::clock::Time;
use crate::cluster::{Cluster, Health, Healths, Node, Partition};
use crate::job::{Job, MemoryMb, State};
use crate::{account, hostlist, output, units};

pub(super) fn run(what: &[&str], oneliner: bool, caller: &Caller, io: &mut Io<'_>) -> Result {
    let [kind, rest @ ..] = what else {
        return Err(Exit::saying(1, "too few arguments for keyword:show"));
    };
    let name = rest.first().copied();
    match *kind {
        "hostnames" => {
            let list = name.or_else(|| caller.variable("SLURM_JOB_NODELIST"));
            let names = list.and_then(hostlist::expand).ok_or_else(|| {
                Exit::saying(1, format!("Invalid hostlist: {}", list.unwrap_or_default()))
            })?;
            names.iter().for_each(|name| io.say(name));
            return Ok(Exit::OK);
        }
        "hostlist" | "hostlistsorted" => {
            let names: Vec<&str> = name.unwrap_or_default().split(',').collect();
            io.say(hostlist::compress(&names));
            return Ok(Exit::OK);
        }
        "job" | "jobs" | "node" | "nodes" | "partition" | "partitions" => {}
        other => {
            return Err(Exit::saying(
                1,
                format!("invalid entity:{other} for keyword:show "),
            ));
        }
    }
    let spool = caller.spool();
    let prefix = match *kind {
        "job" | "jobs" => "slurm_load_jobs error: ",
        "node" | "nodes" => "slurm_load_node error: ",
        _ => "slurm_load_partitions error: ",
    };
    let cluster = spool.ask().map_err(unreachable(1, prefix))?;
    let now = Time::now();
    let records = match *kind {
        "job" | "jobs" => jobs(&cluster, name, now)?,
        "node" | "nodes" => {
            let health = spool.health(&cluster, now);
            let nodes: Vec<&Node> = cluster
                .nodes
                .iter()
                .filter(|node| name.is_none_or(|name| node.name == name))
                .collect();
            let missing = || Exit::saying(1, format!("Node {} not found", name.unwrap_or("")));
            if nodes.is_empty() {
                return Err(missing());
            }
            nodes
                .into_iter()
                .map(|node| node_record(&cluster, &health, node))
                .collect()
        }
        _ => {
            let found: Vec<&Partition> = cluster
                .partitions
                .iter()
                .filter(|partition| name.is_none_or(|name| partition.name == name))
                .collect();
            if found.is_empty() {
                let name = name.unwrap_or_default();
                return Err(Exit::saying(1, format!("Partition {name} not found")));
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
        return Ok(cluster
            .jobs
            .values()
            .map(|job| job_record(cluster, job, now))
            .collect());
    };
    let found: Vec<_> = JobWord::parse(name)
        .into_iter()
        .flat_map(|word| word.jobs(cluster))
        .map(|job| job_record(cluster, job, now))
        .collect();
    if found.is_empty() {
        return Err(Exit::saying(
            1,
            "slurm_load_jobs error: Invalid job id specified",
        ));
    }
    Ok(found)
}

fn job_record(cluster: &Cluster, job: &Job, now: Time) -> Vec<String> {
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
            job.id, array.job, array.task, job.name
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
            "JobState={} Reason={} Dependency=(null)",
            job.state_names().0,
            job.reason
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
        format!("AccrueTime={}", job.eligible),
        format!(
            "StartTime={} EndTime={} Deadline=N/A",
            at(start(job, now)),
            at(job.ended.or_else(|| job.deadline(cluster.knobs.minute)))
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
            "NumNodes={nodes} NumCPUs={cpus} NumTasks={} CPUs/Task={} ReqB:S:C:T=0:0:*:*",
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
        format!("Command={}", or_null(request.command.as_deref())),
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
    ]);
    record
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
        "DefMemPerCPU=100 MaxMemPerNode=UNLIMITED".into(),
        format!(
            "TRES=cpu={cpus},mem={memory}M,node={},billing={cpus}",
            nodes.len()
        ),
    ]
}

fn node_record(cluster: &Cluster, health: &Healths, node: &Node) -> Vec<String> {
    let (cpus, memory) = cluster.occupied(&node.name);
    let health = health.get(&node.name).copied().unwrap_or(Health::Unknown);
    let state = match (health, cpus) {
        (Health::Unknown, _) => "UNKNOWN",
        (Health::Down, _) => "DOWN",
        (_, 0) => "IDLE",
        (_, used) if used >= node.cpus => "ALLOCATED",
        _ => "MIXED",
    };
    let silent = matches!(health, Health::Silent | Health::Down);
    let running = |job: &&Job| job.state == State::Running && job.nodes.contains(&node.name);
    let partitions: Vec<&str> = cluster
        .partitions
        .iter()
        .filter(|partition| partition.nodes.contains(&node.name))
        .map(|partition| partition.name.as_str())
        .collect();
    let mut record = vec![
        format!("NodeName={} Arch=x86_64", node.name),
        format!("CPUAlloc={cpus} CPUTot={} CPULoad=0.00", node.cpus),
        format!("NodeAddr={0} NodeHostName={0} Version=22.05.8", node.name),
        format!("RealMemory={} AllocMem={memory}", node.memory_mb),
        format!(
            "State={state}{}{}",
            if silent { "*" } else { "" },
            if node.drained { "+DRAIN" } else { "" }
        ),
        format!("Partitions={} ", partitions.join(",")),
        format!(
            "AllocTRES=cpu={cpus},mem={memory}M Jobs={}",
            cluster.jobs.values().filter(running).count()
        ),
    ];
    if health == Health::Down {
        record.push("Reason=Not responding".into());
    }
    record
}
