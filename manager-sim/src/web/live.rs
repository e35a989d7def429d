//! The parts of a page that change by themselves. Each is a `section` that the script knows by its id.

use hpc_proxy::ports::Listening;

use super::{servers, session};
use crate::state::State;

/// How a user's sessions stand.
#[derive(Debug)]
pub struct Live<'a> {
    /// The session that serves this browser.
    pub selected: &'a State,
    /// All of them, the newest first.
    pub sessions: &'a [State],
    /// The selected one's servers; nothing where they cannot be listed now.
    pub servers: Option<&'a [Listening]>,
}

impl Live<'_> {
    /// All parts as HTML. `address` is that of a port on a host of its own, where there are such.
    pub fn html(&self, address: &dyn Fn(u16) -> Option<String>) -> String {
        [
            session::selected(self.selected),
            self.servers(address),
            session::others(self.selected, self.sessions),
        ]
        .concat()
    }

    /// The servers alone.
    pub fn servers(&self, address: &dyn Fn(u16) -> Option<String>) -> String {
        servers::section(self.selected, self.servers, address)
    }
}
