//! What a proxy must not be: the first line tells the port, and every byte goes there as it came.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    thread,
};

use anyhow::Result;

use super::{Kind, Running, loopback};

pub(super) fn start() -> Result<Running> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    // Lives as long as the process: nothing but a test has it.
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || forward(client));
        }
    });
    let address = loopback(port);
    Ok(Running {
        kind: Kind::PassThrough,
        address,
        port,
        token: None,
        home: None,
        child: None,
    })
}

fn forward(mut client: TcpStream) -> io::Result<()> {
    let mut first = [0; 64 * 1024];
    let count = client.read(&mut first)?;
    let text = String::from_utf8_lossy(&first[..count]).into_owned();
    let digits = text.split_once("/port/").map_or("", |(_, rest)| rest);
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let port: u16 = digits[..end]
        .parse()
        .map_err(|_| io::ErrorKind::InvalidData)?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let without = text.replacen(&format!("/port/{port}"), "", 1);
    server.write_all(without.as_bytes())?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || {
        let copied = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
        copied
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Write)?;
    let _ = up.join();
    Ok(())
}
