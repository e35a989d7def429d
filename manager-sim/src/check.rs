//! What a configuration means, in plain words, and what is wrong with the files that it names.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use hpc_proxy::text::chain;
use jiff::Timestamp;

use crate::{
    auth::{header::TrustedHeader, token_file},
    cluster::{Squeue, Ssh},
    config::{ConfigErrors, Listen, Serve},
    front::Front,
    ide::IdeConfig,
    job::script::IdeKind,
    socket_file, state_dir, store,
};

/// What is to be told about a configuration.
#[derive(Debug, Default)]
pub struct Report {
    in_force: Vec<String>,
    warnings: Vec<Finding>,
    errors: Vec<Finding>,
}

#[derive(Debug)]
struct Finding {
    what: String,
    hint: String,
}

impl Report {
    /// About a configuration that could be read, or could not.
    pub fn of(config: Result<Box<Serve>, ConfigErrors>) -> Self {
        let mut report = Self::default();
        match config {
            Ok(serve) => report.tell(&serve),
            Err(errors) => {
                let finding = |error: &crate::config::ConfigError| Finding {
                    what: chain(error),
                    hint: error.hint(),
                };
                report.errors.extend(errors.iter().map(finding));
            }
        }
        report
    }

    /// Whether a manager would start with it.
    pub fn is_good(&self) -> bool {
        self.errors.is_empty()
    }

    fn says(&mut self, line: impl Into<String>) {
        self.in_force.push(line.into());
    }

    fn warns(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        let (what, hint) = (what.into(), hint.into());
        self.warnings.push(Finding { what, hint });
    }

    fn errs(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        let (what, hint) = (what.into(), hint.into());
        self.errors.push(Finding { what, hint });
    }

    fn tell(&mut self, serve: &Serve) {
        self.address(serve);
        self.identity(serve);
        self.users(&serve.logins, serve.local_port);
        self.sessions(serve);
        self.state(&serve.state_dir);
    }

    fn address(&mut self, serve: &Serve) {
        let at = match &serve.front {
            Some(front) => format!("; browsers know it as {front}"),
            None => String::new(),
        };
        self.says(format!("It listens on {}{at}.", serve.listen));
        if let Listen::Unix(path) = &serve.listen
            && let Err(error) = socket_file::check_directory(path)
        {
            let hint =
                "`listen` needs a directory that only this user writes to; its group may enter";
            self.errs(format!("bad `listen`: {}", chain(&error)), hint);
        }
        let names: Vec<_> = serve.hosts.iter().map(|host| host.as_str()).collect();
        let others = if names.is_empty() {
            "no other".to_owned()
        } else {
            names.join(", ")
        };
        self.says(format!(
            "It answers to the names of this machine's loopback, and to {others}."
        ));
        self.says(match &serve.subdomains {
            Some(domain) => format!("Each dev server has a host of its own below {domain}."),
            None => "Dev servers have no hosts of their own.".to_owned(),
        });
        let is_plain = serve
            .front
            .as_ref()
            .is_none_or(|front| front.scheme() == "http");
        if is_plain && !serve.listen.is_here() {
            self.warns(
                format!("`listen`: {} is reached without encryption", serve.listen),
                "put a front with TLS before it, and say its `url`",
            );
        }
    }

    fn identity(&mut self, serve: &Serve) {
        let identity = &serve.identity;
        if identity.links {
            self.says("People sign in by one-time links: `hpc-manager link USER` prints one.");
        }
        if let Some(header) = &identity.header {
            self.header(header, &serve.listen);
        }
        if let Some(path) = &identity.token_file {
            self.tokens(path, &serve.logins);
        }
    }

    fn header(&mut self, header: &TrustedHeader, listen: &Listen) {
        let (name, from) = (header.name(), header.from());
        let shown: Vec<_> = from.iter().map(ToString::to_string).collect();
        self.says(format!(
            "People are whom `{name}` names, in requests from {} alone; from anybody else it is refused.",
            shown.join(", ")
        ));
        if from.iter().any(|network| network.has_loopback()) {
            self.warns(
                "`trusted-header.from` has the loopback: whoever runs a program on this machine can be \
                 anybody",
                "let nobody else in, or `listen` on `unix:PATH` and take `unix` for the front",
            );
        }
        let comes_by = |network: &crate::auth::network::Network| {
            network.is_unix() == matches!(listen, Listen::Unix(_))
        };
        if !from.iter().any(comes_by) {
            self.warns(
                format!("`trusted-header.from`: nobody there can reach {listen}"),
                "take `unix` with a Unix socket, addresses with a port",
            );
        }
    }

