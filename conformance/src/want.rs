//! What a message must be: compared in substance, that is start line, every field value, the order of
//! fields of one name, body bytes and framing. The case of names and the order between names are free.
//!
//! Some fields a proxy may add of its own accord. Those are left out of the comparison, unless a row
//! names them: see [`MAY_ADD_TO_REQUESTS`] and [`MAY_ADD_TO_ANSWERS`].

use std::collections::BTreeSet;

use crate::{
    stage::Vars,
    wire::{Field, Framing, Head, Message},
};

/// What a proxy may tell a dev server of the hop before it.
pub(crate) const MAY_ADD_TO_REQUESTS: [&str; 5] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "via",
];
/// What a proxy may add to an answer.
pub(crate) const MAY_ADD_TO_ANSWERS: [&str; 2] = ["date", "via"];
/// Judged as framing, not as fields.
const FRAMING_FIELDS: [&str; 2] = ["content-length", "transfer-encoding"];
/// What a proxy may say of its own connection.
const OWN_CONNECTION_OPTIONS: [&str; 3] = ["close", "keep-alive", "te"];

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    No,
    Length,
    Chunked,
    Close,
}

impl From<Framing> for Framed {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::No,
            Framing::Length(_) => Self::Length,
            Framing::Chunked => Self::Chunked,
            Framing::Close => Self::Close,
        }
    }
}

/// The part that requests and answers have in common. Texts are templates, see [`Vars`].
#[derive(Clone, Debug, Default)]
struct Common {
    /// The complete set of fields, or nothing where they are not compared.
    fields: Option<Vec<Vec<u8>>>,
    has: Vec<Vec<u8>>,
    lacks: Vec<&'static str>,
    unlike: Vec<Vec<u8>>,
    holds: Vec<Vec<u8>>,
    body: Option<Vec<u8>>,
    framed: Vec<Framed>,
    trailers: Option<Vec<Vec<u8>>>,
}

/// A request that the dev server must have got.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: Vec<u8>,
    common: Common,
}

/// A request without fields of its own and without a body.
pub(crate) fn request(method: &str, target: impl AsRef<[u8]>) -> Request {
    Request {
        method: method.to_owned(),
        target: target.as_ref().to_vec(),
        common: Common {
            fields: Some(Vec::new()),
            body: Some(Vec::new()),
            framed: vec![Framed::No],
            ..Common::default()
        },
    }
}

/// An answer that the client must have got.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    statuses: Vec<u16>,
    common: Common,
}

/// An answer of the proxy's own with one of these statuses; what it says is its own affair.
pub(crate) fn own(statuses: &[u16]) -> Answer {
    Answer {
        statuses: statuses.to_vec(),
        common: Common::default(),
    }
}

/// A dev server's answer without fields of its own, and with a body of stated length.
pub(crate) fn passed(status: u16, body: impl AsRef<[u8]>) -> Answer {
    Answer {
        statuses: vec![status],
        common: Common {
            fields: Some(Vec::new()),
            body: Some(body.as_ref().to_vec()),
            framed: vec![Framed::Length],
            ..Common::default()
        },
    }
}

