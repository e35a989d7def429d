//! How people are known at a manager as a process: by what a front says, by access tokens, by links,
//! and that nothing else does it.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use manager_sim::auth::token_file;
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect::Policy};
use serde_json::Value;

mod running;

use running::{DEADLINE, PAGE, Running, WINDOW, document, key_of};

const HTML: (&str, &str) = ("accept", "text/html");

/// A manager with a configuration file, a line of which is given.
struct Manager {
    directory: tempfile::TempDir,
    process: Running,
    url: String,
}

fn command(directory: &Path) -> Command {
    let mut command = running::command(directory);
    command.env("HPC_MANAGER_CONFIG", directory.join("manager.toml"));
    command
}

const USERS: &str = "[[user]]\nname = \"alice\"\nlogin = \"a1@login\"\n[[user]]\nname = \"bob\"\nlogin = \"b1@login\"\n";
const FRONT: &str = "identity = [\"header\"]\n[trusted-header]\nname = \"X-Forwarded-User\"\n\
    from = [\"127.0.0.1\"]\n";
const TOKENS: &str = "identity = [\"tokens\"]\n";

fn directory_with(config: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let listen = if config.contains("listen") {
        ""
    } else {
        "listen = \"127.0.0.1:0\"\n"
    };
    let text = format!("{listen}{config}{USERS}");
    fs::write(directory.path().join("manager.toml"), text).unwrap();
    directory
}

