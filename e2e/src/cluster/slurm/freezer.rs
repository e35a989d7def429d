//! The machine's freezer hierarchy (cgroup v1), where slurmd has a cgroup for each job.
//!
//! The clusters of a machine share it, and its directories bear the names of nodes, users and jobs
//! alone. So each cluster numbers its jobs from where no other does, which also tells its owner.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};

use crate::cluster::containers::JobsAre;

/// Where it is mounted.
pub(super) const HIERARCHY: &str = "/sys/fs/cgroup/freezer";

/// Of one cluster. Process ids stay below 2^22 (proc_pid_max(5)) and so all jobs below 2^26, which is
/// the most that Slurm has numbers for (`MaxJobId`, slurm.conf(5)).
const JOBS: u32 = 16;

/// Whether this machine has it: its root alone has this file (cgroups(7)).
pub(super) fn is_there() -> bool {
    Path::new(HIERARCHY).join("release_agent").exists()
}

/// The numbers of this process's jobs.
pub(super) fn own_jobs() -> RangeInclusive<u32> {
    let first = std::process::id() * JOBS;
    first..=first + JOBS - 1
}

/// The cgroups of jobs that are over and whose owner is dead.
pub(super) fn leftovers() -> Vec<PathBuf> {
    below(Path::new(HIERARCHY), "slurm_")
        .flat_map(|node| below(&node, "uid_"))
        .flat_map(|user| below(&user, "job_"))
        .filter(|job| number(job).is_some_and(is_of_the_dead) && is_over(job))
        .collect()
}

/// A line of shell for whoever may write there: removes the cgroups of these jobs. One that still has
/// processes stays, which the kernel sees to.
pub(super) fn removal(jobs: impl IntoIterator<Item = u32>) -> String {
    let jobs: Vec<String> = jobs.into_iter().map(|job| job.to_string()).collect();
    format!(
        "for job in {}; do
           find {HIERARCHY}/slurm_*/uid_*/job_$job -depth -type d -exec rmdir {{}} \\;
         done 2>/dev/null; :",
        jobs.join(" ")
    )
}

/// A line of shell, for the same, that freezes or thaws this process's jobs on a node (freezer.state of
/// cgroups(7)): they are in no cgroup of Docker's.
pub(super) fn own_jobs_are(node: &str, state: JobsAre) -> String {
    let state = match state {
        JobsAre::Frozen => "FROZEN",
        JobsAre::Thawed => "THAWED",
    };
    let (jobs, of) = (own_jobs(), format!("{HIERARCHY}/slurm_{node}/uid_*"));
    format!(
        "for job in {{{}..{}}}; do
           for it in {of}/job_$job/freezer.state; do [ ! -e $it ] || echo {state} >$it; done
         done",
        jobs.start(),
        jobs.end()
    )
}

/// The jobs that they were for.
pub(super) fn jobs_of(leftovers: &[PathBuf]) -> BTreeSet<u32> {
    leftovers.iter().filter_map(|job| number(job)).collect()
}

fn below(dir: &Path, prefix: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
    let named = move |entry: &DirEntry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(prefix))
    };
    let entries = dir.read_dir().into_iter().flatten().flatten();
    entries.filter(named).map(|entry| entry.path())
}

fn number(job: &Path) -> Option<u32> {
    let name = job.file_name()?.to_str()?;
    name.strip_prefix("job_")?.parse().ok()
}

/// Somebody else's cluster may have jobs of any number.
fn is_over(job: &Path) -> bool {
    below(job, "step_").all(|step| {
        let processes = std::fs::read_to_string(step.join("cgroup.procs"));
        processes.is_ok_and(|processes| processes.is_empty())
    })
}

/// A job below the first cluster's is not of ours: a cluster that was started by hand.
fn is_of_the_dead(job: u32) -> bool {
    let owner = i32::try_from(job / JOBS).ok().and_then(Pid::from_raw);
    owner.is_some_and(|owner| test_kill_process(owner) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_tells_its_owner() {
        let own = own_jobs();
        assert!(!is_of_the_dead(*own.start()) && !is_of_the_dead(*own.end()));
        // No process has that id.
        assert!(is_of_the_dead(((1 << 22) - 1) * JOBS) || Path::new("/proc/4194303").exists());
    }

    #[test]
    fn the_greatest_process_id_has_numbers_for_its_jobs() {
        const MAX_JOB_ID: u32 = 67_108_863;
        assert_eq!(((1 << 22) - 1) * JOBS + JOBS - 1, MAX_JOB_ID);
    }

    #[test]
    fn a_job_with_a_process_is_not_over() {
        let job = tempfile::tempdir().unwrap();
        let step = job.path().join("step_batch");
        std::fs::create_dir(&step).unwrap();
        for (processes, over) in [("", true), ("17\n", false)] {
            std::fs::write(step.join("cgroup.procs"), processes).unwrap();
            assert_eq!(is_over(job.path()), over);
        }
    }

    #[test]
    fn a_number_is_read_from_a_cgroups_name() {
        let jobs = ["/x/uid_2001/job_17", "/x/job_", "/job_1x"].map(PathBuf::from);
        assert_eq!(jobs_of(&jobs), BTreeSet::from([17]));
    }
}