macro_rules! common_builders {
    ($type:ty) => {
        #[allow(dead_code, reason = "each side uses its own part of what both share")]
        impl $type {
            /// One more field of the complete set.
            pub(crate) fn field(mut self, line: impl AsRef<[u8]>) -> Self {
                self.common
                    .fields
                    .get_or_insert_default()
                    .push(line.as_ref().to_vec());
                self
            }

            /// More fields of the complete set.
            pub(crate) fn fields(self, lines: &[&str]) -> Self {
                lines.iter().fold(self, |it, line| it.field(line))
            }

            /// Fields beside those that are named are not compared.
            pub(crate) fn any_fields(mut self) -> Self {
                self.common.fields = None;
                self
            }

            /// A field that must be there exactly once with this value, also one that a proxy may add.
            pub(crate) fn has(mut self, line: impl AsRef<[u8]>) -> Self {
                self.common.has.push(line.as_ref().to_vec());
                self
            }

            /// A field that must not be there, also one that a proxy may add.
            pub(crate) fn lacks(mut self, name: &'static str) -> Self {
                self.common.lacks.push(name);
                self
            }

            /// A field that must be there, with another value.
            pub(crate) fn unlike(mut self, line: impl AsRef<[u8]>) -> Self {
                self.common.unlike.push(line.as_ref().to_vec());
                self
            }

            /// A part of a body that is not known as a whole.
            pub(crate) fn holds(mut self, part: impl AsRef<[u8]>) -> Self {
                self.common.holds.push(part.as_ref().to_vec());
                self.common.body = None;
                self
            }

            pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
                self.common.body = Some(body.as_ref().to_vec());
                self
            }

            pub(crate) fn framed(mut self, framed: &[Framed]) -> Self {
                self.common.framed = framed.to_vec();
                self
            }

            pub(crate) fn trailers(mut self, lines: &[&str]) -> Self {
                let lines = lines.iter().map(|line| line.as_bytes().to_vec());
                self.common.trailers = Some(lines.collect());
                self
            }
        }
    };
}
common_builders!(Request);
common_builders!(Answer);

impl Request {
    pub(crate) fn length(self, body: impl AsRef<[u8]>) -> Self {
        self.body(body).framed(&[Framed::Length])
    }

    /// A body that came in chunks: once all of it is known, its length may be told instead (behaviour 66).
    pub(crate) fn chunked(self, body: impl AsRef<[u8]>) -> Self {
        self.body(body).framed(&[Framed::Chunked, Framed::Length])
    }

    /// The differences, or nothing.
    pub(crate) fn differs(&self, got: &Message, vars: &Vars) -> Vec<String> {
        let mut found = Vec::new();
        let start = format!("{} ", self.method).into_bytes();
        let start = [&start[..], &vars.fill(&self.target), b" HTTP/1.1"].concat();
        if got.head.start != start {
            found.push(format!(
                "wanted `{}`, the dev server got `{}`",
                start.escape_ascii(),
                got.head.start.escape_ascii()
            ));
        }
        let hosts: Vec<_> = got.head.all("host").collect();
        let host = vars.host();
        if hosts.len() != 1 || host.as_deref().is_some_and(|host| hosts[0] != host) {
            found.push(format!("its Host was {}", listed(hosts)));
        }
        let adds: Vec<_> = MAY_ADD_TO_REQUESTS
            .iter()
            .copied()
            .chain(["host"])
            .chain(vars.adds())
            .collect();
        if got.extended {
            found.push("a chunk extension was passed on".into());
        }
        self.common.compare(got, &adds, vars, &mut found);
        found
    }
}

impl Answer {
    /// The only status, for reports.
    pub(crate) fn status(&self) -> String {
        let statuses: Vec<_> = self.statuses.iter().map(u16::to_string).collect();
        statuses.join("/")
    }

    /// The differences, or nothing.
    pub(crate) fn differs(&self, got: &Message, vars: &Vars) -> Vec<String> {
        if !self.statuses.contains(&got.head.status()) {
            // The rest belongs to an answer that is another altogether.
            return vec![format!(
                "wanted {}, the client got `{}`",
                self.status(),
                got.head.start.escape_ascii()
            )];
        }
        let mut found = Vec::new();
        let adds: Vec<_> = MAY_ADD_TO_ANSWERS
            .iter()
            .copied()
            .chain(vars.adds_to_answers())
            .collect();
        self.common.compare(got, &adds, vars, &mut found);
        found
    }
}

