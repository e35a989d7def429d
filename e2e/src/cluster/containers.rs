//! What clusters of containers have in common: real sshd, several Unix accounts, nodes with localhosts
//! of their own. Which Slurm they have is not here.
//!
//! Three containers of one image on a network of their own; /home is a volume of the login node that
//! the others borrow. The programs are mounted, so that building them anew costs no image. Only the
//! login node's sshd is published, on loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::{LocalBoxFuture, try_join_all};
use testcontainers::bollard::models::{
    HostConfig, Mount as Volume, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig,
    PortBinding,
};
use testcontainers::core::wait::LogWaitStrategy;
use testcontainers::core::{AccessMode, CmdWaitFor, ExecCommand, Mount, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, Image, ImageExt};

use super::scheduler::Scheduler;
use super::{Log, NODES, Site, Tools};
use crate::faults::Container;
use crate::owner::Owner;
use crate::{binaries, eventually};

mod keys;
mod sweep;

use keys::Keys;

/// Of every image; `just images` builds them.
const TAG: &str = "local";

/// On each container: the process that it belongs to.
const OWNER_LABEL: &str = "hpc-proxy-e2e.owner";

/// More than stories keep there, and soon filled.
const HOMES: &str = "size=64m";

/// Four seconds are usual for all three.
const START: Duration = Duration::from_secs(60);

/// What one kind of them has that others have not.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) image: &'static str,
    pub(super) scheduler: Scheduler,
    /// What the nodes have beyond Docker's default.
    pub(super) capabilities: &'static [&'static str],
    /// Directories of the login node that the nodes have too.
    pub(super) shared: &'static [&'static str],
    /// Directories of this machine that all hosts have, to write in.
    pub(super) of_machine: &'static [&'static str],
    /// What their entry point is told.
    pub(super) environment: Vec<(&'static str, String)>,
    /// What is run on the login node when the nodes are gone.
    pub(super) at_the_end: Option<String>,
    /// What is run there when a node is frozen or thawed, as Docker does so for what it has started alone.
    pub(super) has_jobs: Option<fn(&str, JobsAre) -> String>,
}

/// What becomes of the jobs of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum JobsAre {
    Frozen,
    Thawed,
}

/// Brings one up. Its hosts can be reached; its Slurm may need longer.
pub(super) async fn start(dir: &Path, kind: Kind) -> Result<Running> {
    sweep::sweep()?;
    let keys = Keys::make(dir).await?;
    let recipe = Recipe::new(dir, &keys, kind)?;
    let login = run(recipe.login()).await?;
    let port = login
        .get_host_port_ipv4(22)
        .await
        .context("the port of the login node")?;
    let ssh_config = keys.ssh_config(port)?;
    let nodes = NODES.map(|node| run(recipe.node(node, login.id())));
    let nodes = try_join_all(nodes).await?;
    Ok(Running {
        run: recipe.run,
        login,
        nodes,
        ssh_config,
        scheduler: recipe.kind.scheduler,
        at_the_end: recipe.kind.at_the_end,
        has_jobs: recipe.kind.has_jobs,
        tools: Tools {
            hpc_proxy: "hpc-proxy".to_owned(),
            ide: "ide-stand-in".to_owned(),
            live_server: "live-server".to_owned(),
            browser_sync: "browser-sync".to_owned(),
        },
    })
}

/// What dead owners left of clusters of any kind.
pub(super) fn leftovers() -> Result<Vec<String>> {
    let left = sweep::leftovers()?;
    Ok(left.into_iter().map(|left| left.name).collect())
}

async fn run(request: ContainerRequest<GenericImage>) -> Result<ContainerAsync<GenericImage>> {
    let image = request.image();
    let image = format!("{}:{}", image.name(), image.tag());
    request
        .start()
        .await
        .with_context(|| format!("run a container of `{image}`\nhint: ./dev images"))
}

/// How the containers of one cluster are made.
struct Recipe {
    /// The network's name, and the beginning of each container's; the directory's name, so that
    /// it is unique and tells the owner.
    run: String,
    kind: Kind,
    mounts: Vec<Mount>,
}

