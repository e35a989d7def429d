//! What becomes of the processes below `exec`, and of those who wait for them.

use std::{fs, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};

use super::{Localhost, PATH, Running, Taken, WAYS, has};
use crate::harness::{DEADLINE, confine, eventually, lacks, run};

/// Tells each signal that it gets, but for those that it cannot.
const LISTENER: &str = "
import os, signal, sys
names = ['TERM', 'INT', 'HUP', 'USR1', 'USR2', 'WINCH', 'QUIT', 'ALRM', 'CONT', 'TSTP', 'PIPE', 'IO']
wanted = {getattr(signal, 'SIG' + name) for name in names} | {signal.SIGRTMIN + 3}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print('up', flush=True)
while True: print(int(signal.sigwait(wanted)), flush=True)
";

/// A server that answers `inside` to all who come, until it is killed.
const SERVER: &str = "
import os, socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(('127.0.0.1', int(sys.argv[1]))); server.listen(1000)
print('up', flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b'inside')
    connection.close()
";

const CLIENT: &str = "
import socket, sys
client = socket.create_connection((sys.argv[2] if len(sys.argv) > 2 else 'localhost', int(sys.argv[1])), 10)
print(client.recv(100).decode())
";

fn kill(signal: &str, process: &str) {
    let killed = std::process::Command::new("kill")
        .args(["-s", signal, process])
        .status();
    assert!(killed.unwrap().success(), "{signal} {process}");
}

/// Children of a process, from proc_pid_task_children(5), else from everybody's parent.
fn children(process: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let process: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Some((process, parent(process)?))
    });
    all.filter_map(|(child, parent)| (parent == process).then_some(child))
        .collect()
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

