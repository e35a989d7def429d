//! `hpc-proxy url`: where a browser opens a dev server.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use hpc_proxy::{link, route::TargetPort};

use crate::{
    cli::{Config, Told, Url},
    failure::Failure,
    framework::Settings,
};

/// Prints an address, a path, or what a dev server is told.
pub(crate) fn print(config: &Config, url: &Url) -> Result<(), Failure> {
    let path = match url.port {
        Some(port) => format!("/port/{port}/"),
        None => "/".to_owned(),
    };
    let front = url.front.as_deref();
    let (origin, outer) = front.map_or(("", ""), split);
    let text = match (url.told, url.port) {
        (Told::To(framework), Some(port)) => {
            let settings = framework.settings(port, outer);
            let Settings { path, lines } = settings.ok_or(Failure::NoBase(outer.to_owned()))?;
            format!("{lines}\n# opened at {origin}{path}")
        }
        (Told::Path, _) => format!("{outer}{path}"),
        (Told::Whole | Told::To(_), port) => match front {
            Some(front) => format!("{front}{path}"),
            None => sign_in(config, port)?,
        },
    };
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// The origin and the path of a URL.
fn split(url: &str) -> (&str, &str) {
    let host = url.find("//").map_or(0, |at| at + 2);
    url.split_at(url[host..].find('/').map_or(url.len(), |at| host + at))
}

/// A link to the proxy of this job or host, else to the last one that the user started anywhere: a
/// person with `ssh -L` asks from a login node.
fn sign_in(config: &Config, port: Option<TargetPort>) -> Result<String, Failure> {
    let place = config.place();
    let own = place.read_record().ok().filter(|record| record.port != 0);
    let (proxy_port, token) = match own {
        Some(record) => (record.port, place.read_token()?),
        None => place.read_last()?,
    };
    let code = link::mint(&token, "", SystemTime::now())?;
    let to = port.map(|port| format!("&port={port}")).unwrap_or_default();
    Ok(format!(
        "http://localhost:{proxy_port}/_hpc-proxy/login?code={code}{to}"
    ))
}
