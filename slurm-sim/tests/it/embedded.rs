//! `slurm-sim up`, driven by the system's own `ssh`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::sim::{DEADLINE, Done, eventually, program};

/// A cluster that is up. It ends with the value.
struct Up {
    dir: TempDir,
    process: Child,
    lifeline: Option<ChildStdin>,
    ready: serde_json::Value,
}

impl Up {
    fn new(tuning: &[&str]) -> Self {
        // A short name: control sockets have to fit into 107 bytes.
        let dir = tempfile::Builder::new()
            .prefix("up")
            .tempdir()
            .expect("a directory");
        let mut process = program()
            .args(["up", "--until-stdin-closes", "--queue-delay", "0", "--dir"])
            .arg(dir.path())
            .args(tuning)
            .env("CLUSTER", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lifeline = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, line) = mpsc::channel();
        thread::spawn(move || sender.send(stdout.lines().next()));
        let line = line.recv_timeout(DEADLINE).expect("it is ready in time");
        let line = line.expect("a line").expect("text");
        let ready = serde_json::from_str(&line).expect("JSON");
        Self {
            dir,
            process,
            lifeline,
            ready,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ssh(&self) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F")
            .arg(self.ready["ssh_config"].as_str().expect("a path"));
        ssh
    }

    fn runs(&self, destination: &str, command: &str) -> Done {
        self.runs_with_input(destination, command, "")
    }

    fn runs_with_input(&self, destination: &str, command: &str, input: &str) -> Done {
        Done::of(self.ssh().args(["--", destination, command]), input)
    }

    /// A client that stays, with a forward.
    fn forwards(&self, destination: &str, forward: &str) -> Client {
        let mut ssh = self.ssh();
        ssh.args([
            "-o",
            "ExitOnForwardFailure=yes",
            "-L",
            forward,
            "--",
            destination,
        ]);
        Client::of(ssh.arg("echo up; exec cat"))
    }

    /// Processes that belong to this cluster: its directory is in their environment or arguments.
    fn processes(&self) -> Vec<String> {
        let mark = self.dir.path().to_str().expect("text");
        let has = |path: PathBuf| {
            fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(mark))
        };
        let entries = fs::read_dir("/proc").expect("processes").flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
            .filter(|entry| has(entry.path().join("environ")) || has(entry.path().join("cmdline")))
            .map(|entry| fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default())
            .map(|cmdline| cmdline.replace('\0', " "))
            // The clients are ours, and this test's own.
            .filter(|cmdline| !cmdline.starts_with("ssh "))
            .collect()
    }

    fn await_nothing_left(&mut self) {
        eventually("the cluster ends", || {
            self.process.try_wait().expect("it can be asked")
        });
        let mut left = vec![];
        let gone = || {
            left = self.processes();
            left.is_empty().then_some(())
        };
        eventually("every process of the cluster ends", gone);
    }

