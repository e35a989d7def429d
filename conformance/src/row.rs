//! A row of the table: what it stands for, what it needs, and how it is played.

use anyhow::Result;

use crate::{exchange::Exchange, stage::Stage};

/// What a subject or a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A token that every request must carry.
    Token,
    /// Pages of the proxy's own: an index, explained errors.
    OwnPages,
    /// `/sock/NAME/` and `/absport/N/`.
    OtherRoutes,
    /// hpc-proxy's command line.
    Flags,
    /// hpc-proxy's files in the home directory.
    Lease,
    /// Rules about who a dev server may belong to and which ports are for users.
    Ownership,
    /// Pages whose URLs are moved below the prefix.
    Rewriting,
    /// Several users on this machine: only root can start those.
    Root,
    Ipv6,
}

/// How a played row ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Pass,
    /// The strictest of several accepted outcomes.
    Aim,
    /// Another accepted outcome, and which.
    Other(String),
    Skip(String),
}

pub(crate) type Story = Box<dyn Fn(&Stage) -> Result<Met> + Send + Sync>;

pub(crate) enum Play {
    Exchange(Exchange),
    Story(Story),
}

/// What else may run beside a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Together,
    /// It measures time or memory, or has the proxy look at every dev server of the user's.
    Alone,
    /// It does little but wait: beside everything, those that measure included.
    Waits,
}

/// One row.
pub(crate) struct Row {
    /// Section, behaviour and a running number: `A19.3`.
    pub(crate) id: String,
    /// The behaviours and requirements that it stands for.
    pub(crate) cites: &'static str,
    pub(crate) name: String,
    pub(crate) needs: Vec<Need>,
    pub(crate) pace: Pace,
    pub(crate) play: Play,
}

/// A row that is one exchange.
pub(crate) fn row(cites: &'static str, name: impl Into<String>, exchange: Exchange) -> Row {
    let needs = if exchange.without_auth {
        vec![Need::Flags]
    } else {
        Vec::new()
    };
    Row {
        needs,
        ..new(cites, name.into(), Play::Exchange(exchange))
    }
}

/// A row that a single exchange cannot tell.
pub(crate) fn story<F>(cites: &'static str, name: impl Into<String>, play: F) -> Row
where
    F: Fn(&Stage) -> Result<Met> + Send + Sync + 'static,
{
    new(cites, name.into(), Play::Story(Box::new(play)))
}

fn new(cites: &'static str, name: String, play: Play) -> Row {
    Row {
        id: String::new(),
        cites,
        name,
        needs: Vec::new(),
        pace: Pace::Together,
        play,
    }
}

impl Row {
    pub(crate) fn needs(mut self, needs: &[Need]) -> Self {
        self.needs.extend(needs);
        self
    }

    pub(crate) fn alone(mut self) -> Self {
        self.pace = Pace::Alone;
        self
    }

    pub(crate) fn waits(mut self) -> Self {
        self.pace = Pace::Waits;
        self
    }
}
