//! A program that runs for us and does not outlive us, however we end.
//!
//! Its lifeline is a pipe from us. A program that watches its standard input takes the pipe
//! itself; for any other, a small shell holds it and sends the signals. A line on it asks for an
//! end in good order; that it breaks without one, as on our SIGKILL, gives the program two seconds,
//! and then kills its whole process group: a driver's browser goes with the driver.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};

/// How long a program may take to end when asked.
const END: Duration = Duration::from_secs(15);

/// The same for a failed test, which has nothing more to learn from a good end.
const END_ON_DROP: Duration = Duration::from_secs(5);

/// Runs `"$@"`, passes a line or the end of standard input on as signals, and exits as the program
/// does. Background programs of a shell read from /dev/null, hence the copy at 3.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- & program=$!
{
  read -r -u 3 _ && orderly=yes
  kill -TERM "$program"
  for _ in {1..20}; do [ -z "$orderly" ] && kill -0 "$program" || exit; sleep 0.1; done
  kill -KILL 0
} >/dev/null 2>&1 & watch=$!
exec 3<&- >/dev/null
wait "$program"; status=$?
kill "$watch" 2>/dev/null
exit "$status"
"#;

/// Who looks after the end of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifeline {
    /// The program itself ends with it.
    Own,
    /// A shell around the program.
    Guarded,
}

/// A running program.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: Process,
    lifeline: Option<ChildStdin>,
    guarded: bool,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: PathBuf,
}

impl Child {
    /// Starts `program`, with its standard error in `dir/NAME.log`.
    ///
    /// # Errors
    /// The program or its log file cannot be made.
    pub fn start(
        name: &str,
        lifeline: Lifeline,
        dir: &Path,
        program: &Path,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        env: &[(&str, &str)],
    ) -> Result<Child> {
        let stderr = dir.join(format!("{name}.log"));
        // What an earlier start of it said stays.
        let mut log = std::fs::OpenOptions::new();
        let log = log
            .append(true)
            .create(true)
            .open(&stderr)
            .with_context(|| format!("create `{}`", stderr.display()))?;
        let mut command = match lifeline {
            Lifeline::Own => Command::new(program),
            Lifeline::Guarded => {
                let mut shell = Command::new("bash");
                shell.args(["-c", GUARD, "guard"]).arg(program);
                shell
            }
        };
        let mut process = command
            .args(args.into_iter().map(Into::into))
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // A group of its own: Ctrl-C is for us, and we end things in their order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start `{}`", program.display()))?;
        let stdout = process.stdout.take().expect("piped above");
        Ok(Child {
            name: name.to_owned(),
            lifeline: process.stdin.take(),
            guarded: lifeline == Lifeline::Guarded,
            process,
            stdout: BufReader::new(stdout).lines(),
            stderr,
        })
    }

    /// The id of the process we started (with a guard, the guard's).
    pub fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// Its next line of standard output.
    ///
    /// # Errors
    /// It ended instead, or said nothing for `deadline`.
    pub async fn next_line(&mut self, deadline: Duration) -> Result<String> {
        match tokio::time::timeout(deadline, self.stdout.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => {
                let status = self.process.wait().await?;
                bail!("{} ended ({status}): {}", self.name, self.log().trim());
            }
            Ok(Err(error)) => Err(error).context("its standard output"),
            Err(_) => bail!("{} said nothing for {deadline:?}", self.name),
        }
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It did not, within `deadline`.
    pub async fn awaits_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        tokio::time::timeout(deadline, self.process.wait())
            .await
            .with_context(|| format!("{} has not ended within {deadline:?}", self.name))?
            .with_context(|| format!("wait for {}", self.name))
    }

    /// Asks it to end and expects it to end well.
    ///
    /// # Errors
    /// It did not end in time or said that something went wrong.
    pub async fn end(mut self) -> Result<()> {
        if let Some(mut lifeline) = self.lifeline.take()
            && self.guarded
        {
            // Where nobody reads it, the program has ended already.
            let _ = lifeline.write_all(b"end\n").await;
        }
        let status = self.awaits_end(END).await?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }
}

impl Drop for Child {
    /// Breaks the lifeline, as our death would, so that it can take along what it started; but a
    /// failed test cannot wait long.
    fn drop(&mut self) {
        self.lifeline.take();
        let end = Instant::now() + END_ON_DROP;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The whole group: a guard's death alone would free the program.
        let pid = self.process.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn sh(dir: &Path, script: &str) -> Child {
        let args = ["-c", script];
        Child::start(
            "sh",
            Lifeline::Guarded,
            dir,
            Path::new("/bin/sh"),
            args,
            &[],
        )
        .unwrap()
    }

    #[tokio::test]
    async fn a_guarded_program_asked_to_end_gets_sigterm() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sh(
            dir.path(),
            "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done",
        );
        assert_eq!(child.next_line(END).await.unwrap(), "up");
        child.end().await.unwrap();
    }

    #[tokio::test]
    async fn a_broken_lifeline_ends_even_who_ignores_sigterm_and_all_below() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sh(
            dir.path(),
            "sleep 60 & trap '' TERM; echo $!; while :; do sleep 0.02; done",
        );
        let below = child.next_line(END).await.unwrap();
        child.lifeline.take();
        assert_eq!(child.awaits_end(END).await.unwrap().signal(), Some(9));
        crate::eventually!(5, "what it started has ended", {
            let stat = std::fs::read_to_string(format!("/proc/{below}/stat"));
            // A zombie waits for whoever reaps orphans here.
            let ended = stat.as_ref().map_or(true, |stat| stat.contains(") Z"));
            ensure!(ended, "{stat:?}");
            Ok(())
        })
        .unwrap();
    }

    #[tokio::test]
    async fn a_guard_ends_as_its_program_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sh(dir.path(), "echo sad >&2; exit 7");
        assert_eq!(child.awaits_end(END).await.unwrap().code(), Some(7));
        assert_eq!(child.log(), "sad\n");
        let error = child.next_line(END).await.unwrap_err().to_string();
        assert!(error.contains("sad"), "{error}");
    }
}
