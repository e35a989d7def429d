//! What a person asks a running manager for at a terminal: `launch`, `ls`, `open`, `logs`, `cancel`.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use tokio::time::sleep;

use crate::{
    auth::access_token::AccessToken,
    client::{Client, ClientError},
    config::calls::{Call, CancelArgs, LaunchArgs, LogsArgs, OpenArgs, WayArgs},
    names::UserName,
};
use browser::OpenError;
use table::table;

mod browser;
mod table;

/// How often it is asked how a session stands: a person waits, and a manager answers in a millisecond.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is asked what a job has printed: each time is a command on the login node.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// What the environment has for a command.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// `HPC_MANAGER_TOKEN`.
    pub token: Option<String>,
    /// `BROWSER`.
    pub browser: Option<String>,
    /// Whether there is a display.
    pub has_display: bool,
}

/// Why a command was not done.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The manager.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No token for a manager elsewhere.
    #[error("a manager elsewhere wants an access token, and none is given")]
    NoToken,
    /// What is given is none.
    #[error("what is given is no access token")]
    BadToken,
    /// Others can read the token.
    #[error("`{0}` is not a file of this user's alone")]
    OpenFile(PathBuf),
    /// A file.
    #[error("cannot use `{path}`")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No session.
    #[error("there is no session that lives")]
    NoSession,
    /// None of that name.
    #[error("there is no session or job `{}`", .0.escape_debug())]
    NoSuchSession(String),
    /// One that has ended while somebody waited.
    #[error("session {id} has ended: {reason}")]
    Ended {
        /// Which.
        id: String,
        /// Why.
        reason: String,
    },
    /// One that cannot be opened.
    #[error("session {id} is {phase}, not connected")]
    NotConnected {
        /// Which.
        id: String,
        /// How far it is.
        phase: String,
    },
    /// One whose IDE is reached otherwise.
    #[error(
        "the IDE of session {0} brings a port proxy of its own: it is not reached through the manager"
    )]
    NoProxy(String),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Standard output is gone.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl CommandError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Client(error) => return error.hint(),
            Self::NoToken => {
                "put it into $HPC_MANAGER_TOKEN or into a file that `--token-file` names; \
                 `hpc-manager token add NAME` makes one at the manager"
            }
            Self::BadToken => "it begins with `hpcm_`; `hpc-manager token add NAME` makes one",
            Self::OpenFile(_) => "`chmod 600` it",
            Self::File { .. } => "is it there, and may this user use it?",
            Self::NoSession => "`hpc-manager launch` starts one",
            Self::NoSuchSession(_) => "`hpc-manager ls` lists them",
            Self::Ended { id, .. } | Self::NoProxy(id) => {
                return format!("`hpc-manager logs {id}` shows what its job has printed");
            }
            Self::NotConnected { id, phase } if phase == "ended" => {
                return format!(
                    "`hpc-manager launch` starts another; `hpc-manager logs {id}` shows what its job has printed"
                );
            }
            Self::NotConnected { .. } => "`hpc-manager ls` tells why; `launch --wait` waits for it",
            Self::Open(error) => error.hint(),
            Self::Output(_) => "is there room, and does somebody read?",
        }
        .to_owned()
    }

    /// Whether it was used wrongly.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoToken | Self::BadToken | Self::OpenFile(_))
    }
}

