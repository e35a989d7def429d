//! A cluster that is four shell scripts around a list of jobs, and for ssh a program that runs the
//! command here.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use super::command;

/// The remote command is the last argument, the account the one before.
const SSH: &str = r#"
for word; do LOGIN=$command command=$word; done
export LOGIN
cd "$HOME" && exec sh -c "$command"
"#;
/// Waits, takes the job, and waits once more before it says so, each as long as a file says.
const SBATCH: &str = r#"
cd "$CLUSTER" || exit
echo "$*" >>asked
sleep "$(cat before 2>/dev/null || echo 0)"
cat >/dev/null
id=$(($(wc -l <jobs) + 1))
for word; do case $word in --job-name=*) echo "$id ${word#*=} PENDING" >>jobs ;; esac; done
sleep "$(cat after 2>/dev/null || echo 0)"
echo "$id"
"#;
const SQUEUE: &str = r#"
cd "$CLUSTER" || exit
echo "$LOGIN $*" >>squeued
if [ -e down ]; then echo 'Unable to contact slurm controller' >&2; exit 1; fi
wanted=.
for word; do
  case $word in --name=*) name=${word#*=} ;; esac
  if [ "$wanted" = next ]; then job=$word; wanted=.; fi
  if [ "$word" = -j ]; then wanted=next; fi
done
while read -r id its state; do
  if [ "$its" = "$name" ]; then echo "$id|$state"; fi
  case ,$job, in *,$id,*) echo "$id|$state||1:00:00|Resources" ;; esac
done <jobs
"#;
const SCANCEL: &str = r#"cd "$CLUSTER" || exit
echo "$1" >>cancelled
sed -i "s/^\($1 .*\) PENDING$/\1 CANCELLED/" jobs
"#;

/// The cluster, and the flags of its manager.
pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) flags: Vec<&'static str>,
    pub(crate) logins: Vec<&'static str>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for (name, script) in [
            ("ssh", SSH),
            ("sbatch", SBATCH),
            ("squeue", SQUEUE),
            ("scancel", SCANCEL),
        ] {
            fs::write(bin.join(name), format!("#!/bin/sh\n{script}")).unwrap();
            let executable = fs::Permissions::from_mode(0o700);
            fs::set_permissions(bin.join(name), executable).unwrap();
        }
        let site = Self {
            directory,
            flags: Vec::new(),
            logins: vec!["--login", "alice@login", "--login", "bob@login"],
        };
        site.sets("jobs", "");
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whoever reads it meanwhile sees all of the old text or all of the new.
    pub(crate) fn sets(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.tool();
        command.args(&self.logins).args(&self.flags);
        command
    }

    /// `hpc-manager` for whoever has the same directory, not told what to do.
    pub(crate) fn tool(&self) -> Command {
        let mut command = command(self.directory.path());
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.directory.path())
            .env("CLUSTER", self.directory.path());
        command
    }
}
