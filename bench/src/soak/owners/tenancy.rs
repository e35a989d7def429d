//! Who has the port, and how it changes hands.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::{noise::Noise, peer::Peer};

/// How often the port is taken by force before it is given up again.
const SEIZURES: usize = 6;
/// Before the one who has it lets go.
const LURKING: Duration = Duration::from_micros(300);
/// Who listens where, at one time: the user, the stranger.
const TENANCIES: [(Option<&str>, Option<&str>); 10] = [
    (Some("127.0.0.1"), None),
    (Some("::1"), None),
    (Some("0.0.0.0"), None),
    (None, Some("127.0.0.1")),
    (None, Some("::1")),
    (None, Some("0.0.0.0")),
    (Some("127.0.0.1"), Some("::1")),
    (Some("::1"), Some("127.0.0.1")),
    (Some("0.0.0.0"), Some("::1")),
    (None, None),
];

/// Who has the port.
pub(super) struct Tenancy {
    own: Peer,
    pub(super) foreign: Peer,
    noise: Noise,
    pub(super) changes: u64,
    pub(super) seizures: u64,
}

impl Tenancy {
    /// Between these two; nobody has it yet.
    pub(super) fn between(own: Peer, foreign: Peer) -> Self {
        Self {
            own,
            foreign,
            noise: Noise::new(2),
            changes: 0,
            seizures: 0,
        }
    }

    /// Hands the port on, until it is over.
    pub(super) async fn change_until(&mut self, over: &AtomicBool) -> Result<()> {
        while !over.load(Relaxed) {
            self.vacate().await?;
            let (own, foreign) = self.noise.one_of(&TENANCIES);
            // The stranger as often first as not.
            let mut order = [(&mut self.own, own), (&mut self.foreign, foreign)];
            if self.noise.below(2) == 0 {
                order.reverse();
            }
            for (tenant, ip) in order {
                if let Some(ip) = ip {
                    listens(&tenant.ask(&listen(ip)).await?)?;
                }
            }
            self.changes += 1;
            self.stay().await;
            match (own, foreign) {
                (Some(ip), None) => self.seize(ip, false).await?,
                (None, Some(ip)) => self.seize(ip, true).await?,
                (None, None) | (Some(_), Some(_)) => {}
            }
        }
        Ok(())
    }

    /// Nobody has it.
    async fn vacate(&mut self) -> Result<()> {
        let end = self.noise.one_of(&["close", "die"]);
        self.own.ask(end).await?;
        self.foreign.ask(end).await?;
        Ok(())
    }

    /// The one who has not got it takes it from the other as fast as can be, and back, several times:
    /// within the time between looking whose it is and connecting.
    async fn seize(&mut self, ip: &str, mut by_own: bool) -> Result<()> {
        for _ in 0..SEIZURES {
            let (to, from) = match by_own {
                true => (&mut self.own, &mut self.foreign),
                false => (&mut self.foreign, &mut self.own),
            };
            to.tell(&listen(ip)).await?;
            // It now tries again and again.
            sleep(LURKING).await;
            from.ask(self.noise.one_of(&["close", "die"])).await?;
            listens(&to.hear().await?)?;
            self.changes += 1;
            self.seizures += 1;
            by_own = !by_own;
            self.stay().await;
        }
        Ok(())
    }

    async fn stay(&mut self) {
        sleep(Duration::from_micros(500 + self.noise.below(3_000))).await;
    }
}

fn listen(ip: &str) -> String {
    format!("listen {ip}")
}

fn listens(answer: &str) -> Result<()> {
    ensure!(answer == "yes", "a tenant could not listen");
    Ok(())
}
