//! `hpc-proxy doctor`: what this node offers, what is missing, and what follows from it. Every
//! probe looks for itself; none changes anything that stays.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use hpc_proxy::text::is_unprintable;
use serde::Serialize;

use crate::{
    cli::{Config, Output},
    failure::Failure,
};

mod home;
mod lease;
mod localhost;
mod node;

/// All probes, in the order in which they are shown. A new one is a function and a line here.
const PROBES: [Probe; 22] = [
    Probe("kernel", node::kernel),
    Probe("sockets", node::sockets),
    Probe("proc", node::proc),
    Probe("descriptors", node::descriptors),
    Probe("ipv4", node::ipv4),
    Probe("ipv6", node::ipv6),
    Probe("root", node::root),
    Probe("slurm", node::slurm),
    Probe("supervision", localhost::supervision),
    Probe("take", localhost::taken_sockets),
    Probe("replace", localhost::replaced_sockets),
    Probe("signals", localhost::steady_calls),
    Probe("lock", localhost::lock),
    Probe("yama", localhost::yama),
    Probe("userns", localhost::user_namespaces),
    Probe("tun", localhost::tun),
    Probe("home", home::home),
    Probe("lease-files", home::lease_files),
    Probe("clock", home::clock),
    Probe("state-dir", home::state_dir),
    Probe("lease", lease::lease),
    Probe("proxy", lease::proxy),
];

/// A name for one thing to look at, and how to.
struct Probe(&'static str, fn(&Config) -> Finding);

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Something does not work, or not as well.
    Warn,
    /// The proxy does not work.
    Fail,
}

/// What a probe found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    /// What there is.
    what: String,
    /// What follows from it, or what to do about it.
    consequence: Option<String>,
}

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what: what.into(),
            consequence: None,
        }
    }

    fn warn(what: impl Into<String>, consequence: impl Into<String>) -> Self {
        Self::ok(what).at(Level::Warn, consequence)
    }

    fn fail(what: impl Into<String>, consequence: impl Into<String>) -> Self {
        Self::ok(what).at(Level::Fail, consequence)
    }

    /// The same, and what follows from it.
    fn so(self, consequence: impl Into<String>) -> Self {
        let level = self.level;
        self.at(level, consequence)
    }

    fn at(self, level: Level, consequence: impl Into<String>) -> Self {
        Self {
            level,
            consequence: Some(consequence.into()),
            ..self
        }
    }
}

/// Looks at everything and prints it. Whether nothing keeps the proxy from working.
pub(crate) fn print(config: &Config, output: Output) -> Result<bool, Failure> {
    let findings = PROBES.map(|Probe(name, look)| (name, look(config)));
    let text = match output {
        Output::Human => findings
            .iter()
            .map(|(name, found)| line(name, found))
            .collect(),
        Output::Json => json(&findings),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(findings.iter().all(|(_, found)| found.level != Level::Fail))
}

fn line(name: &str, found: &Finding) -> String {
    let level = match found.level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "FAIL",
    };
    let mut line = format!("{level:4}  {name:11}  {}", found.what);
    if let Some(consequence) = &found.consequence {
        write!(line, "  -> {consequence}").expect("a string takes it");
    }
    // Paths and what a file says may hold anything (S24).
    line.replace(is_unprintable, "\u{fffd}") + "\n"
}

fn json(findings: &[(&str, Finding)]) -> String {
    #[derive(Serialize)]
    struct Named<'a> {
        name: &'a str,
        #[serde(flatten)]
        found: &'a Finding,
    }
    #[derive(Serialize)]
    struct All<'a> {
        probes: Vec<Named<'a>>,
    }
    let probes = findings.iter().map(|(name, found)| Named { name, found });
    let all = All {
        probes: probes.collect(),
    };
    serde_json::to_string(&all).expect("plain fields") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_aligned_line() {
        let found = Finding::warn("1024 of 1024", "at most 480 WebSockets");
        let expected = "warn  descriptors  1024 of 1024  -> at most 480 WebSockets\n";
        assert_eq!(line("descriptors", &found), expected);
        let found = Finding::fail("a\n\u{1b}[31mb", "c");
        assert_eq!(
            line("home", &found),
            "FAIL  home         a\u{fffd}\u{fffd}[31mb  -> c\n"
        );
    }

    #[test]
    fn programs_get_every_field() {
        let found = [("home", Finding::ok("x"))];
        let expected = "{\"probes\":[{\"name\":\"home\",\"level\":\"ok\",\"what\":\"x\",\"consequence\":null}]}\n";
        assert_eq!(json(&found), expected);
    }

    #[test]
    fn names_are_short_and_differ() {
        let mut names = PROBES.map(|Probe(name, _)| name).to_vec();
        assert!(names.iter().all(|name| name.len() <= 11), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), PROBES.len());
    }
}
