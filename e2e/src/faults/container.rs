//! A host of a cluster that is a container: what can be done to it from outside.
//!
//! Nothing here needs root on this machine or more rights in the container: a second container of the
//! same image joins its namespaces with the capabilities that the work needs, and is gone after it.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// What it takes to change a network and what is mounted: network namespaces and mounts are changed with
/// these two, and the third lets one enter those of another process (namespaces(7)). Docker's profiles
/// forbid `mount` all the same.
const RIGHTS: [&str; 10] = [
    "--cap-add",
    "NET_ADMIN",
    "--cap-add",
    "SYS_ADMIN",
    "--cap-add",
    "SYS_PTRACE",
    "--security-opt",
    "seccomp=unconfined",
    "--security-opt",
    "apparmor=unconfined",
];

/// One host.
#[derive(Clone, Debug)]
pub struct Container {
    id: String,
    image: String,
    label: String,
}

impl Container {
    /// The container `id`; `image` is its own, and `label` marks whose the helpers are.
    pub fn new(id: &str, image: &str, label: &str) -> Container {
        Container {
            id: id.to_owned(),
            image: image.to_owned(),
            label: label.to_owned(),
        }
    }

    /// Runs a line of shell in it as root, with the rights that its programs have.
    ///
    /// # Errors
    /// It failed.
    pub async fn runs(&self, command: &str) -> Result<String> {
        docker(&["exec", &self.id, "bash", "-c", command]).await
    }

    /// Starts a line of shell in it as root, and leaves it to run.
    ///
    /// # Errors
    /// It did not start.
    pub async fn starts(&self, command: &str) -> Result<()> {
        let start = ["exec", "--detach", &self.id, "bash", "-c", command];
        docker(&start).await.map(drop)
    }

    /// Runs a line of shell among what is mounted there and on its network, with the rights to change both.
    ///
    /// # Errors
    /// It failed.
    pub async fn is_operated_on(&self, command: &str) -> Result<String> {
        let [network, pids] =
            ["--network", "--pid"].map(|kind| format!("{kind}=container:{}", self.id));
        let mut args = vec!["run", "--rm", &network, &pids, "--label", &self.label];
        args.extend(RIGHTS);
        args.extend(["--entrypoint", "nsenter", &self.image]);
        args.extend(["--target", "1", "--mount", "bash", "-c", command]);
        docker(&args).await
    }

    /// Stops every process of it where it is (cgroup freezer): nothing ends, nothing answers.
    ///
    /// # Errors
    /// The engine does not play along.
    pub async fn pauses(&self) -> Result<()> {
        docker(&["pause", &self.id]).await.map(drop)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// The engine does not play along.
    pub async fn goes_on(&self) -> Result<()> {
        docker(&["unpause", &self.id]).await.map(drop)
    }

    /// Starts it again, after it was ended.
    ///
    /// # Errors
    /// The engine does not play along.
    pub async fn starts_again(&self) -> Result<()> {
        docker(&["start", &self.id]).await.map(drop)
    }
}

async fn docker(args: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    let output = command.args(args).kill_on_drop(true).output();
    let output = output.await.context("run docker")?;
    let [said, wrong] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    ensure!(
        output.status.success(),
        "docker {args:?} failed: {said}{wrong}"
    );
    Ok(said.into_owned())
}
