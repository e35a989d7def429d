//! The seam between how messages move ([`crate::accept`] and below) and what a proxy decides: who
//! is served, what goes where, and what an answer says.

use std::{error::Error, fmt, future::Future, hash::Hash, net::IpAddr};

use bytes::Bytes;
use http::Response;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    http1::{
        chunked::BadChunk,
        fields::Fields,
        framing::{BadFraming, Framing},
        head::{BadHead, RequestHead, ResponseHead},
    },
    socket::Socket,
    transform::Transform,
};

/// Who is at the other end of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody at an address.
    Ip(IpAddr),
    /// A process of this machine, by a Unix socket (unix(7) `SO_PEERCRED`).
    Local {
        /// Its user.
        uid: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Local { .. } => f.write_str("unix"),
        }
    }
}

/// An answer of the proxy's own.
pub type Page = Response<PageBody>;

/// The body of a [`Page`].
#[derive(Debug)]
pub enum PageBody {
    /// All of it.
    Whole(Bytes),
    /// Pieces as they come; the page ends with the channel.
    Pieces(mpsc::Receiver<Bytes>),
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision<S: Service> {
    /// The proxy answers itself.
    Answer(Page),
    /// It goes on to an upstream.
    Forward(Forward<S>),
    /// Its body is read, and [`Service::called`] answers.
    Read {
        /// How long the body may be.
        most_bytes: usize,
        /// What it is read for.
        call: S::Call,
    },
}

/// The body of a call is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the body is too long")]
pub struct TooLong;

/// Where a request goes, and what is done with the answer.
#[derive(Debug)]
pub struct Forward<S: Service> {
    /// The upstream.
    pub target: S::Target,
    /// How the answer is seen.
    pub view: S::View,
    /// The protocol that the client asks to switch to, and may.
    pub upgrade: Option<String>,
}

/// What a proxy decides, and where its upstreams are.
pub trait Service: Send + Sync + Sized + 'static {
    /// An upstream, as precisely as a connection to it may be used again.
    type Target: Clone + Eq + Hash + Send + Sync + fmt::Debug + fmt::Display;
    /// What it takes to edit an answer.
    type View: Send + Sync + fmt::Debug;
    /// Why there is no connection to an upstream.
    type DialError: Error + Send + Sync + 'static;
    /// What a request with a small body asks of the proxy itself; [`std::convert::Infallible`]
    /// where nothing is asked in this way.
    type Call: Send + fmt::Debug;

    /// Decides about a request with sound framing, and gives it the form in which it goes on: its
    /// target, and its fields but those of one hop. Also says whether the client is `known`: only
    /// known ones may hold a connection when there are too many.
    fn decide(
        &self,
        head: &mut RequestHead,
        framing: Framing,
        peer: Peer,
        known: &mut bool,
    ) -> impl Future<Output = Decision<Self>> + Send;

    /// Answers a call whose body has come. The head is as `decide` left it.
    fn called(
        &self,
        call: Self::Call,
        body: Result<Bytes, TooLong>,
        head: &RequestHead,
        peer: Peer,
    ) -> impl Future<Output = Page> + Send;

    /// A new connection to `target`, or to what has come in its place.
    ///
    /// # Errors
    /// When there is none that may be used.
    fn dial(
        &self,
        target: &Self::Target,
    ) -> impl Future<Output = Result<(Self::Target, Socket), Self::DialError>> + Send;

    /// What the body of a final answer becomes on its way, where it does not pass as it is; its head
    /// is given the fields that belong to that, but for those of one hop, and for those that
    /// [`Self::edit`] edits later. An answer to `HEAD` has the head alone.
    fn transform(&self, view: &Self::View, answer: &mut ResponseHead) -> Option<Box<Transform>> {
        let _ = (view, answer);
        None
    }

    /// Edits the fields of an answer; those of one hop are off already.
    fn edit(&self, view: &Self::View, fields: &mut Fields);

    /// The answer to a request that could not be passed on, and its line in the log. The head is
    /// as `decide` left it.
    fn explain(
        &self,
        fault: Fault<Self::DialError>,
        head: &RequestHead,
        peer: Peer,
    ) -> impl Future<Output = Page> + Send;

    /// Notes that `target` has answered.
    fn answered(&self, head: &RequestHead, peer: Peer, target: &Self::Target, status: u16);
}

/// Why a request is not passed on, or has no answer to pass back.
#[derive(Debug, Error)]
pub enum Fault<D: Error + 'static> {
    /// The client's bytes are no request.
    #[error(transparent)]
    Head(#[from] BadHead),
    /// It cannot be told where the request ends.
    #[error(transparent)]
    Framing(#[from] BadFraming),
    /// The request's body is malformed.
    #[error(transparent)]
    Body(#[from] BadChunk),
    /// The client expects something else than `100-continue` (RFC 9110 section 10.1.1).
    #[error("an expectation that cannot be met")]
    Expectation,
    /// The client sent its head, or the body of a call, too slowly.
    #[error("the request did not come in time")]
    SlowRequest,
    /// No connection.
    #[error("no connection to the upstream")]
    Dial(#[source] D),
    /// The upstream ended before an answer.
    #[error("the upstream did not answer")]
    Died(#[source] std::io::Error),
    /// The upstream's answer is malformed.
    #[error("the upstream's answer is malformed")]
    BadAnswer(#[source] Box<dyn Error + Send + Sync>),
    /// No answer came in time.
    #[error("the upstream did not answer in time")]
    Slow,
    /// The upstream switched protocols unasked, or to another protocol.
    #[error("the upstream switched to a protocol that nobody asked for")]
    UnaskedUpgrade,
}

/// Method and path for the log, without the query (S24).
pub fn shown(head: &RequestHead) -> (&str, &str) {
    let path = head.target().split(|byte| *byte == b'?').next();
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    (text(head.method()), text(path.unwrap_or_default()))
}
