//! What subjects are made to do, and what it costs them: loads of one kind, in rounds that take turns
//! between the subjects, so that a neighbour on the machine hurts all alike.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    client::Connection,
    http::{ignore, keep},
    pattern::{Checker, Pattern},
    peer::{PAGE, SMALL, TEN},
    process::cpu_of_all,
    route::Route,
    samples::Samples,
    subject::Serving,
};

/// What a client reads at once; a long body in fewer parts.
const BUFFER_BYTES: usize = 4096;
const LONG_BUFFER_BYTES: usize = 64 * 1024;
/// A round is over long before.
const DEADLINE: Duration = Duration::from_secs(120);

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Small GETs, one after the other on each of so many connections.
    Kept(usize),
    /// The same with answers of 10 kB.
    Tens(usize),
    /// Small GETs from so many clients, a new connection for each.
    New(usize),
    /// Messages of 64 bytes and back, one after the other on each of so many WebSockets.
    Echo(usize),
    /// The same with messages of 64 KiB.
    LongEcho(usize),
    /// So many bytes in one body from the dev server.
    Down(u64),
    /// So many bytes in one body to the dev server.
    Up(u64),
    /// A page of 50 kB, one after the other on each of so many connections, for a script, to which it
    /// passes as it is.
    Page(usize),
    /// The same for a browser, which gets it rewritten.
    Rewritten(usize),
}

impl Load {
    /// What it is called in tables.
    pub fn name(self) -> String {
        match self {
            Self::Kept(1) => "small GET, 1 connection".to_owned(),
            Self::Kept(connections) => format!("small GET, {connections} connections"),
            Self::Tens(connections) => format!("GET of 10 kB, {connections} connections"),
            Self::New(clients) => format!("small GET, new connection each, {clients} clients"),
            Self::Echo(sockets) => format!("WebSocket echo of 64 bytes, {sockets} sockets"),
            Self::LongEcho(sockets) => format!("WebSocket echo of 64 KiB, {sockets} sockets"),
            Self::Down(bytes) => format!("{} MB down", bytes / 1_000_000),
            Self::Up(bytes) => format!("{} MB up", bytes / 1_000_000),
            Self::Page(connections) => format!("page of 50 kB, {connections} connections"),
            Self::Rewritten(connections) => {
                format!("page of 50 kB rewritten, {connections} connections")
            }
        }
    }

