//! The login node of one account: runs commands there, over the system's `ssh`.
//!
//! It knows ssh, not Slurm. Commands share one connection, held by `master`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use hpc_proxy::{auth::NoRandom, streams::GREETING};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    process::Command,
    sync::Semaphore,
    time::timeout,
};

use crate::{
    job::{JobId, one_line},
    names::{ClusterName, Login, NodeName, UserName},
    shell::quote,
    transport::Transport,
};

mod gate;
mod lifeline;
mod master;

pub use gate::Gate;
pub(crate) use lifeline::Lifeline;
use master::Master;
pub(crate) use master::literal_socket_path;

/// How long a command may take: longer than Slurm's own wait for a dead controller, 10 s.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// More than any command of ours prints; a bound against a login script gone wild, or a record
/// that is not ours.
const OUTPUT_LIMIT_BYTES: u64 = 1 << 20;
/// Printed around a command's output, so that what a login script says before it is not taken
/// for it, and so that its exit status is not confused with ssh's own 255.
const BEGIN: &str = "hpc-manager:begin";
const END: &str = "hpc-manager:end:";

/// How ssh is called for one account.
#[derive(Clone, Debug)]
pub struct Ssh {
    /// Whose it is: a user of the manager.
    pub user: UserName,
    /// Which cluster, if that has a name.
    pub cluster: Option<ClusterName>,
    /// The account and its login node.
    pub login: Login,
    /// A configuration file in place of the user's own.
    pub config: Option<PathBuf>,
    /// The key that opens it, and no other; an absolute path without anything that ssh expands.
    pub key: Option<PathBuf>,
    /// How its nodes are reached.
    pub transport: Transport,
    /// The hpc-proxy program on its nodes.
    pub hpc_proxy: String,
    /// Who asks squeue about its jobs, if it does not itself.
    pub squeue: Option<Squeue>,
}

/// An account that asks squeue for all users of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Squeue {
    /// It, and its login node.
    pub login: Login,
    /// The key that opens it, as with [`Ssh::key`].
    pub key: Option<PathBuf>,
}

impl Ssh {
    /// The client with the options that every use of it wants. It is killed when dropped, and has
    /// a process group of its own: Ctrl-C at our terminal is for us to act on, in order.
    fn client<'a>(&self, options: &[&'a str], remote_command: &'a str) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(self.identification())
            // Nobody is there to answer a question.
            .args(["-T", "-o", "BatchMode=yes", "-o", "RemoteCommand=none"])
            // A dead network is noticed within 15 s.
            .args(["-o", "ConnectTimeout=10"])
            .args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"])
            .args(options)
            .arg("--")
            .arg(self.login.to_string())
            .arg(remote_command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        command
    }

    /// What tells ssh by which configuration and as whom.
    fn identification(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        if let Some(config) = &self.config {
            words.extend(["-F".into(), config.into()]);
        }
        if let Some(key) = &self.key {
            words.extend([
                "-i".into(),
                key.into(),
                "-o".into(),
                "IdentitiesOnly=yes".into(),
            ]);
        }
        words
    }

    /// How ssh is called for the account that asks squeue, if that is another.
    pub(crate) fn watcher(&self) -> Option<Self> {
        let Squeue { login, key } = self.squeue.clone()?;
        Some(Self {
            login,
            key,
            squeue: None,
            ..self.clone()
        })
    }

    /// The same account on a node of the cluster.
    fn on(&self, node: &NodeName) -> Self {
        let host = node.as_host();
        Self {
            login: Login {
                user: self.login.user.clone(),
                host,
            },
            ..self.clone()
        }
    }

    /// What leads an ssh to a node through the connection that has its socket at `control`: ssh's own
    /// `ProxyJump` would neither share that nor take the key (`ProxyCommand`, ssh_config(5)).
    fn jump(&self, control: &str) -> Result<String, SshError> {
        let mut command = "ssh".to_owned();
        for word in self.identification() {
            let quoted = word.to_str().and_then(|word| quote(word).ok());
            let word = quoted.ok_or_else(|| SshError::BadPath(word.into()))?;
            command += &format!(" {}", word.replace('%', "%%"));
        }
        let login = &self.login;
        Ok(format!(
            "{command} -o BatchMode=yes -S {control} -o ControlMaster=no -W [%h]:%p -- {login}"
        ))
    }
}

/// What a command on the login node did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, with what ssh or a login script added.
    pub stderr: String,
}

