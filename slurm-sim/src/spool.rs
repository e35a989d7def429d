//! The spool: the directory that stands for the controller. The cluster's state is one file, changed
//! under a lock and replaced as a whole, so readers need no lock and a killed writer leaves no
//! half of it. Every account may write here: this keeps honest programs apart, not enemies.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::Time;
use crate::cluster::{Cluster, Health, Healths};
use crate::environment::Variables;
use crate::step::Request;

/// Where the spool is when nobody says.
pub(crate) const DEFAULT: &str = "/var/spool/slurm-sim";

/// How often to look whether a controller has come back.
const CONTROLLER_POLL: Duration = Duration::from_millis(20);

/// Why the cluster's state could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the controller is down")]
    ControllerDown,
    #[error("cannot use the spool `{path}`")]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot read the state in `{path}`")]
    State {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// Tells one state file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edition(u64, i64, i64, u64);

/// Handle to a spool directory.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    root: PathBuf,
}

impl Spool {
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn io(&self) -> impl FnOnce(io::Error) -> SpoolError + use<> {
        let path = self.root.clone();
        move |source| SpoolError::Io { path, source }
    }

    /// Makes the spool anew, with no jobs in it.
    pub(crate) fn create(&self, cluster: &Cluster) -> Result<(), SpoolError> {
        let make = || {
            for (dir, mode) in [("", 0o777), ("jobs", 0o1777), ("nodes", 0o777)] {
                let dir = self.root.join(dir);
                fs::create_dir_all(&dir)?;
                // Not sticky at the top: there one account replaces the state that another wrote.
                fs::set_permissions(&dir, Permissions::from_mode(mode))?;
            }
            let lock = OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.root.join("lock"))?;
            lock.set_permissions(Permissions::from_mode(0o666))
        };
        make().map_err(self.io())?;
        self.write(&encode(cluster)).map_err(self.io())
    }

    /// The state as it is, whether the controller is up or not.
    pub(crate) fn read(&self) -> Result<Cluster, SpoolError> {
        let bytes = fs::read(self.state_file()).map_err(self.io())?;
        self.decode(&bytes)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Cluster, SpoolError> {
        serde_json::from_slice(bytes).map_err(|source| SpoolError::State {
            path: self.state_file(),
            source,
        })
    }

    /// The state as a command gets it: it waits a while for a controller that is down.
    pub(crate) fn ask(&self) -> Result<Cluster, SpoolError> {
        let started = Instant::now();
        loop {
            let cluster = self.read()?;
            if cluster.knobs.controller_up {
                return Ok(cluster);
            }
            if started.elapsed() >= cluster.knobs.controller_wait {
                return Err(SpoolError::ControllerDown);
            }
            thread::sleep(CONTROLLER_POLL);
        }
    }

    /// Changes the state, alone.
    pub(crate) fn update<T>(
        &self,
        change: impl FnOnce(&mut Cluster) -> T,
    ) -> Result<T, SpoolError> {
        let lock = OpenOptions::new()
            .append(true)
            .open(self.root.join("lock"))
            .map_err(self.io())?;
        lock.lock().map_err(self.io())?;
        let before = fs::read(self.state_file()).map_err(self.io())?;
        let mut cluster = self.decode(&before)?;
        let answer = change(&mut cluster);
        let after = encode(&cluster);
        if after != before {
            self.write(&after).map_err(self.io())?;
        }
        Ok(answer)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.root.join(".state.new");
        // A writer that was killed may have left its file, and it may be another account's.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create_new(&fresh)?;
        file.set_permissions(Permissions::from_mode(0o666))?;
        file.write_all(bytes)?;
        fs::rename(&fresh, self.state_file())
    }

    /// Which edition of the state is current; changes with every write.
    pub(crate) fn edition(&self) -> Option<Edition> {
        let meta = fs::metadata(self.state_file()).ok()?;
        Some(Edition(
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.len(),
        ))
    }

    fn state_file(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// Says that a node lives.
    pub(crate) fn beat(&self, node: &str) -> Result<(), SpoolError> {
        fs::write(
            self.root.join("nodes").join(node),
            Time::now().0.to_string(),
        )
        .map_err(self.io())
    }

    /// What the heartbeats say of every node.
    pub(crate) fn health(&self, cluster: &Cluster, now: Time) -> Healths {
        let health = |name: &str| {
            let last = fs::metadata(self.root.join("nodes").join(name))
                .and_then(|meta| meta.modified())
                .ok()
                .map(Time::from);
            Health::from_heartbeat(last, now, cluster.knobs.node_timeout)
        };
        cluster
            .nodes
            .iter()
            .map(|node| (node.name.clone(), health(&node.name)))
            .collect()
    }

    /// Keeps what a job will need on its node; only its owner and the nodes can read it.
    pub(crate) fn store_job(
        &self,
        id: u32,
        script: &[u8],
        environment: &Variables,
    ) -> Result<(), SpoolError> {
        let dir = self.job_dir(id);
        let store = || {
            // What a forgotten job left, had its spool been made anew.
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir)?;
            fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
            fs::write(dir.join("script"), script)?;
            let lines = environment.iter().flat_map(|(name, value)| {
                [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat()
            });
            fs::write(dir.join("environment"), lines.collect::<Vec<u8>>())
        };
        store().map_err(self.io())
    }

    pub(crate) fn load_script(&self, id: u32) -> io::Result<Vec<u8>> {
        fs::read(self.job_dir(id).join("script"))
    }

    pub(crate) fn load_environment(&self, id: u32) -> io::Result<Variables> {
        let bytes = fs::read(self.job_dir(id).join("environment"))?;
        Ok(bytes
            .split(|&byte| byte == 0)
            .filter_map(|line| {
                let equals = line.iter().position(|&byte| byte == b'=')?;
                let os = |bytes: &[u8]| std::ffi::OsString::from_vec(bytes.to_vec());
                Some((os(&line[..equals]), os(&line[equals + 1..])))
            })
            .collect())
    }

    /// Drops the files of jobs that the cluster has forgotten.
    pub(crate) fn sweep(&self, cluster: &Cluster) {
        let Ok(entries) = fs::read_dir(self.root.join("jobs")) else {
            return;
        };
        for entry in entries.flatten() {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok());
            // A job at or past the next id is being submitted right now.
            if id.is_some_and(|id| id < cluster.next_id && !cluster.jobs.contains_key(&id)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Keeps what a step is to run for the job's node, from all eyes but its owner's and root's.
    pub(crate) fn save_step(&self, id: u32, step: u32, request: &Request) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.step_file(id, step))?;
        Ok(serde_json::to_writer(file, request)?)
    }

    /// Takes what a step is to run, if an owner of the job or root has put it there.
    pub(crate) fn take_step(&self, id: u32, step: u32, owner: u32) -> io::Result<Request> {
        let path = self.step_file(id, step);
        let file = File::open(&path)?;
        if ![owner, 0].contains(&file.metadata()?.uid()) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let request = serde_json::from_reader(io::BufReader::new(file))?;
        fs::remove_file(path)?;
        Ok(request)
    }

    fn step_file(&self, id: u32, step: u32) -> PathBuf {
        self.job_dir(id).join(format!("step.{step}"))
    }

    fn job_dir(&self, id: u32) -> PathBuf {
        self.root.join("jobs").join(id.to_string())
    }

    /// Puts the script where a node runs it from, owned by the job's user if that can be had.
    pub(crate) fn install_script(
        &self,
        node: &str,
        id: u32,
        script: &[u8],
        owner: Option<(u32, u32)>,
    ) -> io::Result<PathBuf> {
        let dir = self.run_dir(node, id);
        fs::create_dir_all(&dir)?;
        let path = dir.join("slurm_script");
        let _ = fs::remove_file(&path);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&path)?;
        file.write_all(script)?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        Ok(path)
    }

    /// Takes the script away again.
    pub(crate) fn remove_script(&self, node: &str, id: u32) {
        let _ = fs::remove_dir_all(self.run_dir(node, id));
    }

    fn run_dir(&self, node: &str, id: u32) -> PathBuf {
        self.root.join(format!("slurmd.{node}/job{id:05}"))
    }
}

