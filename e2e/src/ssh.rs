//! Commands on the cluster as its users give them: by the system's `ssh`, with the configuration
//! that the cluster hands out.

use std::ffi::OsString;
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
        self.shell(user, host).with_input(command, b"").await
    }

    /// Runs `command` as `user` on `host` and gives its standard output.
    ///
    /// # Errors
    /// It ended with anything but 0.
    pub async fn runs(&self, user: &str, host: &str, command: &str) -> Result<String> {
        self.shell(user, host).runs(command).await
    }

    /// Copies a directory of this machine into the user's home, as `below` (relative to it).
    ///
    /// # Errors
    /// `tar` or `ssh` failed.
    pub async fn copies(&self, user: &str, from: &Path, below: &str) -> Result<()> {
        self.shell(user, "login").copies(from, below).await
    }

    /// Starts `command` as `user` on `host`; its standard input ends when it is dropped.
    ///
    /// # Errors
    /// `ssh` cannot be started.
    pub fn starts(&self, user: &str, host: &str, command: &str) -> Result<Remote> {
        self.shell(user, host).starts(command)
    }

    /// The shell of `user` on `host`.
    pub fn shell(&self, user: &str, host: &str) -> Shell {
        let mut words: Vec<OsString> = ["ssh", "-F"].map(OsString::from).into();
        words.push(self.config.clone().into());
        words.extend(["-S", "none", "--"].map(OsString::from));
        words.push(format!("{user}@{host}").into());
        Shell {
            whose: format!("{user} on {host}"),
            words,
        }
    }

    /// Forwards `port` of this machine's loopback through `host` to `target` (`-L`, ssh(1)), until it is dropped.
    ///
    /// # Errors
    /// `ssh` cannot be started.
    pub fn forwards(&self, user: &str, host: &str, port: u16, target: &str) -> Result<Child> {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F")
            .arg(&self.config)
            .args(["-S", "none", "-N", "-o", "ExitOnForwardFailure=yes", "-L"])
            .arg(format!("127.0.0.1:{port}:{target}"))
            .arg("--")
            .arg(format!("{user}@{host}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        ssh.spawn().context("start ssh")
    }
}

/// A user's shell somewhere: a command that takes a line of shell as one more argument.
#[derive(Clone, Debug)]
pub struct Shell {
    /// For messages.
    whose: String,
    words: Vec<OsString>,
}

impl Shell {
    /// By a command of a person's own, such as `ssh alice@node01`.
    pub fn by(command: &str) -> Shell {
        let words = ["sh", "-c", &format!("exec {command} \"$0\"")];
        Shell {
            whose: format!("`{command}`"),
            words: words.map(OsString::from).into(),
        }
    }

    /// Runs a line and gives its standard output.
    ///
    /// # Errors
    /// It ended with anything but 0.
    pub async fn runs(&self, line: &str) -> Result<String> {
        self.takes(line, b"").await
    }

    /// The same for a line that reads `input`.
    ///
    /// # Errors
    /// It ended with anything but 0.
    pub async fn takes(&self, line: &str, input: &[u8]) -> Result<String> {
        let output = self.with_input(line, input).await?;
        output.or_fail(&format!("`{line}` as {}", self.whose))
    }

    /// Copies a directory of this machine into the user's home, as `below` (relative to it).
    ///
    /// # Errors
    /// `tar` or the shell failed.
    pub async fn copies(&self, from: &Path, below: &str) -> Result<()> {
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
        self.takes(&unpack, &packed.stdout).await.map(drop)
    }

    /// Starts a line; its standard input ends when it is dropped.
    ///
    /// # Errors
    /// The shell cannot be started.
    pub fn starts(&self, line: &str) -> Result<Remote> {
        let mut child = self.command(line).spawn().context("start a shell")?;
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

    async fn with_input(&self, line: &str, input: &[u8]) -> Result<Output> {
        let run = async {
            let mut child = self.command(line).spawn().context("start a shell")?;
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
        let whose = &self.whose;
        tokio::time::timeout(DEADLINE, run)
            .await
            .with_context(|| format!("`{line}` as {whose} took over {DEADLINE:?}"))?
    }

    fn command(&self, line: &str) -> Command {
        let (program, words) = self.words.split_first().expect("there is one");
        let mut command = Command::new(program);
        command
            .args(words)
            .arg(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
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
