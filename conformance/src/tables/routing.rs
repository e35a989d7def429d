//! A. Routing and path: which dev server a target leads to, and that it gets the rest byte for byte.

use crate::{
    exchange::{Exchange, forwarded, sends},
    row::Row,
    tables::get,
    want::request,
};

mod forms;
mod paths;
mod ports;

pub(super) fn rows() -> Vec<Row> {
    let parts = [paths::rows(), ports::rows(), forms::rows()];
    parts.into_iter().flatten().collect()
}

/// The dev server sees just what follows the prefix.
fn keeps(path: &str) -> Exchange {
    sends(get(path)).wants(forwarded(request("GET", path)))
}