    fn tokens(&mut self, path: &Path, logins: &[Ssh]) {
        let shown = path.display();
        self.says(format!(
            "People sign in by access tokens, and programs by `Authorization: Bearer`: those in {shown}."
        ));
        let entries = match token_file::read(path) {
            Ok(entries) => entries,
            Err(error) => {
                let hint = "`token-file` has to be this user's alone: `chmod 600`; `hpc-manager token add NAME` \
                            makes a sound one";
                return self.errs(format!("bad `token-file`: {}", chain(&error)), hint);
            }
        };
        let now = Timestamp::now();
        let good = entries.iter().filter(|entry| now < entry.expires).count();
        let old = entries.len() - good;
        self.says(format!("Of its tokens {good} are good and {old} too old."));
        if good == 0 {
            self.warns(
                format!("`token-file`: {shown} has no good token"),
                "make one with `hpc-manager token add NAME --user USER`",
            );
        }
        for entry in entries {
            if !logins.iter().any(|ssh| ssh.user == entry.user) {
                self.warns(
                    format!(
                        "`token-file`: `{}` is for `{}`, who has no account",
                        entry.name, entry.user
                    ),
                    format!(
                        "remove it with `hpc-manager token rm {}`, or add a `[[user]]`",
                        entry.name
                    ),
                );
            }
        }
        if path.starts_with("/run") || path.starts_with("/tmp") {
            self.warns(
                format!("`token-file`: {shown} does not outlive a restart of this machine"),
                "let `token-file` name a lasting place",
            );
        }
    }

    fn squeue(&mut self, logins: &[Ssh]) {
        let all = logins.iter().filter_map(|ssh| ssh.squeue.as_ref());
        let all: BTreeSet<_> = all.collect();
        for Squeue { login, key } in all {
            self.says(format!(
                "squeue is asked as {login} about the jobs of all users of that cluster; it must be shown them \
                 (PrivateData, slurm.conf(5))."
            ));
            if let Some(key) = key
                && let Err(error) = check_key(key)
            {
                self.errs(
                    format!("bad `squeue-key` of `{login}`: {error}"),
                    "give a private key of this account's alone: `chmod 600`",
                );
            }
        }
    }

    fn users(&mut self, logins: &[Ssh], local_port: u16) {
        for ssh in logins {
            let key = ssh
                .key
                .as_ref()
                .map(|key| format!(", with the key {}", key.display()));
            let config = ssh.config.as_ref();
            let config = config.map(|config| format!(", as {} says", config.display()));
            self.says(format!(
                "User {} has the account {}{}{}.",
                ssh.user,
                ssh.login,
                key.unwrap_or_default(),
                config.unwrap_or_default()
            ));
            if let Some(key) = &ssh.key
                && let Err(error) = check_key(key)
            {
                self.errs(
                    format!("bad `key` of the `[[user]]` called `{}`: {error}", ssh.user),
                    "give a private key of this user's alone: `chmod 600`",
                );
            }
        }
        self.squeue(logins);
        let mut configs: Vec<&PathBuf> = logins
            .iter()
            .filter_map(|ssh| ssh.config.as_ref())
            .collect();
        configs.sort();
        configs.dedup();
        for config in configs {
            if let Err(error) = fs::File::open(config) {
                self.errs(
                    format!(
                        "bad `ssh-config`: cannot read `{}`: {error}",
                        config.display()
                    ),
                    "name a file that this user can read, or leave it out",
                );
            }
        }
        let shared = |ssh: &&Ssh| {
            logins
                .iter()
                .any(|other| other.login == ssh.login && other.user != ssh.user)
        };
        if let Some(ssh) = logins.iter().find(shared) {
            self.warns(
                format!("`login`: several users have the account {}", ssh.login),
                "to the cluster they are one, and may see each other's dev servers",
            );
        }
        let first = logins.first().map(|ssh| &ssh.user);
        self.says(if logins.iter().all(|ssh| Some(&ssh.user) == first) {
            format!("The tunnel begins on port {local_port} of the loopback.")
        } else {
            "Each tunnel begins at a Unix socket in the manager's directory.".to_owned()
        });
    }

    fn sessions(&mut self, serve: &Serve) {
        self.says(format!(
            "A session's job asks sbatch for {}.",
            serve.resources.options(None)
        ));
        self.limits(serve);
        let setting = match serve.ides.len() {
            1 => "ide-socket",
            _ => "socket",
        };
        for ide in &serve.ides {
            self.ide(ide, serve.front.as_ref(), setting);
        }
        if let [usual, _, ..] = &serve.ides[..] {
            self.says(format!("Without another wish it is {}.", usual.title));
        }
        self.says(if serve.cancel_on_exit {
            "Jobs are cancelled when the manager ends."
        } else {
            "Jobs are left when the manager ends, and taken up again when it starts."
        });
    }

