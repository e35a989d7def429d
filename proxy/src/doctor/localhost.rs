//! Probes of what a private localhost takes (`hpc-proxy exec`), each tried and not read off a version.

use std::{fs, io, sync::OnceLock};

use hpc_proxy::text::chain;
use private_localhost::{Features, Unavailable, probe, try_lock};

use super::Finding;
use crate::cli::Config;

/// What follows where there is none.
const SHARED: &str = "`hpc-proxy exec` runs programs all the same, in the localhost that all users of this \
    node share; a port that another user has is taken";

/// What is tried on a child, once for all that ask.
fn tried() -> &'static Result<Features, Unavailable> {
    static TRIED: OnceLock<Result<Features, Unavailable>> = OnceLock::new();
    TRIED.get_or_init(probe)
}

/// seccomp_unotify(2): whether system calls of children can be answered in their stead.
pub(super) fn supervision(_: &Config) -> Finding {
    match tried() {
        Ok(_) => Finding::ok("seccomp lets bind and connect be supervised")
            .so("`hpc-proxy exec` gives programs a localhost of your own"),
        Err(Unavailable::Supervised) => Finding::ok("this runs in a private localhost already"),
        Err(error) => Finding::warn(chain(error), SHARED),
    }
}

/// pidfd_getfd(2).
pub(super) fn taken_sockets(_: &Config) -> Finding {
    of_features(|found| match &found.cannot_take {
        None => Finding::ok("sockets of children can be taken (pidfd_getfd)"),
        Some(error) => Finding::warn(
            format!("sockets of children cannot be taken (pidfd_getfd): {error}"),
            "they are replaced, and lose what was set on them before bind or connect; in a container \
             SYS_PTRACE helps",
        ),
    })
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD` of seccomp_unotify(2).
pub(super) fn replaced_sockets(_: &Config) -> Finding {
    of_features(|found| match &found.cannot_replace {
        None => Finding::ok("sockets of children can be replaced (ADDFD)"),
        Some(error) => Finding::ok(format!(
            "sockets of children cannot be replaced (ADDFD): {error}"
        ))
        .so("not needed, since they can be taken"),
    })
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` of seccomp(2).
pub(super) fn steady_calls(_: &Config) -> Finding {
    of_features(|found| {
        if found.is_steady {
            Finding::ok("a supervised call withstands signals (WAIT_KILLABLE_RECV)")
        } else {
            Finding::ok("a supervised call is made again after a signal (no WAIT_KILLABLE_RECV)")
                .so("a program under a storm of signals may see EINTR from bind")
        }
    })
}

fn of_features(say: impl Fn(&Features) -> Finding) -> Finding {
    match tried() {
        Ok(found) => say(found),
        Err(_) => Finding::ok("not tried, without supervision"),
    }
}

/// `TCP_MD5SIG_EXT` of tcp(7).
pub(super) fn lock(_: &Config) -> Finding {
    match try_lock() {
        Ok(()) => Finding::ok("a key keeps other users from private servers (TCP-MD5)"),
        Err(error) => Finding::warn(
            chain(&error),
            "private servers are not locked: another user who knows their address can open them",
        ),
    }
}

/// The Yama security module (Documentation/admin-guide/LSM/Yama.rst of Linux).
pub(super) fn yama(_: &Config) -> Finding {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    said_by_yama(scope.as_deref().ok().map(str::trim))
}

fn said_by_yama(scope: Option<&str>) -> Finding {
    match scope {
        None | Some("0") => Finding::ok("Yama does not restrict who looks into a process"),
        Some("1") => Finding::ok("Yama lets a process look into its children alone")
            .so("`hpc-proxy exec` looks into no other"),
        Some(scope) => Finding::ok(format!("Yama restricts who looks into a process ({scope})"))
            .so("sockets of children may have to be replaced"),
    }
}

/// user_namespaces(7): nothing of ours needs them, but much that is proposed instead.
pub(super) fn user_namespaces(_: &Config) -> Finding {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let most = read("/proc/sys/user/max_user_namespaces");
    let debian = read("/proc/sys/kernel/unprivileged_userns_clone");
    let offered = !["", "0"].contains(&most.trim()) && debian.trim() != "0";
    Finding::ok(if offered {
        "user namespaces are on"
    } else {
        "user namespaces are off"
    })
    .so("not needed")
}

/// tun(4), which a network namespace needs to reach anything.
pub(super) fn tun(_: &Config) -> Finding {
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    Finding::ok(match opened {
        Ok(_) => "/dev/net/tun can be opened".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "no /dev/net/tun".to_owned(),
        Err(error) => format!("/dev/net/tun cannot be opened: {error}"),
    })
    .so("not needed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yama_is_told_in_words() {
        for (scope, word) in [
            (None, "does not restrict"),
            (Some("0"), "does not restrict"),
            (Some("1"), "children alone"),
            (Some("2"), "(2)"),
            (Some("3"), "(3)"),
        ] {
            let what = said_by_yama(scope).what;
            assert!(what.contains(word), "{what}");
        }
    }
}
