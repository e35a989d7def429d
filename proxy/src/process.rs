//! What a running process may use, and what it shows of itself: descriptors, core dumps, root.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Descriptors that are not a connection's: listeners, the log, netlink, files being read.
const RESERVED_DESCRIPTORS: u64 = 64;
/// What a connection takes: one descriptor towards the client, one towards the dev server.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// Nobody has this many tabs open; beyond it, memory would be the limit.
const MOST_CONNECTIONS: u64 = 16_384;
/// Under a limit that leaves room for nothing, some requests must still get through.
const FEWEST_CONNECTIONS: u64 = 16;

/// Raises the soft limit on open files to the hard one, as far as that goes, and returns it (S23).
/// The soft limit is 1024 on most systems only for the sake of programs that use select(2).
pub fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                ..limit
            },
        )
    {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
    descriptors().0
}

/// The soft and the hard limit on open files; without one, the largest number.
pub fn descriptors() -> (u64, u64) {
    let limit = getrlimit(Resource::Nofile);
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    (number(limit.current), number(limit.maximum))
}

/// How many connections go with this many descriptors.
pub fn connections_for(descriptors: u64) -> usize {
    let room = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
    room.clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS) as usize
}

/// Keeps the token in this process: no core file of it is written, and no other process of the
/// user's may attach to it or read its memory and environment (S31). Its own /proc/self stays
/// readable to itself where it is needed: the kernel makes an exception for a process's own `fd`,
/// and `stat` and `status` are everybody's.
pub fn keep_secrets() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether this is root, whose servers are the node's own and not a user's.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    // S22, S23.
    #[test]
    fn connections_follow_the_limit_on_open_files() {
        for (descriptors, connections) in [
            (0, 16),
            (64, 16),
            (1024, 480),
            (4096, 2016),
            (1 << 20, 16_384),
            (u64::MAX, 16_384),
        ] {
            assert_eq!(connections_for(descriptors), connections, "{descriptors}");
        }
    }
}
