//! A cluster without an SSH server: a spool, node daemons, and commands run by a shell in a user's
//! directory. Everything in it ends with the value: the daemons' lifelines are its pipes.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(15);

/// Waits until `probe` gives a value, or fails with `what`.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "this did not happen in time: {what}"
        );
        thread::sleep(POLL);
    }
}

/// The program under test.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_slurm-sim"))
}

/// Whether a process lives, and is no zombie.
pub(crate) fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

/// What a command did.
#[derive(PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\nexit {}\n--- stdout\n{}--- stderr\n{}---",
            self.code, self.out, self.err
        )
    }
}

impl Done {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command, input: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let stuck = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"));
        let (ended, end) = mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            if end.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill(stuck, Signal::SIGKILL);
            }
        });
        // A command that does not read its input may have closed it.
        let _ = child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes());
        let output = child.wait_with_output().expect("the command ends");
        drop(ended);
        watchdog.join().expect("it does not panic");
        Self {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Standard output of a command that did well, without the last newline.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(
            self.code == 0 && self.err.is_empty(),
            "a command failed: {self:?}"
        );
        self.out.trim_end_matches('\n').to_owned()
    }
}

/// A cluster with the virtual users alice and bob.
pub(crate) struct Sim {
    dir: TempDir,
    nodes: Vec<(String, Child)>,
}

impl Sim {
    /// Two nodes that are up. `tuning` goes to `slurm-sim init`.
    pub(crate) fn new(tuning: &[&str]) -> Self {
        let mut sim = Self::without_nodes(tuning);
        sim.start_node("node01");
        sim.start_node("node02");
        sim.awaits("sinfo -h -N -p compute -o %t", "idle\nidle");
        sim
    }

    /// Two nodes that are up, and the accounts of this system for users.
    pub(crate) fn of_accounts() -> Self {
        let mut sim = Self::init(&["--queue-delay", "0"]);
        fs::set_permissions(sim.dir.path(), Permissions::from_mode(0o755)).expect("its mode");
        sim.start_node("node01");
        sim.start_node("node02");
        sim.awaits("sinfo -h -N -p compute -o %t", "idle\nidle");
        sim
    }

    /// Two nodes that have never been heard of, so that every job waits.
    pub(crate) fn without_nodes(tuning: &[&str]) -> Self {
        let delay: &[&str] = match tuning.contains(&"--queue-delay") {
            true => &[],
            false => &["--queue-delay", "0"],
        };
        Self::init(&[&["--users", "alice,bob"], delay, tuning].concat())
    }

    fn init(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let sim = Self { dir, nodes: vec![] };
        for user in ["alice", "bob"] {
            fs::create_dir(sim.home(user)).expect("a home");
        }
        Done::of(program().arg("install").arg(sim.path("bin")), "").ok();
        let mut init = program();
        init.args(["init", "--spool"]).arg(sim.path("spool"));
        Done::of(init.args(args), "").ok();
        sim
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn home(&self, user: &str) -> PathBuf {
        self.path(user)
    }

    pub(crate) fn start_node(&mut self, name: &str) {
        // As from a shell's background: with signals ignored that jobs must not inherit.
        let daemon = Command::new("sh")
            .args(["-c", "trap '' INT QUIT; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_slurm-sim"))
            .args(["node", "--until-stdin-closes", "--name", name, "--spool"])
            .arg(self.path("spool"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("a node starts");
        self.nodes.push((name.to_owned(), daemon));
    }

    /// Ends a node as a power cut would, with everything on it.
    pub(crate) fn kills_node(&mut self, name: &str) {
        let at = self
            .nodes
            .iter()
            .position(|(known, _)| known == name)
            .expect("a node");
        let (_, mut daemon) = self.nodes.remove(at);
        daemon.kill().expect("it runs");
        daemon.wait().expect("it has ended");
    }

    pub(crate) fn signals_node(&self, name: &str, signal: Signal) {
        let (_, daemon) = self
            .nodes
            .iter()
            .find(|(known, _)| known == name)
            .expect("a node");
        let pid = i32::try_from(daemon.id()).expect("a pid fits");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    pub(crate) fn control(&self, args: &[&str]) {
        Done::of(
            program()
                .args(["control", "--spool"])
                .arg(self.path("spool"))
                .args(args),
            "",
        )
        .ok();
    }

    /// Runs a shell command as a user, in its home.
    pub(crate) fn run(&self, user: &str, command: &str) -> Done {
        Done::of(&mut self.shell(user, command), "")
    }

    pub(crate) fn run_with_input(&self, user: &str, command: &str, input: &str) -> Done {
        Done::of(&mut self.shell(user, command), input)
    }

    fn shell(&self, user: &str, command: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        let path = format!(
            "{}:/usr/local/bin:/usr/bin:/bin",
            self.path("bin").display()
        );
        shell
            .args(["-c", command])
            .current_dir(self.home(user))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home(user))
            .env("USER", user)
            .env("LOGNAME", user)
            .env("SHELL", "/bin/bash")
            .env("SLURM_SIM_SPOOL", self.path("spool"))
            .env("SLURM_SIM_HOST", "login")
            .env("SLURM_SIM_USER", user);
        shell
    }

    /// Submits a script of alice's and returns its job's id.
    #[track_caller]
    pub(crate) fn submits(&self, options: &str, script: &str) -> String {
        let command = format!("sbatch --parsable {options}");
        self.run_with_input("alice", &command, &format!("#!/bin/bash\n{script}\n"))
            .ok()
    }

    /// Waits until a command of alice's prints `expected`.
    #[track_caller]
    pub(crate) fn awaits(&self, command: &str, expected: &str) {
        eventually(&format!("`{command}` prints `{expected}`"), || {
            (self.run("alice", command).out.trim_end_matches('\n') == expected).then_some(())
        });
    }

    /// Waits until a job is in a state (`squeue`'s long name).
    #[track_caller]
    pub(crate) fn awaits_state(&self, job: &str, state: &str) {
        self.awaits(&format!("squeue -h -t all -o %T -j {job}"), state);
    }

    /// Waits until a file of alice's is there, and reads it.
    #[track_caller]
    pub(crate) fn awaits_file(&self, name: &str) -> String {
        let path = self.home("alice").join(name);
        eventually(&format!("`{name}` is written"), || {
            fs::read_to_string(&path)
                .ok()
                .filter(|text| !text.is_empty())
        })
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.home("alice").join(name)).unwrap_or_default()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        write_executable(&self.home("alice").join(name), text);
    }

    /// One field of `scontrol show job`.
    #[track_caller]
    pub(crate) fn shows(&self, job: &str, field: &str) -> String {
        let text = self.run("alice", &format!("scontrol show job {job}")).ok();
        let prefix = format!("{field}=");
        let word = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix(&prefix));
        word.unwrap_or_else(|| panic!("no {field} in {text}"))
            .to_owned()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        for (_, daemon) in &mut self.nodes {
            drop(daemon.stdin.take());
        }
        for (name, daemon) in &mut self.nodes {
            let deadline = Instant::now() + DEADLINE;
            while daemon.try_wait().is_ok_and(|status| status.is_none()) {
                if Instant::now() > deadline {
                    let _ = daemon.kill();
                    if !thread::panicking() {
                        panic!("the daemon of {name} does not end");
                    }
                }
                thread::sleep(POLL);
            }
        }
    }
}

pub(crate) fn write_executable(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("its mode");
}
