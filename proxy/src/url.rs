//! `hpc-proxy url`: a one-time link to the running proxy.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use hpc_proxy::{link, route::TargetPort};

use crate::{cli::Config, failure::Failure};

/// Prints a link to the proxy of this job or host, else to the last one that the user started
/// anywhere: a person with `ssh -L` asks from a login node.
pub(crate) fn print(config: &Config, port: Option<TargetPort>) -> Result<(), Failure> {
    let place = config.place();
    let own = place.read_record().ok().filter(|record| record.port != 0);
    let (proxy_port, token) = match own {
        Some(record) => (record.port, place.read_token()?),
        None => place.read_last()?,
    };
    let code = link::mint(&token, "", SystemTime::now())?;
    let to = port.map(|port| format!("&port={port}")).unwrap_or_default();
    let link = format!("http://localhost:{proxy_port}/_hpc-proxy/login?code={code}{to}");
    Ok(writeln!(io::stdout(), "{link}")?)
}
