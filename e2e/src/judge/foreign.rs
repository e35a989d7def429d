//! A manager that somebody runs somewhere, by what a person says of it: where it is, how two users are
//! known to it, and how commands are run where their sessions are.

use anyhow::{Context, Result, ensure};

use super::person::Person;
use crate::browser::Browser;
use crate::cluster::Tools;
use crate::ssh::Shell;

/// One, and two people who have a session there.
#[derive(Clone, Debug)]
pub struct Foreign {
    pub(super) origin: String,
    pub(super) alice: Person,
    pub(super) bob: Person,
    /// What nobody else may see of them: their cookies' values and authorization.
    pub(super) secrets: Vec<String>,
}

impl Foreign {
    /// As settings of these names say:
    ///
    /// | | |
    /// |---|---|
    /// | `E2E_MANAGER` | its address: `http://host:port` |
    /// | `E2E_MANAGER_ALICE` | header fields with which one user is signed in, a line each: `Cookie: session=...` |
    /// | `E2E_MANAGER_ALICE_RUN` | a command that runs its last argument, a line of shell, on the node of that user's session: `ssh alice@node01` |
    /// | `E2E_MANAGER_BOB`, `E2E_MANAGER_BOB_RUN` | the same of another user |
    /// | `E2E_LIVE_SERVER` | how live-server is called there, if not by its name |
    ///
    /// # Errors
    /// One is missing, or is not what it must be.
    pub fn told_by(setting: impl Fn(&str) -> Option<String>) -> Result<Foreign> {
        let wanted = |name: &str| setting(name).with_context(|| format!("{name} is not set"));
        let origin = wanted("E2E_MANAGER")?.trim_end_matches('/').to_owned();
        ensure!(
            origin.starts_with("http://"),
            "E2E_MANAGER is `{origin}`, not `http://...`: the judge speaks no TLS"
        );
        let live_server = setting("E2E_LIVE_SERVER").unwrap_or_else(|| "live-server".to_owned());
        let mut secrets = Vec::new();
        let mut person = |name: &'static str, variable: &str| -> Result<Person> {
            let fields = fields(&wanted(variable)?).with_context(|| variable.to_owned())?;
            secrets.extend(
                fields
                    .iter()
                    .flat_map(|(name, value)| secrets_in(name, value)),
            );
            Ok(Person {
                name,
                shell: Shell::by(&wanted(&format!("{variable}_RUN"))?),
                browser: Browser::signed_in(&origin, &fields)?,
                tools: Tools {
                    hpc_proxy: String::new(),
                    ide: String::new(),
                    live_server: live_server.clone(),
                    browser_sync: String::new(),
                },
            })
        };
        Ok(Foreign {
            alice: person("alice", "E2E_MANAGER_ALICE")?,
            bob: person("bob", "E2E_MANAGER_BOB")?,
            secrets,
            origin,
        })
    }

    /// Whether commands run on the nodes of the two, and what the stories start there does.
    ///
    /// # Errors
    /// They do not, or there is no node.js.
    pub async fn is_in_reach(&self) -> Result<()> {
        for person in [&self.alice, &self.bob] {
            let node = person.shell.runs("command -v node").await;
            node.with_context(|| format!("{}'s dev servers need node.js", person.name))?;
        }
        Ok(())
    }
}

/// `Name: value`, a line each.
fn fields(text: &str) -> Result<Vec<(String, String)>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .context("not `Name: value` in each line")?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

fn secrets_in(name: &str, value: &str) -> Vec<String> {
    let of_cookie = |it: &str| it.split_once('=').map(|(_, value)| value.trim().to_owned());
    match name.to_ascii_lowercase().as_str() {
        "cookie" => value.split(';').filter_map(of_cookie).collect(),
        "authorization" => vec![value.to_owned()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str) -> Option<String> {
        let value = match name {
            "E2E_MANAGER" => "http://127.0.0.1:1/",
            "E2E_MANAGER_ALICE" => {
                "Cookie: a=one; b=two\nAuthorization: Bearer three\nX-User: alice"
            }
            "E2E_MANAGER_BOB" => "X-User: bob",
            "E2E_MANAGER_ALICE_RUN" | "E2E_MANAGER_BOB_RUN" => "sh -c",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[tokio::test]
    async fn a_manager_is_as_the_settings_say() {
        let foreign = Foreign::told_by(settings).unwrap();
        assert_eq!(foreign.origin, "http://127.0.0.1:1");
        assert_eq!(foreign.secrets, ["one", "two", "Bearer three"]);
        let cookie = foreign.alice.browser.cookie().unwrap();
        assert!(
            cookie.contains("a=one") && cookie.contains("b=two"),
            "{cookie}"
        );
        assert!(foreign.bob.browser.cookie().is_err());
        let said = foreign.bob.shell.runs("echo \"it is $0\" 'here'").await;
        assert_eq!(said.unwrap(), "it is sh here\n");
    }

    #[test]
    fn what_is_missing_is_named() {
        for lost in ["E2E_MANAGER", "E2E_MANAGER_BOB", "E2E_MANAGER_BOB_RUN"] {
            let without = |name: &str| settings(name).filter(|_| name != lost);
            let error = Foreign::told_by(without).unwrap_err().to_string();
            assert_eq!(error, format!("{lost} is not set"));
        }
    }
}
