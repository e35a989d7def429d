//! Many WebSockets at once, of which little is asked.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::{task::JoinSet, time::timeout};

use crate::{client::Connection, http::ignore, route::Route, websocket::WebSocket};

/// Who opens them; more at once would ask for more than a backlog holds.
const OPENERS: u64 = 32;
/// A handshake or an echo takes less than a millisecond.
const DEADLINE: Duration = Duration::from_secs(10);
/// Enough to know: each may take up to the deadline.
const FAILED: u64 = 10;
/// What a client reads at once; thousands of them hold it.
const BUFFER_BYTES: usize = 512;

/// Opens `number` WebSockets; whoever fails stops, and tells why.
pub async fn open(route: &Route, number: u64) -> (Vec<WebSocket>, Vec<String>) {
    let mut openers = JoinSet::new();
    for opener in 0..OPENERS {
        let route = route.clone();
        openers.spawn(async move {
            let mut sockets = Vec::new();
            for _ in (opener..number).step_by(usize::try_from(OPENERS).expect("a few")) {
                match timeout(DEADLINE, open_one(&route)).await {
                    Ok(Ok(socket)) => sockets.push(socket),
                    Ok(Err(error)) => return (sockets, Some(format!("{error:#}"))),
                    Err(_) => return (sockets, Some(format!("no answer in {DEADLINE:?}"))),
                }
            }
            (sockets, None)
        });
    }
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for (sockets, failure) in openers.join_all().await {
        all.extend(sockets);
        failures.extend(failure);
    }
    (all, failures)
}

async fn open_one(route: &Route) -> Result<WebSocket> {
    let connection = Connection::open(route, BUFFER_BYTES).await?;
    let switched = connection.upgrade("/echo", ignore).await?;
    switched
        .map_err(|status| anyhow!("answered {status} instead"))
        .context("upgrade")
}

/// How many of `sockets` send a message of `length` bytes back, one after the other. Each has a message
/// of its own, so that an echo on the wrong one is none.
pub async fn echo(sockets: &mut [WebSocket], length: usize) -> u64 {
    let (mut echoed, mut failed) = (0, 0);
    for (number, socket) in sockets.iter_mut().enumerate() {
        let message = format!("{number:>length$}");
        match timeout(DEADLINE, socket.echoes(message.as_bytes())).await {
            Ok(Ok(())) => echoed += 1,
            Ok(Err(_)) | Err(_) => failed += 1,
        }
        if failed > FAILED {
            break;
        }
    }
    echoed
}
