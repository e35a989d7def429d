//! `sacct` and `sacctmgr`, on a cluster that keeps no accounts.

use super::{Exit, Result};

pub(super) fn sacct() -> Result {
    Err(Exit::saying(1, "Slurm accounting storage is disabled"))
}

pub(super) fn sacctmgr() -> Result {
    Err(Exit::saying(
        1,
        "You are not running a supported accounting_storage plugin\n\
         Only 'accounting_storage/slurmdbd' is supported.",
    ))
}
