//! Whoever a story is about: a shell on their node, in which dev servers run, and a browser that has the
//! subject's `/port/N/`; and what must hold of those two for every subject.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;

use super::Lacks;
use crate::binaries;
use crate::browser::Browser;
use crate::cluster::Tools;
use crate::devserver::{DevServer, LiveServer, page};
use crate::ssh::{Remote, Shell};

/// The dev servers notice a change within a quarter of a second; the rest is for a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// Runs a command while the standard input is open: tells its process first and its exit last.
const WHILE_OPEN: &str = r#"exec 3<&0
@command@ </dev/null 3<&- & program=$!
echo "runs as $program"
{ cat <&3; kill -TERM $program; sleep 3; kill -KILL $program; } >/dev/null 2>&1 & watch=$!
exec 3<&-
wait $program; echo "exit $?"
kill $watch 2>/dev/null"#;

/// Below ip_local_port_range(7), so that nobody is handed the port before its server has it.
const FREE_PORT: &str = r#"node -e 'const look = () => {
  const port = 10000 + Math.floor(Math.random() * 20000);
  const server = require("net").createServer().once("error", look);
  server.listen(port, () => server.close(() => console.log(port))) }; look()'"#;

/// A user.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) shell: Shell,
    pub(super) browser: Browser,
    pub(super) tools: Tools,
}

/// A dev server of theirs, while this lives.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) port: u16,
    _remote: Remote,
}

impl Server {
    pub(super) fn path(&self, below: &str) -> String {
        format!("/port/{}/{below}", self.port)
    }
}

impl Person {
    /// A port on which nothing listens on their node.
    pub(super) async fn free_port(&self) -> Result<u16> {
        let port = self.shell.runs(FREE_PORT).await?;
        port.trim().parse().context("a port")
    }

    /// Serves a page that says `text`, and what else `fixtures/judge/server.js` has.
    pub(super) async fn serves(&self, text: &str) -> Result<Server> {
        let program = std::fs::read_to_string(binaries::judged().join("server.js"))?;
        let mut remote = self.shell.starts(&format!(
            "mkdir -p judge && cat >judge/server.js <<'END'\n{program}END\n\
             exec node judge/server.js 0 '{text}'"
        ))?;
        let listens = |line: &str| line.starts_with("listens on ");
        let line = remote.lines.awaits(SOON, "its port", listens).await?;
        let port = line.rsplit(' ').next().unwrap_or_default();
        Ok(Server {
            port: port.parse().context("a port")?,
            _remote: remote,
        })
    }

    /// Runs a real dev server.
    pub(super) async fn runs(&self, server: &impl DevServer) -> Result<Server> {
        let port = self.free_port().await?;
        let site = server.site();
        let made = site.made()?;
        self.shell.copies(made.path(), &site.dir()).await?;
        let command = server.command(&self.tools, port);
        let mut remote = self.keeps(":", &command)?;
        if let Err(error) = server.awaits_ready(&mut remote.lines, port).await {
            // As a shell says that there is no such program.
            if remote.lines.so_far().iter().any(|line| line == "exit 127") {
                return Err(Lacks("the dev server on the node, see E2E_LIVE_SERVER").into());
            }
            return Err(error.context(format!("`{command}` of {}", self.name)));
        }
        Ok(Server {
            port,
            _remote: remote,
        })
    }

    /// Starts a command that knows nothing of its standard input, to end with it; `before` it another, or `:`.
    pub(super) fn keeps(&self, before: &str, command: &str) -> Result<Remote> {
        let line = WHILE_OPEN.replace("@command@", command);
        self.shell.starts(&format!("{before}\n{line}"))
    }

    /// Saves a file below home.
    pub(super) async fn saves(&self, file: &str, text: &str) -> Result<()> {
        let save = format!("cat > {file}");
        self.shell.takes(&save, text.as_bytes()).await.map(drop)
    }

    /// The account, as the kernel of their node knows it.
    pub(super) async fn uid(&self) -> Result<String> {
        let uid = self.shell.runs("id -u").await?;
        Ok(uid.trim().to_owned())
    }
}

/// Whether the kernel tells them apart.
pub(super) async fn needs_several_uids(people: [&Person; 2]) -> Result<()> {
    let [hers, his] = people.map(Person::uid);
    let (hers, his) = tokio::try_join!(hers, his)?;
    if hers == his {
        return Err(Lacks("several uids").into());
    }
    Ok(())
}

