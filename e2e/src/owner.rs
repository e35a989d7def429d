//! Whose leftovers are these: a mark for everything that outlives a killed test process, and the
//! sweep of temporary directories whose owner is dead. Containers are swept by the docker backend.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Kept short: Unix sockets below it must stay within 107 bytes.
pub(crate) const DIR_PREFIX: &str = "hpc-e2e-";

/// A process: its id, and when it started (in clock ticks since boot), so that a reused id is not
/// taken for a living owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pid: u32,
    start_ticks: u64,
}

impl Owner {
    /// This process.
    pub fn me() -> Owner {
        let pid = std::process::id();
        let start_ticks = start_ticks(pid).expect("/proc knows this process");
        Owner { pid, start_ticks }
    }

    /// Reads the mark back; `None` for anything that is not one of ours.
    pub fn parse(mark: &str) -> Option<Owner> {
        let (pid, start_ticks) = mark.split_once('.')?;
        Some(Owner {
            pid: pid.parse().ok()?,
            start_ticks: start_ticks.parse().ok()?,
        })
    }

    /// Of a directory that [`directory`] made, by its name; what else a world has is named alike.
    pub fn of_directory(name: &str) -> Option<Owner> {
        let (mark, _) = name.strip_prefix(DIR_PREFIX)?.split_once('-')?;
        Owner::parse(mark)
    }

    /// Whether the process has ended.
    pub fn is_dead(self) -> bool {
        start_ticks(self.pid) != Some(self.start_ticks)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pid, self.start_ticks)
    }
}

/// A directory marked as this process's, removed on drop; those of dead processes go first.
pub fn directory() -> Result<TempDir> {
    let parent = std::env::temp_dir();
    sweep(&parent);
    tempfile::Builder::new()
        .prefix(&format!("{DIR_PREFIX}{}-", Owner::me()))
        .tempdir_in(&parent)
        .with_context(|| format!("a directory in `{}`", parent.display()))
}

/// Best effort: a directory that cannot be removed is the next run's to try.
fn sweep(parent: &Path) {
    for entry in parent.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name
            .to_str()
            .and_then(Owner::of_directory)
            .is_some_and(Owner::is_dead)
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)); the name before it may hold spaces and braces.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_its_writer_lives() {
        let me = Owner::me();
        assert_eq!(Owner::parse(&me.to_string()), Some(me));
        assert!(!me.is_dead());
    }

    #[test]
    fn a_reused_process_id_is_not_the_owner() {
        let me = Owner::me();
        let before_me = Owner {
            start_ticks: me.start_ticks - 1,
            ..me
        };
        assert!(before_me.is_dead());
    }

    #[test]
    fn only_directories_of_the_dead_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let me = Owner::me();
        let mine = parent.path().join(format!("{DIR_PREFIX}{me}-abc"));
        let foreign = parent.path().join("something-else");
        let dead = parent.path().join(format!("{DIR_PREFIX}{}.1-abc", me.pid));
        for dir in [&mine, &foreign, &dead] {
            std::fs::create_dir(dir).unwrap();
        }
        sweep(parent.path());
        assert!(mine.exists() && foreign.exists() && !dead.exists());
    }
}
