//! What the kernel says of a running process: memory, processor time, switches. See proc(5).

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};

/// A process by its id.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

/// What a process has used so far, all threads together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// In user and kernel mode.
    pub cpu: Duration,
    /// Context switches, voluntary or not.
    pub switches: u64,
}

impl Usage {
    /// What was used since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            switches: self.switches.saturating_sub(before.switches),
        }
    }
}

impl Process {
    /// `VmRSS`: the pages in memory, shared ones included.
    ///
    /// # Errors
    /// The process is gone.
    pub fn rss_bytes(self) -> Result<u64> {
        let status = self.read("status")?;
        kilobytes(&status, "VmRSS:").context("a status without VmRSS: the process has ended")
    }

    /// The pages in memory, each divided by the number of processes that share it; nothing where we
    /// may not look, as into a process that is not dumpable.
    pub fn pss_bytes(self) -> Option<u64> {
        kilobytes(&self.read("smaps_rollup").ok()?, "Pss:")
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// The process is gone.
    pub fn usage(self) -> Result<Usage> {
        // To the nanosecond, threads that have ended included; proc(5) counts in hundredths of a second.
        let pid = nix::unistd::Pid::from_raw(self.0.try_into().context("an id of a process")?);
        let clock = clock_getcpuclockid(pid).context("a process's clock")?;
        let cpu = clock_gettime(clock).context("read a process's clock")?;
        let mut switches = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0)).context("its threads")? {
            let task = task.context("a thread")?.path().join("status");
            // A thread may end between the listing and now.
            let status = fs::read_to_string(task).unwrap_or_default();
            switches += number(&status, "voluntary_ctxt_switches:").unwrap_or_default();
            switches += number(&status, "nonvoluntary_ctxt_switches:").unwrap_or_default();
        }
        Ok(Usage {
            cpu: cpu.into(),
            switches,
        })
    }

    /// For how long it has been ready to run while all processors were taken (sched-stats.rst in the
    /// kernel's documentation); zero where the kernel does not count it.
    pub fn starved(self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0))
            .into_iter()
            .flatten()
            .flatten();
        let nanos = tasks.filter_map(|task| {
            let counts = fs::read_to_string(task.path().join("schedstat")).ok()?;
            counts.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Its children that run a program of this name.
    pub fn children(self, name: &str) -> Vec<Self> {
        let ours = |process: &Self| {
            let status = process.read("status").unwrap_or_default();
            number(&status, "PPid:") == Some(u64::from(self.0))
        };
        Self::all(name).into_iter().filter(ours).collect()
    }

    /// All that run a program of this name.
    pub fn all(name: &str) -> Vec<Self> {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Self));
        let runs = |process: &Self| {
            let status = process.read("status").unwrap_or_default();
            status.lines().next() == Some(&format!("Name:\t{name}"))
        };
        all.filter(runs).collect()
    }

    /// How many descriptors it may have now; nothing where we may not look.
    pub fn descriptor_limit(self) -> Option<u64> {
        let limits = self.read("limits").ok()?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| format!("read `{path}`"))
    }
}

/// What all processes have used so far, and the kernel's own threads: what is sent over loopback is
/// often received in one of those, whoever sent it.
///
/// # Errors
/// The kernel does not say.
pub fn cpu_of_all() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("read `/proc/stat`")?;
    let line = stat.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq
    let ticks = line.split_ascii_whitespace().skip(1).take(7).enumerate();
    let busy = ticks.filter(|(column, _)| !matches!(column, 3 | 4));
    let busy = busy
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum();
    Ok(ticks_to_time(busy))
}

fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_nanos(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    number(text, name).map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_this_process() {
        let own = Process(std::process::id());
        assert!(own.rss_bytes().unwrap() > 100_000);
        let before = own.usage().unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(100) {}
        let used = own.usage().unwrap().since(before);
        assert!(used.cpu > Duration::ZERO, "{used:?}");
        assert!(own.descriptor_limit().unwrap() > 10);
    }

    #[test]
    fn knows_the_children_of_a_program() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let own = Process(std::process::id());
        // Before exec it bears our name.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while own.children("sleep").is_empty() && std::time::Instant::now() < deadline {}
        let found: Vec<u32> = own.children("sleep").iter().map(|found| found.0).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [child.id()]);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        Process(u32::MAX).rss_bytes().unwrap_err();
    }
}
