//! A cluster without a manager, on which any proxy can be started as a person would by hand: in a shell
//! on the node, found by its port file, reached by `ssh -L` through the login node.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Child;

use super::person::{Person, SOON};
use crate::browser::Browser;
use crate::cluster::{Cluster, NODES, Site};
use crate::ssh::{Remote, Ssh};
use crate::{binaries, eventually, owner, ports, processes};

/// Has our own proxy be what the original is: open to whoever reaches it, on all addresses. Others do
/// not know these names.
const LIKE_THE_ORIGINAL: &str = "HPC_PROXY_AUTH=none HPC_PROXY_BIND=0.0.0.0";

/// Which proxy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours, or another of the same command line and files.
    HpcProxy,
    /// The Go proxy that ours takes the place of, or another of its flags.
    Original,
    /// nginx in prefix-strip form.
    Nginx,
}

impl Kind {
    /// By its name, or as the program's file name tells, by the same rule as `conformance`.
    ///
    /// # Errors
    /// There is no such kind.
    pub fn of(program: &Path, name: Option<&str>) -> Result<Kind> {
        let file = program.file_name().unwrap_or_default().to_string_lossy();
        Ok(match name {
            Some("hpc-proxy") => Kind::HpcProxy,
            Some("original") => Kind::Original,
            Some("nginx") => Kind::Nginx,
            Some(other) => {
                bail!("E2E_PROXY_KIND is `{other}`, not `hpc-proxy`, `original` or `nginx`")
            }
            None if file.contains("nginx") => Kind::Nginx,
            None if file.contains("original") || file.ends_with("-go") => Kind::Original,
            None => Kind::HpcProxy,
        })
    }

    /// As `conformance --kind` has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::HpcProxy => "hpc-proxy",
            Kind::Original => "original",
            Kind::Nginx => "nginx",
        }
    }
}

/// A cluster and the proxy that is judged on it.
pub struct Stage {
    site: Box<dyn Site>,
    ssh: Ssh,
    dir: TempDir,
    /// The proxy as shell calls it, ready for the original's flags.
    command: String,
    count: AtomicU32,
}

impl Stage {
    /// With the proxy under test, which is of this kind.
    ///
    /// # Errors
    /// The cluster does not come up, or cannot hold this kind.
    pub async fn on<C: Cluster>(cluster: &C, kind: Kind) -> Result<Stage> {
        let dir = owner::directory()?;
        let site = cluster.start(dir.path()).await;
        let site = site.context("start the cluster")?;
        let proxy = site.tools().hpc_proxy_word();
        let command = match kind {
            Kind::HpcProxy | Kind::Original => proxy,
            Kind::Nginx => {
                ensure!(
                    cluster.name() == "embedded",
                    "nginx is judged on the embedded cluster: it is not one file"
                );
                let adapter = binaries::judged().join("nginx");
                format!("'{}' {proxy}", adapter.display())
            }
        };
        Ok(Stage {
            ssh: Ssh::new(site.ssh_config()),
            site,
            dir,
            command,
            count: AtomicU32::new(0),
        })
    }

    /// The same with another program in the proxy's place, a word of shell or several.
    pub fn with_command(&mut self, command: &str) {
        command.clone_into(&mut self.command);
    }

    /// Takes it down, and expects that nothing is left.
    ///
    /// # Errors
    /// It did not end well.
    pub async fn ends_cleanly(self) -> Result<()> {
        self.site.stop().await.context("stop the cluster")?;
        eventually!(10, "nothing of this cluster goes on", {
            let left = processes::in_touch_with(self.dir.path());
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
    }

    /// A user starts the proxy on the first node and points a browser at it. Each has a home of its own:
    /// whatever an earlier one left is not there.
    pub(super) async fn starts(&self, user: &'static str, file: PortFile) -> Result<Proxy> {
        let shell = self.ssh.shell(user, NODES[0]);
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        // For the shell to expand.
        let home = format!("$HOME/judge-{number}");
        let (file, flag) = match file {
            PortFile::Usual => (format!("{home}/.hpc-proxy/port"), String::new()),
            PortFile::Moved => {
                let file = format!("{home}/moved");
                (file.clone(), format!(" --port-file \"{file}\""))
            }
        };
        let mut person = Person {
            name: user,
            shell,
            browser: Browser::new("http://127.0.0.1:1")?,
            tools: self.site.tools().clone(),
        };
        let command = &self.command;
        let start = format!(
            "env HOME=\"{home}\" {LIKE_THE_ORIGINAL} {command} --port 0 --verbose{flag} >\"{home}/log\" 2>&1"
        );
        let mut remote = person.keeps(&format!("mkdir -p \"{home}\""), &start)?;
        let runs = |line: &str| line.starts_with("runs as ");
        let pid = remote.lines.awaits(SOON, "its process", runs).await?;
        let pid = pid.rsplit(' ').next().unwrap_or_default().to_owned();
        let port = eventually!(10, "the proxy publishes its port", {
            let look = format!("cat \"{file}\" 2>/dev/null || tail -n 3 \"{home}/log\"");
            let said = person.shell.runs(&look).await?;
            let port: u16 = said.trim().parse().with_context(|| format!("{said:?}"))?;
            Ok(port)
        })?;
        let near = ports::free()?;
        let target = format!("{}:{port}", NODES[0]);
        let tunnel = self.ssh.forwards(user, "login", near, &target)?;
        eventually!(10, "the tunnel is up", {
            Ok(TcpStream::connect(("127.0.0.1", near)).await?)
        })?;
        person.browser = Browser::new(&format!("http://127.0.0.1:{near}"))?;
        Ok(Proxy {
            person,
            file,
            pid,
            remote,
            _tunnel: tunnel,
        })
    }
}

/// Where a proxy publishes its port.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortFile {
    Usual,
    /// Where `--port-file` says.
    Moved,
}

/// A proxy that runs, and who started it. Dropped, it is asked to end.
pub(super) struct Proxy {
    pub(super) person: Person,
    file: String,
    pid: String,
    remote: Remote,
    _tunnel: Child,
}

impl Proxy {
    /// Asks it to end (SIGTERM), and expects that it does and takes its file back.
    pub(super) async fn ends(mut self) -> Result<()> {
        let shell = &self.person.shell;
        shell.runs(&format!("kill -TERM {}", self.pid)).await?;
        let exits = |line: &str| line.starts_with("exit ");
        self.remote.lines.awaits(SOON, "its end", exits).await?;
        let gone = format!("! cat \"{}\"", self.file);
        shell.runs(&gone).await.map(drop)
    }
}
