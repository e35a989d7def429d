//! `hpc-proxy bridge`: a way in that needs no port.

use std::{fs, process::Stdio, time::Duration};

use hpc_proxy::{
    lease::Record,
    streams::{self, GREETING},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, join},
    net::{TcpListener, UnixStream},
    process::{Child, ChildStdin, ChildStdout},
    sync::mpsc,
    time::timeout,
};

use crate::harness::{DEADLINE, Proxy, command, dev_server, echo_server, run};

/// A running bridge to the proxy of `home`.
struct Bridge {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

impl Bridge {
    fn start(home: &std::path::Path) -> Self {
        let mut child = command(home)
            .arg("bridge")
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().unwrap(),
            child,
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).await.unwrap();
    }

    /// Reads until the bridge closes its stdout.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = timeout(DEADLINE, self.stdout.read_to_end(&mut rest)).await;
        read.expect("closed").unwrap();
        rest
    }

    async fn code(&mut self) -> Option<i32> {
        let ended = timeout(DEADLINE, self.child.wait()).await;
        ended.expect("it ends").unwrap().code()
    }
}

fn request(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

#[tokio::test]
async fn a_request_goes_through_a_port_with_the_token() {
    let proxy = Proxy::start().await;
    let port = echo_server().await;
    let mut bridge = Bridge::start(proxy.home.path());
    let token = format!(
        "X-Hpc-Proxy-Token: {}\r\nConnection: close\r\n",
        proxy.token
    );
    bridge
        .send(request(&format!("/port/{port}/a"), &token).as_bytes())
        .await;
    let answer = String::from_utf8(bridge.rest().await).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("GET /a HTTP/1.1"),
        "{answer}"
    );
    // Its stdin is still open.
    assert!(bridge.child.try_wait().unwrap().is_none());
    drop(bridge.stdin.take());
    assert_eq!(bridge.code().await, Some(0));
}

#[tokio::test]
async fn a_request_goes_through_a_unix_socket_without_it() {
    let proxy = Proxy::start_with(&["--listen", "tcp,unix:d/s"]).await;
    let mut bridge = Bridge::start(proxy.home.path());
    bridge
        .send(request("/", "Connection: close\r\n").as_bytes())
        .await;
    assert!(bridge.rest().await.starts_with(b"HTTP/1.1 200 "));
    drop(bridge.stdin.take());
    assert_eq!(bridge.code().await, Some(0));
}

#[tokio::test]
async fn many_connections_go_through_one_bridge() {
    let proxy = Proxy::start().await;
    let port = echo_server().await;
    let mut child = command(proxy.home.path())
        .args(["bridge", "--streams"])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut stdout = BufReader::new(stdout);
    let mut greeting = String::new();
    let greeted = timeout(DEADLINE, stdout.read_line(&mut greeting)).await;
    greeted.expect("it greets").unwrap();
    assert_eq!(greeting.trim_end(), GREETING);
    let (sender, sockets) = mpsc::channel(1);
    let carried = tokio::spawn(streams::carry(join(stdout, stdin), sockets));

    let token = &proxy.token;
    let ask = async |number: u32| {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        sender.send(theirs).await.unwrap();
        let fields = format!("X-Hpc-Proxy-Token: {token}\r\nConnection: close\r\n");
        let asked = request(&format!("/port/{port}/{number}"), &fields);
        ours.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ")
                && answer.contains(&format!("GET /{number} HTTP/1.1")),
            "{answer}"
        );
    };
    let all = futures_util::future::join_all((0..40).map(ask));
    timeout(DEADLINE, all).await.expect("all are answered");

    drop(sender);
    carried.await.unwrap().unwrap();
    let ended = timeout(DEADLINE, child.wait()).await;
    assert_eq!(ended.expect("it ends").unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_bridge_for_streams_says_at_once_that_there_is_no_proxy() {
    let home = TempDir::new().unwrap();
    let told = run(command(home.path()).args(["bridge", "--streams"])).await;
    assert_eq!((told.code, told.stdout.as_str()), (Some(1), ""));
    assert!(
        told.stderr.starts_with("error: no proxy is running here: "),
        "{told:?}"
    );
}

/// A lease in `home` that names `port`, as a proxy of this host would write it.
async fn pretend(home: &std::path::Path, change: impl FnOnce(&mut Record)) {
    let real = Proxy::start().await;
    let mut record = real.record.clone();
    change(&mut record);
    let directory = home.join(".hpc-proxy");
    fs::create_dir(&directory).unwrap();
    let name = real.lease_files();
    let name = name
        .iter()
        .find(|path| path.extension().is_some_and(|e| e == "json"))
        .unwrap();
    let text = serde_json::to_vec(&record).unwrap();
    fs::write(directory.join(name.file_name().unwrap()), text).unwrap();
}

// Behaviour 115: raw bytes, both halves, each to its own end.
#[tokio::test]
async fn bytes_pass_as_they_are_and_each_half_ends_by_itself() {
    let home = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    pretend(home.path(), |record| record.port = port).await;
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        // Only now, after the other half has ended.
        stream.write_all(&heard).await.unwrap();
        stream.write_all(b"and more").await.unwrap();
        heard
    });
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let mut bridge = Bridge::start(home.path());
    bridge.send(&bytes).await;
    drop(bridge.stdin.take());
    let mut expected = bytes.clone();
    expected.extend(b"and more");
    assert!(bridge.rest().await == expected);
    assert_eq!(bridge.code().await, Some(0));
    assert!(peer.await.unwrap() == bytes);
}