    /// A job, a command that is being run, and a daemon that has got away from another.
    fn is_busy(&self) -> Client {
        self.runs(
            "alice@login",
            "(setsid sleep 3001 >/dev/null 2>&1 </dev/null &)",
        )
        .ok();
        let script = "#!/bin/sh\ntrap '' TERM HUP\n(setsid sleep 3002 &)\nsleep 3003 & echo up >up\n\
            while :; do sleep 1; done\n";
        self.runs_with_input("alice@login", "sbatch", script).ok();
        eventually("the job runs", || {
            fs::read_to_string(self.path("home/alice/up")).ok()
        });
        let mut ssh = self.ssh();
        let client = Client::of(ssh.args([
            "bob@login",
            "trap '' HUP TERM; echo up; sleep 3004; sleep 3005",
        ]));
        assert!(self.processes().len() > 6, "{:?}", self.processes());
        client
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let deadline = Instant::now() + DEADLINE;
        while self.process.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                // Its inner process notices, and cleans up.
                let _ = self.process.kill();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// An `ssh` that has said that it is up.
struct Client {
    ssh: Child,
    stdin: Option<ChildStdin>,
}

impl Client {
    fn of(ssh: &mut Command) -> Self {
        let mut ssh = ssh
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh starts");
        let mut line = [0; 3];
        let stdin = ssh.stdin.take();
        let stdout = ssh.stdout.as_mut().expect("piped");
        stdout.read_exact(&mut line).expect("it says that it is up");
        assert_eq!(&line, b"up\n");
        Self { ssh, stdin }
    }

    fn kill(mut self) {
        self.ssh.kill().expect("it runs");
        self.ssh.wait().expect("it has ended");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

/// A port of this host that nobody uses just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// Answers one connection: reads to its end, and only then sends back what it read.
fn echo_after_the_end(accept: impl FnOnce() -> Box<dyn ReadWrite> + Send + 'static) {
    thread::spawn(move || {
        let (mut stream, mut bytes) = (accept(), Vec::new());
        stream.read_to_end(&mut bytes).expect("bytes");
        stream.write_all(&bytes).expect("a reader");
    });
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Sends bytes, ends its side, and reads the other to the end.
fn converse(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the local end");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut answer = Vec::new();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn a_command_has_its_streams_its_exit_code_and_its_users_home() {
    let up = Up::new(&[]);
    let done = up.runs("alice@login", "echo out; echo err >&2; exit 7");
    assert_eq!(
        done,
        Done {
            out: "out\n".into(),
            err: "err\n".into(),
            code: 7
        }
    );
    assert_eq!(
        up.runs_with_input("bob@login", "cat; echo end", "hello\n")
            .ok(),
        "hello\nend"
    );
    assert_eq!(up.runs("alice@login", "kill -9 $$").code, 255);
    assert_eq!(up.runs("alice@login", "nosuchcommand").code, 127);
    for user in ["alice", "bob"] {
        let home = up
            .path("home")
            .join(user)
            .canonicalize()
            .expect("a home")
            .display()
            .to_string();
        let command =
            "pwd; echo $HOME $USER $LOGNAME $HOSTNAME $SLURMD_NODENAME; command -v sbatch";
        let bin = up.ready["bin"].as_str().expect("a path");
        assert_eq!(
            up.runs(&format!("{user}@login"), command).ok(),
            format!("{home}\n{home} {user} {user} login\n{bin}/sbatch")
        );
    }
    let big = "x".repeat(3_000_000);
    assert_eq!(up.runs_with_input("alice@login", "cat", &big).ok(), big);
}

#[test]
fn a_terminal_is_refused() {
    let up = Up::new(&[]);
    // What the client does then differs from version to version.
    let done = Done::of(up.ssh().args(["-tt", "alice@login", "echo hello"]), "");
    assert!(
        done.err.contains("PTY allocation request failed"),
        "{done:?}"
    );
    assert_eq!(up.runs("alice@login", "echo hello").ok(), "hello");
}

#[test]
fn a_forward_that_is_not_read_holds_up_no_other() {
    let up = Up::new(&[]);
    let listener = TcpListener::bind("127.0.1.1:0").expect("a node's port");
    let target = listener.local_addr().expect("its address").port();
    let local = free_port();
    let mut client = up.forwards("alice@login", &format!("127.0.0.1:{local}:node01:{target}"));
    let mut stalled = TcpStream::connect(("127.0.0.1", local)).expect("the local end");
    listener.set_nonblocking(true).expect("a mode");
    let _deaf = eventually("the forward connects", || listener.accept().ok());
    listener.set_nonblocking(false).expect("a mode");
    // More than any buffer on the way holds.
    stalled
        .set_write_timeout(Some(DEADLINE))
        .expect("a timeout");
    stalled.write_all(&vec![0; 16 << 20]).expect("it is taken");
    echo_after_the_end(move || Box::new(listener.accept().expect("a connection").0));
    assert_eq!(converse(local, b"hello"), b"hello");
    assert!(client.ssh.try_wait().expect("it can be asked").is_none());
}

#[test]
fn a_node_is_reached_through_the_login_node_and_knows_its_name() {
    let up = Up::new(&[]);
    for node in ["node01", "node02"] {
        let names = up
            .runs(
                &format!("alice@{node}"),
                "echo $HOSTNAME $SLURMD_NODENAME $USER",
            )
            .ok();
        assert_eq!(names, format!("{node} {node} alice"));
    }
}

#[test]
fn strangers_and_wrong_keys_are_refused() {
    let up = Up::new(&[]);
    let denied = |done: Done| {
        assert_eq!(done.code, 255);
        assert!(
            done.err.contains("Permission denied (publickey)."),
            "{done:?}"
        );
    };
    denied(up.runs("carol@login", "true"));
    let port = up.ready["ssh_port"].to_string();
    let login = |user: &str, key: &str, known: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
        ])
        .args([
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "HostKeyAlias=login",
            "-o",
        ])
        .arg(format!("UserKnownHostsFile={}", up.path(known).display()))
        .arg("-i")
        .arg(up.path("keys").join(key))
        .args(["-p", &port, &format!("{user}@127.0.0.1"), "echo in"]);
        Done::of(&mut ssh, "")
    };
    assert_eq!(login("alice", "alice", "known_hosts").ok(), "in");
    denied(login("alice", "bob", "known_hosts"));
    denied(login("bob", "alice", "known_hosts"));
    // Another host's key under the login node's name.
    let pins = fs::read_to_string(up.path("known_hosts")).expect("pins");
    let other = pins
        .lines()
        .find_map(|line| line.strip_prefix("node01 "))
        .expect("a key");
    fs::write(up.path("changed"), format!("login {other}\n")).expect("a file");
    let changed = login("alice", "alice", "changed");
    assert!(
        changed.err.ends_with("Host key verification failed.\r\n"),
        "{changed:?}"
    );
    assert_eq!(changed.code, 255);
}

#[test]
fn a_forward_leads_to_the_nodes_address_and_keeps_half_closes() {
    let up = Up::new(&[]);
    let listener = TcpListener::bind("127.0.1.1:0").expect("a node's port");
    let target = listener.local_addr().expect("its address").port();
    echo_after_the_end(move || Box::new(listener.accept().expect("a connection").0));
    let local = free_port();
    let _client = up.forwards("alice@login", &format!("127.0.0.1:{local}:node01:{target}"));
    let bytes = b"0123456789".repeat(200_000);
    assert!(converse(local, &bytes) == bytes);
}

#[test]
fn a_forward_may_lead_through_a_node_to_a_socket() {
    let up = Up::new(&[]);
    let socket = up.path("home/alice/sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    echo_after_the_end(move || Box::new(listener.accept().expect("a connection").0));
    let local = free_port();
    let _client = up.forwards(
        "alice@node01",
        &format!("127.0.0.1:{local}:{}", socket.display()),
    );
    assert_eq!(converse(local, b"hello"), b"hello");
}

#[test]
fn a_forward_to_nobody_fails_on_use_only() {
    let up = Up::new(&[]);
    let (local, dead) = (free_port(), free_port());
    let mut client = up.forwards("alice@login", &format!("127.0.0.1:{local}:node01:{dead}"));
    assert_eq!(converse(local, b"hello"), b"");
    assert!(
        client.ssh.try_wait().expect("it can be asked").is_none(),
        "ssh stays"
    );
    // Names outside the cluster lead nowhere.
    let _outside = up.forwards("alice@login", &format!("127.0.0.1:{dead}:example.org:80"));
    assert_eq!(converse(dead, b"GET / HTTP/1.0\r\n\r\n"), b"");
}

#[test]
fn a_control_master_is_shared_checked_and_told_to_exit() {
    let up = Up::new(&[]);
    let control = up.path("cm").display().to_string();
    let mux = |args: &[&str]| Done::of(up.ssh().args(["-S", &control]).args(args), "");
    let mut master = up.ssh();
    master.args(["-M", "-N", "-S", &control, "alice@login"]);
    let mut master = master.stdin(Stdio::null()).spawn().expect("ssh starts");
    let check = eventually("the master is up", || {
        let done = mux(&["-O", "check", "alice@login"]);
        (done.code == 0).then_some(done)
    });
    assert!(check.err.starts_with("Master running (pid="), "{check:?}");
    thread::scope(|scope| {
        for number in 0..8 {
            let mux = &mux;
            scope.spawn(move || {
                let command = format!("sleep 0.1; echo {number}; exit {number}");
                let done = mux(&["alice@login", &command]);
                assert_eq!((done.out, done.code), (format!("{number}\n"), number));
            });
        }
    });
    let local = free_port();
    let forward = format!("127.0.0.1:{local}:node02:{local}");
    assert_eq!(
        mux(&["-O", "forward", "-L", &forward, "alice@login"]).code,
        0
    );
    assert_eq!(
        mux(&["-O", "exit", "alice@login"]).err,
        "Exit request sent.\r\n"
    );
    eventually("the master ends", || {
        master.try_wait().expect("it can be asked")
    });
}

#[test]
fn a_command_ends_when_its_input_does() {
    let up = Up::new(&[]);
    let mut client = Client::of(up.ssh().args(["alice@login", "echo up; exec cat"]));
    assert!(client.ssh.try_wait().expect("it can be asked").is_none());
    drop(client.stdin.take());
    let status = eventually("ssh ends", || {
        client.ssh.try_wait().expect("it can be asked")
    });
    assert!(status.success());
}

#[test]
fn a_command_ends_when_its_client_is_killed() {
    let up = Up::new(&[]);
    let before = up.processes().len();
    let reader = Client::of(
        up.ssh()
            .args(["alice@login", "echo up; cat >/dev/null & wait"]),
    );
    let deaf = Client::of(
        up.ssh()
            .args(["alice@node02", "trap '' HUP; echo up; sleep 3000; true"]),
    );
    assert!(up.processes().len() > before);
    reader.kill();
    deaf.kill();
    eventually("its processes end", || {
        (up.processes().len() == before).then_some(())
    });
}

#[test]
fn a_job_runs_as_the_virtual_user_who_submitted_it() {
    let up = Up::new(&[]);
    let command =
        "sbatch -W -o out --wrap 'echo $HOME $USER $HOSTNAME ${SSH_CONNECTION:+leaked}; pwd'";
    up.runs("alice@login", command).ok();
    let home = up.ready["users"][0]["home"].as_str().expect("a path");
    let out = fs::read_to_string(up.path("home/alice/out")).expect("output");
    assert_eq!(out, format!("{home} alice node01 leaked\n{home}\n"));
    up.runs(
        "alice@login",
        "sbatch --nodelist=node02 --wrap 'echo $SLURMD_NODENAME >where; sleep 1000'",
    )
    .ok();
    let place = eventually("it runs", || {
        let text = fs::read_to_string(up.path("home/alice/where")).ok();
        text.filter(|text| !text.is_empty())
    });
    assert_eq!(place, "node02\n");
    assert_eq!(up.runs("bob@login", "scancel 2").code, 210);
    // The commands work on a node too, and inside of a job.
    assert_eq!(
        up.runs("alice@node01", "squeue --me -h -o '%i %N'").ok(),
        "2 node02"
    );
    up.runs("bob@login", "sbatch -W -o in --wrap 'squeue --me -h -o %u'")
        .ok();
    assert_eq!(
        fs::read_to_string(up.path("home/bob/in")).expect("output"),
        "bob\n"
    );
}

#[test]
fn nothing_is_left_when_its_input_ends() {
    let mut up = Up::new(&["--kill-wait", "3600"]);
    let _client = up.is_busy();
    drop(up.lifeline.take());
    up.await_nothing_left();
}

#[test]
fn nothing_is_left_after_sigterm() {
    let mut up = Up::new(&["--kill-mode", "linuxproc", "--kill-wait", "3600"]);
    let _client = up.is_busy();
    signal(up.process.id(), "TERM");
    up.await_nothing_left();
    assert!(up.process.wait().expect("it has ended").success());
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    let mut up = Up::new(&["--kill-wait", "3600"]);
    let _client = up.is_busy();
    signal(up.process.id(), "KILL");
    up.await_nothing_left();
}

#[test]
fn nothing_is_left_when_the_inner_process_is_killed() {
    let mut up = Up::new(&["--kill-wait", "3600"]);
    let _client = up.is_busy();
    let children = format!("/proc/{0}/task/{0}/children", up.process.id());
    let inner = fs::read_to_string(children).expect("its children");
    signal(inner.trim().parse().expect("one child"), "KILL");
    up.await_nothing_left();
    assert!(!up.process.wait().expect("it has ended").success());
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn a_directory_can_be_used_again() {
    let mut up = Up::new(&[]);
    let keys = fs::read_to_string(up.path("known_hosts")).expect("pins");
    up.runs("alice@login", "echo mine >file; sbatch --hold --wrap true")
        .ok();
    drop(up.lifeline.take());
    up.await_nothing_left();
    let mut again = program()
        .args(["up", "--until-stdin-closes", "--dir"])
        .arg(up.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(again.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    up.ready = serde_json::from_str(&line).expect("JSON");
    assert_eq!(up.runs("alice@login", "cat file; squeue -h").ok(), "mine");
    assert_eq!(
        fs::read_to_string(up.path("known_hosts")).expect("pins"),
        keys
    );
    drop(again.stdin.take());
    let status = eventually("it ends", || again.try_wait().expect("it can be asked"));
    assert!(status.success());
}
