//! A cluster in a process of this machine: no Docker, no root, up in a third of a second.
//!
//! Its users are one Unix account and its nodes share this machine's ports, which is what it
//! cannot offer.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::scheduler::Scheduler;
use super::{Cluster, Log, Need, Site, Tools, USERS, home_files, shell_word};
use crate::child::{Child, Lifeline};
use crate::processes::Process;
use crate::{binaries, eventually, ports, processes};

/// A third of a second is usual; a busy machine may take longer.
const START: Duration = Duration::from_secs(20);

/// The kind.
#[derive(Clone, Copy, Debug)]
pub struct Embedded;

impl Cluster for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn leftovers(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn meets(&self, need: Need) -> bool {
        match need {
            Need::SeveralUids | Need::Freezer | Need::Containers => false,
        }
    }

    /// As this machine has it.
    fn takes_sockets(&self) -> Option<bool> {
        None
    }

    async fn start(&self, dir: &Path) -> Result<Box<dyn Site>> {
        let home = dir.join("cluster");
        std::fs::create_dir(&home).with_context(|| format!("create `{}`", home.display()))?;
        let args = [
            "up".into(),
            "--dir".into(),
            home.into_os_string(),
            "--users".into(),
            USERS.join(",").into(),
            "--until-stdin-closes".into(),
        ];
        let program = binaries::slurm_sim()?;
        let mut up = Child::start("cluster", Lifeline::Own, dir, &program, args, &[])?;
        let line = up.next_line(START).await?;
        let ready: Ready = serde_json::from_str(&line)
            .with_context(|| format!("not the cluster's ready line: `{line}`"))?;
        Ok(Box::new(Running {
            regained: RefCell::default(),
            up,
            ready,
            tools: Tools {
                hpc_proxy: for_anybody(dir, &binaries::hpc_proxy()?)?,
                ide: shell_word(&binaries::ide_stand_in()?),
                live_server: shell_word(&binaries::fixture("live-server")?),
                browser_sync: shell_word(&binaries::fixture("browser-sync")?),
            },
        }))
    }
}

/// The proxy under test, started so that it serves root too: every account here is whoever runs
/// the stories. As to the kernel all are one user, a localhost is made for each job. Its own path stays in its command line: a process that may not be dumped shows
/// nothing else that says which cluster it is of.
fn for_anybody(dir: &Path, program: &Path) -> Result<String> {
    let path = dir.join("hpc-proxy");
    let program = shell_word(program);
    let start = format!("exec -a \"$0\" {program} \"$@\"");
    let script = format!("#!/bin/bash\nHPC_PROXY_ALLOW_ROOT=true HPC_PROXY_SESSION=true {start}\n");
    std::fs::write(&path, script)
        .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o755)))
        .with_context(|| format!("write `{}`", path.display()))?;
    Ok(path.display().to_string())
}

/// What `slurm-sim up` tells when it is ready.
#[derive(Debug, Deserialize)]
struct Ready {
    ssh_config: PathBuf,
    ssh_port: u16,
    users: Vec<Account>,
    spool: PathBuf,
    bin: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Account {
    name: String,
    home: PathBuf,
}

struct Running {
    // Before `up`: they end first.
    regained: RefCell<Vec<Child>>,
    up: Child,
    ready: Ready,
    tools: Tools,
}

impl Running {
    /// The daemon of a node: `up`'s own, or the one that was started in its stead.
    fn daemon(&self, node: &str) -> Result<Process> {
        let again = self.regained.borrow();
        let again = again.iter().filter_map(|it| processes::by_id(it.pid()));
        let mut all = processes::below(self.up.pid()).into_iter().chain(again);
        let is_it = |process: &Process| {
            process.args.get(1).is_some_and(|arg| arg == "node")
                && process.values_of("--name") == [node]
        };
        let daemon = all.find(is_it);
        daemon.with_context(|| format!("no daemon of {node}"))
    }
}

impl Site for Running {
    fn ssh_config(&self) -> &Path {
        &self.ready.ssh_config
    }

    fn tools(&self) -> &Tools {
        &self.tools
    }

    fn port(&self, _wanted: u16) -> Result<u16> {
        ports::free()
    }

    fn scheduler(&self) -> Scheduler {
        Scheduler::Mock
    }

