//! What a job finds when it starts: environment, directory, streams, and where its output goes.

use std::collections::BTreeMap;

use crate::sim::{Sim, eventually};

/// Runs a script of alice's to its end and returns its output.
#[track_caller]
fn output_of(sim: &Sim, options: &str, script: &str) -> String {
    let job = sim.submits(&format!("--output=out {options}"), script);
    eventually("the job ends", || {
        let done = sim.run("alice", &format!("squeue -h -t all -j {job} -o %t"));
        ["CD\n", "F\n"].contains(&done.out.as_str()).then_some(())
    });
    sim.read("out")
}

fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .collect()
}

#[test]
fn the_environment_is_as_recorded() {
    let sim = Sim::new(&[]);
    let text = output_of(&sim, "-J hpc-vscode", "env");
    let found = variables(&text);
    let home = sim.home("alice").display().to_string();
    for (name, value) in [
        ("ENVIRONMENT", "BATCH"),
        ("HOSTNAME", "node01"),
        ("TMPDIR", "/tmp"),
        ("SLURMD_NODENAME", "node01"),
        ("SLURM_CLUSTER_NAME", "sim"),
        ("SLURM_CONF", "/etc/slurm/slurm.conf"),
        ("SLURM_CPUS_ON_NODE", "1"),
        ("SLURM_GTIDS", "0"),
        ("SLURM_JOBID", "1"),
        ("SLURM_JOB_CPUS_PER_NODE", "1"),
        ("SLURM_JOB_GID", "2001"),
        ("SLURM_JOB_ID", "1"),
        ("SLURM_JOB_NAME", "hpc-vscode"),
        ("SLURM_JOB_NODELIST", "node01"),
        ("SLURM_JOB_NUM_NODES", "1"),
        ("SLURM_JOB_PARTITION", "compute"),
        ("SLURM_JOB_UID", "2001"),
        ("SLURM_JOB_USER", "alice"),
        ("SLURM_LOCALID", "0"),
        ("SLURM_MEM_PER_CPU", "100"),
        ("SLURM_NNODES", "1"),
        ("SLURM_NODEID", "0"),
        ("SLURM_NODELIST", "node01"),
        ("SLURM_NODE_ALIASES", "(null)"),
        ("SLURM_PRIO_PROCESS", "0"),
        ("SLURM_PROCID", "0"),
        ("SLURM_SUBMIT_DIR", &home),
        ("SLURM_SUBMIT_HOST", "login"),
        ("SLURM_TASKS_PER_NODE", "1"),
        ("SLURM_TOPOLOGY_ADDR", "node01"),
        ("SLURM_TOPOLOGY_ADDR_PATTERN", "node"),
        ("SLURM_WORKING_CLUSTER", "sim:login:6817:9728:109"),
        // The submitter's own.
        ("HOME", &home),
        ("USER", "alice"),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name}");
    }
    assert!(found["SLURM_TASK_PID"].parse::<u32>().is_ok());
    for absent in ["SLURM_RESTART_COUNT", "SLURM_NTASKS", "SLURM_MEM_PER_NODE"] {
        assert!(!found.contains_key(absent), "{absent}");
    }
}

#[test]
fn what_was_asked_for_is_in_the_environment() {
    let sim = Sim::new(&[]);
    let text = output_of(&sim, "-c 2 --ntasks=1 --mem=200M", "env");
    let found = variables(&text);
    for (name, value) in [
        ("SLURM_CPUS_PER_TASK", "2"),
        ("SLURM_NPROCS", "1"),
        ("SLURM_NTASKS", "1"),
        ("SLURM_MEM_PER_NODE", "200"),
        ("SLURM_CPUS_ON_NODE", "2"),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name}");
    }
    assert!(!found.contains_key("SLURM_MEM_PER_CPU"));
}

#[test]
fn the_submitter_decides_what_is_exported() {
    let sim = Sim::new(&[]);
    sim.write("env.sh", "#!/bin/sh\nenv\n");
    let submit = |export: &str| {
        sim.run(
            "alice",
            &format!("SECRET=x sbatch -W -o out {export} env.sh >/dev/null"),
        )
        .ok();
        sim.read("out")
    };
    let all = submit("");
    assert_eq!(variables(&all).get("SECRET"), Some(&"x"));
    let none = submit("--export=NONE");
    let none = variables(&none);
    assert!(!none.contains_key("SECRET"));
    for kept in ["HOME", "USER", "PATH", "SHELL", "SLURM_JOB_ID"] {
        assert!(none.contains_key(kept), "{kept}");
    }
    let named = submit("--export=ONLY=1");
    assert_eq!(variables(&named).get("ONLY"), Some(&"1"));
    assert!(!variables(&named).contains_key("SECRET"));
}

