//! What users do: open VS Code, run dev servers in its terminal, edit files, give commands.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::browser::{Browser, Page};
use crate::devserver::{DevServer, Running, Site, by_hand};
use crate::eventually;
use crate::ssh::Remote;
use crate::terminal::Terminal;
use crate::world::World;

/// For a job to be queued, started and reached; two seconds on an idle machine.
const LAUNCH_SECONDS: u64 = 40;

/// For a command in a terminal that does one small thing.
const COMMAND: Duration = Duration::from_secs(10);

/// What a script must send so that no foreign page can order things in a user's name.
const ORDER: [(&str, &str); 2] = [("x-hpc-manager", "1"), ("content-type", "application/json")];

/// A signed-in user.
#[derive(Clone)]
pub struct User<'w> {
    world: &'w World,
    name: String,
    browser: Browser,
}

/// A user's session as the manager tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Session {
    /// Its name, once there is one.
    pub id: Option<String>,
    /// `none`, `submitted`, `pending`, `running`, `listening`, `connected` or `ended`.
    pub phase: String,
    /// The job's id.
    pub job: Option<String>,
    /// Where the job runs.
    pub node: Option<String>,
    /// Why it is not (any more) what one would like.
    pub reason: Option<String>,
    /// The way into the IDE, its token included.
    pub ide: Option<String>,
    /// Where the proxy listens on its node.
    pub proxy_port: Option<u16>,
}

impl Session {
    /// Its name.
    ///
    /// # Errors
    /// There is no session.
    pub fn id(&self) -> Result<&str> {
        let id = self.id.as_deref();
        id.with_context(|| format!("no session: {self:?}"))
    }

    /// The job's id.
    ///
    /// # Errors
    /// There is no job.
    pub fn job(&self) -> Result<&str> {
        self.job
            .as_deref()
            .with_context(|| format!("no job: {self:?}"))
    }

    /// The proxy's port.
    ///
    /// # Errors
    /// No proxy is known.
    pub fn proxy_port(&self) -> Result<u16> {
        self.proxy_port
            .with_context(|| format!("no proxy: {self:?}"))
    }

    /// The node.
    ///
    /// # Errors
    /// The job runs nowhere.
    pub fn node(&self) -> Result<&str> {
        self.node
            .as_deref()
            .with_context(|| format!("no node: {self:?}"))
    }
}

impl<'w> User<'w> {
    pub(crate) fn new(world: &'w World, name: String, browser: Browser) -> User<'w> {
        User {
            world,
            name,
            browser,
        }
    }

    /// The account's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The browser they are signed in with.
    pub fn browser(&self) -> &Browser {
        &self.browser
    }

    /// Launches a session and opens the IDE in it, when awaited.
    pub fn opens_vscode(&self) -> Launch<'_, 'w> {
        Launch {
            user: self,
            node: None,
        }
    }

    /// Asks for a session without waiting for anything.
    ///
    /// # Errors
    /// The manager does not take the order.
    pub async fn launches(&self, wish: serde_json::Value) -> Result<Session> {
        let path = "/api/v1/session";
        let page = self
            .browser
            .sends(Method::POST, path, &ORDER, wish.to_string())
            .await?;
        ensure!(page.status == 202, "not taken: {page}");
        page.json()
    }

    /// Asks for one more session without waiting for anything.
    ///
    /// # Errors
    /// The manager does not take the order.
    pub async fn launches_another(&self, wish: serde_json::Value) -> Result<Session> {
        let (path, wish) = ("/api/v1/sessions", wish.to_string());
        let page = self.browser.sends(Method::POST, path, &ORDER, wish).await?;
        ensure!(page.status == 202, "not taken: {page}");
        page.json()
    }

    /// Launches one more session on `node`, has it serve the browser, and opens the IDE in it.
    ///
    /// # Errors
    /// It did not get there in time.
    pub async fn opens_another_on(&self, node: &str) -> Result<Session> {
        let launched = self.launches_another(json!({ "node": node })).await?;
        self.chooses(&launched).await?;
        let session = self.awaits("connected").await?;
        let ide = session.ide.as_deref().context("it has an IDE")?;
        let ide = format!("/s/{}{ide}", session.id()?);
        self.sees_the_ide(&ide).await?;
        Ok(session)
    }

    /// The proxy may be there before the IDE: a page waits for it, and so does this.
    async fn sees_the_ide(&self, path: &str) -> Result<()> {
        let text = format!("IDE of {}", self.name);
        eventually!(20, &text, { self.browser.gets(path).await?.shows(&text) })
    }

    /// Has a session serve the browser from now on.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn chooses(&self, session: &Session) -> Result<()> {
        let path = format!("/s/{}/", session.id()?);
        self.browser.gets(&path).await?.has_status(200);
        Ok(())
    }

