//! Forwards: a channel joined to a connection, each way until its own end.

use std::io;

use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::pump::{self, End};

/// Dials, answers the request, and carries bytes until both ways have ended.
pub(super) async fn carry<S>(
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    dial: impl Future<Output = io::Result<S>>,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite,
{
    let upstream = match dial.await {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::debug!(%error, "cannot forward");
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    };
    reply.accept().await;
    let (mut from_upstream, to_upstream) = tokio::io::split(upstream);
    let (mut messages, answers) = channel.split();
    let up = async {
        match pump::drain(&mut messages, to_upstream, |_| ()).await {
            End::Finished => Ok(()),
            // Without one of its ends there is no connection.
            End::Refused | End::Gone => Err(()),
        }
    };
    let down = async {
        let mut to_client = answers.make_writer();
        tokio::io::copy(&mut from_upstream, &mut to_client)
            .await
            .map_err(drop)?;
        to_client.shutdown().await.map_err(drop)
    };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = async { tokio::try_join!(up, down) } => {}
    }
    let _ = answers.close().await;
}
