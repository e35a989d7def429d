//! B. Request fields: what belongs to one hop stays there, what the proxy states is true, all else is
//! passed on byte for byte, and what is malformed is refused.

use crate::{
    exchange::{Exchange, forwarded, sends},
    row::Row,
    tables::with,
    want::{Request, request},
};

mod claims;
mod cookies;
mod end_to_end;
mod hops;
mod limits;
mod malformed;

pub(super) fn rows() -> Vec<Row> {
    let parts = [
        hops::rows(),
        end_to_end::rows(),
        claims::rows(),
        cookies::rows(),
        limits::rows(),
        malformed::rows(),
    ];
    parts.into_iter().flatten().collect()
}

/// `GET /x` with these fields.
fn with_fields(fields: &str) -> Exchange {
    sends(with("GET", "/x", fields))
}

fn x() -> Request {
    request("GET", "/x")
}

/// None of these fields reaches the dev server.
fn strips(fields: &str) -> Exchange {
    with_fields(&format!("{fields}X-Kept: 1\r\n")).wants(forwarded(x().field("X-Kept: 1")))
}

/// These fields reach the dev server as they are.
fn keeps(lines: &[&str]) -> Exchange {
    let fields: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    with_fields(&fields).wants(forwarded(x().fields(lines)))
}