impl Running {
    fn exec(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Who supervises.
    fn guardian(&self) -> u32 {
        children(self.exec())[0]
    }

    /// The command itself.
    fn command(&self) -> u32 {
        children(self.guardian())[0]
    }
}

#[tokio::test]
async fn every_signal_goes_to_the_command() {
    let localhost = Localhost::new();
    let mut running = localhost.start(&[], &["python3", "-c", LISTENER]).await;
    let exec = running.exec().to_string();
    for (name, number) in [
        ("TERM", 15),
        ("INT", 2),
        ("HUP", 1),
        ("USR1", 10),
        ("USR2", 12),
        ("WINCH", 28),
        ("QUIT", 3),
        ("ALRM", 14),
        ("TSTP", 20),
        ("CONT", 18),
        ("PIPE", 13),
        ("IO", 29),
        ("37", 37),
    ] {
        kill(name, &exec);
        let Some(told) = running.line().await else {
            let ended = timeout(DEADLINE, running.child.wait()).await;
            panic!("the command ended on {name}, and exec with {ended:?}");
        };
        assert_eq!(told, number.to_string(), "{name}");
    }
    // One that nobody can pass on ends the command all the same.
    let command = running.command();
    kill("KILL", &exec);
    eventually("the end of the command", || {
        state(command).is_none_or(|state| state == 'Z')
    })
    .await;
}

// In a container the session may be one that began outside, which has no number inside.
#[tokio::test]
async fn a_hangup_goes_to_the_command_of_a_session_from_outside() {
    const HANGUP: &str = "
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
os.kill(1, signal.SIGHUP)
print(os.getsid(0), int(signal.sigwait({signal.SIGHUP})))
";
    let unshare = [
        "unshare",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    let mut namespaces = Command::new(unshare[0]);
    if run(namespaces.args(&unshare[1..]).arg("true")).await.code != Some(0) {
        return lacks("user and process namespaces");
    }
    let localhost = Localhost::new();
    let exec = localhost.exec(&["--quiet"]);
    let mut inside = Command::new(unshare[0]);
    inside
        .args(&unshare[1..])
        .arg(exec.as_std().get_program())
        .args(exec.as_std().get_args())
        .args(["python3", "-c", HANGUP])
        .env_clear();
    confine(&mut inside, localhost.home.path());
    let ended = run(inside.env("PATH", PATH)).await;
    assert_eq!(ended.stdout.trim(), "0 1", "{ended:?}");
}

#[tokio::test]
async fn a_caller_that_ignores_its_children_changes_nothing() {
    let localhost = Localhost::new();
    let exec = localhost.exec(&["--quiet"]);
    let mut deaf = Command::new("python3");
    let ignore = "import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])";
    deaf.args(["-c", ignore])
        .arg(exec.as_std().get_program())
        .args(exec.as_std().get_args())
        .args(["sh", "-c", "exit 7"])
        .env_clear();
    confine(&mut deaf, localhost.home.path());
    let ended = run(deaf.env("PATH", PATH)).await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
}

#[tokio::test]
async fn a_command_that_stops_stops_exec_and_goes_on_with_it() {
    let localhost = Localhost::new();
    let running = localhost
        .start(&[], &["sh", "-c", "echo up; while :; do sleep 1; done"])
        .await;
    let (exec, command) = (running.exec(), running.command());
    let are =
        |state_wanted: char| [exec, command].map(|it| state(it) == Some(state_wanted)) == [true; 2];
    for _ in 0..20 {
        // By whoever started it, and without its knowledge.
        for (who, stop) in [(exec, "TSTP"), (command, "STOP")] {
            kill(stop, &who.to_string());
            eventually("both are stopped", || are('T')).await;
            kill("CONT", &who.to_string());
            eventually("both go on", || are('S')).await;
        }
    }
    for _ in 0..200 {
        kill("STOP", &command.to_string());
        kill("CONT", &command.to_string());
    }
    eventually("both go on", || are('S')).await;
}

#[tokio::test]
async fn a_terminal_reaches_the_command_and_no_other() {
    if !has("script") {
        return lacks("script");
    }
    let localhost = Localhost::new();
    // The keys for an interrupt are a signal to the group in front, which the command gets once.
    let program = "
import os, signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append('INT'))
signal.signal(signal.SIGWINCH, lambda *_: got.append('WINCH'))
assert os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
print('ready', flush=True)
line = ''
while True:
    try:
        line = input()
        break
    except InterruptedError: pass
time.sleep(0.2)
print('got', got, line, flush=True)
sys.exit(5)
";
    let file = localhost.home.path().join("program.py");
    fs::write(&file, program).unwrap();
    let exec = localhost.exec(&["--quiet"]);
    let words = exec
        .as_std()
        .get_args()
        .map(|it| it.to_str().unwrap().to_owned());
    let line = format!(
        "exec {} {} python3 {}",
        localhost.program.display(),
        words.collect::<Vec<_>>().join(" "),
        file.display()
    );
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("PATH", PATH)
        .env("HPC_PROXY_STATE_DIR", localhost.home.path().join(".state"))
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut script = script.spawn().unwrap();
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut seen = String::new();
    let mut read = async |until: &str| {
        while !seen.contains(until) {
            let mut buffer = [0; 1024];
            let read = timeout(DEADLINE, screen.read(&mut buffer)).await;
            let read = read
                .unwrap_or_else(|_| panic!("not {until}: {seen}"))
                .unwrap();
            assert_ne!(read, 0, "{seen}");
            seen += &String::from_utf8_lossy(&buffer[..read]);
        }
        seen.clone()
    };
    read("ready").await;
    keys.write_all(b"\x03").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    keys.write_all(b"word\n").await.unwrap();
    let seen = read("got [").await + &read("word").await;
    assert!(seen.contains("['INT']"), "{seen}");
    let ended = timeout(DEADLINE, script.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(5));
}

#[tokio::test]
async fn one_exec_below_another_is_the_same_localhost() {
    let taken = Taken::new();
    let localhost = Localhost::new();
    let port = taken.text();
    let _server = localhost
        .start(&[], &["python3", "-c", SERVER, &port])
        .await;
    let program = localhost.program.to_str().unwrap();
    for inner in [
        &["exec", "--"][..],
        &["exec", "--isolation", "seccomp", "--"],
    ] {
        let mut nested = localhost.exec(&[]);
        nested
            .arg(program)
            .args(inner)
            .args(["python3", "-c", CLIENT, &port]);
        let ended = run(&mut nested).await;
        assert_eq!(ended.stdout.trim(), "inside", "{ended:?}");
        let said = "in a private localhost already";
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
}

#[tokio::test]
async fn an_orphan_keeps_its_localhost_after_the_command() {
    let taken = Taken::new();
    for way in WAYS {
        let localhost = Localhost::new();
        let [ready, go] = ["ready", "go"].map(|name| localhost.home.path().join(name));
        // A daemon as of old: forked twice, in a session of its own, with nothing of its parent's. It
        // begins when the command, and exec itself, are gone.
        let daemon = "
import os, socket, sys, time
if os.fork(): os._exit(3)
os.setsid()
if os.fork(): os._exit(0)
for number in range(3): os.close(number)
while not os.path.exists(sys.argv[3]): time.sleep(0.01)
server = socket.socket(); server.bind(('localhost', int(sys.argv[1]))); server.listen()
client = socket.create_connection(('localhost', int(sys.argv[1])))
server.accept()[0].sendall(b'inside')
open(sys.argv[2] + '.new', 'wb').write(client.recv(100)); os.rename(sys.argv[2] + '.new', sys.argv[2])
while os.path.exists(sys.argv[2]): time.sleep(0.01)
";
        let mut exec = localhost.exec(way);
        exec.args(["python3", "-c", daemon, &taken.text()])
            .arg(&ready)
            .arg(&go);
        let ended = run(&mut exec).await;
        assert_eq!(ended.code, Some(3), "{ended:?}");
        fs::write(&go, "").unwrap();
        eventually("the orphan's server", || ready.exists()).await;
        assert_eq!(fs::read_to_string(&ready).unwrap(), "inside", "{way:?}");
    }
}

// What the docs say of it: open connections go on, nobody binds or connects any more, and the command
// ends as it will.
#[tokio::test]
async fn a_supervisor_that_is_killed_takes_nobody_along() {
    const PROGRAM: &str = "
import errno, socket, sys
server = socket.socket(); server.bind(('127.0.0.1', int(sys.argv[1]))); server.listen(8)
client = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
accepted, _ = server.accept()
print('up', flush=True)
sys.stdin.readline()
accepted.sendall(b'still'); print(client.recv(5).decode(), flush=True)
for call in ('bind', 'connect'):
    try: getattr(socket.socket(), call)(('127.0.0.1', 1)); print(call, 'done', flush=True)
    except OSError as error: print(call, errno.errorcode[error.errno], flush=True)
sys.exit(7)
";
    if private_localhost::probe().is_err() {
        lacks("a private localhost");
        return;
    }
    let (localhost, taken) = (Localhost::new(), Taken::new());
    let mut exec = localhost.exec(&[]);
    exec.args(["python3", "-c", PROGRAM, &taken.text()])
        .stdin(Stdio::piped());
    let mut child = exec.spawn().unwrap();
    let mut said = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut first = [0; 3];
    timeout(DEADLINE, said.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    let [guardian] = children(child.id().unwrap())[..] else {
        panic!("exec has one child");
    };
    kill("KILL", &guardian.to_string());
    eventually("it is gone", || children(guardian).is_empty()).await;
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"go on\n")
        .await
        .unwrap();
    let mut rest = String::new();
    timeout(DEADLINE, said.read_to_string(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, "still\nbind ENOSYS\nconnect ENOSYS\n");
    let status = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(7));
}
