//! The recorded tables, row by row: command, standard output, standard error, exit code.

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

const NO_SCRIPT: &str = "sbatch: error: This does not look like a batch script.  The first\n\
    sbatch: error: line must start with #! followed by the path to an interpreter.\n\
    sbatch: error: For instance: #!/bin/sh\n";

#[test]
fn sbatch_answers_as_recorded() {
    let sim = with_scripts(Sim::without_nodes(&[]));
    check(
        &sim,
        &[
            ("alice", "sbatch ok.sh", "Submitted batch job 1\n", "", 0),
            ("alice", "sbatch --parsable ok.sh", "2\n", "", 0),
            ("alice", "sbatch <ok.sh", "Submitted batch job 3\n", "", 0),
            (
                "alice",
                "sbatch nosuch.sh",
                "",
                "sbatch: error: Unable to open file nosuch.sh\n",
                1,
            ),
            ("alice", "sbatch noshebang.sh", "", NO_SCRIPT, 1),
            ("alice", "sbatch <noshebang.sh", "", NO_SCRIPT, 1),
            (
                "alice",
                "sbatch crlf.sh",
                "",
                "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n\
             sbatch: error: instead of expected UNIX line breaks (\\n).\n",
                1,
            ),
            (
                "alice",
                "sbatch empty.sh",
                "",
                "sbatch: error: Batch script is empty!\n",
                1,
            ),
            (
                "alice",
                "sbatch </dev/null",
                "",
                "sbatch: error: Batch script is empty!\n",
                1,
            ),
            (
                "alice",
                "sbatch badopt.sh",
                "",
                "sbatch: unrecognized option '--bogus=1'\nTry \"sbatch --help\" for more information\n",
                255,
            ),
            (
                "alice",
                "sbatch --bogus ok.sh",
                "",
                "sbatch: unrecognized option '--bogus'\nTry \"sbatch --help\" for more information\n",
                255,
            ),
            (
                "alice",
                "sbatch -Z ok.sh",
                "",
                "sbatch: invalid option -- 'Z'\nTry \"sbatch --help\" for more information\n",
                255,
            ),
            (
                "alice",
                "sbatch --time=abc ok.sh",
                "",
                "sbatch: error: Invalid --time specification\n",
                255,
            ),
            (
                "alice",
                "sbatch --mem=abc ok.sh",
                "",
                "sbatch: error: Invalid --mem specification\n",
                255,
            ),
            (
                "alice",
                "sbatch --cpus-per-task=0 ok.sh",
                "",
                "sbatch: error: Invalid numeric value \"0\" for --cpus-per-task.\n",
                1,
            ),
            (
                "alice",
                "sbatch --mem=8G ok.sh",
                "",
                "sbatch: error: Memory specification can not be satisfied\n\
             sbatch: error: Batch job submission failed: \
             Requested node configuration is not available\n",
                1,
            ),
            // Refused, but it took an id.
            (
                "alice",
                "squeue -h -t all -j 4 -o '%T|%r'",
                "FAILED|BadConstraints\n",
                "",
                0,
            ),
            (
                "alice",
                "sbatch --partition=nosuch ok.sh",
                "",
                "sbatch: error: invalid partition specified: nosuch\n\
             sbatch: error: Batch job submission failed: Invalid partition name specified\n",
                1,
            ),
            (
                "alice",
                "sbatch --nodelist=node09 ok.sh",
                "",
                "sbatch: error: Batch job submission failed: Invalid node name specified\n",
                1,
            ),
            (
                "alice",
                "sbatch --gres=gpu:1 ok.sh",
                "",
                "sbatch: error: Invalid generic resource (gres) specification\n",
                1,
            ),
            (
                "alice",
                "sbatch --time=2-00:00:00 ok.sh",
                "Submitted batch job 5\n",
                "",
                0,
            ),
            (
                "alice",
                "sbatch --cpus-per-task=99 ok.sh",
                "Submitted batch job 6\n",
                "",
                0,
            ),
            (
                "alice",
                "sbatch --nodes=5 ok.sh",
                "Submitted batch job 7\n",
                "",
                0,
            ),
            (
                "alice",
                "sbatch --account=foo --qos=foo ok.sh",
                "Submitted batch job 8\n",
                "",
                0,
            ),
            (
                "alice",
                "sbatch --wrap 'echo x'",
                "Submitted batch job 9\n",
                "",
                0,
            ),
            (
                "alice",
                "sbatch --wrap true ok.sh",
                "",
                "sbatch: error: Script arguments not permitted with --wrap option\n",
                1,
            ),
            (
                "alice",
                "sbatch --test-only ok.sh",
                "",
                "sbatch: Job {id} to start at {time} using 1 processors on nodes node01 \
             in partition compute\n",
                0,
            ),
            (
                "alice",
                "sbatch -d afterok:99999 ok.sh",
                "Submitted batch job 11\n",
                "",
                0,
            ),
            (
                "alice",
                "sbatch --hold ok.sh",
                "Submitted batch job 12\n",
                "",
                0,
            ),
            (
                "alice",
                "sbatch --begin=now+1hour ok.sh",
                "Submitted batch job 13\n",
                "",
                0,
            ),
            ("alice", "sbatch -a 1-2 --parsable ok.sh", "14\n", "", 0),
            (
                "alice",
                "unset PATH; ../bin/sbatch --parsable ok.sh",
                "16\n",
                "sbatch: error: No PATH environment variable\n",
                0,
            ),
            (
                "alice",
                "SBATCH_PARTITION=debug sbatch --parsable ok.sh",
                "17\n",
                "",
                0,
            ),
            ("alice", "sbatch -V", "slurm-wlm 22.05.8\n", "", 0),
            // What became of them. The command line wins over the environment and that over the script.
            ("alice", "sbatch --parsable named.sh", "18\n", "", 0),
            (
                "alice",
                "sbatch --parsable -J outside named.sh",
                "19\n",
                "",
                0,
            ),
            (
                "alice",
                "SBATCH_PARTITION=compute sbatch --parsable named.sh",
                "20\n",
                "",
                0,
            ),
            (
                "alice",
                "squeue -h -S i -o '%i|%j|%P|%a|%q' -j 1,3,8,9,14,17,18,19,20",
                "1|ok.sh|compute|(null)|(null)\n3|sbatch|compute|(null)|(null)\n\
             8|ok.sh|compute|foo|foo\n9|wrap|compute|(null)|(null)\n\
             14_[1-2]|ok.sh|compute|(null)|(null)\n17|ok.sh|debug|(null)|(null)\n\
             18|inside|debug|(null)|(null)\n19|outside|debug|(null)|(null)\n\
             20|inside|compute|(null)|(null)\n",
                "",
                0,
            ),
        ],
    );
}

