//! How many descriptors a process may have (getrlimit(2), `RLIMIT_NOFILE`), and what that allows.

use std::sync::OnceLock;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of a proxy or a peer that are none of its connections: standard streams, listener,
/// epoll, eventfd, netlink and the like, generously.
const RESERVED: u64 = 40;

/// What this process was started with.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// The limit as it is for whoever starts from a shell, before [`raise`].
fn inherited() -> Rlimit {
    *INHERITED.get_or_init(|| getrlimit(Resource::Nofile))
}

/// Raises this process's limit as far as it may.
///
/// # Errors
/// The kernel refused.
pub fn raise() -> Result<()> {
    let maximum = inherited().maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("raise the number of descriptors")
}

/// Runs `start`, which starts a process, under the limit that this one was started with: raising its
/// own is the business of the proxy.
///
/// # Errors
/// Those of `start`.
pub fn with_inherited<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    let ours = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, inherited()).context("lower the number of descriptors")?;
    let started = start();
    setrlimit(Resource::Nofile, ours).context("raise the number of descriptors again")?;
    started
}

/// The most that any process here may have.
pub fn most() -> u64 {
    inherited().maximum.unwrap_or(u64::MAX)
}

/// How many connections a process can hold that needs `each` descriptors for one.
pub fn connections(each: u64) -> u64 {
    most().saturating_sub(RESERVED) / each
}
