//! What one account finds at its login node: ssh, Slurm, hpc-proxy, and the way of a tunnel.

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hpc_proxy::text::chain;
use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};

use super::{Finding, Level, SLOW, took};
use crate::{
    cluster::{Cluster, Output, Ssh},
    config::Serve,
    ide::IdeConfig,
    job::{one_line, script::IdeKind},
    session::id::SessionId,
    shell::quote,
    transport::Transport,
};

/// How long sshd may take to greet through a tunnel.
const GREETING: Duration = Duration::from_secs(10);

/// Where an sshd says that it is, as its clients reached it (ssh(1), `SSH_CONNECTION`).
const WHERE: &str = "echo \"$SSH_CONNECTION\"";

/// Looks at everything there, as far as one can get.
pub(super) async fn examine(ssh: &Ssh, serve: &Serve) -> Vec<Finding> {
    let who = match &ssh.cluster {
        Some(cluster) => format!("{} on {cluster} ({})", ssh.user, ssh.login),
        None => format!("{} ({})", ssh.user, ssh.login),
    };
    let directory = match Directory::made(&serve.state_dir) {
        Ok(directory) => directory,
        Err(error) => {
            let so = "ssh cannot be tried: make room, or name another with `--state-dir`";
            return vec![Finding::fail("ssh", format!("{who}: {error}"), so)];
        }
    };
    let cluster = Cluster::new(ssh.clone(), &directory.0.join("s.ctl"), Arc::default());
    let cluster = match cluster {
        Ok(cluster) => cluster,
        Err(error) => {
            let so = "name a shorter or plainer directory with `--state-dir`";
            return vec![Finding::fail(
                "ssh",
                format!("{who}: {}", chain(&error)),
                so,
            )];
        }
    };
    let start = Instant::now();
    let at = match cluster.run(WHERE, b"").await {
        Ok(output) => output.stdout,
        Err(error) => {
            let so = format!(
                "`ssh {} true` as the manager's user has to work without a question; nothing else \
                 could be tried",
                ssh.login
            );
            return vec![Finding::fail(
                "ssh",
                format!("{who}: {}", chain(&error)),
                so,
            )];
        }
    };
    let mut found = vec![connected(&who, start)];
    found.push(program(&cluster, &who, "sbatch", "sbatch").await);
    found.push(controller(&cluster, &who).await);
    let with_proxy = |ide: &&IdeConfig| ide.script.kind == IdeKind::Vscode;
    if let Some(ide) = serve.ides.iter().find(with_proxy) {
        let command = &ide.script.hpc_proxy;
        let proxy = program(&cluster, &who, "hpc-proxy", command).await;
        found.push(same_version(proxy));
        found.push(tunnel(&cluster, &who, &at, &directory.0).await);
    }
    cluster.close().await;
    found
}

fn connected(who: &str, start: Instant) -> Finding {
    let what = format!("{who} answers after {}", took(start));
    if start.elapsed() > SLOW {
        let so = "every launch takes as long at least: look at what its shell does at a login";
        Finding::warn("ssh", what, so)
    } else {
        Finding::ok("ssh", what)
    }
}

/// Whether a program is there, and what it says of its version.
async fn program(cluster: &Cluster, who: &str, name: &'static str, command: &str) -> Finding {
    let Ok(quoted) = quote(command) else {
        return Finding::fail(name, "its name holds a NUL", "mend the configuration");
    };
    let look =
        format!("command -v {quoted} && {{ {quoted} --version </dev/null 2>&1 | head -n 1; }}");
    match cluster.run(&look, b"").await {
        Ok(Output {
            status: 0, stdout, ..
        }) => {
            let said = stdout.lines().nth(1).unwrap_or_default();
            Finding::ok(name, format!("{who}: {}", one_line(said)))
        }
        Ok(_) => {
            let so = match name {
                "hpc-proxy" => {
                    "install it there and on the nodes, or say where it is with `--hpc-proxy-command`"
                }
                _ => {
                    "no session starts: Slurm's programs have to be on the account's PATH without a \
                      login shell"
                }
            };
            Finding::fail(name, format!("{who}: there is no `{command}`"), so)
        }
        Err(error) => Finding::fail(name, format!("{who}: {}", chain(&error)), "try again"),
    }
}

