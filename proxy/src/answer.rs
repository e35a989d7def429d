//! What a person or a program is told when a request cannot be passed on: one exhaustive match
//! from every problem to a status, a sentence and the next step.
//!
//! Internals go to the log, not here. A program gets JSON, a browser a page.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::Full;
use thiserror::Error;

use crate::{
    forward::ForwardError,
    ports::Listening,
    route::{RouteError, TargetPort},
    upstream::DialError,
};

/// Everything that keeps the proxy from passing a request on.
#[derive(Debug, Error)]
pub enum Problem {
    /// No token, or not ours.
    #[error("no valid token")]
    Unauthorised,
    /// A one-time link that is not good any more.
    #[error("a one-time link was refused")]
    BadLink,
    /// The target makes no sense.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// `CONNECT`, `TRACE`, or a method that a page of ours does not have.
    #[error("the method is not allowed here")]
    Method,
    /// The target is this proxy.
    #[error("port `{0}` is the proxy's own")]
    OwnPort(TargetPort),
    /// No connection to the target port.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The exchange with the dev server failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

impl Problem {
    /// The answer to it. `own` are the user's own servers, to pick another from.
    pub fn answer(&self, own: &[Listening]) -> Answer {
        let with = |status, code, message: String, hint: String| Answer {
            status,
            code,
            message,
            hint,
            allow: None,
        };
        match self {
            // Says nothing about routes or ports to somebody unknown (S2).
            Self::Unauthorised => with(
                StatusCode::UNAUTHORIZED,
                "unauthorised",
                "Sign in first.".into(),
                "Open the link that `hpc-proxy url` prints, or come through your manager.".into(),
            ),
            Self::BadLink => with(
                StatusCode::FORBIDDEN,
                "bad-link",
                "This sign-in link was used already or is too old.".into(),
                "Run `hpc-proxy url` for a new one.".into(),
            ),
            Self::Route(RouteError::NoSuchPath) => with(
                StatusCode::NOT_FOUND,
                "no-such-path",
                "There is no such page here.".into(),
                "Dev servers are at /port/N/, for example /port/5500/.".into(),
            ),
            Self::Route(RouteError::BadPort(segment)) => with(
                StatusCode::BAD_REQUEST,
                "bad-port",
                format!("`{segment}` is not a port number from 1 to 65535."),
                "Dev servers are at /port/N/, for example /port/5500/.".into(),
            ),
            Self::Route(RouteError::Malformed) => with(
                StatusCode::BAD_REQUEST,
                "bad-target",
                "The address of this request is malformed.".into(),
                "Dev servers are at /port/N/, for example /port/5500/.".into(),
            ),
            Self::Method => Answer {
                allow: Some(HeaderValue::from_static("GET, HEAD")),
                ..with(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method-not-allowed",
                    "This method is not allowed here.".into(),
                    "CONNECT and TRACE are never passed on; pages of the proxy are only read."
                        .into(),
                )
            },
            Self::OwnPort(port) => with(
                StatusCode::LOOP_DETECTED,
                "own-port",
                format!("Port {port} is this proxy itself."),
                suggestion(own),
            ),
            Self::Dial(error) => dial_answer(error, own),
            Self::Forward(error) => match error {
                ForwardError::Connect(_) => match error.connector_error::<DialError>() {
                    Some(error) => dial_answer(error, own),
                    None => with(
                        StatusCode::BAD_GATEWAY,
                        "upstream-unreachable",
                        "The dev server cannot be reached.".into(),
                        "Is it still running? Its own output tells more.".into(),
                    ),
                },
                ForwardError::Died(_) => with(
                    StatusCode::BAD_GATEWAY,
                    "upstream-died",
                    "The dev server closed the connection without an answer.".into(),
                    "Is it still running? Its own output tells more.".into(),
                ),
                ForwardError::Slow => with(
                    StatusCode::GATEWAY_TIMEOUT,
                    "upstream-slow",
                    "The dev server did not answer in time.".into(),
                    "It may be busy: its own output tells more.".into(),
                ),
                ForwardError::UnaskedUpgrade => with(
                    StatusCode::BAD_GATEWAY,
                    "unasked-upgrade",
                    "The dev server switched to a protocol that nobody asked for.".into(),
                    "Only WebSocket upgrades are passed on.".into(),
                ),
            },
        }
    }
}

fn dial_answer(error: &DialError, own: &[Listening]) -> Answer {
    let (status, code, message, hint) = match error {
        DialError::NothingListens(port) => (
            StatusCode::BAD_GATEWAY,
            "nothing-listens",
            format!("Nothing listens on port {port}."),
            format!("Start your dev server on port {port}. {}", suggestion(own)),
        ),
        DialError::NotYours { port, .. } => (
            StatusCode::FORBIDDEN,
            "not-yours",
            format!("Port {port} on this node belongs to another user."),
            format!("Start your dev server on another port. {}", suggestion(own)),
        ),
        DialError::OwnerUnknown { port, .. } => (
            StatusCode::BAD_GATEWAY,
            "owner-unknown",
            format!("The node does not tell whose port {port} is, so nothing was sent there."),
            "Try again; if it stays so, ask the site about sock_diag and /proc/net.".into(),
        ),
        DialError::Connect { port, .. } => (
            StatusCode::BAD_GATEWAY,
            "upstream-unreachable",
            format!("The dev server on port {port} cannot be reached."),
            "Is it still running? Its own output tells more.".into(),
        ),
        DialError::Slow(port) => (
            StatusCode::GATEWAY_TIMEOUT,
            "upstream-slow",
            format!("The dev server on port {port} does not accept connections."),
            "It may be busy or stopped: its own output tells more.".into(),
        ),
    };
    Answer {
        status,
        code,
        message,
        hint,
        allow: None,
    }
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
    /// A browser says that it takes HTML.
    pub fn of(headers: &HeaderMap) -> Self {
        let takes_html = headers
            .get_all(ACCEPT)
            .iter()
            .any(|value| value.as_bytes().windows(9).any(|part| part == b"text/html"));
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
    /// The methods that a 405 must name.
    pub allow: Option<HeaderValue>,
}

impl Answer {
    /// The response.
    pub fn into_response(self, reader: Reader) -> Response<Full<Bytes>> {
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
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("X-Hpc-Proxy-Token");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        if let Some(methods) = self.allow {
            response.headers_mut().insert(ALLOW, methods);
        }
        response
    }
}

/// A JSON document that nobody may keep.
pub fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    own_response("application/json", value.to_string())
}

/// An HTML page that nobody may keep. `body` is HTML already; `title` is text.
pub fn page(title: &str, body: &str) -> Response<Full<Bytes>> {
    const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:42em;margin:3em auto;\
        padding:0 1em;color:#222;background:#fff}h1{font-size:1.4em}a{color:#0a58ca}\
        td,th{text-align:left;padding:.2em 1em .2em 0}\
        @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8ab4f8}}";
    let title = escape(title);
    own_response(
        "text/html; charset=utf-8",
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <style>{STYLE}</style></head><body>{body}</body></html>\n"
        ),
    )
}

