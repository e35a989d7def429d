//! Commands: a shell per `exec` request, its streams joined to the channel's. No terminals.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, Sig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use super::pump::{self, End};

/// The extended data type of standard error (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// How long an abandoned command may take to end after SIGHUP.
const HANGUP_GRACE: Duration = Duration::from_secs(2);

/// What it takes to run a user's command.
pub(super) struct Exec {
    pub(super) shell: PathBuf,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) home: PathBuf,
}

impl Exec {
    /// Answers the channel's requests, and runs the command of the first that has one.
    pub(super) async fn serve(
        self,
        channel: Channel<Msg>,
        handle: Handle,
        stop: CancellationToken,
    ) {
        let id = channel.id();
        let (mut requests, answers) = channel.split();
        let mut environment = self.environment.clone();
        let command = loop {
            let message = tokio::select! {
                () = stop.cancelled() => return,
                message = requests.wait() => message,
            };
            match message {
                None | Some(ChannelMsg::Close) => return,
                Some(ChannelMsg::Exec { command, .. }) => break Some(command),
                Some(ChannelMsg::RequestShell { .. }) => break None,
                // As with sshd's AcceptEnv, only the language.
                Some(ChannelMsg::SetEnv {
                    variable_name,
                    variable_value,
                    want_reply,
                }) => {
                    let accepted = variable_name == "LANG" || variable_name.starts_with("LC_");
                    if accepted {
                        environment.push((variable_name.into(), variable_value.into()));
                    }
                    if want_reply {
                        answer(&handle, id, accepted).await;
                    }
                }
                Some(
                    ChannelMsg::RequestPty { .. }
                    | ChannelMsg::RequestX11 { .. }
                    | ChannelMsg::RequestSubsystem { .. }
                    | ChannelMsg::AgentForward { .. },
                ) => answer(&handle, id, false).await,
                Some(_) => {}
            }
        };
        tracing::debug!("a command is run");
        let mut shell = Command::new(&self.shell);
        if let Some(command) = command {
            shell
                .arg("-c")
                .arg(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(
                    command,
                ));
        }
        let spawned = shell
            .env_clear()
            .envs(environment)
            .current_dir(&self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!(%error, "cannot run a command");
                return answer(&handle, id, false).await;
            }
        };
        answer(&handle, id, true).await;
        let group = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .map(Pid::from_raw);
        let stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let output = async {
            // Like sshd: the exit status as soon as it is known, the end when nobody can write.
            tokio::join!(
                pour(stdout, answers.make_writer()),
                pour(stderr, answers.make_writer_ext(Some(STDERR))),
                report_exit(&mut child, &answers),
            );
            let _ = answers.eof().await;
            let _ = answers.close().await;
        };
        let abandoned = tokio::select! {
            () = stop.cancelled() => true,
            () = output => false,
            () = feed(&mut requests, stdin, group) => true,
        };
        if let (true, Some(group)) = (abandoned, group) {
            hang_up(group, &mut child).await;
        }
    }
}

async fn answer(handle: &Handle, id: russh::ChannelId, accepted: bool) {
    let _ = match accepted {
        true => handle.channel_success(id).await,
        false => handle.channel_failure(id).await,
    };
}

/// Hands the client's bytes to the command until the channel is gone. A command that has had them
/// all, or does not want them, goes on.
async fn feed(messages: &mut ChannelReadHalf, stdin: ChildStdin, group: Option<Pid>) {
    let on_signal = |signal: &Sig| {
        if let (Some(signal), Some(group)) = (translate(signal), group) {
            let _ = killpg(group, signal);
        }
    };
    match pump::drain(messages, stdin, on_signal).await {
        End::Gone => {}
        End::Finished | End::Refused => pump::await_close(messages, on_signal).await,
    }
}

fn translate(signal: &Sig) -> Option<Signal> {
    match signal {
        Sig::HUP => Some(Signal::SIGHUP),
        Sig::INT => Some(Signal::SIGINT),
        Sig::KILL => Some(Signal::SIGKILL),
        Sig::QUIT => Some(Signal::SIGQUIT),
        Sig::TERM => Some(Signal::SIGTERM),
        Sig::USR1 => Some(Signal::SIGUSR1),
        _ => None,
    }
}

/// Copies until the source ends. A channel that takes no more does not stop the draining: a
/// command must not hang because nobody listens.
async fn pour(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 16 * 1024];
    let mut open = true;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        open = open && to.write_all(&buffer[..count]).await.is_ok();
    }
}

async fn report_exit(child: &mut Child, answers: &russh::ChannelWriteHalf<Msg>) {
    let Ok(status) = child.wait().await else {
        return;
    };
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        // The client shows 255 for a signal, whichever it was.
        (None, _) => 255,
    };
    let _ = answers
        .exit_status(u32::try_from(code).unwrap_or(255))
        .await;
}

/// Ends a command whose client has gone, as a hang-up would.
async fn hang_up(group: Pid, child: &mut Child) {
    if child.try_wait().is_ok_and(|status| status.is_some()) {
        // What it left in the background was meant to stay.
        return;
    }
    let _ = killpg(group, Signal::SIGHUP);
    let _ = killpg(group, Signal::SIGCONT);
    if tokio::time::timeout(HANGUP_GRACE, child.wait())
        .await
        .is_err()
    {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait().await;
    }
}
