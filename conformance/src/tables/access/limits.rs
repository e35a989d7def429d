//! Peers that are slow on purpose: S22, S23.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustix::process::Signal;

use crate::{
    peer::{Address, Trouble},
    row::{Met, Need, Row, story},
    stage::Stage,
    tables::get,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn rows() -> Vec<Row> {
    /// What S22 gives a head, and what a busy machine may add.
    const HEAD: Duration = Duration::from_secs(15);
    const SLACK: Duration = Duration::from_secs(4);
    let rows = vec![
        story(
            "S22",
            "a head that does not come in time ends its connection",
            |stage| {
                let mut client = stage.asks("GET {P}/x HTTP/1.1\r\n{H}")?;
                client.patience = HEAD + SLACK;
                let start = Instant::now();
                let met = match client.answer("GET") {
                    Ok(answer) => {
                        let status = answer.head.status();
                        ensure!(status == 408, "the client got {status}");
                        ensure!(
                            client.end_within(SLACK)?.is_some(),
                            "its connection was kept"
                        );
                        Met::Aim
                    }
                    Err(Trouble::Ended { .. }) => Met::Other("closed".into()),
                    Err(error) => return Err(error.into()),
                };
                let took = start.elapsed();
                ensure!(took > HEAD - SLACK, "after {took:?} already");
                Ok(met)
            },
        )
        .waits(),
        story(
            "S22",
            "a head that trickles does not live longer",
            |stage| {
                let mut client = stage.asks("GET {P}/x HTTP/1.1\r\n")?;
                let start = Instant::now();
                while start.elapsed() < HEAD + SLACK {
                    if client.send("X: 1\r\n").is_err()
                        || client.end_within(Duration::from_millis(500))?.is_some()
                    {
                        return Ok(Met::Pass);
                    }
                }
                anyhow::bail!("it lives after {:?}", start.elapsed())
            },
        )
        .waits(),
        story("S22", "slow heads do not slow others down", |stage| {
            let own = stage.alone(&[])?;
            let count = stage.scaled(200, 800);
            let mut slow = Vec::new();
            for _ in 0..count {
                slow.push(own.asks("GET {P}/x HTTP/1.1\r\nX-A: ")?);
            }
            // The first waits until all of those are let in; the burst itself is another row's.
            let mut slowest = Duration::ZERO;
            for round in 0..10 {
                let start = Instant::now();
                let mut client =
                    own.asks(get("/y").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))?;
                let (mut server, _) = own.accepts_head()?;
                server
                    .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")?;
                ensure!(client.answer("GET")?.body == b"ok");
                if round > 0 {
                    slowest = slowest.max(start.elapsed());
                }
            }
            ensure!(
                slowest < Duration::from_millis(100),
                "a good client waited {slowest:?}"
            );
            Ok(Met::Pass)
        })
        .alone(),
        story(
            "S22",
            "a burst of connections finds room to wait in",
            |stage| {
                // Without room the kernel leaves a client unanswered for a second (listen(2)).
                const BURST: usize = 256;
                let own = stage.alone(&[])?;
                own.proxy.signal(Signal::STOP)?;
                let burst: Vec<_> = (0..BURST).map_while(|_| is_let_in(&own)).collect();
                own.proxy.signal(Signal::CONT)?;
                let count = burst.len();
                ensure!(
                    count == BURST,
                    "of {BURST} connections {count} were answered"
                );
                Ok(Met::Pass)
            },
        )
        .alone(),
        story("S22, 104", "a body may take longer than a head", |stage| {
            let mut client = stage.asks("POST {P}/x HTTP/1.1\r\n{H}Content-Length: 2\r\n\r\nh")?;
            let (mut server, _) = stage.accepts_head()?;
            ensure!(
                client
                    .end_within(HEAD + Duration::from_millis(500))?
                    .is_none(),
                "it was given up"
            );
            client.send("i")?;
            ensure!(server.bytes(2)? == b"hi");
            server.send(OK)?;
            ensure!(client.answer("POST")?.body == b"ok");
            Ok(Met::Pass)
        })
        .waits(),
    ];
    rows.into_iter()
        .map(|row| row.needs(&[Need::Ownership]))
        .collect()
}

/// A connection, if the kernel makes it at once.
fn is_let_in(stage: &Stage) -> Option<TcpStream> {
    let Address::Tcp(address) = &stage.proxy.address else {
        return None;
    };
    TcpStream::connect_timeout(address, Duration::from_millis(50)).ok()
}
