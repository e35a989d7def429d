//! Who has a target port now and then: the user's own dev server, or a stranger's.
//!
//! | command | |
//! |---|---|
//! | `listen IP` | listens there, as soon as nobody else does; answers `yes`, or `no` if that is never |
//! | `close` | stops listening; connections stay |
//! | `die` | stops listening, and cuts all connections |
//! | `report` | answers how many connections there were, and how many bytes came |
//!
//! A stranger (`forward`) speaks as soon as somebody connects, and counts what it is told. The user's
//! own server answers `NAME PATH`, and echoes on WebSockets.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{AbortHandle, LocalSet, spawn_local},
};

use super::say;
use crate::{
    http::{field, read_head},
    websocket::{SWITCH, WebSocket},
};

/// How long somebody may hold an address that another is to have.
const SEIZED: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Seen {
    connections: Cell<u64>,
    bytes: Cell<u64>,
}

struct Tenant {
    name: String,
    forward: bool,
    seen: Seen,
}

pub(super) async fn run(
    port: u16,
    name: String,
    forward: bool,
    mut commands: mpsc::Receiver<String>,
) -> Result<()> {
    let tenant = Rc::new(Tenant {
        name,
        forward,
        seen: Seen::default(),
    });
    say("ready")?;
    let mut listening: Option<AbortHandle> = None;
    let mut connections = Vec::new();
    let (accepted, mut newly) = mpsc::unbounded_channel::<AbortHandle>();
    let obeying = async {
        while let Some(command) = commands.recv().await {
            while let Ok(connection) = newly.try_recv() {
                connections.push(connection);
            }
            connections.retain(|connection| !connection.is_finished());
            match command.split_once(' ').unwrap_or((&command, "")) {
                ("listen", ip) => {
                    let ip: IpAddr = ip.parse().context("an address")?;
                    let Some(listener) = seize(SocketAddr::new(ip, port)).await else {
                        say("no")?;
                        continue;
                    };
                    let accepting = accept(listener, tenant.clone(), accepted.clone());
                    listening = Some(spawn_local(accepting).abort_handle());
                    say("yes")?;
                }
                (end @ ("close" | "die"), _) => {
                    if let Some(task) = listening.take() {
                        task.abort();
                    }
                    if end == "die" {
                        connections
                            .drain(..)
                            .for_each(|connection| connection.abort());
                    }
                    // An aborted task lets go of its sockets when it is next looked at.
                    tokio::task::yield_now().await;
                    say("closed")?;
                }
                ("report", _) => {
                    let Seen { connections, bytes } = &tenant.seen;
                    say(&format!("{} {}", connections.get(), bytes.get()))?;
                }
                _ => bail!("`{command}` is no command"),
            }
        }
        Ok(())
    };
    LocalSet::new().run_until(obeying).await
}

/// Listens as soon as nobody else does.
async fn seize(address: SocketAddr) -> Option<TcpListener> {
    let deadline = Instant::now() + SEIZED;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Some(listener),
            Err(_) if Instant::now() > deadline => return None,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn accept(
    listener: TcpListener,
    tenant: Rc<Tenant>,
    accepted: mpsc::UnboundedSender<AbortHandle>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = &tenant.seen.connections;
        seen.set(seen.get() + 1);
        let tenant = tenant.clone();
        let connection = spawn_local(async move {
            let stream = BufReader::new(stream);
            // A client may leave when it likes.
            let _ = match tenant.forward {
                true => speak_first(stream, &tenant).await,
                false => answer(stream, &tenant).await,
            };
        });
        if accepted.send(connection.abort_handle()).is_err() {
            return;
        }
    }
}

async fn speak_first(mut stream: BufReader<TcpStream>, tenant: &Tenant) -> Result<()> {
    let (name, length) = (&tenant.name, tenant.name.len());
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
    stream.write_all(answer.as_bytes()).await?;
    let mut buffer = [0; 4096];
    loop {
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok(());
        }
        tenant
            .seen
            .bytes
            .set(tenant.seen.bytes.get() + bytes as u64);
    }
}

async fn answer(mut stream: BufReader<TcpStream>, tenant: &Tenant) -> Result<()> {
    stream.get_ref().set_nodelay(true)?;
    let mut head = Vec::new();
    while read_head(&mut stream, &mut head).await? {
        let mut words = head.split(|byte| *byte == b' ');
        let path = words.nth(1).context("a target")?;
        if field(&head, "upgrade").is_some() {
            stream.write_all(SWITCH.as_bytes()).await?;
            let (mut socket, mut message) = (WebSocket::of_server(stream), Vec::new());
            while socket.receive(&mut message).await? {
                socket.send(&message).await?;
            }
            return socket.send_close().await;
        }
        let body = format!("{} {}", tenant.name, String::from_utf8_lossy(path));
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
