//! What a first-class proxy must do, as a table: one row per case, played over raw sockets against a
//! program, byte-exact on both sides.
//!
//! It links nothing of the proxy, so that a shared bug cannot hide, and so that other implementations
//! can be judged by the same rows. It does not measure speed.

mod exchange;
mod peer;
mod recorder;
mod report;
mod row;
mod runner;
mod stage;
mod stranger;
mod subject;
mod tables;
mod want;
mod wire;

pub use report::{Line, Report, Verdict};
pub use runner::{Options, list, run};
pub use stranger::serve as serve_as_stranger;
pub use subject::Kind;
