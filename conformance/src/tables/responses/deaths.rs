//! Dev servers that die inside an answer.

use crate::{
    exchange::{cut, gets, sends},
    recorder::After,
    row::{Row, row},
    tables::get,
    want::own,
};

pub(super) fn rows() -> Vec<Row> {
    let dies = |answer: &str, after| sends(get("/x")).answer(answer).then(after).wants(cut());
    let mut rows = Vec::new();
    for (how, after) in [("an end", After::Close), ("a reset", After::Reset)] {
        for (place, answer) in [
            (
                "inside a body of stated length",
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            ),
            (
                "before a body of stated length",
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
            ),
            (
                "inside a chunk",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
            ),
            (
                "behind a chunk",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            ),
            (
                "before the last empty line",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            ),
            (
                "inside a size",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1",
            ),
        ] {
            let name = format!("{how} {place} is an abort for the client");
            // What was sent before a reset may be lost with it: then there is no answer to cut.
            let exchange = dies(answer, after).or(gets(own(&[502])).named("502").open_or_closed());
            rows.push(row("93", name, exchange));
        }
    }
    rows.push(row(
        "93",
        "a reset of a body up to the end is an abort for the client",
        {
            dies("HTTP/1.1 200 OK\r\n\r\nhello", After::Reset)
                .or(gets(own(&[502])).named("502").open_or_closed())
        },
    ));
    rows
}
