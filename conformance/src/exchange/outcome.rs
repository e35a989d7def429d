//! How an exchange may end, and whether it did.

use super::seen::{Seen, told};
use crate::{
    peer::shortened,
    recorder::Record,
    stage::Vars,
    want::{Answer, Request, own, passed},
};

/// One of the ends that a row accepts.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(super) name: &'static str,
    client: Client,
    ends: Ends,
    server: Server,
    /// Whether the connection to the dev server must not carry another request.
    retires: bool,
}

#[derive(Clone, Debug)]
enum Client {
    /// These answers, complete, in order.
    Answers(Vec<Answer>),
    /// No answer, or the part of one, and the end of the connection.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Open,
    Closed,
    Either,
}

#[derive(Clone, Debug)]
enum Server {
    /// Not one connection.
    Untouched,
    /// No complete request, and no connection left that waits for the rest of one.
    Aborted,
    Got(Vec<Request>),
    Anything,
}

/// The proxy answers by itself, closes, and the dev server hears nothing.
pub(crate) fn refused(statuses: &[u16]) -> Outcome {
    Outcome {
        name: "refused",
        client: Client::Answers(vec![own(statuses)]),
        ends: Ends::Closed,
        server: Server::Untouched,
        retires: false,
    }
}

/// The proxy answers so by itself; the connection may go on.
pub(crate) fn answered(answer: Answer) -> Outcome {
    Outcome {
        name: "answered",
        client: Client::Answers(vec![answer]),
        ends: Ends::Either,
        server: Server::Untouched,
        retires: false,
    }
}

/// The dev server gets this, and the client its plain answer; the connection goes on.
pub(crate) fn forwarded(request: Request) -> Outcome {
    Outcome {
        name: "forwarded",
        client: Client::Answers(vec![passed(200, "ok")]),
        ends: Ends::Open,
        server: Server::Got(vec![request]),
        retires: false,
    }
}

/// The client gets this answer, whatever the request looked like; the connection goes on.
pub(crate) fn gets(answer: Answer) -> Outcome {
    Outcome {
        name: "passed on",
        client: Client::Answers(vec![answer]),
        ends: Ends::Open,
        server: Server::Anything,
        retires: false,
    }
}

/// The client gets no complete answer and is cut off.
pub(crate) fn cut() -> Outcome {
    Outcome {
        name: "aborted",
        client: Client::Cut,
        ends: Ends::Closed,
        server: Server::Anything,
        retires: false,
    }
}

impl Outcome {
    /// What the table says when this one of several was met.
    pub(crate) fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    pub(crate) fn answers(mut self, answers: Vec<Answer>) -> Self {
        self.client = Client::Answers(answers);
        self
    }

    pub(crate) fn got(mut self, requests: Vec<Request>) -> Self {
        self.server = Server::Got(requests);
        self
    }

    pub(crate) fn open(mut self) -> Self {
        self.ends = Ends::Open;
        self
    }

    pub(crate) fn closed(mut self) -> Self {
        self.ends = Ends::Closed;
        self
    }

    pub(crate) fn open_or_closed(mut self) -> Self {
        self.ends = Ends::Either;
        self
    }

    /// The dev server may have heard a part, but no whole request.
    pub(crate) fn aborted_upstream(mut self) -> Self {
        self.server = Server::Aborted;
        self
    }

    pub(crate) fn anything_upstream(mut self) -> Self {
        self.server = Server::Anything;
        self
    }

    /// The next request must come over another connection.
    pub(crate) fn retires_upstream(mut self) -> Self {
        self.retires = true;
        self
    }
}

impl Outcome {
    pub(super) fn answer_count(&self) -> usize {
        match &self.client {
            Client::Answers(answers) => answers.len(),
            Client::Cut => 1,
        }
    }

    pub(super) fn differs(&self, seen: &Seen, records: &[Record], vars: &Vars) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(seen.malformed.clone());
        if let Some(interim) = seen.interims.first() {
            found.push(format!(
                "an interim answer that nobody sent: {}",
                told(interim)
            ));
        }
        if !seen.extra.is_empty() {
            found.push(format!(
                "behind the answer came `{}`",
                shortened(&seen.extra)
            ));
        }
        match &self.client {
            Client::Cut if !seen.answers.is_empty() => {
                found.push("the client got a complete answer".into());
            }
            Client::Cut => {}
            Client::Answers(answers) => {
                if answers.len() != seen.answers.len() {
                    let wanted: Vec<_> = answers.iter().map(Answer::status).collect();
                    let wanted = wanted.join(", ");
                    let count = seen.answers.len();
                    found.push(format!("wanted {wanted}, the client got {count} answers"));
                }
                for (wanted, got) in answers.iter().zip(&seen.answers) {
                    found.extend(wanted.differs(got, vars));
                }
            }
        }
        match self.ends {
            Ends::Open if !seen.is_open => found.push("the client's connection ended".into()),
            Ends::Closed if seen.is_open => {
                found.push("the client's connection stayed open".into());
            }
            Ends::Closed if seen.end.is_none() && seen.malformed.is_none() => {
                found.push("the client's connection was not ended".into());
            }
            Ends::Either if seen.said_close && seen.end.is_none() => {
                found.push("the answer said close and the connection was not ended".into());
            }
            _ => {}
        }
        self.server_differs(records, vars, &mut found);
        found
    }

    fn server_differs(&self, records: &[Record], vars: &Vars, found: &mut Vec<String>) {
        for malformed in records
            .iter()
            .filter_map(|record| record.malformed.as_ref())
        {
            found.push(format!("the dev server got no HTTP: {malformed}"));
        }
        let got: Vec<_> = records.iter().flat_map(|record| &record.requests).collect();
        // A connection that carried nothing but the harness's own question does not count.
        let touched = records
            .iter()
            .filter(|it| it.probes == 0 || !it.requests.is_empty());
        match &self.server {
            Server::Anything => {}
            Server::Untouched => {
                if touched.count() > 0 {
                    found.push("the dev server was reached".into());
                }
            }
            Server::Aborted => {
                if !got.is_empty() {
                    found.push("the dev server got a complete request".into());
                }
                if touched.filter(|record| record.end.is_none()).count() > 0 {
                    found.push("the dev server is left waiting".into());
                }
            }
            Server::Got(wanted) => {
                if wanted.len() != got.len() {
                    let count = got.len();
                    let wanted = wanted.len();
                    found.push(format!(
                        "wanted {wanted} requests, the dev server got {count}"
                    ));
                }
                for (wanted, got) in wanted.iter().zip(&got) {
                    found.extend(wanted.differs(got, vars));
                }
                if let Some(rest) = records.iter().find_map(|record| record.partial.as_ref()) {
                    found.push(format!("the dev server got `{rest}` besides"));
                }
            }
        }
        let is_reused = |record: &&Record| record.probes > 0 && !record.requests.is_empty();
        if self.retires && records.iter().find(is_reused).is_some() {
            found.push("the connection to the dev server was used again".into());
        }
    }
}
