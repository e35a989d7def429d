//! C. Framing and smuggling: one reading of where a message ends, on both sides of the proxy.

use crate::{
    exchange::{Exchange, sends},
    row::Row,
    tables::with,
};

mod answers;
mod bodies;
mod chunks;
mod lengths;
mod pooling;
mod reframed;

pub(super) fn rows() -> Vec<Row> {
    let parts = [
        lengths::rows(),
        chunks::rows(),
        bodies::rows(),
        answers::rows(),
        reframed::rows(),
        pooling::rows(),
    ];
    parts.into_iter().flatten().collect()
}

/// `POST /x` with these fields and bytes behind its head.
fn post(fields: &str, body: &str) -> Exchange {
    sends(with("POST", "/x", fields) + body)
}

/// A second request that a confused proxy would see inside a body. It has no token, so that a proxy
/// that answers it by itself has not been confused into forwarding.
const SMUGGLED: &str = "GET /evil HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn chunked(body: &str) -> Exchange {
    post("Transfer-Encoding: chunked\r\n", body)
}
