//! `srun`, as a step inside a running job. It allocates nothing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Applet, Caller, Exit, Io, Result};
use crate::cluster::Cluster;
use crate::getopt::{Known, Operands, Parsed, flag, value};
use crate::job::{Job, State};
use crate::spool::Spool;
use crate::step::{self, Frame, Request, SECRET};
use crate::units;

const KNOWN: &[Known] = &[
    value("chdir", Some('D')),
    value("cpus-per-task", Some('c')),
    value("error", Some('e')),
    flag("help", None),
    value("input", Some('i')),
    value("job-name", Some('J')),
    value("jobid", None),
    value("mem", None),
    value("nodelist", Some('w')),
    value("nodes", Some('N')),
    value("ntasks", Some('n')),
    value("output", Some('o')),
    flag("overlap", None),
    flag("quiet", Some('Q')),
    flag("unbuffered", Some('u')),
    flag("usage", None),
    flag("verbose", Some('v')),
    flag("version", Some('V')),
];

/// How long a stranger may take to show a secret.
const GREETING: Duration = Duration::from_secs(5);

/// How long a node may take to start a step.
const LAUNCH: Duration = Duration::from_secs(30);

/// How often to look whether the job still runs.
const POLL: Duration = Duration::from_millis(200);

fn fail(message: impl std::fmt::Display) -> Exit {
    Exit::saying(1, format!("srun: error: {message}"))
}

fn refuse(why: &str) -> Exit {
    fail(format!("Unable to create step for job {why}"))
}

pub(super) fn run(args: &[String], caller: &Caller, io: &mut Io<'_>) -> Result {
    let parsed = super::parse(Applet::Srun, KNOWN, args, Operands::EndOptions, 255, io)?;
    if parsed.operands.is_empty() {
        return Err(Exit::saying(1, "srun: fatal: No command given to execute."));
    }
    let word = parsed
        .value("jobid")
        .or_else(|| caller.variable("SLURM_JOB_ID"))
        .ok_or_else(|| fail("slurm-sim runs steps of running jobs only: name one by --jobid"))?;
    let id: u32 = word
        .parse()
        .map_err(|_| fail(format!("Invalid numeric value \"{word}\" for --jobid.")))?;
    let quiet = parsed.has("quiet");
    let mut files = Files::create(&parsed, caller)?;
    let spool = caller.spool();
    let told = |exit: Exit| match parsed.has("quiet") {
        // What is not an error is not said.
        true => Exit::saying(
            exit.code,
            exit.message.split('\n').next().unwrap_or_default(),
        ),
        false => exit,
    };
    let unheard = |_| told(unconfirmed(id, super::UNREACHABLE));
    let cluster = spool.ask().map_err(unheard)?;
    let node = admit(&cluster, caller, id).map_err(told)?;
    fits(&parsed, &cluster.jobs[&id]).map_err(|why| match why {
        Misfit::Nodes(wanted) => fail(format!("Only allocated 1 nodes asked for {wanted}")),
        Misfit::Other(why) => refuse(&format!("{id}: {why}")),
    })?;
    if parsed
        .value("nodelist")
        .is_some_and(|wanted| wanted != node)
    {
        return Err(refuse(&format!(
            "{id}: Requested node configuration is not available"
        )));
    }

    let offer = Offer::make(&cluster, caller).map_err(fail)?;
    let step = spool
        .update(|cluster| {
            let job = cluster.jobs.get_mut(&id)?;
            job.steps += 1;
            Some(job.steps - 1)
        })
        .ok()
        .flatten()
        .ok_or_else(|| refuse(&format!("{id}: Invalid job id specified")))?;
    let mut variables = caller.variables.clone();
    let set = crate::environment::slurm_variables(&cluster, &cluster.jobs[&id], &node);
    variables.extend(
        set.into_iter()
            .map(|(name, value)| (name.into(), value.into())),
    );
    for (name, value) in [
        ("SLURM_STEP_ID", step.to_string()),
        ("SLURM_STEPID", step.to_string()),
        ("SLURM_NTASKS", "1".into()),
        ("SLURM_SRUN_COMM_HOST", offer.host.clone()),
    ] {
        variables.insert(name.into(), value.into());
    }
    let request = Request {
        host: offer.host.clone(),
        port: offer.port,
        secret: offer.secret.clone(),
        directory: parsed.value("chdir").map_or_else(
            || caller.directory.clone(),
            |dir| caller.directory.join(dir),
        ),
        command: parsed.operands.clone(),
        variables: variables.into_iter().collect(),
    };
    spool.save_step(id, step, &request).map_err(fail)?;
    // Only now, for the node looks for the request at once.
    spool
        .update(|cluster| {
            if let Some(job) = cluster.jobs.get_mut(&id) {
                job.waiting_steps.push(step);
            }
        })
        .map_err(super::unreachable(1, "srun: error: "))?;
    let (input, output) = offer.accept(&spool, id)?;
    if parsed.value("input") == Some("none") {
        step::feed(io::empty(), input);
    } else {
        thread::spawn(move || step::feed(io::stdin(), input));
    }
    Ok(files.with(io, |io| follow(output, &node, quiet, io)))
}

