//! The batch script of a session: a pure builder. It submits nothing.
//!
//! The script carries no `#SBATCH` lines (options travel in argv), and every value that comes
//! from outside is one quoted word at its head; the rest is fixed text.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::{
    front::Front,
    shell::{HoldsNul, quote},
    transport::Transport,
};

/// How a job ends: the trap that passes a signal on, and the one way out.
const LIFECYCLE: &str = include_str!("lifecycle.sh");
/// Starts hpc-proxy and waits for its record.
const PROXY: &str = include_str!("proxy.sh");
/// Finds a port for the IDE and makes its token.
const IDE_PORT: &str = include_str!("ide_port.sh");
/// Finds a place for the IDE's socket.
const IDE_SOCKET: &str = include_str!("ide_socket.sh");
/// Has the IDE started in a localhost of the user's own.
const LOCALHOST: &str = include_str!("localhost.sh");
/// Starts the IDE and waits until it or the proxy ends.
const IDE: &str = include_str!("ide.sh");

/// Which IDE a session runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdeKind {
    /// VS Code has no port proxy of its own: hpc-proxy runs beside it.
    #[default]
    Vscode,
    /// JupyterLab, RStudio: they bring their own, so no hpc-proxy is started for them.
    Other,
}

impl fmt::Display for IdeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vscode => "vscode",
            Self::Other => "other",
        })
    }
}

/// Text names no kind of IDE.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is neither `vscode` nor `other`", .0.escape_debug())]
pub struct NotAnIdeKind(String);

impl FromStr for IdeKind {
    type Err = NotAnIdeKind;

    fn from_str(text: &str) -> Result<Self, NotAnIdeKind> {
        match text {
            "vscode" => Ok(Self::Vscode),
            "other" => Ok(Self::Other),
            _ => Err(NotAnIdeKind(text.to_owned())),
        }
    }
}

/// What a session's job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobScript {
    /// Which IDE it is.
    pub kind: IdeKind,
    /// The hpc-proxy program, by path or as found on the node's `PATH`.
    pub hpc_proxy: String,
    /// A shell command that starts the IDE and stays with it. It finds `IDE_PORT` and
    /// `IDE_TOKEN_FILE` in its environment, or else `IDE_SOCKET`.
    pub ide_command: String,
    /// Whether the IDE listens on a Unix socket, to which no other user of the node can connect.
    pub ide_socket: bool,
    /// Whether VS Code, and what runs in its terminals, gets a localhost of the user's own where the
    /// node offers one: `hpc-proxy exec`.
    pub private_localhost: bool,
}

impl JobScript {
    /// The script; `front` is the manager's address for browsers, which the session's own
    /// programs may show.
    ///
    /// # Errors
    /// When a value holds a NUL byte.
    pub fn build(&self, front: &Front) -> Result<Script, HoldsNul> {
        let ide_command = quote(&self.ide_command)?;
        let head = format!("ide_command={ide_command}\n");
        Ok(Script(match self.kind {
            IdeKind::Vscode => {
                let hpc_proxy = quote(&self.hpc_proxy)?;
                let url = quote(&front.to_string())?;
                let localhost = if self.private_localhost {
                    LOCALHOST
                } else {
                    ""
                };
                let place = if self.ide_socket {
                    IDE_SOCKET
                } else {
                    IDE_PORT
                };
                format!(
                    "{head}hpc_proxy={hpc_proxy}\nurl={url}\n\
                     {LIFECYCLE}{PROXY}{place}{localhost}{IDE}"
                )
            }
            IdeKind::Other => format!("{head}{LIFECYCLE}{IDE}"),
        }))
    }
}

/// A script but for the way to its proxy, which is the cluster's affair.
#[derive(Clone, Debug, Default)]
pub struct Script(String);

