//! The processes of this machine as /proc shows them: who descends from whom, and what is left.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// One process, as it was when looked at.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its arguments, the program first.
    pub args: Vec<String>,
}

impl Process {
    /// Ends it at once, as the out-of-memory killer would.
    pub fn kill(&self) {
        self.hears(Signal::KILL);
    }

    /// Stops it where it is.
    pub fn stop(&self) {
        self.hears(Signal::STOP);
    }

    /// Lets it go on after that.
    pub fn go_on(&self) {
        self.hears(Signal::CONT);
    }

    fn hears(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // Already gone is as good.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether it was started with `NAME=VALUE` in its environment.
    pub fn has_in_environment(&self, setting: &str) -> bool {
        let environment = std::fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        words(&environment).iter().any(|word| word == setting)
    }

    /// Whether it runs the program of that name.
    pub fn is(&self, program: &str) -> bool {
        let path = self.args.first().map(Path::new);
        path.and_then(Path::file_name)
            .is_some_and(|name| name == program)
    }

    /// The values of an option given as two arguments, such as `-L SPEC`.
    pub fn values_of(&self, option: &str) -> Vec<&str> {
        self.args
            .windows(2)
            .filter(|pair| pair[0] == option)
            .map(|pair| pair[1].as_str())
            .collect()
    }

    fn read(pid: u32) -> Option<Process> {
        let proc = format!("/proc/{pid}");
        let stat = std::fs::read_to_string(format!("{proc}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut fields = after_name.split_whitespace();
        // A zombie runs nothing and waits only for its parent.
        if fields.next()? == "Z" {
            return None;
        }
        let parent = fields.next()?.parse().ok()?;
        let args = std::fs::read(format!("{proc}/cmdline")).ok()?;
        Some(Process {
            pid,
            parent,
            args: words(&args),
        })
    }
}

/// The process of that id, while it runs.
pub fn by_id(pid: u32) -> Option<Process> {
    Process::read(pid)
}

/// Every process below `ancestor`, without it.
pub fn below(ancestor: u32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut front = vec![ancestor];
    while let Some(parent) = front.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            front.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// Every process that mentions `dir` in its arguments, environment or working directory, this one
/// excepted: what a world kept in that directory has left running.
pub fn in_touch_with(dir: &Path) -> Vec<Process> {
    let needle = dir.as_os_str().as_encoded_bytes();
    let me = std::process::id();
    all()
        .into_iter()
        .filter(|process| process.pid != me)
        .filter(|process| {
            let proc = format!("/proc/{}", process.pid);
            let holds = |file: &str| {
                std::fs::read(format!("{proc}/{file}"))
                    .is_ok_and(|bytes| bytes.windows(needle.len()).any(|at| at == needle))
            };
            let works_there =
                std::fs::read_link(format!("{proc}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
            works_there || holds("cmdline") || holds("environ")
        })
        .collect()
}

fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .collect()
}

fn words(cmdline: &[u8]) -> Vec<String> {
    cmdline
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_descendants_and_those_in_touch_with_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(dir.path())
            .spawn()
            .unwrap();
        let below_me = below(std::process::id());
        assert!(below_me.iter().any(|process| process.pid == child.id()));
        let touching = in_touch_with(dir.path());
        assert_eq!(touching.len(), 1);
        touching[0].kill();
        assert!(!child.wait().unwrap().success());
        assert!(in_touch_with(dir.path()).is_empty());
    }
}