/// A story that needs nothing but a person: the same of a proxy and of a manager.
#[derive(Clone, Copy, Debug)]
pub(super) enum Story {
    LiveReload,
    EventsStream,
    BulkIsExact,
    NothingListens,
    BadPorts,
}

impl Story {
    pub(super) const ALL: [Story; 5] = [
        Story::LiveReload,
        Story::EventsStream,
        Story::BulkIsExact,
        Story::NothingListens,
        Story::BadPorts,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Story::LiveReload => "Live Server reloads a page by WebSocket",
            Story::EventsStream => "server-sent events arrive one by one",
            Story::BulkIsExact => "large bodies are exact",
            Story::NothingListens => "a port without a server is an error and no hang",
            Story::BadPorts => "what is no port is refused",
        }
    }

    pub(super) async fn is_told_of(self, person: &Person) -> Result<()> {
        match self {
            Story::LiveReload => live_reload(person).await,
            Story::EventsStream => events_stream(person).await,
            Story::BulkIsExact => bulk_is_exact(person).await,
            Story::NothingListens => nothing_listens(person).await,
            Story::BadPorts => bad_ports(person).await,
        }
    }
}

/// Live Server's page reloads when its file is saved.
async fn live_reload(person: &Person) -> Result<()> {
    let live = LiveServer::on(5500).showing("before");
    let server = person.runs(&live).await?;
    // Its script opens `location.pathname + '/ws'`, which makes two slashes.
    let mut socket = person.browser.connects(&server.path("/ws")).await?;
    socket.awaits(SOON, |text| text == "connected").await?;
    let index = format!("{}/index.html", live.site().dir());
    person.saves(&index, &page("after")?).await?;
    socket.awaits(SOON, |text| text == "reload").await?;
    let page = person.browser.gets(&server.path("")).await?;
    page.sees("after").lacks("before");
    Ok(())
}

/// Events arrive one by one while the answer goes on.
async fn events_stream(person: &Person) -> Result<()> {
    let server = person.serves("a page").await?;
    let mut stream = person.browser.follows(&server.path("events")).await?;
    stream.awaits(SOON, "data: first").await?;
    let told = person.browser.gets(&server.path("tell")).await?;
    told.sees("1");
    stream.awaits(SOON, "data: told").await
}

/// Where nothing listens, it is said, and soon.
async fn nothing_listens(person: &Person) -> Result<()> {
    let port = person.free_port().await?;
    let page = person.browser.gets(&format!("/port/{port}/")).await?;
    ensure!(page.status >= 400, "{page} is no error");
    ensure!(!page.body.is_empty(), "{page} says nothing");
    let path = format!("/port/{port}/ws");
    let socket = person.browser.connects(&path).await;
    ensure!(socket.is_err(), "a WebSocket to nobody");
    Ok(())
}

/// What is no port of a dev server is refused.
async fn bad_ports(person: &Person) -> Result<()> {
    for port in ["0", "65536", "abc", "-1", "99999999999999999999"] {
        let path = format!("/port/{port}/");
        let page = person.browser.gets(&path).await?;
        ensure!(page.status >= 400, "{page} is no error");
    }
    Ok(())
}

/// Bytes are neither lost nor changed, down or up.
async fn bulk_is_exact(person: &Person) -> Result<()> {
    let server = person.serves("a page").await?;
    let page = person.browser.gets(&server.path("large")).await?;
    page.has_status(200);
    let wanted = (0..8u32 << 20).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8);
    let exact = page.body.iter().copied().eq(wanted);
    ensure!(exact, "{} bytes, and not those of 8 MiB", page.body.len());
    let path = server.path("echo");
    let body: String = (0..100_000).map(|number| format!("{number} ")).collect();
    let sent = person
        .browser
        .sends(Method::POST, &path, &[], body.as_str());
    ensure!(
        sent.await?.body == body.as_bytes(),
        "a body came back changed"
    );
    Ok(())
}

/// Another user's server is not shown, not even as an error of its own.
pub(super) async fn another_users_server_is_not_shown(
    owner: &Person,
    other: &Person,
) -> Result<()> {
    needs_several_uids([owner, other]).await?;
    let server = owner.serves("a secret of the owner").await?;
    let own = owner.browser.gets(&server.path("")).await?;
    own.sees("a secret of the owner");
    let page = other.browser.gets(&server.path("")).await?;
    ensure!(page.status >= 400, "{page} is no error");
    page.lacks("secret");
    Ok(())
}