#[test]
fn sbatch_waits_for_the_exit_code() {
    let sim = with_scripts(Sim::new(&[]));
    check(
        &sim,
        &[
            (
                "alice",
                "sbatch --wait e3.sh",
                "Submitted batch job 1\n",
                "",
                3,
            ),
            (
                "alice",
                "sbatch --wait --wrap 'kill -9 $$'",
                "Submitted batch job 2\n",
                "",
                137,
            ),
            ("alice", "sbatch -W -a 1-2 --parsable ok.sh", "3\n", "", 0),
            (
                "alice",
                "env -i SLURM_SIM_SPOOL=$SLURM_SIM_SPOOL SLURM_SIM_USER=alice ../bin/sbatch -W ok.sh",
                "Submitted batch job 5\n",
                "sbatch: error: No PATH environment variable\n",
                0,
            ),
        ],
    );
}

const HEADER: &str =
    "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n";

#[test]
fn squeue_answers_as_recorded() {
    let sim = Sim::new(&[]);
    check(&sim, &[("alice", "squeue", HEADER, "", 0)]);
    let vscode = "sbatch --parsable -J hpc-vscode -t 10 --wrap 'sleep 1000'";
    assert_eq!(sim.run("bob", vscode).ok(), "1");
    sim.awaits_state("1", "RUNNING");
    let full = "sbatch --parsable --wrap 'sleep 1000' -w node02 -c 4";
    assert_eq!(sim.run("alice", full).ok(), "2");
    sim.awaits_state("2", "RUNNING");
    assert_eq!(sim.run("alice", full).ok(), "3");
    sim.awaits("squeue -h -j 3 -o %r", "Resources");
    check(
        &sim,
        &[
            (
                "alice",
                "squeue -u bob",
                "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n\
             \x20                1   compute hpc-vsco      bob  R       {span}      1 node01\n",
                "",
                0,
            ),
            (
                "alice",
                "squeue -h -j 3",
                "                 3   compute     wrap    alice PD       0:00      1 (Resources)\n",
                "",
                0,
            ),
            (
                "alice",
                "squeue -h -j 2 -o '%i|%T|%N|%L|%l|%C|%m|%S'",
                "2|RUNNING|node02|{span}|1:00:00|4|100M|{time}\n",
                "",
                0,
            ),
            (
                "alice",
                "squeue -h -j 3 -o '%i|%T|%N|%L|%l|%C|%m|%S'",
                "3|PENDING||1:00:00|1:00:00|4|100M|N/A\n",
                "",
                0,
            ),
            (
                "alice",
                "squeue --user=bob --name=hpc-vscode --states=R,PD -h -o '%i|%T|%N|%l'",
                "1|RUNNING|node01|10:00\n",
                "",
                0,
            ),
            (
                "alice",
                "squeue --user=nosuch",
                HEADER,
                "squeue: error: Invalid user: nosuch\n\n",
                0,
            ),
            (
                "alice",
                "squeue -h --user=nosuch",
                "",
                "squeue: error: Invalid user: nosuch\n\n",
                0,
            ),
            (
                "alice",
                "squeue -j 99999",
                "",
                "slurm_load_jobs error: Invalid job id specified\n",
                1,
            ),
            ("alice", "squeue -h -o %i -j 99999,1", "1\n", "", 0),
            (
                "alice",
                "squeue -j abc",
                "",
                "squeue: error: Invalid job id: abc\n",
                1,
            ),
            (
                "alice",
                "squeue --states=BOGUS",
                "",
                "squeue: error: Invalid job state specified: BOGUS\n\
             squeue: error: Valid job states include: PENDING,RUNNING,{any}\n\n",
                1,
            ),
            (
                "alice",
                "squeue --bogus",
                "",
                "squeue: unrecognized option '--bogus'\nTry \"squeue --help\" for more information\n",
                1,
            ),
            ("alice", "squeue --me -h -S i -o %i", "2\n3\n", "", 0),
            ("bob", "squeue --me -h -o '%.3i %u'", "  1 bob\n", "", 0),
            ("alice", "squeue -h -S i -o '%i %t' -t PD", "3 PD\n", "", 0),
            (
                "alice",
                "squeue -h -j 1 -o '%a|%c|%D|%P|%r|%R|%u|%U|%j|%e'",
                "(null)|1|1|compute|None|node01|bob|2002|hpc-vscode|{time}\n",
                "",
                0,
            ),
            // Pending first within a partition, then by falling priority.
            ("alice", "squeue -h -o %i", "3\n1\n2\n", "", 0),
            (
                "alice",
                "squeue -o '%i %T' -j 3",
                "JOBID STATE\n3 PENDING\n",
                "",
                0,
            ),
            ("alice", "squeue -l -h -j 3 -o %i", "3\n", "", 0),
            ("alice", "squeue -V", "slurm-wlm 22.05.8\n", "", 0),
            ("bob", "scancel 1", "", "", 0),
        ],
    );
    sim.awaits_state("1", "CANCELLED");
    check(
        &sim,
        &[
            ("alice", "squeue -j 1", HEADER, "", 0),
            ("alice", "squeue -h -j 1", "", "", 0),
            (
                "alice",
                "squeue -h -j 1 -t all -o '%i|%T|%r|%N|%L|%S|%e'",
                "1|CANCELLED|None|node01|{span}|{time}|{time}\n",
                "",
                0,
            ),
        ],
    );
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
            ("alice", "squeue -h -r -o %i -S i", "1_2\n1_1\n", "", 0),
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
fn scancel_answers_as_recorded() {
    let sim = Sim::new(&[]);
    let sleep = "sbatch --parsable --wrap 'sleep 1000'";
    for user in ["alice", "bob", "alice", "alice"] {
        sim.run(user, sleep).ok();
    }
    for job in ["1", "2", "3", "4"] {
        sim.awaits_state(job, "RUNNING");
    }
    let denied = "scancel: error: Kill job error on job id 2: Access/permission denied\n";
    check(
        &sim,
        &[
            ("alice", "scancel 99999", "", "", 0),
            ("alice", "scancel 2", "", denied, 210),
            ("alice", "scancel 2 3", "", denied, 210),
            (
                "alice",
                "scancel abc",
                "",
                "scancel: error: Invalid job id abc\n",
                1,
            ),
            (
                "alice",
                "scancel",
                "",
                "scancel: error: No job identification provided\n",
                1,
            ),
            (
                "alice",
                "scancel --bogus",
                "",
                "scancel: unrecognized option '--bogus'\nTry \"scancel --help\" for more information\n",
                1,
            ),
            ("alice", "scancel 1", "", "", 0),
        ],
    );
    sim.awaits_state("1", "CANCELLED");
    sim.awaits_state("3", "CANCELLED");
    check(
        &sim,
        &[
            ("alice", "squeue -h -o %T -j 2", "RUNNING\n", "", 0),
            ("alice", "scancel 1", "", "", 0),
            ("alice", "scancel 1", "", "", 0),
            ("bob", "scancel -v 2", "", "scancel: Terminating job 2\n", 0),
            (
                "alice",
                "sbatch --hold -J held --wrap true",
                "Submitted batch job 5\n",
                "",
                0,
            ),
            ("alice", "scancel --state=PENDING --user=alice", "", "", 0),
            (
                "alice",
                "squeue -h -t all -j 5 -o '%T|%r|%N'",
                "CANCELLED|JobHeldUser|\n",
                "",
                0,
            ),
            ("alice", "squeue -h -j 4 -o %T", "RUNNING\n", "", 0),
            ("alice", "scancel --name=wrap --user=alice", "", "", 0),
        ],
    );
    sim.awaits_state("4", "CANCELLED");
}

#[test]
fn sinfo_and_scontrol_answer_as_recorded() {
    let sim = Sim::new(&[]);
    let header = "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n";
    check(
        &sim,
        &[
            (
                "alice",
                "sinfo",
                "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n\
             compute*     up 1-00:00:00      2   idle node[01-02]\n\
             debug        up      30:00      1   idle node01\n",
                "",
                0,
            ),
            (
                "alice",
                "sinfo -h -p compute -o '%P|%a|%l|%D|%t|%N'",
                "compute*|up|1-00:00:00|2|idle|node[01-02]\n",
                "",
                0,
            ),
            ("alice", "sinfo -h -o '%C'", "0/8/0/8\n", "", 0),
            ("alice", "sinfo -h -o '%D %t'", "2 idle\n", "", 0),
            (
                "alice",
                "sinfo -h -N -o '%m %e'",
                "2000 {id}\n2000 {id}\n2000 {id}\n",
                "",
                0,
            ),
            ("alice", "sinfo -p nosuch", header, "", 0),
            (
                "alice",
                "sinfo --bogus",
                "",
                "sinfo: unrecognized option '--bogus'\nTry \"sinfo --help\" for more information\n",
                1,
            ),
            (
                "alice",
                "scontrol show job 99999",
                "",
                "slurm_load_jobs error: Invalid job id specified\n",
                1,
            ),
            (
                "alice",
                "scontrol show hostnames node[01-02]",
                "node01\nnode02\n",
                "",
                0,
            ),
            (
                "alice",
                "scontrol ping",
                "Slurmctld(primary) at login is UP\n",
                "",
                0,
            ),
            (
                "alice",
                "scontrol show partition -o",
                "PartitionName=compute AllowGroups=ALL {any} Default=YES {any} DefaultTime=01:00:00 \
             {any} MaxTime=1-00:00:00 {any} Nodes=node[01-02] {any} OverSubscribe=NO {any} State=UP \
             TotalCPUs=8 TotalNodes=2 {any} TRES=cpu=8,mem=4000M,node=2,billing=8\n\
             PartitionName=debug {any}\n",
                "",
                0,
            ),
            ("alice", "scontrol bogus", "", "invalid keyword: bogus\n", 1),
        ],
    );
    // Busy and full nodes.
    sim.run("alice", "sbatch -c 4 --wrap 'sleep 1000'").ok();
    sim.run("alice", "sbatch -c 2 --wrap 'sleep 1000'").ok();
    sim.awaits("squeue -h -t R -o %N | sort", "node01\nnode02");
    check(
        &sim,
        &[
            (
                "alice",
                "sinfo -h -p compute -o '%t %N %C'",
                "alloc node01 4/0/0/4\nmix node02 2/2/0/4\n",
                "",
                0,
            ),
            ("alice", "sinfo -h -o '%C'", "6/2/0/8\n", "", 0),
        ],
    );
    sim.control(&["drain", "node02"]);
    check(
        &sim,
        &[(
            "alice",
            "sinfo -h -n node02 -o '%t %T'",
            "drng draining\n",
            "",
            0,
        )],
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
fn scontrol_shows_a_running_job_as_recorded() {
    let sim = Sim::new(&[]);
    sim.write("job.sh", "#!/bin/sh\nsleep 1000\n");
    sim.run("alice", "sbatch -J hpc-vscode job.sh").ok();
    sim.awaits_state("1", "RUNNING");
    let expected = "\
JobId=1 JobName=hpc-vscode
   UserId=alice(2001) GroupId=alice(2001) MCS_label=N/A
   Priority=4294901759 Nice=0 Account=(null) QOS=(null)
   JobState=RUNNING Reason=None Dependency=(null)
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0
   RunTime={span} TimeLimit=01:00:00 TimeMin=N/A
   SubmitTime={time} EligibleTime={time}
   AccrueTime={time}
   StartTime={time} EndTime={time} Deadline=N/A
   SuspendTime=None SecsPreSuspend=0 LastSchedEval={time} Scheduler=Main
   Partition=compute AllocNode:Sid=login:{id}
   ReqNodeList=(null) ExcNodeList=(null)
   NodeList=node01
   BatchHost=node01
   NumNodes=1 NumCPUs=1 NumTasks=1 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
   TRES=cpu=1,mem=100M,node=1,billing=1
   Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=*
   MinCPUsNode=1 MinMemoryCPU=100M MinTmpDiskNode=0
   Features=(null) DelayBoot=00:00:00
   OverSubscribe=OK Contiguous=0 Licenses=(null) Network=(null)
   Command=HOME/job.sh
   WorkDir=HOME
   StdErr=HOME/slurm-1.out
   StdIn=/dev/null
   StdOut=HOME/slurm-1.out
   Power=

"
    .replace("HOME", &sim.home("alice").display().to_string());
    // Anybody may look.
    let done = sim.run("bob", "scontrol show job 1");
    assert!(
        matches(&expected, &done.out),
        "expected\n{expected}but got{done:?}"
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
