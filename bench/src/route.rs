//! How a client comes to a dev server: straight, or through a proxy.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Where to connect, and what to say so that the dev server is asked for `/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Route {
    /// Who accepts the connection.
    pub address: SocketAddr,
    /// What comes before the dev server's own path.
    pub prefix: String,
    /// Header fields that every request must carry, each with its line end.
    pub fields: String,
}

impl Route {
    /// No proxy at all: what everything is compared with.
    pub fn straight(target_port: u16) -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, target_port).into(),
            prefix: String::new(),
            fields: String::new(),
        }
    }

    /// A request's head. `fields` are the request's own, each with its line end.
    pub fn head(&self, method: &str, path: &str, fields: &str) -> String {
        let Self {
            address,
            prefix,
            fields: own,
        } = self;
        format!("{method} {prefix}{path} HTTP/1.1\r\nHost: {address}\r\n{own}{fields}\r\n")
    }
}
