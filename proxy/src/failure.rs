//! Why the program could not start or go on, and the next step for whoever started it.

use std::io::{self, Write};

use hpc_proxy::{
    auth,
    lease::{LeaseError, NoLease},
    text::{chain, is_unprintable},
};
use thiserror::Error;

use crate::{
    bridge::BridgeError, cli::UsageError, exec::ExecError, listen::ListenError, local::NotHere,
    state_dir::NotPrivate,
};

/// Why the program could not start or go on.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("this is root")]
    Root,
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the sockets of dev servers are not safe")]
    Sockets(#[source] NotPrivate),
    #[error("cannot publish the port")]
    Publish(#[from] LeaseError),
    #[error("cannot make a token")]
    Token(#[from] auth::NoRandom),
    #[error("no proxy is running here")]
    NoProxy(#[from] NoLease),
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    #[error(transparent)]
    Exec(ExecError),
    #[error("a server with a base path of its own cannot be opened below `{0}`")]
    NoBase(String),
    #[error("cannot go on")]
    Io(#[from] io::Error),
}

impl Failure {
    fn hint(&self) -> &'static str {
        match self {
            Self::Usage(UsageError::NoHome) => "say where to publish the port with --port-file",
            Self::Root => {
                "run it as the user whose dev servers it is for, or say --allow-root in a \
                 container of your own"
            }
            Self::Listen(ListenError::Tcp { source, .. })
                if source.kind() == io::ErrorKind::AddrNotAvailable =>
            {
                "give --bind an address of this node, or leave it out"
            }
            Self::Listen(ListenError::Tcp { .. }) => {
                "leave --port out, or say --port 0, for any free port"
            }
            Self::Listen(ListenError::Answered(_)) => {
                "stop the other proxy, or name another socket with --listen unix:PATH"
            }
            Self::Listen(
                ListenError::Unix { .. } | ListenError::NotOurSocket(_) | ListenError::Directory(_),
            ) => "name a socket in a directory that only you can enter, with --listen unix:PATH",
            Self::Sockets(_) => "choose a directory that only you can enter, with --socket-dir",
            Self::Publish(LeaseError::OpenDirectory(_) | LeaseError::ForeignDirectory { .. }) => {
                "choose a directory that only you can write to, with --port-file"
            }
            Self::Publish(LeaseError::Io { .. }) => {
                "is the disk full or the home read-only? --port-file moves the file elsewhere"
            }
            Self::Bridge(BridgeError::NotHere(NotHere::Elsewhere { .. })) => {
                "run it on the proxy's node, with `srun --overlap --unbuffered --jobid JOB -w NODE`"
            }
            Self::Bridge(BridgeError::Connect(_) | BridgeError::Slow | BridgeError::Proxy(_)) => {
                "`hpc-proxy doctor`, on this node, tells more"
            }
            Self::Bridge(
                BridgeError::Stdin(_)
                | BridgeError::Stdout(_)
                | BridgeError::Streams(_)
                | BridgeError::Io(_),
            ) => "whatever started it has closed its end, or cannot be read",
            Self::NoProxy(_) | Self::Bridge(BridgeError::NotHere(_)) => {
                "start one with `hpc-proxy`, on this node"
            }
            Self::NoBase(_) => "open it by the path that `hpc-proxy url --path PORT` prints",
            Self::Exec(error) => error.hint(),
            Self::Token(_) | Self::Io(_) => "run it with --verbose for more",
        }
    }
}

/// Prints a failure with its causes, once, and the next step.
pub(crate) fn report(failure: &Failure) {
    let text = format!("error: {}", chain(failure));
    // Paths and what a peer said may hold anything (S24).
    let text = text.replace(is_unprintable, "\u{fffd}");
    // Nothing is left to tell it to when stderr is closed.
    let _ = writeln!(io::stderr(), "{text}\nhint: {}", failure.hint());
}
