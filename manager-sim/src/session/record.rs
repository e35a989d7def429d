//! What is kept of a session, so that it outlives the manager: as little as leads back to its job.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::SessionId;
use crate::{
    job::JobId,
    names::{ClusterName, UserName},
    wish::Wish,
};

/// A session as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which it is.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserName,
    /// Where, if clusters have names.
    pub cluster: Option<ClusterName>,
    /// What was asked for.
    pub wish: Wish,
    /// Since when it is there.
    pub created: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// Whether its user wants it to end, which nobody could ask for yet.
    #[serde(default)]
    pub wants_end: bool,
}

/// How far a session is, as far as its job cannot tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// sbatch is about to be asked, or was: nobody knows whether there is a job.
    Asked,
    /// There is a job.
    Submitted {
        /// It.
        job: JobId,
    },
    /// It is to end.
    Cancelling {
        /// It.
        job: JobId,
        /// Why, for a person.
        why: String,
    },
    /// Over, for good.
    Ended {
        /// Its job, if it had one.
        job: Option<JobId>,
        /// Why, for a person.
        why: String,
        /// Since when.
        at: Timestamp,
    },
}

impl Stage {
    /// Whether it is over, and since when.
    pub fn ended(&self) -> Option<Timestamp> {
        match self {
            Self::Ended { at, .. } => Some(*at),
            _ => None,
        }
    }
}