    /// All jobs that Slurm knows of theirs, with their names.
    ///
    /// # Errors
    /// The login node cannot be reached.
    pub async fn jobs(&self) -> Result<Vec<String>> {
        let jobs = self.on("login", "squeue -h -t all --me -o '%i %j'").await?;
        Ok(jobs.lines().map(str::to_owned).collect())
    }

    /// Cancels the session.
    ///
    /// # Errors
    /// The manager does not take the order.
    pub async fn cancels(&self) -> Result<()> {
        let path = "/api/v1/session";
        let page = self.browser.sends(Method::DELETE, path, &ORDER, "").await?;
        ensure!((200..300).contains(&page.status), "not cancelled: {page}");
        Ok(())
    }

    /// The session as it is now.
    ///
    /// # Errors
    /// The manager does not tell.
    pub async fn session(&self) -> Result<Session> {
        let page = self.browser.fetches("/api/v1/session").await?;
        ensure!(page.status == 200, "{page}");
        page.json()
    }

    /// One of their sessions by its name, as it is now.
    ///
    /// # Errors
    /// There never was one of that name, or not of late.
    pub async fn session_called(&self, id: &str) -> Result<Session> {
        let path = format!("/api/v1/sessions/{id}");
        let page = self.browser.fetches(&path).await?;
        ensure!(page.status == 200, "{page}");
        page.json()
    }

    /// Cancels one of their sessions by its name.
    ///
    /// # Errors
    /// The manager does not take the order.
    pub async fn cancels_called(&self, id: &str) -> Result<()> {
        let path = format!("/api/v1/sessions/{id}");
        let page = self
            .browser
            .sends(Method::DELETE, &path, &ORDER, "")
            .await?;
        ensure!((200..300).contains(&page.status), "not cancelled: {page}");
        Ok(())
    }

    /// Waits until the session is in `phase`.
    ///
    /// # Errors
    /// It did not get there in time, or it ended instead.
    pub async fn awaits(&self, phase: &str) -> Result<Session> {
        let name = &self.name;
        self.awaits_session(&format!("{name}'s session is {phase}"), |now| {
            now.phase == phase
        })
        .await
    }

    /// Waits until the session is as `wanted`.
    ///
    /// # Errors
    /// It did not get there in time, or it ended instead.
    pub async fn awaits_session(
        &self,
        what: &str,
        wanted: impl Fn(&Session) -> bool,
    ) -> Result<Session> {
        let end = eventually!(LAUNCH_SECONDS, what, {
            let now = self.session().await?;
            let over = wanted(&now) || now.phase == "ended";
            ensure!(over, "{now:?}");
            Ok(now)
        })?;
        if !wanted(&end) {
            bail!("{what}: it ended instead: {end:?}");
        }
        Ok(end)
    }

    /// Starts a dev server in VS Code's terminal and waits until it serves.
    ///
    /// # Errors
    /// It did not come up on its port.
    pub async fn runs<S: DevServer>(&self, server: S) -> Result<Running> {
        let port = self.world.port(server.site().wanted_port())?;
        self.runs_on(server, port).await
    }

    /// The same on this very port.
    ///
    /// # Errors
    /// It did not come up on its port.
    pub async fn runs_on<S: DevServer>(&self, server: S, port: u16) -> Result<Running> {
        self.copies(server.site()).await?;
        self.starts(&server, port).await
    }

    /// Copies the files of a dev server to where it is started.
    ///
    /// # Errors
    /// The login node cannot be reached.
    pub async fn copies(&self, site: &Site) -> Result<()> {
        let made = site.made()?;
        self.world
            .ssh()
            .copies(&self.name, made.path(), &site.dir())
            .await
    }

    /// Starts a dev server once more, on the port and with the files it had.
    ///
    /// # Errors
    /// It did not come up on its port.
    pub async fn starts<S: DevServer>(&self, server: &S, port: u16) -> Result<Running> {
        let command = server.command(self.world.site().tools(), port);
        let mut terminal = Terminal::open(&self.browser, &format!("exec {command}")).await?;
        server
            .awaits_ready(&mut terminal.lines, port)
            .await
            .with_context(|| format!("`{command}` in {}'s terminal", self.name))?;
        Ok(Running::new(port, server.site().dir(), terminal))
    }