/// A session as the manager tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) id: Option<String>,
    pub(crate) phase: String,
    pub(crate) job: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) ide: Option<String>,
    /// A manager that does not say knows of no other.
    #[serde(default = "yes")]
    pub(crate) has_proxy: bool,
    pub(crate) cluster: Option<String>,
    pub(crate) seconds_left: Option<u64>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Listed {
    user: UserName,
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
struct Part {
    next: u64,
    text: String,
}

/// Where something is written: to a terminal or a test.
pub trait Terminal {
    /// Data.
    ///
    /// # Errors
    /// When nobody can read it.
    fn prints(&mut self, text: &str) -> io::Result<()>;
    /// How it goes.
    fn tells(&mut self, text: &str);
}

/// Does what `call` says with the manager that has `state_dir`, or the one that it names.
///
/// # Errors
/// See [`CommandError`].
pub async fn run(
    call: &Call,
    state_dir: &Path,
    around: &Surroundings,
    terminal: &mut impl Terminal,
) -> Result<(), CommandError> {
    let client = client(call.way(), state_dir, around)?;
    let mut errand = Errand {
        client,
        call,
        state_dir,
        around,
        terminal,
    };
    match call {
        Call::Launch(args) => errand.launches(args).await,
        Call::Ls(args) => errand.lists(args.json).await,
        Call::Open(args) => errand.opens(args).await,
        Call::Logs(args) => errand.logs(args).await,
        Call::Cancel(args) => errand.cancels(args).await,
    }
}

fn client(way: &WayArgs, state_dir: &Path, around: &Surroundings) -> Result<Client, CommandError> {
    let Some(address) = &way.url else {
        return Ok(Client::here(state_dir, way.user.clone()));
    };
    let token = match &way.token_file {
        Some(path) => read_token(path)?,
        None => around.token.clone().ok_or(CommandError::NoToken)?,
    };
    let token: AccessToken = token.trim().parse().map_err(|_| CommandError::BadToken)?;
    Ok(Client::at(address.clone(), token))
}

fn read_token(path: &Path) -> Result<String, CommandError> {
    let at = |source| CommandError::File {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(at)?.mode() & 0o077 != 0 {
        return Err(CommandError::OpenFile(path.to_owned()));
    }
    fs::read_to_string(path).map_err(at)
}

/// One command at work.
struct Errand<'a, T> {
    client: Client,
    call: &'a Call,
    state_dir: &'a Path,
    around: &'a Surroundings,
    terminal: &'a mut T,
}

impl<T: Terminal> Errand<'_, T> {
    async fn launches(&mut self, args: &LaunchArgs) -> Result<(), CommandError> {
        let wish = serde_json::to_string(&args.wish()).expect("strings and numbers");
        let path = "/api/v1/sessions";
        let mut told: Value = self.client.asks("POST", path, &wish).await?;
        let id = told["id"].as_str().unwrap_or_default().to_owned();
        if args.wait || args.open {
            told = self.waits(&id).await?;
        }
        if args.json {
            self.prints(&format!("{told}\n"))?;
        } else {
            self.prints(&format!("{id}\n"))?;
        }
        if args.open {
            let (user, session) = self.found(Some(&id)).await?;
            self.shows(&user, &session, None, false)?;
        }
        Ok(())
    }

    /// Until the session is connected, or as far as it gets without a proxy.
    async fn waits(&mut self, id: &str) -> Result<Value, CommandError> {
        let path = format!("/api/v1/sessions/{id}");
        let mut before = String::new();
        loop {
            let told: Value = self.client.asks("GET", &path, "").await?;
            let text = |field: &str| told[field].as_str().unwrap_or_default().to_owned();
            let (phase, reason) = (text("phase"), text("reason"));
            let now = match reason.as_str() {
                "" => phase.clone(),
                reason => format!("{phase}: {reason}"),
            };
            if now != before {
                self.terminal.tells(&format!("{id} {now}"));
                before = now;
            }
            match phase.as_str() {
                "connected" => return Ok(told),
                "running" if told["has_proxy"] == false => return Ok(told),
                "ended" => {
                    let id = id.to_owned();
                    return Err(CommandError::Ended { id, reason });
                }
                _ => sleep(PAUSE).await,
            }
        }
    }

    async fn lists(&mut self, json: bool) -> Result<(), CommandError> {
        let told: Value = self.client.asks("GET", "/api/v1/sessions", "").await?;
        if json {
            return self.prints(&format!("{told}\n"));
        }
        let sessions = Vec::deserialize(&told["sessions"]);
        self.prints(&table(&sessions.unwrap_or_default()))
    }

    async fn opens(&mut self, args: &OpenArgs) -> Result<(), CommandError> {
        let (user, session) = self.found(args.session.as_deref()).await?;
        self.shows(&user, &session, args.port, args.print)
    }

    fn shows(
        &mut self,
        user: &UserName,
        session: &Session,
        port: Option<u16>,
        print: bool,
    ) -> Result<(), CommandError> {
        let id = session.id.clone().unwrap_or_default();
        let path = match (port, &session.ide) {
            (Some(port), Some(_)) => format!("/s/{id}/port/{port}/"),
            (None, Some(ide)) => format!("/s/{id}{ide}"),
            (_, None) if !session.has_proxy => return Err(CommandError::NoProxy(id)),
            (_, None) => {
                let phase = session.phase.clone();
                return Err(CommandError::NotConnected { id, phase });
            }
        };
        let address = match &self.call.way().url {
            Some(address) => format!("{address}{path}"),
            None => browser::link(self.state_dir, user, &path)?,
        };
        if !print && browser::start(self.around, self.state_dir, &address)? {
            self.terminal.tells("opened in the browser");
            return Ok(());
        }
        self.prints(&format!("{address}\n"))
    }

    async fn logs(&mut self, args: &LogsArgs) -> Result<(), CommandError> {
        let (_, session) = self.found(args.session.as_deref()).await?;
        let path = format!("/api/v1/sessions/{}", session.id.unwrap_or_default());
        let mut from = "end".to_owned();
        loop {
            // Before the log: what comes between the two is read the next time.
            let now: Session = self.client.asks("GET", &path, "").await?;
            let log = format!("{path}/log?from={from}");
            let part: Result<Part, _> = self.client.asks("GET", &log, "").await;
            let is_over = now.phase == "ended";
            match part {
                Ok(part) => {
                    self.prints(&part.text)?;
                    from = part.next.to_string();
                    if !part.text.is_empty() {
                        if args.follow {
                            continue;
                        }
                        return Ok(());
                    }
                }
                // It comes with the job, or the network comes back.
                Err(error)
                    if args.follow && !is_over && (error.is("no-job") || error.is("no-log")) => {}
                Err(error) => return Err(error.into()),
            }
            if !args.follow || is_over {
                return Ok(());
            }
            sleep(LOG_PAUSE).await;
        }
    }

    async fn cancels(&mut self, args: &CancelArgs) -> Result<(), CommandError> {
        let listed: Listed = self.client.asks("GET", "/api/v1/sessions", "").await?;
        let chosen = if args.all {
            let all = listed.sessions.into_iter();
            all.filter(lives).collect()
        } else {
            // All are known before the first is cancelled.
            let names = args.sessions.iter();
            let chosen = names.map(|name| named(&listed.sessions, name));
            chosen.collect::<Result<Vec<_>, _>>()?
        };
        let mut told = Vec::new();
        for session in chosen {
            let path = format!("/api/v1/sessions/{}", session.id.unwrap_or_default());
            let state: Value = self.client.asks("DELETE", &path, "").await?;
            if !args.json {
                let text = |field: &str| state[field].as_str().unwrap_or_default().to_owned();
                self.prints(&format!("{}\n", text("id")))?;
            }
            told.push(state);
        }
        if args.json {
            self.prints(&format!("{}\n", Value::from(told)))?;
        }
        Ok(())
    }

    /// The session that is meant, and whose it is.
    async fn found(&self, name: Option<&str>) -> Result<(UserName, Session), CommandError> {
        let Listed { user, sessions } = self.client.asks("GET", "/api/v1/sessions", "").await?;
        let found = match name {
            Some(name) => named(&sessions, name)?,
            None => {
                let mut all = sessions.into_iter();
                all.find(lives).ok_or(CommandError::NoSession)?
            }
        };
        Ok((user, found))
    }

    fn prints(&mut self, text: &str) -> Result<(), CommandError> {
        self.terminal.prints(text).map_err(CommandError::Output)
    }
}

fn lives(session: &Session) -> bool {
    !matches!(session.phase.as_str(), "none" | "ended")
}

/// The session of that name, or the newest whose job it is; one that lives first.
fn named(sessions: &[Session], name: &str) -> Result<Session, CommandError> {
    let of_job = |session: &&Session| session.job.as_deref() == Some(name);
    let mut all = sessions.iter();
    let found = all.find(|session| session.id.as_deref() == Some(name));
    let found = found.or_else(|| sessions.iter().filter(of_job).find(|it| lives(it)));
    let found = found.or_else(|| sessions.iter().find(of_job));
    found
        .cloned()
        .ok_or_else(|| CommandError::NoSuchSession(name.to_owned()))
}
