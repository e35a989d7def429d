//! The matrix of real dev servers: `compat [CASE..] [FRONT..]`, all of ours where none is named.
//!
//! `--browser firefox` looks with Firefox. `--docs` puts the matrix into docs/compat.md, too. `--packages` only names the fixtures whose packages the cases
//! need: `just compat` installs them, then runs it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use e2e::compat::case::Case;
use e2e::compat::front::Front;
use e2e::compat::{self, docs};
use e2e::engine::Engine;

#[tokio::main]
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it speaks to a person"
)]
async fn main() -> Result<ExitCode> {
    let (mut names, mut fronts) = (Vec::new(), Vec::new());
    let (mut into_docs, mut only_packages) = (false, false);
    let mut engine = Engine::Chromium;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match Front::named(&word) {
            _ if word == "--browser" => {
                let name = words.next().unwrap_or_default();
                engine = Engine::named(&name).context("--browser chromium, or firefox")?;
            }
            _ if word == "--docs" => into_docs = true,
            _ if word == "--packages" => only_packages = true,
            Some(front) => fronts.push(front),
            None => names.push(word),
        }
    }
    if fronts.is_empty() {
        fronts = Front::OURS.to_vec();
    }
    let cases = Case::named(&names)?;
    if only_packages {
        let owners: Vec<&str> = cases.iter().map(Case::owner).collect();
        println!("{}", owners.join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        !into_docs || engine == Engine::Chromium,
        "the table in docs/compat.md is Chromium's"
    );
    let matrix = compat::judge(cases, engine, &fronts, |case, front, verdict| {
        eprintln!("{case:<20} {front:<9} {verdict}");
    })
    .await?;
    let complaints = matrix.complaints();
    println!("\n{matrix}\n{complaints}");
    let report = Path::new("target/compat.md");
    std::fs::create_dir_all("target")?;
    std::fs::write(report, format!("{matrix}\n{complaints}")).context("write target/compat.md")?;
    if into_docs {
        docs::update(&matrix)?;
    }
    Ok(if matrix.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
