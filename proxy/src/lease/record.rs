//! What a proxy says of itself for others to read, and whether to believe it.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A record is some hundred bytes; whatever is longer is not one.
pub const MAX_RECORD_BYTES: usize = 16 * 1024;

/// A proxy as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this format: 1.
    pub version: u32,
    /// Which start of the proxy; it proves this name over the wire.
    pub instance: String,
    /// The node's own name for itself.
    pub host: String,
    /// Addresses of the node that the proxy can be reached at.
    pub addresses: Vec<IpAddr>,
    /// Where it listens; 0 if only on a Unix socket.
    pub port: u16,
    /// The Unix socket that it listens on, if it does.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// Its process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot (proc_pid_stat(5) field 22): a reused
    /// pid has another.
    pub start_ticks: u64,
    /// The node's boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// The Slurm job that it runs in.
    pub job_id: Option<String>,
    /// Slurm's name for the node.
    pub node: Option<String>,
    /// Where its token is.
    pub token_file: PathBuf,
    /// When it started, in seconds since 1970.
    pub started: u64,
}

/// Why a lease is not believed.
#[derive(Debug, Error)]
pub enum BadLease {
    /// Longer than any record.
    #[error("the record is longer than {MAX_RECORD_BYTES} bytes")]
    TooLong,
    /// Not a record.
    #[error("the record cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// Written by another version of the proxy.
    #[error("the record has version `{0}`, not `{expected}`", expected = Record::VERSION)]
    Version(u32),
    /// Port 0 is nowhere, unless there is a socket.
    #[error("the record names port 0 and no socket")]
    Port,
    /// Of another job.
    #[error("the record is of job `{found}`, not `{wanted}`")]
    Job {
        /// What the record says.
        found: String,
        /// What the scheduler says.
        wanted: String,
    },
    /// Of another node: the job was requeued, and this is from its earlier run.
    #[error("the record is of node `{found}`, not `{wanted}`")]
    Node {
        /// What the record says.
        found: String,
        /// What the scheduler says.
        wanted: String,
    },
}

impl Record {
    /// The version of the format.
    pub const VERSION: u32 = 1;

    /// Reads a record, any bytes.
    ///
    /// # Errors
    /// When it is not a record of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadLease> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(BadLease::TooLong);
        }
        let Versioned { version } = serde_json::from_slice(bytes).map_err(BadLease::Malformed)?;
        if version != Self::VERSION {
            return Err(BadLease::Version(version));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(BadLease::Malformed)?;
        if record.port == 0 && record.socket.is_none() {
            Err(BadLease::Port)
        } else {
            Ok(record)
        }
    }

    /// Checks the record against what the scheduler says of the job. That its proxy lives is only
    /// known once it has proved itself.
    ///
    /// # Errors
    /// When it is of another job or node.
    pub fn check(&self, job: &str, node: &str) -> Result<(), BadLease> {
        let differs = |found: &Option<String>, wanted: &str| {
            (found.as_deref() != Some(wanted))
                .then(|| (found.clone().unwrap_or_default(), wanted.to_owned()))
        };
        if let Some((found, wanted)) = differs(&self.job_id, job) {
            return Err(BadLease::Job { found, wanted });
        }
        if let Some((found, wanted)) = differs(&self.node, node) {
            return Err(BadLease::Node { found, wanted });
        }
        Ok(())
    }
}

#[cfg(test)]
impl Record {
    pub(crate) fn example(port: u16) -> Self {
        Self {
            version: Self::VERSION,
            instance: "i".into(),
            host: "node01.cluster".into(),
            addresses: vec!["10.0.0.3".parse().expect("an address")],
            port,
            socket: None,
            pid: 1,
            start_ticks: 2,
            boot_id: "b".into(),
            job_id: Some("123".into()),
            node: Some("node01".into()),
            token_file: "/home/alice/.hpc-proxy/job-123.token".into(),
            started: 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // S8.
    #[test]
    fn a_record_of_another_run_is_not_believed() {
        let record = Record::example(1);
        record.check("123", "node01").unwrap();
        assert!(matches!(
            record.check("124", "node01"),
            Err(BadLease::Job { .. })
        ));
        assert!(matches!(
            record.check("123", "node02"),
            Err(BadLease::Node { .. })
        ));
        let jobless = Record {
            job_id: None,
            ..record
        };
        assert!(matches!(
            jobless.check("123", "node01"),
            Err(BadLease::Job { .. })
        ));
    }

    // S8.
    #[test]
    fn a_record_without_a_port_names_a_socket() {
        let parse = |record: &Record| Record::parse(&serde_json::to_vec(record).unwrap());
        let nowhere = Record::example(0);
        assert!(matches!(parse(&nowhere), Err(BadLease::Port)));
        let on_a_socket = Record {
            socket: Some("/run/s".into()),
            ..nowhere
        };
        assert_eq!(parse(&on_a_socket).unwrap(), on_a_socket);
        // A proxy of before there were sockets says nothing of them.
        let older = serde_json::to_string(&Record::example(1)).unwrap();
        let older = older.replace("\"socket\":null,", "");
        assert_eq!(Record::parse(older.as_bytes()).unwrap(), Record::example(1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn a_cut_record_is_not_believed(keep in 0.0..1.0f64) {
            let whole = serde_json::to_vec(&Record::example(9)).unwrap();
            let cut = (whole.len() as f64 * keep) as usize;
            prop_assert!(Record::parse(&whole[..cut]).is_err());
        }

        #[test]
        fn what_is_published_is_read_back(port in 1..=u16::MAX, instance: String, job: Option<String>) {
            let record = Record { instance, job_id: job, ..Record::example(port) };
            let text = serde_json::to_vec(&record).unwrap();
            prop_assert_eq!(Record::parse(&text).unwrap(), record);
        }
    }
}
