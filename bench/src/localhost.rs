//! What a private localhost costs: the same calls in this program plainly, below `hpc-proxy exec`, and
//! below it where sockets must be replaced; and what the lock costs a connection.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketType, bind, socket};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    results::{aligned, spread},
    samples::Samples,
};

/// The argument that makes this program one that is measured.
const ARGUMENT: &str = "localhost";
/// Calls of each kind in a round.
const CALLS: usize = 400;
/// Of those that listen, fewer: each rewrites the list of all private servers of the last minute, and
/// nobody starts hundreds.
const BINDS: usize = 20;
/// Bytes of an answer, and of the body that tells bulk speed.
const ANSWER_BYTES: usize = 1000;
const BULK_BYTES: usize = 64 << 20;

/// One round, as the child measured it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Round {
    /// Median microseconds of a call.
    bind: f64,
    connect: f64,
    connect_elsewhere: f64,
    connect_unix: f64,
    other: f64,
    /// Of a connection with an answer.
    exchange: f64,
    /// Megabytes a second.
    bulk: f64,
}

/// A name, where its figure is, and its unit.
type Kind = (&'static str, fn(&Round) -> f64, &'static str);

const KINDS: [Kind; 7] = [
    ("bind(2) to localhost", |it| it.bind, "us"),
    ("connect(2) to localhost", |it| it.connect, "us"),
    ("connect(2) that is let go", |it| it.connect_elsewhere, "us"),
    ("connect(2) to a Unix socket", |it| it.connect_unix, "us"),
    ("another system call", |it| it.other, "us"),
    ("connection and 1 kB", |it| it.exchange, "us"),
    ("64 MiB over one connection", |it| it.bulk, "MB/s"),
];

/// How the child is started.
const WAYS: [(&str, &[&str]); 4] = [
    ("plain", &[]),
    ("exec, no lock", &["--lock", "off"]),
    ("exec, locked", &["--lock", "on"]),
    ("exec, replacing", &["--lock", "off", "--replace-sockets"]),
];

