//! A job's states through time, and what brings it from one to the next.

use nix::sys::signal::Signal;

use crate::sim::{Sim, eventually};

/// What squeue shows of a job as it lives.
const SHOWN: &str = "%T|%t|%r|%N";

impl Sim {
    #[track_caller]
    fn awaits_shown(&self, job: &str, shown: &str) {
        self.awaits(&format!("squeue -h -t all -j {job} -o '{SHOWN}'"), shown);
    }

    fn lets_go(&self) {
        self.write("go", "");
    }
}

/// A script that ends when it is told to.
const UNTIL_GO: &str = "until [ -e go ]; do sleep 0.02; done\n";

#[test]
fn a_job_that_does_well() {
    let sim = Sim::new(&["--queue-delay", "3600"]);
    let job = sim.submits("", UNTIL_GO);
    sim.awaits_shown(&job, "PENDING|PD|None|");
    sim.control(&["queue-delay", "0"]);
    sim.awaits_shown(&job, "RUNNING|R|None|node01");
    sim.lets_go();
    sim.awaits_shown(&job, "COMPLETED|CD|None|node01");
}

#[test]
fn a_job_that_fails() {
    let sim = Sim::new(&[]);
    let job = sim.submits("", "exit 3");
    sim.awaits_shown(&job, "FAILED|F|NonZeroExitCode|node01");
    assert_eq!(sim.shows(&job, "ExitCode"), "3:0");
}

#[test]
fn a_job_that_kills_itself() {
    let sim = Sim::new(&[]);
    let job = sim.submits("", "kill -9 $$");
    sim.awaits_shown(&job, "FAILED|F|JobLaunchFailure|node01");
    assert_eq!(sim.shows(&job, "ExitCode"), "0:9");
}

#[test]
fn a_cancelled_job_ends_at_once_and_its_output_says_so() {
    let sim = Sim::new(&[]);
    let job = sim.submits("", "echo up >ready; exec sleep 1000");
    sim.awaits_file("ready");
    sim.run("alice", &format!("scancel {job}")).ok();
    sim.awaits_shown(&job, "CANCELLED|CA|None|node01");
    assert_eq!(sim.shows(&job, "ExitCode"), "0:15");
    let output = sim.read("slurm-1.out");
    let line = "slurmstepd-node01: error: *** JOB 1 ON node01 CANCELLED AT {time} ***\n";
    assert!(crate::pattern::matches(line, &output), "{output}");
}

#[test]
fn a_cancelled_job_is_completing_for_as_long_as_it_takes() {
    let sim = Sim::new(&[]);
    let trap = "trap 'until [ -e go ]; do sleep 0.02; done; exit 143' TERM\n";
    let job = sim.submits("", &format!("{trap}echo up >ready; sleep 1000 & wait"));
    sim.awaits_file("ready");
    sim.run("alice", &format!("scancel {job}")).ok();
    sim.awaits_shown(&job, "COMPLETING|CG|None|node01");
    sim.lets_go();
    sim.awaits_shown(&job, "CANCELLED|CA|None|node01");
    assert_eq!(sim.shows(&job, "ExitCode"), "143:0");
}

#[test]
fn a_job_that_will_not_end_is_killed_after_the_kill_wait() {
    let sim = Sim::new(&["--kill-wait", "0.3"]);
    let job = sim.submits(
        "",
        "trap '' TERM; echo up >ready; while :; do sleep 0.02; done",
    );
    sim.awaits_file("ready");
    sim.run("alice", &format!("scancel {job}")).ok();
    sim.awaits_shown(&job, "CANCELLED|CA|None|node01");
    assert_eq!(sim.shows(&job, "ExitCode"), "0:9");
}

#[test]
fn a_time_limit_is_enforced_late_and_shown_as_invalid_until_then() {
    let sim = Sim::new(&["--minute", "0.3"]);
    sim.control(&["limit-lateness", "3600"]);
    let trap = "trap 'until [ -e go ]; do sleep 0.02; done; exit 0' TERM\n";
    let job = sim.submits(
        "--time=1",
        &format!("{trap}echo up >ready; sleep 1000 & wait"),
    );
    sim.awaits_file("ready");
    sim.awaits(&format!("squeue -h -j {job} -o '%T %L'"), "RUNNING INVALID");
    sim.control(&["limit-lateness", "0"]);
    sim.awaits_shown(&job, "COMPLETING|CG|TimeLimit|node01");
    assert_eq!(
        sim.run("alice", &format!("squeue -h -j {job} -o %L")).ok(),
        "INVALID"
    );
    sim.lets_go();
    sim.awaits_shown(&job, "TIMEOUT|TO|TimeLimit|node01");
    let output = sim.read("slurm-1.out");
    assert!(output.contains(" DUE TO TIME LIMIT ***\n"), "{output}");
}

