//! What the proxy is allowed to be and to show: root, core files, descriptors.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{Proxy, command, eventually, lacks, run};

/// The user called nobody on most systems; any that is not this one does.
const NOBODY: u32 = 65534;

// S31.
#[tokio::test]
async fn root_is_served_only_when_it_is_said() {
    if !rustix::process::geteuid().is_root() {
        return lacks("to run as root");
    }
    let home = TempDir::new().unwrap();
    let refused = run(command(home.path()).env_remove("HPC_PROXY_ALLOW_ROOT")).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("error: this is root\nhint: "),
        "{refused:?}"
    );
    assert!(!home.path().join(".hpc-proxy").exists());
    let _allowed = Proxy::start_with(&["--allow-root"]).await;
}

/// One line of proc_pid_limits(5): the soft and the hard limit.
fn limit(pid: u32, name: &str) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    let mut words = line.unwrap().split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

// S23, S31.
#[tokio::test]
async fn all_descriptors_are_used_and_no_core_is_dumped() {
    let home = TempDir::new().unwrap();
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "ulimit -S -n 200; ulimit -S -c 100; exec \"$HPC_PROXY\"",
        ])
        .env("HPC_PROXY", env!("CARGO_BIN_EXE_hpc-proxy"));
    let proxy = Proxy::start_by(home, shell).await;
    let (soft, hard) = limit(proxy.record.pid, "Max open files");
    assert_eq!(soft, hard);
    assert_eq!(
        limit(proxy.record.pid, "Max core file size"),
        ("0".into(), "0".into())
    );
}

fn nobodys_home() -> TempDir {
    let home = TempDir::new().unwrap();
    chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    // The build's own directory may be out of their reach.
    let program = home.path().join("hpc-proxy");
    fs::copy(env!("CARGO_BIN_EXE_hpc-proxy"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    home
}

fn as_nobody(home: &Path) -> Command {
    let mut program = Command::new(home.join("hpc-proxy"));
    program.uid(NOBODY).gid(NOBODY);
    program
}

// S31: what a process that may not be dumped still knows of itself, without any privilege.
#[tokio::test]
async fn an_ordinary_user_is_served_by_a_process_that_shows_nothing() {
    if !rustix::process::geteuid().is_root() {
        return lacks("to be root and start a process of another user");
    }
    let home = nobodys_home();
    let program = as_nobody(home.path());
    let mut proxy = Proxy::start_by(home, program).await;
    let pid = proxy.record.pid;
    // Its memory, environment and descriptors are root's to look at, and nobody else's.
    let shown = |name: &str| fs::metadata(format!("/proc/{pid}/{name}")).unwrap().uid();
    assert_eq!((shown("environ"), shown("mem"), shown("fd")), (0, 0, 0));
    assert_ne!(proxy.record.start_ticks, 0);

    // It still sees the servers of its user, and only those.
    let other_home = nobodys_home();
    let program = as_nobody(other_home.path());
    let other = Proxy::start_by(other_home, program).await;
    let mine = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let list = proxy.get("/_hpc-proxy/ports").send().await.unwrap();
    let list = list.text().await.unwrap();
    let has = |port: u16| {
        list.contains(&format!("\"port\":{port},")) || list.contains(&format!("\"port\":{port}}}"))
    };
    assert!(has(other.record.port), "{list}");
    assert!(!has(mine.local_addr().unwrap().port()), "{list}");

    let lease = proxy.lease_files();
    assert_eq!(lease.len(), 4);
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code().await, Some(0));
    eventually("a withdrawn lease", || proxy.lease_files().is_empty()).await;
}
