//! The page that shows the matrix to whoever reads about the project.

use anyhow::{Context, Result};

use super::matrix::Matrix;
use crate::binaries;

const BEGIN: &str = "<!-- just compat --docs -->\n";
const END: &str = "<!-- end -->";

/// Replaces the table in docs/compat.md.
///
/// # Errors
/// The page has no place for it.
pub fn update(matrix: &Matrix) -> Result<()> {
    let page = binaries::docs().join("compat.md");
    let text = std::fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(BEGIN).context("no place for the table")?;
    let (_, after) = rest.split_once(END).context("no end of the table")?;
    Ok(std::fs::write(
        page,
        format!("{before}{BEGIN}{matrix}{END}{after}"),
    )?)
}
