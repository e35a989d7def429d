//! A cluster of real accounts, as in containers: daemons of root's, jobs of others. Needs root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::sim::{Done, Sim};

/// Two accounts that every system has, with no rights.
const DAEMON: (&str, u32) = ("daemon", 1);
const NOBODY: (&str, u32) = ("nobody", 65534);

#[expect(clippy::print_stdout, reason = "a skipped test says what it lacked")]
/// A cluster without virtual users, and a home for each account; nothing without root.
fn cluster() -> Option<Sim> {
    if fs::metadata("/proc/self").expect("proc").uid() != 0 {
        println!("skipped; needs: root");
        return None;
    }
    let sim = Sim::of_accounts();
    for (name, uid) in [DAEMON, NOBODY] {
        let home = home(&sim, name);
        fs::create_dir(&home).expect("a home");
        std::os::unix::fs::chown(&home, Some(uid), Some(uid)).expect("its owner");
        fs::set_permissions(&home, Permissions::from_mode(0o700)).expect("its mode");
    }
    Some(sim)
}

fn home(sim: &Sim, name: &str) -> PathBuf {
    sim.path(&format!("home-{name}"))
}

fn runs(sim: &Sim, (name, uid): (&str, u32), command: &str) -> Done {
    let path = format!("{}:/usr/bin:/bin", sim.path("bin").display());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env_clear().env("PATH", path);
    shell
        .env("SLURM_SIM_SPOOL", sim.path("spool"))
        .current_dir("/")
        .uid(uid)
        .gid(uid);
    shell.env("HOME", home(sim, name));
    Done::of(&mut shell, "")
}

#[test]
fn a_job_has_the_rights_of_its_account_and_no_more() {
    let Some(sim) = cluster() else { return };
    let script = "id -u; id -g; id -G; umask; pwd; \
        touch /etc/slurm-sim-test 2>/dev/null || echo refused";
    let submit = format!("cd; umask 077; sbatch -W -o out --wrap '{script}'");
    runs(&sim, NOBODY, &submit).ok();
    let out = home(&sim, "nobody").join("out");
    let text = fs::read_to_string(&out).expect("output");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..4], ["65534", "65534", "65534", "0077"], "{text}");
    assert_eq!(lines[4], home(&sim, "nobody").display().to_string());
    assert_eq!(lines.last(), Some(&"refused"), "{text}");
    let meta = fs::metadata(&out).expect("output");
    assert_eq!((meta.uid(), meta.mode() & 0o777), (65534, 0o600));
}

#[test]
fn several_accounts_share_the_spool_but_not_their_jobs() {
    let Some(sim) = cluster() else { return };
    let sleeper = "cd; sbatch --parsable --wrap 'sleep 1000'";
    assert_eq!(runs(&sim, NOBODY, sleeper).ok(), "1");
    assert_eq!(runs(&sim, DAEMON, sleeper).ok(), "2");
    sim.awaits("squeue -h -S i -o '%u %t'", "nobody R\ndaemon R");
    let denied = runs(&sim, DAEMON, "scancel 1");
    assert_eq!(denied.code, 210, "{denied:?}");
    runs(&sim, NOBODY, "scancel 1").ok();
    sim.awaits_state("1", "CANCELLED");
    // Root may.
    sim.run("alice", "scancel 2").ok();
    sim.awaits_state("2", "CANCELLED");
}

#[test]
fn a_directory_that_the_account_may_not_enter_fails_the_launch() {
    let Some(sim) = cluster() else { return };
    let elsewhere = home(&sim, "nobody");
    let submit = format!(
        "sbatch --parsable --chdir={} --wrap true",
        elsewhere.display()
    );
    assert_eq!(runs(&sim, DAEMON, &submit).ok(), "1");
    sim.awaits(
        "squeue -h -t all -j 1 -o '%T|%r'",
        "FAILED|JobLaunchFailure",
    );
}
