//! Many connections over one pair of pipes, by yamux: for a way to a node that is a command's stdin and
//! stdout, of which each costs a job step. Whoever has the connections ([`carry`]) opens a stream for
//! each; the other side ([`serve`]) dials. Each stream has a window of its own, so that a slow one holds
//! up no other. A stream begins with the first byte from here: it is the client that speaks first.

use std::{
    future::{Future, poll_fn},
    io,
    task::Poll,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, Mode, Stream};

/// The line with which the side that dials begins. What comes before is a login script's.
pub const GREETING: &str = "hpc-proxy bridge: yamux";
/// More than a browser has connections, with WebSockets left open.
const MOST_STREAMS: usize = 4096;

fn config() -> Config {
    let mut config = Config::default();
    config.set_max_num_streams(MOST_STREAMS);
    config
}

/// Dials for each stream that the other side opens, until that ends.
///
/// # Errors
/// When what comes is not yamux.
pub async fn serve<S, D>(
    carrier: impl AsyncRead + AsyncWrite + Unpin,
    dial: impl Fn() -> D,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Future<Output = io::Result<S>> + Send + 'static,
{
    let mut connection = Connection::new(carrier.compat(), config(), Mode::Server);
    let mut joined = JoinSet::new();
    while let Some(stream) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        let stream = match stream {
            Ok(stream) => stream,
            // The end of the carrier, however it came about.
            Err(ConnectionError::Io(_)) => break,
            Err(error) => return Err(error),
        };
        let dialled = dial();
        joined.spawn(async move {
            // One that cannot be dialled is reset.
            if let Ok(socket) = dialled.await {
                join(socket, stream).await;
            }
        });
        while joined.try_join_next().is_some() {}
    }
    Ok(())
}

/// Opens a stream for each socket that comes, until there will be no more or the other side ends.
///
/// # Errors
/// When the carrier fails, or what comes is not yamux.
pub async fn carry<S>(
    carrier: impl AsyncRead + AsyncWrite + Unpin,
    mut sockets: mpsc::Receiver<S>,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = Connection::new(carrier.compat(), config(), Mode::Client);
    let mut joined = JoinSet::new();
    let mut next = None;
    loop {
        let opened = poll_fn(|cx| {
            // What the other side opens is dropped: it has nothing to ask here. This also moves the rest.
            while let Poll::Ready(inbound) = connection.poll_next_inbound(cx) {
                match inbound {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                }
            }
            if next.is_none() {
                match sockets.poll_recv(cx) {
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Ready(socket) => next = socket,
                    Poll::Pending => return Poll::Pending,
                }
            }
            connection.poll_new_outbound(cx).map(Some)
        });
        let Some(stream) = opened.await else {
            return Ok(());
        };
        let stream = stream?;
        if let Some(socket) = next.take() {
            joined.spawn(join(socket, stream));
        }
        while joined.try_join_next().is_some() {}
    }
}

/// Both ways, each to its own end. What breaks is dropped, which resets the stream.
async fn join(mut socket: impl AsyncRead + AsyncWrite + Unpin, stream: Stream) {
    let _ = copy_bidirectional(&mut socket, &mut stream.compat()).await;
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        net::{TcpListener, TcpStream, UnixStream},
        time::{Duration, timeout},
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Both sides over a narrow carrier; gives where to put sockets in. `echo` answers on each.
    async fn bridge() -> mpsc::Sender<UnixStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let (near, far) = duplex(4096);
        tokio::spawn(serve(far, move || TcpStream::connect(address)));
        let (sender, sockets) = mpsc::channel(1);
        tokio::spawn(carry(near, sockets));
        sender
    }

    async fn open(sender: &mpsc::Sender<UnixStream>) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        sender.send(theirs).await.unwrap();
        ours
    }

    #[tokio::test]
    async fn bytes_and_ends_pass_both_ways() {
        let sender = bridge().await;
        let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut from, mut to) = open(&sender).await.into_split();
        let expected = sent.clone();
        let write = async move {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
            to
        };
        let mut got = Vec::new();
        let both = async { tokio::join!(write, from.read_to_end(&mut got)) };
        let (_to, read) = timeout(SOON, both).await.unwrap();
        read.unwrap();
        assert!(got == expected, "{} bytes", got.len());
    }

    #[tokio::test]
    async fn one_that_nobody_reads_holds_up_no_other() {
        let sender = bridge().await;
        let mut stuck = open(&sender).await;
        let chunk = vec![b'x'; 65536];
        let fills = async { while stuck.write_all(&chunk).await.is_ok() {} };
        assert!(timeout(Duration::from_millis(300), fills).await.is_err());
        for _ in 0..20 {
            let mut other = open(&sender).await;
            other.write_all(b"hello").await.unwrap();
            let mut answer = [0; 5];
            let read = timeout(SOON, other.read_exact(&mut answer)).await;
            read.expect("it is not held up").unwrap();
            assert_eq!(&answer, b"hello");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_dialled_is_closed() {
        let (near, far) = duplex(4096);
        let refused = || async { Err::<TcpStream, _>(io::ErrorKind::ConnectionRefused.into()) };
        tokio::spawn(serve(far, refused));
        let (sender, sockets) = mpsc::channel(1);
        tokio::spawn(carry(near, sockets));
        let mut closed = open(&sender).await;
        closed.write_all(b"hello").await.unwrap();
        let read = timeout(SOON, closed.read(&mut [0; 8])).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
    }

    #[tokio::test]
    async fn what_is_no_yamux_is_an_error_and_no_more() {
        let (mut near, far) = duplex(4096);
        let served = tokio::spawn(serve(far, || TcpStream::connect("127.0.0.1:1")));
        near.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let ended = timeout(SOON, served).await.unwrap().unwrap();
        assert!(ended.is_err());
    }

    #[tokio::test]
    async fn the_end_of_one_side_is_the_end_of_the_other() {
        let (near, far) = duplex(4096);
        let served = tokio::spawn(serve(far, || TcpStream::connect("127.0.0.1:1")));
        let (sender, sockets) = mpsc::channel::<UnixStream>(1);
        let carried = tokio::spawn(carry(near, sockets));
        drop(sender);
        timeout(SOON, carried).await.unwrap().unwrap().unwrap();
        timeout(SOON, served).await.unwrap().unwrap().unwrap();
    }
}
