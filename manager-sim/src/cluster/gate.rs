//! How much a login node is asked for at once by all accounts together; what is more waits its turn.

use tokio::sync::{Semaphore, SemaphorePermit};

/// sshd drops at random what comes while ten connections have not signed in yet (`MaxStartups`,
/// sshd_config(5)); others connect there too.
const CONNECTING: usize = 6;
/// Each is a process on the login node, and one here.
const COMMANDS: usize = 32;
/// sshd carries ten sessions on a connection (`MaxSessions`, sshd_config(5)), and the shared one holds one
/// itself.
pub(super) const COMMANDS_OF_AN_ACCOUNT: usize = 6;

/// The gate of one login node.
#[derive(Debug)]
pub struct Gate {
    connecting: Semaphore,
    commands: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            connecting: Semaphore::new(CONNECTING),
            commands: Semaphore::new(COMMANDS),
        }
    }
}

impl Gate {
    /// Waits until one may connect; held until one has.
    pub(super) async fn connect(&self) -> SemaphorePermit<'_> {
        pass(&self.connecting).await
    }

    /// Waits until one may run a command; held until it has ended.
    pub(super) async fn command(&self) -> SemaphorePermit<'_> {
        pass(&self.commands).await
    }
}

pub(super) async fn pass(semaphore: &Semaphore) -> SemaphorePermit<'_> {
    semaphore.acquire().await.expect("never closed")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_comes_when_enough_connect_waits_its_turn() {
        let (gate, long) = (Gate::default(), Duration::from_secs(3600));
        let mut connecting = Vec::new();
        for _ in 0..CONNECTING {
            connecting.push(gate.connect().await);
        }
        let mut next = Box::pin(gate.connect());
        timeout(long, &mut next).await.unwrap_err();
        // Commands go on meanwhile.
        timeout(long, gate.command()).await.unwrap();
        connecting.pop();
        timeout(long, next).await.unwrap();
    }
}
