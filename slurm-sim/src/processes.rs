//! Which processes descend from which, read from `/proc`, and how to be rid of them all.
//! A child subreaper's descendants are complete: an orphan becomes its child, not init's.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A killed process needs a moment to be gone.
const POLL: Duration = Duration::from_millis(2);

/// One process, as far as kinship goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) zombie: bool,
}

/// Reads a line of `/proc/PID/stat`. The command is in parentheses and may hold anything.
fn parse_stat(stat: &str) -> Option<Process> {
    let pid = stat.split_once(' ')?.0.parse().ok()?;
    let mut rest = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let zombie = matches!(rest.next()?, "Z" | "X");
    Some(Process {
        pid,
        parent: rest.next()?.parse().ok()?,
        zombie,
    })
}

/// Every process there is.
pub(crate) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![];
    };
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
        })
        .filter_map(|entry| parse_stat(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect()
}

/// The living descendants of `root` among `processes`, without itself.
fn descendants(processes: &[Process], root: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(*process);
    }
    let (mut found, mut queue) = (Vec::new(), vec![root]);
    while let Some(parent) = queue.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            queue.push(child.pid);
            if !child.zombie {
                found.push(child.pid);
            }
        }
    }
    found
}

/// The living descendants of `root`.
pub(crate) fn descendants_of(root: Pid) -> Vec<Pid> {
    descendants(&all(), root.as_raw())
        .into_iter()
        .map(Pid::from_raw)
        .collect()
}

/// Kills every descendant of this process, those that are born meanwhile too, and reaps those that
/// are its children. Returns whether none was left by the deadline.
pub(crate) fn kill_descendants(within: Duration) -> bool {
    let started = Instant::now();
    loop {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {
        }
        let left = descendants_of(Pid::this());
        if left.is_empty() {
            return true;
        }
        if started.elapsed() > within {
            return false;
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid,
            parent,
            zombie: false,
        }
    }

    #[test]
    fn reads_a_stat_line_with_a_hostile_name() {
        let process = parse_stat("42 (a) b (c)) S 7 42 42 0 -1").unwrap();
        assert_eq!(
            (process.pid, process.parent, process.zombie),
            (42, 7, false)
        );
        assert!(parse_stat("43 (x) Z 7 0").unwrap().zombie);
        assert!(parse_stat("nonsense").is_none());
    }

    #[test]
    fn finds_grandchildren_but_not_strangers_or_itself() {
        let mut all = vec![process(2, 1), process(3, 2), process(4, 3), process(9, 1)];
        all.push(Process {
            pid: 5,
            parent: 2,
            zombie: true,
        });
        let mut found = descendants(&all, 2);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }
}
