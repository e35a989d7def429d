//! The way from a terminal to a browser.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use hpc_proxy::{answer::escape, auth::NoRandom};
use thiserror::Error;

use super::Surroundings;
use crate::{
    auth,
    names::UserName,
    state_dir::{self, StateError},
};

/// A page that leads on: an address with a secret in it has no place among arguments, which everybody on
/// the machine can read.
const PAGE: &str = "open.html";

/// Why nothing can be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The manager's directory.
    #[error("no manager runs here")]
    State(#[from] StateError),
    /// No code.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    /// The page that leads on.
    #[error("cannot write `{path}`")]
    Page {
        /// It.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::State(_) => "name its directory with `--state-dir`",
            Self::NoRandom(_) => "try again",
            Self::Page { .. } => "`--print` prints the address",
        }
    }
}

/// The address of `path` at the manager that has `state_dir`: one that signs `user` in once, where it
/// takes such.
pub(super) fn link(state_dir: &Path, user: &UserName, path: &str) -> Result<String, OpenError> {
    let (key, url) = state_dir::read(state_dir)?;
    if state_dir::users_of_links(state_dir).is_none() {
        return Ok(format!("{url}{path}"));
    }
    let code = auth::mint(&key, user, SystemTime::now())?;
    let to: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
    Ok(format!("{url}/login?code={code}&to={to}"))
}

/// Opens `address` in the browser that there is; whether there is one.
pub(super) fn start(
    around: &Surroundings,
    directory: &Path,
    address: &str,
) -> Result<bool, OpenError> {
    let named = around.browser.as_deref().filter(|name| !name.is_empty());
    let program = match named {
        Some(program) => program,
        None if around.has_display => "xdg-open",
        None => return Ok(false),
    };
    let path = directory.join(PAGE);
    write(directory, &path, address).map_err(|source| OpenError::Page {
        path: path.clone(),
        source,
    })?;
    let started = Command::new(program)
        .arg(format!("file://{}", path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Ok(started.is_ok())
}

fn write(directory: &Path, path: &Path, address: &str) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    // Whatever its mode was.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let address = escape(address);
    file.write_all(
        format!(
            "<!doctype html>\n<meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
             <meta http-equiv=\"refresh\" content=\"0; url={address}\">\
             <a href=\"{address}\">Open the session</a>\n"
        )
        .as_bytes(),
    )
}
