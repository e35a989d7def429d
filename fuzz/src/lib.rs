//! What any bytes may do to hpc-proxy: one function for each reader of bytes, which panics when the
//! proxy does what it must not.
//!
//! A fuzzer calls them (`libfuzzer/`), and so does a short test with bytes that were kept in `corpus/`.
//! Panicking is the least of it: what a request is, and where it ends, is held against a model of our
//! own that shares no code with the proxy.

mod answer;
mod connection;
mod head;
mod lease;
mod model;
mod owners;
mod responses;
mod route;
mod stage;
mod surgery;

pub use answer::answer;
pub use connection::connection;
pub use head::head;
pub use lease::lease;
pub use owners::owners;
pub use route::route;

/// A function that any bytes may be given.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 6] = [
    ("answer", answer),
    ("connection", connection),
    ("head", head),
    ("lease", lease),
    ("owners", owners),
    ("route", route),
];
