//! What a person or a program is told when a request cannot be passed on: one exhaustive match
//! from every problem to a status, a sentence and the next step.
//!
//! Internals go to the log, not here. A program gets JSON, a browser a page.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use thiserror::Error;

use crate::{
    auth::NoRandom,
    http1::{framing::BadFraming, head::BadHead},
    ports::Listening,
    route::{RouteError, TargetPort},
    service::Fault,
    upstream::{DialError, Place},
};

mod waiting;

/// Everything that keeps the proxy from passing a request on.
#[derive(Debug, Error)]
pub enum Problem {
    /// No token, or not ours.
    #[error("no valid token")]
    Unauthorised,
    /// A one-time link that is not good any more.
    #[error("a one-time link was refused")]
    BadLink,
    /// A ticket for a port's own host that is not good there, or not any more.
    #[error("a ticket was refused")]
    BadTicket,
    /// No ticket can be made.
    #[error("there is no ticket to give")]
    NoTicket(#[source] NoRandom),
    /// The target makes no sense.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// `CONNECT`, `TRACE`, or a method that a page of ours does not have.
    #[error("the method is not allowed here")]
    Method,
    /// Asked for by a name that this proxy does not go by.
    #[error("not a name of this proxy")]
    ForeignHost,
    /// A page of another site asks for an upgrade.
    #[error("asked by a page of another site")]
    ForeignPage,
    /// A page at a port's own host wants to read from another port.
    #[error("a page may not read from port `{0}`")]
    OtherPort(TargetPort),
    /// The request has come through here before, and again.
    #[error("the request goes in circles")]
    Loop,
    /// The target is this proxy.
    #[error("port `{0}` is the proxy's own")]
    OwnPort(TargetPort),
    /// A port where no dev server is.
    #[error("port `{0}` is a system port")]
    SystemPort(TargetPort),
    /// The list of servers cannot be had.
    #[error("the node does not list its sockets")]
    NoList(#[source] std::io::Error),
    /// The request cannot be passed on, or has no answer.
    #[error(transparent)]
    Fault(#[from] Fault<DialError>),
}

impl From<DialError> for Problem {
    fn from(error: DialError) -> Self {
        Self::Fault(Fault::Dial(error))
    }
}

impl Problem {
    /// The answer to it. `own` are the user's own servers, to pick another from.
    pub fn answer(&self, own: &[Listening]) -> Answer {
        match self {
            // Says nothing about routes or ports to somebody unknown (S2).
            Self::Unauthorised => Answer {
                extra: Some((
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("X-Hpc-Proxy-Token"),
                )),
                ..with(
                    StatusCode::UNAUTHORIZED,
                    "unauthorised",
                    "Sign in first.",
                    "Open the link that `hpc-proxy url` prints, or come through your manager.",
                )
            },
            Self::BadLink => with(
                StatusCode::FORBIDDEN,
                "bad-link",
                "This sign-in link was used already or is too old.",
                "Run `hpc-proxy url` for a new one.",
            ),
            Self::BadTicket => with(
                StatusCode::FORBIDDEN,
                "bad-ticket",
                "This way to the page was used already, is too old, or leads elsewhere.",
                "Open the page's address once more.",
            ),
            Self::NoTicket(_) => with(
                StatusCode::SERVICE_UNAVAILABLE,
                "no-ticket",
                "The node has no random bytes at the moment.",
                "Try again.",
            ),
            Self::Route(error) => route_answer(error),
            Self::Method => Answer {
                extra: Some((ALLOW, HeaderValue::from_static("GET, HEAD"))),
                ..with(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method-not-allowed",
                    "This method is not allowed here.",
                    "CONNECT and TRACE are never passed on; pages of the proxy are only read.",
                )
            },
            Self::ForeignHost => with(
                StatusCode::MISDIRECTED_REQUEST,
                "foreign-host",
                "This proxy does not go by that name.",
                "Open it as http://localhost with its port.",
            ),
            Self::ForeignPage => with(
                StatusCode::FORBIDDEN,
                "foreign-page",
                "This connection was asked for by a page of another site.",
                "Only pages that came through this proxy may connect to your dev servers.",
            ),
            Self::OtherPort(port) => with(
                StatusCode::FORBIDDEN,
                "other-port",
                format!("A page of another port may not read from the server on port {port}."),
                "Across hosts it may open WebSockets, scripts, styles and pictures, as on localhost. \
                 Opened below /port/N/ it may read.",
            ),
            Self::Loop => with(
                StatusCode::LOOP_DETECTED,
                "loop",
                "This request goes in circles.",
                "Does the server on that port forward to this proxy?",
            ),
            Self::OwnPort(port) => with(
                StatusCode::LOOP_DETECTED,
                "own-port",
                format!("Port {port} is this proxy itself."),
                suggestion(own),
            ),
            Self::SystemPort(port) => with(
                StatusCode::FORBIDDEN,
                "system-port",
                format!("Port {port} is for services of the system."),
                "Dev servers have ports from 1024; `--low-ports` lets others through.",
            ),
            Self::NoList(_) => with(
                StatusCode::BAD_GATEWAY,
                "no-list",
                "The node does not tell which servers are yours.",
                "Run `hpc-proxy doctor` on the node.",
            ),
            Self::Fault(fault) => fault_answer(fault, own),
        }
    }

    /// Whether the same request may find a server soon: one that starts, or starts anew.
    pub fn may_heal(&self) -> bool {
        matches!(
            self,
            Self::Fault(Fault::Dial(
                DialError::NothingListens(_) | DialError::Connect { .. }
            ))
        )
    }

    /// Whether a list of the user's own servers helps with it.
    pub fn wants_list(&self) -> bool {
        matches!(self, Self::OwnPort(_) | Self::Fault(Fault::Dial(_)))
    }
}

fn with(
    status: StatusCode,
    code: &'static str,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Answer {
    Answer {
        status,
        code,
        message: message.into(),
        hint: hint.into(),
        extra: None,
    }
}

fn route_answer(error: &RouteError) -> Answer {
    const HINT: &str = "Dev servers are at /port/N/, for example /port/5500/.";
    let (status, code, message) = match error {
        RouteError::NoSuchPath => (
            StatusCode::NOT_FOUND,
            "no-such-path",
            "There is no such page here.".to_owned(),
        ),
        RouteError::BadPort(segment) => (
            StatusCode::BAD_REQUEST,
            "bad-port",
            format!("`{segment}` is not a port number from 1 to 65535."),
        ),
        RouteError::BadSocket(segment) => (
            StatusCode::BAD_REQUEST,
            "bad-socket",
            format!("`{segment}` is not the name of a socket."),
        ),
        RouteError::Malformed => (
            StatusCode::BAD_REQUEST,
            "bad-target",
            "The address of this request is malformed.".to_owned(),
        ),
    };
    with(status, code, message, HINT)
}

fn fault_answer(fault: &Fault<DialError>, own: &[Listening]) -> Answer {
    const RUNNING: &str = "Is it still running? Its own output tells more.";
    const CLIENT: &str = "The program that sent it has to be mended.";
    match fault {
        Fault::Head(BadHead::TargetTooLong) => with(
            StatusCode::URI_TOO_LONG,
            "target-too-long",
            "The address of this request is too long.",
            "16 KiB are taken; send more in the body.",
        ),
        Fault::Head(BadHead::TooLarge) => with(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "fields-too-large",
            "The header of this request is too large.",
            "100 fields and 64 KiB are taken. Too many cookies? Remove those of this site.",
        ),
        Fault::Head(BadHead::Version) => with(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "bad-version",
            "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
            CLIENT,
        ),
        Fault::Framing(BadFraming::UnknownCoding) => with(
            StatusCode::NOT_IMPLEMENTED,
            "unknown-coding",
            "The body of this request is coded in a way that is not understood here.",
            CLIENT,
        ),
        Fault::Head(BadHead::StartLine | BadHead::FieldLine)
        | Fault::Framing(BadFraming::Both | BadFraming::Length | BadFraming::Coding)
        | Fault::Body(_) => with(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "This is not a well-formed request.",
            CLIENT,
        ),
        Fault::Expectation => with(
            StatusCode::EXPECTATION_FAILED,
            "expectation",
            "What this request expects cannot be met.",
            "Only `100-continue` can be expected.",
        ),
        Fault::SlowRequest => with(
            StatusCode::REQUEST_TIMEOUT,
            "slow-request",
            "The request did not come in time.",
            "Try again.",
        ),
        Fault::Dial(error) => dial_answer(error, own),
        Fault::Died(_) => with(
            StatusCode::BAD_GATEWAY,
            "upstream-died",
            "The dev server closed the connection without an answer.",
            RUNNING,
        ),
        Fault::BadAnswer(_) => with(
            StatusCode::BAD_GATEWAY,
            "bad-answer",
            "The dev server's answer is not well-formed HTTP.",
            "Does it speak plain HTTP/1? Its own output tells more.",
        ),
        Fault::Slow => with(
            StatusCode::GATEWAY_TIMEOUT,
            "upstream-slow",
            "The dev server did not answer in time.",
            "It may be busy: its own output tells more.",
        ),
        Fault::UnaskedUpgrade => with(
            StatusCode::BAD_GATEWAY,
            "unasked-upgrade",
            "The dev server switched to a protocol that nobody asked for.",
            "Only WebSocket upgrades are passed on; `--upgrade` adds others.",
        ),
    }
}

fn dial_answer(error: &DialError, own: &[Listening]) -> Answer {
    match error {
        DialError::NothingListens(place) => with(
            StatusCode::BAD_GATEWAY,
            "nothing-listens",
            format!("Nothing listens on {place}."),
            format!("Start your dev server on {place}. {}", suggestion(own)),
        ),
        DialError::NotYours { place, .. } => with(
            StatusCode::FORBIDDEN,
            "not-yours",
            format!("{} on this node belongs to another user.", capital(place)),
            format!("Start your dev server elsewhere. {}", suggestion(own)),
        ),
        DialError::OpenDirectory(directory) => with(
            StatusCode::FORBIDDEN,
            "open-directory",
            format!(
                "`{}` is not a directory of yours alone.",
                directory.display()
            ),
            "Make it so: it must belong to you and have mode 0700.",
        ),
        DialError::OwnerUnknown { place, .. } => with(
            StatusCode::BAD_GATEWAY,
            "owner-unknown",
            format!("The node does not tell whose {place} is, so nothing was sent there."),
            "Try again; if it stays so, run `hpc-proxy doctor` on the node.",
        ),
        DialError::Connect { place, .. } => with(
            StatusCode::BAD_GATEWAY,
            "upstream-unreachable",
            format!("The dev server on {place} cannot be reached."),
            "Is it still running? Its own output tells more.",
        ),
        DialError::Exhausted { .. } => with(
            StatusCode::SERVICE_UNAVAILABLE,
            "exhausted",
            "There are too many connections at the moment.",
            "Close some pages and try again; `hpc-proxy doctor` tells the limits of the node.",
        ),
        DialError::Slow(place) => with(
            StatusCode::GATEWAY_TIMEOUT,
            "upstream-slow",
            format!("The dev server on {place} does not accept connections."),
            "It may be busy or stopped: its own output tells more.",
        ),
    }
}

fn capital(place: &Place) -> String {
    let text = place.to_string();
    text[..1].to_uppercase() + &text[1..]
}

fn suggestion(own: &[Listening]) -> String {
    let ports: Vec<String> = own
        .iter()
        .filter(|server| server.in_session)
        .map(|server| format!("/port/{}/", server.port))
        .collect();
    if ports.is_empty() {
        "No other dev server runs in this session.".into()
    } else {
        format!("Your dev servers in this session: {}.", ports.join(", "))
    }
}

/// Who reads the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A browser: a page.
    Person,
    /// Anything else: JSON.
    Program,
}

impl Reader {
    /// A browser says in `Accept` that it takes HTML.
    pub fn of<'a>(mut accepted: impl Iterator<Item = &'a [u8]>) -> Self {
        let takes_html = accepted.any(|value| value.windows(9).any(|part| part == b"text/html"));
        if takes_html {
            Self::Person
        } else {
            Self::Program
        }
    }
}

/// A status, a stable code for programs, a sentence for people and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// Stable, for programs.
    pub code: &'static str,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// A field that belongs to the status.
    pub extra: Option<(HeaderName, HeaderValue)>,
}