impl Common {
    fn compare(&self, got: &Message, may_add: &[&str], vars: &Vars, found: &mut Vec<String>) {
        let head = &got.head;
        for name in self.lacks.iter().filter(|name| head.has(name)) {
            found.push(format!(
                "{name} should not be there: {}",
                listed(head.all(name))
            ));
        }
        for line in &self.has {
            let (name, value) = split(&vars.fill(line));
            if head.only(&name) != Some(&value) {
                let seen = listed(head.all(&name));
                found.push(format!(
                    "wanted {name}: `{}`, got {seen}",
                    value.escape_ascii()
                ));
            }
        }
        for line in &self.unlike {
            let (name, value) = split(&vars.fill(line));
            if head.only(&name).is_none_or(|seen| seen == value) {
                let seen = listed(head.all(&name));
                found.push(format!("wanted another {name}, got {seen}"));
            }
        }
        for part in &self.holds {
            let part = vars.fill(part);
            if !got.body.windows(part.len()).any(|window| window == part) {
                found.push(format!(
                    "wanted `{}` in the body, got `{}`",
                    part.escape_ascii(),
                    crate::peer::shortened(&got.body)
                ));
            }
        }
        if let Some(fields) = &self.fields {
            let wanted: Vec<_> = fields.iter().map(|line| split(&vars.fill(line))).collect();
            compare_fields(&wanted, head, may_add, self.trailers.is_some(), found);
        }
        let framed = Framed::from(got.framing);
        if !self.framed.is_empty() && !self.framed.contains(&framed) {
            found.push(format!(
                "wanted its body framed {:?}, got {framed:?}",
                self.framed
            ));
        }
        if let Some(body) = &self.body {
            let body = vars.fill(body);
            if body != got.body {
                found.push(format!(
                    "wanted the body `{}`, got `{}`",
                    crate::peer::shortened(&body),
                    crate::peer::shortened(&got.body)
                ));
            }
        }
        if let Some(trailers) = &self.trailers {
            let wanted: Vec<_> = trailers
                .iter()
                .map(|line| split(&vars.fill(line)))
                .collect();
            let seen: Vec<_> = got.trailers.iter().map(of_field).collect();
            if wanted != seen {
                found.push(format!(
                    "wanted trailers {}, got {}",
                    lines(&wanted),
                    lines(&seen)
                ));
            }
        }
    }
}

fn compare_fields(
    wanted: &[(String, Vec<u8>)],
    head: &Head,
    may_add: &[&str],
    has_trailers: bool,
    found: &mut Vec<String>,
) {
    let seen: Vec<_> = head.fields.iter().map(of_field).collect();
    let names: BTreeSet<_> = wanted
        .iter()
        .chain(&seen)
        .map(|(name, _)| name.as_str())
        .collect();
    for name in names {
        let of = |fields: &[(String, Vec<u8>)]| -> Vec<Vec<u8>> {
            let fields = fields.iter().filter(|(found, _)| found == name);
            fields.map(|(_, value)| value.clone()).collect()
        };
        let (wanted, seen) = (of(wanted), of(&seen));
        let is_free = wanted.is_empty()
            && (FRAMING_FIELDS.contains(&name)
                || may_add.contains(&name)
                || name == "trailer" && has_trailers
                || name == "connection" && seen.iter().all(|value| is_own_connection(value)));
        if !is_free && wanted != seen {
            let wanted = listed(wanted.iter().map(Vec::as_slice));
            let seen = listed(seen.iter().map(Vec::as_slice));
            found.push(format!("wanted {name}: {wanted}, got {seen}"));
        }
    }
}

fn is_own_connection(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').all(|option| {
        let option = option.trim_ascii();
        OWN_CONNECTION_OPTIONS
            .iter()
            .any(|own| option.eq_ignore_ascii_case(own.as_bytes()))
    })
}

/// `Name: value` as a lower-case name and a value.
fn split(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .expect("a wanted field has a colon");
    let name = String::from_utf8_lossy(&line[..colon]).to_lowercase();
    (name, line[colon + 1..].trim_ascii().to_vec())
}

fn of_field(field: &Field) -> (String, Vec<u8>) {
    (field.name.to_lowercase(), field.value.clone())
}

fn lines(fields: &[(String, Vec<u8>)]) -> String {
    let lines = fields
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.escape_ascii()));
    format!("[{}]", lines.collect::<Vec<_>>().join(", "))
}

fn listed<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> String {
    let values: Vec<_> = values
        .into_iter()
        .map(|value| format!("`{}`", crate::peer::shortened(value)))
        .collect();
    if values.is_empty() {
        "none".into()
    } else {
        values.join(" and ")
    }
}
