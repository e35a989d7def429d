//! F. WebSocket and upgrades: a handshake passes unchanged, then every byte does, until either end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{
    peer::Conn,
    row::{Row, row, story},
    stage::Stage,
    wire::Head,
};

mod frames;
mod handshakes;
mod other;

/// The fields of RFC 6455's own example.
const ASKS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const AGREES: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
/// Longer than anything that happens at once.
const A_MOMENT: Duration = Duration::from_millis(200);

pub(super) fn rows() -> Vec<Row> {
    let mut rows = handshakes::rows();
    rows.extend(frames::rows());
    rows.extend(other::rows());
    rows
}

/// A handshake with more fields on either side: client, server, and what each got.
fn shaken(stage: &Stage, asks: &str, agrees: &str) -> Result<(Conn, Conn, Head, Head)> {
    let mut client = stage.asks(format!("GET {{P}}/ws HTTP/1.1\r\n{{H}}{ASKS}{asks}\r\n"))?;
    let (mut server, asked) = stage.accepts_head()?;
    server.send(format!("{AGREES}{agrees}\r\n"))?;
    let agreed = client.head().context("the client's handshake")?;
    let status = agreed.status();
    ensure!(status == 101, "the client got {status}");
    Ok((client, server, asked, agreed))
}

/// Two ends of a pipe.
fn pipe(stage: &Stage) -> Result<(Conn, Conn)> {
    let (client, server, _, _) = shaken(stage, "", "")?;
    Ok((client, server))
}

/// A client's frame, masked with zeros (RFC 6455 section 5.2), so that its payload can be read.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [
        &frame_head(first, payload.len(), 0x80)[..],
        &[0; 4],
        payload,
    ]
    .concat()
}

/// A server's frame.
fn bare(first: u8, payload: &[u8]) -> Vec<u8> {
    [&frame_head(first, payload.len(), 0)[..], payload].concat()
}

fn frame_head(first: u8, length: usize, mask: u8) -> Vec<u8> {
    match length {
        0..=125 => vec![first, mask | u8::try_from(length).unwrap_or(0)],
        126..=0xffff => [
            &[first, mask | 126][..],
            &u16::try_from(length).unwrap_or(0).to_be_bytes(),
        ]
        .concat(),
        _ => [&[first, mask | 127][..], &(length as u64).to_be_bytes()].concat(),
    }
}

/// These bytes arrive as they were sent.
fn passes(from: &mut Conn, to: &mut Conn, bytes: &[u8]) -> Result<()> {
    from.send(bytes)?;
    let got = to.bytes(bytes.len())?;
    ensure!(
        got == bytes,
        "other bytes came: `{}`",
        crate::peer::shortened(&got)
    );
    Ok(())
}