fn encode(cluster: &Cluster) -> Vec<u8> {
    serde_json::to_vec(cluster).expect("plain values with string keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Knobs;

    fn spool() -> (tempfile::TempDir, Spool) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::at(dir.path().join("spool"));
        spool
            .create(&Cluster::new(vec![], vec![], Knobs::default()))
            .unwrap();
        (dir, spool)
    }

    #[test]
    fn no_change_is_lost_when_many_write_at_once() {
        let (_dir, spool) = spool();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        spool.update(Cluster::take_id).unwrap();
                    }
                });
            }
        });
        assert_eq!(spool.read().unwrap().next_id, 101);
    }

    #[test]
    fn an_update_that_changes_nothing_writes_nothing() {
        let (_dir, spool) = spool();
        let before = spool.edition();
        spool.update(|_| ()).unwrap();
        assert_eq!(spool.edition(), before);
        spool.update(Cluster::take_id).unwrap();
        assert_ne!(spool.edition(), before);
    }

    #[test]
    fn what_a_killed_writer_left_disturbs_nobody() {
        let (_dir, spool) = spool();
        fs::write(spool.root.join(".state.new"), "half").unwrap();
        spool.update(Cluster::take_id).unwrap();
        assert_eq!(spool.read().unwrap().next_id, 2);
    }

    #[test]
    fn an_environment_comes_back_byte_for_byte() {
        let (_dir, spool) = spool();
        let odd = std::ffi::OsString::from_vec(vec![0xff, b'\n', b'=', b'x']);
        let variables: Variables = [("A".into(), "".into()), ("B".into(), odd)].into();
        spool.store_job(7, b"#!/bin/sh\n", &variables).unwrap();
        assert_eq!(spool.load_environment(7).unwrap(), variables);
        assert_eq!(spool.load_script(7).unwrap(), b"#!/bin/sh\n");
    }
}
