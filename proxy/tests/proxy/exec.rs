//! A localhost of one's own: what runs below `exec`, and how the proxy finds it.

use std::{
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::harness::{DEADLINE, Ended, Proxy, command, confine, eventually, run};

mod languages;
mod processes;
mod sockets;

/// A server of one page in python, which says on which address it finds itself.
const SERVER: &str = "
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Type', 'text/html')
        self.end_headers(); self.wfile.write(b'<title>private</title>')
    def log_message(self, *args): pass
server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Page)
open(sys.argv[2], 'w').write('up')
server.serve_forever()
";

/// What programs are found in, which a test's own environment does not say.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How sockets are got at, and whether servers are locked: the ways in which all must go.
const WAYS: [&[&str]; 4] = [
    &["--lock", "off"],
    &["--lock", "on"],
    &["--lock", "off", "--replace-sockets"],
    &["--lock", "on", "--replace-sockets"],
];

/// The localhost of one job: no two tests share one.
struct Localhost {
    home: TempDir,
    job: String,
    program: PathBuf,
}

impl Localhost {
    fn new() -> Self {
        static JOBS: AtomicUsize = AtomicUsize::new(0);
        let number = JOBS.fetch_add(1, Ordering::Relaxed);
        Self {
            home: TempDir::new().unwrap(),
            job: format!("{}-{number}", std::process::id()),
            program: env!("CARGO_BIN_EXE_hpc-proxy").into(),
        }
    }

    /// `hpc-proxy exec` with these flags; the command is for the caller to add.
    fn exec(&self, flags: &[&str]) -> Command {
        let mut exec = Command::new(&self.program);
        exec.env_clear();
        confine(&mut exec, self.home.path());
        exec.args(["exec", "--job", &self.job, "--session"])
            .args(flags)
            .arg("--")
            .env("PATH", PATH)
            .kill_on_drop(true);
        exec
    }

    /// Runs a python program below `exec` to its end.
    async fn python(&self, flags: &[&str], program: &str, arguments: &[&str]) -> Ended {
        let mut exec = self.exec(flags);
        exec.args(["python3", "-c", program]).args(arguments);
        run(&mut exec).await
    }

    /// The same, which says `said` and ends well.
    async fn says(&self, said: &str, flags: &[&str], program: &str, arguments: &[&str]) {
        let ended = self.python(flags, program, arguments).await;
        assert_eq!(ended.stdout.trim(), said, "{flags:?} {ended:?}");
        assert_eq!(ended.code, Some(0), "{flags:?} {ended:?}");
    }

    /// Starts a command below `exec` that goes on, and says so in a first line.
    async fn start(&self, flags: &[&str], command: &[&str]) -> Running {
        let mut exec = self.exec(flags);
        exec.args(command).stderr(Stdio::inherit());
        let mut child = exec.spawn().unwrap();
        let stdout = child.stdout.take().expect("it is a pipe");
        let mut running = Running {
            child,
            lines: BufReader::new(stdout).lines(),
        };
        let up = running.line().await;
        assert_eq!(up.as_deref(), Some("up"), "{command:?}");
        running
    }
}

/// A command that goes on; killed with all that it is when dropped.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// The next line that it says; nothing at its end.
    async fn line(&mut self) -> Option<String> {
        let line = timeout(DEADLINE, self.lines.next_line()).await;
        line.expect("it says something").unwrap()
    }
}

/// A port of 127.0.0.1 and of ::1 that is somebody's: whoever comes there reads `outside`.
struct Taken {
    port: u16,
}

impl Taken {
    fn new() -> Self {
        loop {
            let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = first.local_addr().unwrap().port();
            let Ok(second) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)) else {
                continue;
            };
            for listener in [first, second] {
                std::thread::spawn(move || {
                    for stream in listener.incoming() {
                        // Whoever goes without reading it has learned enough.
                        let _ = stream.and_then(|mut stream| stream.write_all(b"outside"));
                    }
                });
            }
            return Self { port };
        }
    }

    fn text(&self) -> String {
        self.port.to_string()
    }
}

/// Whether a program is there.
fn has(program: &str) -> bool {
    std::env::split_paths(PATH).any(|directory| directory.join(program).is_file())
}

fn exec(home: &TempDir) -> Command {
    let mut exec = command(home.path());
    exec.arg("exec").env("PATH", PATH);
    exec
}

#[tokio::test]
async fn the_end_of_a_command_is_the_end_of_exec() {
    let home = TempDir::new().unwrap();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        for isolation in ["auto", "none"] {
            let mut exec = exec(&home);
            exec.args(["--isolation", isolation, "--", "sh", "-c", script]);
            // Without one it becomes the command, and dies of the signal itself.
            let ended = run(&mut exec).await.code;
            let died = isolation == "none" && code > 128;
            assert_eq!(ended, (!died).then_some(code), "{script} {isolation}");
        }
    }
    let missing = run(exec(&home).args(["--", "no-such-program"])).await;
    assert_eq!(missing.code, Some(127));
    let told = missing.stderr;
    assert!(
        told.contains("`no-such-program`") && told.contains("hint: "),
        "{told}"
    );
}

// Behaviour 122 and the problem that all this is for: the port is taken, and one has it all the same.
#[tokio::test]
async fn a_port_that_is_taken_is_ones_own_below_exec_and_in_the_proxy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    let port = number.to_string();
    for lock in ["auto", "off"] {
        let proxy = Proxy::start().await;
        let ready = proxy.home.path().join("ready");
        let mut server = exec(&proxy.home);
        server
            .args(["--lock", lock, "--", "python3", "-c", SERVER, &port])
            .arg(&ready)
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let mut server = server.spawn().unwrap();
        eventually("the server", || ready.exists()).await;
        let answered = proxy.get(&format!("/port/{port}/")).send().await.unwrap();
        assert_eq!(answered.text().await.unwrap(), "<title>private</title>");

        let mut ports = command(proxy.home.path());
        ports
            .args(["ports", "--json"])
            .env("HPC_PROXY_TITLES", "true");
        let listed = run(&mut ports).await;
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
        let servers = listed["ports"].as_array().unwrap();
        let of_port = |server: &&serde_json::Value| server["port"] == number;
        let server_of_port: Vec<_> = servers.iter().filter(of_port).collect();
        let [listed] = server_of_port[..] else {
            panic!("{servers:?}");
        };
        assert_eq!(listed["private"], true, "{listed}");
        assert_eq!(listed["title"], "private", "{listed}");
        if lock == "off" || private_localhost::try_lock().is_ok() {
            assert_eq!(listed["locked"], lock == "auto", "{listed}");
        }
        server.kill().await.unwrap();
    }
}
