//! A batch script's environment: what the submitter's `--export` lets through, and what Slurm adds.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::cluster::Cluster;
use crate::hostlist;
use crate::job::{Job, MemoryMb};

/// Environment variables by name.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// What `--export=NONE` leaves: Slurm makes these anew from the user's login.
const LOGIN_VARIABLES: [&str; 7] = ["HOME", "LOGNAME", "MAIL", "PATH", "SHELL", "SHLVL", "USER"];

/// What keeps the commands of an embedded cluster working inside its jobs.
const HARNESS_VARIABLES: [&str; 2] = ["SLURM_SIM_SPOOL", "SLURM_SIM_USER"];

/// The part of the submitter's environment that `--export` lets through.
pub(crate) fn exported(submitter: &Variables, export: Option<&str>) -> Variables {
    let mut kept = Variables::new();
    let mut keep = |name: &str| {
        if let Some(value) = submitter.get(std::ffi::OsStr::new(name)) {
            kept.insert(name.into(), value.clone());
        }
    };
    HARNESS_VARIABLES.iter().for_each(|name| keep(name));
    let export = export.unwrap_or("ALL");
    let words: Vec<&str> = export.split(',').filter(|word| !word.is_empty()).collect();
    let is = |word: &str, keyword: &str| word.eq_ignore_ascii_case(keyword);
    if words.iter().any(|word| is(word, "ALL")) {
        kept.extend(submitter.clone());
    } else {
        LOGIN_VARIABLES.iter().for_each(|name| keep(name));
    }
    for word in words
        .iter()
        .filter(|word| !is(word, "ALL") && !is(word, "NONE"))
    {
        match word.split_once('=') {
            Some((name, value)) => {
                kept.insert(name.into(), value.into());
            }
            None => {
                if let Some(value) = submitter.get(std::ffi::OsStr::new(word)) {
                    kept.insert(word.into(), value.clone());
                }
            }
        }
    }
    kept
}

