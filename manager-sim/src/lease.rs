//! A session's lease: what the proxy and the job script wrote on the node, read over ssh. Believed
//! when its job and node are the scheduler's; trusted when the proxy proves itself.

use std::{fmt, path::PathBuf};

use hpc_proxy::{
    auth::{NotAToken, Token},
    lease::{BadLease, MAX_RECORD_BYTES, Record},
    route::{SocketName, TargetPort, To},
};
use thiserror::Error;

use crate::{
    cluster::{Cluster, SshError},
    job::JobId,
    local_end::Identity,
    names::NodeName,
};

/// Where a session's proxy and IDE are, and their secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job that it is of.
    pub job: JobId,
    /// Where that runs.
    pub node: NodeName,
    /// Who the proxy is.
    pub proxy: Identity,
    /// Where it listens.
    pub door: Door,
    /// Where the IDE is.
    pub ide: Ide,
}

/// Where an IDE listens on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ide {
    /// On a port, to which every user of the node can connect.
    Port {
        /// Which.
        port: TargetPort,
        /// What it therefore wants to see.
        token: IdeToken,
    },
    /// On a Unix socket of this name, to which nobody else can.
    Socket(String),
}

impl Ide {
    /// As the job script writes a socket down: `unix:NAME`.
    fn of_socket(text: &str) -> Option<Self> {
        let name = SocketName::new(text.trim().strip_prefix("unix:")?)?;
        Some(Self::Socket(name.as_str().to_owned()))
    }

    fn of_port(port: &str, token: &str) -> Option<Self> {
        Some(Self::Port {
            port: port.trim().parse().ok()?,
            token: IdeToken::parse(token)?,
        })
    }

    /// The path under which the proxy serves it.
    pub fn path(&self) -> String {
        match self {
            Self::Port { port, .. } => To::Port(*port).to_string(),
            Self::Socket(name) => format!("/sock/{name}"),
        }
    }

    /// Its port, if it has one.
    pub fn port(&self) -> Option<TargetPort> {
        match self {
            Self::Port { port, .. } => Some(*port),
            Self::Socket(_) => None,
        }
    }

    /// The query that opens it, for its user's own browser only.
    pub fn query(&self) -> String {
        match self {
            Self::Port { token, .. } => format!("?tkn={}", token.reveal()),
            Self::Socket(_) => String::new(),
        }
    }
}

/// Where a proxy listens on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// A TCP port.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

impl Door {
    /// The port, if it is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port) => Some(*port),
            Self::Socket(_) => None,
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
impl Lease {
    pub(crate) fn example(node: NodeName, proxy: Identity) -> Self {
        let ide = Ide::Port {
            port: TargetPort::new(34567).expect("not 0"),
            token: IdeToken("secret".into()),
        };
        Self {
            job: "7".parse().expect("a number"),
            node,
            door: Door::Port(proxy.port),
            proxy,
            ide,
        }
    }
}

/// The secret of an IDE, as it stands in a URL: letters and digits.
#[derive(Clone, PartialEq, Eq)]
pub struct IdeToken(String);

impl IdeToken {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (plain && (1..=256).contains(&text.len())).then(|| Self(text.to_owned()))
    }

    /// The token, for its user's own browser only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdeToken(..)")
    }
}

