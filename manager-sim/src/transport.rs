//! How a tunnel reaches the proxy of a session, which says where the proxy listens as well.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The way from the manager to a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// sshd of the login node connects to the node (`ssh -L`). The proxy listens for the whole cluster.
    #[default]
    Login,
    /// An ssh to the node itself, through the login node (as ssh's `ProxyJump`). The proxy listens on the
    /// node's loopback. The site lets a user with a job log in to its node (pam_slurm_adopt(8)).
    Jump,
    /// As [`Self::Jump`], to a Unix socket in the user's own directory, which no other user can reach.
    JumpSocket,
    /// A step of the job, started on the login node (srun(1), `--overlap`). The proxy listens on the node's
    /// loopback, and no ssh leads to nodes.
    Srun,
}

/// Text names no transport.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is none of `login`, `jump`, `jump-socket` and `srun`", .0.escape_debug())]
pub struct NotATransport(String);

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Login, Self::Jump, Self::JumpSocket, Self::Srun];

    /// Its name in the configuration, and in the job script, which has the proxy listen by it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Jump => "jump",
            Self::JumpSocket => "jump-socket",
            Self::Srun => "srun",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Transport {
    type Err = NotATransport;

    fn from_str(text: &str) -> Result<Self, NotATransport> {
        let mut all = Self::ALL.into_iter();
        all.find(|transport| transport.as_str() == text)
            .ok_or_else(|| NotATransport(text.to_owned()))
    }
}
