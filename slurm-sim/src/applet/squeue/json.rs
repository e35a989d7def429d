//! `squeue --json`: the part of Slurm's OpenAPI v0.0.38 that a job here has values for.

use serde_json::{Value, json};

use crate::cluster::{Cluster, VERSION};
use crate::job::{Job, MemoryMb};
use crate::{account, hostlist, output};

pub(super) fn render(cluster: &Cluster, jobs: &[&Job]) -> String {
    let version: Vec<&str> = VERSION
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .split('.')
        .collect();
    let number = |at: usize| version.get(at).and_then(|text| text.parse::<u32>().ok());
    let document = json!({
        "meta": {
            "plugin": {"type": "openapi/v0.0.38", "name": "Slurm OpenAPI v0.0.38"},
            "Slurm": {
                "version": {"major": number(0), "micro": number(2), "minor": number(1)},
                "release": version.join("."),
            },
        },
        "errors": [],
        "jobs": jobs.iter().map(|job| describe(cluster, job)).collect::<Vec<_>>(),
    });
    serde_json::to_string_pretty(&document).expect("string keys")
}

/// A path as it was asked for, its letters not yet replaced; nothing where it was not.
fn written_path(job: &Job, pattern: &Option<String>) -> String {
    let path = pattern.as_ref().map(|path| job.request.work_dir.join(path));
    path.map_or_else(String::new, |path| path.display().to_string())
}

fn describe(cluster: &Cluster, job: &Job) -> Value {
    let request = &job.request;
    let seconds = |at: Option<crate::clock::Time>| at.map_or(0, crate::clock::Time::unix_seconds);
    let (per_cpu, per_node) = match request.memory {
        MemoryMb::PerCpu(mb) => (Some(mb), None),
        MemoryMb::PerNode(mb) => (None, Some(mb)),
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let fields = [
        ("account", json!(text(&request.account))),
        (
            "array_job_id",
            json!(job.array.as_ref().map_or(0, |array| array.job)),
        ),
        (
            "array_task_id",
            json!(job.array.as_ref().map(|array| array.task)),
        ),
        ("batch_flag", json!(true)),
        ("batch_host", json!(job.batch_host().unwrap_or_default())),
        ("cluster", json!(cluster.name)),
        ("command", json!(text(&request.command))),
        ("comment", json!(text(&request.comment))),
        ("cpus", json!(request.cpus())),
        // Recorded so, whatever was asked for.
        ("cpus_per_task", Value::Null),
        ("current_working_directory", json!(request.work_dir)),
        ("eligible_time", json!(job.eligible.unix_seconds())),
        (
            "end_time",
            json!(seconds(
                job.ended.or_else(|| job.deadline(cluster.knobs.minute))
            )),
        ),
        (
            "excluded_nodes",
            json!(hostlist::compress(&request.exclude)),
        ),
        ("exit_code", json!(job.exit.code << 8 | job.exit.signal)),
        ("group_id", json!(job.gid)),
        (
            "group_name",
            json!(account::group_name(job.gid, &cluster.virtual_users)),
        ),
        ("hold", json!(job.held)),
        ("job_id", json!(job.id)),
        ("job_state", json!(job.state_names().0)),
        ("memory_per_cpu", json!(per_cpu)),
        ("memory_per_node", json!(per_node)),
        ("name", json!(job.name)),
        (
            "node_count",
            json!(job.nodes.len().max(request.node_count as usize)),
        ),
        ("nodes", json!(hostlist::compress(&job.nodes))),
        ("partition", json!(request.partition)),
        ("priority", json!(job.priority())),
        ("qos", json!(text(&request.qos))),
        ("requeue", json!(request.requeue)),
        (
            "required_nodes",
            json!(hostlist::compress(&request.nodelist)),
        ),
        ("restart_cnt", json!(job.restarts)),
        ("standard_error", json!(written_path(job, &request.stderr))),
        ("standard_input", json!(output::stdin_path(job))),
        ("standard_output", json!(written_path(job, &request.stdout))),
        ("start_time", json!(seconds(job.started))),
        ("state_description", json!("")),
        ("state_reason", json!(job.reason.to_string())),
        ("submit_time", json!(job.submitted.unix_seconds())),
        ("tasks", json!(request.task_count())),
        ("time_limit", json!(request.limit_minutes)),
        ("user_id", json!(job.uid)),
        ("user_name", json!(job.user)),
    ];
    Value::Object(
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect(),
    )
}