/// Why there is no lease to believe in. All but the first say that somebody is at fault.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// Not there, or not all of it: the job has only just started.
    #[error("hpc-proxy has not published its port, or not in the home that the login node sees")]
    NotYet,
    /// ssh did not carry the question.
    #[error("the login node cannot be reached")]
    Ssh(#[from] SshError),
    /// A record, but not one to believe.
    #[error("the record of hpc-proxy is not believed")]
    Record(#[from] BadLease),
    /// The token file holds something else.
    #[error("the token of hpc-proxy cannot be read")]
    Token(#[from] NotAToken),
    /// The job script's files hold something else.
    #[error("the port and token of the IDE, or its socket, cannot be read")]
    Ide,
}

/// Reads the lease of `job`, which the scheduler says is on `node`.
///
/// # Errors
/// See [`LeaseError`].
pub async fn read(cluster: &Cluster, job: JobId, node: &NodeName) -> Result<Lease, LeaseError> {
    let output = cluster.run(&read_command(job), b"").await?;
    if output.status != 0 {
        return Err(LeaseError::NotYet);
    }
    let mut files = output.stdout.lines();
    let mut next = || files.next().unwrap_or_default();
    let (ide, record, token, ide_token) = (next(), next(), next(), next());
    assemble(job, node, record, token, ide, ide_token)
}

/// Prints a line for each file, the IDE's port first, which the script writes last. One command: on
/// some login nodes each takes seconds.
fn read_command(job: JobId) -> String {
    // Bounded: a file that is not ours may be of any length.
    let longest_bytes = MAX_RECORD_BYTES + 1;
    format!(
        "(for file in ide json token ide-token; do \
         [ -f .hpc-proxy/job-{job}.$file ] || exit 1; \
         head -c {longest_bytes} .hpc-proxy/job-{job}.$file | tr -d \"\\n\"; echo; done)"
    )
}

fn assemble(
    job: JobId,
    node: &NodeName,
    record: &str,
    token: &str,
    ide: &str,
    ide_token: &str,
) -> Result<Lease, LeaseError> {
    let record = Record::parse(record.as_bytes())?;
    record.check(&job.to_string(), node.as_str())?;
    let door = match record.socket {
        Some(path) if record.port == 0 => Door::Socket(path),
        _ => Door::Port(record.port),
    };
    let token = Token::parse(token.as_bytes())?;
    Ok(Lease {
        job,
        node: node.clone(),
        proxy: Identity {
            instance: record.instance,
            port: record.port,
            token,
        },
        door,
        ide: Ide::of_socket(ide)
            .or_else(|| Ide::of_port(ide, ide_token))
            .ok_or(LeaseError::Ide)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(job: &str, node: &str) -> String {
        format!(
            r#"{{"version":1,"instance":"ab","host":"{node}","addresses":["10.0.0.3"],"port":40123,
            "pid":1,"start_ticks":1,"boot_id":"x","job_id":{job},"node":"{node}",
            "token_file":"/home/alice/.hpc-proxy/job-7.token","started":1}}"#
        )
    }

    fn read(record: &str, token: &str, ide: &str, ide_token: &str) -> Result<Lease, LeaseError> {
        assemble(
            "7".parse().unwrap(),
            &"node01".parse().unwrap(),
            record,
            token,
            ide,
            ide_token,
        )
    }

    #[test]
    fn a_lease_of_this_job_on_this_node_is_believed() {
        let token = Token::random().unwrap();
        let lease = read(
            &record("\"7\"", "node01"),
            &token.reveal(),
            "34567\n",
            "abc\n",
        )
        .unwrap();
        assert_eq!(
            lease.proxy,
            Identity {
                instance: "ab".into(),
                port: 40123,
                token
            }
        );
        assert_eq!(lease.door, Door::Port(40123));
        assert_eq!(lease.ide.path(), "/port/34567");
        assert_eq!(lease.ide.query(), "?tkn=abc");
        assert!(!format!("{lease:?}").contains("abc"));
    }

    #[test]
    fn a_proxy_without_a_port_has_a_socket() {
        let record = record("\"7\"", "node01").replace("40123", r#"0,"socket":"/run/s""#);
        let token = Token::random().unwrap().reveal();
        let lease = read(&record, &token, "34567", "abc").unwrap();
        assert_eq!(lease.door, Door::Socket("/run/s".into()));
    }

    #[test]
    fn an_ide_on_a_socket_is_opened_without_a_token() {
        let token = Token::random().unwrap().reveal();
        let lease = read(&record("\"7\"", "node01"), &token, "unix:ide-7-12\n", "").unwrap();
        assert_eq!(lease.ide, Ide::Socket("ide-7-12".into()));
        assert_eq!(lease.ide.path(), "/sock/ide-7-12");
        assert_eq!((lease.ide.query(), lease.ide.port()), (String::new(), None));
    }

    // S8.
    #[test]
    fn a_stale_foreign_or_broken_lease_is_not() {
        let (token, good) = (Token::random().unwrap().reveal(), record("\"7\"", "node01"));
        for bad in [
            &record("\"6\"", "node01"),
            &record("null", "node01"),
            &record("\"7\"", "node02"),
        ] {
            assert!(
                matches!(read(bad, &token, "1", "a"), Err(LeaseError::Record(_))),
                "{bad}"
            );
        }
        for bad in ["", "{}", &good[..40], "\0\u{1}", &" ".repeat(1 << 17)] {
            assert!(
                matches!(read(bad, &token, "1", "a"), Err(LeaseError::Record(_))),
                "{bad}"
            );
        }
        assert!(matches!(
            read(&good, "abc", "1", "a"),
            Err(LeaseError::Token(_))
        ));
        for (ide, ide_token) in [
            ("", "a"),
            ("0", "a"),
            ("70000", "a"),
            ("1", ""),
            ("1", "a&b"),
            ("unix:", "a"),
            ("unix:../a", "a"),
            ("unix:a/b", "a"),
        ] {
            assert!(matches!(
                read(&good, &token, ide, ide_token),
                Err(LeaseError::Ide)
            ));
        }
    }

    proptest! {
        #[test]
        fn no_files_panic(record in ".{0,200}", token in ".{0,80}", ide in ".{0,9}", ide_token in ".{0,80}") {
            let _ = read(&record, &token, &ide, &ide_token);
        }
    }
}
