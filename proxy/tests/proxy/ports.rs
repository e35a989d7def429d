//! The list of one's own servers: as a command, as JSON, and as the index page.

use std::{
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStderr, Command},
    time::{Duration, Instant},
};

use crate::harness::{Proxy, command, confine, dev_server_on, read_head, run};

/// What a dev server in a process of its own answers with, whatever it is asked.
const ANSWER: &str = "HPC_PROXY_TEST_ANSWER";

/// No test: with [`ANSWER`] it is that process. It says its port, and a line for each request.
#[tokio::test]
async fn a_dev_server_in_a_process_of_its_own() {
    let Ok(answer) = std::env::var(ANSWER) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("port {}", listener.local_addr().unwrap().port());
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        if read_head(&mut stream).await.is_some() {
            eprintln!("asked");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

/// A dev server of a Slurm job that holds nothing else: only it is asked for its title, and not
/// the servers of all the other tests.
struct JobServer {
    port: u16,
    job: String,
    said: Lines<BufReader<ChildStderr>>,
    child: Child,
}

impl JobServer {
    async fn answering(answer: &str) -> Self {
        static JOBS: AtomicUsize = AtomicUsize::new(0);
        let number = JOBS.fetch_add(1, Ordering::Relaxed);
        let job = format!("{}-{number}", std::process::id());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "ports::a_dev_server_in_a_process_of_its_own",
                "--nocapture",
            ])
            .env(ANSWER, answer)
            .env("SLURM_JOB_ID", &job)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = loop {
            let line = said.next_line().await.unwrap().unwrap();
            if let Some(port) = line.strip_prefix("port ") {
                break port.parse().unwrap();
            }
        };
        Self {
            port,
            job,
            said,
            child,
        }
    }

    async fn titled(title: &str) -> Self {
        let page = format!("<html><head><title>{title}</title></head></html>");
        let length = page.len();
        let head =
            format!("Content-Type: text/html\r\nContent-Length: {length}\r\nConnection: close");
        Self::answering(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{page}")).await
    }

    fn confine(&self, command: &mut Command) {
        command
            .env("SLURM_JOB_ID", &self.job)
            .env("HPC_PROXY_TITLES", "true");
    }

    /// What a command of the same job prints.
    async fn sees(&self, args: &[&str]) -> String {
        let home = TempDir::new().unwrap();
        let mut command = command(home.path());
        self.confine(command.args(args));
        let ended = run(&mut command).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    }

    /// A proxy of the same job.
    async fn proxy(&self) -> Proxy {
        let home = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpc-proxy"));
        confine(&mut command, home.path());
        self.confine(&mut command);
        Proxy::start_as_is(home, command).await
    }

    /// Ends it. How often it was asked.
    async fn asked(mut self) -> usize {
        self.child.kill().await.unwrap();
        let mut asked = 0;
        while let Some(line) = self.said.next_line().await.unwrap() {
            asked += usize::from(line == "asked");
        }
        asked
    }
}

/// What `hpc-proxy ports --json` prints of one port, and nothing if it is not listed.
fn of_port(list: &str, port: u16) -> Option<Value> {
    let list: Value = serde_json::from_str(list).unwrap();
    let ports = list["ports"].as_array().unwrap();
    ports.iter().find(|server| server["port"] == port).cloned()
}

#[tokio::test]
async fn ones_servers_are_listed_without_a_proxy() {
    let dev_server = JobServer::titled("My &amp; page").await;
    let port = dev_server.port;
    let listed = dev_server.sees(&["ports", "--json"]).await;
    let server = of_port(&listed, port).unwrap();
    assert_eq!(server["address"], "127.0.0.1");
    assert_eq!(server["pid"], dev_server.child.id().unwrap());
    assert_eq!(server["title"], "My & page");
    assert_eq!(server["link"], format!("/port/{port}/"));
    assert_eq!(server["in_session"], true);
    assert!(server["process"].is_string(), "{server}");
    // The schema, in its order.
    let at = listed.find(&format!("{{\"port\":{port},")).unwrap();
    let object = &listed[at..];
    let keys = [
        "port",
        "address",
        "process",
        "pid",
        "title",
        "link",
        "in_session",
        "private",
        "locked",
    ];
    let mut places = keys.map(|key| object.find(&format!("\"{key}\":")).unwrap());
    assert!(places.is_sorted(), "{object}");
    places.sort();

    let listed = dev_server.sees(&["ports"]).await;
    let mut lines = listed.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(
        head,
        [
            "PORT", "PROGRAM", "PID", "ADDRESS", "PRIVATE", "LINK", "SESSION", "TITLE"
        ]
    );
    let line = lines
        .find(|line| line.starts_with(&format!("{port} ")))
        .unwrap();
    assert!(
        line.contains(&format!(" /port/{port}/ ")) && line.ends_with(" My & page"),
        "{line}"
    );
}

#[tokio::test]
async fn the_proxy_itself_is_not_a_dev_server() {
    let proxy = Proxy::start().await;
    let listed = run(command(proxy.home.path()).args(["ports", "--json"])).await;
    assert_eq!(of_port(&listed.stdout, proxy.record.port), None);
    let told = proxy.get("/_hpc-proxy/ports").send().await.unwrap();
    assert_eq!(
        of_port(&told.text().await.unwrap(), proxy.record.port),
        None
    );
}

// A port that a killed proxy had is another server's by now.
#[tokio::test]
async fn a_stale_record_hides_nobody() {
    let mut proxy = Proxy::start().await;
    proxy.signal("KILL");
    proxy.exit().await;
    let address = format!("127.0.0.1:{}", proxy.record.port);
    let port = dev_server_on(&address, |_, _| async {}).await;
    let listed = run(command(proxy.home.path()).args(["ports", "--json"])).await;
    assert!(of_port(&listed.stdout, port).is_some());
}

// It may be a debugger's stub that takes one connection: what is not of the session is let alone.
#[tokio::test]
async fn a_server_of_another_job_is_marked_and_not_asked() {
    let (other, mine) = (JobServer::titled("x").await, JobServer::titled("y").await);
    let listed = mine.sees(&["ports", "--json"]).await;
    let server = of_port(&listed, other.port).unwrap();
    assert_eq!(
        (&server["in_session"], &server["title"]),
        (&false.into(), &Value::Null)
    );
    assert_eq!(of_port(&listed, mine.port).unwrap()["title"], "y");
    assert_eq!((other.asked().await, mine.asked().await), (0, 1));
}

#[tokio::test]
async fn titles_can_be_left_alone() {
    let dev_server = JobServer::titled("x").await;
    let listed = dev_server
        .sees(&["ports", "--json", "--titles", "false"])
        .await;
    assert_eq!(
        of_port(&listed, dev_server.port).unwrap()["title"],
        Value::Null
    );
    assert_eq!(dev_server.asked().await, 0);
}

// None of these holds the list up.
#[tokio::test]
async fn what_does_not_speak_http_has_no_title() {
    for answer in [
        "SSH-2.0-x\r\n",
        "\u{15}\u{3}",
        "HTTP",
        "",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<ti",
    ] {
        let dev_server = JobServer::answering(answer).await;
        let start = Instant::now();
        let listed = dev_server.sees(&["ports", "--json"]).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{answer}");
        assert_eq!(
            of_port(&listed, dev_server.port).unwrap()["title"],
            Value::Null,
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_title_is_not_asked_for_again_at_every_look() {
    let dev_server = JobServer::titled("Often <seen>").await;
    let proxy = dev_server.proxy().await;
    for _ in 0..5 {
        let page = proxy.get("/").send().await.unwrap().text().await.unwrap();
        assert!(
            page.contains(&format!("href=\"port/{}/\"", dev_server.port)),
            "{page}"
        );
        assert!(page.contains("Often &lt;seen&gt;"), "{page}");
    }
    let list = proxy.get("/_hpc-proxy/ports").send().await.unwrap();
    let list = list.text().await.unwrap();
    assert_eq!(
        of_port(&list, dev_server.port).unwrap()["title"],
        "Often <seen>"
    );
    assert_eq!(dev_server.asked().await, 1);
}

// S25.
#[tokio::test]
async fn the_index_page_runs_its_own_script_and_no_other() {
    let proxy = Proxy::start().await;
    for (path, script) in [
        ("/", "/_hpc-proxy/page.js"),
        ("/port", "/_hpc-proxy/page.js"),
        ("/port/", "/port/../_hpc-proxy/page.js"),
    ] {
        let page = proxy.get(path).send().await.unwrap();
        assert_eq!(page.status(), 200);
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; connect-src 'self';"));
        assert_eq!(page.headers()["x-content-type-options"], "nosniff");
        let html = page.text().await.unwrap();
        assert_eq!(html.matches("<script").count(), 1, "{html}");
        let is_deeper = html.contains("<base href=\"../\">");
        assert_eq!(is_deeper, script.contains(".."), "{html}");
    }
    let script = proxy.get("/_hpc-proxy/page.js").send().await.unwrap();
    assert_eq!(
        script.headers()["content-type"],
        "text/javascript; charset=utf-8"
    );
    assert!(script.text().await.unwrap().contains("EventSource"));
}
