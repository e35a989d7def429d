//! An ssh client that stays: until it is closed, dropped, or this process ends, however it ends.
//!
//! The remote command is a `cat` that reads from our pipe. When the pipe closes, the `cat` ends,
//! then the client does; so nothing is left behind even after SIGKILL.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
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
    stdin: ChildStdin,
    /// Held open, and never written to.
    _stdout: BufReader<ChildStdout>,
    complaints: Arc<Mutex<String>>,
    listener: JoinSet<()>,
}

impl Lifeline {
    /// Connects.
    ///
    /// # Errors
    /// When the client does not connect in time, or cannot do what `options` ask for.
    pub(crate) async fn open(ssh: &Ssh, options: &[&str]) -> Result<Self, SshError> {
        let mut child = ssh
            .client(options, "echo up; exec cat")
            .spawn()
            .map_err(SshError::Spawn)?;
        let stdin = child.stdin.take().expect("piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let up = timeout(OPEN_DEADLINE, says_up(&mut stdout)).await;
        let mut stderr = child.stderr.take().expect("piped");
        match up {
            Ok(true) => {
                let complaints = Arc::new(Mutex::new(String::new()));
                let mut listener = JoinSet::new();
                let heard = Arc::clone(&complaints);
                listener.spawn(async move { listen(&mut stderr, &heard).await });
                Ok(Self {
                    child,
                    stdin,
                    _stdout: stdout,
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
        drop(self.stdin);
        if timeout(CLOSE_DEADLINE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Whether the remote command speaks, after whatever a login script says.
async fn says_up(stdout: &mut BufReader<ChildStdout>) -> bool {
    let mut lines = stdout.take(GREETING_LIMIT_BYTES).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == "up" {
            return true;
        }
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
