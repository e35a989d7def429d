//! The index page's event stream (server-sent events): the list whenever it has changed. The
//! kernel is only asked while somebody listens.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc::{self, error::SendError},
    time::{Instant, sleep},
};

use super::{Servers, page::rows_html};

/// The type of the stream.
pub const CONTENT_TYPE: &str = "text/event-stream";
/// A new server appears on the page about as fast as a person looks there.
const POLL: Duration = Duration::from_secs(1);
/// Proxies on the way close what is silent for a minute; a browser that is gone is found out.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that wait for a slow reader; then the list waits too.
const BACKLOG: usize = 2;

/// Starts a stream of events, the first at once. It ends when the receiver is dropped.
pub fn events(servers: Arc<Servers>) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(feed(servers, sender));
    receiver
}

/// As [`events`], for whoever keeps track of tasks: runs until the receiver is dropped.
pub async fn feed(servers: Arc<Servers>, events: mpsc::Sender<Bytes>) {
    let mut reader = Reader {
        events,
        shown: None,
        sent: Instant::now(),
    };
    let mut listeners = None;
    loop {
        let now = servers.listeners().await.ok();
        // The list costs a walk over /proc, and titles a request each.
        let changed = now.is_some() && (now != listeners || servers.a_title_is_due());
        let told = match changed {
            true => match servers.list_with_titles().await {
                Ok(list) => {
                    listeners = now;
                    reader.show(rows_html(&list)).await
                }
                // The next look may succeed; the page keeps what it shows.
                Err(_) => reader.keep_alive().await,
            },
            false => reader.keep_alive().await,
        };
        if told.is_err() {
            return;
        }
        tokio::select! {
            () = reader.events.closed() => return,
            () = sleep(POLL) => {}
        }
    }
}

/// One page that is kept current.
struct Reader {
    events: mpsc::Sender<Bytes>,
    shown: Option<String>,
    sent: Instant,
}

impl Reader {
    async fn show(&mut self, html: String) -> Result<(), SendError<Bytes>> {
        if self.shown.as_ref() == Some(&html) {
            return self.keep_alive().await;
        }
        let data = serde_json::json!({ "html": html });
        self.shown = Some(html);
        // JSON has no line ends, so it is one line of data.
        self.send(format!("data: {data}\n\n").into()).await
    }

    async fn keep_alive(&mut self) -> Result<(), SendError<Bytes>> {
        if self.sent.elapsed() < KEEP_ALIVE {
            return Ok(());
        }
        self.send(Bytes::from_static(b": still here\n\n")).await
    }

    async fn send(&mut self, event: Bytes) -> Result<(), SendError<Bytes>> {
        self.sent = Instant::now();
        self.events.send(event).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, time::timeout};

    use super::*;
    use crate::private::Localhost;
    use crate::upstream::owner::Owners;

    fn mine() -> Arc<Servers> {
        let uid = rustix::process::geteuid().as_raw();
        let private = Localhost::new(uid, None, None);
        Arc::new(Servers::new(
            Owners::probe(),
            uid,
            private,
            Vec::new(),
            None,
        ))
    }

    async fn next(events: &mut mpsc::Receiver<Bytes>) -> String {
        let event = timeout(Duration::from_secs(20), events.recv());
        String::from_utf8(event.await.unwrap().unwrap().to_vec()).unwrap()
    }

    /// The HTML of the first event that `holds`.
    async fn until(events: &mut mpsc::Receiver<Bytes>, holds: impl Fn(&str) -> bool) -> String {
        loop {
            let event = next(events).await;
            let Some(data) = event.strip_prefix("data: ") else {
                continue;
            };
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            let html = data["html"].as_str().unwrap();
            if holds(html) {
                return html.to_owned();
            }
        }
    }

    #[tokio::test]
    async fn a_server_appears_and_disappears() {
        let mut events = events(mine());
        next(&mut events).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = format!("\"port/{}/\"", listener.local_addr().unwrap().port());
        until(&mut events, |html| html.contains(&link)).await;
        drop(listener);
        until(&mut events, |html| !html.contains(&link)).await;
    }

    #[tokio::test]
    async fn the_stream_ends_with_its_reader() {
        let (sender, receiver) = mpsc::channel(1);
        let feeding = tokio::spawn(feed(mine(), sender));
        drop(receiver);
        timeout(Duration::from_secs(20), feeding)
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_is_kept_alive() {
        let (events, mut receiver) = mpsc::channel(1);
        let mut reader = Reader {
            events,
            shown: None,
            sent: Instant::now(),
        };
        reader.show("a".into()).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "data: {\"html\":\"a\"}\n\n");
        reader.show("a".into()).await.unwrap();
        assert!(receiver.try_recv().is_err());
        sleep(KEEP_ALIVE).await;
        reader.show("a".into()).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap(), ": still here\n\n");
    }
}