/// What Slurm sets for the batch script of `job` on `node`, but for SLURM_TASK_PID, which only the
/// process itself knows.
pub(crate) fn slurm_variables(cluster: &Cluster, job: &Job, node: &str) -> Vec<(String, String)> {
    let request = &job.request;
    let nodes = hostlist::compress(&job.nodes);
    let count = job.nodes.len();
    let on_every = |n: u32| {
        if count > 1 {
            format!("{n}(x{count})")
        } else {
            n.to_string()
        }
    };
    let node_id = job.nodes.iter().position(|name| name == node).unwrap_or(0);
    let mut set: Vec<(&str, String)> = vec![
        ("ENVIRONMENT", "BATCH".into()),
        ("HOSTNAME", node.into()),
        ("TMPDIR", "/tmp".into()),
        ("SLURMD_NODENAME", node.into()),
        ("SLURM_CLUSTER_NAME", cluster.name.clone()),
        ("SLURM_CONF", "/etc/slurm/slurm.conf".into()),
        ("SLURM_CPUS_ON_NODE", request.cpus_per_node().to_string()),
        ("SLURM_GTIDS", "0".into()),
        ("SLURM_JOBID", job.id.to_string()),
        ("SLURM_JOB_CPUS_PER_NODE", on_every(request.cpus_per_node())),
        ("SLURM_JOB_GID", job.gid.to_string()),
        ("SLURM_JOB_ID", job.id.to_string()),
        ("SLURM_JOB_NAME", job.name.clone()),
        ("SLURM_JOB_NODELIST", nodes.clone()),
        ("SLURM_JOB_NUM_NODES", count.to_string()),
        ("SLURM_JOB_PARTITION", request.partition.clone()),
        ("SLURM_JOB_UID", job.uid.to_string()),
        ("SLURM_JOB_USER", job.user.clone()),
        ("SLURM_LOCALID", "0".into()),
        ("SLURM_NNODES", count.to_string()),
        ("SLURM_NODEID", node_id.to_string()),
        ("SLURM_NODELIST", nodes),
        ("SLURM_NODE_ALIASES", "(null)".into()),
        ("SLURM_PRIO_PROCESS", "0".into()),
        ("SLURM_PROCID", "0".into()),
        ("SLURM_SUBMIT_DIR", request.submit_dir.display().to_string()),
        ("SLURM_SUBMIT_HOST", job.submit_host.clone()),
        ("SLURM_TASKS_PER_NODE", on_every(request.tasks_per_node())),
        ("SLURM_TOPOLOGY_ADDR", node.into()),
        ("SLURM_TOPOLOGY_ADDR_PATTERN", "node".into()),
        (
            "SLURM_WORKING_CLUSTER",
            format!("{}:{}:6817:9728:109", cluster.name, cluster.login),
        ),
    ];
    match request.memory {
        MemoryMb::PerCpu(mb) => set.push(("SLURM_MEM_PER_CPU", mb.to_string())),
        MemoryMb::PerNode(mb) => set.push(("SLURM_MEM_PER_NODE", mb.to_string())),
    }
    if let Some(account) = &request.account {
        set.push(("SLURM_JOB_ACCOUNT", account.clone()));
    }
    if let Some(cpus) = request.cpus_per_task {
        set.push(("SLURM_CPUS_PER_TASK", cpus.to_string()));
    }
    if let Some(tasks) = request.tasks {
        set.push(("SLURM_NTASKS", tasks.to_string()));
        set.push(("SLURM_NPROCS", tasks.to_string()));
    }
    if job.restarts > 0 {
        set.push(("SLURM_RESTART_COUNT", job.restarts.to_string()));
    }
    if let Some(array) = &job.array {
        set.extend([
            ("SLURM_ARRAY_JOB_ID", array.job.to_string()),
            ("SLURM_ARRAY_TASK_ID", array.task.to_string()),
            ("SLURM_ARRAY_TASK_COUNT", array.count.to_string()),
            ("SLURM_ARRAY_TASK_MIN", array.min.to_string()),
            ("SLURM_ARRAY_TASK_MAX", array.max.to_string()),
            ("SLURM_ARRAY_TASK_STEP", array.step.to_string()),
        ]);
    }
    set.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Knobs;
    use crate::job::tests::job;

    fn submitter() -> Variables {
        [
            ("HOME", "/home/alice"),
            ("SECRET", "x"),
            ("PATH", "/bin"),
            ("SLURM_SIM_USER", "alice"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into()
    }

    fn names(variables: &Variables) -> Vec<&str> {
        variables.keys().filter_map(|name| name.to_str()).collect()
    }

    #[test]
    fn export_chooses_what_goes_along() {
        assert_eq!(exported(&submitter(), None), submitter());
        let none = exported(&submitter(), Some("NONE"));
        assert_eq!(names(&none), ["HOME", "PATH", "SLURM_SIM_USER"]);
        let some = exported(&submitter(), Some("SECRET,NEW=1"));
        assert_eq!(
            names(&some),
            ["HOME", "NEW", "PATH", "SECRET", "SLURM_SIM_USER"]
        );
        let all = exported(&submitter(), Some("ALL,NEW=1"));
        assert_eq!(
            names(&all),
            ["HOME", "NEW", "PATH", "SECRET", "SLURM_SIM_USER"]
        );
    }

    #[test]
    fn a_plain_job_gets_the_recorded_variables() {
        let cluster = Cluster::new(vec![], vec![], Knobs::default());
        let mut job = job(1);
        job.nodes = vec!["node01".into()];
        let set: BTreeMap<_, _> = slurm_variables(&cluster, &job, "node01")
            .into_iter()
            .collect();
        for (name, value) in [
            ("SLURM_MEM_PER_CPU", "100"),
            ("SLURM_TASKS_PER_NODE", "1"),
            ("SLURM_WORKING_CLUSTER", "sim:login:6817:9728:109"),
            ("SLURM_JOB_CPUS_PER_NODE", "1"),
        ] {
            assert_eq!(set.get(name).map(String::as_str), Some(value), "{name}");
        }
        for absent in ["SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_RESTART_COUNT"] {
            assert!(!set.contains_key(absent), "{absent}");
        }
    }
}