/// If this process is one that is measured, it measures and ends.
pub fn main() -> Option<ExitCode> {
    (std::env::args().nth(1).as_deref() == Some(ARGUMENT)).then(|| match measure() {
        Ok(round) => {
            let line = serde_json::to_string(&round).unwrap_or_default();
            let said = writeln!(std::io::stdout(), "{line}");
            ExitCode::from(u8::from(said.is_err()))
        }
        Err(error) => {
            // Nothing is left to tell it to when stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

/// All of it, `rounds` times in turn, as a table.
///
/// # Errors
/// When a round cannot be run; a node without a private localhost or lock is told so by `exec`.
pub fn table(program: &Path, rounds: usize) -> Result<String> {
    let mut all: Vec<Vec<Round>> = WAYS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((_, arguments), rounds) in WAYS.iter().zip(&mut all) {
            rounds.push(round(program, arguments)?);
        }
    }
    let cells = KINDS.iter().map(|(what, of, unit)| {
        let measured: [Samples; WAYS.len()] =
            std::array::from_fn(|way| all[way].iter().map(of).collect());
        let plain = measured[0].median();
        let decimals = if *unit == "us" { 2 } else { 0 };
        let cell = |place: usize, samples: &Samples| {
            let figure = spread(samples, 1.0, decimals, unit);
            if place > 0 && plain > 0.0 {
                format!("{figure}, x {:.2}", samples.median() / plain)
            } else {
                figure
            }
        };
        std::array::from_fn(|column| match column.checked_sub(1) {
            None => (*what).to_owned(),
            Some(way) => cell(way, &measured[way]),
        })
    });
    let head: [&str; WAYS.len() + 1] = std::array::from_fn(|column| {
        column
            .checked_sub(1)
            .map_or("private localhost", |way| WAYS[way].0)
    });
    let mut text = aligned(&head, cells.collect());
    text += &format!(
        "\n{rounds} rounds in turn of {CALLS} calls each, {BINDS} of bind; a round's figure is its median. x is the ratio to the \
         plain program in this run.\n"
    );
    Ok(text)
}

fn round(program: &Path, arguments: &[&str]) -> Result<Round> {
    let own = std::env::current_exe().context("this program")?;
    let home = TempDir::new().context("a directory")?;
    let mut command = if arguments.is_empty() {
        Command::new(own)
    } else {
        let mut exec = Command::new(program);
        exec.args(["exec", "--quiet", "--isolation", "seccomp"]);
        exec.args(arguments).arg("--").arg(own);
        exec
    };
    let output = command
        .arg(ARGUMENT)
        .env("HPC_PROXY_STATE_DIR", home.path().join("state"))
        .stderr(Stdio::inherit())
        .output()
        .context("start a round")?;
    ensure!(
        output.status.success(),
        "a round {arguments:?} failed: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("what a round said")
}

fn measure() -> Result<Round> {
    let port = {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
        free.local_addr()?.port()
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut round = Round {
        bind: median(BINDS, || {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            let began = Instant::now();
            bind(&socket, &address)?;
            Ok(began.elapsed())
        })?,
        ..Round::default()
    };
    let listener = TcpListener::bind(address).context("listen")?;
    thread::spawn(move || serve(&listener));
    round.connect = median(CALLS, || {
        let began = Instant::now();
        let stream = TcpStream::connect(address)?;
        let took = began.elapsed();
        finish(stream, b'x')?;
        Ok(took)
    })?;
    round.exchange = median(CALLS, || {
        let began = Instant::now();
        let read = finish(TcpStream::connect(address)?, b'a')?;
        ensure!(read == ANSWER_BYTES, "{read} bytes");
        Ok(began.elapsed())
    })?;
    round.connect_elsewhere = median(CALLS, || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let began = Instant::now();
        socket.connect(address)?;
        Ok(began.elapsed())
    })?;
    let directory = TempDir::new()?;
    let path = directory.path().join("socket");
    let unix = UnixListener::bind(&path)?;
    round.connect_unix = median(CALLS, || {
        let began = Instant::now();
        let stream = UnixStream::connect(&path)?;
        let took = began.elapsed();
        let _accepted = unix.accept()?;
        drop(stream);
        Ok(took)
    })?;
    round.other = median(CALLS, || {
        const TIMES: u32 = 100;
        let began = Instant::now();
        for _ in 0..TIMES {
            std::hint::black_box(rustix::process::getppid());
        }
        Ok(began.elapsed() / TIMES)
    })?;
    let began = Instant::now();
    let read = finish(TcpStream::connect(address)?, b'b')?;
    ensure!(read == BULK_BYTES, "{read} bytes");
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let megabytes = BULK_BYTES as f64 / 1e6;
    round.bulk = megabytes / began.elapsed().as_secs_f64();
    Ok(round)
}

/// Microseconds.
fn median(times: usize, mut call: impl FnMut() -> Result<Duration>) -> Result<f64> {
    // The first one finds nothing in any cache.
    call()?;
    let taken = (0..times).map(|_| Ok(call()?.as_secs_f64() * 1e6));
    Ok(taken.collect::<Result<Samples>>()?.median())
}

/// Asks for an answer of a kind, and reads it to its end.
fn finish(mut stream: TcpStream, kind: u8) -> Result<usize> {
    stream.write_all(&[kind])?;
    let (mut read, mut buffer) = (0, vec![0; 128 * 1024]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(read),
            bytes => read += bytes,
        }
    }
}

/// Answers each connection as its first byte says, and closes it.
fn serve(listener: &TcpListener) {
    let chunk = vec![b'x'; 64 * 1024];
    for stream in listener.incoming() {
        let answered = stream.and_then(|mut stream| {
            let mut kind = [0];
            stream.read_exact(&mut kind)?;
            match kind[0] {
                b'a' => stream.write_all(&chunk[..ANSWER_BYTES]),
                b'b' => (0..BULK_BYTES / chunk.len()).try_for_each(|_| stream.write_all(&chunk)),
                _ => Ok(()),
            }
        });
        if answered.is_err() {
            return;
        }
    }
}
