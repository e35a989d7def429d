//! The connection that all commands of one account share (ssh's ControlMaster), held by us: made
//! on first use, made again when it breaks, gone when we are.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Mutex;

use super::{Gate, Lifeline, Ssh, SshError};

/// A Unix socket's path has 107 bytes at most; while ssh makes its socket, it appends 17 more.
const LONGEST_CONTROL_PATH_BYTES: usize = 107 - 17;

#[derive(Debug)]
pub(super) struct Master {
    ssh: Ssh,
    control: String,
    gate: Arc<Gate>,
    lifeline: Mutex<Option<Lifeline>>,
}

impl Master {
    pub(super) fn new(ssh: Ssh, control: &Path, gate: Arc<Gate>) -> Result<Self, SshError> {
        let control = literal_socket_path(control, LONGEST_CONTROL_PATH_BYTES)?;
        Ok(Self {
            ssh,
            control,
            gate,
            lifeline: Mutex::new(None),
        })
    }

    /// Sees to it that there is a connection; where its socket is.
    pub(super) async fn ready(&self) -> Result<&str, SshError> {
        let mut lifeline = self.lifeline.lock().await;
        if lifeline.as_mut().is_some_and(Lifeline::lives) {
            return Ok(&self.control);
        }
        *lifeline = None;
        // A killed client leaves its socket, and ssh shares nothing where there is one. Nobody
        // else's socket is there: the directory is ours alone.
        let _ = fs::remove_file(&self.control);
        let options = [
            ["-S", &self.control],
            ["-o", "ControlMaster=yes"],
            ["-o", "ControlPersist=no"],
            ["-o", "ClearAllForwardings=yes"],
        ];
        let _connecting = self.gate.connect().await;
        *lifeline = Some(Lifeline::open(&self.ssh, options.as_flattened()).await?);
        Ok(&self.control)
    }

    pub(super) async fn close(&self) {
        if let Some(lifeline) = self.lifeline.lock().await.take() {
            lifeline.close().await;
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.control);
    }
}

/// `path` as ssh takes it literally: in places where it reads socket paths it expands `%`, `~`
/// and `${}` and splits at `:` and white space.
pub(crate) fn literal_socket_path(path: &Path, longest_bytes: usize) -> Result<String, SshError> {
    path.to_str()
        .filter(|text| text.starts_with('/') && text.len() <= longest_bytes)
        .filter(|text| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/._-+@,=".contains(&b))
        })
        .map(str::to_owned)
        .ok_or_else(|| SshError::BadPath(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_ssh_would_expand_is_refused() {
        for path in ["/run/user/1000/hpc-manager/alice.ctl", "/tmp/.a+b@c,d=e/x"] {
            assert_eq!(literal_socket_path(Path::new(path), 90).unwrap(), path);
        }
        let long = format!("/{}", "x".repeat(90));
        for path in [
            "relative", "/a%h", "/a b", "/a:b", "/~a", "/a$b", "/é", "/a\nb", &long,
        ] {
            assert!(
                literal_socket_path(Path::new(path), 90).is_err(),
                "{path:?}"
            );
        }
    }
}
