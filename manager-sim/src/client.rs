//! The API as the command line asks it: by the socket of a manager on this machine, whose user this
//! is, or at an address, with an access token.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hpc_proxy::{
    ask::{self, AskError},
    http1::{fields::Fields, name::Name},
    socket::Socket,
};
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::{net::UnixStream, time::timeout};

use crate::{
    auth::access_token::AccessToken,
    names::UserName,
    origin::API_FIELD,
    router::desk::{SOCKET, USER_FIELD},
};
use curl::Curl;
pub use curl::{Address, CurlError, NotAnAddress};

mod curl;

/// Longer than a command on the login node may take.
const DEADLINE: Duration = Duration::from_secs(40);
/// Many times a list of sessions, or a part of a log.
const LONGEST_ANSWER_BYTES: usize = 4 << 20;

/// A way to a manager.
#[derive(Debug)]
pub struct Client(Way);

#[derive(Debug)]
enum Way {
    Socket {
        path: PathBuf,
        user: Option<UserName>,
    },
    Curl(Curl),
}

/// Why a call came to nothing.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No manager.
    #[error("no manager runs here: `{path}` does not answer")]
    NoManager {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It broke off.
    #[error("the manager does not answer")]
    Ask(#[from] AskError),
    /// It took too long.
    #[error("the manager did not answer within {} s", DEADLINE.as_secs())]
    Slow,
    /// From another machine.
    #[error(transparent)]
    Curl(#[from] CurlError),
    /// It leads elsewhere, where a token has no business.
    #[error("the answer leads elsewhere (status {0}), and a token is not sent there")]
    LeadsOn(u16),
    /// It refused, and says why.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Something else than an answer of a manager's.
    #[error("the answer (status {status}) is not a manager's")]
    Unreadable {
        /// Its status.
        status: u16,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What a manager says when it refuses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// Stable, for programs.
    pub error: String,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoManager { .. } => {
                "start one with `hpc-manager serve`; name the directory of one that runs with \
                 `--state-dir`, or one elsewhere with `--url` and an access token"
                    .to_owned()
            }
            Self::Ask(_) | Self::Slow => "`hpc-manager doctor` tells more".to_owned(),
            Self::Curl(error) => error.hint().to_owned(),
            Self::LeadsOn(_) | Self::Unreadable { .. } => {
                "does `--url` name the manager itself?".to_owned()
            }
            Self::Refused(refusal) => refusal.hint.clone(),
        }
    }

    /// Whether a manager refused with that code.
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.error == code)
    }
}

impl Client {
    /// To the manager that has `state_dir`, for `user` if it has several.
    pub fn here(state_dir: &Path, user: Option<UserName>) -> Self {
        let path = state_dir.join(SOCKET);
        Self(Way::Socket { path, user })
    }

    /// To the manager at `address`, as whomever `token` signs in.
    pub fn at(address: Address, token: AccessToken) -> Self {
        Self(Way::Curl(Curl { address, token }))
    }

    /// What it answers, read as what it should be.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn asks<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<T, ClientError> {
        let (status, body) = self.sends(method, path, body).await?;
        let unreadable = |source| ClientError::Unreadable { status, source };
        match status {
            200..300 => serde_json::from_slice(&body).map_err(unreadable),
            300..400 => Err(ClientError::LeadsOn(status)),
            _ => Err(ClientError::Refused(
                serde_json::from_slice(&body).map_err(unreadable)?,
            )),
        }
    }

    async fn sends(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        match &self.0 {
            Way::Socket { path: socket, user } => {
                let asks = by_socket(socket, user.as_ref(), (method, path), body);
                timeout(DEADLINE, asks)
                    .await
                    .unwrap_or(Err(ClientError::Slow))
            }
            Way::Curl(curl) => Ok(curl.sends(method, path, body).await?),
        }
    }
}

async fn by_socket(
    path: &Path,
    user: Option<&UserName>,
    asked: (&str, &str),
    body: &str,
) -> Result<(u16, Vec<u8>), ClientError> {
    let stream = UnixStream::connect(path).await;
    let stream = stream.map_err(|source| ClientError::NoManager {
        path: path.to_owned(),
        source,
    })?;
    let mut fields = Fields::new();
    fields.push(Name::Host, b"localhost");
    fields.push_spelt(API_FIELD.as_bytes(), b"1");
    if let Some(user) = user {
        fields.push_spelt(USER_FIELD.as_bytes(), user.as_str().as_bytes());
    }
    let mut socket = Socket::from(stream);
    let most = LONGEST_ANSWER_BYTES;
    Ok(ask::ask(&mut socket, asked, &fields, body.as_bytes(), most).await?)
}
