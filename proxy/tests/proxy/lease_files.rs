//! The lease under bad conditions: full disks, read-only homes, shared homes, what a killed proxy
//! left, and files that are no lease.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use hpc_proxy::lease::{Place, Record};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::harness::{Ended, Proxy, command, confine, eventually, lacks, run};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A proxy of job 7 in `home`, once the port file is that of another than `before`.
async fn start_job(home: &Path, before: Option<&Record>) -> (Child, Record) {
    let child = command(home)
        .env("SLURM_JOB_ID", "7")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let place = Place::in_home(home, Some("7"), "");
    let published = || {
        let record = place.read_record().ok()?;
        let (port, _) = place.read_last().ok()?;
        (Some(&record) != before && port == record.port).then_some(record)
    };
    eventually("a lease", || published().is_some()).await;
    (child, published().unwrap())
}

async fn terminate(child: &mut Child) {
    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill")
        .arg(&pid)
        .status()
        .unwrap();
    assert!(child.wait().await.unwrap().success());
}

// Behaviour 129: the last to start has the job's lease, and keeps it.
#[tokio::test]
async fn of_two_proxies_of_one_job_the_later_takes_over() {
    let home = TempDir::new().unwrap();
    let (mut one, first) = start_job(home.path(), None).await;
    let (mut two, second) = start_job(home.path(), Some(&first)).await;
    assert_ne!(first.port, second.port);
    terminate(&mut one).await;
    let place = Place::in_home(home.path(), Some("7"), "");
    assert_eq!(place.read_record().unwrap(), second);
    assert_eq!(
        place.read_last().unwrap(),
        (second.port, place.read_token().unwrap())
    );
    terminate(&mut two).await;
    assert_eq!(
        fs::read_dir(home.path().join(".hpc-proxy"))
            .unwrap()
            .count(),
        0
    );
}

// Behaviour 130: what SIGKILL left is in nobody's way.
#[tokio::test]
async fn a_killed_proxy_is_replaced() {
    let home = TempDir::new().unwrap();
    let (mut one, first) = start_job(home.path(), None).await;
    one.kill().await.unwrap();
    let (mut two, second) = start_job(home.path(), Some(&first)).await;
    assert_ne!(first.instance, second.instance);
    terminate(&mut two).await;
    assert_eq!(
        fs::read_dir(home.path().join(".hpc-proxy"))
            .unwrap()
            .count(),
        0
    );
}

// S9.
#[tokio::test]
async fn a_port_file_in_tmp_is_refused() {
    let home = TempDir::new().unwrap();
    let tmp = TempDir::new().unwrap();
    fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let file = tmp.path().join("port");
    let refused = run(command(home.path()).arg("--port-file").arg(&file)).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("can be written by other users"),
        "{refused:?}"
    );
    if is_root() {
        chown(tmp.path(), Some(65534), None).unwrap();
        let refused = run(command(home.path()).arg("--port-file").arg(&file)).await;
        assert!(
            refused.stderr.contains("belongs to user `65534`"),
            "{refused:?}"
        );
    }
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
}

// S9: also what root_squash makes of root in somebody's home on NFS.
#[tokio::test]
async fn a_home_that_cannot_be_written_is_told() {
    let home = TempDir::new().unwrap();
    let program = home.path().join("hpc-proxy");
    fs::copy(env!("CARGO_BIN_EXE_hpc-proxy"), &program).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut proxy = Command::new(&program);
    confine(&mut proxy, home.path());
    if is_root() {
        proxy.uid(65534).gid(65534);
    }
    let refused = run(&mut proxy).await;
    assert_eq!(refused.code, Some(1));
    let directory = home.path().join(".hpc-proxy");
    let told = format!(
        "cannot publish the port: cannot use `{}`: ",
        directory.display()
    );
    assert!(refused.stderr.contains(&told), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("hint: is the disk full or the home read-only?"),
        "{refused:?}"
    );
}

/// Runs `script` with a home of its own, which is a file system of 64 KiB.
async fn in_a_small_home(script: &str) -> Option<Ended> {
    let home = TempDir::new().unwrap();
    let mount = "mount -t tmpfs -o size=64k,mode=700 tmpfs \"$HOME\" || exit 77\n";
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-c", &format!("{mount}{script}")]);
    confine(&mut shell, home.path());
    shell.env("HPC_PROXY", env!("CARGO_BIN_EXE_hpc-proxy"));
    let ended = run(&mut shell).await;
    let mounted = ended.code != Some(77) && !ended.stderr.contains("unshare failed");
    mounted.then_some(ended)
}

// S9: ENOSPC.
#[tokio::test]
async fn a_full_disk_is_told_and_nothing_half_written_stays() {
    if !is_root() {
        return lacks("to be root and mount a small file system");
    }
    let full = r#"
        mkdir -m 700 ~/.hpc-proxy
        echo before >~/.hpc-proxy/port
        head -c 1000000 /dev/zero >~/fill 2>/dev/null
        "$HPC_PROXY"; code=$?
        ls -A ~/.hpc-proxy; cat ~/.hpc-proxy/port
        exit $code
    "#;
    let Some(ended) = in_a_small_home(full).await else {
        return lacks("to mount a small file system");
    };
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("No space left on device"),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("hint: is the disk full"), "{ended:?}");
    assert_eq!(ended.stdout, "port\nbefore\n");
}

// S9: a disk that fills up later does not keep a lease from going.
#[tokio::test]
async fn a_lease_goes_from_a_full_disk_too() {
    if !is_root() {
        return lacks("to be root and mount a small file system");
    }
    let fills_up = r#"
        "$HPC_PROXY" 2>/dev/null & proxy=$!
        until [ -s ~/.hpc-proxy/port ]; do sleep 0.02; done
        head -c 1000000 /dev/zero >~/fill 2>/dev/null
        kill $proxy; wait $proxy; code=$?
        ls -A ~/.hpc-proxy
        exit $code
    "#;
    let Some(ended) = in_a_small_home(fills_up).await else {
        return lacks("to mount a small file system");
    };
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
}

// S8: each of these was found in place of a record or a token.
#[tokio::test]
async fn a_broken_lease_is_told_and_not_waited_for() {
    let proxy = Proxy::start().await;
    let directory = proxy.home.path().join(".hpc-proxy");
    let broken = || async {
        let ended = run(command(proxy.home.path()).arg("url")).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("error: no proxy is running here: "),
            "{ended:?}"
        );
        ended.stderr
    };
    for path in proxy.lease_files() {
        fs::remove_file(path).unwrap();
    }
    let port = directory.join("port");
    for (content, told) in [
        (&b""[..], "port` holds no port number"),
        (b"\0\xff\x1b[31m", "port` holds no port number"),
        (b"40123\n", "token` cannot be read: No such file"),
    ] {
        fs::write(&port, content).unwrap();
        let found = broken().await;
        assert!(found.contains(told), "{found}");
    }
    fs::write(directory.join("token"), "short\n").unwrap();
    assert!(
        broken()
            .await
            .contains("token` cannot be read: not a token")
    );
    fs::remove_file(&port).unwrap();
    fs::File::create(&port).unwrap().set_len(1 << 30).unwrap();
    assert!(broken().await.contains("port` holds no port number"));
    fs::remove_file(&port).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&port)
            .status()
            .unwrap()
            .success()
    );
    assert!(broken().await.contains("it is not a regular file"));
}