    /// Loads for about `time`, or once; returns how much was done.
    async fn run(self, route: &Route, time: Duration) -> Result<u64> {
        let clients = match self {
            Self::Kept(clients)
            | Self::Tens(clients)
            | Self::New(clients)
            | Self::Echo(clients)
            | Self::LongEcho(clients)
            | Self::Page(clients)
            | Self::Rewritten(clients) => clients,
            Self::Down(bytes) => return down(route, bytes).await,
            Self::Up(bytes) => return up(route, bytes).await,
        };
        let done = Arc::new(AtomicU64::new(0));
        let end = Instant::now() + time;
        let mut running = JoinSet::new();
        for _ in 0..clients {
            let (route, done) = (route.clone(), done.clone());
            running.spawn(async move {
                match self {
                    Self::New(_) => new(&route, end, &done).await,
                    Self::Echo(_) => echo(&route, 64, end, &done).await,
                    Self::LongEcho(_) => echo(&route, 64 * 1024, end, &done).await,
                    Self::Page(_) => page(&route, "empty", end, &done).await,
                    Self::Rewritten(_) => page(&route, "document", end, &done).await,
                    Self::Tens(_) => kept(&route, "/ten", TEN.as_bytes(), end, &done).await,
                    Self::Kept(_) | Self::Down(_) | Self::Up(_) => {
                        kept(&route, "/small", SMALL.as_bytes(), end, &done).await
                    }
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.context("a client")??;
        }
        Ok(done.load(Relaxed))
    }
}

async fn kept(
    route: &Route,
    path: &str,
    wanted: &[u8],
    end: Instant,
    done: &AtomicU64,
) -> Result<()> {
    let mut connection = Connection::open(route, wanted.len().max(BUFFER_BYTES)).await?;
    let mut body = Vec::new();
    while Instant::now() < end {
        body.clear();
        let status = connection.get(path, keep(&mut body)).await?;
        ensure!(status == 200 && body == wanted, "answered {status}");
        done.fetch_add(1, Relaxed);
    }
    Ok(())
}

async fn page(route: &Route, destination: &str, end: Instant, done: &AtomicU64) -> Result<()> {
    let fields = format!("Accept: text/html\r\nSec-Fetch-Dest: {destination}\r\n");
    let head = route.head("GET", "/page", &fields);
    let mut connection = Connection::open(route, LONG_BUFFER_BYTES).await?;
    let mut body = Vec::new();
    while Instant::now() < end {
        body.clear();
        connection.send(head.as_bytes()).await?;
        let status = connection.answer(keep(&mut body)).await?;
        ensure!(status == 200, "answered {status}");
        // Without a prefix, and for a script, nothing is rewritten.
        let longer = destination == "document" && !route.prefix.is_empty();
        ensure!(
            (body != PAGE.as_bytes()) == longer,
            "{} bytes came",
            body.len()
        );
        done.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// The other side is asked to close: were it the client who closes first, each of its ports would rest
/// for a second, and there are not enough of them.
async fn new(route: &Route, end: Instant, done: &AtomicU64) -> Result<()> {
    let head = route.head("GET", "/small", "Connection: close\r\n");
    let mut body = Vec::new();
    while Instant::now() < end {
        body.clear();
        let mut connection = Connection::open(route, BUFFER_BYTES).await?;
        connection.send(head.as_bytes()).await?;
        let status = connection.answer(keep(&mut body)).await?;
        ensure!(
            status == 200 && body == SMALL.as_bytes(),
            "answered {status}"
        );
        connection.ends().await?;
        done.fetch_add(1, Relaxed);
    }
    Ok(())
}

async fn echo(route: &Route, length: usize, end: Instant, done: &AtomicU64) -> Result<()> {
    let message = vec![b'e'; length];
    let connection = Connection::open(route, BUFFER_BYTES.max(length)).await?;
    let switched = connection.upgrade("/echo", ignore).await?;
    let mut socket = switched.map_err(|status| anyhow!("answered {status}"))?;
    while Instant::now() < end {
        socket.echoes(&message).await?;
        done.fetch_add(1, Relaxed);
    }
    Ok(())
}

async fn down(route: &Route, bytes: u64) -> Result<u64> {
    let pattern = Pattern::new();
    let mut checker = Checker::new(&pattern);
    let mut connection = Connection::open(route, LONG_BUFFER_BYTES).await?;
    let path = format!("/bytes/{bytes}");
    let status = connection.get(&path, |part| checker.take(part)).await?;
    ensure!(
        status == 200 && checker.bytes() == bytes,
        "answered {status}"
    );
    Ok(bytes)
}

async fn up(route: &Route, bytes: u64) -> Result<u64> {
    let pattern = Pattern::new();
    let mut connection = Connection::open(route, BUFFER_BYTES).await?;
    let head = route.head("POST", "/count", &format!("Content-Length: {bytes}\r\n"));
    connection.send(head.as_bytes()).await?;
    let mut offset = 0;
    while offset < bytes {
        let part = pattern.part(offset, bytes - offset);
        connection.send(part).await?;
        offset += part.len() as u64;
    }
    let mut counted = Vec::new();
    let status = connection.answer(keep(&mut counted)).await?;
    ensure!(
        status == 200 && counted == bytes.to_string().into_bytes(),
        "answered {status}: {}",
        counted.escape_ascii()
    );
    Ok(bytes)
}

/// What one subject did and spent under one load, a sample for each round.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The subject.
    pub subject: &'static str,
    /// The load.
    pub load: Load,
    /// Requests, messages or bytes in a second.
    pub per_second: Samples,
    /// Microseconds of the subject's processors for each request or message, or for each kilobyte;
    /// none without a proxy.
    pub cpu_micros: Samples,
    /// The same in the order of the rounds, to be compared with another's.
    pub cpu_micros_by_round: Vec<f64>,
    /// The same of everything on the machine: client, dev server and neighbours too.
    pub cpu_micros_of_all: Samples,
}

/// Puts each subject under its load in turn, `rounds` times for `time`.
///
/// # Errors
/// An answer was wrong or did not come.
#[expect(clippy::cast_precision_loss, reason = "counts, far below 2^53")]
pub async fn compare(
    cases: &[(Load, &Serving)],
    rounds: usize,
    time: Duration,
) -> Result<Vec<Figures>> {
    let all = cases.iter().copied();
    let mut all: Vec<_> = all.map(|case| (case, [const { Vec::new() }; 3])).collect();
    for _ in 0..rounds {
        for ((load, subject), [speed, own, everybodys]) in &mut all {
            let (before, all_before) = (subject.usage()?, cpu_of_all()?);
            let start = Instant::now();
            let done = timeout(DEADLINE, load.run(&subject.route, time)).await;
            let done = done.context("a round without an end")?;
            let done = done.with_context(|| format!("{}, {}", subject.name, load.name()))? as f64;
            let units = match load {
                Load::Down(_) | Load::Up(_) => done / 1e3,
                _ => done,
            };
            speed.push(done / start.elapsed().as_secs_f64());
            let micros_each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / units;
            everybodys.push(micros_each(cpu_of_all()?.saturating_sub(all_before)));
            if let (Some(before), Some(after)) = (before, subject.usage()?) {
                own.push(micros_each(after.since(before).cpu));
            }
        }
    }
    let figures = all.into_iter().map(|((load, subject), samples)| {
        let cpu_micros_by_round = samples[1].clone();
        let [per_second, cpu_micros, cpu_micros_of_all] = samples.map(Samples::from_iter);
        Figures {
            subject: subject.name,
            load,
            per_second,
            cpu_micros,
            cpu_micros_by_round,
            cpu_micros_of_all,
        }
    });
    Ok(figures.collect())
}