    fn administers<'a>(&'a self, command: &'a str) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let slurm_sim = binaries::slurm_sim()?;
            let programs = slurm_sim
                .parent()
                .context("a program lies in a directory")?;
            let path = format!(
                "{}:{}:/usr/local/bin:/usr/bin:/bin",
                self.ready.bin.display(),
                programs.display()
            );
            let output = Command::new("bash")
                .args(["-c", command])
                .env("PATH", path)
                .env("SLURM_SIM_SPOOL", &self.ready.spool)
                .env("SLURM_SIM_USER", "root")
                .output()
                .await
                .context("run bash")?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            ensure!(
                output.status.success(),
                "`{command}` failed: {stdout}{stderr}"
            );
            Ok(stdout)
        })
    }

    fn restarts_sshd(&self) -> LocalBoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let answers = async || {
                let address = (Ipv4Addr::LOCALHOST, self.ready.ssh_port);
                TcpStream::connect(address).await.is_ok()
            };
            self.administers("slurm-sim control sshd down").await?;
            eventually!(10, "the sshd is down", {
                ensure!(!answers().await, "it answers");
                Ok(())
            })?;
            self.administers("slurm-sim control sshd up").await?;
            eventually!(10, "the sshd is up", {
                ensure!(answers().await, "it does not answer");
                Ok(())
            })
        })
    }

    fn loses<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let daemon = self.daemon(node)?;
            let with_it = processes::below(daemon.pid);
            // The daemon first: it would tell of its jobs' end.
            daemon.kill();
            for process in with_it {
                process.kill();
            }
            Ok(())
        })
    }

    fn regains<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            ensure!(self.daemon(node).is_err(), "{node} was not lost");
            let args = ["node", "--until-stdin-closes", "--spool"].map(OsString::from);
            let args = args.into_iter();
            let args = args.chain([self.ready.spool.clone().into()]);
            let args = args.chain(["--name", node].map(OsString::from));
            let (name, program) = (format!("{node} again"), binaries::slurm_sim()?);
            let dir = self
                .ready
                .spool
                .parent()
                .context("it lies in a directory")?;
            let daemon = Child::start(&name, Lifeline::Own, dir, &program, args, &[])?;
            self.regained.borrow_mut().push(daemon);
            Ok(())
        })
    }

    fn freezes<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // What a parent starts before it is stopped itself is found last.
            let daemon = self.daemon(node)?;
            daemon.stop();
            processes::below(daemon.pid).iter().for_each(Process::stop);
            Ok(())
        })
    }

    fn thaws<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let daemon = self.daemon(node)?;
            processes::below(daemon.pid).iter().for_each(Process::go_on);
            daemon.go_on();
            Ok(())
        })
    }

    fn kills<'a>(
        &'a self,
        host: &'a str,
        user: &'a str,
        pattern: &'a str,
    ) -> LocalBoxFuture<'a, Result<usize>> {
        Box::pin(async move {
            let args = ["-f", pattern];
            let found = Command::new("pgrep").args(args).output().await;
            let found = String::from_utf8(found.context("run pgrep")?.stdout)?;
            let found: Vec<&str> = found.lines().collect();
            // To the kernel all users are one.
            let home = self.ready.users.iter().find(|account| account.name == user);
            let home = home.with_context(|| format!("no user {user}"))?;
            let home = format!("HOME={}", home.home.display());
            let meant = |process: &&Process| {
                found.contains(&process.pid.to_string().as_str())
                    && process.has_in_environment(&home)
            };
            let all = processes::below(self.daemon(host)?.pid);
            let killed: Vec<&Process> = all.iter().filter(meant).collect();
            killed.iter().for_each(|process| process.kill());
            Ok(killed.len())
        })
    }

    fn logs(&self) -> Vec<Log> {
        let mut logs = vec![Log {
            party: "cluster".to_owned(),
            text: self.up.log(),
        }];
        for user in &self.ready.users {
            for file in home_files(&user.home) {
                logs.push(Log::of_file(
                    &format!("{}: {}", user.name, file.display()),
                    &file,
                ));
            }
        }
        logs
    }

    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, Result<()>> {
        Box::pin(async move {
            for daemon in self.regained.into_inner() {
                // Its node may have been lost once more.
                if processes::by_id(daemon.pid()).is_some() {
                    daemon.end().await?;
                }
            }
            self.up.end().await
        })
    }
}
