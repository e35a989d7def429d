//! The stream by which a page stays current (server-sent events; HTML, section 9.2): how the user's
//! sessions stand and which dev servers they run, whenever that has changed.
//!
//! `EventSource` sends no field of its own, so the page reads it by `fetch`, with its key.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hpc_proxy::{
    http1::head::RequestHead,
    ports::Listening,
    service::{Decision, Page, PageBody},
};
use http::{
    HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Router, api, own_host::Addresses};
use crate::{
    auth::{By, Known, SignedIn},
    names::UserName,
    problem::Problem,
    session::id::SessionId,
    sessions::{Seen, Sessions},
    state::State,
    upstream::Upstream,
    web::Live,
};

/// How soon a change is seen. Looking costs no more than a lock.
const LOOK: Duration = Duration::from_millis(300);
/// How often the proxy is asked for its list, which takes a connection through the tunnel.
const LIST_INTERVAL: Duration = Duration::from_secs(2);
/// How long the first state waits for the first list of them, without which it can be read.
const LIST_PATIENCE: Duration = Duration::from_millis(700);
/// Proxies on the way close what is silent for a minute; a browser that is gone is found out.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After so long a reader asks anew, and is asked anew who it is.
const LONGEST: Duration = Duration::from_secs(600);
/// The same for one whose token is looked at when it asks, and not again.
const LONGEST_OF_TOKEN: Duration = Duration::from_secs(30);
/// Streams of a user at a time; a page without one asks every few seconds instead.
const MOST_STREAMS: usize = 16;
/// Events that wait for a slow reader; then the next waits too.
const BACKLOG: usize = 2;

/// The streams that are open.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    open: Arc<Mutex<HashMap<UserName, usize>>>,
    stop: CancellationToken,
}

/// The place of one among the streams of its user.
#[derive(Debug)]
struct Seat {
    user: UserName,
    open: Arc<Mutex<HashMap<UserName, usize>>>,
}

impl Streams {
    /// Streams that end with `stop`.
    pub fn until(stop: CancellationToken) -> Self {
        let open = Arc::default();
        Self { open, stop }
    }

    fn seat(&self, user: &UserName) -> Option<Seat> {
        let mut open = locked(&self.open);
        let count = open.entry(user.clone()).or_default();
        if *count >= MOST_STREAMS {
            return None;
        }
        *count += 1;
        let (user, open) = (user.clone(), Arc::clone(&self.open));
        Some(Seat { user, open })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = locked(&self.open);
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    /// Opens a stream for somebody who is known.
    pub(super) fn events(
        &self,
        head: &RequestHead,
        who: Known,
        own: &str,
    ) -> Result<Decision<Self>, Problem> {
        if head.method() == b"HEAD" {
            return Ok(Decision::Answer(stream_of(PageBody::Whole(Bytes::new()))));
        }
        let seat = self.streams.seat(&who.user);
        let seat = seat.ok_or(Problem::TooManyStreams(MOST_STREAMS))?;
        let feed = Feed {
            sessions: Arc::clone(&self.sessions),
            signed_in: Arc::clone(&self.signed_in),
            addresses: self.addresses(own),
            who,
            choice: self.choice(&head.fields),
            asked: None,
            _seat: seat,
        };
        let (events, received) = mpsc::channel(BACKLOG);
        let stop = self.streams.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = feed.run(events) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Decision::Answer(stream_of(PageBody::Pieces(received))))
    }
}

fn stream_of(body: PageBody) -> Page {
    let mut page = Response::new(body);
    for (name, value) in [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ] {
        page.headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    // What nginx buffers otherwise (ngx_http_proxy_module, proxy_buffering).
    page.headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    page
}

/// One stream.
struct Feed {
    sessions: Arc<Sessions>,
    signed_in: Arc<SignedIn>,
    addresses: Addresses,
    who: Known,
    choice: Option<SessionId>,
    /// Whose servers were asked for last, and when.
    asked: Option<(Upstream, Instant)>,
    _seat: Seat,
}

impl Feed {
    /// Runs while the reader is there and is who it was.
    async fn run(mut self, events: mpsc::Sender<Bytes>) {
        let begun = Instant::now();
        let (mut shown, mut sent) = (String::new(), Instant::now());
        let longest = match self.who.by {
            By::Bearer => LONGEST_OF_TOKEN,
            By::Header | By::Cookie(_) => LONGEST,
        };
        while begun.elapsed() < longest && self.signed_in.holds(self.who.by, SystemTime::now()) {
            let piece = match self.look(&mut shown).await {
                None if sent.elapsed() >= KEEP_ALIVE => {
                    Some(Bytes::from_static(b": still here\n\n"))
                }
                event => event,
            };
            if let Some(piece) = piece {
                sent = Instant::now();
                if events.send(piece).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = events.closed() => return,
                () = sleep(LOOK) => {}
            }
        }
    }

    /// The event that says what there is to see now, if that is not what is `shown`: so a time of
    /// which a page shows the minutes is news once a minute.
    async fn look(&mut self, shown: &mut String) -> Option<Bytes> {
        let user = self.who.user.clone();
        let seen = self.sessions.selected(&user, self.choice.as_ref());
        let servers = self.list(seen.as_ref()).await;
        let all = self.sessions.list(&user);
        let all: Vec<_> = all.iter().map(|seen| State::of(Some(seen))).collect();
        let live = Live {
            selected: &State::of(seen.as_ref()),
            sessions: &all,
            servers: servers.as_deref(),
        };
        let address = |port| self.addresses.of(seen.as_ref()?, port);
        let html = live.html(&address);
        if html == *shown {
            return None;
        }
        let ports: Option<Vec<_>> = servers.as_deref().map(|servers| {
            let listed = |server| api::Listed::new(server, &address);
            servers.iter().map(listed).collect()
        });
        let data = serde_json::json!({
            "selected": seen.as_ref().map(|seen| &seen.id),
            "sessions": all,
            "ports": ports,
            "html": html,
        });
        *shown = html;
        // JSON has no line ends, so it is one line of data.
        Some(format!("data: {data}\n\n").into())
    }

    /// The servers of the selected session as last heard. They are asked for now and then, and not
    /// waited for once they are known: nothing else is to be late because they are. While a network is
    /// cut, what was last heard stays.
    async fn list(&mut self, seen: Option<&Seen>) -> Option<Vec<Listening>> {
        let upstream = seen?.view.upstream.clone()?;
        self.asked.take_if(|(of, _)| *of != upstream);
        let patience = match &self.asked {
            None => LIST_PATIENCE,
            Some((_, at)) if at.elapsed() >= LIST_INTERVAL => Duration::ZERO,
            Some(_) => return upstream.last_servers(),
        };
        self.asked = Some((upstream.clone(), Instant::now()));
        upstream.servers_soon(patience).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_streams_and_no_more() {
        let (alice, bob): (UserName, UserName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let streams = Streams::default();
        let mut seats: Vec<_> = (0..MOST_STREAMS).map(|_| streams.seat(&alice)).collect();
        assert!(seats.iter().all(Option::is_some));
        assert!(streams.seat(&alice).is_none() && streams.seat(&bob).is_some());
        seats.pop();
        assert!(streams.seat(&alice).is_some());
        seats.clear();
        assert!(locked(&streams.open).is_empty());
    }
}
