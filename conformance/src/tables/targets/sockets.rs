//! Dev servers that listen on a socket in the file system, and the proxy that does.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::OK;
use crate::{
    peer::Listener,
    row::{Met, Need, Row, story},
    stage::Stage,
};

pub(super) fn rows() -> Vec<Row> {
    let rows = vec![
        story(
            "125",
            "a dev server on a socket is reached by its name",
            |stage| {
                let (dir, there) = with_sockets(stage)?;
                let app = there.beside(Listener::unix(&dir.path().join("app.sock"))?);
                let mut client = app.asks("GET /sock/app.sock/a%2Fb//c?x HTTP/1.1\r\n{H}\r\n")?;
                let (mut server, head) = app.accepts_head()?;
                ensure!(
                    head.target() == b"/a%2Fb//c?x",
                    "it got `{}`",
                    head.target().escape_ascii()
                );
                ensure!(head.all("host").count() == 1, "it got no Host");
                ensure!(
                    head.only("x-forwarded-prefix") == Some(b"/sock/app.sock"),
                    "the prefix is not stated"
                );
                server.send(OK)?;
                ensure!(client.answer("GET")?.body == b"ok");
                Ok(Met::Pass)
            },
        ),
        story(
            "125",
            "a redirect of a dev server on a socket leads below its prefix",
            |stage| {
                let (dir, there) = with_sockets(stage)?;
                let app = there.beside(Listener::unix(&dir.path().join("app"))?);
                let mut client = app.asks("GET /sock/app/ HTTP/1.1\r\n{H}\r\n")?;
                let (mut server, _) = app.accepts_head()?;
                server.send("HTTP/1.1 302 x\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")?;
                let answer = client.answer("GET")?;
                ensure!(answer.head.only("location") == Some(&b"/sock/app/x"[..]));
                Ok(Met::Pass)
            },
        ),
        story(
            "125, 108",
            "a pipe to a dev server on a socket opens",
            |stage| {
                let (dir, there) = with_sockets(stage)?;
                let app = there.beside(Listener::unix(&dir.path().join("app"))?);
                let mut client = app.asks(
                    "GET /sock/app/ws HTTP/1.1\r\n{H}Connection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                )?;
                let (mut server, head) = app.accepts_head()?;
                ensure!(head.lists("connection", "upgrade"));
                server.send(b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi")?;
                ensure!(client.head()?.status() == 101);
                ensure!(client.bytes(4)? == b"\x81\x02hi");
                client.send("up")?;
                ensure!(server.bytes(2)? == b"up");
                client.fin()?;
                ensure!(server.end_within(super::Duration::from_secs(2))?.is_some());
                Ok(Met::Pass)
            },
        ),
        story(
            "125, 106",
            "a connection to a socket is used again",
            |stage| {
                let (dir, there) = with_sockets(stage)?;
                let app = there.beside(Listener::unix(&dir.path().join("app"))?);
                let mut client = app.asks("GET /sock/app/ HTTP/1.1\r\n{H}\r\n")?;
                let (mut server, _) = app.accepts_head()?;
                for _ in 0..10 {
                    server.send(OK)?;
                    ensure!(client.answer("GET")?.body == b"ok");
                    client.send(app.fill("GET /sock/app/ HTTP/1.1\r\n{H}\r\n"))?;
                    server.head()?;
                }
                Ok(Met::Pass)
            },
        ),
        story("125, 91", "a socket that is not there is a 502", |stage| {
            let (_dir, there) = with_sockets(stage)?;
            let mut client = there.asks("GET /sock/none/ HTTP/1.1\r\n{H}\r\n")?;
            let status = client.answer("GET")?.head.status();
            ensure!(status == 502 || status == 404, "the client got {status}");
            Ok(Met::Pass)
        }),
        story("125", "a socket that nobody listens on is a 502", |stage| {
            let (dir, there) = with_sockets(stage)?;
            drop(Listener::unix(&dir.path().join("dead"))?);
            let mut client = there.asks("GET /sock/dead/ HTTP/1.1\r\n{H}\r\n")?;
            let status = client.answer("GET")?.head.status();
            ensure!(status == 502, "the client got {status}");
            Ok(Met::Pass)
        }),
        story(
            "125",
            "a name never leaves the directory of sockets",
            |stage| {
                let (dir, there) = with_sockets(stage)?;
                let outside = TempDir::new_in(dir.path())?;
                let app = there.beside(Listener::unix(&outside.path().join("app"))?);
                let inner = outside
                    .path()
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let whole = outside.path().display().to_string();
                for name in [
                    format!("{inner}/app"),
                    format!("{inner}%2Fapp"),
                    format!("..%2F{inner}%2Fapp"),
                    format!("{}/app", whole.replace('/', "%2F")),
                    format!("/{whole}/app"),
                    "..".into(),
                    ".".into(),
                    "%2e%2e".into(),
                    "a%00b".into(),
                    String::new(),
                ] {
                    let mut client =
                        app.asks(format!("GET /sock/{name}/ HTTP/1.1\r\n{{H}}\r\n"))?;
                    let status = client.answer("GET")?.head.status();
                    ensure!(
                        (400..=404).contains(&status) || status == 502,
                        "`{name}` got {status}"
                    );
                }
                app.nobody_connects(super::Duration::from_millis(20))?;
                Ok(Met::Pass)
            },
        ),
        story(
            "125",
            "a link out of the directory of sockets is not followed",
            |stage| {
                let (dir, there) = with_sockets(stage)?;
                let elsewhere = TempDir::new()?;
                let app = there.beside(Listener::unix(&elsewhere.path().join("app"))?);
                std::os::unix::fs::symlink(elsewhere.path().join("app"), dir.path().join("app"))?;
                let mut client = app.asks("GET /sock/app/ HTTP/1.1\r\n{H}\r\n")?;
                let Some(mut server) = app.listener().accept(super::Duration::from_millis(200))?
                else {
                    let status = client.answer("GET")?.head.status();
                    ensure!(status >= 400, "the client got {status}");
                    return Ok(Met::Aim);
                };
                // It is the user's own link, and the socket's owner is asked for as of any other.
                server.head()?;
                server.send(OK)?;
                ensure!(client.answer("GET")?.head.status() == 200);
                Ok(Met::Other("followed".into()))
            },
        ),
        story(
            "125, S2",
            "a socket is nobody's without the token",
            |stage| {
                let (dir, there) = with_sockets(stage)?;
                let app = there.beside(Listener::unix(&dir.path().join("app"))?);
                let mut client = app.asks("GET /sock/app/ HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
                ensure!(client.answer("GET")?.head.status() == 401);
                app.nobody_connects(super::Duration::from_millis(20))?;
                Ok(Met::Pass)
            },
        ),
    ];
    let rows = rows
        .into_iter()
        .map(|row| row.needs(&[Need::OtherRoutes, Need::Flags]));
    rows.chain([listening()]).collect()
}

fn private_dir() -> Result<TempDir> {
    let dir = TempDir::new()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700))?;
    Ok(dir)
}

/// A proxy whose users' sockets are in a directory of its own.
fn with_sockets<'a>(stage: &Stage<'a>) -> Result<(TempDir, Stage<'a>)> {
    let dir = private_dir()?;
    let there = stage.alone(&["--socket-dir", text(dir.path())])?;
    Ok((dir, there))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn listening() -> Row {
    story(
        "125, 1",
        "the proxy itself may listen on a socket",
        |stage| {
            let dir = private_dir()?;
            let path = dir.path().join("proxy");
            let there = stage.alone(&["--listen", &format!("unix:{}", text(&path))])?;
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            ensure!(mode & 0o077 == 0, "others may use it: {mode:o}");
            let mut client = there.gets("/a%2Fb?x")?;
            let (mut server, head) = there.accepts_head()?;
            ensure!(head.target() == b"/a%2Fb?x");
            server.send(OK)?;
            ensure!(client.answer("GET")?.body == b"ok");
            Ok(Met::Pass)
        },
    )
    .needs(&[Need::Flags])
}