/// The node of a job that the caller may join.
fn admit(cluster: &Cluster, caller: &Caller, id: u32) -> std::result::Result<String, Exit> {
    let Some(job) = cluster.jobs.get(&id) else {
        return Err(unconfirmed(id, "Invalid job id specified"));
    };
    if !caller.owns(cluster, job) {
        return Err(refuse(&format!("{id}: Access/permission denied")));
    }
    if job.is_finished() || job.completing {
        return Err(expired(id, &format!("Slurm job {id} has expired")));
    }
    match (job.state, job.batch_host()) {
        (State::Running, Some(node)) => Ok(node.to_owned()),
        _ => Err(unconfirmed(id, "Job is pending execution")),
    }
}

fn unconfirmed(id: u32, why: &str) -> Exit {
    let what = format!("Unable to confirm allocation for job {id}: {why}");
    expired(id, &what)
}

fn expired(id: u32, what: &str) -> Exit {
    let hint = format!("Check SLURM_JOB_ID environment variable. Expired or invalid job {id}");
    fail(format!("{what}\nsrun: {hint}"))
}

/// Why a step does not fit into its job.
enum Misfit {
    Nodes(u32),
    Other(&'static str),
}

fn fits(parsed: &Parsed, job: &Job) -> std::result::Result<(), Misfit> {
    let number = |name| parsed.value(name).and_then(|text| text.parse::<u32>().ok());
    if let Some(nodes) = number("nodes").filter(|&nodes| nodes > job.request.node_count) {
        return Err(Misfit::Nodes(nodes));
    }
    let (tasks, each) = (
        number("ntasks").unwrap_or(1),
        number("cpus-per-task").unwrap_or(1),
    );
    if tasks.saturating_mul(each) > job.request.cpus() {
        return Err(Misfit::Other("More processors requested than permitted"));
    }
    let memory = parsed.value("mem").and_then(units::parse_memory_mb);
    if memory.is_some_and(|mb| mb > job.request.memory_mb_per_node()) {
        return Err(Misfit::Other("Memory required by task is not available"));
    }
    Ok(())
}

/// Files for a step's output, where it is not to be srun's own.
struct Files {
    out: Option<File>,
    err: Option<File>,
}

impl Files {
    fn create(parsed: &Parsed, caller: &Caller) -> std::result::Result<Self, Exit> {
        let create = |name| {
            let path = parsed.value(name).map(|path| caller.directory.join(path));
            let open = |path: PathBuf| {
                File::create(&path)
                    .map_err(|error| fail(format!("Could not open `{}`: {error}", path.display())))
            };
            path.map(open).transpose()
        };
        let (out, err) = (create("output")?, create("error")?);
        // Both streams share the file of one, unless each has its own.
        let err = match (&out, err) {
            (Some(out), None) => Some(out.try_clone().map_err(fail)?),
            (_, err) => err,
        };
        Ok(Self { out, err })
    }

    fn with(&mut self, io: &mut Io<'_>, follow: impl FnOnce(&mut Streams<'_>) -> Exit) -> Exit {
        follow(&mut Streams {
            out: match &mut self.out {
                Some(file) => file,
                None => &mut *io.out,
            },
            err: match &mut self.err {
                Some(file) => file,
                None => &mut *io.err,
            },
        })
    }
}

/// Where a step's output goes.
struct Streams<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

/// A place where the node may connect, with the secret.
struct Offer {
    listener: TcpListener,
    host: String,
    port: u16,
    secret: String,
}

