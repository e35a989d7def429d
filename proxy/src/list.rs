//! `hpc-proxy ports`: the user's own listening servers on this node. It asks the kernel itself, so
//! that it needs no running proxy.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use hpc_proxy::{
    ports::{self, Listening, Servers},
    private::Localhost,
    upstream::owner::Owners,
};

use crate::{
    cli::{Config, Output},
    failure::Failure,
    local,
};

/// Prints them.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn print(config: &Config, output: Output) -> Result<(), Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let own_ports = local::proxy_ports(&config.place());
    // Looked at, not made.
    let state = Some(&config.state_dir).filter(|state| state.path().exists());
    let map = state.and_then(|state| state.private_servers().ok());
    let private = Localhost::new(uid, config.job.as_deref(), map);
    let servers = Servers::new(Owners::probe(), uid, private, own_ports, config.job.clone())
        .asking_titles(config.titles);
    let servers = servers.list_with_titles().await?;
    let text = match output {
        Output::Json => format!("{}\n", ports::json(&servers)),
        Output::Human if servers.is_empty() => {
            writeln!(io::stderr(), "no server of yours listens on this node")?;
            return Ok(());
        }
        Output::Human => table(&servers),
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn table(servers: &[Listening]) -> String {
    let rows = servers.iter().map(|server| {
        let dash = || "-".to_owned();
        [
            server.port.to_string(),
            server.process.clone().unwrap_or_else(dash),
            server.pid.map_or_else(dash, |pid| pid.to_string()),
            server.address.clone(),
            match (server.private, server.locked) {
                (_, true) => "locked",
                (true, false) => "yes",
                (false, false) => "no",
            }
            .to_owned(),
            server.link.clone(),
            if server.in_session { "yes" } else { "no" }.to_owned(),
            server.title.clone().unwrap_or_default(),
        ]
    });
    let head = [
        "PORT", "PROGRAM", "PID", "ADDRESS", "PRIVATE", "LINK", "SESSION", "TITLE",
    ];
    aligned(
        std::iter::once(head.map(str::to_owned))
            .chain(rows)
            .collect(),
    )
}

/// Columns as wide as their widest cell; the last one ends where it ends.
fn aligned<const N: usize>(rows: Vec<[String; N]>) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:width$}  ").expect("a string takes it");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let server = |port, process: Option<&str>, title: Option<&str>| Listening {
            port,
            address: "127.0.0.1".into(),
            process: process.map(str::to_owned),
            title: title.map(str::to_owned),
            link: format!("/port/{port}/"),
            in_session: process.is_some(),
            private: process.is_some(),
            locked: process.is_some(),
            ..Listening::default()
        };
        let table = table(&[
            server(80, Some("a long name"), Some("A title")),
            server(12345, None, None),
        ]);
        let expected = "\
PORT   PROGRAM      PID  ADDRESS    PRIVATE  LINK          SESSION  TITLE
80     a long name  -    127.0.0.1  locked   /port/80/     yes      A title
12345  -            -    127.0.0.1  no       /port/12345/  no
";
        assert_eq!(table, expected);
    }
}
