//! Whether any proxy or manager does its job, ours or not: stories that need nothing of the
//! subject but what every such one promises, and a table of how they ended.
//!
//! A proxy is a program with the original's flags, a manager an address at which people have sessions.

use std::fmt;

mod conformance;
mod foreign;
mod manager;
mod own;
mod person;
mod proxy;
mod stage;
mod table;

pub use conformance::conformance;
pub use foreign::Foreign;
pub use manager::judge as judge_manager;
pub use own::as_foreign;
pub use proxy::judge as judge_proxy;
pub use stage::{Kind, Stage};
pub use table::{Line, Table, Verdict};

/// A story cannot be told of this subject, or here. Not a failure, but said aloud.
#[derive(Debug)]
struct Lacks(&'static str);

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "needs: {}", self.0)
    }
}

impl std::error::Error for Lacks {}
