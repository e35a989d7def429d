//! What the table of `e2e/tests/contract` cannot hold: knobs that only the mock has. Rows of command,
//! standard output, standard error, exit code.

use crate::pattern::matches;
use crate::sim::Sim;

/// A row: who, command, stdout, stderr, exit code. Every line of output ends with a newline.
type Row = (&'static str, &'static str, &'static str, &'static str, i32);

/// Checks every row and reports all that differ.
#[track_caller]
fn check(sim: &Sim, rows: &[Row]) {
    let mut wrong = String::new();
    for (user, command, out, err, code) in rows {
        let done = sim.run(user, command);
        if !matches(out, &done.out) || !matches(err, &done.err) || done.code != *code {
            wrong += &format!(
                "\n$ {command}\nexpected exit {code}\n--- stdout\n{out}--- stderr\n{err}---\n\
                 but got{done:?}\n"
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The scripts that rows submit.
fn with_scripts(sim: Sim) -> Sim {
    sim.write("ok.sh", "#!/bin/sh\ntrue\n");
    sim.write("e3.sh", "#!/bin/sh\nexit 3\n");
    sim.write("noshebang.sh", "echo x\n");
    sim.write("crlf.sh", "#!/bin/sh\r\ntrue\r\n");
    sim.write("empty.sh", "");
    sim.write("badopt.sh", "#!/bin/sh\n#SBATCH --bogus=1\ntrue\n");
    sim.write("named.sh", "#!/bin/sh\n#SBATCH -J inside -p debug\ntrue\n");
    sim
}

#[test]
fn squeue_joins_the_waiting_tasks_of_an_array() {
    let mut sim = with_scripts(Sim::without_nodes(&[]));
    assert_eq!(
        sim.run("alice", "sbatch --parsable -a 1-2 --wrap 'sleep 1000'")
            .ok(),
        "1"
    );
    check(
        &sim,
        &[
            ("alice", "squeue -h -o '%i|%t'", "1_[1-2]|PD\n", "", 0),
            ("alice", "squeue -h -r -o %i -S i", "1_1\n1_2\n", "", 0),
        ],
    );
    sim.start_node("node01");
    sim.awaits("squeue -h -o '%i %t' | sort", "1_1 R\n1_2 R");
    check(
        &sim,
        &[
            (
                "alice",
                "squeue -h -j 1_2 -o '%i %F %K'",
                "1_2 1 2\n",
                "",
                0,
            ),
            ("alice", "scancel 1_1", "", "", 0),
        ],
    );
    sim.awaits("squeue -h -o %i", "1_2");
    check(&sim, &[("alice", "scancel 1", "", "", 0)]);
    sim.awaits("squeue -h -o %i", "");
}

#[test]
fn squeue_prints_json() {
    let sim = Sim::new(&[]);
    sim.run("alice", "sbatch -J hpc-vscode --wrap 'sleep 1000'")
        .ok();
    sim.awaits_state("1", "RUNNING");
    let text = sim.run("alice", "squeue --json").ok();
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let job = &json["jobs"][0];
    for (name, value) in [
        ("name", "hpc-vscode"),
        ("job_state", "RUNNING"),
        ("nodes", "node01"),
        ("partition", "compute"),
        ("user_name", "alice"),
        ("batch_host", "node01"),
    ] {
        assert_eq!(job[name], value, "{name}");
    }
    assert_eq!(
        (&job["job_id"], &job["time_limit"]),
        (&1.into(), &60.into())
    );
}

#[test]
fn a_node_that_was_never_heard_of_is_unknown() {
    let sim = Sim::without_nodes(&[]);
    check(
        &sim,
        &[(
            "alice",
            "sinfo -h -p compute",
            "compute*     up 1-00:00:00      2    unk node[01-02]\n",
            "",
            0,
        )],
    );
}

#[test]
fn a_controller_that_is_down_is_told_from_a_job_that_is_gone() {
    let sim = with_scripts(Sim::new(&["--controller-wait", "0.3"]));
    sim.run("alice", "sbatch --wrap 'sleep 1000'").ok();
    sim.awaits_state("1", "RUNNING");
    sim.control(&["controller", "down"]);
    let started = std::time::Instant::now();
    check(
        &sim,
        &[
            (
                "alice",
                "sbatch ok.sh",
                "",
                "sbatch: error: Batch job submission failed: \
             Unable to contact slurm controller (connect failure)\n",
                1,
            ),
            (
                "alice",
                "squeue -h -j 1",
                "",
                "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
                1,
            ),
            (
                "alice",
                "scancel 1",
                "",
                "scancel: error: Kill job error on job id 1: \
             Unable to contact slurm controller (connect failure)\n",
                8,
            ),
            (
                "alice",
                "sinfo",
                "",
                "slurm_load_partitions: Unable to contact slurm controller (connect failure)\n",
                1,
            ),
            (
                "alice",
                "scontrol ping",
                "Slurmctld(primary) at login is DOWN\n",
                "",
                1,
            ),
        ],
    );
    assert!(
        started.elapsed().as_millis() >= 4 * 300,
        "each of four commands waited"
    );
    sim.control(&["controller", "up"]);
    check(
        &sim,
        &[("alice", "squeue -h -j 1 -o %T", "RUNNING\n", "", 0)],
    );
}

#[test]
fn a_spool_that_is_not_there_is_a_controller_that_is_down() {
    let sim = Sim::without_nodes(&[]);
    let elsewhere = "SLURM_SIM_SPOOL=/nonexistent squeue";
    check(
        &sim,
        &[(
            "alice",
            elsewhere,
            "",
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
            1,
        )],
    );
}