    fn ide(&mut self, ide: &IdeConfig, front: Option<&Front>, setting: &str) {
        let IdeConfig {
            name,
            title,
            script,
        } = ide;
        let url = Front::plain("localhost".into());
        if let Err(error) = script.build(front.unwrap_or(&url)) {
            self.errs(
                format!("bad `ide-command` or `hpc-proxy-command`: {error}"),
                "leave the NUL byte out",
            );
        }
        self.says(match script.kind {
            IdeKind::Vscode => format!(
                "It runs {title} ({}) beside `{}`, {}.",
                script.ide_command,
                script.hpc_proxy,
                if script.private_localhost {
                    "with a localhost of the user's own where the node offers one"
                } else {
                    "with the node's localhost"
                }
            ),
            IdeKind::Other => format!("It runs {title}, of another kind ({}).", script.ide_command),
        });
        let (needs, hint) = if script.ide_socket {
            (
                "IDE_SOCKET",
                format!("say where it is, or leave `{setting}` out"),
            )
        } else {
            (
                "IDE_TOKEN_FILE",
                format!(
                    "any user of a node may connect to its ports: have the IDE ask for the token, or listen on \
                     $IDE_SOCKET with `{setting} = true`"
                ),
            )
        };
        if script.kind == IdeKind::Vscode && !script.ide_command.contains(needs) {
            self.warns(
                format!("the command of `{name}` says nothing of ${needs}"),
                hint,
            );
        }
    }

    fn limits(&mut self, serve: &Serve) {
        let limits = &serve.limits;
        self.says(format!(
            "A user has at most {} session(s) at a time.",
            serve.max_sessions
        ));
        let mut most: Vec<String> = Vec::new();
        most.extend(limits.time.iter().map(|time| format!("time {time}")));
        most.extend(limits.cpus.iter().map(|cpus| format!("cpus {cpus}")));
        most.extend(limits.memory.iter().map(|memory| format!("mem {memory}")));
        self.says(if most.is_empty() {
            "Slurm alone bounds what users ask for.".to_owned()
        } else {
            format!("Users may ask for at most {}.", most.join(", "))
        });
        if !limits.partitions.is_empty() {
            let all: Vec<_> = limits.partitions.iter().map(ToString::to_string).collect();
            self.says(format!(
                "They may choose the partition of {}.",
                all.join(", ")
            ));
        }
        if !limits.options.is_empty() {
            let all: Vec<_> = limits
                .options
                .iter()
                .map(|name| format!("--{name}"))
                .collect();
            self.says(format!("They may also give sbatch {}.", all.join(", ")));
        }
        if let Some(idle) = serve.idle_timeout {
            self.says(format!(
                "A session is cancelled after {} s without a byte.",
                idle.as_secs()
            ));
        }
    }

    fn state(&mut self, path: &Path) {
        self.says(format!(
            "The manager keeps its files in {}, and sessions and signed-in browsers in {} there.",
            path.display(),
            store::FILE
        ));
        match state_dir::check_private(path) {
            Ok(()) => {}
            Err(error) if error.is_missing() => {}
            Err(error) => self.errs(
                format!("bad `state-dir`: {}", chain(&error)),
                "give a directory of this user's alone: `chmod 700`",
            ),
        }
    }
}

/// A key as ssh takes it: a file, and nobody else's to read.
fn check_key(path: &Path) -> io::Result<()> {
    let shown = path.display();
    let file = fs::File::open(path)
        .map_err(|error| io::Error::other(format!("cannot read `{shown}`: {error}")))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other(format!("`{shown}` is not a file")));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("others can read `{shown}`")));
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.in_force {
            writeln!(f, "{line}")?;
        }
        for (kind, findings) in [("warning", &self.warnings), ("error", &self.errors)] {
            for Finding { what, hint } in findings {
                let what: Vec<_> = what.split_whitespace().collect();
                writeln!(f, "{kind}: {}\n  hint: {hint}", what.join(" "))?;
            }
        }
        if self.is_good() {
            writeln!(f, "The configuration is good.")
        } else {
            writeln!(
                f,
                "The configuration is not good: {} error(s).",
                self.errors.len()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_nobody_elses_to_read() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        fs::write(&key, "").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_key(&key).is_ok(), good, "{mode:o}");
        }
        assert!(check_key(directory.path()).is_err());
        assert!(check_key(&directory.path().join("none")).is_err());
    }
}
