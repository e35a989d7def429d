//! What a row plays on: a proxy, a dev server's listener, and the verbs of both ends.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::{
    peer::{Address, Conn, Listener, PATIENCE, shortened},
    row::Need,
    subject::{Running, Subject},
    wire::{self, Framing, Head, Reader},
};

/// Fills templates in:
///
/// | | |
/// |---|---|
/// | `{N}` | the target port |
/// | `{P}` | the prefix, `/port/N` |
/// | `{T}` | the token's field line, or nothing for a proxy without |
/// | `{H}` | a `Host` line and the token's |
/// | `{TOKEN}` | the token |
/// | `{W}` | the target port plus 65536 |
/// | `{E}` | the target port with its first digit percent-encoded |
/// | `{O}` | the proxy port |
#[derive(Clone, Debug)]
pub(crate) struct Vars {
    port: u16,
    proxy_port: u16,
    token: Option<String>,
    host: Option<Vec<u8>>,
    adds: &'static [&'static str],
    adds_to_answers: &'static [&'static str],
}

impl Vars {
    pub(crate) fn new(proxy: &Running, port: u16) -> Self {
        Self {
            port,
            proxy_port: proxy.port,
            token: proxy.token.clone(),
            host: proxy
                .kind
                .sends_local_host()
                .then(|| format!("localhost:{port}").into_bytes()),
            adds: proxy.kind.adds_to_requests(),
            adds_to_answers: proxy.kind.adds_to_answers(),
        }
    }

    /// The bytes that a template stands for.
    pub(crate) fn fill(&self, template: impl AsRef<[u8]>) -> Vec<u8> {
        let token = self.token.as_deref().unwrap_or_default();
        let line = match &self.token {
            Some(token) => format!("X-Hpc-Proxy-Token: {token}\r\n"),
            None => String::new(),
        };
        let port = self.port.to_string();
        let values: [(&str, String); 8] = [
            ("{N}", port.clone()),
            ("{P}", format!("/port/{port}")),
            ("{H}", format!("Host: localhost\r\n{line}")),
            ("{T}", line),
            ("{TOKEN}", token.to_owned()),
            ("{W}", (u32::from(self.port) + 65536).to_string()),
            ("{E}", format!("%3{port}")),
            ("{O}", self.proxy_port.to_string()),
        ];
        let (mut filled, mut rest) = (Vec::new(), template.as_ref());
        while let Some(byte) = rest.first() {
            match values
                .iter()
                .find(|(name, _)| rest.starts_with(name.as_bytes()))
            {
                Some((name, value)) => {
                    filled.extend_from_slice(value.as_bytes());
                    rest = &rest[name.len()..];
                }
                None => {
                    filled.push(*byte);
                    rest = &rest[1..];
                }
            }
        }
        filled
    }

    /// The `Host` that a dev server must get, where the subject's way is known.
    pub(crate) fn host(&self) -> Option<Vec<u8>> {
        self.host.clone()
    }

    pub(crate) fn adds(&self) -> impl Iterator<Item = &'static str> {
        self.adds.iter().copied()
    }

    pub(crate) fn adds_to_answers(&self) -> impl Iterator<Item = &'static str> {
        self.adds_to_answers.iter().copied()
    }
}

/// All that rows share: the subject, a proxy of it that runs, and how long long is.
pub(crate) struct Cast {
    pub(crate) subject: Subject,
    pub(crate) shared: Arc<Running>,
    /// A proxy without authentication, started when the first row wants it.
    open: OnceLock<Result<Arc<Running>, String>>,
    /// Waits and sizes in full, not scaled down.
    pub(crate) is_slow: bool,
    /// What other users can start, where they can be played.
    pub(crate) public: Option<Public>,
}

/// Copies of the programs in a directory that every user can enter.
pub(crate) struct Public {
    dir: TempDir,
}

impl Public {
    /// Made while no other thread can start a program: a copy that one of them has open for writing at
    /// that moment could not be run (execve(2), ETXTBSY).
    fn new(proxy: &Path, helper: &Path) -> Result<Self> {
        let dir = TempDir::new()?;
        let public = Self { dir };
        let everyone = Permissions::from_mode(0o755);
        fs::copy(proxy, public.proxy()).context("copy the proxy")?;
        fs::copy(helper, public.helper()).context("copy the helper")?;
        for path in [
            public.proxy(),
            public.helper(),
            public.dir.path().to_owned(),
        ] {
            fs::set_permissions(path, everyone.clone())?;
        }
        Ok(public)
    }

    pub(crate) fn proxy(&self) -> PathBuf {
        self.dir.path().join("proxy")
    }

    /// The program that plays servers.
    pub(crate) fn helper(&self) -> PathBuf {
        self.dir.path().join("helper")
    }
}

impl Cast {
    pub(crate) fn new(subject: Subject, is_slow: bool, helper: Option<&Path>) -> Result<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let has_users = is_root && subject.kind.lacks(Need::Ownership).is_none();
        let public = match helper {
            Some(helper) if has_users => Some(Public::new(&subject.program, helper)?),
            _ => None,
        };
        let shared = Arc::new(subject.start(&[])?);
        Ok(Self {
            subject,
            shared,
            open: OnceLock::new(),
            is_slow,
            public,
        })
    }

    fn open(&self) -> Result<Arc<Running>> {
        let start = || match self.subject.start(&["--auth", "none"]) {
            Ok(mut running) => {
                running.token = None;
                Ok(Arc::new(running))
            }
            Err(error) => Err(format!("{error:#}")),
        };
        self.open
            .get_or_init(start)
            .clone()
            .map_err(|error| anyhow!(error))
    }
}

