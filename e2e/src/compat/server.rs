//! A dev server that runs as its manual says, on files of its own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::process::Command;

use super::case::{Case, Reload};
use crate::child::{Child, Lifeline};
use crate::{devserver, eventually, ports};

/// The heavy ones load for long on a busy machine.
const START_SECONDS: u64 = 90;

/// A running one.
#[derive(Debug)]
pub struct Server {
    process: Option<Child>,
    dir: TempDir,
    port: u16,
}

impl Server {
    /// Copies the case's files, prepares them, starts the server and waits until it serves.
    ///
    /// # Errors
    /// Its packages are not installed, or it does not come up.
    pub async fn start(case: &Case) -> Result<Server> {
        // Below its packages, where its own module loader looks for them.
        let [cache, _] = case.package_dirs();
        std::fs::create_dir_all(&cache).context("a directory for its packages")?;
        let dir = tempfile::Builder::new().prefix("run-").tempdir_in(&cache)?;
        let files = dir.path().join("files");
        std::fs::create_dir(&files)?;
        devserver::copy(&case.sources(), &files).context("copy its files")?;
        let path = search_path(case)?;
        let env = [
            ("PATH", path.as_str()),
            // Settings of whoever runs this are not its own.
            ("HOME", &dir.path().display().to_string()),
            ("NO_COLOR", "1"),
        ];
        if let Some(prepare) = &case.prepare {
            let output = Command::new("bash")
                .args(["-c", prepare])
                .envs(env)
                .current_dir(&files)
                .output()
                .await
                .context("run bash")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "`{prepare}` failed: {said}");
        }
        let port = ports::free()?;
        let mut command = case.start.replace("{port}", &port.to_string());
        for place in ["{port2}", "{port3}"] {
            command = command.replace(place, &ports::free()?.to_string());
        }
        // All that it says goes to one place, which is never full.
        let command = format!("exec >&2; cd '{}' || exit; {command}", files.display());
        let bash = Path::new("bash");
        let args = ["-c", &command];
        let process = Child::start("server", Lifeline::Guarded, dir.path(), bash, args, &env)?;
        let mut server = Server {
            process: Some(process),
            dir,
            port,
        };
        server
            .awaits_ready(case)
            .await
            .with_context(|| server.log())?;
        Ok(server)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has said.
    pub fn log(&self) -> String {
        let log = self.process.as_ref().map(Child::log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Edits a file as a person does, so that it says `mark`.
    ///
    /// # Errors
    /// There is no such file, or nothing in it to replace.
    pub fn edits(&self, case: &Case, reload: &Reload, mark: &str) -> Result<()> {
        let text = std::fs::read_to_string(case.sources().join(&reload.file))?;
        ensure!(
            text.contains(&reload.text),
            "no `{}` in {text}",
            reload.text
        );
        let file = self.dir.path().join("files").join(&reload.file);
        Ok(std::fs::write(file, text.replace(&reload.text, mark))?)
    }

    /// Ends it and all that it started. Others go on meanwhile.
    ///
    /// # Errors
    /// The runtime ends before it.
    pub async fn ends(mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            tokio::task::spawn_blocking(|| end(process)).await?;
        }
        Ok(())
    }

    async fn awaits_ready(&mut self, case: &Case) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let address = format!("http://localhost:{}/{}", self.port, case.open);
        eventually!(START_SECONDS, "the server serves", {
            if let Some(ready) = &case.ready {
                let log = self.process.as_ref().map(Child::log).unwrap_or_default();
                ensure!(log.contains(ready), "it has not said `{ready}`");
            }
            let wait = Duration::from_secs(20);
            client.get(&address).timeout(wait).send().await?;
            Ok(())
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            end(process);
        }
    }
}

/// It may take seconds.
fn end(process: Child) {
    let group = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
    drop(process);
    // What it had started in the background; often there is nothing left.
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A text that no page shows yet.
pub fn mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("mark{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Its own programs come before the system's.
fn search_path(case: &Case) -> Result<String> {
    let own = case
        .package_dirs()
        .into_iter()
        .flat_map(|dir| [dir.join("node_modules/.bin"), dir.join("venv/bin")].into_iter());
    let all = std::env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> = own.chain(std::env::split_paths(&all)).collect();
    let all = std::env::join_paths(all).context("a path has a colon")?;
    all.into_string().ok().context("a path is not text")
}
