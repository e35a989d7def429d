//! G. Targets and process: where dev servers are found, and how the proxy lives and ends.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketType, bind, ipproto, listen, socket, sockopt};

use crate::{
    peer::{Conn, Listener},
    row::{Met, Need, Row, story},
    stage::Stage,
    subject::unused_port,
    tables::with,
};

mod life;
mod sockets;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = addresses();
    rows.extend(restarts());
    rows.extend(sockets::rows());
    rows.extend(life::rows());
    rows
}

/// One exchange over whichever connection the proxy takes.
fn one_exchange(stage: &Stage) -> Result<(Conn, Conn)> {
    let mut client = stage.gets("/x")?;
    let (mut server, _) = stage.accepts_head()?;
    server.send(OK)?;
    let answer = client.answer("GET")?;
    let status = answer.head.status();
    ensure!(status == 200, "the client got {status}");
    Ok((client, server))
}

fn addresses() -> Vec<Row> {
    let reaches = |stage: &Stage, address: &str| -> Result<Met> {
        let there = stage.beside(Listener::tcp(address)?);
        one_exchange(&there)?;
        Ok(Met::Pass)
    };
    vec![
        story(
            "122",
            "a dev server on 127.0.0.1 is reached",
            move |stage| reaches(stage, "127.0.0.1:0"),
        ),
        story(
            "122",
            "a dev server on every address is reached",
            move |stage| reaches(stage, "0.0.0.0:0"),
        ),
        story("122", "a dev server on [::1] is reached", move |stage| {
            reaches(stage, "[::1]:0")
        })
        .needs(&[Need::Ipv6]),
        story("122", "a dev server on [::] is reached", move |stage| {
            reaches(stage, "[::]:0")
        })
        .needs(&[Need::Ipv6]),
        story(
            "122",
            "a dev server on [::] for IPv6 alone is reached",
            |stage| {
                let there = stage.beside(only_ipv6()?);
                one_exchange(&there)?;
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::Ipv6]),
        story(
            "122, 108",
            "a pipe to a dev server on [::1] opens",
            |stage| {
                let there = stage.beside(Listener::tcp("[::1]:0")?);
                let mut client = there.asks(with(
                    "GET",
                    "/ws",
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AA==\r\n",
                ))?;
                let (mut server, _) = there.accepts_head()?;
                server.send(
                    "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi",
                )?;
                ensure!(client.head()?.status() == 101);
                ensure!(client.bytes(2)? == b"hi");
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::Ipv6]),
    ]
}

/// A listener that takes no IPv4 connections, whatever the machine's default is.
fn only_ipv6() -> Result<Listener> {
    let fd = socket(AddressFamily::INET6, SocketType::STREAM, Some(ipproto::TCP))?;
    sockopt::set_ipv6_v6only(&fd, true)?;
    bind(
        &fd,
        &std::net::SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, 0, 0, 0),
    )?;
    listen(&fd, 16)?;
    Ok(Listener::Tcp(fd.into()))
}

fn restarts() -> Vec<Row> {
    /// Longer than an owner may be believed without asking (behaviour 123).
    const LONGER_THAN_ANY_CACHE: Duration = Duration::from_millis(300);
    vec![
        story(
            "123",
            "a dev server that restarts is found again",
            move |stage| {
                let first = stage.beside(movable()?);
                let (mut client, server) = one_exchange(&first)?;
                let (_, port) = first.stops_listening();
                drop(server);
                let second = stage.beside(rebound(port)?);
                client.send(second.fill(with("GET", "/2", "")))?;
                let (mut server, head) = second.accepts_head()?;
                ensure!(head.target() == b"/2");
                server.send(OK)?;
                let status = client.answer("GET")?.head.status();
                ensure!(status == 200, "the client got {status}");
                Ok(Met::Pass)
            },
        ),
        story(
            "123, S6",
            "a connection to a dev server that lost its port is not used again",
            move |stage| {
                let first = stage.beside(movable()?);
                let (mut client, mut old) = one_exchange(&first)?;
                let (_, port) = first.stops_listening();
                // The old connection stays open, as that of a process that only stopped listening does.
                let second = stage.beside(rebound(port)?);
                sleep(LONGER_THAN_ANY_CACHE);
                client.send(second.fill(with("GET", "/2", "")))?;
                let (mut server, _) = second
                    .accepts_head()
                    .context("the new server's connection")?;
                server.send(OK)?;
                ensure!(client.answer("GET")?.head.status() == 200);
                let heard = old.heard_within(Duration::from_millis(20))?;
                ensure!(
                    heard.is_empty(),
                    "the old server got `{}`",
                    heard.escape_ascii()
                );
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::Ownership]),
        story(
            "123, S6",
            "a connection to a dev server that stopped listening is not used again",
            move |stage| {
                let first = stage.beside(movable()?);
                let (mut client, mut old) = one_exchange(&first)?;
                let (vars, _) = first.stops_listening();
                sleep(LONGER_THAN_ANY_CACHE);
                client.send(vars.fill(with("GET", "/2", "")))?;
                let status = client.answer("GET")?.head.status();
                ensure!(status == 502, "the client got {status}");
                let heard = old.heard_within(Duration::from_millis(20))?;
                ensure!(
                    heard.is_empty(),
                    "the old server got `{}`",
                    heard.escape_ascii()
                );
                Ok(Met::Pass)
            },
        )
        .needs(&[Need::Ownership]),
        story(
            "124",
            "a dev server that starts late is found",
            move |stage| {
                let port = unused_port()?;
                let mut client = stage.asks(format!("GET /port/{port}/x HTTP/1.1\r\n{{H}}\r\n"))?;
                ensure!(client.answer("GET")?.head.status() == 502);
                let late = stage.beside(Listener::tcp(&format!("127.0.0.1:{port}"))?);
                one_exchange(&late)?;
                Ok(Met::Pass)
            },
        ),
        story(
            "124",
            "a client that got 502 is served over the same connection",
            move |stage| {
                let port = unused_port()?;
                let mut client = stage.asks(format!("GET /port/{port}/x HTTP/1.1\r\n{{H}}\r\n"))?;
                let answer = client.answer("GET")?;
                ensure!(answer.head.status() == 502);
                if answer.head.says_close() {
                    return Ok(Met::Other("closed".into()));
                }
                let late = stage.beside(Listener::tcp(&format!("127.0.0.1:{port}"))?);
                client.send(late.fill(with("GET", "/2", "")))?;
                let (mut server, _) = late.accepts_head()?;
                server.send(OK)?;
                ensure!(client.answer("GET")?.head.status() == 200);
                Ok(Met::Aim)
            },
        ),
    ]
}

/// A listener on a port that no connection of anybody else's can have in between.
fn movable() -> Result<Listener> {
    Ok(Listener::tcp(&format!("127.0.0.1:{}", unused_port()?))?)
}

/// A listener on a port that another just had.
fn rebound(port: u16) -> Result<Listener> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match Listener::tcp(&format!("127.0.0.1:{port}")) {
            Ok(listener) => return Ok(listener),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(25)),
        }
    }
}