impl Recipe {
    fn new(dir: &Path, keys: &Keys, kind: Kind) -> Result<Recipe> {
        let run = dir.file_name().and_then(|name| name.to_str());
        let mount = |from: &Path, to: &str| Mount::bind_mount(from.display().to_string(), to);
        let read_only =
            |from: &Path, to: &str| mount(from, to).with_access_mode(AccessMode::ReadOnly);
        let mut mounts = vec![
            read_only(keys.for_hosts(), "/etc/hpc-keys"),
            read_only(&binaries::hpc_proxy()?, "/opt/hpc/hpc-proxy"),
            read_only(&binaries::ide_stand_in()?, "/opt/hpc/ide-stand-in"),
        ];
        if kind.scheduler == Scheduler::Mock {
            mounts.push(read_only(&binaries::slurm_sim()?, "/opt/hpc/slurm-sim"));
        }
        mounts.extend(kind.of_machine.iter().map(|dir| mount(Path::new(dir), dir)));
        Ok(Recipe {
            run: run.context("a world's directory has a name")?.to_owned(),
            kind,
            mounts,
        })
    }

    fn login(&self) -> ContainerRequest<GenericImage> {
        let shared = self.kind.shared;
        self.host("login", &["login"])
            .with_host_config_modifier(move |config| {
                common(config);
                let here = PortBinding {
                    host_ip: Some("127.0.0.1".to_owned()),
                    host_port: Some(String::new()),
                };
                config.port_bindings = Some([("22/tcp".to_owned(), Some(vec![here]))].into());
                // Anonymous, as named volumes outlive their containers.
                let volumes = shared.iter().map(|target| Volume {
                    target: Some((*target).to_owned()),
                    typ: Some(MountType::VOLUME),
                    volume_options: (*target == "/home").then(a_file_system_of_its_own),
                    ..Volume::default()
                });
                config.mounts.get_or_insert_default().extend(volumes);
            })
    }

    fn node(&self, name: &str, login_id: &str) -> ContainerRequest<GenericImage> {
        let login_id = login_id.to_owned();
        let capabilities = self.kind.capabilities;
        self.host(name, &["node", name])
            .with_host_config_modifier(move |config| {
                common(config);
                // Every node has a `::1`; a container has none where its network has no IPv6.
                let loopback = ("net.ipv6.conf.lo.disable_ipv6".to_owned(), "0".to_owned());
                config.sysctls = Some([loopback].into());
                config.cap_add = Some(capabilities.iter().map(ToString::to_string).collect());
                config.volumes_from = Some(vec![login_id.clone()]);
            })
    }

    fn host(&self, name: &str, role: &[&str]) -> ContainerRequest<GenericImage> {
        let listening = LogWaitStrategy::stderr("Server listening on 0.0.0.0");
        let request = GenericImage::new(self.kind.image, TAG)
            .with_wait_for(WaitFor::log(listening))
            .with_cmd(role.iter().copied())
            .with_startup_timeout(START)
            .with_container_name(format!("{}-{name}", self.run))
            .with_hostname(name)
            .with_network(&self.run)
            .with_label(OWNER_LABEL, Owner::me().to_string());
        let mounts = self.mounts.iter().cloned();
        let request = mounts.fold(request, ImageExt::with_mount);
        let told = self.kind.environment.iter().cloned();
        told.fold(request, |request, (name, value)| {
            request.with_env_var(name, value)
        })
    }
}

/// So that it can be full, and nothing else with it (tmpfs(5)).
fn a_file_system_of_its_own() -> MountVolumeOptions {
    let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", HOMES)];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    MountVolumeOptions {
        driver_config: Some(MountVolumeOptionsDriverConfig {
            name: Some("local".to_owned()),
            options: Some(options.into()),
        }),
        ..MountVolumeOptions::default()
    }
}

fn common(config: &mut HostConfig) {
    // Orphans of users' sessions need somebody to reap them.
    config.init = Some(true);
    // The library's default publishes every port on every address of this machine.
    config.publish_all_ports = Some(false);
}

/// Runs a line of shell on a host, as root.
async fn runs_on(host: &ContainerAsync<GenericImage>, command: &str) -> Result<String> {
    let exec =
        ExecCommand::new(["bash", "-c", command]).with_cmd_ready_condition(CmdWaitFor::exit());
    let done = host.exec(exec).await;
    let mut done = done.with_context(|| format!("run `{command}`"))?;
    let stdout = String::from_utf8_lossy(&done.stdout_to_vec().await?).into_owned();
    let stderr = String::from_utf8_lossy(&done.stderr_to_vec().await?).into_owned();
    let code = done.exit_code().await?;
    ensure!(
        code == Some(0),
        "`{command}` failed ({code:?}): {stdout}{stderr}"
    );
    Ok(stdout)
}

