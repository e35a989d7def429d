//! The real proxy between a client and upstreams in memory, in virtual time.
//!
//! Of the proxy only the kernel's answers are left out: there is one server, `/sock/app/`, and the
//! connections to it are made here. No deadline costs any time: the clock runs on whenever everybody
//! waits.

use std::{
    fs::Permissions,
    future::Future,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use hpc_proxy::{
    accept,
    auth::Token,
    http1::{fields::Fields, framing::Framing, head::RequestHead},
    metrics::Metrics,
    route::{self, Route, To},
    server::{Access, Identity, Proxy, Rewrite, Rewriting, Rules, Seen},
    service::{Decision, Fault, Forward, Page, PageBody, Peer, Service, TooLong},
    socket::Socket,
    upstream::{DialError, Target, owner::Owners},
};
use http::{Response, StatusCode};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Who connects: a stranger, unless a request has the token.
const PEER: [u8; 4] = [10, 0, 0, 9];
/// What the token repeats.
pub(crate) const TOKEN: (&str, usize) = ("5a", 32);
/// Longer than all deadlines that may follow each other in one connection.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than any one deadline of the proxy: for who waits for nothing else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1000);
/// Time in which everything that can happen has happened.
pub(crate) const BREATH: Duration = Duration::from_millis(1);
/// Bytes of the body that the proxy itself takes and gives back, at `/_hpc-proxy/echo`.
pub(crate) const LONGEST_ECHO: usize = 64;
/// Pieces of the client's bytes that are sent one by one; the rest goes at once.
const PIECES: usize = 64;

thread_local! {
    static HOUSE: House = House::build();
}

/// What is made once for all runs of a thread.
struct House {
    proxy: Arc<Proxy>,
    metrics: Arc<Metrics>,
    _sockets: TempDir,
}

impl House {
    fn build() -> Self {
        let sockets = TempDir::new().expect("there should be room for a directory");
        std::fs::set_permissions(sockets.path(), Permissions::from_mode(0o700))
            .expect("the directory is ours");
        // Only looked at: whoever dials gets a pair of sockets.
        UnixListener::bind(sockets.path().join("app")).expect("the directory is empty");
        let identity = Identity {
            uid: rustix::process::geteuid().as_raw(),
            port: 0,
            instance: "0123456789abcdef".to_owned(),
            job: None,
            hosts: vec!["node01".to_owned()],
        };
        let rules = Rules {
            access: Access::Anyone,
            upgrades: Vec::new(),
            low_ports: false,
            titles: false,
            sockets: Some(sockets.path().to_owned()),
            private: None,
            domain: None,
            // What moves unchanged is judged here; rewriting has a target of its own.
            rewrite: Rewrite {
                all: Rewriting::Off,
                ..Rewrite::default()
            },
        };
        let metrics = Arc::<Metrics>::default();
        let token = Token::parse(TOKEN.0.repeat(TOKEN.1).as_bytes()).expect("64 digits");
        let proxy = Proxy::new(
            identity,
            token,
            rules,
            Owners::probe(),
            Arc::clone(&metrics),
        );
        Self {
            proxy: Arc::new(proxy),
            metrics,
            _sockets: sockets,
        }
    }
}

/// Plays one connection: `client` has the one end of it, and `upstream` gets each connection that the
/// proxy opens, with its number. Returns what `client` does once everything has come to its end.
///
/// # Panics
/// When something has not, or a part of it panics.
pub(crate) fn play<C, U>(
    client: impl FnOnce(UnixStream) -> C,
    upstream: impl Fn(usize, UnixStream) -> U + Send + Sync + 'static,
) -> C::Output
where
    C: Future,
    U: Future<Output = ()> + Send + 'static,
{
    let (proxy, metrics) =
        HOUSE.with(|house| (Arc::clone(&house.proxy), Arc::clone(&house.metrics)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("there should be descriptors for a runtime");
    runtime.block_on(async {
        let (near, far) = UnixStream::pair().expect("there should be descriptors for sockets");
        let tasks = Arc::<Mutex<JoinSet<()>>>::default();
        let stage = Stage {
            proxy,
            upstream,
            dialled: AtomicUsize::new(0),
            tasks: Arc::clone(&tasks),
        };
        let serve = accept::serve_one(far.into(), Peer::Ip(PEER.into()), stage, metrics);
        let played = timeout(LONGEST, async {
            let (said, ()) = tokio::join!(client(near), serve);
            let mut upstreams =
                std::mem::take(&mut *tasks.lock().unwrap_or_else(PoisonError::into_inner));
            while let Some(ended) = upstreams.join_next().await {
                ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            }
            said
        });
        played.await.expect("a connection should come to its end")
    })
}

/// The proxy, with connections of ours.
struct Stage<F> {
    proxy: Arc<Proxy>,
    upstream: F,
    dialled: AtomicUsize,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl<F, U> Service for Stage<F>
where
    F: Fn(usize, UnixStream) -> U + Send + Sync + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    type Target = Target;
    type View = Seen;
    type DialError = DialError;
    type Call = ();

    async fn decide(
        &self,
        head: &mut RequestHead,
        framing: Framing,
        peer: Peer,
        known: &mut bool,
    ) -> Decision<Self> {
        let target = head.target().to_vec();
        match route::parse(&target) {
            // Whatever else is there depends on this machine.
            Ok(Route::Bare(to, _) | Route::Below(to, _)) if !is_app(to) => missing(),
            Ok(Route::Whole(_) | Route::Index | Route::Own("ports")) => missing(),
            Ok(Route::Own("events")) => events(),
            Ok(Route::Own("echo")) => Decision::Read {
                most_bytes: LONGEST_ECHO,
                call: (),
            },
            _ => match self.proxy.decide(head, framing, peer, known).await {
                Decision::Answer(page) => Decision::Answer(page),
                Decision::Read { call, .. } => match call {},
                Decision::Forward(forward) => Decision::Forward(Forward {
                    target: forward.target,
                    view: forward.view,
                    upgrade: forward.upgrade,
                }),
            },
        }
    }

    async fn called(&self, (): (), body: Result<Bytes, TooLong>, _: &RequestHead, _: Peer) -> Page {
        let status = match body {
            Ok(_) => StatusCode::OK,
            Err(TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
        };
        let mut page = Response::new(PageBody::Whole(body.unwrap_or_default()));
        *page.status_mut() = status;
        page
    }

    async fn dial(&self, target: &Target) -> Result<(Target, Socket), DialError> {
        let (near, far) = UnixStream::pair().expect("there should be descriptors for sockets");
        let number = self.dialled.fetch_add(1, Relaxed);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn((self.upstream)(number, far));
        Ok((target.clone(), near.into()))
    }

    fn edit(&self, view: &Seen, fields: &mut Fields) {
        self.proxy.edit(view, fields);
    }

    async fn explain(&self, fault: Fault<DialError>, head: &RequestHead, peer: Peer) -> Page {
        self.proxy.explain(fault, head, peer).await
    }

    fn answered(&self, head: &RequestHead, peer: Peer, target: &Target, status: u16) {
        self.proxy.answered(head, peer, target, status);
    }
}

fn is_app(to: To<'_>) -> bool {
    matches!(to, To::Socket(name) if name.as_str() == "app")
}

fn missing<S: Service>() -> Decision<S> {
    let mut page = Response::new(PageBody::Whole(Bytes::from_static(b"nothing here\n")));
    *page.status_mut() = StatusCode::NOT_FOUND;
    Decision::Answer(page)
}

/// A page of ours that comes in pieces.
fn events<S: Service>() -> Decision<S> {
    let (sender, pieces) = mpsc::channel(2);
    for piece in ["data: 1\n\n", "data: 2\n\n"] {
        sender
            .try_send(Bytes::from_static(piece.as_bytes()))
            .expect("there is room for two");
    }
    Decision::Answer(Response::new(PageBody::Pieces(pieces)))
}

/// How bytes are cut into pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Bytes of a piece; 0 for all of them.
    size: usize,
}

impl Cut {
    /// The lower six bits are the size of a piece, so that `@` is for all at once and a letter for its
    /// place in the alphabet.
    pub(crate) fn of(byte: u8) -> Self {
        Self {
            size: usize::from(byte & 63),
        }
    }

    /// Sends `bytes`, each piece once the one before it has had its effect. That the other side takes no
    /// more ends it.
    pub(crate) async fn send(self, bytes: &[u8], to: &mut (impl AsyncWriteExt + Unpin)) {
        let (by_piece, rest) = bytes.split_at(bytes.len().min(self.size * PIECES));
        let pieces = by_piece.chunks(self.size.max(1)).chain([rest]);
        let pieces = pieces.filter(|piece| !piece.is_empty());
        for (number, piece) in pieces.enumerate() {
            if number > 0 {
                sleep(BREATH).await;
            }
            if to.write_all(piece).await.is_err() {
                return;
            }
        }
    }
}

/// Everything that comes until the end, be it abrupt.
pub(crate) async fn read_all(from: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    // What came before an error is there all the same.
    let _ = from.read_to_end(&mut all).await;
    all
}