impl Script {
    /// The text for sbatch of a cluster whose proxies are reached by `transport`.
    pub fn over(&self, transport: Transport) -> String {
        let Self(rest) = self;
        format!("#!/bin/bash\ntransport={transport}\n{rest}")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        path::Path,
        process::{Child, Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;
    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Stands in for hpc-proxy: publishes a record and waits for the end, which it notes.
    const PROXY_STAND_IN: &str = r#"#!/bin/bash
if [ "$1" = free-port ]; then echo 34567; exit; fi
if [ "$1" = socket-path ]; then touch "$HOME/$2"; echo "$HOME/$2"; exit; fi
if [ "$1" = exec ]; then
  options=
  while [ "$1" != -- ]; do options+="$1 "; shift; done
  echo "${options#exec }-- ${HPC_PROXY_STATE_DIR-as the proxy}" >"$HOME/exec"
  shift
  exec "$@"
fi
echo "$*" >"$HOME/options"
lease=$HOME/.hpc-proxy/job-$SLURM_JOB_ID
[ ! -e "$lease.json" ] || echo stale >"$HOME/complaint"
[ -z "${HPC_PROXY_AUTH-}" ] || echo settings >"$HOME/complaint"
echo '{"version":1,"host":"n","port":40123,"pid":1}' >"$lease.new"; mv "$lease.new" "$lease.json"
trap 'rm -f "$lease.json"; touch "$HOME/proxy-told"; exit 0' TERM
if [ -e "$HOME/proxy-dies" ]; then
  until [ -e "$HOME/ide" ]; do sleep 0.05; done
  exit 3
fi
for _ in {1..600}; do sleep 0.1; done
"#;

    /// A job that is as usual but for how the IDE is started.
    fn script(kind: IdeKind, ide_command: &str) -> JobScript {
        JobScript {
            kind,
            hpc_proxy: "hpc-proxy".into(),
            ide_command: ide_command.into(),
            ide_socket: false,
            private_localhost: true,
        }
    }

    fn front() -> Front {
        "https://hpc.example.org".parse().unwrap()
    }

    struct Job {
        home: tempfile::TempDir,
        shell: Child,
    }

    impl Drop for Job {
        fn drop(&mut self) {
            let _ = self.shell.kill();
            let _ = self.shell.wait();
        }
    }

    impl Job {
        /// Runs the script as Slurm would, with `prepare` done to the home before.
        fn start(kind: IdeKind, ide_command: &str, prepare: impl FnOnce(&Path)) -> Self {
            Self::of(script(kind, ide_command), Transport::Login, &[], prepare)
        }

        /// The same with more in its environment.
        fn of(
            script: JobScript,
            transport: Transport,
            profile: &[(&str, &str)],
            prepare: impl FnOnce(&Path),
        ) -> Self {
            let home = tempfile::tempdir().unwrap();
            let hpc_proxy = home.path().join("the proxy");
            fs::write(&hpc_proxy, PROXY_STAND_IN).unwrap();
            fs::set_permissions(&hpc_proxy, fs::Permissions::from_mode(0o700)).unwrap();
            prepare(home.path());
            let script = JobScript {
                hpc_proxy: hpc_proxy.to_str().unwrap().into(),
                ..script
            };
            fs::write(
                home.path().join("script"),
                script.build(&front()).unwrap().over(transport),
            )
            .unwrap();
            let log = fs::File::create(home.path().join("log")).unwrap();
            let shell = Command::new("bash")
                .arg(home.path().join("script"))
                .current_dir(home.path())
                .env("HOME", home.path())
                .env("SLURM_JOB_ID", "7")
                // As a login profile may have it; it is not for the session's own proxy.
                .env("HPC_PROXY_AUTH", "none")
                .envs(profile.iter().copied())
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            Self { home, shell }
        }

        fn file(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.home.path().join(name)).ok()
        }

        fn awaits_file(&self, name: &str) -> String {
            let start = Instant::now();
            loop {
                match self.file(name) {
                    Some(text) if !text.is_empty() => return text,
                    _ => assert!(
                        start.elapsed() < Duration::from_secs(20),
                        "`{name}` never came; the job said: {:?}",
                        self.file("log")
                    ),
                }
                thread::sleep(Duration::from_millis(20));
            }
        }

        fn term(&self) {
            let pid = Pid::from_child(&self.shell);
            kill_process(pid, Signal::TERM).unwrap();
        }

        fn awaits_end(&mut self) -> Option<i32> {
            let start = Instant::now();
            loop {
                if let Some(status) = self.shell.try_wait().unwrap() {
                    return status.code();
                }
                assert!(
                    start.elapsed() < Duration::from_secs(20),
                    "the job does not end"
                );
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    const IDE: &str = r#"trap 'touch "$HOME/ide-told"; exit 0' TERM
echo "$IDE_PORT $(stat -c %a "$IDE_TOKEN_FILE") $(wc -c <"$IDE_TOKEN_FILE") $HPC_PROXY_PUBLIC_URL" \
  >"$HOME/ide"
for _ in {1..600}; do sleep 0.1; done"#;

    #[test]
    fn the_ide_is_given_its_port_and_its_token() {
        let mut job = Job::start(IdeKind::Vscode, IDE, |_| ());
        assert_eq!(
            job.awaits_file("ide"),
            "34567 600 64 https://hpc.example.org\n"
        );
        assert_eq!(job.file(".hpc-proxy/job-7.ide").unwrap(), "34567\n");
        assert_eq!(job.file("complaint"), None);
        job.term();
        job.awaits_end();
    }

    #[test]
    fn an_ide_on_a_socket_is_told_where_and_needs_neither_port_nor_token() {
        let on_socket = JobScript {
            ide_socket: true,
            ..script(
                IdeKind::Vscode,
                r#"trap 'exit 0' TERM
before=$(ls "$IDE_SOCKET" 2>/dev/null); touch "$IDE_SOCKET"
echo "$before${IDE_PORT-}${IDE_TOKEN_FILE-} ${IDE_SOCKET#"$HOME/"} $HPC_PROXY_PUBLIC_URL" >"$HOME/ide"
for _ in {1..600}; do sleep 0.1; done"#,
            )
        };
        let profile = [("HPC_PROXY_PUBLIC_PORTS", "4040")];
        let mut job = Job::of(on_socket, Transport::Login, &profile, |_| ());
        let told = job.awaits_file("ide");
        let name = job.file(".hpc-proxy/job-7.ide").unwrap();
        let name = name.trim().strip_prefix("unix:").unwrap().to_owned();
        assert!(name.starts_with("ide-7-"), "{name}");
        assert_eq!(told, format!(" {name} https://hpc.example.org\n"));
        assert_eq!(job.file(".hpc-proxy/job-7.ide-token").unwrap(), "");
        assert_eq!(job.awaits_file("exec"), "--public 4040 -- as the proxy\n");
        job.term();
        job.awaits_end();
        for gone in [&name, ".hpc-proxy/job-7.ide", ".hpc-proxy/job-7.ide-token"] {
            assert_eq!(job.file(gone), None, "{gone}");
        }
    }

    #[test]
    fn the_ide_runs_in_a_localhost_of_its_own_with_its_port_public() {
        let mut job = Job::start(IdeKind::Vscode, IDE, |_| ());
        job.awaits_file("ide");
        assert_eq!(job.awaits_file("exec"), "--public 34567 -- as the proxy\n");
        job.term();
        job.awaits_end();
    }

    #[test]
    fn a_profile_has_its_say_on_localhost_but_not_on_where_the_proxy_looks() {
        let profile = [
            ("HPC_PROXY_PUBLIC_PORTS", "4040,7000-7010"),
            ("HPC_PROXY_STATE_DIR", "/elsewhere"),
        ];
        let ide = r#"echo "${HPC_PROXY_PUBLIC_PORTS-} ${HPC_PROXY_STATE_DIR-}" >"$HOME/ide""#;
        let mut job = Job::of(
            script(IdeKind::Vscode, ide),
            Transport::Login,
            &profile,
            |_| (),
        );
        assert_eq!(
            job.awaits_file("exec"),
            "--public 34567,4040,7000-7010 -- as the proxy\n"
        );
        assert_eq!(job.awaits_file("ide"), "4040,7000-7010 \n");
        job.awaits_end();
    }

    #[test]
    fn without_a_private_localhost_the_ide_runs_plainly() {
        let plain = JobScript {
            private_localhost: false,
            ..script(IdeKind::Vscode, IDE)
        };
        let mut job = Job::of(plain, Transport::Login, &[], |_| ());
        assert_eq!(
            job.awaits_file("ide"),
            "34567 600 64 https://hpc.example.org\n"
        );
        assert_eq!(job.file("exec"), None);
        job.term();
        job.awaits_end();
    }

    #[test]
    fn a_signal_to_the_batch_shell_alone_reaches_proxy_and_ide() {
        let mut job = Job::start(IdeKind::Vscode, IDE, |_| ());
        job.awaits_file("ide");
        job.term();
        assert_eq!(job.awaits_end(), Some(143));
        assert!(job.file("proxy-told").is_some() && job.file("ide-told").is_some());
        for name in ["json", "ide", "ide-token"] {
            assert_eq!(
                job.file(&format!(".hpc-proxy/job-7.{name}")),
                None,
                "{name}"
            );
        }
    }

    #[test]
    fn a_child_of_the_ide_is_told_too() {
        let child = r#"bash -c 'trap "touch \"$HOME/child-told\"; exit" TERM; echo 1 >"$HOME/ide"
for _ in {1..600}; do sleep 0.1; done'; true"#;
        let mut job = Job::start(IdeKind::Vscode, child, |_| ());
        job.awaits_file("ide");
        job.term();
        assert_eq!(job.awaits_end(), Some(143));
        assert!(job.file("child-told").is_some());
    }

    #[test]
    fn files_from_before_the_start_are_removed() {
        let mut job = Job::start(IdeKind::Vscode, IDE, |home| {
            let directory = home.join(".hpc-proxy");
            fs::create_dir(&directory).unwrap();
            for name in ["json", "token", "ide", "ide-token"] {
                fs::write(directory.join(format!("job-7.{name}")), "stale").unwrap();
            }
        });
        assert!(job.awaits_file("ide").starts_with("34567 600 64 "));
        assert_eq!(job.file("complaint"), None);
        assert_eq!(job.file(".hpc-proxy/job-7.token"), None);
        job.term();
        job.awaits_end();
    }

    #[test]
    fn the_job_ends_when_the_ide_ends() {
        let mut job = Job::start(IdeKind::Vscode, "exit 5", |_| ());
        assert_eq!(job.awaits_end(), Some(5));
        assert!(
            job.file("log")
                .unwrap()
                .contains("the IDE ended by itself with status 5")
        );
        assert!(job.file("proxy-told").is_some());
    }

    #[test]
    fn the_job_ends_when_the_proxy_ends() {
        let mut job = Job::start(IdeKind::Vscode, IDE, |home| {
            fs::write(home.join("proxy-dies"), "").unwrap();
        });
        assert_eq!(job.awaits_end(), Some(1));
        assert!(
            job.file("log")
                .unwrap()
                .contains("hpc-proxy ended by itself with status 3")
        );
        assert!(job.file("ide-told").is_some());
    }

    #[test]
    fn a_missing_proxy_is_said_and_ends_the_job() {
        let mut job = Job::start(IdeKind::Vscode, IDE, |home| {
            fs::remove_file(home.join("the proxy")).unwrap();
        });
        assert_eq!(job.awaits_end(), Some(1));
        assert!(
            job.file("log")
                .unwrap()
                .contains("did not publish its port")
        );
        assert_eq!(job.file("ide"), None);
    }

    // JupyterLab and RStudio bring a proxy of their own.
    #[test]
    fn the_proxy_listens_where_its_transport_leads() {
        for (transport, options) in [
            (Transport::Login, "--port 0"),
            (Transport::Jump, "--bind 127.0.0.1 --port 0"),
            (Transport::Srun, "--bind 127.0.0.1 --port 0"),
            (
                Transport::JumpSocket,
                "--listen unix:HOME/.hpc-proxy/job-7.sock",
            ),
        ] {
            let mut job = Job::of(script(IdeKind::Vscode, "true"), transport, &[], |_| ());
            let said = job.awaits_file("options");
            let home = job.home.path().to_str().unwrap();
            assert_eq!(said.replace(home, "HOME"), format!("{options} --verbose\n"));
            assert_eq!(job.awaits_end(), Some(0));
        }
    }

    #[test]
    fn another_ide_runs_without_hpc_proxy() {
        let mut job = Job::start(IdeKind::Other, "echo \"${IDE_PORT-none}\" >ide", |_| ());
        assert_eq!(job.awaits_file("ide"), "none\n");
        assert_eq!(job.awaits_end(), Some(0));
        assert_eq!(job.file("exec"), None);
        let script = script(IdeKind::Other, "")
            .build(&front())
            .unwrap()
            .over(Transport::Login);
        assert!(!script.contains("hpc_proxy=") && !script.contains("--port"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_value_comes_back_from_the_script(
            hpc_proxy in "[^\0]{0,40}|['\\\\\r\n$`\"! #]{0,20}",
            ide_command in "[^\0]{0,40}|['\\\\\r\n$`\"! #]{0,20}|#SBATCH --bogus\r\n",
        ) {
            let script = JobScript {
                hpc_proxy: hpc_proxy.clone(),
                ..script(IdeKind::Vscode, &ide_command)
            };
            let text = script.build(&front()).unwrap().over(Transport::Login);
            prop_assert!(!text.contains('\r'));
            let head = text.split(LIFECYCLE).next().unwrap();
            let output = Command::new("bash")
                .args(["-c", &format!("{head}printf '%s\\0%s' \"$hpc_proxy\" \"$ide_command\"")])
                .output()
                .unwrap();
            let expected = format!("{hpc_proxy}\0{ide_command}");
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }
}
