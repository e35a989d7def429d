//! Connections to upstreams that are not in use, kept for the next request.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::socket::Socket;

/// How long an unused connection is kept: below the 5 s after which Node's servers, the
/// commonest, close it from their side.
const KEPT_FOR: Duration = Duration::from_secs(4);
/// Unused connections to one upstream: more than a browser opens at once, with some to spare.
const KEPT_PER_TARGET: usize = 128;

/// Idle connections by upstream.
#[derive(Debug)]
pub(crate) struct Pool<T>(Arc<Mutex<HashMap<T, Vec<Idle>>>>);

#[derive(Debug)]
struct Idle {
    socket: Socket,
    since: Instant,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Eq + Hash + Clone + Send + 'static> Pool<T> {
    /// A connection to `target` that is open and silent: one that was closed, or sent what nobody
    /// asked for, is dropped (behaviours 71, 106).
    pub(crate) fn take(&self, target: &T) -> Option<Socket> {
        let mut idle = lock(&self.0);
        let found = idle.get_mut(target)?;
        // The one used last is the likeliest to be open still.
        while let Some(Idle { socket, .. }) = found.pop() {
            if socket.is_quiet() {
                return Some(socket);
            }
        }
        None
    }

    /// Keeps a connection on which nothing is under way.
    pub(crate) fn put(&self, target: T, socket: Socket) {
        let since = Instant::now();
        let mut idle = lock(&self.0);
        let first = idle.is_empty();
        let kept = idle.entry(target).or_default();
        if kept.len() < KEPT_PER_TARGET {
            kept.push(Idle { socket, since });
        }
        drop(idle);
        if first {
            tokio::spawn(sweep(Arc::downgrade(&self.0), since + KEPT_FOR));
        }
    }
}

/// Drops what was not used for too long, as long as there is anything.
async fn sweep<T: Eq + Hash + Send + 'static>(
    idle: std::sync::Weak<Mutex<HashMap<T, Vec<Idle>>>>,
    mut next: Instant,
) {
    loop {
        sleep_until(next).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = lock(&idle);
        let now = Instant::now();
        idle.retain(|_, kept| {
            kept.retain(|connection| connection.since + KEPT_FOR > now);
            !kept.is_empty()
        });
        let Some(oldest) = idle.values().flatten().map(|kept| kept.since).min() else {
            // The map goes too: what one busy hour needed is not kept for ever.
            *idle = HashMap::new();
            return;
        };
        next = oldest + KEPT_FOR;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::UnixStream};

    use super::*;

    fn pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (ours.into(), theirs)
    }

    #[tokio::test]
    async fn a_connection_is_used_again_for_its_own_target_only() {
        let pool = Pool::default();
        let (socket, _peer) = pair();
        pool.put(1, socket);
        assert!(pool.take(&2).is_none());
        assert!(pool.take(&1).is_some());
        assert!(pool.take(&1).is_none());
    }

    // Behaviours 71 and 106.
    #[tokio::test]
    async fn one_that_was_closed_or_spoke_unasked_is_not_used() {
        let pool = Pool::default();
        let (closed, peer) = pair();
        drop(peer);
        let (spoke, mut peer) = pair();
        peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        for socket in [closed, spoke] {
            pool.put(1, socket);
            assert!(pool.take(&1).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_for_long() {
        let pool = Pool::default();
        let (socket, mut peer) = pair();
        pool.put(1, socket);
        let mut end = [0];
        // The time is virtual: it runs on whenever everybody waits.
        let read = tokio::io::AsyncReadExt::read(&mut peer, &mut end).await;
        assert_eq!(read.unwrap(), 0);
        assert!(pool.take(&1).is_none());
    }
}
