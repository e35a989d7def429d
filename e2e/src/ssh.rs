//! Commands on the cluster as its users give them: by the system's `ssh`, with the configuration
//! that the cluster hands out.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::terminal::Lines;

/// Generous for one command; nothing here is meant to take long.
const DEADLINE: Duration = Duration::from_secs(30);

/// The way into a cluster.
#[derive(Clone, Debug)]
pub struct Ssh {
    config: PathBuf,
}

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status; 255 may also be ssh's own failure.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, ssh's included.
    pub stderr: String,
}

impl Ssh {
    /// By the given configuration file.
    pub fn new(config: &Path) -> Ssh {
        Ssh {
            config: config.to_owned(),
        }
    }

    /// Runs `command` (a line of shell) as `user` on `host`, however it ends.
    ///
    /// # Errors
    /// Only if `ssh` itself cannot be run or takes too long.
    pub async fn tries(&self, user: &str, host: &str, command: &str) -> Result<Output> {
        self.with_input(user, host, command, b"").await
    }

    /// Runs `command` as `user` on `host` and gives its standard output.
    ///
    /// # Errors
    /// It ended with anything but 0.
    pub async fn runs(&self, user: &str, host: &str, command: &str) -> Result<String> {
        let output = self.tries(user, host, command).await?;
        output.or_fail(&format!("`{command}` as {user} on {host}"))
    }

    /// Copies a directory of this machine into the user's home, as `below` (relative to it).
    ///
    /// # Errors
    /// `tar` or `ssh` failed.
    pub async fn copies(&self, user: &str, from: &Path, below: &str) -> Result<()> {
        let packed = Command::new("tar")
            .arg("-C")
            .arg(from)
            .args(["-cf", "-", "."])
            .output()
            .await
            .context("run tar")?;
        ensure!(
            packed.status.success(),
            "tar of `{}` failed",
            from.display()
        );
        let unpack = format!("mkdir -p {below} && tar -C {below} --no-same-owner -xf -");
        let output = self
            .with_input(user, "login", &unpack, &packed.stdout)
            .await?;
        output.or_fail(&format!("`{unpack}` as {user}")).map(drop)
    }

    /// Starts `command` as `user` on `host`; its standard input ends when it is dropped.
    ///
    /// # Errors
    /// `ssh` cannot be started.
    pub fn starts(&self, user: &str, host: &str, command: &str) -> Result<Remote> {
        let mut child = self
            .command(user, host, command)
            .kill_on_drop(true)
            .spawn()
            .context("start ssh")?;
        let stdout = child.stdout.take().expect("piped below");
        let (said, lines) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut stdout = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = stdout.next_line().await {
                said.send_modify(|lines| lines.push(line));
            }
        });
        Ok(Remote {
            lines: Lines::new(lines),
            _child: child,
        })
    }

    async fn with_input(
        &self,
        user: &str,
        host: &str,
        command: &str,
        input: &[u8],
    ) -> Result<Output> {
        let run = async {
            let mut child = self
                .command(user, host, command)
                .kill_on_drop(true)
                .spawn()
                .context("start ssh")?;
            let mut stdin = child.stdin.take().expect("piped below");
            // A command that does not read is not our failure.
            let _ = stdin.write_all(input).await;
            drop(stdin);
            let output = child.wait_with_output().await?;
            anyhow::Ok(Output {
                code: output.status.code().unwrap_or(255),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        };
        tokio::time::timeout(DEADLINE, run)
            .await
            .with_context(|| format!("`{command}` as {user} on {host} took over {DEADLINE:?}"))?
    }

    fn command(&self, user: &str, host: &str, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F")
            .arg(&self.config)
            .args(["-S", "none", "--"])
            .arg(format!("{user}@{host}"))
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        ssh
    }
}

impl Output {
    fn or_fail(self, what: &str) -> Result<String> {
        ensure!(
            self.code == 0,
            "{what} ended with {}\n{}{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }
}

/// A command that goes on running on the cluster while this lives.
#[derive(Debug)]
pub struct Remote {
    /// What it says on standard output.
    pub lines: Lines,
    _child: Child,
}