#[test]
fn a_job_starts_like_a_login_shell_of_nobody() {
    let sim = Sim::new(&[]);
    let script = "pwd\numask\nreadlink /proc/$$/fd/0\necho \"$0\"\n\
        cut -d' ' -f1,5,6 /proc/$$/stat\necho err >&2\ngrep -E 'Sig(Ign|Blk)' /proc/self/status\n";
    sim.write("umask.sh", &format!("#!/bin/bash\n{script}"));
    sim.run("alice", "umask 027; sbatch -W -o out umask.sh >/dev/null")
        .ok();
    let text = sim.read("out");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], sim.home("alice").display().to_string());
    assert_eq!(lines[1], "0027");
    assert_eq!(lines[2], "/dev/null");
    assert!(lines[3].ends_with("/job00001/slurm_script"), "{text}");
    let ids: Vec<&str> = lines[4].split(' ').collect();
    assert!(
        ids[0] == ids[1] && ids[0] != ids[2],
        "it leads its group, in the session of what supervises it: {text}"
    );
    assert_eq!(lines[5], "err", "both streams go to one file");
    for line in &lines[6..] {
        let (_, mask) = line.split_once('\t').expect("a mask");
        let mask = u64::from_str_radix(mask, 16).expect("hexadecimal");
        // Above 31 are real-time signals, of which the C library keeps some to itself.
        assert_eq!(mask & 0x7fff_ffff, 0, "{line}");
    }
    assert_eq!(lines.len(), 8, "{text}");
}

#[test]
fn arguments_and_several_users_are_kept_apart() {
    let sim = Sim::new(&[]);
    sim.write("args.sh", "#!/bin/sh\nprintf '<%s>' \"$@\"\n");
    sim.run(
        "alice",
        "sbatch -W -o out args.sh one 'two words' --time=x '' >/dev/null",
    )
    .ok();
    assert_eq!(sim.read("out"), "<one><two words><--time=x><>");
    let bob =
        "sbatch -W -o out --wrap 'echo $USER $SLURM_JOB_USER $SLURM_JOB_UID' >/dev/null; cat out";
    assert_eq!(sim.run("bob", bob).ok(), "bob bob 2002");
}

#[test]
fn output_goes_where_the_pattern_says() {
    let sim = Sim::new(&[]);
    output_of(&sim, "", "true");
    sim.submits(
        "-W -J nm --output=out_%x_%j_%N_%u.txt",
        "echo hello; echo err >&2",
    );
    assert_eq!(sim.read("out_nm_2_node01_alice.txt"), "hello\nerr\n");
    sim.submits("-W", "echo default");
    assert_eq!(sim.read("slurm-3.out"), "default\n");
    sim.submits("-W -a 7", "echo \"task $SLURM_ARRAY_TASK_ID\"");
    assert_eq!(sim.read("slurm-4_7.out"), "task 7\n");
    sim.submits("-W -o o -e e", "echo out; echo err >&2");
    assert_eq!(
        (sim.read("o"), sim.read("e")),
        ("out\n".into(), "err\n".into())
    );
    sim.submits("-W -o o", "echo new");
    assert_eq!(sim.read("o"), "new\n", "an old file is cut");
    sim.submits("-W -o o --open-mode=append", "echo more");
    assert_eq!(sim.read("o"), "new\nmore\n");
}

#[test]
fn a_job_without_a_place_for_its_output_fails_to_launch() {
    let sim = Sim::new(&[]);
    for option in ["--output=/nonexist/x.out", "--chdir=/nonexist"] {
        let job = sim.submits(option, "true");
        sim.awaits(
            &format!("squeue -h -t all -j {job} -o '%T|%r'"),
            "FAILED|JobLaunchFailure",
        );
    }
}

#[test]
fn a_missing_interpreter_is_named_in_the_output() {
    let sim = Sim::new(&[]);
    sim.write("bad.sh", "#!/nonexist/sh -x\ntrue\n");
    sim.run("alice", "sbatch bad.sh").ok();
    sim.awaits("squeue -h -t all -j 1 -o '%T|%r'", "FAILED|NonZeroExitCode");
    assert_eq!(
        sim.read("slurm-1.out"),
        "slurmstepd-node01: error: execve(): bad interpreter(/nonexist/sh): \
         No such file or directory\n"
    );
}
