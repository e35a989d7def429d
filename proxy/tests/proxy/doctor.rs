//! `hpc-proxy doctor`: what it says of a good node and of a bad one.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command};

use crate::harness::{Ended, Proxy, command, confine, lacks, run};

async fn doctor(home: &Path) -> Ended {
    run(command(home).args(["doctor", "--json"])).await
}

/// Level, what and consequence of the probe called `name`.
fn probe(ended: &Ended, name: &str) -> (String, String, String) {
    let all: Value = serde_json::from_str(&ended.stdout).unwrap();
    let probes = all["probes"].as_array().unwrap();
    let found = probes.iter().find(|probe| probe["name"] == name).unwrap();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("level"), text("what"), text("consequence"))
}

#[tokio::test]
async fn a_node_that_offers_everything_passes() {
    let home = TempDir::new().unwrap();
    let ended = doctor(home.path()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for name in [
        "kernel",
        "sockets",
        "proc",
        "ipv4",
        "ipv6",
        "home",
        "lease-files",
        "clock",
    ] {
        let (level, what, _) = probe(&ended, name);
        assert_eq!(level, "ok", "{name}: {what}");
    }
    assert_eq!(
        probe(&ended, "lease").1,
        "there is no lease of this job or host"
    );
    assert_eq!(probe(&ended, "slurm").1, "not in a Slurm job");
    // Looking has left nothing.
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);

    let people = run(command(home.path()).arg("doctor")).await;
    for line in people.stdout.lines() {
        let level = &line[..6];
        assert!(["ok    ", "warn  ", "FAIL  "].contains(&level), "{line}");
    }
    assert_eq!(
        people.stdout.lines().count(),
        ended.stdout.matches("\"name\"").count()
    );
}

#[tokio::test]
async fn a_running_proxy_proves_itself() {
    for listen in ["tcp", "tcp,unix:d/s"] {
        let proxy = Proxy::start_with(&["--listen", listen]).await;
        let ended = doctor(proxy.home.path()).await;
        let (level, what, _) = probe(&ended, "lease");
        assert_eq!(level, "ok", "{what}");
        assert!(
            what.ends_with(&format!("as process {}, which runs", proxy.record.pid)),
            "{what}"
        );
        let (level, what, _) = probe(&ended, "proxy");
        assert_eq!(level, "ok", "{what}");
        let door = if listen == "tcp" {
            "`127.0.0.1:"
        } else {
            "d/s`"
        };
        assert!(
            what.contains(door) && what.ends_with("proves to be that proxy"),
            "{what}"
        );
        assert!(!ended.stdout.contains(&proxy.token));
    }
}

// Behaviour 130: SIGKILL leaves a lease that is told from a living one.
#[tokio::test]
async fn a_killed_proxys_lease_is_stale() {
    let mut proxy = Proxy::start().await;
    proxy.signal("KILL");
    proxy.exit().await;
    let ended = doctor(proxy.home.path()).await;
    let (level, what, consequence) = probe(&ended, "lease");
    assert_eq!(level, "warn");
    assert!(what.ends_with("which does not run any more"), "{what}");
    assert!(consequence.contains("stale"), "{consequence}");
    let (level, what, _) = probe(&ended, "proxy");
    assert!(
        level == "warn" && what.contains("nothing of yours listens where"),
        "{what}"
    );
    assert_eq!(ended.code, Some(0));
}

// S7: somebody else on the port of the record.
#[tokio::test]
async fn an_impostor_is_found_out() {
    let proxy = Proxy::start().await;
    let real = proxy.lease_files();
    let record = real
        .iter()
        .find(|path| path.extension().is_some_and(|e| e == "json"))
        .unwrap();
    let text = fs::read_to_string(record).unwrap();
    let impostor = Proxy::start().await;
    let mine = format!("\"port\":{},", proxy.record.port);
    let other = text.replace(&mine, &format!("\"port\":{},", impostor.record.port));
    fs::write(record, other).unwrap();
    let ended = doctor(proxy.home.path()).await;
    let (level, what, _) = probe(&ended, "proxy");
    assert_eq!((level.as_str(), ended.code), ("fail", Some(1)));
    assert!(
        what.ends_with("answers, but is not the proxy of the record"),
        "{what}"
    );

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    fs::write(record, text.replace(&mine, &format!("\"port\":{port},"))).unwrap();
    let (level, what, _) = probe(&doctor(proxy.home.path()).await, "proxy");
    assert_eq!(
        (level.as_str(), what.as_str()),
        ("fail", "it does not answer in time")
    );
}

// S9.
#[tokio::test]
async fn a_home_that_cannot_keep_a_lease_fails() {
    let home = TempDir::new().unwrap();
    let shared = home.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    let mut asked = command(home.path());
    asked
        .args(["doctor", "--json", "--port-file"])
        .arg(shared.join("port"));
    let ended = run(&mut asked).await;
    let (level, what, consequence) = probe(&ended, "lease-files");
    assert_eq!((level.as_str(), ended.code), ("fail", Some(1)), "{what}");
    assert!(
        what.ends_with("with mode 1777") && consequence.contains("does not start"),
        "{what}"
    );

    if !rustix::process::geteuid().is_root() {
        return lacks("to be root and start a process of another user");
    }
    let program = home.path().join("hpc-proxy");
    fs::copy(env!("CARGO_BIN_EXE_hpc-proxy"), &program).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut asked = Command::new(program);
    confine(&mut asked, home.path());
    let ended = run(asked.args(["doctor", "--json"]).uid(65534).gid(65534)).await;
    let (level, what, consequence) = probe(&ended, "home");
    assert_eq!((level.as_str(), ended.code), ("fail", Some(1)), "{what}");
    assert!(
        what.contains("cannot be written: Permission denied"),
        "{what}"
    );
    assert!(consequence.contains("--port-file"), "{consequence}");
    assert!(probe(&ended, "root").1.contains("user 65534, not root"));
}

// S9, and what a job inherits from elsewhere.
#[tokio::test]
async fn a_state_directory_of_others_is_told() {
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join(".state")).unwrap();
    fs::set_permissions(
        home.path().join(".state"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let ended = doctor(home.path()).await;
    let (level, what, _) = probe(&ended, "state-dir");
    assert_eq!(level, "warn");
    assert!(
        what.contains("is open to others: its mode is `755`"),
        "{what}"
    );
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn what_a_private_localhost_takes_is_told_outside_and_inside_of_one() {
    let home = TempDir::new().unwrap();
    let outside = doctor(home.path()).await;
    let names = [
        "supervision",
        "take",
        "replace",
        "signals",
        "lock",
        "yama",
        "userns",
        "tun",
    ];
    for name in names {
        let (level, what, _) = probe(&outside, name);
        assert!(["ok", "warn"].contains(&level.as_str()), "{name}: {what}");
    }
    if private_localhost::probe().is_err() {
        lacks("seccomp user notification");
        return;
    }
    let (_, what, consequence) = probe(&outside, "supervision");
    assert!(what.contains("supervised"), "{what}");
    assert!(
        consequence.contains("localhost of your own"),
        "{consequence}"
    );

    let mut inside = command(home.path());
    let program = env!("CARGO_BIN_EXE_hpc-proxy");
    inside.args(["exec", "--quiet", "--", program, "doctor", "--json"]);
    let inside = run(&mut inside).await;
    let (level, what, _) = probe(&inside, "supervision");
    assert_eq!((level.as_str(), inside.code), ("ok", Some(0)));
    assert!(what.contains("already"), "{what}");
}
