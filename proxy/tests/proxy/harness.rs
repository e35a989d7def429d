//! A running proxy with a home of its own, and dev servers that do one thing.

use std::{
    future::Future,
    net::Ipv4Addr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use hpc_proxy::lease::Record;
use reqwest::{Client, RequestBuilder, redirect};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// Everything here happens at once on loopback; whoever waits longer waits for ever.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    pub(crate) home: TempDir,
    pub(crate) record: Record,
    pub(crate) token: String,
    pub(crate) client: Client,
    child: Child,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(args: &[&str]) -> Self {
        let home = TempDir::new().unwrap();
        let mut command = command(home.path());
        command.args(args);
        Self::start_by(home, command).await
    }

    /// As `command` says, which becomes the proxy, with `home` for its home.
    pub(crate) async fn start_by(home: TempDir, mut command: Command) -> Self {
        confine(&mut command, home.path());
        Self::start_as_is(home, command).await
    }

    /// As a confined `command` says.
    pub(crate) async fn start_as_is(home: TempDir, mut command: Command) -> Self {
        let child = command.kill_on_drop(true).spawn().unwrap();
        Self::attach(home, child).await
    }

    async fn attach(home: TempDir, child: Child) -> Self {
        let directory = home.path().join(".hpc-proxy");
        let port_file = directory.join("port");
        eventually("the port file", || port_file.exists()).await;
        let only = |extension: &str| -> PathBuf {
            let mut entries = std::fs::read_dir(&directory)
                .unwrap()
                .map(|e| e.unwrap().path());
            entries
                .find(|path| path.extension().is_some_and(|found| found == extension))
                .unwrap()
        };
        let record = Record::parse(&std::fs::read(only("json")).unwrap()).unwrap();
        let token = std::fs::read_to_string(only("token"))
            .unwrap()
            .trim()
            .to_owned();
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self {
            home,
            record,
            token,
            client,
            child,
        }
    }

    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://127.0.0.1:{}{target}", self.record.port)
    }

    /// A request with the token.
    pub(crate) fn get(&self, target: &str) -> RequestBuilder {
        self.request(reqwest::Method::GET, target)
    }

    pub(crate) fn request(&self, method: reqwest::Method, target: &str) -> RequestBuilder {
        self.anonymous(method, target)
            .header("X-Hpc-Proxy-Token", &self.token)
    }

    pub(crate) fn anonymous(&self, method: reqwest::Method, target: &str) -> RequestBuilder {
        self.client.request(method, self.url(target))
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.record.port))
            .await
            .unwrap()
    }

    /// Sends raw bytes and returns all that comes back until the proxy closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut answer))
            .await
            .expect("closed")
            .unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn lease_files(&self) -> Vec<PathBuf> {
        let directory = self.home.path().join(".hpc-proxy");
        std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(
            std::process::Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Stops it and returns everything that it logged.
    pub(crate) async fn end_and_read_log(self) -> String {
        self.signal("TERM");
        let ended = timeout(DEADLINE, self.child.wait_with_output())
            .await
            .expect("it ends");
        String::from_utf8_lossy(&ended.unwrap().stderr).into_owned()
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        timeout(DEADLINE, self.child.wait())
            .await
            .expect("it ends")
            .unwrap()
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let status = self.exit().await;
        assert_eq!(status.signal(), None, "it was killed");
        status.code()
    }
}

/// The program, in an environment that holds nothing of ours but `home`.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpc-proxy"));
    command.env_clear();
    confine(&mut command, home);
    command
}

pub(crate) fn confine(command: &mut Command, home: &Path) {
    command.env("HOME", home).current_dir(home);
    command
        .envs(settings(home))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

/// What a command that ended by itself left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) async fn run(command: &mut Command) -> Ended {
    let ended = timeout(DEADLINE, command.kill_on_drop(true).output());
    let ended = ended.await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended {
        code: ended.status.code(),
        stdout: text(ended.stdout),
        stderr: text(ended.stderr),
    }
}

/// Says that a test is skipped, for want of something that the machine does not give.
#[expect(clippy::print_stdout, reason = "for whoever reads the test's output")]
pub(crate) fn lacks(what: &str) {
    println!("skipped, needs: {what}");
}

/// What every proxy in a test needs: tests may run as root, and share nothing.
pub(crate) fn settings(home: &Path) -> [(&'static str, PathBuf); 3] {
    [
        // Or every list would ask the dev servers of all tests.
        ("HPC_PROXY_TITLES", "false".into()),
        ("HPC_PROXY_ALLOW_ROOT", "true".into()),
        ("HPC_PROXY_STATE_DIR", home.join(".state")),
    ]
}

/// Waits until `holds`.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A dev server that hands each connection, after the head of its first request, to `serve`.
/// Returns its port.
pub(crate) async fn dev_server<F, Served>(serve: F) -> u16
where
    F: Fn(String, TcpStream) -> Served + Clone + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    dev_server_on("127.0.0.1:0", serve).await
}

pub(crate) async fn dev_server_on<F, Served>(address: &str, serve: F) -> u16
where
    F: Fn(String, TcpStream) -> Served + Clone + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let serve = serve.clone();
            tokio::spawn(async move {
                if let Some(head) = read_head(&mut stream).await {
                    serve(head, stream).await;
                }
            });
        }
    });
    port
}

/// A dev server that answers every request of every connection with what it got.
pub(crate) async fn echo_server() -> u16 {
    dev_server(|mut head, mut stream| async move {
        loop {
            let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let body = format!("{head}{}", String::from_utf8_lossy(&body));
            answer(&mut stream, "200 OK", &[], &body).await;
            match read_head(&mut stream).await {
                Some(next) => head = next,
                None => return,
            }
        }
    })
    .await
}

/// Reads up to the empty line behind a request's head, or nothing when the peer closes first.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// The value of the first field called `name`, in a head as [`read_head`] gives it.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Writes a whole answer with a length.
pub(crate) async fn answer(stream: &mut TcpStream, status: &str, fields: &[&str], body: &str) {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let length = body.len();
    let message = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(message.as_bytes()).await.unwrap();
}
