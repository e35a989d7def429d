//! The dev servers of the stories: real ones from npm, run the way their manuals say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::binaries;
use crate::cluster::Tools;
use crate::terminal::{Lines, Terminal};

/// Node takes a second or two to load one of these on a busy machine.
const START: Duration = Duration::from_secs(30);

/// In `fixtures/site/index.html`, where a story puts its own text.
const PLACE: &str = "Hello from the fixture site";

/// A dev server that a user could run.
pub trait DevServer: Sync {
    /// What it serves, and where.
    fn site(&self) -> &Site;

    /// How it is started from home.
    fn command(&self, tools: &Tools, port: u16) -> String;

    /// Waits until it serves on `port` and notices changed files.
    fn awaits_ready(&self, lines: &mut Lines, port: u16)
    -> impl Future<Output = Result<()>> + Send;
}

/// `live-server`, the one behind VS Code's "Go Live".
#[derive(Clone, Debug)]
pub struct LiveServer {
    site: Site,
    everywhere: bool,
    wherever: bool,
    logs: bool,
}

/// `browser-sync start --server`.
#[derive(Clone, Debug)]
pub struct BrowserSync {
    site: Site,
    /// It then listens on all addresses as well, as it does when it is told nothing.
    ui: Option<u16>,
}

/// A server of our own that means ill: `fixtures/hostile/server.js`.
#[derive(Clone, Debug)]
pub struct Hostile {
    site: Site,
}

/// The fixture site with a text of the story's, for one port.
#[derive(Clone, Debug)]
pub struct Site {
    wanted_port: u16,
    /// Nothing for files that are copied as they are.
    text: Option<String>,
    from: PathBuf,
}

impl LiveServer {
    /// On this port, or on another where the cluster cannot offer it.
    pub fn on(port: u16) -> LiveServer {
        LiveServer {
            site: Site::new(port),
            everywhere: false,
            wherever: false,
            logs: false,
        }
    }

    /// With a page that says `text`.
    #[must_use]
    pub fn showing(mut self, text: &str) -> LiveServer {
        self.site.text = Some(text.to_owned());
        self
    }

    /// On all addresses of its node, as it is when it is told nothing.
    #[must_use]
    pub fn everywhere(mut self) -> LiveServer {
        self.everywhere = true;
        self
    }

    /// Content with whatever port it finds itself on, though it asks for its own.
    #[must_use]
    pub fn wherever(mut self) -> LiveServer {
        self.wherever = true;
        self
    }

    /// Telling of every request in its terminal.
    #[must_use]
    pub fn logging(mut self) -> LiveServer {
        self.logs = true;
        self
    }
}

impl BrowserSync {
    /// On this port, or on another where the cluster cannot offer it.
    pub fn on(port: u16) -> BrowserSync {
        BrowserSync {
            site: Site::new(port),
            ui: None,
        }
    }

    /// With its own pages about itself on `port`, all as it is when it is told nothing.
    #[must_use]
    pub fn with_ui(mut self, port: u16) -> BrowserSync {
        self.ui = Some(port);
        self
    }

    /// With a page that says `text`.
    #[must_use]
    pub fn showing(mut self, text: &str) -> BrowserSync {
        self.site.text = Some(text.to_owned());
        self
    }
}

impl Hostile {
    /// On this port, or on another where the cluster cannot offer it.
    pub fn on(port: u16) -> Hostile {
        let site = Site {
            text: None,
            from: binaries::hostile(),
            ..Site::new(port)
        };
        Hostile { site }
    }
}

impl DevServer for Hostile {
    fn site(&self) -> &Site {
        &self.site
    }

    fn command(&self, _: &Tools, port: u16) -> String {
        format!("node {}/server.js {port}", self.site.dir())
    }

    async fn awaits_ready(&self, lines: &mut Lines, port: u16) -> Result<()> {
        let listens = format!("listens on {port}");
        let is_up = |line: &str| line == listens;
        lines.awaits(START, "its address", is_up).await.map(drop)
    }
}

impl DevServer for LiveServer {
    fn site(&self) -> &Site {
        &self.site
    }

    fn command(&self, tools: &Tools, port: u16) -> String {
        let (live_server, dir) = (&tools.live_server, self.site.dir());
        let host = if self.everywhere {
            ""
        } else {
            " --host=127.0.0.1"
        };
        let verbose = if self.logs { " --verbose" } else { "" };
        format!("{live_server} {dir} --port={port} --no-browser{host}{verbose}")
    }

