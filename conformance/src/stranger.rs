//! A dev server in a process of its own, so that it can be another user's. Says on stdout what it
//! hears; ends when its stdin does.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// Answers every request at `address` with `body`.
///
/// # Errors
/// The address cannot be listened on.
pub fn serve(address: &str, body: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let mut out = io::stdout();
    writeln!(out, "listening {}", listener.local_addr()?.port())?;
    out.flush()?;
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    for stream in listener.incoming() {
        let (mut stream, answer) = (stream?, answer.clone());
        thread::spawn(move || -> io::Result<()> {
            writeln!(io::stdout(), "connection")?;
            let mut heard = [0; 4096];
            loop {
                let count = stream.read(&mut heard)?;
                if count == 0 {
                    return Ok(());
                }
                writeln!(io::stdout(), "heard {}", heard[..count].escape_ascii())?;
                stream.write_all(answer.as_bytes())?;
            }
        });
    }
    Ok(())
}

/// Such a process; ended when dropped.
pub(crate) struct Stranger {
    child: Child,
    heard: Receiver<String>,
    pub(crate) port: u16,
}

impl Stranger {
    /// Starts `helper` as `uid`.
    pub(crate) fn start(helper: &Path, uid: u32, address: &str, body: &str) -> Result<Self> {
        let mut child = Command::new(helper)
            .args(["stranger", address, body])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .uid(uid)
            .gid(uid)
            .spawn()
            .context("start the helper as another user")?;
        let heard = lines(child.stdout.take().context("it has a stdout")?);
        let first = heard.recv_timeout(Duration::from_secs(10));
        let mut stranger = Self {
            child,
            heard,
            port: 0,
        };
        let first = first.context("the helper did not listen")?;
        stranger.port = first.trim_start_matches("listening ").parse()?;
        Ok(stranger)
    }

    /// What it heard until now, and in the next moment.
    pub(crate) fn heard(&self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Ok(line) = self.heard.recv_timeout(Duration::from_millis(50)) {
            heard.push(line);
        }
        heard
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
