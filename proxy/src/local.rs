//! How a command of the same user finds the proxy that runs on this node.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use hpc_proxy::{
    lease::{NoLease, Place, Record},
    upstream::owner::Owners,
};
use thiserror::Error;

use crate::node;

/// Why no proxy of this node can be asked.
#[derive(Debug, Error)]
pub(crate) enum NotHere {
    /// None has said that it runs.
    #[error("no proxy is running here")]
    NoLease(#[source] NoLease),
    /// It runs on another node of the same job or home.
    #[error("the proxy runs on `{there}`, and this is `{here}`")]
    Elsewhere {
        /// The node of the proxy.
        there: String,
        /// This one.
        here: String,
    },
    /// Nothing of ours listens where the record says.
    #[error("no proxy is running here: nothing of yours listens where `{0}` says")]
    Gone(PathBuf),
}

/// Where a proxy of this node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// The record of this job's or host's proxy; outside the job, of the last one that this user
/// started on this node.
pub(crate) fn find(place: &Place) -> Result<Record, NotHere> {
    match place.read_record() {
        Ok(record) if is_of_this_host(&record) => Ok(record),
        Ok(record) => Err(NotHere::Elsewhere {
            there: record.host,
            here: node::host_name(),
        }),
        Err(error) => {
            let here = of_this_boot(place).into_iter();
            here.max_by_key(|record| record.started)
                .ok_or(NotHere::NoLease(error))
        }
    }
}

/// The records of all proxies of this user that were started since this node was.
pub(crate) fn of_this_boot(place: &Place) -> Vec<Record> {
    let boot = node::boot_id();
    let mut records = place.read_all_records();
    records.retain(|record| is_of_this_host(record) && record.boot_id == boot);
    records
}

fn is_of_this_host(record: &Record) -> bool {
    record.host == node::host_name()
}

/// Where to reach the proxy of `record`: its socket if it has one, else the first of its addresses
/// that a process of this user listens on.
pub(crate) async fn door(
    place: &Place,
    record: &Record,
    owners: &Owners,
    uid: u32,
) -> Result<Door, NotHere> {
    if let Some(socket) = &record.socket {
        return Ok(Door::Unix(socket.clone()));
    }
    let loopback = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ];
    for ip in loopback.iter().chain(&record.addresses) {
        let address = SocketAddr::new(*ip, record.port);
        if let Ok(Some(listener)) = owners.listener(address).await
            && listener.uid == uid
        {
            return Ok(Door::Tcp(address));
        }
    }
    Err(NotHere::Gone(place.record_file()))
}

/// The ports of this user's proxies that run on this node.
pub(crate) fn proxy_ports(place: &Place) -> Vec<u16> {
    let mut records = of_this_boot(place);
    // A port that a killed proxy had may be a dev server's by now.
    records.retain(|record| node::is_running(record.pid, record.start_ticks) != Some(false));
    records.iter().map(|record| record.port).collect()
}