    async fn awaits_ready(&self, lines: &mut Lines, port: u16) -> Result<()> {
        let serving = lines
            .awaits(START, "its address", |line| line.contains("Serving "))
            .await?;
        // It takes another port, and says so, when the wanted one is not free.
        ensure!(
            self.wherever || serving.contains(&format!(":{port}")),
            "not on port {port}: {serving}"
        );
        let watching = |line: &str| line.contains("Ready for changes");
        lines.awaits(START, "a watch", watching).await.map(drop)
    }
}

impl DevServer for BrowserSync {
    fn site(&self) -> &Site {
        &self.site
    }

    fn command(&self, tools: &Tools, port: u16) -> String {
        let (browser_sync, dir) = (&tools.browser_sync, self.site.dir());
        let rest = match self.ui {
            Some(ui) => format!("--ui-port {ui}"),
            None => "--listen 127.0.0.1 --no-ui".to_owned(),
        };
        format!(
            "{browser_sync} start --server {dir} --files '{dir}/**' --port {port} {rest} \
             --no-open --no-notify"
        )
    }

    async fn awaits_ready(&self, lines: &mut Lines, port: u16) -> Result<()> {
        let local = lines
            .awaits(START, "its address", |line| line.contains("Local:"))
            .await?;
        ensure!(
            local.contains(&format!(":{port}")),
            "not on port {port}: {local}"
        );
        if let Some(port) = self.ui {
            let ui = lines
                .awaits(START, "its own pages' address", |line| line.contains("UI:"))
                .await?;
            ensure!(
                ui.contains(&format!(":{port}")),
                "no UI on port {port}: {ui}"
            );
        }
        let serving = |line: &str| line.contains("Serving files from");
        lines
            .awaits(START, "what it serves", serving)
            .await
            .map(drop)
    }
}

impl Site {
    fn new(wanted_port: u16) -> Site {
        Site {
            wanted_port,
            text: Some("a page".to_owned()),
            from: binaries::site(),
        }
    }

    /// The port that the user has in mind.
    pub fn wanted_port(&self) -> u16 {
        self.wanted_port
    }

    /// Where it lies, below home.
    pub fn dir(&self) -> String {
        format!("sites/{}", self.wanted_port)
    }

    /// It, to be copied there.
    ///
    /// # Errors
    /// The fixture is not there.
    pub fn made(&self) -> Result<TempDir> {
        let from = &self.from;
        let dir = tempfile::tempdir().context("a directory for a site")?;
        copy(from, dir.path()).with_context(|| format!("copy `{}`", from.display()))?;
        if let Some(text) = &self.text {
            std::fs::write(dir.path().join("index.html"), page(text)?)
                .context("write the index page")?;
        }
        Ok(dir)
    }
}

pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in from.read_dir()? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// The fixture's index page saying `text`.
///
/// # Errors
/// The fixture is not there, or has no place for a text.
pub fn page(text: &str) -> Result<String> {
    let index = binaries::site().join("index.html");
    let html =
        std::fs::read_to_string(&index).with_context(|| format!("read `{}`", index.display()))?;
    ensure!(
        html.contains(PLACE),
        "`{}` has no `{PLACE}`",
        index.display()
    );
    Ok(html.replace(PLACE, text))
}

/// A dev server that runs. Dropping this closes the terminal's window, not the server.
#[derive(Debug)]
pub struct Running {
    port: u16,
    dir: String,
    /// The terminal it runs in.
    pub terminal: Terminal,
}

impl Running {
    pub(crate) fn new(port: u16, dir: String, terminal: Terminal) -> Running {
        Running {
            port,
            dir,
            terminal,
        }
    }

    /// Its target port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A path of it at the manager: `/port/5500/css/site.css`.
    pub fn path(&self, below: &str) -> String {
        format!("/port/{}/{below}", self.port)
    }

    /// A file of its site, below home.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }
}

/// A server of one page that somebody wrote by hand: a line when it listens, with its port, and one
/// for each request. It ends with its standard input, unless that was empty from the start.
pub(crate) fn by_hand(ip: &str, port: u16, text: &str, watches_stdin: bool) -> String {
    let end = if watches_stdin {
        "process.stdin.on(\"end\", () => process.exit()).resume();"
    } else {
        ""
    };
    format!(
        "node -e '{end} const server = require(\"http\").createServer((_, answer) => {{ \
         console.log(\"asked\"); answer.end(\"{text}\") }}); \
         server.listen({port}, \"{ip}\", () => \
         console.log(\"listens\" + ({port} ? \"\" : \" on \" + server.address().port)))'"
    )
}