/// A new token.
fn made_token(directory: &Path, args: &[&str]) -> String {
    let mut add = command(directory);
    let output = add.args(["token", "add"]).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Manager {
    fn start(config: &str) -> Self {
        Self::start_in(directory_with(config))
    }

    fn start_in(directory: tempfile::TempDir) -> Self {
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut command = command(directory.path());
        let (process, url, _) = Running::start(command.args(["--log", "trace"]).stderr(log));
        Self {
            directory,
            process,
            url,
        }
    }

    fn runs(&self, args: &[&str]) -> Output {
        command(self.directory.path()).args(args).output().unwrap()
    }

    /// Makes a token for the user that it is called after; the running manager has seen it.
    fn token_for(&self, name: &str) -> String {
        let reads = || self.log().matches("read the file of tokens").count();
        let (before, start) = (reads(), Instant::now());
        let token = made_token(self.directory.path(), &[name]);
        while reads() == before {
            assert!(start.elapsed() < DEADLINE, "the manager sees no new token");
            std::thread::sleep(Duration::from_millis(50));
        }
        token
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn browser(&self) -> Browser {
        self.browser_at([127, 0, 0, 1])
    }

    /// A browser on another machine, as far as the manager can see.
    fn browser_at(&self, address: [u8; 4]) -> Browser {
        let client = Client::builder()
            .cookie_store(true)
            .redirect(Policy::none())
            .local_address(std::net::IpAddr::from(address));
        let (client, url) = (client.build().unwrap(), self.url.clone());
        Browser { client, url }
    }
}

struct Browser {
    client: Client,
    url: String,
}

impl Browser {
    async fn gets(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        sends(self.client.get(format!("{}{path}", self.url)), fields).await
    }

    /// Sends a form as a page of the manager's does.
    async fn sends_form(&self, path: &str, body: String, fields: &[(&str, &str)]) -> Response {
        let url = format!("{}{path}", self.url);
        let form = self
            .client
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        sends(form, fields).await
    }

    async fn signs_in(&self, token: &str) -> Response {
        let origin = self.url.clone();
        self.sends_form("/login", format!("token={token}"), &[("origin", &origin)])
            .await
    }

    /// The key of the manager's page, as somebody who opens it gets it.
    async fn key(&self) -> String {
        let page = text(self.gets("/", &WINDOW).await).await;
        key_of(&page).expect(&page)
    }

    /// Whether the page of a user comes, and whose.
    async fn is_shown_the_page_of(&self, user: &str) -> bool {
        let page = self.gets("/", &[]).await;
        page.status() == StatusCode::OK
            && text(page).await.contains(&format!("{user}&#39;s session"))
    }
}

async fn sends(mut request: RequestBuilder, fields: &[(&str, &str)]) -> Response {
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    document::sends(request).await
}

async fn text(answer: Response) -> String {
    answer.text().await.unwrap()
}

/// The status of an answer to a program, and the name of what is the matter.
async fn told(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let told: Value = answer.json().await.unwrap();
    (
        status,
        told["error"].as_str().unwrap_or_default().to_owned(),
    )
}

fn named(status: u16, error: &str) -> (u16, String) {
    (status, error.to_owned())
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_front_says_who_it_is_in_each_request() {
    let manager = Manager::start(FRONT);
    let front = manager.browser();
    for user in ["alice", "bob"] {
        let page = front.gets("/", &[("x-forwarded-user", user)]).await;
        assert_eq!(page.status(), StatusCode::OK);
        assert!(page.headers().get("set-cookie").is_none());
        assert!(text(page).await.contains(&format!("{user}&#39;s session")));
    }
    let nobody = front.gets("/", &[HTML]).await;
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    assert!(text(nobody).await.contains("X-Forwarded-User"));
    let unknown = front.gets("/", &[("x-forwarded-user", "carol")]).await;
    assert_eq!(told(unknown).await, named(403, "unknown-user"));
}

// S16.
#[tokio::test]
async fn nobody_but_the_front_says_who_it_is() {
    let manager = Manager::start(FRONT);
    let stranger = manager.browser_at([127, 0, 0, 2]);
    for name in ["x-forwarded-user", "X_Forwarded_User"] {
        for path in [
            "/",
            "/port/5500/",
            "/login",
            "/assets/manager.css",
            "/nowhere",
        ] {
            let refused = stranger.gets(path, &[(name, "alice")]).await;
            assert_eq!(
                told(refused).await,
                named(403, "field-not-trusted"),
                "{name} {path}"
            );
        }
    }
    let page = stranger
        .gets("/", &[("x-forwarded-user", "alice"), HTML])
        .await;
    assert!(text(page).await.contains("`from` of `[trusted-header]`"));
    let plain = stranger.gets("/", &[]).await;
    assert_eq!(told(plain).await, named(401, "not-signed-in"));
}

// S16 and S18.
#[tokio::test]
async fn a_hostile_field_signs_nobody_in() {
    let manager = Manager::start(FRONT);
    let front = manager.browser();
    let name = "x-forwarded-user";
    for fields in [
        &[(name, "")][..],
        &[(name, "alice, bob")],
        &[(name, "-oProxyCommand=id")],
        &[(name, "../alice")],
        &[(name, "alice@example.org")],
        &[(name, "alice"), (name, "bob")],
        &[(name, "alice"), (name, "alice")],
        &[(name, "alice"), ("x_forwarded_user", "bob")],
        &[("x-forwarded_user", "alice")],
    ] {
        let refused = front.gets("/", fields).await;
        assert_eq!(
            told(refused).await,
            named(403, "bad-sign-in-field"),
            "{fields:?}"
        );
    }
}

// S14: the front's cookie goes along with what a foreign page asks for.
#[tokio::test]
async fn a_foreign_page_reads_nothing_through_a_front() {
    let manager = Manager::start(FRONT);
    let front = manager.browser();
    let alice = ("x-forwarded-user", "alice");
    let cross = ("sec-fetch-site", "cross-site");
    let script = front
        .gets(
            "/api/v1/session",
            &[alice, cross, ("sec-fetch-mode", "no-cors")],
        )
        .await;
    assert_eq!(told(script).await, named(403, "foreign-page"));
    let opens = [
        alice,
        cross,
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    assert_eq!(front.gets("/", &opens).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_front_on_this_machine_comes_by_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http");
    let config = format!(
        "listen = \"unix:{}\"\nurl = \"https://hpc.example.org\"\n{}",
        path.display(),
        FRONT.replace("127.0.0.1", "unix")
    );
    let mut manager = Manager::start(&config);
    assert_eq!(manager.url, "https://hpc.example.org");
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nHost: hpc.example.org\r\nX-Forwarded-User: bob\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(
        page.starts_with("HTTP/1.1 200 ") && page.contains("bob&#39;s session"),
        "{page}"
    );
    let pid = rustix::process::Pid::from_child(&manager.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(manager.process.wait().unwrap().success());
    assert!(!path.exists());
}

#[tokio::test]
async fn a_token_signs_a_browser_in_and_it_signs_out() {
    let manager = Manager::start(TOKENS);
    let (browser, token) = (manager.browser(), manager.token_for("alice"));
    let page = browser.gets("/port/5500/?a=1", &[HTML]).await;
    assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    assert!(
        page.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Bearer ")
    );
    let page = text(page).await;
    assert!(
        page.contains("action=\"/login\"") && page.contains("value=\"/port/5500/?a=1\""),
        "{page}"
    );

    let body = format!("to=%2Fport%2F5500%2F%3Fa%3D1&token={token}");
    let origin = manager.url.clone();
    let origin = ("origin", &*origin);
    let signed_in = browser.sends_form("/login", body, &[origin]).await;
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER);
    assert_eq!(signed_in.headers()["location"], "/port/5500/?a=1");
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
    assert!(
        cookie.contains("; HttpOnly; SameSite=Lax; Path=/"),
        "{cookie}"
    );
    assert!(!cookie.contains(&token[token.len() - 64..]));
    assert!(browser.is_shown_the_page_of("alice").await);

    let keyless = browser
        .sends_form("/logout", String::new(), &[origin])
        .await;
    assert_eq!(told(keyless).await, named(403, "not-our-page"));
    let key = format!("page={}", browser.key().await);
    let out = browser.sends_form("/logout", key, &[origin]).await;
    assert_eq!(out.status(), StatusCode::SEE_OTHER);
    assert!(
        out.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
    assert!(!browser.is_shown_the_page_of("alice").await);
    // Whoever kept the cookie has nothing of it.
    let kept = cookie.split(';').next().unwrap();
    let again = manager.browser().gets("/", &[("cookie", kept)]).await;
    assert_eq!(again.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_program_shows_its_token_with_each_request() {
    let directory = directory_with(TOKENS);
    let output = command(directory.path())
        .args(["token", "add", "robot", "--user", "bob", "--days", "1"])
        .output()
        .unwrap();
    let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let manager = Manager::start_in(directory);
    let program = manager.browser();
    let bearer = format!("Bearer {token}");
    for scheme in ["Bearer ", "bearer  "] {
        let field = ("authorization", &*format!("{scheme}{token}"));
        let session = program.gets("/api/v1/session", &[field]).await;
        assert_eq!(session.status(), StatusCode::OK);
        assert!(session.headers().get("set-cookie").is_none());
    }
    let own = program.gets("/", &[("authorization", &bearer)]).await;
    assert!(text(own).await.contains("bob&#39;s session"));
    // S11: what changes something wants a field besides that no foreign page sends.
    let launch = format!("{}/api/v1/session", manager.url);
    let launches =
        async |fields: &[(&str, &str)]| sends(program.client.post(&launch), fields).await.status();
    let field = ("authorization", &*bearer);
    assert_eq!(launches(&[field]).await, StatusCode::FORBIDDEN);
    let called = launches(&[field, ("x-hpc-manager", "1")]).await;
    assert_eq!(called, StatusCode::ACCEPTED);

    let listed = String::from_utf8(manager.runs(&["token", "ls"]).stdout).unwrap();
    assert!(
        listed.starts_with("robot\tbob\t") && listed.ends_with("\tgood\n"),
        "{listed}"
    );

    // S3: neither in the log nor in a file, nor taken from an address.
    let secret = &token[token.len() - 64..];
    let refused = program.gets(&format!("/login?token={token}"), &[]).await;
    assert_eq!(refused.status(), StatusCode::OK);
    assert!(refused.headers().get("set-cookie").is_none());
    let log = manager.log();
    assert!(log.contains("answered") && !log.contains(secret), "{log}");
    for name in ["state/tokens.toml", "state/tokens.toml.lock"] {
        let path = manager.directory.path().join(name);
        assert!(
            !fs::read_to_string(&path).unwrap().contains(secret),
            "{name}"
        );
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn what_is_no_good_token_signs_nobody_in() {
    let directory = directory_with(TOKENS);
    let (alice, bob) = (
        made_token(directory.path(), &["alice"]),
        made_token(directory.path(), &["bob"]),
    );
    let file = directory.path().join("state/tokens.toml");
    let past: Timestamp = "2001-01-01T00:00:00Z".parse().unwrap();
    token_file::change(&file, |entries| entries[0].expires = past).unwrap();
    let manager = Manager::start_in(directory);
    let program = manager.browser();
    let secret = |token: &str| token[token.len() - 64..].to_owned();
    let guesses = [
        alice.clone(),
        format!("hpcm_bob_{}", secret(&alice)),
        format!("hpcm_carol_{}", secret(&bob)),
        bob.to_uppercase().replace("HPCM", "hpcm"),
        bob[..bob.len() - 1].to_owned(),
        "hpcm_".to_owned(),
    ];
    for guess in guesses {
        let bearer = format!("Bearer {guess}");
        let refused = program
            .gets("/api/v1/session", &[("authorization", &bearer)])
            .await;
        assert_eq!(told(refused).await, named(401, "bad-token"), "{guess}");
        let refused = program.signs_in(&guess).await;
        assert_eq!(told(refused).await, named(401, "bad-token"), "{guess}");
    }
    // Such a field is a dev server's business.
    let foreign = [("authorization", "Bearer abc")];
    let refused = program.gets("/api/v1/session", &foreign).await;
    assert_eq!(told(refused).await, named(401, "not-signed-in"));
    let other = manager.browser_at([127, 0, 0, 3]);
    let bearer = format!("Bearer {bob}");
    let fields = [("authorization", &*bearer); 2];
    let twice = other.gets("/api/v1/session", &fields).await;
    assert_eq!(told(twice).await, named(401, "bad-token"));
}

#[tokio::test]
async fn a_removed_token_is_good_no_more_within_seconds() {
    let manager = Manager::start(TOKENS);
    let (token, browser) = (manager.token_for("alice"), manager.browser());
    let bearer = format!("Bearer {token}");
    let bearer = [("authorization", &*bearer)];
    assert_eq!(
        browser.signs_in(&token).await.status(),
        StatusCode::SEE_OTHER
    );
    let program = manager.browser();
    assert!(browser.is_shown_the_page_of("alice").await);
    assert_eq!(program.gets("/", &bearer).await.status(), StatusCode::OK);
    assert!(manager.runs(&["token", "rm", "alice"]).status.success());
    let start = Instant::now();
    eventually("the token and the cookie end", async || {
        let bearer_ends = program.gets("/", &bearer).await.status() != StatusCode::OK;
        bearer_ends && !browser.is_shown_the_page_of("alice").await
    })
    .await;
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    let again = manager.runs(&["token", "rm", "alice"]);
    assert_eq!(again.status.code(), Some(1));
}

#[tokio::test]
async fn whoever_guesses_tokens_is_slowed_down() {
    let manager = Manager::start(TOKENS);
    manager.token_for("alice");
    let guesser = manager.browser();
    let zeros = "0".repeat(64);
    for name in ["alice", "nobody-here"] {
        let guess = format!("hpcm_{name}_{zeros}");
        let mut statuses = Vec::new();
        let mut last = None;
        for _ in 0..8 {
            let refused = guesser.signs_in(&guess).await;
            statuses.push(refused.status().as_u16());
            last = Some(refused);
        }
        assert_eq!(statuses[..5], [401; 5], "{name}");
        assert_eq!(statuses[6..], [429; 2], "{name}");
        let wait = last.unwrap().headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>();
        assert!((1..=60).contains(&wait.unwrap()), "{name}");
    }
    // Nobody else has to wait for it.
    let alice = manager.browser_at([127, 0, 0, 4]);
    let guess = alice.signs_in(&format!("hpcm_alice_{zeros}")).await;
    assert_eq!(guess.status(), StatusCode::UNAUTHORIZED);
}

// S11 and S14.
#[tokio::test]
async fn a_form_is_taken_from_a_page_of_the_managers_alone() {
    let directory = directory_with(TOKENS);
    let token = made_token(directory.path(), &["alice"]);
    let manager = Manager::start_in(directory);
    let browser = manager.browser();
    let own = manager.url.clone();
    for path in ["/login", "/logout"] {
        for fields in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "https://evil.example")],
            &[("origin", &*own), ("sec-fetch-site", "cross-site")],
            &[("origin", &*own), ("sec-fetch-mode", "cors")],
            &[("origin", &*own), ("sec-fetch-dest", "iframe")],
        ] {
            let refused = browser
                .sends_form(path, format!("token={token}"), fields)
                .await;
            assert_eq!(
                told(refused).await,
                named(403, "foreign-page"),
                "{path} {fields:?}"
            );
        }
        let method = browser
            .client
            .put(format!("{own}{path}"))
            .send()
            .await
            .unwrap();
        assert_eq!(method.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    let page = browser.gets("/login", &[HTML]).await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("form-action 'self'; frame-ancestors 'none'"),
        "{policy}"
    );
    // Somewhere else is no way back.
    let body = format!("to=%2F%2Fevil.example&token={token}");
    let signed_in = browser
        .sends_form("/login", body, &[("origin", &own)])
        .await;
    assert_eq!(signed_in.headers()["location"], "/");
    let long = browser
        .sends_form("/login", "x".repeat(5000), &[("origin", &own)])
        .await;
    assert_eq!(long.status(), StatusCode::BAD_REQUEST);
}

// S14.
#[tokio::test]
async fn behind_tls_a_cookie_is_kept_on_its_host() {
    let directory = directory_with(&format!("url = \"https://hpc.example.org\"\n{TOKENS}"));
    let token = made_token(directory.path(), &["alice"]);
    let listen = "listen = \"127.0.0.1:0\"";
    let config = directory.path().join("manager.toml");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace(listen, &format!("listen = \"{port}\"")),
    )
    .unwrap();
    let mut manager = Manager::start_in(directory);
    manager.url = format!("http://{port}");
    let host = ("host", "hpc.example.org");
    let origin = ("origin", "https://hpc.example.org");
    let body = format!("token={token}");
    let signed_in = manager
        .browser()
        .sends_form("/login", body, &[host, origin])
        .await;
    let cookie = signed_in.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(cookie.starts_with("__Host-hpc_manager="), "{cookie}");
    assert!(
        cookie.ends_with("; HttpOnly; SameSite=Lax; Path=/; Secure"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    let page = manager
        .browser()
        .gets("/", &[host, ("cookie", cookie)])
        .await;
    assert_eq!(page.status(), StatusCode::OK);
    let unsecured = cookie.trim_start_matches("__Host-");
    let refused = manager
        .browser()
        .gets("/", &[host, ("cookie", unsecured)])
        .await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_way_that_is_not_taken_signs_nobody_in() {
    let manager = Manager::start(TOKENS);
    let link = manager.runs(&["link", "alice"]);
    let said = String::from_utf8_lossy(&link.stderr);
    assert!(
        !link.status.success() && said.contains("takes no sign-in links"),
        "{said}"
    );
    let refused = manager.browser().gets("/login?code=x", &[]).await;
    assert_eq!(told(refused).await, named(403, "no-links"));
    let stated = manager
        .browser()
        .gets("/", &[("x-forwarded-user", "alice")])
        .await;
    assert_eq!(told(stated).await, named(401, "not-signed-in"));

    let manager = Manager::start("");
    let token = made_token(manager.directory.path(), &["alice"]);
    let bearer = format!("Bearer {token}");
    let refused = manager
        .browser()
        .gets("/", &[("authorization", &bearer)])
        .await;
    assert_eq!(told(refused).await, named(401, "not-signed-in"));
    let form = manager.browser().signs_in(&token).await;
    assert_eq!(form.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn a_file_of_tokens_that_others_can_read_is_refused() {
    let directory = directory_with(TOKENS);
    let runs = |args: &[&str]| command(directory.path()).args(args).output().unwrap();
    assert!(runs(&["token", "add", "alice"]).status.success());
    assert!(!runs(&["token", "add", "carol"]).status.success());
    let file = directory.path().join("state/tokens.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    for args in [
        &["check"][..],
        &["token", "ls"],
        &["token", "add", "bob"],
        // Last: one that starts does not end.
        &["serve"],
    ] {
        let output = runs(args);
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        assert!(
            told.contains("is not a file of ours alone"),
            "{args:?}: {told}"
        );
    }
}

#[test]
fn a_configuration_is_told_in_plain_words() {
    let told = |config: &str| {
        let directory = directory_with(config);
        let output = command(directory.path()).arg("check").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said, directory)
    };
    let (code, said, directory) = told(FRONT);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "It listens on 127.0.0.1:0.",
        "`X-Forwarded-User` names, in requests from 127.0.0.1 alone",
        "User alice has the account a1@login.",
        "--time=4:00:00",
        "warning: `trusted-header.from` has the loopback",
        "The configuration is good.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // A port is open to every user of its node.
    for (ide, warns) in [
        ("ide-command = 'ide $IDE_PORT'", true),
        ("ide-command = 'ide $IDE_TOKEN_FILE'", false),
        ("ide-command = 'ide $IDE_PORT'\nide-socket = true", true),
        ("ide-command = 'ide $IDE_SOCKET'\nide-socket = true", false),
    ] {
        let (_, said, _directory) = told(&format!("{ide}\n{FRONT}"));
        assert_eq!(
            said.contains("says nothing of $IDE"),
            warns,
            "{ide}: {said}"
        );
    }
    // It looks, and starts nothing.
    assert!(!directory.path().join("state").exists());

    let (code, said, _directory) = told(
        "listen = \"8080\"\nlogins = []\nidentity = [\"header\", \"saml\"]\ntime = \"soon\"\n\
         local-port = \"x\"\n[[user]]\nname = \"c\"\nlogin = \"c@l\"\nkey = \"/nowhere/key\"\n",
    );
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "`listen`",
        "`logins`",
        "`saml`",
        "no `[trusted-header]`",
        "`time`",
        "`local-port`",
    ] {
        let line = said
            .lines()
            .find(|line| line.contains(part) && line.starts_with("error: "));
        assert!(line.is_some(), "{part}: {said}");
    }
    let hints = said
        .lines()
        .filter(|line| line.starts_with("  hint: "))
        .count();
    assert_eq!(
        hints,
        said.lines()
            .filter(|line| line.starts_with("error: "))
            .count(),
        "{said}"
    );

    let (code, said, _directory) =
        told("[[user]]\nname = \"c\"\nlogin = \"c@l\"\nkey = \"/nowhere/key\"\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("bad `key` of the `[[user]]` called `c`: cannot read `/nowhere/key`"));
}

#[test]
fn a_way_to_listen_that_no_browser_finds_is_refused() {
    let directory: PathBuf = "/nowhere".into();
    let output = command(&directory)
        .env_remove("HPC_MANAGER_CONFIG")
        .args(["--login", "alice@login", "--listen", "unix:/nowhere/http"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no `url` is given"), "{told}");
}

/// Who tries something as a page, and what it says of itself.
const SCRIPT: [(&str, &str); 3] = [
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-dest", "empty"),
];

// S11: a page of a dev server has the cookie, or the front's, and the manager's own origin.
#[tokio::test]
async fn a_page_without_the_key_learns_and_changes_nothing() {
    let manager = Manager::start(&format!(
        "identity = [\"header\", \"tokens\"]\n{}",
        &FRONT[22..]
    ));
    let token = manager.token_for("alice");
    let (by_cookie, by_front) = (manager.browser(), manager.browser());
    by_cookie.signs_in(&token).await;
    let alice = ("x-forwarded-user", "alice");
    for (browser, who) in [(&by_cookie, None), (&by_front, Some(alice))] {
        let said = |more: &[(&'static str, &'static str)]| {
            let who: Vec<_> = who.into_iter().chain(more.iter().copied()).collect();
            who
        };
        let frame = |dest| [SCRIPT[0], WINDOW[1], ("sec-fetch-dest", dest)];
        let own = ("origin", manager.url.as_str());
        for path in [
            "/",
            "/api/v1/session",
            "/api/v1/ports",
            "/api/v1/nothing",
            "/nowhere",
        ] {
            for fields in [SCRIPT, frame("iframe"), frame("object"), frame("embed")] {
                let refused = browser.gets(path, &said(&fields)).await;
                assert_eq!(
                    told(refused).await,
                    named(403, "not-our-page"),
                    "{path} {fields:?}"
                );
            }
        }
        let calls = async |key: &str, more: &[(&'static str, &'static str)]| {
            let call = browser
                .client
                .delete(format!("{}/api/v1/session", manager.url));
            let fields: Vec<_> = [("x-hpc-manager", "1"), own, (PAGE, key)]
                .into_iter()
                .chain(said(more))
                .collect();
            told(sends(call, &fields).await).await
        };
        let window = browser.gets("/", &said(&WINDOW)).await;
        for field in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
            assert_eq!(window.headers()[field], "same-origin");
        }
        let key = key_of(&text(window).await).unwrap();
        let no_keys = [
            "",
            "undefined",
            &key[1..],
            &format!("{key}0"),
            &key.to_uppercase(),
        ];
        for no_key in no_keys {
            for referrer in ["", "/", "/port/5500/"] {
                let referrer = format!("{}{referrer}", manager.url).leak();
                let refused = calls(no_key, &[("referer", referrer)]).await;
                assert_eq!(refused, named(403, "not-our-page"), "{no_key} {referrer}");
            }
        }
        assert_eq!(calls(&key, &SCRIPT).await, named(404, "no-session"));
        // Whoever says nothing, as no browser does, gets a page that can do nothing.
        let unsaid = text(browser.gets("/", &said(&[])).await).await;
        assert!(unsaid.contains("alice&#39;s session") && key_of(&unsaid).is_none());
    }
    let keys = [by_cookie.key().await, by_cookie.key().await];
    assert_eq!(keys[0], keys[1]);
    let again = manager.browser();
    again.signs_in(&token).await;
    assert_ne!(again.key().await, keys[0]);
}

// S12.
#[tokio::test]
async fn a_page_makes_nobody_else_of_a_browser() {
    let manager = Manager::start("identity = [\"link\", \"tokens\"]\n");
    let (alices, bobs) = (manager.token_for("alice"), manager.token_for("bob"));
    let (alice, bob) = (manager.browser(), manager.browser());
    let cookie_of = |signed_in: Response| {
        let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
        cookie.split_once(';').unwrap().0.to_owned()
    };
    let (of_alice, of_bob) = (
        cookie_of(alice.signs_in(&alices).await),
        cookie_of(bob.signs_in(&bobs).await),
    );
    let another = alice.signs_in(&bobs).await;
    assert_eq!(told(another).await, named(409, "signed-in-as-another"));
    let link = manager.runs(&["link", "bob"]);
    let link = String::from_utf8(link.stdout).unwrap();
    let path = link.trim().strip_prefix(&manager.url).unwrap();
    let opened = alice.gets(path, &WINDOW).await;
    assert_eq!(told(opened).await, named(409, "signed-in-as-another"));
    for fields in [SCRIPT, [SCRIPT[0], WINDOW[1], ("sec-fetch-dest", "iframe")]] {
        let loaded = manager.browser().gets(path, &fields).await;
        assert_eq!(told(loaded).await, named(403, "not-our-page"));
    }
    assert!(alice.is_shown_the_page_of("alice").await);
    let unknown = manager.runs(&["link", "carol"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(!unknown.status.success(), "{said}");
    assert!(
        said.contains("`carol` is no user") && said.contains("alice, bob"),
        "{said}"
    );
    // The link was not used up by any of that.
    let fresh = manager.browser();
    let opened = fresh.gets(path, &WINDOW).await;
    assert_eq!(opened.status(), StatusCode::SEE_OTHER);

    let both = format!("{of_bob}; {of_alice}");
    let both = ("cookie", &*both);
    let visitor = manager.browser();
    for path in ["/", "/api/v1/session", "/port/5500/"] {
        let refused = visitor.gets(path, &[both]).await;
        assert_eq!(told(refused).await, named(401, "several-users"), "{path}");
    }
    let way_out = visitor
        .gets("/logout", &[both, WINDOW[0], WINDOW[1], WINDOW[2]])
        .await;
    assert!(text(way_out).await.contains("action=\"/logout\""));
    let origin = ("origin", &*manager.url);
    let out = visitor
        .sends_form("/logout", String::new(), &[both, origin])
        .await;
    assert_eq!(out.status(), StatusCode::SEE_OTHER);
    for cookie in [&of_alice, &of_bob] {
        let refused = visitor.gets("/", &[("cookie", cookie)]).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
}

// S14: to `SameSite` all ports of a host are one site.
#[tokio::test]
async fn another_site_asks_for_nothing_by_a_cookie() {
    let manager = Manager::start(TOKENS);
    let browser = manager.browser();
    browser.signs_in(&manager.token_for("alice")).await;
    for path in [
        "/port/5500/x.js",
        "/absport/5500/",
        "/code/",
        "/assets/manager.js",
        "/",
        "/api/v1/ports",
    ] {
        for site in ["same-site", "cross-site"] {
            for (mode, dest) in [
                ("no-cors", "script"),
                ("no-cors", "image"),
                ("cors", "empty"),
                ("navigate", "iframe"),
            ] {
                let fields = [
                    ("sec-fetch-site", site),
                    ("sec-fetch-mode", mode),
                    ("sec-fetch-dest", dest),
                ];
                let refused = browser.gets(path, &fields).await;
                assert_eq!(
                    told(refused).await,
                    named(403, "foreign-page"),
                    "{path} {fields:?}"
                );
            }
        }
        let refused = browser
            .gets(path, &[("origin", "http://127.0.0.1:1")])
            .await;
        assert_eq!(told(refused).await, named(403, "foreign-page"), "{path}");
    }
    let link = [("sec-fetch-site", "cross-site"), WINDOW[1], WINDOW[2]];
    assert_eq!(browser.gets("/", &link).await.status(), StatusCode::OK);
    assert_eq!(
        told(browser.gets("/port/5500/", &link).await).await,
        named(404, "no-session")
    );
}