    /// Serves one page in VS Code's terminal with a program of their own, on a free port if `port`
    /// is 0, with `env` (`NAME=VALUE` or nothing) before it.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn serves_in_vscode(
        &self,
        env: &str,
        ip: &str,
        port: u16,
        text: &str,
    ) -> Result<ByHand> {
        let command = format!("{env} {}", by_hand(ip, port, text, false));
        let mut terminal = Terminal::open(&self.browser, command.trim()).await?;
        let begins = |line: &str| line.starts_with("listens") || line.starts_with("exit ");
        let line = terminal.lines.awaits(COMMAND, "its port", begins).await?;
        let said = terminal.lines.so_far().join("\n");
        ensure!(line.starts_with("listens"), "it ended: {said}");
        let port = match line.rsplit_once(' ') {
            Some((_, chosen)) => chosen.parse().context("a port")?,
            None => port,
        };
        Ok(ByHand { port, terminal })
    }

    /// Serves one page on a host, outside of any job, while what it gives lives.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn serves(&self, host: &str, ip: &str, port: u16, text: &str) -> Result<Remote> {
        let command = by_hand(ip, port, text, true);
        let mut remote = self.world.ssh().starts(&self.name, host, &command)?;
        let listens = |line: &str| line == "listens";
        remote.lines.awaits(COMMAND, "its port", listens).await?;
        Ok(remote)
    }

    /// Runs a command in VS Code's terminal to its good end and gives its lines.
    ///
    /// # Errors
    /// It failed or took long.
    pub async fn types(&self, command: &str) -> Result<Vec<String>> {
        Terminal::open(&self.browser, command)
            .await?
            .awaits_success(COMMAND)
            .await
            .with_context(|| format!("`{command}` in {}'s terminal", self.name))
    }

    /// Saves a file (relative to home) in the IDE, that is, on the node.
    ///
    /// # Errors
    /// It was not saved.
    pub async fn saves(&self, file: &str, text: &str) -> Result<()> {
        ensure!(!text.contains('\''), "the text is passed in single quotes");
        self.types(&format!("printf %s '{text}' > {file}"))
            .await
            .map(drop)
    }

    /// Runs a command over ssh on `login` or a node and gives what it said.
    ///
    /// # Errors
    /// It failed.
    pub async fn on(&self, host: &str, command: &str) -> Result<String> {
        self.world.ssh().runs(&self.name, host, command).await
    }

    /// What the session's job has said so far.
    ///
    /// # Errors
    /// There is no job, or the login node cannot be reached.
    pub async fn job_log(&self, session: &Session) -> Result<String> {
        let log = format!("cat .hpc-proxy/job-{}.log", session.job()?);
        self.on("login", &log).await
    }

    /// Whether anybody listens on this port of a host, on whatever IPv4 address (proc_net_tcp(5)).
    ///
    /// # Errors
    /// The host cannot be reached.
    pub async fn finds_a_listener(&self, host: &str, port: u16) -> Result<bool> {
        let listeners = format!("grep -c ':{port:04X} 00000000:0000 0A' /proc/net/tcp; :");
        let count = self.on(host, &listeners).await?;
        Ok(count.trim() != "0")
    }

    /// What proxies have published and not taken back; the jobs' logs lie beside it and stay.
    ///
    /// # Errors
    /// The login node cannot be reached.
    pub async fn published(&self) -> Result<String> {
        let all = self.on("login", "ls -A ~/.hpc-proxy").await?;
        let published = all.lines().filter(|name| !name.ends_with(".log"));
        Ok(published.collect::<Vec<_>>().join(" "))
    }

    /// The address of a dev server of theirs on a host of its own, as their page shows it.
    ///
    /// # Errors
    /// There is none.
    pub async fn own_address_of(&self, server: &Running) -> Result<String> {
        #[derive(Deserialize)]
        struct List {
            ports: Vec<Listed>,
        }
        #[derive(Deserialize)]
        struct Listed {
            port: u16,
            address_of_its_own: Option<String>,
        }
        let list: List = self.dev_servers().await?.json()?;
        let found = list
            .ports
            .into_iter()
            .find(|listed| listed.port == server.port());
        let address = found.and_then(|listed| listed.address_of_its_own);
        address.with_context(|| format!("port {} has no host of its own", server.port()))
    }

    /// The list of dev servers that their page shows.
    ///
    /// # Errors
    /// The manager does not answer.
    pub async fn dev_servers(&self) -> Result<Page> {
        self.browser.fetches("/api/v1/ports").await
    }
}

/// A server that a user wrote by hand and runs in a terminal.
#[derive(Debug)]
pub struct ByHand {
    /// Where it says that it listens.
    pub port: u16,
    /// The terminal it runs in; it says `asked` for each request.
    pub terminal: Terminal,
}

/// A session about to be launched.
pub struct Launch<'u, 'w> {
    user: &'u User<'w>,
    node: Option<String>,
}

impl Launch<'_, '_> {
    /// On a node of the user's choice.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    async fn happens(self) -> Result<Session> {
        let wish = match &self.node {
            Some(node) => json!({ "node": node }),
            None => json!({}),
        };
        self.user.launches(wish).await?;
        let session = self.user.awaits("connected").await?;
        let ide = session
            .ide
            .as_deref()
            .context("a connected session has an IDE")?;
        self.user.sees_the_ide(ide).await?;
        Ok(session)
    }
}

impl<'u, 'w: 'u> IntoFuture for Launch<'u, 'w> {
    type Output = Result<Session>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Session>> + 'u>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.happens())
    }
}
