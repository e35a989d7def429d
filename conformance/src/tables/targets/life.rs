//! From start to exit: what is published when, and how a proxy ends.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{OK, one_exchange};
use crate::{
    peer::Conn,
    row::{Met, Need, Row, story},
    stage::{Stage, answer_in_parts},
};

const SOON: Duration = Duration::from_secs(5);

mod exhaustion;
mod lease;

pub(super) fn rows() -> Vec<Row> {
    let rows = [endings(), lease::rows(), exhaustion::rows()];
    rows.into_iter()
        .flatten()
        .map(|row| row.needs(&[Need::Lease]))
        .collect()
}

/// What lies in the directory of the lease.
fn published_files(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.join(".hpc-proxy"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect()
}

fn port_file(home: &Path) -> PathBuf {
    home.join(".hpc-proxy/port")
}

/// The proxy takes no new connections.
fn is_deaf(stage: &Stage) -> Result<()> {
    let start = Instant::now();
    while let Ok(mut conn) = Conn::to(&stage.proxy.address) {
        // Taken by the backlog of a listener on its way out, perhaps.
        if conn.end_within(Duration::from_millis(20))?.is_some() {
            break;
        }
        ensure!(start.elapsed() < SOON, "new connections are taken");
    }
    Ok(())
}

fn exits_cleanly(stage: &Stage, within: Duration) -> Result<()> {
    let status = stage.proxy.exit_within(within)?.context("it runs on")?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    Ok(())
}

fn pipe(stage: &Stage) -> Result<(Conn, Conn)> {
    let mut client = stage.asks(
        "GET {P}/ws HTTP/1.1\r\n{H}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )?;
    let (mut server, _) = stage.accepts_head()?;
    server.send("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
    ensure!(client.head()?.status() == 101);
    Ok((client, server))
}

fn endings() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, signal) in [("SIGTERM", Signal::TERM), ("SIGINT", Signal::INT)] {
        rows.push(story(
            "130, S30",
            format!("{name} withdraws what was published and ends with 0"),
            move |stage| {
                let own = stage.alone(&[])?;
                ensure!(port_file(own.proxy.home()).exists());
                own.proxy.signal(signal)?;
                exits_cleanly(&own, SOON)?;
                let left = published_files(own.proxy.home());
                ensure!(left.is_empty(), "it left {left:?}");
                Ok(Met::Pass)
            },
        ));
    }
    rows.extend([
        story(
            "130",
            "SIGKILL leaves a record of a proxy that nobody finds",
            |stage| {
                let own = stage.alone(&[])?;
                own.proxy.signal(Signal::KILL)?;
                own.proxy.exit_within(SOON)?;
                ensure!(port_file(own.proxy.home()).exists());
                ensure!(Conn::to(&own.proxy.address).is_err());
                Ok(Met::Pass)
            },
        ),
        story(
            "120, S30",
            "idle connections end at once on SIGTERM",
            |stage| {
                let own = stage.alone(&["--grace", "5s"])?;
                let (mut client, mut server) = one_exchange(&own)?;
                let mut silent = own.connect()?;
                own.proxy.signal(Signal::TERM)?;
                let start = Instant::now();
                ensure!(client.end_within(SOON)?.is_some(), "a client's");
                ensure!(silent.end_within(SOON)?.is_some(), "one that never asked");
                ensure!(server.end_within(SOON)?.is_some(), "a dev server's");
                exits_cleanly(&own, SOON)?;
                let took = start.elapsed();
                ensure!(took < Duration::from_secs(3), "it took {took:?}");
                Ok(Met::Pass)
            },
        ),
        story(
            "120, S30",
            "a request under way is finished after SIGTERM",
            |stage| {
                let own = stage.alone(&["--grace", "10s"])?;
                let mut client = own.gets("/x")?;
                let (mut server, _) = own.accepts_head()?;
                server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
                let (_, mut reader) = answer_in_parts(&mut client)?;
                own.proxy.signal(Signal::TERM)?;
                is_deaf(&own)?;
                server.send("done")?;
                client.part(&mut reader, 4)?;
                ensure!(reader.body() == b"done");
                exits_cleanly(&own, SOON)?;
                Ok(Met::Pass)
            },
        ),
        story(
            "120, S30",
            "an answer that begins after SIGTERM is delivered",
            |stage| {
                let own = stage.alone(&["--grace", "10s"])?;
                let mut client = own.gets("/x")?;
                let (mut server, _) = own.accepts_head()?;
                own.proxy.signal(Signal::TERM)?;
                is_deaf(&own)?;
                server.send(OK)?;
                ensure!(client.answer("GET")?.body == b"ok");
                ensure!(
                    client.end_within(SOON)?.is_some(),
                    "its connection was kept"
                );
                exits_cleanly(&own, SOON)?;
                Ok(Met::Pass)
            },
        ),
        story(
            "120, S30",
            "a pipe lives for the grace period and no longer",
            |stage| {
                let own = stage.alone(&["--grace", "1s"])?;
                let (mut client, mut server) = pipe(&own)?;
                own.proxy.signal(Signal::TERM)?;
                let start = Instant::now();
                is_deaf(&own)?;
                client.send("up")?;
                ensure!(server.bytes(2)? == b"up");
                server.send("down")?;
                ensure!(client.bytes(4)? == b"down");
                ensure!(
                    client.end_within(SOON)?.is_some(),
                    "the client's end is left"
                );
                ensure!(
                    server.end_within(SOON)?.is_some(),
                    "the dev server's end is left"
                );
                let lived = start.elapsed();
                let asked = Duration::from_millis(800)..Duration::from_millis(2500);
                ensure!(asked.contains(&lived), "it lived for {lived:?}");
                exits_cleanly(&own, SOON)?;
                Ok(Met::Pass)
            },
        ),
        story(
            "120, S30",
            "what does not end within the grace period is cut",
            |stage| {
                let own = stage.alone(&["--grace", "500ms"])?;
                let mut client = own.gets("/x")?;
                let (mut server, _) = own.accepts_head()?;
                server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")?;
                let (_, mut reader) = answer_in_parts(&mut client)?;
                client.part(&mut reader, 4)?;
                own.proxy.signal(Signal::TERM)?;
                exits_cleanly(&own, SOON)?;
                ensure!(client.end_within(SOON)?.is_some() && server.end_within(SOON)?.is_some());
                Ok(Met::Pass)
            },
        ),
        story("120", "a new upgrade is not taken after SIGTERM", |stage| {
            let own = stage.alone(&["--grace", "3s"])?;
            let (mut held, mut holding) = pipe(&own)?;
            own.proxy.signal(Signal::TERM)?;
            is_deaf(&own)?;
            own.nobody_connects(Duration::from_millis(50))?;
            held.fin()?;
            holding.fin()?;
            exits_cleanly(&own, SOON)?;
            Ok(Met::Pass)
        }),
    ]);
    rows
}
