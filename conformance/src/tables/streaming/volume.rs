//! Much data, many at once, little memory.

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};

use super::{OK, streaming};
use crate::{
    peer::{Conn, PATIENCE},
    row::{Met, Row, story},
    stage::{Stage, answer_in_parts},
    subject::Running,
    tables::with,
};

const MEGABYTE: u64 = 1024 * 1024;
/// What behaviour 105 allows a stream.
const PER_STREAM_BYTES: u64 = MEGABYTE;

pub(super) fn rows() -> Vec<Row> {
    vec![
        story(
            "66, 105",
            "a large upload passes in little memory",
            |stage| {
                upload(
                    &own(stage)?,
                    "Content-Length",
                    stage.scaled(200, 10 * 1024) * MEGABYTE,
                )
            },
        )
        .alone(),
        story(
            "66, 105",
            "a large chunked upload passes in little memory",
            |stage| {
                upload(
                    &own(stage)?,
                    "Transfer-Encoding",
                    stage.scaled(100, 1024) * MEGABYTE,
                )
            },
        )
        .alone(),
        story("105", "a large download passes in little memory", |stage| {
            download(&own(stage)?, stage.scaled(200, 10 * 1024) * MEGABYTE)
        })
        .alone(),
        story(
            "105",
            "clients that do not read hold their dev servers up",
            |stage| slow_readers(&own(stage)?),
        )
        .alone(),
        story(
            "105",
            "a dev server that does not read holds its client up",
            |stage| slow_server(&own(stage)?),
        )
        .alone(),
        story("126", "many requests pass a stream by", |stage| {
            many_at_once(stage, stage.scaled(50, 200))
        }),
    ]
}

/// A proxy whose memory is this row's alone; the shared one where there can be no other.
fn own<'a>(stage: &Stage<'a>) -> Result<Stage<'a>> {
    let own = stage.alone(&[])?;
    // What the first exchange needs is no growth.
    let mut client = own.gets("/")?;
    let (mut server, _) = own.accepts_head()?;
    server.send(OK)?;
    client.answer("GET")?;
    drop((client, server));
    Ok(own)
}

fn grown(proxy: &Running, before: u64) -> Result<u64> {
    Ok(proxy.resident_bytes()?.saturating_sub(before))
}

fn is_little(proxy: &Running, before: u64, streams: u64) -> Result<Met> {
    let grown = grown(proxy, before)?;
    ensure!(
        grown < streams * PER_STREAM_BYTES,
        "the proxy grew by {} KiB",
        grown / 1024
    );
    Ok(Met::Pass)
}

fn upload(stage: &Stage, framing: &str, size: u64) -> Result<Met> {
    let before = stage.proxy.resident_bytes()?;
    let is_chunked = framing == "Transfer-Encoding";
    let value = if is_chunked {
        "chunked".to_owned()
    } else {
        size.to_string()
    };
    let mut client = stage.asks(with("POST", "/x", &format!("{framing}: {value}\r\n")))?;
    let mut server = accepts_next(stage)?;
    let mut up = client.sender()?;
    let block = match is_chunked {
        true => [&b"100000\r\n"[..], &[b'x'; 0x10_0000], b"\r\n"].concat(),
        false => vec![b'x'; 0x10_0000],
    };
    let upload = thread::spawn(move || -> Result<()> {
        for _ in 0..size / MEGABYTE {
            up.send(&block)?;
        }
        if is_chunked {
            up.send("0\r\n\r\n")?;
        }
        Ok(())
    });
    let reader = thread::spawn(move || -> Result<Conn> {
        if is_chunked {
            // Whatever chunks a proxy makes of it, the data is all `x`.
            let mut count = 0;
            while count < size {
                let part = server.bytes(1)?[0];
                count += u64::from(part == b'x');
                count += server.skip_buffered(|byte| **byte == b'x');
            }
            let mut last = [0; 7];
            while !last.ends_with(b"0\r\n\r\n") {
                last.rotate_left(1);
                last[6] = server.bytes(1)?[0];
            }
        } else {
            server.skip(size)?;
        }
        server.send(OK)?;
        Ok(server)
    });
    client.patience = Duration::from_secs(600);
    let answer = client.answer("POST")?;
    ensure!(answer.body == b"ok");
    joined(upload)?;
    joined(reader)?;
    is_little(&stage.proxy, before, 4)
}

fn joined<T>(thread: thread::JoinHandle<Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("a thread of the row panicked"))?
}

fn download(stage: &Stage, size: u64) -> Result<Met> {
    let before = stage.proxy.resident_bytes()?;
    let mut client = stage.asks(with("GET", "/x", ""))?;
    let mut server = accepts_next(stage)?;
    let download = thread::spawn(move || -> Result<()> {
        server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))?;
        let block = vec![b'x'; 0x10_0000];
        for _ in 0..size / MEGABYTE {
            server.send(&block)?;
        }
        Ok(())
    });
    let head = client.head()?;
    ensure!(head.status() == 200);
    client.skip(size)?;
    joined(download)?;
    is_little(&stage.proxy, before, 4)
}

/// The dev server's side of the next request, past a connection that was kept and closed.
fn accepts_next(stage: &Stage) -> Result<Conn> {
    let mut server = stage.accepts()?;
    server.head().context("the dev server's request")?;
    Ok(server)
}

fn slow_readers(stage: &Stage) -> Result<Met> {
    const STREAMS: u64 = 4;
    /// More than both kernels' buffers on both sides of the proxy.
    const ENOUGH_BYTES: usize = 64 * 1024 * 1024;
    let before = stage.proxy.resident_bytes()?;
    let mut pairs = Vec::new();
    for _ in 0..STREAMS {
        let mut client = stage.gets("/x")?;
        let mut server = accepts_next(stage)?;
        server.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {ENOUGH_BYTES}\r\n\r\n"
        ))?;
        answer_in_parts(&mut client)?;
        let body = vec![b'x'; ENOUGH_BYTES];
        let sent = server.send_within(&body, Duration::from_millis(150))?;
        ensure!(
            sent < ENOUGH_BYTES,
            "the proxy took all of {ENOUGH_BYTES} bytes"
        );
        pairs.push((client, server));
    }
    is_little(&stage.proxy, before, STREAMS)
}

fn slow_server(stage: &Stage) -> Result<Met> {
    const ENOUGH_BYTES: usize = 64 * 1024 * 1024;
    let before = stage.proxy.resident_bytes()?;
    let mut client = stage.asks(with(
        "POST",
        "/x",
        &format!("Content-Length: {ENOUGH_BYTES}\r\n"),
    ))?;
    let _server = accepts_next(stage)?;
    let body = vec![b'x'; ENOUGH_BYTES];
    let sent = client.send_within(&body, Duration::from_millis(500))?;
    ensure!(
        sent < ENOUGH_BYTES,
        "the proxy took all of {ENOUGH_BYTES} bytes"
    );
    is_little(&stage.proxy, before, 2)
}

fn many_at_once(stage: &Stage, count: usize) -> Result<Met> {
    let (_client, _server) = streaming(stage)?;
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(stage.gets("/y")?);
    }
    let mut servers = Vec::new();
    for _ in 0..count {
        let mut server = stage.accepts()?;
        server.patience = PATIENCE;
        server.head()?;
        servers.push(server);
    }
    for server in &mut servers {
        server.send(OK)?;
    }
    for client in &mut clients {
        ensure!(client.answer("GET")?.body == b"ok");
    }
    Ok(Met::Pass)
}
