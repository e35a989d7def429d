//! One story's world: a cluster, a manager in front of it, and users with browsers.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::path::Path;
use std::pin::Pin;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::browser::Browser;
use crate::cluster::{Cluster, Log, Need, Site, Tools, USERS};
use crate::manager::{Ide, Manager, Settings};
use crate::ssh::Ssh;
use crate::story::{Skipped, Story};
use crate::user::User;
use crate::wire::Wire;
use crate::{eventually, evidence, owner, ports, processes};

/// A world in which everybody is signed in and nothing has happened yet.
pub struct World {
    // `None` only while it is being taken apart.
    manager: Option<Manager>,
    wire: Option<Wire>,
    site: Option<Box<dyn Site>>,
    ssh: Ssh,
    browsers: BTreeMap<String, Browser>,
    dir: TempDir,
    familiar_ports: bool,
    quiet: bool,
    told: Told,
}

/// What its manager is told.
struct Told {
    users: Vec<String>,
    tools: Tools,
    ide: Ide,
    shared_localhost: bool,
    transport: Option<String>,
    idle_timeout: Option<String>,
    takes_tokens: bool,
    local_port: Option<u16>,
    names: Option<(String, String)>,
}

impl World {
    /// A world on a cluster of this kind, made when awaited.
    pub fn on<C: Cluster>(cluster: &C) -> Plan<'_, C> {
        Plan {
            cluster,
            needs: Vec::new(),
            users: USERS.map(str::to_owned).to_vec(),
            port: 0,
            local_port: None,
            hpc_proxy: None,
            ide: Ide::default(),
            shared_localhost: false,
            transport: None,
            idle_timeout: None,
            takes_tokens: false,
            familiar_ports: false,
            quiet: false,
            names: None,
            on_a_wire: None,
        }
    }

    /// One of its users.
    ///
    /// # Panics
    /// There is no such user; the story is wrong.
    pub fn user(&self, name: &str) -> User<'_> {
        let browser = self.browsers.get(name);
        let (name, browser) = (
            name.to_owned(),
            browser.expect("a user of this world").clone(),
        );
        User::new(self, name, browser)
    }

    /// Its cluster.
    pub fn site(&self) -> &dyn Site {
        self.site.as_deref().expect("taken only at the end")
    }

    /// Its manager.
    pub fn manager(&self) -> &Manager {
        self.manager.as_ref().expect("taken only at the end")
    }

    /// The wire between its manager and its cluster.
    ///
    /// # Panics
    /// There is none; the story is wrong.
    pub fn wire(&self) -> &Wire {
        self.wire.as_ref().expect("a world on a wire")
    }

    /// A port for a dev server, the wanted one if it can be had.
    ///
    /// # Errors
    /// No port is free.
    pub fn port(&self, wanted: u16) -> Result<u16> {
        if self.familiar_ports {
            ports::wanted_or_free(wanted)
        } else {
            self.site().port(wanted)
        }
    }

    /// The way to its hosts.
    pub fn ssh(&self) -> &Ssh {
        &self.ssh
    }

    /// Everything that it keeps on this machine is below here.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A browser of somebody who has not signed in.
    ///
    /// # Errors
    /// None that a story could cause.
    pub fn stranger(&self) -> Result<Browser> {
        Browser::new(self.manager().origin())
    }

    /// Ends the manager alone, and expects it to end well.
    ///
    /// # Errors
    /// It did not, or one of its tasks panicked on the way, which the process survives.
    pub async fn manager_ends(&mut self) -> Result<()> {
        if let Some(manager) = self.manager.take() {
            manager.end().await.context("end the manager")?;
        }
        ensure!(
            !self.manager_log().text.contains("panicked at"),
            "the manager panicked"
        );
        Ok(())
    }

    /// Kills the manager as no program can help (SIGKILL).
    ///
    /// # Errors
    /// It does not run.
    pub fn manager_is_killed(&mut self) -> Result<()> {
        let guard = self.manager().pid();
        let program = processes::below(guard)
            .into_iter()
            .find(|process| process.is("hpc-manager"));
        program.context("no manager runs")?.kill();
        self.manager = None;
        Ok(())
    }

    /// Starts a manager in the place of one that was killed, at the same address.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn manager_starts_again(&mut self, port: u16) -> Result<()> {
        let manager = Manager::start(self.dir(), &self.settings(port)).await;
        self.manager = Some(manager.context("start the manager again")?);
        Ok(())
    }

    fn settings(&self, port: u16) -> Settings<'_> {
        let told = &self.told;
        let on_a_wire = self.wire.as_ref().map(Wire::ssh_config);
        Settings {
            users: &told.users,
            ssh_config: on_a_wire.unwrap_or_else(|| self.site().ssh_config()),
            tools: &told.tools,
            ide: &told.ide,
            shared_localhost: told.shared_localhost,
            transport: told.transport.as_deref(),
            idle_timeout: told.idle_timeout.as_deref(),
            takes_tokens: told.takes_tokens,
            port,
            local_port: told.local_port,
            names: told
                .names
                .as_ref()
                .map(|(host, domain)| [host.as_str(), domain.as_str()]),
        }
    }

    /// Ends the manager, then the cluster, and expects both to end well and leave nothing running.
    ///
    /// # Errors
    /// One of them did not.
    pub async fn ends_cleanly(mut self) -> Story {
        self.manager_ends().await?;
        // The logs of the cluster are gone with it.
        let logs = self.logs();
        if let Some(site) = self.site.take()
            && let Err(error) = site.stop().await
        {
            evidence::print(&logs);
            return Err(error.context("stop the cluster"));
        }
        eventually!(5, "nothing of this world goes on", {
            let left = processes::in_touch_with(self.dir());
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })?;
        self.quiet = true;
        Ok(())
    }

    fn logs(&self) -> Vec<Log> {
        let mut logs: Vec<Log> = self.site.iter().flat_map(|site| site.logs()).collect();
        logs.push(self.manager_log());
        logs
    }

    /// Read as a file: it is there even when the manager is not.
    fn manager_log(&self) -> Log {
        Log::of_file("manager", &self.dir().join("manager.log"))
    }
}

