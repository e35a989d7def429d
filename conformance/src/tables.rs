//! The rows, a module per section of the list of behaviours.

mod access;
mod fields;
mod framing;
mod responses;
mod routing;
mod streaming;
mod targets;
mod upgrades;

use std::{
    collections::HashMap,
    net::{TcpListener, TcpStream},
    time::Duration,
};

use anyhow::Result;

use crate::row::Row;

/// The sections by their letters.
const SECTIONS: [(char, &str); 8] = [
    ('A', "routing"),
    ('B', "fields"),
    ('C', "framing"),
    ('D', "responses"),
    ('E', "streaming"),
    ('F', "upgrades"),
    ('G', "targets"),
    ('S', "access"),
];

/// The section of a row, by its id: `A routing`.
pub(crate) fn section(id: &str) -> String {
    let known = |(letter, _): &&(char, &str)| id.starts_with(*letter);
    let (letter, name) = SECTIONS.iter().find(known).expect("each row has one");
    format!("{letter} {name}")
}

/// Every row, in order, with its id.
pub(crate) fn all() -> Vec<Row> {
    let rows_of = [
        routing::rows(),
        fields::rows(),
        framing::rows(),
        responses::rows(),
        streaming::rows(),
        upgrades::rows(),
        targets::rows(),
        access::rows(),
    ];
    let mut counts = HashMap::<String, usize>::new();
    let mut rows = Vec::new();
    for ((section, _), of_section) in SECTIONS.into_iter().zip(rows_of) {
        for mut row in of_section {
            let first = row.cites.split([',', ' ']).next().unwrap_or_default();
            let first = first.trim_start_matches('S');
            let key = format!("{section}{first}");
            let count = counts.entry(key.clone()).or_default();
            *count += 1;
            row.id = format!("{key}.{count}");
            rows.push(row);
        }
    }
    rows
}

/// `GET` of a path below the prefix, with `Host` and token.
fn get(path: &str) -> String {
    with("GET", path, "")
}

/// A request of this method for a path below the prefix, with more fields and without a body.
fn with(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {{P}}{path} HTTP/1.1\r\n{{H}}{fields}\r\n")
}

/// A listener that the kernel lets nobody in to, and who keeps its places taken.
fn full_listener() -> Result<(TcpListener, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // listen(2) again shortens the queue.
    rustix::net::listen(&listener, 0)?;
    let address = listener.local_addr()?;
    let mut taken = Vec::new();
    for _ in 0..8 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(stream) => taken.push(stream),
            Err(_) => break,
        }
    }
    Ok((listener, taken))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rows_can_be_told_apart() {
        let rows = all();
        let ids: HashSet<_> = rows.iter().map(|row| &row.id).collect();
        assert_eq!(ids.len(), rows.len());
        let mut names = HashSet::new();
        for row in &rows {
            let name = (&row.id[..1], &row.name);
            assert!(names.insert(name), "two rows are called {name:?}");
        }
    }

    #[test]
    fn every_section_has_rows() {
        for section in 'A'..='G' {
            assert!(
                all().iter().any(|row| row.id.starts_with(section)),
                "{section}"
            );
        }
    }
}
