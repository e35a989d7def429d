//! Bytes from a channel to whatever reads them. They queue up without limit in between: SSH here
//! has no way to slow one channel down without stopping the connection, and with it all others.

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf, Sig};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Why nothing more goes this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client has sent its last byte, and the reader has it.
    Finished,
    /// The reader does not read any more.
    Refused,
    /// The channel is gone, and the client with it.
    Gone,
}

/// Hands the client's bytes to `sink` and, after the last, closes it. Signals go to `on_signal`.
pub(super) async fn drain(
    messages: &mut ChannelReadHalf,
    mut sink: impl AsyncWrite + Unpin,
    on_signal: impl Fn(&Sig),
) -> End {
    let (queue, mut queued) = mpsc::unbounded_channel::<Bytes>();
    let deliver = async move {
        while let Some(data) = queued.recv().await {
            if sink.write_all(&data).await.is_err() {
                return End::Refused;
            }
        }
        let _ = sink.shutdown().await;
        End::Finished
    };
    let receive = async {
        let mut queue = Some(queue);
        while let Some(message) = messages.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    let _ = queue.as_ref().map(|queue| queue.send(data));
                }
                ChannelMsg::Eof => queue = None,
                ChannelMsg::Signal { signal } => on_signal(&signal),
                ChannelMsg::Close => break,
                _ => {}
            }
        }
        End::Gone
    };
    tokio::select! {
        end = deliver => end,
        end = receive => end,
    }
}

/// Waits until the channel is gone; bytes that still come go nowhere.
pub(super) async fn await_close(messages: &mut ChannelReadHalf, on_signal: impl Fn(&Sig)) {
    while let Some(message) = messages.wait().await {
        match message {
            ChannelMsg::Close => return,
            ChannelMsg::Signal { signal } => on_signal(&signal),
            _ => {}
        }
    }
}
