//! What the client of an exchange saw.

use std::fmt::{self, Write as _};

use crate::{
    peer::{Conn, End, Trouble, shortened},
    wire::{Head, Message},
};

pub(super) fn told(message: &Message) -> String {
    let Head { start, fields } = &message.head;
    let mut text = format!("`{}", shortened(start));
    for field in fields {
        let _ = write!(text, " | {}: {}", field.name, shortened(&field.value));
    }
    let _ = write!(text, " || {}`", shortened(&message.body));
    text
}

/// What the client saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) interims: Vec<Message>,
    pub(super) answers: Vec<Message>,
    /// A part of an answer that was never finished.
    pub(super) cut: Option<String>,
    pub(super) malformed: Option<String>,
    pub(super) said_close: bool,
    pub(super) end: Option<End>,
    /// Whether another request was answered over the same connection.
    pub(super) is_open: bool,
    pub(super) extra: Vec<u8>,
}

impl Seen {
    /// Reads one answer; whether there can be another.
    pub(super) fn take(&mut self, conn: &mut Conn, method: &str) -> bool {
        match conn.answer(method) {
            Ok(message) if message.head.status() < 200 && message.head.status() != 101 => {
                self.interims.push(message);
                return true;
            }
            Ok(message) => {
                self.answers.push(message);
                return true;
            }
            Err(Trouble::Ended { end, head, seen }) => {
                self.end = Some(end);
                let start = head.map(|head| head.start).unwrap_or_default();
                if !start.is_empty() || !seen.is_empty() {
                    self.cut = Some(shortened(&[&start[..], b" ... ", &seen].concat()));
                }
            }
            Err(Trouble::Silence(seen)) => {
                self.malformed = Some(format!("no answer in time, `{}` so far", shortened(&seen)));
            }
            Err(Trouble::Io(_)) => self.end = Some(End::Reset),
            Err(Trouble::Malformed(fault)) => self.malformed = Some(fault.to_string()),
        }
        false
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for answer in self.interims.iter().chain(&self.answers) {
            write!(f, "{} ", told(answer))?;
        }
        if let Some(cut) = &self.cut {
            write!(f, "partly `{cut}` ")?;
        }
        if let Some(malformed) = &self.malformed {
            write!(f, "{malformed} ")?;
        }
        match (self.is_open, self.end) {
            (true, _) => write!(f, "open"),
            (false, Some(end)) => write!(f, "ended {end:?}"),
            (false, None) => write!(f, "not ended"),
        }
    }
}
