//! Whom a cancelled job's signals reach, shape by shape, in both kill modes.

use crate::sim::{Sim, alive, eventually};

/// A process that notes its pid and what it hears, and does not end of its own accord.
const LISTENER: &str = "#!/bin/bash
trap 'echo CONT >>$1.heard' CONT
trap 'echo TERM >>$1.heard' TERM
echo $$ >$1.tmp && mv $1.tmp $1.pid
while :; do sleep 0.03; done
";

/// Every shape but the foreground child, which is the script's last line.
const SHAPES: &str = "
./listener background &
nohup ./listener nohup >/dev/null 2>&1 &
setsid ./listener setsid &
(setsid ./listener daemon </dev/null >/dev/null 2>&1 &)
until [ -e background.pid -a -e nohup.pid -a -e setsid.pid -a -e daemon.pid ]; do sleep 0.02; done
";

fn sim(mode: &str, kill_wait: &str) -> Sim {
    let sim = Sim::new(&["--kill-mode", mode, "--kill-wait", kill_wait]);
    sim.write("listener", LISTENER);
    sim
}

impl Sim {
    #[track_caller]
    fn pid(&self, shape: &str) -> u32 {
        let text = self.awaits_file(&format!("{shape}.pid"));
        text.trim().parse().expect("a pid")
    }

    /// What a process has heard, in no order: bash runs pending traps as it likes.
    fn heard(&self, shape: &str) -> Vec<String> {
        let text = self.read(&format!("{shape}.heard"));
        let mut heard: Vec<String> = text.lines().map(str::to_owned).collect();
        heard.sort();
        heard
    }

    #[track_caller]
    fn cancels(&self, job: &str) {
        self.run("alice", &format!("scancel {job}")).ok();
        self.awaits_state(job, "CANCELLED");
    }
}

#[track_caller]
fn await_end(pid: u32) {
    eventually("a process ends", || (!alive(pid)).then_some(()));
}

const BOTH: [&str; 2] = ["CONT", "TERM"];
const NOTHING: [&str; 0] = [];

#[test]
fn on_a_cgroup_cluster_only_the_batch_process_hears_anything() {
    let sim = sim("cgroup", "1");
    // What the shell execs into is the batch process.
    let job = sim.submits("", &format!("{SHAPES}exec ./listener batch"));
    let batch = sim.pid("batch");
    let others = ["background", "nohup", "setsid", "daemon"].map(|shape| (shape, sim.pid(shape)));
    sim.run("alice", &format!("scancel {job}")).ok();
    eventually("the batch process hears both", || {
        (sim.heard("batch") == BOTH).then_some(())
    });
    assert!(alive(batch), "it is given the kill wait");
    for (shape, pid) in others {
        assert!(alive(pid), "{shape} lives as long as the batch process");
    }
    sim.awaits_state(&job, "CANCELLED");
    for (shape, pid) in others {
        assert_eq!(sim.heard(shape), NOTHING, "{shape}");
        await_end(pid);
    }
    await_end(batch);
}

#[test]
fn on_a_cgroup_cluster_everything_dies_with_the_batch_shell() {
    let sim = sim("cgroup", "3600");
    let job = sim.submits("", &format!("{SHAPES}./listener foreground"));
    let shapes = ["background", "nohup", "setsid", "daemon", "foreground"];
    let pids = shapes.map(|shape| (shape, sim.pid(shape)));
    // The shell has no trap: it dies of SIGTERM at once, though its child ignores it.
    sim.cancels(&job);
    for (shape, pid) in pids {
        await_end(pid);
        assert_eq!(sim.heard(shape), NOTHING, "{shape}");
    }
    assert_eq!(sim.shows(&job, "ExitCode"), "0:15");
}

#[test]
fn on_a_cgroup_cluster_nothing_outlives_a_script_that_ends() {
    let sim = sim("cgroup", "3600");
    let job = sim.submits("", SHAPES);
    let pids = ["background", "nohup", "setsid", "daemon"].map(|shape| sim.pid(shape));
    sim.awaits_state(&job, "COMPLETED");
    pids.into_iter().for_each(await_end);
}

