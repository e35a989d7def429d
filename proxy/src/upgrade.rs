//! Pipes: two upgraded connections joined, byte for byte, until either ends.
//!
//! No connection future of an HTTP library covers what happens after an upgrade, so pipes are
//! counted and ended here. Frames are none of our business.

use std::{sync::Arc, time::Duration};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A set of pipes that end together.
#[derive(Clone, Debug, Default)]
pub struct Pipes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Pipes {
    /// Joins the two halves once both are upgraded. A half-close is passed on and the other
    /// direction goes on to its own end.
    pub(crate) fn join(&self, client: OnUpgrade, upstream: OnUpgrade) {
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move {
            let piped = async {
                let (client, upstream) = tokio::try_join!(client, upstream)?;
                let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
                    copy_bidirectional(&mut client, &mut upstream).await?,
                )
            };
            match stop.run_until_cancelled(piped).await {
                Some(Ok((bytes_up, bytes_down))) => {
                    tracing::debug!(bytes_up, bytes_down, "pipe ended");
                }
                Some(Err(error)) => tracing::debug!(%error, "pipe broke"),
                None => tracing::debug!("pipe cut at shutdown"),
            }
        });
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        self.0.tasks.len()
    }

    /// Waits until all pipes have ended by themselves, and cuts those that have not within
    /// `grace`. Returns how many were cut.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.0.tasks.close();
        if timeout(grace, self.0.tasks.wait()).await.is_ok() {
            return 0;
        }
        let cut = self.count();
        self.0.stop.cancel();
        self.0.tasks.wait().await;
        cut
    }
}
