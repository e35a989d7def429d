//! Usage: flags, variables, messages and exit codes.

use std::{io::Write, os::unix::fs::MetadataExt};

use assert_cmd::Command;
use predicates::prelude::*;
use tempfile::TempDir;

use crate::harness::{Proxy, settings};

fn hpc_proxy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpc-proxy"));
    command.env_clear().env("HPC_PROXY_ALLOW_ROOT", "true");
    command
}

#[test]
fn the_version_is_printed() {
    for flag in ["--version", "-version"] {
        let version = concat!("hpc-proxy ", env!("CARGO_PKG_VERSION"), "\n");
        hpc_proxy().arg(flag).assert().success().stdout(version);
    }
}

#[test]
fn bad_usage_exits_with_2_and_names_the_value() {
    for (args, named) in [
        (&["--port", "70000"][..], "70000"),
        (&["--grace", "1h"], "1h"),
        (&["--auth", "maybe"], "maybe"),
        (&["--bind", "localhost"], "localhost"),
        (&["--bogus"], "--bogus"),
        (&["--listen", "udp"], "`udp` is neither"),
        (&["--listen", "unix:"], "`unix:` is neither"),
        (&["--upgrade", "h2c"], "`h2c` is never passed on"),
        (&["--upgrade", "tcp,h2"], "`h2` is never passed on"),
        (&["--max-connections", "many"], "many"),
        (&["--log-format", "xml"], "xml"),
        (&["url", "0"], "`0` is not a port number"),
        (&["url", "--framework", "vite"], "<PORT>"),
        (&["url", "--framework", "emacs", "1"], "vite"),
        (&["url", "--public-url", "x", "1"], "`x` is not http://"),
        (
            &["--host-suffix", "127.0.0.1"],
            "`127.0.0.1` is not a domain",
        ),
    ] {
        let home = TempDir::new().unwrap();
        let told = hpc_proxy()
            .env("HOME", home.path())
            .args(args)
            .assert()
            .code(2);
        told.stderr(predicate::str::contains(named));
    }
}

#[test]
fn without_a_home_the_port_file_must_be_named() {
    let told = hpc_proxy().assert().code(2);
    told.stderr("error: $HOME is not set\nhint: say where to publish the port with --port-file\n");
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let shared = TempDir::new().unwrap();
    let everyone = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(shared.path(), everyone).unwrap();
    let told = hpc_proxy()
        .arg("--port-file")
        .arg(shared.path().join("port"))
        .assert()
        .code(1);
    told.stderr(predicate::str::contains(
        "can be written by other users\nhint: choose a directory",
    ));
}

#[test]
fn a_link_to_no_proxy_is_told() {
    let home = TempDir::new().unwrap();
    let told = hpc_proxy()
        .env("HOME", home.path())
        .arg("url")
        .assert()
        .code(1);
    told.stderr(predicate::str::contains("error: no proxy is running here"));
}

// A person with `ssh -L` asks from a login node, outside the job.
#[tokio::test]
async fn a_link_is_printed_outside_the_job_too() {
    let home = TempDir::new().unwrap();
    let mut child = crate::harness::command(home.path())
        .env("SLURM_JOB_ID", "42")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let file = home.path().join(".hpc-proxy/port");
    crate::harness::eventually("the port file", || file.exists()).await;
    let port = std::fs::read_to_string(file).unwrap();
    let told = hpc_proxy()
        .env("HOME", home.path())
        .arg("url")
        .assert()
        .success();
    let link = format!("http://localhost:{}/_hpc-proxy/login?code=", port.trim());
    told.stdout(predicate::str::starts_with(link));
    child.kill().await.unwrap();
}

#[test]
fn a_path_and_a_frameworks_settings_need_no_proxy() {
    let url = |front: &str, args: &[&str]| {
        let told = hpc_proxy()
            .env("HOME", "/nowhere")
            .env("HPC_PROXY_PUBLIC_URL", front)
            .arg("url")
            .args(args)
            .assert()
            .success();
        String::from_utf8(told.get_output().stdout.clone()).unwrap()
    };
    let (hpc, below) = ("https://hpc.example.org/", "https://hpc.example.org/user/x");
    assert_eq!(url("", &["--path", "5500"]), "/port/5500/\n");
    assert_eq!(url(hpc, &["--path", "5500"]), "/port/5500/\n");
    assert_eq!(url(below, &["--path", "5500"]), "/user/x/port/5500/\n");
    assert_eq!(url(below, &["--path"]), "/user/x/\n");
    assert_eq!(url(hpc, &["5500"]), "https://hpc.example.org/port/5500/\n");
    assert_eq!(
        url("", &["--framework", "vite", "5173"]),
        "vite --port 5173 --base /absport/5173/\n# opened at /absport/5173/\n"
    );
    let told = url(below, &["--framework", "gradio", "7860"]);
    assert!(
        told.starts_with("GRADIO_ROOT_PATH=/user/x/port/7860 "),
        "{told}"
    );
    let opened = "\n# opened at https://hpc.example.org/user/x/port/7860/\n";
    assert!(told.ends_with(opened), "{told}");
    let refused = hpc_proxy()
        .env("HOME", "/nowhere")
        .args(["url", "--public-url", below, "--framework", "vite", "5173"])
        .assert()
        .code(1);
    refused.stderr(predicate::str::contains("below `/user/x`\nhint: open it"));
}

