//! A large site: as many nodes and jobs as a manager of 10,000 users may find.

use std::time::{Duration, Instant};

use crate::sim::{Done, Sim, program};

/// Built without optimisation on a busy machine; a release build takes far less (docs/scale.md).
const BOUND: Duration = Duration::from_secs(15);

#[test]
fn ten_thousand_jobs_on_a_thousand_nodes_are_listed_at_once() {
    let sim = Sim::without_nodes(&["--nodes", "node[0001-1000]"]);
    sim.control(&["fill", "--jobs", "10000"]);
    let listed = |command: &str| {
        let best = (0..3).map(|_| {
            let started = Instant::now();
            (
                sim.run("alice", command).ok().lines().count(),
                started.elapsed(),
            )
        });
        best.min_by_key(|(_, took)| *took).expect("three of them")
    };
    for (command, lines) in [
        ("squeue -h -t all -o '%i|%T|%N|%L|%r'", 10_000),
        ("squeue -h -t R -o '%i %N'", 4_000),
        ("sinfo -h -N -p compute -o '%N %C'", 1_000),
    ] {
        let (found, took) = listed(command);
        assert_eq!(found, lines, "{command}");
        assert!(took < BOUND, "`{command}` took {took:?}");
    }
}

#[test]
fn a_full_site_still_takes_jobs() {
    let sim = Sim::without_nodes(&["--nodes", "node[0001-1000]"]);
    sim.control(&["fill", "--jobs", "10000"]);
    let started = Instant::now();
    assert_eq!(
        sim.run("alice", "sbatch --parsable --wrap true").ok(),
        "10001"
    );
    assert!(
        started.elapsed() < BOUND,
        "sbatch took {:?}",
        started.elapsed()
    );
    let help = Done::of(program().args(["control", "fill", "--help"]), "").ok();
    assert!(help.contains("no processes"), "{help}");
}