#[test]
fn a_warning_comes_before_the_time_limit() {
    let sim = Sim::new(&[]);
    let script = "trap 'echo warned >warned; exit 0' USR1; echo up >ready; sleep 1000 & wait";
    let job = sim.submits("--time=60 --signal=B:USR1@60", script);
    sim.awaits_file("ready");
    assert_eq!(sim.read("warned"), "");
    // The last minute begins at once, and lasts.
    sim.control(&["limit-lateness", "3600"]);
    sim.control(&["minute", "0"]);
    sim.awaits_file("warned");
    sim.awaits_shown(&job, "COMPLETED|CD|None|node01");
}

#[test]
fn a_requeued_job_waits_and_runs_again_under_the_same_id() {
    let sim = Sim::new(&["--requeue-delay", "3600"]);
    let script = "trap 'until [ -e go ]; do sleep 0.02; done; exit 143' TERM\n\
        echo \"run ${SLURM_RESTART_COUNT:-first} on $SLURMD_NODENAME\" >>runs\nsleep 1000 & wait";
    let job = sim.submits("--open-mode=append", script);
    assert_eq!(sim.awaits_file("runs"), "run first on node01\n");
    sim.control(&["drain", "node01"]);
    sim.run("alice", &format!("scontrol requeue {job}")).ok();
    sim.awaits_shown(&job, "COMPLETING|CG|None|node01");
    sim.lets_go();
    sim.awaits_shown(&job, "PENDING|PD|BeginTime|");
    assert_eq!(sim.shows(&job, "Restarts"), "1");
    let start = sim.run("alice", &format!("squeue -h -j {job} -o %S")).ok();
    let now = sim.run("alice", "date +%Y-%m-%dT%H:%M:%S").ok();
    assert!(start > now, "it is put to start in the future: {start}");

    // As long as the delay that was set when it was requeued lasts, it stays; another job's is new.
    let again = sim.submits(
        "--open-mode=append",
        "echo \"$SLURM_RESTART_COUNT\" >>again; sleep 1000",
    );
    sim.awaits_file("again");
    sim.control(&["requeue-delay", "0"]);
    sim.run("alice", &format!("scontrol requeue {again}")).ok();
    eventually("the second run has its count", || {
        sim.read("again").ends_with("1\n").then_some(())
    });
    let output = sim.read(&format!("slurm-{again}.out"));
    assert!(output.contains(" DUE TO JOB REQUEUE ***\n"), "{output}");
}

#[test]
fn a_job_that_declines_is_not_requeued() {
    let sim = Sim::new(&[]);
    let job = sim.submits("--no-requeue", "sleep 1000");
    sim.awaits_state(&job, "RUNNING");
    let done = sim.run("alice", &format!("scontrol requeue {job}"));
    assert_eq!((done.code, done.err.is_empty()), (1, false), "{done:?}");
    assert_eq!(
        sim.run("alice", &format!("squeue -h -j {job} -o %T")).ok(),
        "RUNNING"
    );
}

#[test]
fn a_dead_node_is_given_up_and_its_jobs_go_elsewhere_or_fail() {
    let mut sim = Sim::new(&["--node-timeout", "5", "--requeue-delay", "0"]);
    let willing = sim.submits("", "sleep 1000");
    let declining = sim.submits("--no-requeue", "sleep 1000");
    sim.awaits_state(&willing, "RUNNING");
    sim.awaits_state(&declining, "RUNNING");
    sim.kills_node("node01");
    sim.awaits("sinfo -h -n node01 -p compute -o %t", "mix*");
    sim.awaits("sinfo -h -n node01 -p compute -o %t", "down*");
    sim.awaits_shown(&declining, "NODE_FAIL|NF|NodeDown|node01");
    sim.awaits_shown(&willing, "RUNNING|R|None|node02");
    sim.start_node("node01");
    sim.awaits("sinfo -h -n node01 -p compute -o %t", "idle");
}

#[test]
fn a_node_that_is_started_again_has_lost_its_jobs() {
    let mut sim = Sim::new(&["--requeue-delay", "3600"]);
    let job = sim.submits("", "sleep 1000");
    sim.awaits_state(&job, "RUNNING");
    sim.kills_node("node01");
    sim.start_node("node01");
    sim.awaits_shown(&job, "PENDING|PD|BeginTime|");
}

#[test]
fn a_job_cancelled_before_its_node_has_begun_it_never_runs() {
    let sim = Sim::new(&[]);
    // The other node puts the job there; this one does not know of it yet.
    sim.signals_node("node01", Signal::SIGSTOP);
    let job = sim.submits("", "echo ran >ran");
    sim.awaits_shown(&job, "RUNNING|R|None|node01");
    sim.run("alice", &format!("scancel {job}")).ok();
    sim.awaits_shown(&job, "COMPLETING|CG|None|node01");
    sim.signals_node("node01", Signal::SIGCONT);
    sim.awaits_shown(&job, "CANCELLED|CA|None|node01");
    assert_eq!(sim.read("ran"), "");
}

