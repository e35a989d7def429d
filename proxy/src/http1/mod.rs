//! HTTP/1.1 messages as bytes (RFC 9112): one strict parse, and the form in which they go on.
//!
//! Whatever could be read in two ways is refused, so that no two programs on the way of a message
//! can disagree about where it ends. Pure: sockets, deadlines and what a field means for the next
//! hop are other modules' business.

pub mod chunked;
pub mod fields;
pub mod framing;
pub mod head;
pub mod name;
pub mod target;
