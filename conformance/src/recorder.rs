//! A dev server that answers every request with the same bytes and remembers, per connection, all that
//! it was sent.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    peer::{Conn, End, Listener, PATIENCE, Trouble, shortened},
    wire::Message,
};

/// A request for this path is the harness's own question whether a connection is still good.
pub(crate) const PROBE_PATH: &str = "/conformance-probe";
const PROBE_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nprobe";

/// How often a thread of the recorder looks whether it may end.
const TICK: Duration = Duration::from_millis(25);

/// What the server does behind its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum After {
    #[default]
    Keep,
    Close,
    Reset,
}

/// All that came over one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) requests: Vec<Message>,
    /// What came and is no whole request.
    pub(crate) partial: Option<String>,
    /// What came and is no request at all.
    pub(crate) malformed: Option<String>,
    pub(crate) end: Option<End>,
    pub(crate) probes: usize,
}

/// A running server; ends when dropped.
pub(crate) struct Recorder {
    records: Arc<Mutex<Vec<Record>>>,
    stop: Arc<AtomicBool>,
}

impl Recorder {
    pub(crate) fn start(listener: Arc<Listener>, answer: Vec<u8>, after: After) -> Self {
        let records = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (all, ending) = (Arc::clone(&records), Arc::clone(&stop));
        thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                let Ok(Some(conn)) = listener.accept(TICK) else {
                    continue;
                };
                let index = {
                    let mut records = all.lock().unwrap_or_else(PoisonError::into_inner);
                    records.push(Record::default());
                    records.len() - 1
                };
                let keeper = Keeper {
                    all: Arc::clone(&all),
                    index,
                    ending: Arc::clone(&ending),
                };
                let answer = answer.clone();
                thread::spawn(move || keeper.serve(conn, &answer, after));
            }
        });
        Self { records, stop }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Writes one connection's record.
struct Keeper {
    all: Arc<Mutex<Vec<Record>>>,
    index: usize,
    ending: Arc<AtomicBool>,
}

impl Keeper {
    fn note(&self, write: impl FnOnce(&mut Record)) {
        let mut records = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        write(&mut records[self.index]);
    }

    fn serve(&self, mut conn: Conn, answer: &[u8], after: After) {
        loop {
            while conn.unread().is_empty() {
                if self.ending.load(Ordering::Relaxed) {
                    return;
                }
                match conn.end_or_bytes_within(TICK) {
                    Ok(Some(end)) => return self.note(|record| record.end = Some(end)),
                    Ok(None) => {}
                    Err(_) => return self.note(|record| record.end = Some(End::Reset)),
                }
            }
            conn.patience = PATIENCE;
            match conn.request() {
                Ok(request) => {
                    let is_probe = request.head.target() == PROBE_PATH.as_bytes();
                    self.note(|record| match is_probe {
                        true => record.probes += 1,
                        false => record.requests.push(request),
                    });
                    let sent = conn.send(if is_probe { PROBE_ANSWER } else { answer });
                    if sent.is_err() {
                        return self.note(|record| record.end = Some(End::Reset));
                    }
                    match after {
                        After::Keep => {}
                        _ if is_probe => {}
                        After::Close => return,
                        After::Reset => return conn.reset(),
                    }
                }
                Err(Trouble::Ended { end, head, seen }) => {
                    return self.note(|record| {
                        let start = head.map(|head| head.start).unwrap_or_default();
                        record.partial = Some(shortened(&[&start[..], b" ... ", &seen].concat()));
                        record.end = Some(end);
                    });
                }
                Err(Trouble::Silence(seen)) => {
                    return self.note(|record| record.partial = Some(shortened(&seen)));
                }
                Err(error) => {
                    return self.note(|record| record.malformed = Some(error.to_string()));
                }
            }
        }
    }
}
