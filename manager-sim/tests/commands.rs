//! What a person does at a terminal: with the manager that runs here as the same user, and with one
//! elsewhere by an access token.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

#[expect(dead_code, reason = "others ask as browsers")]
mod running;

use running::{
    DEADLINE, Running,
    document::{document, wrong},
    site::Site,
};

/// A manager of alice and bob.
struct Manager {
    site: Site,
    url: String,
    _process: Running,
}

impl Manager {
    fn starts(flags: &[&'static str]) -> Self {
        let mut site = Site::new();
        site.flags = flags.to_vec();
        let mut command = site.command();
        let (process, url, _) = Running::start(command.args(["--listen", "127.0.0.1:0"]));
        Self {
            site,
            url,
            _process: process,
        }
    }

    fn runs(&self, args: &[&str]) -> Output {
        self.site.tool().args(args).output().unwrap()
    }

    /// What it prints, when all is well.
    fn does(&self, args: &[&str]) -> String {
        let output = self.runs(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says when it cannot, and its exit code.
    fn fails(&self, args: &[&str]) -> (i32, String) {
        told(&self.runs(args))
    }

    fn awaits(&self, user: &str, text: &str) -> String {
        let start = Instant::now();
        loop {
            let listed = self.does(&["ls", "--user", user]);
            if listed.contains(text) {
                return listed;
            }
            assert!(start.elapsed() < DEADLINE, "no {text}: {listed}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn told(output: &Output) -> (i32, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), said)
}

#[test]
fn a_session_is_launched_listed_and_cancelled() {
    let manager = Manager::starts(&[]);
    let launched = manager.does(&["launch", "--user=alice", "--time=1:00:00", "--cpus=2"]);
    let id = launched.trim();
    let listed = manager.awaits("alice", "pending");
    assert!(listed.starts_with("SESSION   PHASE    JOB"), "{listed}");
    assert!(listed.contains(&format!("{id}  pending  1 ")), "{listed}");
    let asked = manager.site.lines("asked").join("\n");
    assert!(
        asked.contains("--time=1:00:00") && asked.contains("--cpus-per-task=2"),
        "{asked}"
    );

    // S32.
    assert_eq!(manager.does(&["ls", "--user=bob"]), "SESSION  PHASE\n");
    for name in [id, "1"] {
        let (code, said) = manager.fails(&["cancel", "--user=bob", name]);
        assert_eq!(code, 1);
        assert!(
            said.contains("no session or job") && said.contains("hint: "),
            "{said}"
        );
    }
    let json = manager.does(&["ls", "--user=alice", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let document = document();
    let schema = &document["paths"]["/api/v1/sessions"]["get"]["responses"]["200"]["content"]["application/json"]
        ["schema"];
    assert_eq!(wrong(&document, schema, &json), Vec::<String>::new());

    let (code, said) = manager.fails(&["open", "--user=alice", "--print"]);
    assert_eq!(code, 1);
    assert!(said.contains("is pending, not connected"), "{said}");

    // By its job.
    assert_eq!(manager.does(&["cancel", "--user=alice", "1"]), launched);
    manager.awaits("alice", "ended");
    assert_eq!(manager.site.lines("cancelled"), ["1"]);
    for _ in 0..2 {
        manager.does(&["launch", "--user=alice"]);
    }
    let all = manager.does(&["cancel", "--user=alice", "--all"]);
    assert_eq!(all.lines().count(), 2, "{all}");
    let (code, said) = manager.fails(&["launch", "--user=alice", "--option=wrap=id"]);
    assert_eq!(code, 1);
    assert!(said.contains("Your job was not submitted."), "{said}");
    let (code, said) = manager.fails(&["launch", "--user=alice", "--ide=emacs"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("`emacs`") && said.contains("`vscode`"),
        "{said}"
    );
}

#[test]
fn it_is_said_for_whom_where_there_are_several() {
    let manager = Manager::starts(&[]);
    let (code, said) = manager.fails(&["ls"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("hint: Say for whom it is: `--user NAME`."),
        "{said}"
    );
    let (code, said) = manager.fails(&["ls", "--user=carol"]);
    assert_eq!(code, 1);
    assert!(said.contains("carol"), "{said}");
}

#[test]
fn a_log_is_followed_to_its_end() {
    let manager = Manager::starts(&[]);
    manager.does(&["launch", "--user=alice"]);
    manager.awaits("alice", "pending");
    let mut follows = manager.site.tool();
    follows.args(["logs", "--user=alice", "--follow"]);
    let mut follows = follows.stdout(Stdio::piped()).spawn().unwrap();
    let (sends, lines) = mpsc::channel();
    let stdout = BufReader::new(follows.stdout.take().unwrap());
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = sends.send(line);
        }
    });
    fs::create_dir_all(manager.site.path(".hpc-proxy")).unwrap();
    let mut printed = String::new();
    let names = ["first", "second \u{2714}", "third"];
    for name in names {
        printed += &format!("{name}\n");
        manager.site.sets(".hpc-proxy/job-1.log", &printed);
        let line = lines.recv_timeout(DEADLINE);
        assert_eq!(line.as_deref(), Ok(name), "it comes while it is followed");
    }
    manager.does(&["cancel", "--user=alice", "--all"]);
    let start = Instant::now();
    let status = loop {
        match follows.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > DEADLINE => {
                follows.kill().unwrap();
                panic!("it goes on after the session");
            }
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    assert!(status.success());
    assert!(lines.recv().is_err(), "nothing is said twice");
}

#[test]
fn a_command_that_is_wrong_or_finds_no_manager_says_so() {
    let site = Site::new();
    let runs = |args: &[&str]| told(&site.tool().args(args).output().unwrap());
    let (code, said) = runs(&["ls"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("no manager runs here") && said.contains("hint: start one"),
        "{said}"
    );
    let (code, said) = runs(&["ls", "--url", "https://127.0.0.1:1"]);
    assert_eq!(code, 2);
    assert!(said.contains("HPC_MANAGER_TOKEN"), "{said}");
    for args in [
        &["launch", "--option", "x"][..],
        &["ls", "--url", "http://example.org"],
        &["ls", "--user", "alice", "--url", "https://example.org"],
        &["cancel"],
        &["cancel", "--all", "x"],
        &["open", "--port", "0"],
        &["ls", "--token", "hpcm_x"],
    ] {
        assert_eq!(runs(args).0, 2, "{args:?}");
    }
}

#[test]
fn shells_learn_every_command() {
    let site = Site::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = site.tool().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        for command in ["launch", "ls", "open", "logs", "cancel", "doctor"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn a_manager_elsewhere_takes_a_token() {
    let manager = Manager::starts(&["--identity", "link,tokens"]);
    let token = manager.does(&["token", "add", "alice"]);
    let elsewhere = |args: &[&str]| {
        let mut command = manager.site.tool();
        command.args(args).args(["--url", &manager.url]);
        command
    };
    let start = Instant::now();
    let listed = loop {
        let mut command = elsewhere(&["ls"]);
        let output = command.env("HPC_MANAGER_TOKEN", &token).output().unwrap();
        if output.status.success() {
            break String::from_utf8(output.stdout).unwrap();
        }
        // It looks at its file each second.
        assert!(start.elapsed() < DEADLINE, "{output:?}");
        thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(listed, "SESSION  PHASE\n");

    let file = manager.site.path("my-token");
    fs::write(&file, &token).unwrap();
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    let by_file = |args: &[&str]| {
        let mut command = elsewhere(args);
        command.arg("--token-file").arg(&file).output().unwrap()
    };
    mode(0o644);
    let (code, said) = told(&by_file(&["ls"]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("chmod 600"), "{said}");
    mode(0o600);
    let launched = by_file(&["launch", "--mem", "2G\" x"]);
    assert_eq!(told(&launched).0, 1, "a mark of quotation ends nothing");
    let launched = by_file(&["launch", "--mem", "2G"]);
    assert!(launched.status.success(), "{launched:?}");
    manager.awaits("alice", "pending");

    let wrong = format!("hpcm_alice_{}", "0".repeat(64));
    let mut command = elsewhere(&["ls"]);
    let output = command.env("HPC_MANAGER_TOKEN", wrong).output().unwrap();
    let (code, said) = told(&output);
    assert_eq!(code, 1);
    assert!(said.contains("hint: `hpc-manager token"), "{said}");
}

/// The head of one request, and `answer` to it.
fn answers(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let head = head(&mut stream);
    stream.write_all(answer.as_bytes()).unwrap();
    head
}

fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_token_goes_nowhere_else() {
    let site = Site::new();
    let (here, there) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    // Whatever the user has told curl.
    let rc = "location\nlocation-trusted\n";
    fs::write(site.path(".curlrc"), rc).unwrap();
    let (url, elsewhere) = (here.local_addr().unwrap(), there.local_addr().unwrap());
    let redirect = format!(
        "HTTP/1.1 307 Go\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let serves = thread::spawn(move || answers(&here, &redirect));
    let token = format!("hpcm_alice_{}", "ab".repeat(32));
    let mut command = site.tool();
    command
        .args(["ls", "--url", &format!("http://{url}")])
        // A proxy could read along.
        .env("http_proxy", format!("http://{elsewhere}"))
        .env("HPC_MANAGER_TOKEN", &token);
    let output = command.output().unwrap();
    let asked = serves.join().unwrap();
    assert!(
        asked.contains(&format!("Authorization: Bearer {token}\r\n")),
        "{asked}"
    );
    there.set_nonblocking(true).unwrap();
    let came = there.accept().map(|(mut stream, _)| head(&mut stream));
    assert_eq!(
        came.map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock)
    );
    let (code, said) = told(&output);
    assert_eq!(code, 1);
    assert!(said.contains("leads elsewhere"), "{said}");
}

// On a machine of many, everybody can read arguments.
#[test]
fn a_token_is_among_no_arguments() {
    let site = Site::new();
    let curl = "#!/bin/sh\necho \"$*\" >\"$CLUSTER/args\"\ncat >\"$CLUSTER/orders\"\n\
                printf '{\"user\":\"alice\",\"sessions\":[],\"selected\":null}\\n200'\n";
    let path = site.path("bin").join("curl");
    fs::write(&path, curl).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let token = format!("hpcm_alice_{}", "ab".repeat(32));
    let mut command = site.tool();
    command.args(["ls", "--url", "https://hpc.example.org"]);
    let output = command.env("HPC_MANAGER_TOKEN", &token).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(site.lines("args"), ["-q --config -"]);
    let orders = site.lines("orders").join("\n");
    assert!(
        orders.contains(&token) && orders.contains("proto = \"=https\""),
        "{orders}"
    );
    assert!(!orders.contains("location"), "{orders}");
}

#[test]
fn the_doctor_looks_at_both_ends() {
    let site = Site::new();
    let examine = |more: &[&str]| {
        let mut doctor = site.tool();
        doctor.arg("doctor").args(["--login", "alice@login"]);
        let output = doctor.args(["--listen", "127.0.0.1:0"]).args(more).output();
        let output = output.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (code, text) = examine(&["--hpc-proxy-command", "no-such-program"]);
    assert_eq!(code, 1, "{text}");
    for told in [
        "ok    config ",
        "ok    state-dir ",
        "ok    listen     127.0.0.1:0 is free",
        "ok    ssh        alice (alice@login) answers",
        "ok    sbatch ",
        "ok    squeue     alice (alice@login): the controller answers",
        "FAIL  hpc-proxy  alice (alice@login): there is no `no-such-program`  -> install it",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(site.lines("jobs").is_empty(), "no job is submitted");
    // Another version, and a controller that is down.
    site.sets("down", "");
    let (code, text) = examine(&["--hpc-proxy-command", "sleep", "--json"]);
    assert_eq!(code, 1);
    let all: Value = serde_json::from_str(&text).unwrap();
    let level = |name: &str| {
        let mut probes = all["probes"].as_array().unwrap().iter();
        probes.find(|it| it["name"] == name).unwrap()["level"].clone()
    };
    assert_eq!(
        (level("hpc-proxy"), level("squeue")),
        ("warn".into(), "fail".into())
    );
    let (code, text) = examine(&["--time", "x"]);
    assert_eq!(code, 1);
    assert!(text.starts_with("FAIL  config     bad `time`"), "{text}");
    // No ssh.
    fs::write(
        site.path("bin/ssh"),
        "#!/bin/sh\necho 'No route to host' >&2\nexit 255\n",
    )
    .unwrap();
    let (code, text) = examine(&[]);
    assert_eq!(code, 1);
    assert!(
        text.contains("FAIL  ssh ") && text.contains("No route to host"),
        "{text}"
    );
}
