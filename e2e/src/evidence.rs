//! What is shown of a failed story: every party's log, and files kept under `target/evidence`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::binaries;
use crate::cluster::Log;

/// Prints every log, each under its party's name.
#[expect(
    clippy::print_stderr,
    reason = "a failed test's output is where one looks first"
)]
pub fn print(logs: &[Log]) {
    for log in logs {
        eprintln!("==== {} ====\n{}", log.party, log.text.trim_end());
    }
    eprintln!("==== end of logs ====");
}

/// Keeps a file of a failed story, named after the test, and gives its path.
///
/// # Errors
/// It cannot be written.
pub fn keep(name: &str, contents: &[u8]) -> Result<PathBuf> {
    let dir = binaries::evidence_dir();
    std::fs::create_dir_all(&dir).with_context(|| format!("create `{}`", dir.display()))?;
    // libtest names the thread of a test after it.
    let test = std::thread::current()
        .name()
        .unwrap_or("story")
        .replace("::", "-");
    let path = dir.join(format!("{test}-{name}"));
    std::fs::write(&path, contents).with_context(|| format!("write `{}`", path.display()))?;
    Ok(path)
}
