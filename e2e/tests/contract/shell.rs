//! A shell of a user's on the login node that stays: what one command sets, the next one finds.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What a command said and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

/// The shell.
pub(crate) struct Shell {
    _ssh: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// Logs in.
    pub(crate) fn of(user: &str, config: &Path) -> Result<Self> {
        let mut ssh = Command::new("ssh")
            .arg("-F")
            .arg(config)
            .args(["-S", "none", "--", &format!("{user}@login")])
            .arg("exec bash --noprofile --norc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start ssh")?;
        Ok(Self {
            input: ssh.stdin.take().expect("piped"),
            output: BufReader::new(ssh.stdout.take().expect("piped")),
            _ssh: ssh,
        })
    }

    /// Runs a command in it.
    pub(crate) async fn run(&mut self, command: &str, within: Duration) -> Result<Said> {
        let quoted = command.replace('\'', r"'\''");
        let line = format!(
            "eval '{quoted}' >~/.said.out 2>~/.said.err </dev/null; \
             echo $? $(stat -c %s ~/.said.out ~/.said.err); cat ~/.said.out ~/.said.err\n"
        );
        tokio::time::timeout(within, self.talk(&line))
            .await
            .with_context(|| format!("`{command}` took over {within:?}"))?
            .with_context(|| format!("`{command}`"))
    }

    async fn talk(&mut self, line: &str) -> Result<Said> {
        self.input.write_all(line.as_bytes()).await?;
        let mut head = String::new();
        ensure!(
            self.output.read_line(&mut head).await? > 0,
            "the shell has ended"
        );
        let numbers: Vec<usize> = head
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("not numbers: `{head}`"))?;
        let [code, out, err] = numbers[..] else {
            anyhow::bail!("not three numbers: `{head}`");
        };
        Ok(Said {
            out: self.take(out).await?,
            err: self.take(err).await?,
            code: i32::try_from(code)?,
        })
    }

    async fn take(&mut self, bytes: usize) -> Result<String> {
        let mut text = vec![0; bytes];
        self.output.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