#[test]
fn on_a_linuxproc_cluster_children_hear_it_and_daemons_survive() {
    let sim = sim("linuxproc", "1");
    let job = sim.submits("", &format!("{SHAPES}exec ./listener batch"));
    let children = ["batch", "background", "nohup", "setsid"].map(|shape| (shape, sim.pid(shape)));
    let daemon = sim.pid("daemon");
    sim.run("alice", &format!("scancel {job}")).ok();
    for (shape, _) in children {
        eventually(&format!("{shape} hears both"), || {
            (sim.heard(shape) == BOTH).then_some(())
        });
    }
    sim.awaits_state(&job, "CANCELLED");
    // The batch process outlived the kill wait, so its children are killed with it.
    for (_, pid) in children {
        await_end(pid);
    }
    assert!(alive(daemon), "it is nobody's child");
    assert_eq!(sim.heard("daemon"), NOTHING);
    drop(sim);
    await_end(daemon);
}

#[test]
fn on_a_linuxproc_cluster_children_that_ignore_it_outlive_the_shell() {
    let sim = sim("linuxproc", "3600");
    let job = sim.submits("", &format!("{SHAPES}./listener foreground"));
    let shapes = ["background", "nohup", "setsid", "foreground"];
    let pids = shapes.map(|shape| (shape, sim.pid(shape)));
    sim.cancels(&job);
    for (shape, pid) in pids {
        eventually(&format!("{shape} hears both"), || {
            (sim.heard(shape) == BOTH).then_some(())
        });
        assert!(alive(pid), "{shape} survives the job");
    }
    drop(sim);
    for (_, pid) in pids {
        await_end(pid);
    }
}

#[test]
fn on_a_linuxproc_cluster_what_a_script_leaves_stays() {
    let sim = sim("linuxproc", "3600");
    let job = sim.submits("", SHAPES);
    let pids = ["background", "nohup", "setsid", "daemon"].map(|shape| sim.pid(shape));
    sim.awaits_state(&job, "COMPLETED");
    assert!(pids.iter().all(|&pid| alive(pid)));
    drop(sim);
    pids.into_iter().for_each(await_end);
}

#[test]
fn a_trap_passes_sigterm_on_in_both_modes() {
    for mode in ["cgroup", "linuxproc"] {
        let sim = sim(mode, "3600");
        let script = "./ender & P=$!\ntrap 'kill -TERM $P' TERM\n\
            until [ -e ender.up ]; do sleep 0.02; done\necho up >up\nwait\nwait";
        sim.write(
            "ender",
            "#!/bin/bash\ntrap 'echo TERM >ender.heard; exit 0' TERM\necho >ender.up\n\
             while :; do sleep 0.03; done\n",
        );
        let job = sim.submits("", script);
        sim.awaits_file("up");
        sim.cancels(&job);
        assert_eq!(sim.heard("ender"), ["TERM"], "{mode}");
    }
}

#[test]
fn a_full_signal_reaches_the_shells_group_only() {
    let sim = Sim::new(&[]);
    let usr1 = LISTENER
        .replace("echo TERM", "echo USR1")
        .replace(" TERM\n", " USR1\n");
    sim.write("listener", &usr1);
    let job = sim.submits("", &format!("{SHAPES}exec ./listener batch"));
    sim.pid("batch");
    sim.run("alice", &format!("scancel --full --signal=USR1 {job}"))
        .ok();
    for shape in ["batch", "background", "nohup"] {
        eventually(shape, || (sim.heard(shape) == ["USR1"]).then_some(()));
    }
    for shape in ["setsid", "daemon"] {
        assert_eq!(sim.heard(shape), NOTHING, "{shape}");
    }
}

#[test]
fn the_jobs_of_a_killed_daemon_end_with_it() {
    let mut sim = sim("cgroup", "3600");
    sim.submits("", &format!("{SHAPES}exec ./listener batch"));
    let pids = ["batch", "background", "nohup", "setsid", "daemon"].map(|shape| sim.pid(shape));
    sim.kills_node("node01");
    pids.into_iter().for_each(await_end);
}
