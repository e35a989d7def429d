//! The user's own listening servers: which ports, which processes, and whether they belong to
//! this session or to something else of the same user on the node.
//!
//! A view for people; what may be forwarded to is decided by [`crate::upstream`] alone.

use std::{collections::HashMap, fs, io, path::Path};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use crate::{
    answer::{escape, page},
    upstream::owner::{Owners, Socket},
};

/// A listening server of this user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Its port.
    pub port: u16,
    /// The address that it listens on.
    pub address: String,
    /// The name of its process, where that can be told.
    pub process: Option<String>,
    /// Its process, where that can be told.
    pub pid: Option<u32>,
    /// Whether it runs in the same Slurm job as the proxy; without a job, always.
    pub in_session: bool,
}

/// All listening servers of `uid` but `own_port`, each port once, by number; `job` is the Slurm
/// job that the proxy runs in.
///
/// # Errors
/// When the kernel does not list sockets.
pub async fn list(
    owners: &Owners,
    uid: u32,
    own_port: u16,
    job: Option<&str>,
) -> io::Result<Vec<Listening>> {
    let mut sockets = owners.listeners().await?;
    sockets.retain(|socket| socket.uid == uid && socket.address.port() != own_port);
    sockets.sort_by_key(|socket| (socket.address.port(), socket.address.is_ipv6()));
    sockets.dedup_by_key(|socket| socket.address.port());
    let job = job.map(str::to_owned);
    let listed = tokio::task::spawn_blocking(move || {
        let holders = holders(&sockets);
        let describe =
            |socket: &Socket| describe(socket, holders.get(&socket.inode), job.as_deref());
        sockets.iter().map(describe).collect()
    });
    listed.await.map_err(io::Error::other)
}

fn describe(socket: &Socket, pid: Option<&u32>, job: Option<&str>) -> Listening {
    let process = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    let in_session = match (job, pid) {
        (None, _) => true,
        (Some(job), Some(pid)) => job_of(*pid).as_deref() == Some(job),
        (Some(_), None) => false,
    };
    Listening {
        port: socket.address.port(),
        address: socket.address.ip().to_string(),
        process: process.map(|name| name.trim_end().to_owned()),
        pid: pid.copied(),
        in_session,
    }
}

/// The Slurm job of a process: from its environment, as Slurm set it for the batch script.
fn job_of(pid: u32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let job = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"SLURM_JOB_ID="))?;
    String::from_utf8(job.to_vec()).ok()
}

/// Which process holds each of `sockets`: proc_pid_fd(5) of those processes that we may look into.
fn holders(sockets: &[Socket]) -> HashMap<u64, u32> {
    let mut holders: HashMap<u64, u32> = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        for inode in socket_inodes(&process.path().join("fd")) {
            if sockets.iter().any(|socket| socket.inode == inode) {
                // Of a parent and a forked child the older, smaller number is the server's own.
                let holder = holders.entry(inode).or_insert(pid);
                *holder = pid.min(*holder);
            }
        }
    }
    holders
}

fn socket_inodes(descriptors: &Path) -> impl Iterator<Item = u64> {
    fs::read_dir(descriptors)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|descriptor| {
            let target = fs::read_link(descriptor.path()).ok()?;
            target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        })
}

/// The index page: links to the user's own dev servers.
pub fn index(servers: &[Listening]) -> Response<Full<Bytes>> {
    let (here, elsewhere): (Vec<_>, Vec<_>) = servers.iter().partition(|server| server.in_session);
    let mut body = String::from("<h1>Your dev servers</h1>");
    if here.is_empty() {
        body.push_str("<p>None yet. Start one, and it appears here.</p>");
    } else {
        body.push_str(&table(&here));
    }
    if !elsewhere.is_empty() {
        body.push_str("<h2>Elsewhere of yours on this node</h2>");
        body.push_str(&table(&elsewhere));
    }
    page("Your dev servers", &body)
}

fn table(servers: &[&Listening]) -> String {
    let rows: String = servers
        .iter()
        .map(|server| {
            let process = escape(server.process.as_deref().unwrap_or("?"));
            let (port, address) = (server.port, escape(&server.address));
            format!(
                "<tr><td><a href=\"/port/{port}/\">{port}</a></td><td>{process}</td>\
                 <td>{address}</td></tr>"
            )
        })
        .collect();
    format!("<table><tr><th>Port</th><th>Program</th><th>Address</th></tr>{rows}</table>")
}

#[cfg(test)]
impl Listening {
    pub(crate) fn example(port: u16) -> Self {
        Self {
            port,
            address: "127.0.0.1".into(),
            process: Some("node".into()),
            pid: Some(1),
            in_session: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn lists_what_this_user_serves_and_not_the_proxy() {
        let uid = rustix::process::geteuid().as_raw();
        let (one, two) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("[::1]:0").unwrap(),
        );
        let [one, two] = [&one, &two].map(|listener| listener.local_addr().unwrap());
        let listed = list(&Owners::probe(), uid, two.port(), None).await.unwrap();
        let found = listed
            .iter()
            .find(|server| server.port == one.port())
            .unwrap();
        assert_eq!(found.pid, Some(std::process::id()));
        assert_eq!(found.address, "127.0.0.1");
        assert!(found.in_session);
        assert!(!listed.iter().any(|server| server.port == two.port()));

        let strangers = list(&Owners::probe(), uid + 1, 0, None).await.unwrap();
        assert!(!strangers.iter().any(|server| server.port == one.port()));
    }

    #[tokio::test]
    async fn a_server_outside_the_job_is_marked() {
        let uid = rustix::process::geteuid().as_raw();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let listed = list(&Owners::probe(), uid, 0, Some("no such job"))
            .await
            .unwrap();
        assert!(
            !listed
                .iter()
                .find(|server| server.port == port)
                .unwrap()
                .in_session
        );
    }
}
