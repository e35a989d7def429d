//! A localhost of one's own on a shared machine, without root.
//!
//! Two users of one machine cannot both listen on port 5500 of 127.0.0.1. Under this supervisor they
//! can: it makes the bind(2) and connect(2) calls of a program in its stead, and those that are about
//! localhost on an address of 127.0.0.0/8 that is the user's own ([`personal`]). All other calls are
//! the program's as ever. A [`Key`] keeps other users from that address, as far as the kernel has
//! keys. [`run`] is the way in; [`probe`] tells whether there is one.
//!
//! It is not a sandbox. io_uring, 32-bit programs and sockets that were passed in go around it, and
//! nothing that it decides is about permission.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "a private localhost is made of what the Linux kernel offers; it builds for Linux only"
);

mod address;
mod connecting;
mod decide;
mod fallback;
mod filter;
mod guardian;
mod handover;
mod launch;
mod lock;
mod map;
mod notify;
mod owners;
mod probe;
mod quiet;
mod supervisor;
mod target;
mod users;

pub use address::personal;
pub use launch::{Ended, LaunchError, Plan, run};
pub use lock::{Key, NoLock, try_lock};
pub use map::{PortMap, Private};
pub use owners::{Owner, Owners};
pub use probe::{Features, Unavailable, probe};
