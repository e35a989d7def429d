//! What hpc-proxy costs (`bench`) and what it withstands (`soak`).
//!
//! Nothing of ours is linked here: the proxy runs as a process, as it ships. What would compete with
//! it for descriptors, dev servers and slow clients, runs in processes of its own: see [`peer`].

pub mod alone;
pub mod arguments;
pub mod bars;
pub mod client;
pub mod contest;
pub mod descriptors;
pub mod http;
pub mod lab;
pub mod lease;
pub mod load;
pub mod localhost;
pub mod machine;
pub mod noise;
pub mod page;
pub mod pattern;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod results;
pub mod rival;
pub mod route;
pub mod samples;
pub mod soak;
pub mod sockets;
pub mod subject;
pub mod websocket;
