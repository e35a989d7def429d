//! `srun --overlap --jobid`: a command joins a running job.

use crate::sim::{Done, Sim, alive, eventually};

const SLEEPER: &str = "#!/bin/bash\nsleep 300\n";

fn running() -> (Sim, String) {
    let sim = Sim::new(&["--kill-wait", "1"]);
    let job = sim.submits("", SLEEPER);
    sim.awaits_state(&job, "RUNNING");
    (sim, job)
}

impl Sim {
    fn step(&self, job: &str, command: &str, input: &str) -> Done {
        let line = format!("srun --overlap --jobid={job} --quiet {command}");
        self.run_with_input("alice", &line, input)
    }
}

#[test]
fn a_step_has_its_streams_its_variables_and_its_exit_code() {
    let (sim, job) = running();
    let input = "0123456789abcdef".repeat(1 << 18);
    assert_eq!(sim.step(&job, "cat", &input).out, input);
    let ids = sim.step(&job, "sh -c 'echo $SLURM_JOB_ID.$SLURM_STEP_ID'", "");
    assert_eq!(ids.ok(), format!("{job}.1"));
    let failed = sim.step(&job, "sh -c 'echo oops >&2; exit 3'", "");
    assert_eq!(failed.code, 3, "{failed:?}");
    assert!(failed.err.starts_with("oops\n"), "{failed:?}");
    let absent = sim.step(&job, "no-such-program", "");
    assert_eq!(absent.code, 2, "{absent:?}");
    assert!(
        absent
            .err
            .contains("error: execve(): no-such-program: No such file or directory"),
        "{absent:?}"
    );
}

#[test]
fn a_step_is_refused_to_strangers_and_without_a_running_job() {
    let (sim, job) = running();
    let stranger = sim.run("bob", &format!("srun --overlap --jobid={job} true"));
    assert_eq!(stranger.code, 1, "{stranger:?}");
    assert!(
        stranger.err.contains("Access/permission denied"),
        "{stranger:?}"
    );
    let absent = sim.step("99999", "true", "");
    assert_eq!(absent.code, 1, "{absent:?}");
    assert!(
        absent.err.contains("Invalid job id specified"),
        "{absent:?}"
    );
}

#[test]
fn what_is_said_goes_through_at_once() {
    let (sim, job) = running();
    let line = format!(
        "(echo hello; until [ -e heard ]; do sleep 0.02; done) | srun --overlap --jobid={job} cat | \
         (read -r word; echo \"$word\"; touch heard; cat)"
    );
    assert_eq!(
        sim.run("alice", &format!("timeout 10 sh -c '{line}'")).ok(),
        "hello"
    );
}

#[test]
fn a_step_needs_a_job_that_runs() {
    let sim = Sim::new(&["--kill-wait", "1"]);
    let waits = sim.submits("--hold", SLEEPER);
    let pending = sim.step(&waits, "true", "");
    assert_eq!(pending.code, 1, "{pending:?}");
    assert!(
        pending.err.contains("Job is pending execution"),
        "{pending:?}"
    );
    let ends = sim.submits("", "#!/bin/bash\ntrue\n");
    sim.awaits_state(&ends, "COMPLETED");
    let ended = sim.step(&ends, "true", "");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("has expired"), "{ended:?}");
}

#[test]
fn a_step_ends_with_its_srun() {
    let (sim, job) = running();
    let line = format!(
        "srun --overlap --jobid={job} sh -c 'echo $$ >step.tmp; mv step.tmp step.pid; exec sleep 300' & \
         until [ -e step.pid ]; do sleep 0.02; done; kill -9 $!"
    );
    sim.run("alice", &line);
    let pid = sim.read("step.pid").trim().parse().expect("a pid");
    eventually("the step ends", || (!alive(pid)).then_some(()));
}

#[test]
fn a_step_ends_with_its_job() {
    for mode in ["cgroup", "linuxproc"] {
        let sim = Sim::new(&["--kill-wait", "1", "--kill-mode", mode]);
        let job = sim.submits("", SLEEPER);
        sim.awaits_state(&job, "RUNNING");
        let line = format!(
            "(until [ -e step.pid ]; do sleep 0.02; done; scancel {job}) & \
             srun --overlap --jobid={job} sh -c 'trap \"\" TERM; echo $$ >step.tmp; mv step.tmp step.pid; while :; do sleep 0.1; done'"
        );
        let done = sim.run("alice", &line);
        assert_eq!(done.code, 137, "{mode} {done:?}");
        assert!(
            done.err.contains(&format!("*** STEP {job}.0 ON ")),
            "{mode} {done:?}"
        );
        let pid = sim.read("step.pid").trim().parse().expect("a pid");
        eventually("the step ends", || (!alive(pid)).then_some(()));
    }
}
