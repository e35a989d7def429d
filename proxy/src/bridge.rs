//! `hpc-proxy bridge`: stdin and stdout joined to the running proxy, for a way in that needs no
//! port, such as `ssh LOGIN srun --overlap --unbuffered --jobid JOB hpc-proxy bridge`. Without `--unbuffered`,
//! srun keeps what comes back until its line is complete.
//!
//! Bytes pass as they are, both ways at once; the end of one direction is passed on, and the other
//! goes on until its own.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use hpc_proxy::{
    lease::{Place, Record},
    own::{NotOwn, connect_tcp, connect_unix},
    streams::{self, GREETING},
    upstream::owner::Owners,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{Shutdown, shutdown},
};
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::either::Either;
use yamux::ConnectionError;

use crate::{
    cli::Config,
    local::{self, Door, NotHere},
};

/// A proxy accepts at once, unless it has as many connections as it may have.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// As much as a pipe or a socket gives at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Why nothing is joined, or not to its end.
#[derive(Debug, Error)]
pub(crate) enum BridgeError {
    #[error(transparent)]
    NotHere(#[from] NotHere),
    #[error("the proxy cannot be reached")]
    Connect(#[from] NotOwn),
    #[error("the proxy did not accept the connection in time")]
    Slow,
    #[error("the proxy broke the connection")]
    Proxy(#[source] io::Error),
    #[error("stdin cannot be read")]
    Stdin(#[source] io::Error),
    #[error("stdout cannot be written")]
    Stdout(#[source] io::Error),
    #[error("what comes on stdin is not for `bridge --streams`")]
    Streams(#[from] ConnectionError),
    #[error("cannot go on")]
    Io(#[from] io::Error),
}

/// Joins until both directions have ended.
pub(crate) fn join(config: &Config) -> Result<(), BridgeError> {
    let proxy = connect(config)?;
    pump(proxy.try_clone()?, proxy)
}

/// A blocking connection to this user's own proxy.
#[tokio::main(flavor = "current_thread")]
async fn connect(config: &Config) -> Result<File, BridgeError> {
    let stream: OwnedFd = match Own::find(config)?.connect().await? {
        Either::Left(stream) => stream.into_std()?.into(),
        Either::Right(stream) => stream.into_std()?.into(),
    };
    // Threads wait for it, not a runtime.
    rustix::io::ioctl_fionbio(&stream, false).map_err(io::Error::from)?;
    Ok(stream.into())
}

/// This user's own proxy; see [`hpc_proxy::own`].
struct Own {
    place: Place,
    record: Record,
    owners: Owners,
    uid: u32,
}

impl Own {
    fn find(config: &Config) -> Result<Self, BridgeError> {
        let place = config.place();
        Ok(Self {
            record: local::find(&place)?,
            place,
            owners: Owners::probe(),
            uid: rustix::process::geteuid().as_raw(),
        })
    }

    async fn connect(&self) -> Result<Either<TcpStream, tokio::net::UnixStream>, BridgeError> {
        let connect = async {
            let door = local::door(&self.place, &self.record, &self.owners, self.uid).await?;
            Ok(match door {
                Door::Unix(path) => Either::Right(connect_unix(&path, self.uid).await?),
                Door::Tcp(address) => {
                    let stream = connect_tcp(&self.owners, address, self.uid, None).await?;
                    stream.set_nodelay(true)?;
                    Either::Left(stream)
                }
            })
        };
        timeout(CONNECT_DEADLINE, connect)
            .await
            .unwrap_or(Err(BridgeError::Slow))
    }
}

/// Joins stdin and stdout to as many connections as there are streams in them, until stdin ends.
pub(crate) fn join_streams(config: &Config) -> Result<(), BridgeError> {
    // Here is told what would otherwise be a stream that is reset.
    drop(connect(config)?);
    let own = Arc::new(Own::find(config)?);
    let (ours, theirs) = UnixStream::pair()?;
    let stdio = File::from(OwnedFd::from(theirs));
    let pumped = thread::spawn(move || {
        let greeted = writeln!(io::stdout(), "{GREETING}").and_then(|()| io::stdout().flush());
        greeted.map_err(BridgeError::Stdout)?;
        pump(stdio.try_clone()?, stdio)
    });
    serve_streams(&own, ours)?;
    pumped.join().unwrap_or(Ok(()))
}

#[tokio::main(flavor = "current_thread")]
async fn serve_streams(own: &Arc<Own>, carrier: UnixStream) -> Result<(), BridgeError> {
    carrier.set_nonblocking(true)?;
    let carrier = tokio::net::UnixStream::from_std(carrier)?;
    let dial = || {
        let own = Arc::clone(own);
        async move { own.connect().await.map_err(io::Error::other) }
    };
    Ok(streams::serve(carrier, dial).await?)
}

/// What ended, and how.
enum Ended {
    Up(Result<(), BridgeError>),
    Down(Result<(), BridgeError>),
}

/// Copies stdin to the proxy and the proxy to stdout, each on a thread of its own: reading stdin
/// cannot be done without one.
fn pump(mut from_proxy: File, mut to_proxy: File) -> Result<(), BridgeError> {
    let (mut stdin, mut stdout) = (own(io::stdin())?, own(io::stdout())?);
    let (ended, endings) = mpsc::channel();
    let up_ended = ended.clone();
    thread::spawn(move || {
        let copied = copy(&mut stdin, &mut to_proxy).map_err(|error| match error {
            CopyError::Read(error) => BridgeError::Stdin(error),
            CopyError::Write(error) => BridgeError::Proxy(error),
        });
        // Also after an error: the proxy is not to wait for more.
        let _ = shutdown(&to_proxy, Shutdown::Write);
        let _ = up_ended.send(Ended::Up(copied));
    });
    thread::spawn(move || {
        let copied = copy(&mut from_proxy, &mut stdout).map_err(|error| match error {
            CopyError::Read(error) => BridgeError::Proxy(error),
            CopyError::Write(error) => BridgeError::Stdout(error),
        });
        drop(stdout);
        let _ = ended.send(Ended::Down(copied.and_then(|()| Ok(close_stdout()?))));
    });
    let mut up = None;
    while let Ok(ending) = endings.recv() {
        match ending {
            // What the proxy still has to say is passed on first, whatever became of its ears.
            Ended::Up(ended) => up = Some(ended),
            // Nobody is there to hear of anything more.
            Ended::Down(Err(error)) => return Err(error),
            Ended::Down(Ok(())) if up.is_some() => break,
            Ended::Down(Ok(())) => {}
        }
    }
    up.unwrap_or(Ok(()))
}

/// The descriptor itself: the standard library's handles hold bytes back until a line ends.
fn own(handle: impl AsFd) -> io::Result<File> {
    Ok(handle.as_fd().try_clone_to_owned()?.into())
}

/// Lets whoever reads our stdout see its end, while this process still reads stdin.
fn close_stdout() -> io::Result<()> {
    let nothing = OwnedFd::from(File::options().write(true).open("/dev/null")?);
    Ok(rustix::stdio::dup2_stdout(nothing)?)
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Passes on whatever comes as soon as it comes.
fn copy(from: &mut File, to: &mut File) -> Result<(), CopyError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = patiently(from, PollFlags::IN, |mut from| from.read(&mut buffer));
        let mut rest = &buffer[..length.map_err(CopyError::Read)?];
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let written = patiently(to, PollFlags::OUT, |mut to| to.write(rest));
            rest = &rest[written.map_err(CopyError::Write)?..];
        }
    }
}

/// Does `work` once it can be done: what we were started with may not block, since whoever else
/// has it open wants it so.
fn patiently(
    file: &File,
    ready: PollFlags,
    mut work: impl FnMut(&File) -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match work(file) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(file, ready)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            done => return done,
        }
    }
}
