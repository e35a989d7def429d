//! A running hpc-proxy, in a home of its own or shared with another; killed when dropped.

use std::{
    fs::{self, File},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    descriptors,
    lease::{Home, Watch},
    process::Process,
    route::Route,
};

mod started;

pub use started::{Lease, Started};

/// The program, and how it is to be started.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// Every argument after `--port 0`.
    args: Vec<String>,
    uid: Option<u32>,
    job: Option<String>,
}

impl Program {
    /// The program at `path`, given `args`.
    ///
    /// # Errors
    /// There is no such file.
    pub fn at(path: &Path, args: &[String]) -> Result<Self> {
        let path = fs::canonicalize(path).with_context(|| {
            let path = path.display();
            format!("`{path}` is not built\nhint: just build, or just dist, or --proxy PATH")
        })?;
        Ok(Self {
            path,
            args: args.to_vec(),
            uid: None,
            job: None,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// With `value` for `option`, where this proxy knows the option.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn with_if_known(mut self, option: &str, value: u64) -> Result<Self> {
        let help = Command::new(&self.path).arg("--help").env_clear().output();
        let help = help.with_context(|| format!("ask `{}` for its help", self.path.display()))?;
        if String::from_utf8_lossy(&help.stdout).contains(option) {
            self.args.extend([option.to_owned(), value.to_string()]);
        }
        Ok(self)
    }

    /// Run by another user; only root can.
    #[must_use]
    pub fn by(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// In a job of Slurm's.
    #[must_use]
    pub fn in_job(mut self, job: &str) -> Self {
        self.job = Some(job.to_owned());
        self
    }

    /// A copy in `directory`, which other users can reach where they cannot reach the original.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copied_to(mut self, directory: &Path) -> Result<Self> {
        let copy = directory.join("hpc-proxy");
        fs::copy(&self.path, &copy).context("copy the proxy")?;
        self.path = copy;
        Ok(self)
    }

    /// Starts it in a home of its own, and waits until it has published all of its lease.
    ///
    /// # Errors
    /// It did not.
    pub fn start(&self) -> Result<Proxy> {
        let own = TempDir::with_prefix("hpc-bench-").context("make a home")?;
        let started = self.spawn(own.path())?;
        let lease = started.awaits_lease()?;
        Ok(Proxy {
            started,
            lease,
            _home: own,
        })
    }

    /// Spawns it in a home that may have others too; [`Started`] has not published anything yet.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn spawn(&self, home: &Path) -> Result<Started> {
        let lease = Home::at(home);
        lease.make()?;
        if let Some(uid) = self.uid {
            for path in [home, lease.directory()] {
                chown(path, Some(uid), Some(uid)).context("give a home away")?;
            }
        }
        let watch = Watch::begin(&lease)?;
        let name = match &self.job {
            Some(job) => format!("job-{job}"),
            None => format!(
                "host-{}",
                rustix::system::uname().nodename().to_string_lossy()
            ),
        };
        let log = home.join(format!("{name}.log"));
        let mut command = Command::new(&self.path);
        command
            .args(["--port", "0"])
            .args(&self.args)
            .env_clear()
            .env("HOME", home)
            // Root is refused otherwise: everything that it runs would be shown.
            .env("HPC_PROXY_ALLOW_ROOT", "1")
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("make a log")?);
        if let Some(job) = &self.job {
            command.env("SLURM_JOB_ID", job);
        }
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        let begun = Instant::now();
        let child = descriptors::with_inherited(|| {
            command
                .spawn()
                .with_context(|| format!("start `{}`", self.path.display()))
        })?;
        Ok(Started {
            child,
            begun,
            watch,
            home: lease,
            name,
            log,
        })
    }
}

/// A proxy that serves.
#[derive(Debug)]
pub struct Proxy {
    // Before the home, so that it ends while its files are there.
    started: Started,
    /// What it published.
    pub lease: Lease,
    _home: TempDir,
}

impl Proxy {
    /// To a dev server, through it.
    pub fn route(&self, target_port: u16) -> Route {
        Route {
            address: (std::net::Ipv4Addr::LOCALHOST, self.lease.record.port).into(),
            prefix: format!("/port/{target_port}"),
            fields: format!("X-Hpc-Proxy-Token: {}\r\n", self.lease.token),
        }
    }

    /// Its process.
    pub fn process(&self) -> Process {
        self.started.process()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.started.log()
    }
}