#[test]
fn a_free_port_can_be_bound() {
    let printed = hpc_proxy()
        .env("HOME", "/")
        .arg("free-port")
        .output()
        .unwrap();
    let port: u16 = String::from_utf8(printed.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
}

#[tokio::test]
async fn a_server_listens_where_it_is_told_and_is_found_by_its_name() {
    let proxy = Proxy::start().await;
    let told = |name: &str| {
        hpc_proxy()
            .envs(settings(proxy.home.path()))
            .env("HOME", proxy.home.path())
            .args(["socket-path", name])
            .output()
            .unwrap()
    };
    let printed = String::from_utf8(told("app").stdout).unwrap();
    let path = std::path::Path::new(printed.trim_end());
    let mode = std::fs::metadata(path.parent().unwrap()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .unwrap();
    });
    let answer = proxy.get("/sock/app/").send().await.unwrap();
    assert_eq!(answer.status(), 204);
    served.join().unwrap();
    for bad in ["", "a/b", "..", "-x"] {
        assert_eq!(told(bad).status.code(), Some(2), "{bad}");
    }
}

#[tokio::test]
async fn flags_of_the_original_are_accepted() {
    let proxy = Proxy::start_with(&["-port", "0", "-base-rewrite", "-verbose=true"]).await;
    assert_eq!(proxy.get("/").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_port_file_of_ones_own_moves_the_whole_lease() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("elsewhere");
    let mut child = crate::harness::command(home.path())
        .env("HPC_PROXY_PORT_FILE", &file)
        .env("HPC_PROXY_BIND", "127.0.0.1")
        .env("SLURM_JOB_ID", "42")
        .env("SLURMD_NODENAME", "node07")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    crate::harness::eventually("the port file", || file.exists()).await;
    let record = std::fs::read(home.path().join("elsewhere.job-42.json")).unwrap();
    let record = hpc_proxy::lease::Record::parse(&record).unwrap();
    record.check("42", "node07").unwrap();
    assert_eq!(
        record.addresses,
        ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(
        record.token_file,
        home.path().join("elsewhere.job-42.token")
    );
    assert!(!home.path().join(".hpc-proxy").exists());
    child.kill().await.unwrap();
}

// S3: the token is in no argument and in no line of the log.
#[tokio::test]
async fn the_token_is_not_shown_to_the_node() {
    let proxy = Proxy::start_with(&["--verbose"]).await;
    proxy.get("/port/1/?secret=1").send().await.unwrap();
    let pid = proxy.record.pid;
    for file in ["cmdline", "environ"] {
        // Its environment is not even shown to its own user, unless that is root (S31).
        let shown = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&shown).contains(&proxy.token),
            "{file}"
        );
    }
    let token = proxy.token.clone();
    let log = proxy.end_and_read_log().await;
    assert!(
        log.contains("listening") && log.contains("refused"),
        "{log}"
    );
    assert!(!log.contains(&token) && !log.contains("secret"), "{log}");
}

// S24: a job's name, or whatever else is not ours, cannot write to a terminal or forge a line.
#[tokio::test]
async fn the_log_shows_no_control_character_of_anybodys() {
    let hostile = "7\n2026 INFO forged\r\u{1b}]0;x\u{7}\u{9b}31m\u{202e}";
    for format in ["human", "json"] {
        let home = TempDir::new().unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hpc-proxy"));
        command
            .args(["--log-format", format, "--verbose"])
            .env("SLURM_JOB_ID", hostile);
        let proxy = Proxy::start_by(home, command).await;
        proxy.get("/port/5/%1b%0a").send().await.unwrap();
        let log = proxy.end_and_read_log().await;
        assert!(
            log.contains("listening") && log.contains("stopping"),
            "{log}"
        );
        let plain = log
            .chars()
            .all(|c| c == '\n' || !c.is_control() && c != '\u{202e}');
        assert!(plain, "{log:?}");
        for line in log.lines() {
            assert!(!line.starts_with("2026 INFO"), "{log}");
            if format == "json" {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(
                    event["message"].is_string() && event["level"].is_string(),
                    "{line}"
                );
            }
        }
    }
}

// S1: everybody is served only where both are said, and then it is said back.
#[tokio::test]
async fn serving_everybody_takes_two_words() {
    for (bind, addresses) in [(None, "127.0.0.1"), (Some("0.0.0.0"), "0.0.0.0")] {
        let home = TempDir::new().unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hpc-proxy"));
        command.env("HPC_PROXY_AUTH", "none");
        if let Some(bind) = bind {
            command.env("HPC_PROXY_BIND", bind);
        }
        let proxy = Proxy::start_by(home, command).await;
        let log = proxy.end_and_read_log().await;
        assert!(
            log.contains("no authentication: whoever can connect"),
            "{log}"
        );
        assert!(log.contains(&format!("ip={addresses}")), "{log}");
    }
}
