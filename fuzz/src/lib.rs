//! What any bytes may do to hpc-proxy: one function for each reader of bytes, which panics when the
//! proxy does what it must not.
//!
//! A fuzzer calls them (`libfuzzer/`), and so does a short test with bytes that were kept in `corpus/`.
//! Panicking is the least of it: what a request is, and where it ends, is held against a model of our
//! own that shares no code with the proxy.

mod answer;
mod connection;
mod decode;
mod head;
mod lease;
mod markup;
mod model;
mod owners;
mod pieces;
mod responses;
mod route;
mod stage;
mod surgery;

pub use answer::answer;
pub use connection::connection;
pub use decode::decode;
pub use head::head;
pub use lease::lease;
pub use markup::markup;
pub use owners::owners;
pub use pieces::words;
pub use route::route;

/// A function that any bytes may be given.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 8] = [
    ("answer", answer),
    ("connection", connection),
    ("decode", decode),
    ("head", head),
    ("lease", lease),
    ("markup", markup),
    ("owners", owners),
    ("route", route),
];
