//! VS Code's terminal, as a person in the browser has it: a WebSocket to the IDE, through the
//! manager. Commands go in, lines come out. What runs in it belongs to the job.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::browser::Browser;
use crate::websocket::WebSocket;

/// One terminal with one command in it. The command outlives the terminal: closing it only means
/// that nobody looks any more.
#[derive(Debug)]
pub struct Terminal {
    /// What the command says.
    pub lines: Lines,
    reader: AbortHandle,
}

impl Terminal {
    /// Opens a terminal and gives `command` to its shell.
    ///
    /// # Errors
    /// The IDE cannot be reached, or is not this user's.
    pub async fn open(browser: &Browser, command: &str) -> Result<Terminal> {
        let mut socket = browser.connects("/code/terminal").await?;
        socket.says(command).await?;
        let (said, lines) = watch::channel(Vec::new());
        let reader = tokio::spawn(read(socket, said)).abort_handle();
        Ok(Terminal {
            lines: Lines::new(lines),
            reader,
        })
    }

    /// Waits for the command's end and gives everything it said.
    ///
    /// # Errors
    /// It did not end with status 0 within `deadline`.
    pub async fn awaits_success(&mut self, deadline: Duration) -> Result<Vec<String>> {
        let end = self
            .lines
            .awaits(deadline, "its end", |line| line.starts_with("exit "))
            .await?;
        let all = self.lines.so_far();
        if end != "exit 0" {
            bail!("{end}: {}", all.join("\n"));
        }
        Ok(all)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut socket: WebSocket, said: watch::Sender<Vec<String>>) {
    while let Ok(text) = socket.next().await {
        said.send_modify(|lines| lines.extend(text.lines().map(str::to_owned)));
    }
}

/// The lines that someone says over time.
#[derive(Clone, Debug)]
pub struct Lines {
    said: watch::Receiver<Vec<String>>,
}

impl Lines {
    pub(crate) fn new(said: watch::Receiver<Vec<String>>) -> Lines {
        Lines { said }
    }

    /// Everything said until now.
    pub fn so_far(&self) -> Vec<String> {
        self.said.borrow().clone()
    }

    /// Waits for a line, past ones included.
    ///
    /// # Errors
    /// It did not come within `deadline`, or cannot come any more.
    pub async fn awaits(
        &mut self,
        deadline: Duration,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let find = |lines: &Vec<String>| lines.iter().find(|line| wanted(line)).cloned();
        let waited =
            tokio::time::timeout(deadline, self.said.wait_for(|lines| find(lines).is_some())).await;
        let found = match &waited {
            Ok(Ok(lines)) => find(lines),
            _ => None,
        };
        let gone = matches!(waited, Ok(Err(_)));
        drop(waited);
        found.with_context(|| {
            let said = self.so_far().join("\n");
            let why = if gone {
                "it hung up".to_owned()
            } else {
                format!("not within {deadline:?}")
            };
            format!("no line with {what}: {why}; it said:\n{said}")
        })
    }
}
