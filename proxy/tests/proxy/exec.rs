//! A localhost of one's own: what runs below `exec`, and how the proxy finds it.

use std::{net::TcpListener, process::Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{Proxy, command, eventually, run};

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

fn exec(home: &TempDir) -> Command {
    let mut exec = command(home.path());
    exec.arg("exec").env("PATH", "/usr/local/bin:/usr/bin:/bin");
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