impl Answer {
    /// The response.
    pub fn into_response(self, reader: Reader) -> Response<Bytes> {
        let mut response = match reader {
            Reader::Person => page(
                &self.message,
                &format!(
                    "<h1>{}</h1><p>{}</p>",
                    escape(&self.message),
                    escape(&self.hint)
                ),
            ),
            Reader::Program => json(&serde_json::json!({
                "error": self.code,
                "message": self.message,
                "hint": self.hint,
            })),
        };
        *response.status_mut() = self.status;
        if let Some((name, value)) = self.extra {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Counts in the text format of Prometheus, version 0.0.4.
pub fn counts(text: String) -> Response<Bytes> {
    let mut page = Response::new(Bytes::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    page.headers_mut().insert(CONTENT_TYPE, kind);
    page
}

/// A JSON document that nobody may keep.
pub fn json(value: &serde_json::Value) -> Response<Bytes> {
    own_response("application/json", value.to_string())
}

/// An HTML page that nobody may keep. `body` is HTML already; `title` is text.
pub fn page(title: &str, body: &str) -> Response<Bytes> {
    own_response("text/html; charset=utf-8", document(title, "", body))
}

/// The text of a page; `head` is HTML too.
fn document(title: &str, head: &str, body: &str) -> String {
    const STYLE: &str = ":root{color-scheme:light dark}\
        body{font:16px/1.5 system-ui,sans-serif;max-width:42em;margin:3em auto;\
        padding:0 1em;color:#222;background:#fff;overflow-wrap:anywhere}h1{font-size:1.4em}a{color:#0a58ca}\
        td,th{text-align:left;padding:.2em 1em .2em 0}\
        @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8ab4f8}}";
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">{head}<title>{title}</title>\
         <style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )
}

fn own_response(content_type: &'static str, body: String) -> Response<Bytes> {
    // No script and nothing from elsewhere can run in a page of ours (S25).
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'";
    let mut response = Response::new(Bytes::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// `text` as it may stand in HTML, between tags or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: Answer, reader: Reader) -> String {
        String::from_utf8(answer.into_response(reader).into_body().to_vec()).unwrap()
    }

    fn place() -> Place {
        Place::Port(TargetPort::new(5500).unwrap())
    }

    // S25.
    #[test]
    fn what_a_client_sent_cannot_become_markup() {
        let hostile = RouteError::BadPort("<script>\"'&".into());
        let page = text(Problem::from(hostile).answer(&[]), Reader::Person);
        assert!(page.contains("`&lt;script&gt;&quot;&#39;&amp;`"), "{page}");
        assert!(!page.contains("<script>"), "{page}");
    }

    #[test]
    fn a_program_is_told_the_same_in_json() {
        let problem = Problem::from(DialError::NothingListens(place()));
        let body = text(problem.answer(&[]), Reader::Program);
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(told["error"], "nothing-listens");
        assert_eq!(told["message"], "Nothing listens on port 5500.");
    }

    // S4.
    #[test]
    fn a_strangers_port_is_answered_with_ones_own() {
        let elsewhere = Listening {
            in_session: false,
            ..Listening::example(4000)
        };
        let own = [Listening::example(3000), elsewhere];
        let stranger = DialError::NotYours {
            place: place(),
            uid: 2002,
        };
        let answer = Problem::from(stranger).answer(&own);
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.hint.ends_with(": /port/3000/."), "{}", answer.hint);
        assert!(!format!("{answer:?}").contains("2002"));
    }

    #[test]
    fn a_browser_is_known_by_what_it_accepts() {
        let of = |accepted: &[&[u8]]| Reader::of(accepted.iter().copied());
        assert_eq!(of(&[]), Reader::Program);
        assert_eq!(of(&[b"*/*"]), Reader::Program);
        assert_eq!(of(&[b"text/html,application/xml;q=0.9"]), Reader::Person);
    }
}