/// One that runs.
pub(super) struct Running {
    run: String,
    nodes: Vec<ContainerAsync<GenericImage>>,
    login: ContainerAsync<GenericImage>,
    ssh_config: PathBuf,
    scheduler: Scheduler,
    at_the_end: Option<String>,
    has_jobs: Option<fn(&str, JobsAre) -> String>,
    tools: Tools,
}

impl Running {
    async fn has_jobs(&self, node: &str, state: JobsAre) -> Result<()> {
        if let Some(line) = self.has_jobs {
            self.administers(&line(node, state)).await?;
        }
        Ok(())
    }
}

impl Site for Running {
    fn ssh_config(&self) -> &Path {
        &self.ssh_config
    }

    fn tools(&self) -> &Tools {
        &self.tools
    }

    fn port(&self, wanted: u16) -> Result<u16> {
        Ok(wanted)
    }

    fn scheduler(&self) -> Scheduler {
        self.scheduler
    }

    fn administers<'a>(&'a self, command: &'a str) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(runs_on(&self.login, command))
    }

    /// On a SIGHUP it executes itself anew (sshd(8)); the container would end with its process.
    fn restarts_sshd(&self) -> LocalBoxFuture<'_, Result<()>> {
        const RESTART: &str = "sshd=$(pgrep -o -x sshd) && kill -HUP $sshd &&
            for monitor in $(pgrep -P $sshd); do pkill -KILL -P $monitor; kill -KILL $monitor; done";
        Box::pin(async move {
            self.administers(&format!("{RESTART}; :")).await?;
            eventually!(10, "the sshd listens anew", {
                let log = self.login.stderr_to_vec().await?;
                let log = String::from_utf8_lossy(&log);
                let anew = log.split_once("Received SIGHUP; restarting");
                let (_, anew) = anew.context("it has not restarted")?;
                ensure!(anew.contains("Server listening on"), "{anew}");
                Ok(())
            })
        })
    }

    fn loses<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let lost = NODES.iter().position(|name| *name == node);
            let lost = lost.and_then(|index| self.nodes.get(index));
            let lost = lost.with_context(|| format!("no node {node}"))?;
            let at_once = lost.stop_with_timeout(Some(0));
            at_once.await.with_context(|| format!("stop {node}"))
        })
    }

    fn freezes<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.container(node)?.pauses().await?;
            self.has_jobs(node, JobsAre::Frozen).await
        })
    }

    fn thaws<'a>(&'a self, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.has_jobs(node, JobsAre::Thawed).await?;
            self.container(node)?.goes_on().await
        })
    }

    fn container(&self, host: &str) -> Result<Container> {
        let node = NODES.iter().position(|name| *name == host);
        let container = match node.and_then(|index| self.nodes.get(index)) {
            Some(node) => node,
            None if host == "login" => &self.login,
            None => bail!("no host {host}"),
        };
        let (image, owner) = (container.image(), Owner::me());
        let image = format!("{}:{}", image.name(), image.tag());
        let label = format!("{OWNER_LABEL}={owner}");
        Ok(Container::new(container.id(), &image, &label))
    }

    /// By the command-line client: a failed story is shown while its runtime goes down.
    fn logs(&self) -> Vec<Log> {
        let docker = |party: String, args: &[&str]| {
            let text = match Command::new("docker").args(args).output() {
                Ok(output) => [output.stdout, output.stderr].concat(),
                Err(error) => error.to_string().into_bytes(),
            };
            let text = String::from_utf8_lossy(&text).into_owned();
            Log { party, text }
        };
        let mut logs: Vec<Log> = ["login"]
            .iter()
            .chain(&NODES)
            .map(|host| {
                docker(
                    (*host).to_owned(),
                    &["logs", &format!("{}-{host}", self.run)],
                )
            })
            .collect();
        let login = format!("{}-login", self.run);
        let files = "tail -vn +1 /home/*/*.out /home/*/.hpc-proxy/*.{log,json} \
                     /var/log/slurm/*.log 2>/dev/null";
        logs.push(docker(
            "files".to_owned(),
            &["exec", &login, "bash", "-c", files],
        ));
        logs
    }

    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Running { nodes, login, .. } = *self;
            try_join_all(nodes.into_iter().map(ContainerAsync::rm))
                .await
                .context("remove the nodes")?;
            if let Some(command) = self.at_the_end {
                runs_on(&login, &command).await?;
            }
            // After those that borrow its volumes.
            login.rm().await.context("remove the login node")
        })
    }
}