impl Offer {
    fn make(cluster: &Cluster, caller: &Caller) -> io::Result<Self> {
        // The nodes of an embedded cluster are all on this machine.
        let (address, host) = if cluster.virtual_users.is_empty() {
            (Ipv4Addr::UNSPECIFIED, caller.host.clone())
        } else {
            (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST.to_string())
        };
        let listener = TcpListener::bind((address, 0))?;
        let mut random = [0; SECRET / 2];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        Ok(Self {
            port: listener.local_addr()?.port(),
            host,
            listener,
            secret: random.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// The two connections of the node, once it has made them.
    fn accept(self, spool: &Spool, id: u32) -> std::result::Result<(TcpStream, TcpStream), Exit> {
        let greeted = greet_all(self.listener, self.secret);
        let (mut input, mut output) = (None, None);
        let start = Instant::now();
        loop {
            match greeted.recv_timeout(POLL) {
                Ok((b'i', stream)) => input = Some(stream),
                Ok((_, stream)) => output = Some(stream),
                Err(RecvTimeoutError::Timeout) if start.elapsed() > LAUNCH => {
                    return Err(fail(
                        "Job launch timed out: the node did not start the step",
                    ));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let runs = |cluster: Cluster| {
                        let job = cluster.jobs.get(&id)?;
                        (job.state == State::Running && !job.completing).then_some(())
                    };
                    if spool.read().ok().and_then(runs).is_none() {
                        return Err(refuse(&format!(
                            "{id}: Job/step already completing or completed"
                        )));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(fail("cannot listen")),
            }
            if let (Some(_), Some(_)) = (&input, &output) {
                break;
            }
        }
        input.zip(output).ok_or_else(|| fail("cannot listen"))
    }
}

/// Takes connections, each on a thread, so that a stranger keeps nobody waiting.
fn greet_all(listener: TcpListener, secret: String) -> Receiver<(u8, TcpStream)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (sender, secret) = (sender.clone(), secret.clone());
            thread::spawn(move || {
                if let Some(kind) = greet(&stream, &secret) {
                    let _ = sender.send((kind, stream));
                }
            });
        }
    });
    receiver
}

/// The kind of a connection that knows the secret.
fn greet(mut stream: &TcpStream, secret: &str) -> Option<u8> {
    stream.set_read_timeout(Some(GREETING)).ok()?;
    let mut greeting = [0; SECRET + 1];
    stream.read_exact(&mut greeting).ok()?;
    stream.set_read_timeout(None).ok()?;
    stream.set_nodelay(true).ok()?;
    let (shown, kind) = greeting.split_at(SECRET);
    (shown == secret.as_bytes()).then_some(kind[0])
}

/// Writes what the step says until it ends.
fn follow(mut output: TcpStream, node: &str, quiet: bool, io: &mut Streams<'_>) -> Exit {
    loop {
        let written = match Frame::read(&mut output) {
            Ok(Frame::Out(bytes)) => io.out.write_all(&bytes).and_then(|()| io.out.flush()),
            Ok(Frame::Err(bytes)) => io.err.write_all(&bytes),
            Ok(Frame::Abort(_)) if quiet => Ok(()),
            Ok(Frame::Abort(secs)) => writeln!(
                io.err,
                "srun: Job step aborted: Waiting up to {secs} seconds for job step to finish."
            ),
            Ok(Frame::End(exit)) => return verdict(exit, node),
            Err(_) => {
                return Exit::saying(137, format!("srun: error: {node}: task 0: Killed"));
            }
        };
        // A reader that has gone away wants no more, and the step ends with us.
        if written.is_err() {
            return Exit::code(141);
        }
    }
}

fn verdict(exit: crate::job::Exit, node: &str) -> Exit {
    let byte = |code: i32| u8::try_from(code).unwrap_or(1);
    match (exit.code, exit.signal) {
        (0, 0) => Exit::OK,
        (code, 0) => Exit::saying(
            byte(code),
            format!("srun: error: {node}: task 0: Exited with exit code {code}"),
        ),
        (_, signal) => {
            let what = name_of(signal);
            Exit::saying(
                byte(128 + signal),
                format!("srun: error: {node}: task 0: {what}"),
            )
        }
    }
}

/// A signal in the words of strsignal(3).
fn name_of(signal: i32) -> String {
    match signal {
        nix::libc::SIGHUP => "Hangup".into(),
        nix::libc::SIGINT => "Interrupt".into(),
        nix::libc::SIGQUIT => "Quit".into(),
        nix::libc::SIGABRT => "Aborted".into(),
        nix::libc::SIGKILL => "Killed".into(),
        nix::libc::SIGSEGV => "Segmentation fault".into(),
        nix::libc::SIGPIPE => "Broken pipe".into(),
        nix::libc::SIGALRM => "Alarm clock".into(),
        nix::libc::SIGTERM => "Terminated".into(),
        nix::libc::SIGUSR1 => "User defined signal 1".into(),
        nix::libc::SIGUSR2 => "User defined signal 2".into(),
        other => format!("Unknown signal {other}"),
    }
}
