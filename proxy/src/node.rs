//! What this node and this process say of themselves, for the lease.

use std::{fmt, fs, net::IpAddr};

use nix::ifaddrs::getifaddrs;
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

/// The node's own name.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Where others reach a listener bound to `ip`: there, or on every address of the node.
pub(crate) fn addresses(ip: IpAddr) -> Vec<IpAddr> {
    if !ip.is_unspecified() {
        return vec![ip];
    }
    let interfaces = getifaddrs().into_iter().flatten();
    let mut addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
        })
        .filter(|address| !address.is_loopback() && (ip.is_ipv6() || address.is_ipv4()))
        .collect();
    addresses.dedup();
    addresses
}

/// The node's current boot (random(4)); empty where the kernel does not say.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim_end().to_owned()
}

/// When this process started; 0 where the kernel does not say.
pub(crate) fn start_ticks() -> u64 {
    start_ticks_of("self").unwrap_or(0)
}

/// When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5), the 20th
/// behind the name, which may itself hold spaces and parentheses.
fn start_ticks_of(pid: impl fmt::Display) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(") ")?;
    behind_name.split(' ').nth(19)?.parse().ok()
}

/// Whether the process `pid` that started at `start_ticks` still runs; nothing where that cannot
/// be told, since /proc may hide a process even from its own user.
pub(crate) fn is_running(pid: u32, start_ticks: u64) -> Option<bool> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match id.map(test_kill_process) {
        None | Some(Err(Errno::SRCH)) => Some(false),
        Some(_) => start_ticks_of(pid).map(|found| found == start_ticks),
    }
}

/// Whether this process was started with SIGHUP ignored: bit 0 of `SigIgn` (proc_pid_status(5)).
pub(crate) fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 != 0))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_process_knows_when_it_started() {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let started = start_ticks() as f64 / 100.0;
        assert!(
            started > 0.0 && started <= uptime + 1.0,
            "{started} of {uptime}"
        );
    }

    #[test]
    fn a_process_is_told_from_another_that_has_its_number() {
        let (pid, started) = (std::process::id(), start_ticks());
        assert_eq!(is_running(pid, started), Some(true));
        assert_eq!(is_running(pid, started + 1), Some(false));
        for nobody in [0, u32::MAX, 1 << 22] {
            assert_eq!(is_running(nobody, started), Some(false), "{nobody}");
        }
    }

    #[test]
    fn a_bound_address_is_the_only_one() {
        assert_eq!(addresses(Ipv4Addr::LOCALHOST.into()), [Ipv4Addr::LOCALHOST]);
        assert!(
            addresses(Ipv4Addr::UNSPECIFIED.into())
                .iter()
                .all(IpAddr::is_ipv4)
        );
    }
}
