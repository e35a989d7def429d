//! Which process has a listener, and what that process is.
//!
//! Finding it means to look at every descriptor of every process of the user; so it is remembered, and
//! believed as long as that descriptor of that process is that socket.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{Found, Listening};
use crate::text::is_unprintable;

/// How long a listener whose process cannot be found is not looked for: the user may not look into it, or it
/// has only just been passed on.
const NOT_FOUND_FOR: Duration = Duration::from_secs(3);

/// A descriptor of a process (proc_pid_fd(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    descriptor: u32,
}

impl Holder {
    /// Whether it is this socket still. A number is given to another process only after this one has ended,
    /// and a socket's to another socket only after all its descriptors are closed.
    fn holds(self, inode: u64) -> bool {
        let Self { pid, descriptor } = self;
        socket_inode(Path::new(&format!("/proc/{pid}/fd/{descriptor}"))) == Some(inode)
    }
}

/// A listener that was described.
#[derive(Clone, Debug)]
struct Described {
    found: Found,
    holder: Option<Holder>,
    server: Listening,
    at: Instant,
}

impl Described {
    fn is_valid(&self, found: &Found) -> bool {
        self.found == *found
            && match self.holder {
                Some(holder) => holder.holds(found.socket.inode),
                None => self.at.elapsed() < NOT_FOUND_FOR,
            }
    }
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<u64, Described>);

impl Known {
    /// One server for each socket, still without its title; `job` is the Slurm job that the session is.
    /// Blocks.
    pub(super) fn describe(&mut self, found: &[Found], job: Option<&str>) -> Vec<Listening> {
        let is_known = |it: &Found| {
            let known = self.0.get(&it.socket.inode);
            known.is_some_and(|known| known.is_valid(it))
        };
        let new: Vec<Found> = found.iter().filter(|it| !is_known(it)).copied().collect();
        if !new.is_empty() {
            let holders = holders(&new);
            let at = Instant::now();
            self.0
                .retain(|inode, _| found.iter().any(|it| it.socket.inode == *inode));
            for found in new {
                let holder = holders.get(&found.socket.inode).copied();
                let described = Described {
                    found,
                    holder,
                    server: describe(&found, holder.map(|holder| holder.pid), job),
                    at,
                };
                self.0.insert(found.socket.inode, described);
            }
        }
        let servers = found.iter().filter_map(|it| self.0.get(&it.socket.inode));
        let named = servers.map(|known| Listening {
            // A program may give itself another name at any time.
            process: known.server.pid.and_then(name_of),
            ..known.server.clone()
        });
        named.collect()
    }
}

fn describe(found: &Found, pid: Option<u32>, job: Option<&str>) -> Listening {
    let in_session = match (job, pid) {
        (None, _) => true,
        (Some(job), Some(pid)) => job_of(pid).as_deref() == Some(job),
        (Some(_), None) => false,
    };
    Listening {
        port: found.port(),
        address: match (found.socket.address, found.private) {
            (address, Some(it)) if it.asked != it.port => address.to_string(),
            (address, _) => address.ip().to_string(),
        },
        private: found.private.is_some(),
        locked: found.private.is_some_and(|it| it.is_locked),
        process: None,
        pid,
        title: None,
        link: format!("/port/{}/", found.port()),
        in_session,
    }
}

/// What a process is called (proc_pid_comm(5)).
fn name_of(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.chars().filter(|c| !is_unprintable(*c)).collect())
}

/// The Slurm job of a process: from its environment, as Slurm set it for the batch script.
fn job_of(pid: u32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let job = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"SLURM_JOB_ID="))?;
    String::from_utf8(job.to_vec()).ok()
}

/// Which process holds each of the sockets, of those processes that we may look into.
fn holders(found: &[Found]) -> HashMap<u64, Holder> {
    let mut holders: HashMap<u64, Holder> = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = number(&process) else {
            continue;
        };
        let descriptors = fs::read_dir(process.path().join("fd"));
        for entry in descriptors.into_iter().flatten().flatten() {
            let Some(inode) = socket_inode(&entry.path()) else {
                continue;
            };
            if let Some(descriptor) = number(&entry)
                && found.iter().any(|it| it.socket.inode == inode)
            {
                // Of a parent and a forked child the older, smaller number is the server's own.
                let new = Holder { pid, descriptor };
                let holder = holders.entry(inode).or_insert(new);
                if pid < holder.pid {
                    *holder = new;
                }
            }
        }
    }
    holders
}

fn number(entry: &fs::DirEntry) -> Option<u32> {
    entry.file_name().to_str()?.parse().ok()
}

fn socket_inode(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    let inode = target.to_str()?.strip_prefix("socket:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::fd::{AsRawFd, OwnedFd},
    };

    use super::*;
    use crate::upstream::owner::Owners;

    async fn found(listener: &TcpListener) -> Found {
        let address = listener.local_addr().unwrap();
        let socket = Owners::probe().listener(address).await.unwrap().unwrap();
        Found {
            socket,
            private: None,
        }
    }

    #[tokio::test]
    async fn what_is_remembered_is_believed_while_it_is_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = [found(&listener).await];
        let mut known = Known::default();
        let first = known.describe(&found, None);
        assert_eq!(first[0].pid, Some(std::process::id()));

        // Not looked for again.
        let kept = known.0.get_mut(&found[0].socket.inode).unwrap();
        kept.server.address = "as remembered".to_owned();
        let holder = kept.holder.unwrap();
        assert_eq!(holder.descriptor, listener.as_raw_fd() as u32);
        let again = known.describe(&found, None);
        assert_eq!(again[0].address, "as remembered");

        // By another descriptor: looked for, and found.
        let moved: OwnedFd = listener.try_clone().unwrap().into();
        drop(listener);
        let after = known.describe(&found, None);
        assert_eq!(after, first);
        drop(moved);
        assert!(
            !known.0[&found[0].socket.inode]
                .holder
                .unwrap()
                .holds(found[0].socket.inode)
        );
    }

    #[tokio::test]
    async fn what_is_in_nobodys_hands_is_looked_for_later_and_what_is_gone_is_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let real = found(&listener).await;
        let mut lost = real;
        lost.socket.inode = u64::MAX;
        let mut known = Known::default();
        let servers = known.describe(&[lost, real], Some("17"));
        assert_eq!((servers[0].pid, servers[0].in_session), (None, false));
        assert!(known.0[&u64::MAX].is_valid(&lost));
        known.0.get_mut(&u64::MAX).unwrap().at -= NOT_FOUND_FOR;
        assert!(!known.0[&u64::MAX].is_valid(&lost));
        let mut other = real;
        other.socket.inode = 1;
        assert_eq!(known.describe(&[real, other], None).len(), 2);
        assert!(!known.0.contains_key(&u64::MAX));
    }
}
