//! Probes of the node itself: kernel, sockets, limits, scheduler.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
};

use hpc_proxy::{
    process::{self, connections_for},
    upstream::owner::Owners,
};

use super::Finding;
use crate::cli::Config;

/// Without this many connections a few browser tabs with live reload are at the limit.
const FEW_CONNECTIONS: usize = 256;

pub(super) fn kernel(_: &Config) -> Finding {
    let system = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    Finding::ok(format!(
        "{} {} on {}",
        text(system.sysname()),
        text(system.release()),
        text(system.machine())
    ))
}

/// Whether the kernel says whose a socket is. Without an answer nothing is forwarded at all.
pub(super) fn sockets(_: &Config) -> Finding {
    if Owners::probe().is_fast() {
        return Finding::ok("sock_diag says whose a socket is");
    }
    match fs::read_to_string("/proc/net/tcp") {
        Ok(_) => Finding::warn(
            "no sock_diag, but /proc/net/tcp",
            "each new connection to a dev server takes some milliseconds longer; the kernel \
             modules inet_diag and tcp_diag would help",
        ),
        Err(error) => Finding::fail(
            format!("neither sock_diag nor /proc/net/tcp: {error}"),
            "nothing is forwarded, since nobody says whose port is whose; ask the site for tcp_diag",
        ),
    }
}

/// How much of other processes /proc shows (proc(5), `hidepid`).
pub(super) fn proc(_: &Config) -> Finding {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else {
        return Finding::warn(
            "/proc is not mounted",
            "the list of your servers has no names of programs, and no jobs",
        );
    };
    let mount = mounts.lines().rev().find_map(|line| {
        let mount = Mount::parse(line)?;
        (mount.point == "/proc").then_some(mount)
    });
    match mount.and_then(|mount| hidden(mount.options)) {
        None => Finding::ok("/proc shows all processes"),
        Some(how) => Finding::ok(format!("/proc hides other users' processes ({how})"))
            .so("your own are seen, which is enough"),
    }
}

fn hidden(options: &str) -> Option<&str> {
    let hides = |option: &&str| {
        let value = option.strip_prefix("hidepid=");
        value.is_some_and(|value| !["0", "off"].contains(&value))
    };
    options.split(',').find(hides)
}

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount<'a> {
    /// Where; spaces in it are written as `\040`.
    pub(super) point: &'a str,
    /// What kind of file system.
    pub(super) kind: &'a str,
    /// Of the file system.
    pub(super) options: &'a str,
}

impl<'a> Mount<'a> {
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut file_system = file_system.split(' ');
        Some(Self {
            point: mount.split(' ').nth(4)?,
            kind: file_system.next()?,
            options: file_system.nth(1)?,
        })
    }
}

pub(super) fn descriptors(_: &Config) -> Finding {
    let (soft, hard) = process::descriptors();
    let connections = connections_for(hard);
    let what = match hard {
        u64::MAX => format!("{soft} open files, without a limit"),
        _ => format!("{soft} open files, up to {hard}"),
    };
    let consequence = format!("up to {connections} connections and WebSockets at once");
    if connections < FEW_CONNECTIONS {
        Finding::warn(
            what,
            consequence + "; ask for a higher hard limit (ulimit -H -n)",
        )
    } else {
        Finding::ok(what).so(consequence)
    }
}

pub(super) fn ipv4(_: &Config) -> Finding {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)) {
        Ok(_) => Finding::ok("a port of 0.0.0.0 can be listened on"),
        Err(error) => Finding::fail(
            format!("no port of 0.0.0.0 can be listened on: {error}"),
            "no tunnel reaches the proxy; `--listen unix:PATH` with `hpc-proxy bridge` may",
        ),
    }
}

pub(super) fn ipv6(_: &Config) -> Finding {
    match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => Finding::ok("the loopback has ::1"),
        Err(error) => Finding::ok(format!("the loopback has no ::1: {error}"))
            .so("dev servers are reached on 127.0.0.1 alone"),
    }
}

pub(super) fn root(_: &Config) -> Finding {
    if process::is_root() {
        Finding::warn(
            "this is root",
            "`hpc-proxy` serves root only with --allow-root; run it as the user whose servers it is for",
        )
    } else {
        let uid = rustix::process::geteuid();
        Finding::ok(format!("this is user {uid}, not root"))
    }
}

pub(super) fn slurm(config: &Config) -> Finding {
    match (&config.job, &config.node) {
        (Some(job), Some(node)) => Finding::ok(format!("job {job} on node {node}")),
        (Some(job), None) => Finding::warn(
            format!("job {job}, but SLURMD_NODENAME is not set"),
            "a manager does not believe the record of a proxy that is started here",
        ),
        (None, _) => Finding::ok("not in a Slurm job").so(
            "a proxy that is started here is this host's; all your servers count as its session's",
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mount_is_read_with_its_kind_and_options() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.point, mount.kind), ("/mnt2", "ext3"));
        assert_eq!(mount.options, "rw,errors=continue");
        let proc = "21 28 0:20 / /proc rw,nosuid - proc proc rw,hidepid=2";
        assert_eq!(
            hidden(Mount::parse(proc).unwrap().options),
            Some("hidepid=2")
        );
        assert_eq!(hidden("rw,hidepid=invisible"), Some("hidepid=invisible"));
        for shown in ["rw", "rw,hidepid=0", "hidepid=off"] {
            assert_eq!(hidden(shown), None, "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line: String) {
            let _ = Mount::parse(&line);
        }
    }
}