impl Drop for World {
    /// A world that did not end cleanly is that of a failed story.
    fn drop(&mut self) {
        if !self.quiet {
            evidence::print(&self.logs());
        }
    }
}

/// What a world is to be like.
#[derive(Debug)]
pub struct Plan<'a, C> {
    cluster: &'a C,
    needs: Vec<Need>,
    users: Vec<String>,
    port: u16,
    local_port: Option<u16>,
    hpc_proxy: Option<String>,
    ide: Ide,
    shared_localhost: bool,
    transport: Option<String>,
    idle_timeout: Option<String>,
    takes_tokens: bool,
    familiar_ports: bool,
    quiet: bool,
    names: Option<(String, String)>,
    on_a_wire: Option<String>,
}

impl<C: Cluster> Plan<'_, C> {
    /// Skips the story where the cluster lacks one of these.
    pub fn needing(mut self, needs: impl IntoIterator<Item = Need>) -> Self {
        self.needs.extend(needs);
        self
    }

    /// With a manager for one user, whose tunnel ends at `local_port` of this machine.
    pub fn for_one(mut self, user: &str, local_port: u16) -> Self {
        self.users = vec![user.to_owned()];
        self.local_port = Some(local_port);
        self
    }

    /// With the manager listening on this port, or on any free one where it is taken.
    pub fn listening_on(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// With jobs that start this program as their proxy, rather than the one under test.
    pub fn with_proxy(mut self, program: &str) -> Self {
        self.hpc_proxy = Some(program.to_owned());
        self
    }

    /// With sessions of an IDE that brings a port proxy of its own.
    pub fn with_another_ide(mut self, command: &str) -> Self {
        self.ide = Ide::WithItsOwnProxy(command.to_owned());
        self
    }

    /// With a choice of IDEs: the stand-in, called `code`, or what this command starts on `$IDE_PORT`,
    /// called `files`.
    pub fn with_a_choice_of_ides(mut self, files: &str) -> Self {
        self.ide = Ide::OrFiles(files.to_owned());
        self
    }

    /// With the IDE on a Unix socket.
    pub fn with_its_ide_on_a_socket(mut self) -> Self {
        self.ide = Ide::StandInOnSocket;
        self
    }

    /// With sessions of an IDE that this command starts on `$IDE_SOCKET`.
    pub fn with_ide_on_socket(mut self, command: &str) -> Self {
        self.ide = Ide::OnSocket(command.to_owned());
        self
    }

    /// With IDEs that share localhost with everybody on their node, as on one that offers no other.
    pub fn sharing_localhost(mut self) -> Self {
        self.shared_localhost = true;
        self
    }

    /// With a manager that reaches proxies by this transport.
    pub fn over(mut self, transport: &str) -> Self {
        self.transport = Some(transport.to_owned());
        self
    }

    /// With sessions that are cancelled after so long without a byte.
    pub fn ending_the_idle_after(mut self, time: &str) -> Self {
        self.idle_timeout = Some(time.to_owned());
        self
    }

    /// With a manager that takes access tokens too.
    pub fn taking_tokens(mut self) -> Self {
        self.takes_tokens = true;
        self
    }

    /// With dev servers on the ports that users want, where they are free. One world at a time can
    /// do so on this machine.
    pub fn with_familiar_ports(mut self) -> Self {
        self.familiar_ports = true;
        self
    }

    /// With a manager that browsers know as `host`, at the port that it is told, and dev servers on hosts below `domain`.
    pub fn known_as(mut self, host: &str, domain: &str) -> Self {
        self.names = Some((host.to_owned(), domain.to_owned()));
        self
    }

    /// With a manager that gets to this user's account by a wire that can be cut.
    pub fn on_a_wire(mut self, user: &str) -> Self {
        self.on_a_wire = Some(user.to_owned());
        self
    }

    /// Without showing every log when it is dropped early.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    async fn made(self) -> Result<World> {
        let lacks: Vec<Need> = self
            .needs
            .iter()
            .copied()
            .filter(|&need| !self.cluster.meets(need))
            .collect();
        if !lacks.is_empty() {
            return Err(Skipped { lacks }.into());
        }
        let dir = owner::directory()?;
        let site = self
            .cluster
            .start(dir.path())
            .await
            .context("start the cluster")?;
        let mut tools = site.tools().clone();
        if let Some(hpc_proxy) = self.hpc_proxy {
            tools.hpc_proxy = hpc_proxy;
        }
        let mut world = World {
            manager: None,
            wire: None,
            ssh: Ssh::new(site.ssh_config()),
            site: Some(site),
            browsers: BTreeMap::new(),
            dir,
            familiar_ports: self.familiar_ports,
            quiet: self.quiet,
            told: Told {
                users: self.users,
                tools,
                ide: self.ide,
                shared_localhost: self.shared_localhost,
                transport: self.transport,
                idle_timeout: self.idle_timeout,
                takes_tokens: self.takes_tokens,
                local_port: self.local_port,
                names: self.names,
            },
        };
        if let Some(user) = &self.on_a_wire {
            let config = world.site().ssh_config();
            world.wire = Some(Wire::lay(world.dir(), config, user).await?);
        }
        let mut started = Manager::start(world.dir(), &world.settings(self.port)).await;
        if started.is_err() && self.port != 0 {
            started = Manager::start(world.dir(), &world.settings(0)).await;
        }
        let manager = started.context("start the manager")?;
        for user in world.told.users.clone() {
            let browser = Browser::new(manager.origin())?;
            let link = manager.first_link(&user)?;
            browser.opens(link).await?.has_status(200);
            world.browsers.insert(user, browser);
        }
        world.manager = Some(manager);
        Ok(world)
    }
}

impl<'a, C: Cluster> IntoFuture for Plan<'a, C> {
    type Output = Result<World>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<World>> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.made())
    }
}
