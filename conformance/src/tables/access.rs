//! S. Security requirements that show on the wire: who is served, what leaks, and whose server it is.

use crate::row::{Need, Row};

mod leaks;
mod limits;
mod owners;
mod strangers;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = strangers::rows();
    rows.extend(leaks::rows());
    rows.extend(owners::rows());
    rows.extend(limits::rows());
    rows
}

/// Rows about a token.
fn with_token(rows: Vec<Row>) -> impl Iterator<Item = Row> {
    rows.into_iter().map(|row| row.needs(&[Need::Token]))
}