#[test]
fn reasons_for_waiting_are_told() {
    let sim = Sim::new(&[]);
    for (options, reason) in [
        ("--time=2-00:00:00", "PartitionTimeLimit"),
        ("--cpus-per-task=99", "PartitionConfig"),
        ("--nodes=5", "PartitionNodeLimit"),
        ("--hold", "JobHeldUser"),
        ("--begin=now+1hour", "BeginTime"),
    ] {
        let job = sim.submits(options, "true");
        sim.awaits_shown(&job, &format!("PENDING|PD|{reason}|"));
    }
    let full = "-w node02 -c 4";
    let first = sim.submits(full, "sleep 1000");
    sim.awaits_state(&first, "RUNNING");
    let second = sim.submits(full, "true");
    sim.awaits_shown(&second, "PENDING|PD|Resources|");
    let third = sim.submits(full, "true");
    sim.awaits_shown(&third, "PENDING|PD|Priority|");
}

#[test]
fn a_held_job_runs_when_it_is_released() {
    let sim = Sim::new(&[]);
    let job = sim.submits("--hold", "true");
    sim.awaits_shown(&job, "PENDING|PD|JobHeldUser|");
    let done = sim.run("bob", &format!("scontrol release {job}"));
    assert_eq!(done.code, 1, "only the owner may: {done:?}");
    sim.run("alice", &format!("scontrol release {job}")).ok();
    sim.awaits_shown(&job, "COMPLETED|CD|None|node01");
}

#[test]
fn a_job_goes_where_it_is_sent() {
    let sim = Sim::new(&[]);
    let listed = sim.submits("--nodelist=node02", "true");
    let excluding = sim.submits("--exclude=node01", "true");
    let both = sim.submits("--nodes=2", "true");
    sim.awaits_shown(&listed, "COMPLETED|CD|None|node02");
    sim.awaits_shown(&excluding, "COMPLETED|CD|None|node02");
    sim.awaits_shown(&both, "COMPLETED|CD|None|node[01-02]");
}

#[test]
fn a_dependent_job_waits_for_the_other() {
    let sim = Sim::new(&[]);
    let first = sim.submits("", UNTIL_GO);
    let second = sim.submits(&format!("-d afterok:{first}"), "true");
    let never = sim.submits(&format!("-d afternotok:{first}"), "true");
    sim.awaits_shown(&second, "PENDING|PD|Dependency|");
    sim.lets_go();
    sim.awaits_shown(&second, "COMPLETED|CD|None|node01");
    sim.awaits_shown(&never, "PENDING|PD|DependencyNeverSatisfied|");
}

#[test]
fn a_finished_job_is_forgotten_after_a_while() {
    let sim = Sim::new(&[]);
    let job = sim.submits("", "true");
    sim.awaits_state(&job, "COMPLETED");
    sim.control(&["min-job-age", "0"]);
    eventually("the job is forgotten", || {
        let done = sim.run("alice", &format!("squeue -j {job}"));
        (done.code == 1 && done.err == "slurm_load_jobs error: Invalid job id specified\n")
            .then_some(())
    });
}

#[test]
fn jobs_end_while_the_controller_is_down_and_it_learns_of_it_later() {
    let sim = Sim::new(&[]);
    let job = sim.submits("", &format!("{UNTIL_GO}echo done >done"));
    sim.awaits_state(&job, "RUNNING");
    sim.control(&["controller", "down"]);
    sim.lets_go();
    sim.awaits_file("done");
    sim.control(&["controller", "up"]);
    sim.awaits_shown(&job, "COMPLETED|CD|None|node01");
}

#[test]
fn only_the_batch_shell_gets_a_signal_that_is_not_for_steps() {
    let sim = Sim::new(&[]);
    let script = "trap 'echo usr1 >>heard' USR1\necho up >ready; while :; do sleep 0.02; done";
    let job = sim.submits("", script);
    sim.awaits_file("ready");
    // A batch-only job has no steps: this reaches nobody.
    sim.run("alice", &format!("scancel --signal=USR1 {job}"))
        .ok();
    sim.run("alice", &format!("scancel --batch --signal=USR1 {job}"))
        .ok();
    assert_eq!(sim.awaits_file("heard"), "usr1\n");
    let mortal = sim.submits("", "echo up >ready2; exec sleep 1000");
    sim.awaits_file("ready2");
    sim.run("alice", &format!("scancel -b -s USR1 {mortal}"))
        .ok();
    sim.awaits_shown(&mortal, "FAILED|F|JobLaunchFailure|node01");
    assert_eq!(sim.shows(&mortal, "ExitCode"), "0:10");
    assert_eq!(sim.read("heard"), "usr1\n");
}
