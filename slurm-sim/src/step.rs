//! A step: one command that joins a running job, its streams carried to the `srun` that asked for
//! it. `srun` listens; the node connects back, twice, and shows the secret of the request: one
//! connection is the command's input as it is, the other carries [`Frame`]s of output, and ends
//! when `srun` does, which ends the step.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::account::OsIds;
use crate::clock::Time;
use crate::job::Exit;
use crate::{processes, stop, task};

/// SIGKILL needs no longer, unless a process hangs in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Length of a secret in bytes, as it is sent.
pub(crate) const SECRET: usize = 64;

/// What `srun` asks of the job's node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) secret: String,
    pub(crate) directory: PathBuf,
    pub(crate) command: Vec<String>,
    pub(crate) variables: Vec<(OsString, OsString)>,
}

/// A request on its way from the job's `stepd` to the process that runs it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) request: Request,
    pub(crate) ids: Option<OsIds>,
    pub(crate) node: String,
    pub(crate) job: u32,
    pub(crate) step: u32,
    /// How long after SIGTERM its job is killed.
    pub(crate) kill_wait: Duration,
}

/// What a step's second connection carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Out(Vec<u8>),
    Err(Vec<u8>),
    /// The step is being ended, and is given this many seconds.
    Abort(u8),
    End(Exit),
}

impl Frame {
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let end;
        let (kind, bytes) = match self {
            Self::Out(bytes) => (b'o', bytes.as_slice()),
            Self::Err(bytes) => (b'e', bytes.as_slice()),
            Self::Abort(secs) => (b'a', std::slice::from_ref(secs)),
            Self::End(exit) => {
                end = serde_json::to_vec(exit)?;
                (b'x', end.as_slice())
            }
        };
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        to.write_all(&[kind])?;
        to.write_all(&length.to_be_bytes())?;
        to.write_all(bytes)
    }

    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let mut bytes = Vec::new();
        let length = u64::from(u32::from_be_bytes(length));
        if from.take(length).read_to_end(&mut bytes)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match kind {
            b'o' => Ok(Self::Out(bytes)),
            b'e' => Ok(Self::Err(bytes)),
            b'a' => match bytes[..] {
                [secs] => Ok(Self::Abort(secs)),
                _ => Err(io::ErrorKind::InvalidData.into()),
            },
            b'x' => Ok(Self::End(serde_json::from_slice(&bytes)?)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Runs the step that standard input describes.
pub(crate) fn run() -> anyhow::Result<()> {
    let launch: Launch = serde_json::from_reader(io::stdin()).context("not a step")?;
    nix::sys::prctl::set_child_subreaper(true).context("cannot become a subreaper")?;
    let connect = |kind| dial(&launch.request, kind).context("cannot reach srun");
    let (input, output) = (connect(b'i')?, connect(b'o')?);
    let mut launch = launch;
    if let Err(error) = std::fs::read_dir(&launch.request.directory) {
        let refusal = format!(
            "slurmstepd-{}: error: couldn't chdir to `{}': {}: going to /tmp instead\n",
            launch.node,
            launch.request.directory.display(),
            words(&error)
        );
        // Said by the step and by its task.
        for _ in 0..2 {
            Frame::Err(refusal.clone().into_bytes()).write(&mut &output)?;
        }
        launch.request.directory = "/tmp".into();
    }
    let mut child = start(&launch)?;
    let lifeline = output.try_clone()?;
    let output = Arc::new(Mutex::new(output));
    thread::spawn(move || {
        let _ = (&lifeline).read(&mut [0]);
        processes::kill_descendants(KILL_DEADLINE);
        std::process::exit(1);
    });
    remark_when_cancelled(&launch, &child, &output)?;
    let mut stdin = child.stdin.take().context("piped")?;
    thread::spawn(move || copy(&input, &mut stdin));
    let streams = [
        pump(child.stdout.take().context("piped")?, Frame::Out, &output),
        pump(child.stderr.take().context("piped")?, Frame::Err, &output),
    ];
    let status = child.wait()?;
    for stream in streams {
        let _ = stream.join();
    }
    let exit = Exit {
        code: status.code().unwrap_or(0),
        signal: status.signal().unwrap_or(0),
    };
    send(&output, &Frame::End(exit))?;
    processes::kill_descendants(KILL_DEADLINE);
    Ok(())
}

/// An error in the words of strerror(3), without Rust's number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error")
        .map_or(text.clone(), |(words, _)| words.to_owned())
}

fn dial(request: &Request, kind: u8) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((request.host.as_str(), request.port))?;
    stream.set_nodelay(true)?;
    stream.write_all(request.secret.as_bytes())?;
    stream.write_all(&[kind])?;
    Ok(stream)
}

fn start(launch: &Launch) -> io::Result<Child> {
    let (program, args) = launch
        .request
        .command
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    Command::new("/proc/self/exe")
        .arg0("slurmstepd")
        .args(task::Args::spell(
            launch.ids.as_ref(),
            &launch.node,
            program.as_ref(),
            args,
        ))
        .env_clear()
        .envs(launch.request.variables.iter().cloned())
        .current_dir(&launch.request.directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn send(output: &Mutex<TcpStream>, frame: &Frame) -> io::Result<()> {
    frame.write(&mut *output.lock().unwrap_or_else(PoisonError::into_inner))
}

fn pump(
    mut from: impl Read + Send + 'static,
    frame: fn(Vec<u8>) -> Frame,
    output: &Arc<Mutex<TcpStream>>,
) -> thread::JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if send(&output, &frame(buffer[..n].to_vec())).is_err() {
                return;
            }
        }
    })
}

/// The job's `stepd` sends SIGTERM when the job is cancelled; the command gets it too.
fn remark_when_cancelled(
    launch: &Launch,
    child: &Child,
    output: &Arc<Mutex<TcpStream>>,
) -> anyhow::Result<()> {
    let (output, stop) = (Arc::clone(output), stop::requests(false)?);
    let group = Pid::from_raw(child.id().try_into().context("a pid fits")?);
    let (node, job, step) = (launch.node.clone(), launch.job, launch.step);
    let kill_wait = launch.kill_wait;
    thread::spawn(move || {
        if stop.recv().is_ok() {
            // srun gives the node a little longer than that.
            let secs = u8::try_from(kill_wait.as_secs() + 2).unwrap_or(u8::MAX);
            let _ = send(&output, &Frame::Abort(secs));
            let line = format!(
                "slurmstepd-{node}: error: *** STEP {job}.{step} ON {node} CANCELLED AT {} ***\n",
                Time::now()
            );
            let _ = send(&output, &Frame::Err(line.into_bytes()));
            // Only then: with its last process the step is over, and nothing more is said.
            for signal in [Signal::SIGCONT, Signal::SIGTERM] {
                let _ = kill(group, signal);
            }
        }
    });
    Ok(())
}

/// Passes on what comes as soon as it comes; splice(2), which the standard library's copy takes, waits for
/// more to send with it.
fn copy(mut from: impl Read, to: &mut impl Write) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// Passes input on to a step until it ends.
pub(crate) fn feed(input: impl Read, mut to: TcpStream) {
    copy(input, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire() {
        let frames = [
            Frame::Out(vec![0, 255, b'\n']),
            Frame::Err(vec![]),
            Frame::Abort(7),
            Frame::End(Exit { code: 3, signal: 0 }),
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        for frame in &frames {
            assert_eq!(Frame::read(&mut rest).unwrap(), *frame);
        }
        assert!(Frame::read(&mut &wire[..6]).is_err());
    }
}
