//! The network between the manager and the login node, for one user: a relay that a story can cut.
//!
//! A cut wire closes nothing and refuses nothing. Bytes and new connections wait, unseen by the
//! other side, as they do while a router is down and TCP sends them again and again.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// A wire that is laid. Dropped, it is gone with all that it carries.
#[derive(Debug)]
pub struct Wire {
    ssh_config: PathBuf,
    whole: watch::Sender<bool>,
    relay: AbortHandle,
}

impl Wire {
    /// Lays one for `user` to the login node that `ssh_config` knows. What it keeps is in `dir`.
    ///
    /// # Errors
    /// The configuration names no port, or cannot be written anew.
    pub async fn lay(dir: &Path, ssh_config: &Path, user: &str) -> Result<Wire> {
        let config = std::fs::read_to_string(ssh_config).context("read the ssh configuration")?;
        let far_port = port_of_login(&config).context("no port of the login node")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let near_port = listener.local_addr()?.port();
        let own = dir.join("ssh_config_on_the_wire");
        // The first value counts (ssh_config(5)).
        let text = format!("Match originalhost login user {user}\n  Port {near_port}\n{config}");
        std::fs::write(&own, text).context("write the ssh configuration")?;
        let (whole, looks) = watch::channel(true);
        let relay = tokio::spawn(relay(listener, far_port, looks)).abort_handle();
        Ok(Wire {
            ssh_config: own,
            whole,
            relay,
        })
    }

    /// For an ssh that goes by this wire.
    pub fn ssh_config(&self) -> &Path {
        &self.ssh_config
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Mends it; whatever waited goes on.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

/// The port below `Host login`, or the first there is.
fn port_of_login(config: &str) -> Option<u16> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let lines: Vec<Vec<String>> = config.lines().map(words).collect();
    let port = lines
        .iter()
        .find(|words| words.len() == 2 && words[0] == "Port")?;
    port[1].parse().ok()
}

async fn relay(listener: TcpListener, far_port: u16, whole: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let mut whole = whole.clone();
        connections.spawn(async move {
            whole.wait_for(|whole| *whole).await?;
            let far = TcpStream::connect((Ipv4Addr::LOCALHOST, far_port)).await?;
            let ((near_from, near_to), (far_from, far_to)) = (near.into_split(), far.into_split());
            tokio::try_join!(
                carry(near_from, far_to, whole.clone()),
                carry(far_from, near_to, whole),
            )?;
            anyhow::Ok(())
        });
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut whole: watch::Receiver<bool>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        // An end is news as well.
        whole.wait_for(|whole| *whole).await?;
        if count == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&buffer[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_cut_wire_holds_what_is_sent_and_closes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = far.local_addr().unwrap().port();
        let config = dir.path().join("config");
        std::fs::write(&config, format!("Host login\n  Port {port}\n")).unwrap();
        let wire = Wire::lay(dir.path(), &config, "alice").await.unwrap();
        let text = std::fs::read_to_string(wire.ssh_config()).unwrap();
        let near_port = port_of_login(&text).unwrap();
        assert_ne!(near_port, port);

        let mut near = TcpStream::connect(("127.0.0.1", near_port)).await.unwrap();
        let (mut end, _) = far.accept().await.unwrap();
        wire.cut();
        near.write_all(b"held").await.unwrap();
        drop(near);
        let mut heard = Vec::new();
        let read = end.read_to_end(&mut heard);
        let early = tokio::time::timeout(Duration::from_millis(200), read).await;
        assert!(early.is_err(), "it came through");
        wire.mend();
        end.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"held");
    }
}