/// One row's stage.
pub(crate) struct Stage<'a> {
    pub(crate) cast: &'a Cast,
    pub(crate) proxy: Arc<Running>,
    listener: Arc<Listener>,
    pub(crate) vars: Vars,
    pub(crate) port: u16,
}

impl<'a> Stage<'a> {
    /// On the proxy that all rows share.
    pub(crate) fn shared(cast: &'a Cast) -> Result<Self> {
        Self::on(cast, Arc::clone(&cast.shared))
    }

    /// On the proxy that asks for no token.
    pub(crate) fn open(cast: &'a Cast) -> Result<Self> {
        Self::on(cast, cast.open()?)
    }

    /// On a proxy of its own, started with these flags.
    pub(crate) fn alone(&self, flags: &[&str]) -> Result<Stage<'a>> {
        let mut running = self.cast.subject.start(flags)?;
        if flags.windows(2).any(|pair| pair == ["--auth", "none"]) {
            running.token = None;
        }
        Self::on(self.cast, Arc::new(running))
    }

    pub(crate) fn on(cast: &'a Cast, proxy: Arc<Running>) -> Result<Self> {
        let listener = Listener::tcp("127.0.0.1:0").context("listen on loopback")?;
        Ok(Self::with(cast, proxy, listener))
    }

    /// With a dev server that listens here.
    pub(crate) fn with(cast: &'a Cast, proxy: Arc<Running>, listener: Listener) -> Self {
        let port = listener.port();
        let vars = Vars::new(&proxy, port);
        Self {
            cast,
            proxy,
            listener: Arc::new(listener),
            vars,
            port,
        }
    }

    /// The same proxy and another dev server.
    pub(crate) fn beside(&self, listener: Listener) -> Stage<'a> {
        Self::with(self.cast, Arc::clone(&self.proxy), listener)
    }

    /// Ends the dev server's listener and gives its port back.
    pub(crate) fn stops_listening(self) -> (Vars, u16) {
        (self.vars, self.port)
    }

    pub(crate) fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }

    pub(crate) fn fill(&self, template: impl AsRef<[u8]>) -> Vec<u8> {
        self.vars.fill(template)
    }

    /// A duration or count at full length with `--slow`, else scaled.
    pub(crate) fn scaled<T>(&self, usual: T, full: T) -> T {
        if self.cast.is_slow { full } else { usual }
    }

    /// A client's connection to the proxy.
    pub(crate) fn connect(&self) -> Result<Conn> {
        self.connect_to(&self.proxy.address)
    }

    pub(crate) fn connect_to(&self, address: &Address) -> Result<Conn> {
        Conn::to(address).with_context(|| {
            let log = self.proxy.log();
            let tail = &log[log.len().saturating_sub(500)..];
            format!(
                "connect to the proxy; its log ends with `{}`",
                shortened(tail.as_bytes())
            )
        })
    }

    /// A client that has sent this.
    pub(crate) fn asks(&self, template: impl AsRef<[u8]>) -> Result<Conn> {
        let mut client = self.connect()?;
        client
            .send(self.fill(template))
            .context("send to the proxy")?;
        Ok(client)
    }

    /// A client that has asked for `path` of the dev server.
    pub(crate) fn gets(&self, path: &str) -> Result<Conn> {
        self.asks(format!("GET {{P}}{path} HTTP/1.1\r\n{{H}}\r\n"))
    }

    /// The next connection to the dev server.
    pub(crate) fn accepts(&self) -> Result<Conn> {
        let accepted = self.listener.accept(PATIENCE)?;
        accepted.context("the proxy did not connect to the dev server")
    }

    /// The dev server's side of a request: the connection, and the request's head.
    pub(crate) fn accepts_head(&self) -> Result<(Conn, Head)> {
        let mut server = self.accepts()?;
        let head = server.head().context("the dev server's request")?;
        Ok((server, head))
    }

    /// Fails when somebody connects to the dev server within `time`.
    pub(crate) fn nobody_connects(&self, time: Duration) -> Result<()> {
        let accepted = self.listener.accept(time)?;
        ensure!(accepted.is_none(), "the dev server was reached");
        Ok(())
    }
}

/// What a dev server or client sends.
impl Stage<'_> {
    /// Sends a filled template.
    pub(crate) fn sends(&self, to: &mut Conn, template: impl AsRef<[u8]>) -> Result<()> {
        Ok(to.send(self.fill(template))?)
    }
}

/// The head of an answer to GET, and a reader for the parts of its body.
pub(crate) fn answer_in_parts(client: &mut Conn) -> Result<(Head, Reader)> {
    let head = client.head().context("the client's answer")?;
    let framing = wire::answer_framing(&head, "GET").map_err(|fault| anyhow!("{fault}"))?;
    Ok((head.clone(), Reader::new(head, framing)))
}

/// The same for a request.
pub(crate) fn request_in_parts(server: &mut Conn) -> Result<(Head, Reader)> {
    let head = server.head().context("the dev server's request")?;
    let framing = wire::request_framing(&head).map_err(|fault| anyhow!("{fault}"))?;
    ensure!(
        framing != Framing::Empty,
        "the request came without its body"
    );
    Ok((head.clone(), Reader::new(head, framing)))
}