// A line without an end is not held back, as a buffered stdout would do.
#[tokio::test]
async fn every_byte_is_passed_on_at_once() {
    let proxy = Proxy::start_with(&["--listen", "tcp,unix:d/s"]).await;
    let port = dev_server(|_, mut stream| async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab";
        stream.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let mut bridge = Bridge::start(proxy.home.path());
    bridge
        .send(request(&format!("/port/{port}/"), "").as_bytes())
        .await;
    let mut heard = Vec::new();
    let read = async {
        while !heard.ends_with(b"\r\n\r\nab") {
            heard.push(bridge.stdout.read_u8().await.unwrap());
        }
    };
    timeout(Duration::from_secs(10), read)
        .await
        .expect("at once");
}

#[tokio::test]
async fn without_a_proxy_there_is_nothing_to_join() {
    let home = TempDir::new().unwrap();
    let told = run(command(home.path()).arg("bridge")).await;
    assert_eq!((told.code, told.stdout.as_str()), (Some(1), ""));
    assert!(
        told.stderr.starts_with("error: no proxy is running here: "),
        "{told:?}"
    );
    assert!(
        told.stderr.contains("hint: start one with `hpc-proxy`"),
        "{told:?}"
    );

    // Stale: nobody listens there any more.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    pretend(home.path(), |record| record.port = port).await;
    let told = run(command(home.path()).arg("bridge")).await;
    assert_eq!(told.code, Some(1));
    assert!(
        told.stderr.contains("nothing of yours listens where `"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_proxy_on_another_node_is_told() {
    let home = TempDir::new().unwrap();
    pretend(home.path(), |record| record.host = "node99".into()).await;
    let told = run(command(home.path()).arg("bridge")).await;
    assert_eq!(told.code, Some(1));
    assert!(
        told.stderr
            .contains("error: the proxy runs on `node99`, and this is `"),
        "{told:?}"
    );
}

// S7: whoever took a dead proxy's port gets no byte.
#[tokio::test]
async fn a_strangers_listener_is_not_joined() {
    if !rustix::process::geteuid().is_root() {
        return crate::harness::lacks("to be root and start a process of another user");
    }
    let home = TempDir::new().unwrap();
    let program = home.path().join("hpc-proxy");
    fs::copy(env!("CARGO_BIN_EXE_hpc-proxy"), &program).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    pretend(home.path(), |record| record.port = port).await;
    // To the bridge of another user this test is the stranger.
    let mut chown = std::process::Command::new("chown");
    let chowned = chown
        .args(["-R", "65534"])
        .arg(home.path())
        .status()
        .unwrap();
    assert!(chowned.success());
    let mut bridge = tokio::process::Command::new(&program);
    crate::harness::confine(&mut bridge, home.path());
    let told = run(bridge.arg("bridge").uid(65534).gid(65534)).await;
    assert_eq!(told.code, Some(1));
    assert!(
        told.stderr.contains("nothing of yours listens where `"),
        "{told:?}"
    );
    let waiting = timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(waiting.is_err(), "it connected");
}