/// Whether squeue gets an answer; it asks for a job that there is not.
async fn controller(cluster: &Cluster, who: &str) -> Finding {
    let name = "squeue";
    let asked = SessionId::random().map(|id| id.job_name());
    let asked = asked.unwrap_or_else(|_| "hpc-vscode".to_owned());
    let start = Instant::now();
    let command = format!("squeue -h -t all --me --name={asked} -o '%i|%T'");
    match cluster.run(&command, b"").await {
        Ok(output) if output.status == 0 => {
            let what = format!("{who}: the controller answers after {}", took(start));
            Finding::ok(name, what)
        }
        Ok(output) => {
            let what = format!("{who}: {}", one_line(&output.stderr));
            let so = "no session starts, and those that run keep their state until it answers";
            Finding::fail(name, what, so)
        }
        Err(error) => Finding::fail(name, format!("{who}: {}", chain(&error)), "try again"),
    }
}

fn same_version(found: Finding) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    if found.level != Level::Ok || found.what.ends_with(&format!(" {ours}")) {
        return found;
    }
    let so = format!("the manager is {ours}: install that on the cluster too");
    found.so(Level::Warn, so)
}

/// Whether a tunnel gets through the login node, tried with its own sshd at the far end.
async fn tunnel(cluster: &Cluster, who: &str, at: &str, directory: &Path) -> Finding {
    let name = "transport";
    let transport = cluster.ssh().transport;
    if transport == Transport::Srun {
        return program(cluster, who, "srun", "srun").await;
    }
    let mut words = at.split_whitespace().skip(2);
    let (Some(host), Some(port)) = (words.next(), words.next()) else {
        let what = format!("{who}: sshd does not say where it listens");
        return Finding::warn(
            name,
            what,
            "whether a tunnel works, the first session tells",
        );
    };
    let local = directory.join("t.sock");
    let forward = format!("{}:[{host}]:{port}", local.display());
    let options = [
        ["-S", "none"],
        ["-o", "ExitOnForwardFailure=yes"],
        ["-L", &forward],
    ];
    let held = cluster.stay(options.as_flattened()).await;
    let Ok(held) = held.as_ref() else {
        let why = held.err().map(|error| chain(&error)).unwrap_or_default();
        return no_tunnel(transport, format!("{who}: {why}"));
    };
    let greets = timeout(GREETING, greets(&local)).await.unwrap_or(false);
    if !greets {
        let complaints = held.complaints();
        return no_tunnel(
            transport,
            format!("{who}: a tunnel leads nowhere {complaints}"),
        );
    }
    let what = format!("{who}: `{transport}`, and the login node lets tunnels through");
    match transport {
        Transport::Login | Transport::Srun => Finding::ok(name, what),
        Transport::Jump | Transport::JumpSocket => Finding::ok(name, what).so(
            Level::Ok,
            "nodes have to let a user with a job log in (pam_slurm_adopt), which only a session shows",
        ),
    }
}

async fn greets(socket: &Path) -> bool {
    let mut greeting = [0; 4];
    match UnixStream::connect(socket).await {
        Ok(mut stream) => stream.read_exact(&mut greeting).await.is_ok() && greeting == *b"SSH-",
        Err(_) => false,
    }
}

fn no_tunnel(transport: Transport, what: String) -> Finding {
    let so = "sessions start but are never connected: sshd there needs `AllowTcpForwarding` for this \
              account";
    Finding::fail("transport", format!("{what} (`{transport}`)"), so)
}

/// A directory of our own for sockets, gone when dropped: a manager may run meanwhile.
struct Directory(PathBuf);

impl Directory {
    fn made(state_dir: &Path) -> std::io::Result<Self> {
        let path = state_dir.join(format!("doctor-{}", std::process::id()));
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