fn own_response(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    // No script and nothing from elsewhere can run in a page of ours (S25).
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'";
    let mut response = Response::new(Full::from(body));
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
    use http_body_util::BodyExt;

    use super::*;

    async fn text(answer: Answer, reader: Reader) -> String {
        let body = answer
            .into_response(reader)
            .into_body()
            .collect()
            .await
            .unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }

    // S25.
    #[tokio::test]
    async fn what_a_client_sent_cannot_become_markup() {
        let hostile = RouteError::BadPort("<script>\"'&".into());
        let page = text(Problem::from(hostile).answer(&[]), Reader::Person).await;
        assert!(page.contains("`&lt;script&gt;&quot;&#39;&amp;`"), "{page}");
        assert!(!page.contains("<script>"), "{page}");
    }

    #[tokio::test]
    async fn a_program_is_told_the_same_in_json() {
        let port = TargetPort::new(5500).unwrap();
        let problem = Problem::from(DialError::NothingListens(port));
        let body = text(problem.answer(&[]), Reader::Program).await;
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
        let port = TargetPort::new(5500).unwrap();
        let answer = Problem::from(DialError::NotYours { port, uid: 2002 }).answer(&own);
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.hint.ends_with(": /port/3000/."), "{}", answer.hint);
        assert!(!format!("{answer:?}").contains("2002"));
    }

    #[test]
    fn a_browser_is_known_by_what_it_accepts() {
        let mut headers = HeaderMap::new();
        assert_eq!(Reader::of(&headers), Reader::Program);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        assert_eq!(Reader::of(&headers), Reader::Program);
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("text/html,application/xml;q=0.9"),
        );
        assert_eq!(Reader::of(&headers), Reader::Person);
    }
}
