//! An ssh client that stays: until it is closed, dropped, or this process ends, however it ends.
//!
//! The remote command is a `cat` that reads from our pipe. When the pipe closes, the `cat` ends,
//! then the client does; so nothing is left behind even after SIGKILL.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Join, join},
    process::{Child, ChildStdin, ChildStdout},
    task::JoinSet,
    time::timeout,
};

use super::{Ssh, SshError, text};
use crate::job::one_line;

/// How long connecting may take: authentication on a busy login node, over a jump host.
const OPEN_DEADLINE: Duration = Duration::from_secs(25);
/// How long a client that was told to end may take before it is killed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How much a login script may say before our own command speaks.
const GREETING_LIMIT_BYTES: u64 = 1 << 16;
/// How much of ssh's complaints is kept.
const COMPLAINT_LIMIT_BYTES: usize = 1 << 12;

/// A client that is connected, with all that its options ask for in place.
#[derive(Debug)]
pub(crate) struct Lifeline {
    child: Child,
    /// Ends the client when it closes. Not left in `child`, whose `wait` would close it.
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    complaints: Arc<Mutex<String>>,
    listener: JoinSet<()>,
}

impl Lifeline {
    /// Connects.
    ///
    /// # Errors
    /// When the client does not connect in time, or cannot do what `options` ask for.
    pub(crate) async fn open(ssh: &Ssh, options: &[&str]) -> Result<Self, SshError> {
        Self::start(ssh, options, "echo up; exec cat", "up").await
    }

    /// Connects, and runs `command` instead of the `cat`. It is there when it has said the line `up`, and
    /// it has to end with its standard input.
    ///
    /// # Errors
    /// As with [`Self::open`], or when `command` ends before that.
    pub(super) async fn start(
        ssh: &Ssh,
        options: &[&str],
        command: &str,
        up: &str,
    ) -> Result<Self, SshError> {
        let mut child = ssh
            .client(options, command)
            .spawn()
            .map_err(SshError::Spawn)?;
        let stdin = child.stdin.take().expect("piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let up = timeout(OPEN_DEADLINE, says(&mut stdout, up)).await;
        let mut stderr = child.stderr.take().expect("piped");
        match up {
            Ok(true) => {
                let complaints = Arc::new(Mutex::new(String::new()));
                let mut listener = JoinSet::new();
                let heard = Arc::clone(&complaints);
                listener.spawn(async move { listen(&mut stderr, &heard).await });
                Ok(Self {
                    child,
                    stdin: Some(stdin),
                    stdout: Some(stdout),
                    complaints,
                    listener,
                })
            }
            Ok(false) => Err(SshError::NotConnected(
                timeout(CLOSE_DEADLINE, text(Some(stderr)))
                    .await
                    .unwrap_or_default(),
            )),
            Err(_) => Err(SshError::Deadline(OPEN_DEADLINE)),
        }
    }

    /// What the command writes and reads, once.
    pub(super) fn take_streams(&mut self) -> Option<Join<BufReader<ChildStdout>, ChildStdin>> {
        Some(join(self.stdout.take()?, self.stdin.take()?))
    }

    /// Whether it is still there.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What ssh has complained about since it connected, lately.
    pub(crate) fn complaints(&self) -> String {
        one_line(
            &self
                .complaints
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Waits until it is gone by itself; says how, with ssh's own words if there are any.
    pub(crate) async fn gone(&mut self) -> String {
        let status = self.child.wait().await;
        // Its last words are in the pipe by now, unless a child of its own keeps that open.
        let _ = timeout(CLOSE_DEADLINE, self.listener.join_next()).await;
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        format!("ssh ended with {how} {}", self.complaints())
            .trim_end()
            .to_owned()
    }

    /// Lets it end, then makes it.
    pub(crate) async fn close(mut self) {
        drop(self.stdin.take());
        if timeout(CLOSE_DEADLINE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Whether the remote command says the line `up`, after whatever a login script says. What comes behind
/// it is left in `stdout`.
async fn says(stdout: &mut BufReader<ChildStdout>, up: &str) -> bool {
    let mut greeting = stdout.take(GREETING_LIMIT_BYTES);
    let mut line = Vec::new();
    while let Ok(1..) = greeting.read_until(b'\n', &mut line).await {
        if line.strip_suffix(b"\n") == Some(up.as_bytes()) {
            return true;
        }
        line.clear();
    }
    false
}

/// Reads to the end, so that the client never waits for us, and keeps the last of it.
async fn listen(stderr: &mut (impl AsyncRead + Unpin), heard: &Mutex<String>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() > COMPLAINT_LIMIT_BYTES {
            heard.clear();
        }
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}
