//! `hpc-manager doctor`: what a manager needs, here and at each login node, and what follows from what
//! is missing. Every probe looks for itself; none changes anything that stays, and no job is submitted.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use hpc_proxy::text::{chain, is_unprintable};
use serde::Serialize;
use tokio::{net::TcpListener, net::UnixStream};

use crate::{
    config::{ConfigErrors, Listen, Serve},
    holder,
    router::desk::SOCKET,
    state_dir,
};

mod login;

/// Each command on the login node costs so much at least; more is felt at every launch.
const SLOW: Duration = Duration::from_secs(3);

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Something does not work, or not as well.
    Warn,
    /// Sessions do not work.
    Fail,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    name: &'static str,
    level: Level,
    /// What there is.
    what: String,
    /// What follows from it, or what to do about it.
    consequence: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self {
            name,
            level: Level::Ok,
            what: what.into(),
            consequence: None,
        }
    }

    fn warn(name: &'static str, what: impl Into<String>, so: impl Into<String>) -> Self {
        Self::ok(name, what).so(Level::Warn, so)
    }

    fn fail(name: &'static str, what: impl Into<String>, so: impl Into<String>) -> Self {
        Self::ok(name, what).so(Level::Fail, so)
    }

    fn so(self, level: Level, consequence: impl Into<String>) -> Self {
        Self {
            level,
            consequence: Some(consequence.into()),
            ..self
        }
    }
}

/// All that was found.
#[derive(Debug)]
pub struct Examined(Vec<Finding>);

/// Looks at everything, the login nodes one after the other.
pub async fn examine(serve: Result<Box<Serve>, ConfigErrors>) -> Examined {
    let serve = match serve {
        Ok(serve) => serve,
        Err(errors) => {
            let wrong = errors.iter();
            let wrong = wrong.map(|error| Finding::fail("config", chain(error), error.hint()));
            return Examined(wrong.collect());
        }
    };
    let mut found = vec![config(&serve)];
    let runs = UnixStream::connect(serve.state_dir.join(SOCKET)).await;
    found.push(directory(&serve.state_dir));
    found.push(listen(&serve.listen, runs.is_ok()).await);
    for ssh in &serve.logins {
        found.extend(login::examine(ssh, &serve).await);
    }
    Examined(found)
}

fn config(serve: &Serve) -> Finding {
    let users: std::collections::BTreeSet<_> = serve.logins.iter().map(|ssh| &ssh.user).collect();
    let (users, logins) = (users.len(), serve.logins.len());
    let what = format!("sound: {users} users, {logins} accounts");
    Finding::ok("config", what).so(Level::Ok, "`hpc-manager check` tells what it means")
}

fn directory(path: &Path) -> Finding {
    let shown = path.display();
    match state_dir::check_private(path) {
        Ok(()) => Finding::ok("state-dir", format!("`{shown}` is the manager's alone")),
        Err(error) if error.is_missing() => Finding::ok("state-dir", format!("no `{shown}` yet"))
            .so(Level::Ok, "a manager makes it at its start"),
        Err(error) => {
            let so = "no manager starts with it: make it this user's, `chmod 700` it, or name \
                      another with `--state-dir`";
            Finding::fail("state-dir", chain(&error), so)
        }
    }
}

async fn listen(listen: &Listen, runs: bool) -> Finding {
    let name = "listen";
    if runs {
        return Finding::ok(name, format!("a manager runs here, for {listen}"));
    }
    match listen {
        Listen::Unix(path) => match crate::socket_file::check_directory(path) {
            Ok(()) => Finding::ok(name, format!("nobody listens on {listen} yet")),
            Err(error) => {
                let so = "its directory has to be this user's, and only this user's to write to";
                Finding::fail(name, chain(&error), so)
            }
        },
        Listen::Tcp(address) => match TcpListener::bind(address).await {
            Ok(_) => Finding::ok(name, format!("{listen} is free")),
            Err(error) => {
                let port = address.port();
                let holder = tokio::task::spawn_blocking(move || holder::find(port)).await;
                let who = holder.ok().flatten().map(|who| format!(": {who} has it"));
                let what = format!("{listen}: {error}{}", who.unwrap_or_default());
                Finding::fail(name, what, "end what has it, or `--listen` elsewhere")
            }
        },
    }
}

/// How long something took that people will wait for.
fn took(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f32())
}

impl Examined {
    /// Whether nothing keeps sessions from working.
    pub fn is_well(&self) -> bool {
        self.0.iter().all(|found| found.level != Level::Fail)
    }

    /// A line for each, or JSON for a program.
    pub fn show(&self, json: bool) -> String {
        if json {
            let all = serde_json::json!({ "probes": self.0 });
            return format!("{all}\n");
        }
        self.0.iter().map(line).collect()
    }
}

fn line(found: &Finding) -> String {
    let level = match found.level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "FAIL",
    };
    let mut line = format!("{level:4}  {:9}  {}", found.name, found.what);
    if let Some(consequence) = &found.consequence {
        write!(line, "  -> {consequence}").expect("a string takes it");
    }
    // What a login node says may hold anything (S24).
    line.replace(is_unprintable, "\u{fffd}") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_says_what_follows() {
        let found = Examined(vec![
            Finding::ok("ssh", "a1@login answers"),
            Finding::fail("sbatch", "no\n\u{1b}[31m", "ask the site"),
        ]);
        let expected = "ok    ssh        a1@login answers\n\
                        FAIL  sbatch     no\u{fffd}\u{fffd}[31m  -> ask the site\n";
        assert_eq!(found.show(false), expected);
        assert!(!found.is_well());
        let json: serde_json::Value = serde_json::from_str(&found.show(true)).unwrap();
        assert_eq!(json["probes"][1]["level"], "fail");
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_is_told_with_who_it_is() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let found = listen(&Listen::Tcp(address), false).await;
        assert_eq!(found.level, Level::Fail);
        assert!(found.what.contains("(pid "), "{found:?}");
        drop(taken);
        assert_eq!(listen(&Listen::Tcp(address), false).await.level, Level::Ok);
    }

    #[test]
    fn a_directory_of_others_is_told() {
        let open = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(open.path(), mode).unwrap();
        assert_eq!(directory(open.path()).level, Level::Fail);
        assert_eq!(directory(&open.path().join("none")).level, Level::Ok);
    }
}
