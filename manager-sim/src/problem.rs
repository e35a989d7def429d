//! What keeps the manager from answering a request: one exhaustive match to a status, a sentence
//! and the next step.

use hpc_proxy::{answer::Answer, route::RouteError, service::Fault};
use http::{
    HeaderValue, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use thiserror::Error;

use crate::{
    auth::{SeveralUsers, SignInError, Ways, header::HeaderError, tokens::Refusal},
    cluster::SshError,
    local_end::DialError,
    names::UserName,
    session::PhaseName,
    wish::Refused,
};

/// Everything that keeps the manager from passing a request on or acting on it.
#[derive(Debug, Error)]
pub enum Problem {
    /// Asked for by a name that is not ours.
    #[error("not a name of this manager")]
    ForeignHost,
    /// Nothing that tells who it is.
    #[error("not signed in")]
    NotSignedIn(Ways),
    /// A field of a front's that signs nobody in.
    #[error(transparent)]
    BadField(#[from] HeaderError),
    /// A token that signs nobody in.
    #[error("an access token was refused")]
    BadToken(#[from] Refusal),
    /// Somebody who has no account here.
    #[error("no account for `{0}`")]
    UnknownUser(UserName),
    /// A sign-in link where there are none.
    #[error("no links are taken")]
    NoLinks,
    /// A sign-in link that is not good (any more).
    #[error("the sign-in link was refused")]
    BadLink(#[source] SignInError),
    /// A ticket for a port's own host that is not good there, or not any more.
    #[error("a ticket was refused")]
    BadTicket,
    /// A session that is not the user's, whether there is such a one or not.
    #[error("not a session of this user")]
    NotYourSession,
    /// A page of another site asks.
    #[error("asked by a page that may not")]
    ForeignPage,
    /// A page asks that does not show to be the manager's own.
    #[error("asked by a page without the key")]
    NotOurPage,
    /// Another user of this machine than the manager's own asks by its socket.
    #[error("asked by another user of this machine")]
    NotTheOwner,
    /// A call by the manager's socket that does not say for which user it is.
    #[error("it is not said for which user")]
    WhichUser,
    /// The browser has sign-ins of several users.
    #[error(transparent)]
    SeveralUsers(#[from] SeveralUsers),
    /// Another user is signed in already.
    #[error("signed in as `{0}`")]
    SignedInAs(UserName),
    /// No such page.
    #[error("no such page")]
    NoSuchPage,
    /// The page does not take the method.
    #[error("the page does not take the method")]
    Method {
        /// Those that it takes.
        allowed: &'static str,
    },
    /// A call's body is not what it should be.
    #[error("the body of the call is malformed")]
    BadCall(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No session, so nothing to pass on to.
    #[error("no session")]
    NoSession,
    /// No session of that name, or not of this user.
    #[error("no such session")]
    NoSuchSession,
    /// As many sessions as one may have.
    #[error("{0} sessions live already")]
    TooMany(usize),
    /// As many streams of events as one may have.
    #[error("{0} streams are open already")]
    TooManyStreams(usize),
    /// A job that asks for what is not allowed.
    #[error("the options of a job were refused")]
    Refused(#[source] Refused),
    /// A session that has no job, and so nothing that it printed.
    #[error("the session has no job")]
    NoJob,
    /// What the job printed cannot be had.
    #[error("the job's output cannot be read")]
    NoLog(#[source] SshError),
    /// A session without hpc-proxy.
    #[error("the session has no proxy")]
    NoProxy,
    /// A session that is not connected yet, or not at the moment.
    #[error("the session is not connected")]
    NotReady {
        /// How far it is.
        phase: PhaseName,
        /// What keeps it.
        trouble: Option<String>,
    },
    /// The path makes no sense.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The request cannot be passed on, or has no answer.
    #[error(transparent)]
    Fault(#[from] Fault<DialError>),
}

impl Problem {
    /// Whether the same request may be answered soon.
    pub fn may_heal(&self) -> bool {
        matches!(self, Self::NotReady { .. } | Self::Fault(Fault::Dial(_)))
    }

    /// The answer to it.
    pub fn answer(&self) -> Answer {
        let with = |status, code, message: &str, hint: &str| Answer {
            status,
            code,
            message: message.to_owned(),
            hint: hint.to_owned(),
            extra: None,
        };
        match self {
            Self::ForeignHost => with(
                StatusCode::MISDIRECTED_REQUEST,
                "foreign-host",
                "This manager does not go by that name.",
                "Open it as http://127.0.0.1 or http://localhost with its port.",
            ),
            Self::NotSignedIn(ways) => Answer {
                extra: ways.tokens.is_some().then_some(CHALLENGE),
                ..with(
                    StatusCode::UNAUTHORIZED,
                    "not-signed-in",
                    "Sign in first.",
                    &how_to_sign_in(ways),
                )
            },
            Self::BadField(error) => field_answer(error),
            Self::BadToken(refusal) => token_answer(*refusal),
            Self::UnknownUser(user) => with(
                StatusCode::FORBIDDEN,
                "unknown-user",
                &format!("You are signed in as {user}, who has no account at this manager."),
                "Whoever runs it adds a `[[user]]` of that name to its configuration.",
            ),
            Self::NoLinks => with(
                StatusCode::FORBIDDEN,
                "no-links",
                "This manager takes no sign-in links.",
                "Whoever runs it allows them with `link` among `identity`.",
            ),
            Self::BadLink(_) => with(
                StatusCode::FORBIDDEN,
                "bad-link",
                "This sign-in link was used already or is too old.",
                "`hpc-manager link` prints a new one.",
            ),
            Self::BadTicket => with(
                StatusCode::FORBIDDEN,
                "bad-ticket",
                "This way to the page was used already, is too old, or leads elsewhere.",
                "Open the page's address once more.",
            ),
            Self::NotYourSession => with(
                StatusCode::FORBIDDEN,
                "not-your-session",
                "You have no such session.",
                "Sessions end, and others have theirs; the manager's page shows yours.",
            ),
            Self::ForeignPage => with(
                StatusCode::FORBIDDEN,
                "foreign-page",
                "This request comes from a page that may not make it.",
                "Calls are made from the manager's own page, with the field `X-Hpc-Manager: 1`.",
            ),
            Self::NotOurPage => with(
                StatusCode::FORBIDDEN,
                "not-our-page",
                "Only the manager's own page may do that.",
                "Open / in the browser. Programs send an access token in `Authorization`.",
            ),
            Self::NotTheOwner => with(
                StatusCode::FORBIDDEN,
                "not-the-owner",
                "This socket is for the user as whom the manager runs.",
                "Run the command as that user, or give `--url` and an access token.",
            ),
            Self::WhichUser => with(
                StatusCode::BAD_REQUEST,
                "which-user",
                "This manager has several users, or none of that name.",
                "Say for whom it is: `--user NAME`.",
            ),
            Self::SeveralUsers(SeveralUsers) => with(
                StatusCode::UNAUTHORIZED,
                "several-users",
                "This browser is signed in as several users at once, so it counts as none.",
                "A page may have done that. Sign out at /logout, delete this site's cookies if that \
                 does not help, and sign in again.",
            ),
            Self::SignedInAs(user) => with(
                StatusCode::CONFLICT,
                "signed-in-as-another",
                &format!("This browser is signed in as {user}."),
                "Sign out first, at /logout; then come again. The link is good still.",
            ),
            Self::NoSuchPage => with(
                StatusCode::NOT_FOUND,
                "no-such-path",
                "There is no such page here.",
                "Your session is at /, the IDE at /code/, dev servers at /port/N/.",
            ),
            Self::Method { allowed } => Answer {
                extra: Some((ALLOW, HeaderValue::from_static(allowed))),
                ..with(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method-not-allowed",
                    "This page does not take that method.",
                    allowed,
                )
            },
            Self::BadCall(error) => with(
                StatusCode::BAD_REQUEST,
                "bad-call",
                "The call cannot be understood.",
                &error.to_string(),
            ),
            Self::NoSession => with(
                StatusCode::NOT_FOUND,
                "no-session",
                "You have no session.",
                "Launch one from the manager's page, at /.",
            ),
            Self::NoSuchSession => with(
                StatusCode::NOT_FOUND,
                "no-such-session",
                "You have no session of that name.",
                "`GET /api/v1/sessions` lists yours, as does the manager's page.",
            ),
            Self::TooMany(most) => with(
                StatusCode::CONFLICT,
                "too-many-sessions",
                &format!("You have {most} sessions, as many as this manager allows."),
                "Cancel one of them first.",
            ),
            Self::TooManyStreams(most) => with(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-streams",
                &format!("You have {most} streams of events open, as many as this manager allows."),
                "Close some pages; until then this one asks every few seconds.",
            ),
            Self::Refused(refused) => with(
                StatusCode::BAD_REQUEST,
                "not-allowed",
                "Your job was not submitted.",
                &refused.to_string(),
            ),
            Self::NoJob => with(
                StatusCode::NOT_FOUND,
                "no-job",
                "There is no job of this session.",
                "What one prints is here once it runs.",
            ),
            Self::NoLog(error) => with(
                StatusCode::BAD_GATEWAY,
                "no-log",
                "What the job printed cannot be read now.",
                &error.to_string(),
            ),
            Self::NoProxy => with(
                StatusCode::NOT_FOUND,
                "no-proxy",
                "This session has no proxy.",
                "Only VS Code sessions have one; other IDEs bring their own.",
            ),
            Self::NotReady { phase, trouble } => with(
                StatusCode::SERVICE_UNAVAILABLE,
                "not-ready",
                in_words(*phase),
                trouble
                    .as_deref()
                    .unwrap_or("This page turns into what you opened once that is there."),
            ),
            Self::Route(error) => hpc_proxy::answer::Problem::Route(error.clone()).answer(&[]),
            Self::Fault(fault) => fault_answer(fault),
        }
    }
}

/// That a token would do (RFC 6750 section 3).
const CHALLENGE: (http::HeaderName, HeaderValue) = (
    WWW_AUTHENTICATE,
    HeaderValue::from_static("Bearer realm=\"hpc-manager\""),
);

fn how_to_sign_in(ways: &Ways) -> String {
    let mut hints = Vec::new();
    if let Some(header) = &ways.header {
        let name = header.name();
        hints.push(format!(
            "Open the manager through its front, which sends `{name}`."
        ));
    }
    if ways.tokens.is_some() {
        hints.push(
            "Give an access token at /login, or as `Authorization: Bearer TOKEN`; `hpc-manager token \
             add` makes one."
                .to_owned(),
        );
    }
    if ways.links {
        hints.push(
            "Open the link that the manager printed; `hpc-manager link` prints a new one."
                .to_owned(),
        );
    }
    hints.join(" Or: ")
}

fn field_answer(error: &HeaderError) -> Answer {
    let (code, message, hint) = match error {
        HeaderError::Foreign { name } => (
            "field-not-trusted",
            format!("`{name}` came from an address that may not say who somebody is."),
            "Open the manager through its front. If that is where this came from, its address belongs \
             into `from` of `[trusted-header]`."
                .to_owned(),
        ),
        HeaderError::Several { name, .. } => (
            "bad-sign-in-field",
            format!("The front says who you are more than once in `{name}`."),
            format!("The front has to remove every `{name}`, and `_` for `-`, that a client sends."),
        ),
        HeaderError::Malformed { name } => (
            "bad-sign-in-field",
            format!("The front does not say who you are in `{name}`: it holds no user's name."),
            format!("The front has to set `{name}` to the name of a `[[user]]`, spelt so."),
        ),
    };
    Answer {
        status: StatusCode::FORBIDDEN,
        code,
        message,
        hint,
        extra: None,
    }
}

fn token_answer(refusal: Refusal) -> Answer {
    let later = |seconds: u64| Some((RETRY_AFTER, HeaderValue::from(seconds)));
    let (status, code, message, hint, extra) = match refusal {
        Refusal::Unknown => (
            StatusCode::UNAUTHORIZED,
            "bad-token",
            "This access token is not good, or not any more.",
            "`hpc-manager token ls` tells which there are; `hpc-manager token add NAME` makes one."
                .to_owned(),
            Some(CHALLENGE),
        ),
        Refusal::TooMany { wait } => {
            let seconds = wait.as_secs() + 1;
            (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-tokens",
                "Too many wrong access tokens came from your address.",
                format!("Try again in {seconds} s."),
                later(seconds),
            )
        }
        Refusal::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "Too many people sign in at the moment.",
            "Try again in a moment.".to_owned(),
            later(2),
        ),
    };
    Answer {
        status,
        code,
        message: message.to_owned(),
        hint,
        extra,
    }
}

fn fault_answer(fault: &Fault<DialError>) -> Answer {
    // What the client did wrong is the same to both hops.
    let of_client = |fault| hpc_proxy::answer::Problem::Fault(fault).answer(&[]);
    let (status, code, message) = match fault {
        Fault::Head(bad) => return of_client(Fault::Head(*bad)),
        Fault::Framing(bad) => return of_client(Fault::Framing(*bad)),
        Fault::Body(bad) => return of_client(Fault::Body(*bad)),
        Fault::Expectation => return of_client(Fault::Expectation),
        Fault::SlowRequest => return of_client(Fault::SlowRequest),
        Fault::Dial(DialError::Impostor(_)) => (
            StatusCode::BAD_GATEWAY,
            "impostor",
            "Your session's proxy is gone, and something else answers in its place.",
        ),
        Fault::Dial(
            DialError::Connect { .. }
            | DialError::NoProof(_)
            | DialError::Slow
            | DialError::NoRandom(_),
        ) => (
            StatusCode::BAD_GATEWAY,
            "tunnel-lost",
            "Your session's proxy cannot be reached.",
        ),
        Fault::Died(_) => (
            StatusCode::BAD_GATEWAY,
            "tunnel-lost",
            "Your session's proxy closed the connection without an answer.",
        ),
        Fault::BadAnswer(_) => (
            StatusCode::BAD_GATEWAY,
            "bad-answer",
            "The answer of your session's proxy is not well-formed.",
        ),
        Fault::Slow => (
            StatusCode::GATEWAY_TIMEOUT,
            "upstream-slow",
            "There was no answer in time.",
        ),
        Fault::UnaskedUpgrade => (
            StatusCode::BAD_GATEWAY,
            "unasked-upgrade",
            "The answer switches to a protocol that nobody asked for.",
        ),
    };
    let hint = "The manager's page, at /, tells how your session stands.".to_owned();
    Answer {
        status,
        code,
        message: message.to_owned(),
        hint,
        extra: None,
    }
}

/// How far a session is, for a person.
pub fn in_words(phase: PhaseName) -> &'static str {
    match phase {
        PhaseName::None => "You have no session.",
        PhaseName::Submitted => "Your session is being submitted.",
        PhaseName::Pending => "Your session waits for its turn on the cluster.",
        PhaseName::Running => "Your session runs; it is being connected.",
        PhaseName::Listening => "Your session is ready; its tunnel is being opened.",
        PhaseName::Connected => "Your session is connected.",
        PhaseName::Cancelling => "Your session is being cancelled.",
        PhaseName::Ended => "Your session has ended.",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io, time::Duration};

    use hpc_proxy::{
        http1::{chunked::BadChunk, framing::BadFraming, head::BadHead},
        link::BadCode,
    };
    use serde_json::Value;

    use super::*;

    /// One of each. A new problem does not compile here until it is among them.
    fn all() -> Vec<Problem> {
        let name = || "X-User".to_owned();
        let io = || io::Error::other("x");
        let faults = [
            Fault::Head(BadHead::StartLine),
            Fault::Head(BadHead::Version),
            Fault::Head(BadHead::TargetTooLong),
            Fault::Head(BadHead::TooLarge),
            Fault::Framing(BadFraming::Both),
            Fault::Framing(BadFraming::UnknownCoding),
            Fault::Body(BadChunk),
            Fault::Expectation,
            Fault::SlowRequest,
            Fault::Dial(DialError::Impostor("x".into())),
            Fault::Dial(DialError::Slow),
            Fault::Died(io()),
            Fault::BadAnswer("x".into()),
            Fault::Slow,
            Fault::UnaskedUpgrade,
        ];
        let mut all = vec![
            Problem::ForeignHost,
            Problem::NotSignedIn(Ways::links()),
            Problem::BadField(HeaderError::Foreign { name: name() }),
            Problem::BadField(HeaderError::Several {
                name: name(),
                count: 2,
            }),
            Problem::BadField(HeaderError::Malformed { name: name() }),
            Problem::BadToken(Refusal::Unknown),
            Problem::BadToken(Refusal::TooMany {
                wait: Duration::ZERO,
            }),
            Problem::BadToken(Refusal::Busy),
            Problem::UnknownUser("alice".parse().unwrap()),
            Problem::NoLinks,
            Problem::BadLink(BadCode.into()),
            Problem::BadTicket,
            Problem::NotYourSession,
            Problem::ForeignPage,
            Problem::NotOurPage,
            Problem::NotTheOwner,
            Problem::WhichUser,
            Problem::SeveralUsers(SeveralUsers),
            Problem::SignedInAs("alice".parse().unwrap()),
            Problem::NoSuchPage,
            Problem::Method { allowed: "GET" },
            Problem::BadCall("x".into()),
            Problem::NoSession,
            Problem::NoSuchSession,
            Problem::TooManyStreams(16),
            Problem::TooMany(1),
            Problem::Refused(Refused::Malformed {
                option: "time",
                why: "x".into(),
            }),
            Problem::NoJob,
            Problem::NoLog(SshError::Spawn(io())),
            Problem::NoProxy,
            Problem::NotReady {
                phase: PhaseName::Pending,
                trouble: None,
            },
            Problem::Route(RouteError::NoSuchPath),
            Problem::Route(RouteError::BadPort("x".into())),
            Problem::Route(RouteError::BadSocket("x".into())),
            Problem::Route(RouteError::Malformed),
        ];
        all.extend(faults.map(Problem::Fault));
        for problem in &all {
            match problem {
                Problem::ForeignHost
                | Problem::NotSignedIn(_)
                | Problem::BadField(_)
                | Problem::BadToken(_)
                | Problem::UnknownUser(_)
                | Problem::NoLinks
                | Problem::BadLink(_)
                | Problem::BadTicket
                | Problem::NotYourSession
                | Problem::ForeignPage
                | Problem::NotOurPage
                | Problem::NotTheOwner
                | Problem::WhichUser
                | Problem::SeveralUsers(_)
                | Problem::SignedInAs(_)
                | Problem::NoSuchPage
                | Problem::Method { .. }
                | Problem::BadCall(_)
                | Problem::NoSession
                | Problem::NoSuchSession
                | Problem::TooManyStreams(_)
                | Problem::TooMany(_)
                | Problem::Refused(_)
                | Problem::NoJob
                | Problem::NoLog(_)
                | Problem::NoProxy
                | Problem::NotReady { .. }
                | Problem::Route(_)
                | Problem::Fault(_) => {}
            }
        }
        all
    }

    #[test]
    fn every_problem_is_documented_and_no_other() {
        let document: Value = serde_json::from_str(include_str!("router/openapi.json")).unwrap();
        let mut documented = BTreeMap::<String, u16>::new();
        for answer in document["components"]["responses"]
            .as_object()
            .unwrap()
            .values()
        {
            let schema = &answer["content"]["application/json"]["schema"];
            for code in schema["allOf"][1]["properties"]["error"]["enum"]
                .as_array()
                .unwrap()
            {
                documented.insert(code.as_str().unwrap().to_owned(), 0);
            }
        }
        let codes = &document["components"]["schemas"]["ErrorCode"]["oneOf"];
        let codes: Vec<_> = codes.as_array().unwrap().iter().collect();
        let described: Vec<_> = codes.iter().filter_map(|it| it["const"].as_str()).collect();
        assert_eq!(described.len(), documented.len(), "each is described once");
        let told = all().into_iter().map(|problem| {
            let answer = problem.answer();
            (answer.code.to_owned(), answer.status.as_u16())
        });
        let told: BTreeMap<_, _> = told.collect();
        let names = |all: &BTreeMap<String, u16>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&told), names(&documented));
        for code in &described {
            assert!(told.contains_key(*code), "{code}");
        }
        // Each belongs to its status.
        for problem in all() {
            let answer = problem.answer();
            let status = answer.status.as_u16().to_string();
            let paths = document["paths"].as_object().unwrap().values();
            let mut places = paths
                .flat_map(|all| all.as_object().unwrap().values())
                .filter_map(|operation| operation["responses"][&status]["$ref"].as_str());
            let place = places
                .next()
                .unwrap_or("#/components/responses/MethodNotAllowed");
            let text = document.pointer(&place[1..]).unwrap()["description"].to_string();
            assert!(
                text.contains(&format!("`{}`", answer.code)),
                "{status} {text}"
            );
        }
    }
}
