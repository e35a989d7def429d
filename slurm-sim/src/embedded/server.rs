//! The SSH side: who may log in, and which channels they may open.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey, run_stream,
};
use russh::{Channel, ChannelOpenFailure};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::place::{Places, Target};
use super::{exec, forward};
use crate::account::Account;

/// Serves logins to the login node until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    places: Arc<Places>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, say: give others time to close theirs.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let Ok((line, stream)) = two_handles(stream) else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let login = Login {
            places: Arc::clone(&places),
            host: 0,
            client: format!("{} {}", peer.ip(), peer.port()),
            user: None,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let converse = login.converse(stream);
        tasks.spawn(async move {
            converse.await;
            // The session's own task may still hold it, when it was not the client who ended it.
            let _ = line.shutdown(Shutdown::Both);
        });
    }
}

/// A connection, and another handle of it with which to hang up.
fn two_handles(stream: TcpStream) -> io::Result<(std::net::TcpStream, TcpStream)> {
    let line = stream.into_std()?;
    let stream = TcpStream::from_std(line.try_clone()?)?;
    Ok((line, stream))
}

/// One client on one host.
struct Login {
    places: Arc<Places>,
    /// Which host it is logged in to.
    host: usize,
    client: String,
    user: Option<Account>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Login {
    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (config, stop) = (
            Arc::clone(&self.places.host(self.host).config),
            self.stop.clone(),
        );
        let session = async {
            match run_stream(config, stream, self).await {
                Ok(session) => session.await,
                Err(error) => Err(error),
            }
        };
        tokio::select! {
            // The session's own task ends when its commands and forwards let go of it.
            () = stop.cancelled() => {}
            ended = session => if let Err(error) = ended {
                tracing::debug!(%error, "ssh session ended");
            },
        }
    }

    fn admits(&self, user: &str, key: &PublicKey) -> bool {
        self.places.admit(user, key).is_some()
    }
}

impl Handler for Login {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if self.admits(user, offer.public_key) {
            Auth::Accept
        } else {
            Auth::reject()
        })
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        self.user = self.places.admit(user, key.public_key).cloned();
        Ok(if self.user.is_some() {
            Auth::Accept
        } else {
            Auth::reject()
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(user) = self.user.clone() else {
            return Ok(());
        };
        reply.accept().await;
        let command = exec::Exec {
            shell: self.places.shell().to_owned(),
            environment: self.places.environment(self.host, &user, &self.client),
            home: user.home.into(),
        };
        let (handle, stop) = (session.handle(), self.stop.clone());
        self.tasks.spawn(command.serve(channel, handle, stop));
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let target = u16::try_from(port)
            .ok()
            .and_then(|port| self.places.resolve(host, port));
        match target {
            Some(Target::Address(address, port)) => {
                let dial = TcpStream::connect((address, port));
                self.tasks
                    .spawn(forward::carry(channel, reply, dial, self.stop.clone()));
            }
            Some(Target::Login(host)) => {
                reply.accept().await;
                let login = Self {
                    places: Arc::clone(&self.places),
                    host,
                    client: self.client.clone(),
                    user: None,
                    stop: self.stop.clone(),
                    tasks: self.tasks.clone(),
                };
                // A boxed future, as this one contains its like.
                let conversation: Pin<Box<dyn Future<Output = ()> + Send>> =
                    Box::pin(login.converse(channel.into_stream()));
                self.tasks.spawn(conversation);
            }
            None => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let dial = UnixStream::connect(path.to_owned());
        self.tasks
            .spawn(forward::carry(channel, reply, dial, self.stop.clone()));
        Ok(())
    }
}
