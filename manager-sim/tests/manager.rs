//! The manager as a process, with a login node that is not there: who may ask for what, and how
//! it starts and ends. Whole sessions are the stories' business.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::ExitStatus,
    time::{Duration, Instant},
};

use reqwest::{Client, Response, StatusCode, redirect::Policy};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

mod running;

use running::{DEADLINE, PAGE, Running, WINDOW, command, document, key_of, state_dir};

struct Manager {
    directory: tempfile::TempDir,
    process: Running,
    url: String,
    /// A sign-in link per user.
    links: Vec<(String, String)>,
}

impl Manager {
    fn start(logins: &[&str]) -> Self {
        Self::start_with(logins, &[])
    }

    fn start_with(logins: &[&str], flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ssh_config = directory.path().join("ssh_config");
        // Port 1 of the loopback: refused at once.
        fs::write(&ssh_config, "Host login\n  HostName 127.0.0.1\n  Port 1\n").unwrap();
        let mut command = command(directory.path());
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--ssh-config",
            ssh_config.to_str().unwrap(),
        ]);
        for login in logins {
            command.args(["--login", login]);
        }
        command.args(flags);
        let (process, url, mut lines) = Running::start(&mut command);
        let links = logins.iter().map(|_| {
            let line = lines.next().expect("a link per user");
            let (user, link) = line.split_once(' ').expect("a user and a link");
            (user.to_owned(), link.to_owned())
        });
        let links = links.collect();
        Self {
            directory,
            process,
            url,
            links,
        }
    }

    /// A browser without a cookie.
    fn visitor(&self) -> Browser {
        let client = Client::builder()
            .cookie_store(true)
            .redirect(Policy::none());
        Browser {
            client: client.build().unwrap(),
            url: self.url.clone(),
            key: None,
        }
    }

    /// A browser that came by `user`'s link.
    async fn signed_in(&self, user: &str) -> Browser {
        let mut browser = self.visitor();
        let (_, link) = self.links.iter().find(|(name, _)| name == user).unwrap();
        let answer = browser.client.get(link).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(answer.headers()["location"], "/");
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        assert!(
            cookie.starts_with("hpc_manager=") && cookie.contains("HttpOnly"),
            "{cookie}"
        );
        let page = browser.gets("/", &WINDOW).await.text().await.unwrap();
        browser.key = key_of(&page);
        assert!(browser.key.is_some(), "{page}");
        browser
    }

    fn ends(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "the manager does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

struct Browser {
    client: Client,
    url: String,
    /// That of the manager's page, which its scripts show.
    key: Option<String>,
}

impl Browser {
    async fn gets(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let mut request = self.client.get(format!("{}{path}", self.url));
        if let (Some(key), true) = (&self.key, path.starts_with("/api/")) {
            request = request.header(PAGE, key);
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        document::sends(request).await
    }

    async fn launches(&self, fields: &[(&str, &str)], body: &'static str) -> Response {
        let mut request = self
            .client
            .post(format!("{}/api/v1/session", self.url))
            .header(PAGE, self.key.as_deref().unwrap_or_default())
            .body(body);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        document::sends(request).await
    }

    async fn session(&self) -> Value {
        self.gets("/api/v1/session", &[])
            .await
            .json()
            .await
            .unwrap()
    }
}

const CALL: (&str, &str) = ("x-hpc-manager", "1");
const HTML: (&str, &str) = ("accept", "text/html");

#[tokio::test]
async fn whoever_watches_over_it_is_told_how_it_is() {
    let port = free_port();
    let place = format!("127.0.0.1:{port}");
    let manager = Manager::start_with(
        &["alice@login", "bob@login"],
        &["--watch-listen", &place, "--log-format", "json"],
    );
    let asks = async |path: &str| reqwest::get(format!("http://{place}{path}")).await.unwrap();
    let health: Value = asks("/health").await.json().await.unwrap();
    assert_eq!(
        (&health["status"], &health["sessions"]),
        (&"ok".into(), &0.into())
    );

    let alice = manager.signed_in("alice").await;
    assert_eq!(
        alice.launches(&[CALL], "").await.status(),
        StatusCode::ACCEPTED
    );
    let counts = asks("/metrics").await.text().await.unwrap();
    for line in [
        "# TYPE hpc_manager_sessions gauge",
        "hpc_manager_sessions{phase=\"connected\"} 0",
        "hpc_manager_answers_total{from=\"proxy\",class=\"2xx\"} 2",
    ] {
        assert!(
            counts.lines().any(|found| found == line),
            "{line}: {counts}"
        );
    }
    // Nobody's session, and no way in.
    assert!(!counts.contains("alice"), "{counts}");
    for path in ["/", "/api/v1/session", "/port/5500/"] {
        assert_eq!(asks(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    // Browsers come in elsewhere, and find none of this there.
    assert_eq!(
        alice.gets("/metrics", &[]).await.status(),
        StatusCode::NOT_FOUND
    );
}

/// Free when it was looked at.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_link_leads_on_within_the_manager_and_nowhere_else() {
    let manager = Manager::start(&["alice@login"]);
    let location = async |to: &str| {
        let mut link = command(manager.directory.path());
        let output = link.args(["link", "alice"]).output().unwrap();
        let link = String::from_utf8(output.stdout).unwrap();
        let to: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
        let link = format!("{}&to={to}", link.trim());
        let answer = manager.visitor().client.get(link).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{to}");
        answer.headers()["location"].to_str().unwrap().to_owned()
    };
    for to in [
        "/s/abcdefgh/code/?tkn=a%2F&b=//c",
        "/port/5500/x?u=https://a",
    ] {
        assert_eq!(location(to).await, to);
    }
    for to in [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/\r\nSet-Cookie: a=b",
        "/login?code=x",
        "/logout",
        "",
    ] {
        assert_eq!(location(to).await, "/", "{to:?}");
    }
}

#[tokio::test]
async fn a_link_signs_in_once_and_only_its_own_user() {
    let manager = Manager::start(&["alice@login", "bob@login"]);
    let alice = manager.signed_in("alice").await;
    assert!(
        alice
            .gets("/", &[])
            .await
            .text()
            .await
            .unwrap()
            .contains("alice&#39;s session")
    );
    let again = manager
        .visitor()
        .client
        .get(&manager.links[0].1)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::FORBIDDEN);
    let bob = manager.signed_in("bob").await;
    assert!(
        bob.gets("/", &[])
            .await
            .text()
            .await
            .unwrap()
            .contains("bob&#39;s session")
    );
}

#[tokio::test]
async fn a_running_manager_is_given_another_link() {
    let manager = Manager::start(&["alice@login"]);
    let output = command(manager.directory.path())
        .args(["link", "alice"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let link = String::from_utf8(output.stdout).unwrap();
    let answer = manager
        .visitor()
        .client
        .get(link.trim())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_stranger_is_told_to_sign_in_whatever_the_path() {
    let manager = Manager::start(&["alice@login"]);
    let stranger = manager.visitor();
    for path in [
        "/",
        "/port/5500/",
        "/port/x/",
        "/code/",
        "/api/v1/session",
        "/nowhere",
    ] {
        let page = stranger.gets(path, &[HTML]).await;
        assert_eq!(page.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(
            page.text().await.unwrap().contains("Sign in first"),
            "{path}"
        );
        let told: Value = stranger.gets(path, &[]).await.json().await.unwrap();
        assert_eq!(told["error"], "not-signed-in", "{path}");
    }
    let forged = stranger.gets("/", &[("cookie", "hpc_manager=alice")]).await;
    assert_eq!(forged.status(), StatusCode::UNAUTHORIZED);
}

// S14 and S15.
#[tokio::test]
async fn foreign_names_and_foreign_pages_are_refused() {
    let manager = Manager::start(&["alice@login"]);
    let alice = manager.signed_in("alice").await;
    let rebound = alice.gets("/", &[("host", "evil.example:80")]).await;
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
    let call_of_a_form = alice.launches(&[], "").await;
    assert_eq!(call_of_a_form.status(), StatusCode::FORBIDDEN);
    for origin in ["null", "http://evil.example", "http://127.0.0.1:1"] {
        let call = alice.launches(&[CALL, ("origin", origin)], "").await;
        assert_eq!(call.status(), StatusCode::FORBIDDEN, "{origin}");
        let upgrade = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("origin", origin),
        ];
        let socket = alice.gets("/port/5500/ws", &upgrade).await;
        assert_eq!(socket.status(), StatusCode::FORBIDDEN, "{origin}");
    }
    assert_eq!(alice.session().await["phase"], "none");
}

#[tokio::test]
async fn without_a_session_there_is_nothing_to_open() {
    let manager = Manager::start(&["alice@login"]);
    let alice = manager.signed_in("alice").await;
    for path in ["/port/5500/", "/port/5500", "/code/"] {
        let told: Value = alice.gets(path, &[]).await.json().await.unwrap();
        assert_eq!(told["error"], "no-session", "{path}");
    }
    assert_eq!(
        alice.gets("/code?a", &[]).await.headers()["location"],
        "/code/?a"
    );
    assert_eq!(
        alice.gets("/nowhere", &[]).await.status(),
        StatusCode::NOT_FOUND
    );
    let script = alice.gets("/assets/manager.js", &[]).await;
    assert_eq!(
        script.headers()["content-type"],
        "text/javascript; charset=utf-8"
    );
}

#[tokio::test]
async fn a_login_node_that_is_down_is_named_as_the_reason() {
    let manager = Manager::start(&["alice@login"]);
    let alice = manager.signed_in("alice").await;
    let launched = alice.launches(&[CALL], "").await;
    assert_eq!(launched.status(), StatusCode::ACCEPTED);
    let start = Instant::now();
    let ended = loop {
        let session = alice.session().await;
        if session["phase"] == "ended" {
            break session;
        }
        assert!(start.elapsed() < DEADLINE, "{session}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let reason = ended["reason"].as_str().unwrap();
    assert!(reason.contains("Connection refused"), "{reason}");
}

#[tokio::test]
async fn a_hostile_node_name_is_refused_before_ssh() {
    let manager = Manager::start(&["alice@login"]);
    let alice = manager.signed_in("alice").await;
    for body in [
        r#"{"node":"-oProxyCommand=id"}"#,
        r#"{"node":"a;id"}"#,
        r#"{"x":1}"#,
        "{",
    ] {
        let answer = alice.launches(&[CALL], body).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(alice.session().await["phase"], "none");
}

/// What comes back for `bytes` until the manager closes.
fn raw(manager: &Manager, bytes: &str) -> String {
    let address = manager.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answered = String::new();
    stream.read_to_string(&mut answered).unwrap();
    answered
}

/// The fields of a call by whoever came by `user`'s link.
fn call_of(manager: &Manager, user: &str) -> String {
    let (_, link) = manager.links.iter().find(|(name, _)| name == user).unwrap();
    let path = link.strip_prefix(&manager.url).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let signed_in = raw(manager, &request);
    let cookie = signed_in.split_once("hpc_manager=").unwrap().1;
    let cookie = cookie.split_once(';').unwrap().0;
    let cookie = format!("Host: localhost\r\nCookie: hpc_manager={cookie}\r\n");
    let window = WINDOW.map(|(name, value)| format!("{name}: {value}\r\n"));
    let window = window.concat();
    let page = raw(
        manager,
        &format!("GET / HTTP/1.1\r\n{cookie}{window}Connection: close\r\n\r\n"),
    );
    let key = key_of(&page).unwrap();
    format!("{cookie}X-Hpc-Manager: 1\r\n{PAGE}: {key}\r\n")
}

fn statuses(answered: &str) -> Vec<&str> {
    let starts = answered.split("HTTP/1.1 ").skip(1);
    starts.map(|start| &start[..3]).collect()
}

#[test]
fn a_call_has_a_small_and_well_formed_body() {
    let manager = Manager::start(&["alice@login"]);
    let call = call_of(&manager, "alice");
    let call = |fields: &str, body: &str| {
        let request = format!("POST /api/v1/session HTTP/1.1\r\n{call}{fields}\r\n\r\n{body}");
        // A second request shows whether the connection was kept, and where it was taken to begin.
        let next = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        raw(&manager, &(request + next))
    };
    let long = "x".repeat(5000);
    for (fields, body, told) in [
        ("Content-Length: 7", r#"{"x":1}"#, vec!["400", "401"]),
        (
            "Transfer-Encoding: chunked",
            "7\r\n{\"x\":1}\r\n0\r\n\r\n",
            vec!["400", "401"],
        ),
        (
            "Expect: 100-continue\r\nContent-Length: 7",
            r#"{"x":1}"#,
            vec!["400", "401"],
        ),
        ("Content-Length: 5000", &long, vec!["400"]),
        (
            "Transfer-Encoding: chunked",
            &format!("1388\r\n{long}\r\n0\r\n\r\n"),
            vec!["400"],
        ),
        ("Transfer-Encoding: chunked", "x\r\n", vec!["400"]),
        ("Content-Length: 2\r\nContent-Length: 2", "{}", vec!["400"]),
    ] {
        let answered = call(fields, body);
        assert_eq!(statuses(&answered), told, "{fields}: {answered}");
    }
}

#[test]
fn a_client_that_waits_is_told_to_send_its_call() {
    let manager = Manager::start(&["alice@login"]);
    let call = call_of(&manager, "alice");
    let address = manager.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!(
        "POST /api/v1/session HTTP/1.1\r\n{call}Expect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut told = [0; 25];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{").unwrap();
    let mut answered = String::new();
    stream.read_to_string(&mut answered).unwrap();
    assert_eq!(statuses(&answered), ["400"], "{answered}");
}

// Behaviours 24, 25, 41 and 65.
#[test]
fn what_is_no_request_for_a_page_is_refused() {
    let manager = Manager::start(&["alice@login"]);
    let fields = call_of(&manager, "alice");
    for (start, more, status) in [
        ("CONNECT localhost:80", "", "405"),
        ("OPTIONS *", "", "405"),
        ("TRACE /", "", "405"),
        ("GET http://localhost/nowhere", "", "404"),
        ("GET http://evil.example/", "", "421"),
        ("GET /", "Host: localhost\r\n", "400"),
        ("GET /", "A : b\r\n", "400"),
        ("GET /port/5500/#a", "", "400"),
    ] {
        let request = format!("{start} HTTP/1.1\r\n{fields}{more}Connection: close\r\n\r\n");
        let answered = raw(&manager, &request);
        assert_eq!(statuses(&answered), [status], "{start} {more}: {answered}");
    }
}

#[tokio::test]
async fn it_ends_cleanly_and_leaves_no_key_behind() {
    let mut manager = Manager::start(&["alice@login"]);
    let state_dir = state_dir(manager.directory.path());
    assert!(state_dir.join("key").exists());
    assert_eq!(manager.ends().code(), Some(0));
    let mut left: Vec<_> = fs::read_dir(state_dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["lock", "sessions.redb"]);
}

#[test]
fn a_second_manager_does_not_start_in_the_same_place() {
    let manager = Manager::start(&["alice@login"]);
    let second = command(manager.directory.path())
        .args(["--login", "alice@login"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(told.contains("another hpc-manager uses"), "{told}");
}

#[test]
fn bad_usage_has_a_status_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    for args in [&["--listen", "nowhere"][..], &["--login", "x"], &[]] {
        let status = command(directory.path())
            .args(args)
            .output()
            .unwrap()
            .status;
        assert_eq!(status.code(), Some(2), "{args:?}");
    }
}