/// Why a command did not run to its end, as far as we know.
#[derive(Debug, Error)]
pub enum SshError {
    /// There is no ssh client.
    #[error("cannot start `ssh`")]
    Spawn(#[source] std::io::Error),
    /// The ssh client cannot be waited for.
    #[error("lost the `ssh` process")]
    Io(#[source] std::io::Error),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// ssh did not connect, or not with all that was asked for; nothing was run.
    #[error("ssh does not connect: {}", one_line(.0))]
    NotConnected(String),
    /// ssh gave up before the command was known to have ended.
    #[error("ssh broke off: {}", one_line(.0))]
    Broken(String),
    /// A path that ssh would not take literally, or that is too long for a socket.
    #[error("`{0}` cannot name a socket for ssh")]
    BadPath(PathBuf),
    /// No name for a socket.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// The login node of one account.
#[derive(Debug)]
pub struct Cluster {
    ssh: Ssh,
    master: Master,
    gate: Arc<Gate>,
    commands: Semaphore,
}

impl Cluster {
    /// Connects to nothing yet. The shared connection gets its socket at `control`; `gate` is the login
    /// node's.
    ///
    /// # Errors
    /// When ssh cannot have a socket there.
    pub fn new(ssh: Ssh, control: &Path, gate: Arc<Gate>) -> Result<Self, SshError> {
        Ok(Self {
            master: Master::new(ssh.clone(), control, Arc::clone(&gate))?,
            ssh,
            gate,
            commands: Semaphore::new(gate::COMMANDS_OF_AN_ACCOUNT),
        })
    }

    /// How ssh is called for this account.
    pub fn ssh(&self) -> &Ssh {
        &self.ssh
    }

    /// Runs `command`, POSIX shell text, in the account's home, with `stdin`, once it is its turn.
    ///
    /// # Errors
    /// When it is not known to have run to its end, within its deadline.
    pub async fn run(&self, command: &str, stdin: &[u8]) -> Result<Output, SshError> {
        // The account's own first: one that hangs takes no more from the others.
        let _own = gate::pass(&self.commands).await;
        let _all = self.gate.command().await;
        timeout(COMMAND_DEADLINE, self.attempt(command, stdin))
            .await
            .unwrap_or(Err(SshError::Deadline(COMMAND_DEADLINE)))
    }

    /// Has an ssh stay on the node, through the login node, with what `options` ask for.
    pub(crate) async fn stay_on(
        &self,
        node: &NodeName,
        options: &[&str],
    ) -> Result<Lifeline, SshError> {
        let control = self.master.ready().await?;
        let proxy = format!("ProxyCommand={}", self.ssh.jump(control)?);
        let options = [&["-o", &proxy][..], options].concat();
        let _connecting = self.gate.connect().await;
        Lifeline::open(&self.ssh.on(node), &options).await
    }

    /// Has an ssh stay on the login node, with what `options` ask for: a connection of its own.
    pub(crate) async fn stay(&self, options: &[&str]) -> Result<Lifeline, SshError> {
        let _connecting = self.gate.connect().await;
        Lifeline::open(&self.ssh, options).await
    }

    /// A step of the job on its node, which carries connections to the proxy: see [`hpc_proxy::streams`].
    pub(crate) async fn step(
        &self,
        job: JobId,
        node: &NodeName,
    ) -> Result<(Lifeline, impl AsyncRead + AsyncWrite + Unpin + use<>), SshError> {
        let control = self.master.ready().await?;
        let options = [["-S", control], ["-o", "ControlMaster=no"]];
        let command = step_command(&self.ssh.hpc_proxy, job, node);
        let mut step =
            Lifeline::start(&self.ssh, options.as_flattened(), &command, GREETING).await?;
        let carrier = step.take_streams().expect("nobody else took them");
        Ok((step, carrier))
    }

    /// Ends the shared connection.
    pub async fn close(&self) {
        self.master.close().await;
    }

    async fn attempt(&self, command: &str, input: &[u8]) -> Result<Output, SshError> {
        let control = self.master.ready().await?;
        // Without the shared connection the client makes one of its own; it never shares that.
        let options = [
            "-S",
            control,
            "-o",
            "ControlMaster=no",
            "-o",
            "ClearAllForwardings=yes",
        ];
        let mut child = self
            .ssh
            .client(&options, &framed(command))
            .spawn()
            .map_err(SshError::Spawn)?;
        let mut stdin = child.stdin.take().expect("piped");
        let feed = async move {
            // A command that does not read its input may well be right.
            let _ = stdin.write_all(input).await;
        };
        let ((), stdout, stderr) =
            tokio::join!(feed, text(child.stdout.take()), text(child.stderr.take()));
        child.wait().await.map_err(SshError::Io)?;
        let (status, stdout) = unframed(&stdout).ok_or(SshError::Broken(stderr.clone()))?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

/// It shares the resources of the job's other step. What a login profile sets for proxies of its own would
/// lead to those.
fn step_command(hpc_proxy: &str, job: JobId, node: &NodeName) -> String {
    let hpc_proxy = quote(hpc_proxy).unwrap_or_default();
    let script = format!(
        "for name in $(env | sed -n 's/^\\(HPC_PROXY_[A-Z_]*\\)=.*/\\1/p'); do unset \"$name\"; done; \
         exec srun --overlap --jobid={job} --nodelist={node} --nodes=1 --ntasks=1 --mem=0 --quiet \
         {hpc_proxy} bridge --streams"
    );
    let script = quote(&script).unwrap_or_default();
    format!("exec sh -c {script}")
}

/// What comes out of a pipe, up to the limit; where it breaks is where it ends.
async fn text(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(OUTPUT_LIMIT_BYTES).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `command` between its marks, for whatever shell the account has (one line: a quoted line feed
/// is an error in csh).
fn framed(command: &str) -> String {
    let script = format!("echo {BEGIN}; {command}; status=$?; echo; echo {END}$status");
    format!(
        "exec sh -c {}",
        quote(&script).expect("commands of ours hold no NUL")
    )
}

/// Exit status and output of a command that ran to its end.
fn unframed(output: &str) -> Option<(i32, String)> {
    let (_, rest) = output.split_once(&format!("{BEGIN}\n"))?;
    let (stdout, status) = rest.rsplit_once(&format!("\n{END}"))?;
    Some((status.trim_end().parse().ok()?, stdout.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn in_shell(command: &str) -> Option<(i32, String)> {
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        unframed(&String::from_utf8_lossy(&output.stdout))
    }

    #[test]
    fn ssh_is_given_the_users_key_and_no_other() {
        let mut ssh = Ssh {
            user: "alice".parse().unwrap(),
            cluster: None,
            login: "a1@login".parse().unwrap(),
            config: Some("/conf".into()),
            key: None,
            transport: Transport::Login,
            hpc_proxy: "hpc-proxy".into(),
            squeue: None,
        };
        let line = |ssh: &Ssh| {
            let command = ssh.client(&[], "true");
            let args = command.as_std().get_args();
            args.map(|arg| arg.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(line(&ssh).starts_with("-F /conf -T ") && !line(&ssh).contains("-i "));
        assert!(line(&ssh).ends_with(" -- a1@login true"));
        ssh.key = Some("/keys/alice".into());
        let with_key = line(&ssh);
        assert!(
            with_key.contains(" -i /keys/alice -o IdentitiesOnly=yes "),
            "{with_key}"
        );
    }

    // ssh_config(5), ProxyCommand: the user's shell reads it, after ssh has put in host and port.
    #[test]
    fn the_way_to_a_node_is_taken_as_it_is() {
        let ssh = Ssh {
            user: "alice".parse().unwrap(),
            cluster: None,
            login: "a1@login".parse().unwrap(),
            config: Some("/it's %h".into()),
            key: Some("/keys/alice".into()),
            transport: Transport::Jump,
            hpc_proxy: "hpc-proxy".into(),
            squeue: None,
        };
        let jump = ssh.jump("/run/a.ctl").unwrap();
        assert_eq!(
            jump,
            "ssh '-F' '/it'\\''s %%h' '-i' '/keys/alice' '-o' 'IdentitiesOnly=yes' -o BatchMode=yes \
             -S /run/a.ctl -o ControlMaster=no -W [%h]:%p -- a1@login"
        );
        let node = ssh.on(&"node01".parse().unwrap());
        assert_eq!(node.login.to_string(), "a1@node01");
    }

    #[test]
    fn status_and_output_come_back_whatever_they_are() {
        for (command, status, stdout) in [
            ("true", 0, ""),
            ("exit 7 | true; (exit 255)", 255, ""),
            ("printf 'no line feed'", 0, "no line feed"),
            (
                "echo one; echo; echo \"it's two\"; (exit 3)",
                3,
                "one\n\nit's two\n",
            ),
            ("nosuchcommand", 127, ""),
        ] {
            assert_eq!(
                in_shell(&framed(command)),
                Some((status, stdout.to_owned())),
                "{command}"
            );
        }
    }

    #[test]
    fn a_command_that_did_not_end_has_no_status() {
        assert_eq!(in_shell(&framed("echo half; kill -9 $$")), None);
        assert_eq!(in_shell("echo Connection closed; exit 255"), None);
    }

    #[test]
    fn what_a_login_script_says_is_no_output() {
        let login = format!("echo Welcome to the cluster; {}", framed("echo 46"));
        assert_eq!(in_shell(&login), Some((0, "46\n".to_owned())));
    }

    proptest! {
        #[test]
        fn any_output_comes_back(noise in "[a-z \n]{0,20}", stdout in ".{0,40}", status in 0..256) {
            let output = format!("{noise}\n{BEGIN}\n{stdout}\n{END}{status}\n");
            prop_assert_eq!(unframed(&output), Some((status, stdout)));
        }
    }
}
