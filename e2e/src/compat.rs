//! Whether real dev servers, started as their manuals say, work in a real browser behind each kind
//! of front. `fixtures/NAME/case.toml` says how one is started and what a person does with it;
//! docs/compat.md has the matrix.

pub mod case;
pub mod docs;
pub mod front;
pub mod judge;
pub mod matrix;
pub mod server;
pub mod traffic;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::stream;

use crate::engine::Engine;
use crate::owner;
use case::Case;
use front::{Front, Fronts};
use matrix::{Matrix, Row};

/// More at once would only make each other slow.
const AT_ONCE: usize = 2;

/// Judges every case in one browser behind every front; `tell` is told of each verdict as it falls.
///
/// # Errors
/// A front does not come up. What a case does wrong is in its row.
pub async fn judge(
    cases: Vec<Case>,
    engine: Engine,
    fronts: &[Front],
    tell: impl Fn(&str, Front, &judge::Verdict),
) -> Result<Matrix> {
    let dir = owner::directory()?;
    let stage = Fronts::start(dir.path(), fronts)
        .await
        .context("start the fronts")?;
    let mut rows: Vec<(usize, Row)> = stream::iter(cases.iter().enumerate())
        .map(|(place, case)| {
            let (stage, tell) = (&stage, &tell);
            async move { (place, judge::row(case, engine, stage, fronts, tell).await) }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    rows.sort_by_key(|&(place, _)| place);
    stage.end().await?;
    Ok(Matrix {
        fronts: fronts.to_vec(),
        rows: rows.into_iter().map(|(_, row)| row).collect(),
    })
}
