//! `--listen unix:PATH`: a door for processes of the same user on the same node.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
};

use hpc_proxy::lease::Record;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::Child,
    time::timeout,
};

use crate::harness::{DEADLINE, Proxy, command, echo_server, eventually, run};

/// All that the proxy behind `socket` answers to `request`.
async fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .expect("closed")
        .unwrap();
    answer
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// A proxy that listens on `run/proxy` below `home` and nowhere else.
async fn unix_only(home: &Path) -> Child {
    let child = command(home)
        .args(["--listen", "unix:run/proxy"])
        .env("SLURM_JOB_ID", "7")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("the record", || home.join(".hpc-proxy/job-7.json").exists()).await;
    child
}

// Decision 2: who gets to the socket is its user, so nothing more is asked.
#[tokio::test]
async fn a_unix_socket_needs_no_token_and_publishes_no_port() {
    let home = TempDir::new().unwrap();
    let mut child = unix_only(home.path()).await;
    let socket = home.path().join("run/proxy");
    let found = fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket() && found.mode() & 0o777 == 0o600);
    let directory = fs::metadata(home.path().join("run")).unwrap();
    assert_eq!(directory.mode() & 0o777, 0o700);

    let record = fs::read(home.path().join(".hpc-proxy/job-7.json")).unwrap();
    let record = Record::parse(&record).unwrap();
    assert_eq!((record.port, record.socket.as_deref()), (0, Some(&*socket)));
    assert!(record.addresses.is_empty());
    for name in ["port", "token"] {
        assert!(
            !home.path().join(".hpc-proxy").join(name).exists(),
            "{name}"
        );
    }

    assert!(
        ask(&socket, &request("/"))
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let port = echo_server().await;
    let echoed = ask(&socket, &request(&format!("/port/{port}/a"))).await;
    assert!(echoed.contains("GET /a HTTP/1.1"), "{echoed}");
    // The user's own ssh may bring a browser here, and so any page.
    let rebound = request(&format!("/port/{port}/a")).replace("localhost", "evil.example");
    let refused = ask(&socket, &rebound).await;
    assert!(refused.starts_with("HTTP/1.1 421 "), "{refused}");
    let upgrade =
        "Upgrade: websocket\r\nConnection: upgrade, close\r\nOrigin: http://evil.example\r\n\r\n";
    let foreign = request(&format!("/port/{port}/a")).replace("Connection: close\r\n\r\n", upgrade);
    let refused = ask(&socket, &foreign).await;
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");

    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill")
        .arg(&pid)
        .status()
        .unwrap();
    assert!(child.wait().await.unwrap().success());
    assert!(!socket.exists());
    assert_eq!(
        fs::read_dir(home.path().join(".hpc-proxy"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_socket_that_a_killed_proxy_left_is_taken_over() {
    let home = TempDir::new().unwrap();
    let mut child = unix_only(home.path()).await;
    child.kill().await.unwrap();
    let socket = home.path().join("run/proxy");
    assert!(socket.exists());
    fs::remove_file(home.path().join(".hpc-proxy/job-7.json")).unwrap();
    let _child = unix_only(home.path()).await;
    assert!(
        ask(&socket, &request("/"))
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn a_socket_that_is_answered_or_open_to_others_is_refused() {
    let home = TempDir::new().unwrap();
    let _child = unix_only(home.path()).await;
    let second = run(command(home.path()).args(["--listen", "unix:run/proxy"])).await;
    assert_eq!(second.code, Some(1));
    assert!(
        second.stderr.contains("another process listens on `"),
        "{second:?}"
    );
    assert!(second.stderr.contains("hint: "), "{second:?}");

    fs::create_dir(home.path().join("open")).unwrap();
    fs::set_permissions(home.path().join("open"), fs::Permissions::from_mode(0o770)).unwrap();
    let refused = run(command(home.path()).args(["--listen", "unix:open/s"])).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused
            .stderr
            .contains("open` is open to others: its mode is `770`"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn both_doors_lead_to_one_proxy() {
    let home = TempDir::new().unwrap();
    let listen = format!("tcp,unix:{}", home.path().join("d/s").display());
    let proxy = Proxy::start_with(&["--listen", &listen]).await;
    assert_eq!(proxy.record.socket, Some(home.path().join("d/s")));
    assert_eq!(proxy.get("/").send().await.unwrap().status(), 200);
    // The token is asked for on the port alone.
    assert!(proxy.raw(&request("/")).await.starts_with("HTTP/1.1 401 "));
    let answer = ask(&home.path().join("d/s"), &request("/")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
