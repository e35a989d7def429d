//! One client connection against a recording dev server: what is sent, what is answered, and the
//! outcomes that are accepted, the strictest first.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

mod outcome;
mod seen;

use crate::{
    peer::{End, Trouble},
    recorder::{After, PROBE_PATH, Record, Recorder},
    row::Met,
    stage::Stage,
};

pub(crate) use outcome::{Outcome, answered, cut, forwarded, gets, refused};
use seen::{Seen, told};

/// What a dev server answers where the row is about something else.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// How long stray bytes and connections get to show up.
const SETTLE: Duration = Duration::from_millis(25);
/// How long the dev server's side gets to become what it must be.
const AFTERMATH: Duration = Duration::from_millis(1500);

/// What a row does.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    sends: Vec<u8>,
    half_closes: bool,
    resets: bool,
    answer: Vec<u8>,
    after: After,
    /// Whether a second request asks if the connection is still good.
    probes: bool,
    pub(crate) without_auth: bool,
    outcomes: Vec<Outcome>,
}

/// Begins a row: the client sends these bytes.
pub(crate) fn sends(bytes: impl AsRef<[u8]>) -> Exchange {
    Exchange {
        sends: bytes.as_ref().to_vec(),
        half_closes: false,
        resets: false,
        answer: OK.into(),
        after: After::Keep,
        probes: true,
        without_auth: false,
        outcomes: Vec::new(),
    }
}

impl Exchange {
    /// The dev server answers with these bytes.
    pub(crate) fn answer(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.answer = bytes.as_ref().to_vec();
        self
    }

    /// The dev server does this behind its answer.
    pub(crate) fn then(mut self, after: After) -> Self {
        self.after = after;
        self
    }

    /// The client sends no more.
    pub(crate) fn half_closes(mut self) -> Self {
        self.half_closes = true;
        self.probes = false;
        self
    }

    /// The client resets the connection once it has sent.
    pub(crate) fn resets(mut self) -> Self {
        self.resets = true;
        self.probes = false;
        self
    }

    /// Played against a proxy that asks for no token.
    pub(crate) fn without_auth(mut self) -> Self {
        self.without_auth = true;
        self
    }

    /// One more accepted outcome; the first is the aim.
    pub(crate) fn or(mut self, outcome: Outcome) -> Self {
        self.outcomes.push(outcome);
        self
    }

    /// The only accepted outcome, or the aim of several.
    pub(crate) fn wants(self, outcome: Outcome) -> Self {
        self.or(outcome)
    }

    /// Plays it and says which outcome was met.
    pub(crate) fn play(&self, stage: &Stage) -> Result<Met> {
        let vars = &stage.vars;
        let recorder = Recorder::start(stage.listener(), vars.fill(&self.answer), self.after);
        let seen = self.client(stage)?;
        thread::sleep(SETTLE);
        let deadline = Instant::now() + AFTERMATH;
        loop {
            let records = recorder.records();
            let judged: Vec<_> = self
                .outcomes
                .iter()
                .map(|it| it.differs(&seen, &records, vars))
                .collect();
            let met = judged.iter().position(Vec::is_empty);
            match met {
                Some(0) if self.outcomes.len() == 1 => return Ok(Met::Pass),
                Some(0) => return Ok(Met::Aim),
                Some(other) => return Ok(Met::Other(self.outcomes[other].name.into())),
                None if Instant::now() >= deadline => {
                    bail!("{}", self.report(&judged, &seen, &records));
                }
                None => thread::sleep(SETTLE),
            }
        }
    }

    fn client(&self, stage: &Stage) -> Result<Seen> {
        let vars = &stage.vars;
        let bytes = vars.fill(&self.sends);
        let mut conn = stage.connect()?;
        // A proxy may have refused it before it has all.
        let _ = conn.send(&bytes);
        let mut seen = Seen::default();
        if self.resets {
            // What the proxy has read it has begun to act upon.
            thread::sleep(2 * SETTLE);
            conn.reset();
            seen.end = Some(End::Reset);
            return Ok(seen);
        }
        if self.half_closes {
            let _ = conn.fin();
        }
        let most = self
            .outcomes
            .iter()
            .map(Outcome::answer_count)
            .max()
            .unwrap_or(1);
        let mut method = first_word(&bytes);
        while seen.answers.len() < most {
            if !seen.take(&mut conn, &method) {
                return Ok(seen);
            }
            method = "GET".into();
        }
        seen.said_close = seen
            .answers
            .last()
            .is_some_and(|answer| answer.head.says_close());
        if seen.said_close || !self.probes {
            seen.end = conn.end_within(AFTERMATH)?;
            seen.extra = conn.unread().to_vec();
            return Ok(seen);
        }
        let probe = format!("GET {{P}}{PROBE_PATH} HTTP/1.1\r\n{{H}}\r\n");
        let _ = conn.send(vars.fill(probe));
        match conn.answer("GET") {
            Ok(answer) if answer.head.status() == 200 && answer.body == b"probe" => {
                seen.is_open = true;
            }
            Ok(answer) => seen.malformed = Some(format!("the next answer was {}", told(&answer))),
            Err(Trouble::Ended {
                end,
                head: None,
                seen: rest,
            }) => {
                seen.end = Some(end);
                seen.extra = rest;
            }
            Err(Trouble::Io(_)) => seen.end = Some(End::Reset),
            Err(error) => seen.malformed = Some(format!("next, {error}")),
        }
        Ok(seen)
    }

    fn report(&self, judged: &[Vec<String>], seen: &Seen, records: &[Record]) -> String {
        let mut text = String::new();
        for (outcome, differences) in self.outcomes.iter().zip(judged) {
            let _ = write!(text, "not {}: {}. ", outcome.name, differences.join("; "));
        }
        let _ = write!(text, "Client: {seen}. Dev server:");
        if records.is_empty() {
            text.push_str(" untouched");
        }
        for record in records {
            let _ = write!(text, " [");
            for request in &record.requests {
                let _ = write!(text, "{} ", told(request));
            }
            for (name, rest) in [
                ("partly", &record.partial),
                ("malformed", &record.malformed),
            ] {
                if let Some(rest) = rest {
                    let _ = write!(text, "{name} `{rest}` ");
                }
            }
            let _ = match record.end {
                Some(end) => write!(text, "ended {end:?}]"),
                None => write!(text, "open]"),
            };
        }
        text
    }
}

fn first_word(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
