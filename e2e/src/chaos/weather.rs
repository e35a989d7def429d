//! How each fault falls, what happens meanwhile, and how it is over.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::step::{At, Fault};
use super::{HEALS, Walk};
use crate::cluster::Order;
use crate::eventually::until_ok;
use crate::faults::program;
use crate::processes::{self, Process};

/// None of the ports that anybody wants in a walk.
pub(super) const TRAP: u16 = 5700;

impl Walk {
    pub(super) async fn falls(&mut self, fault: Fault, ends: Option<At>) -> Result<()> {
        self.begins(fault).await?;
        if let Some(at) = ends {
            // A manager that was killed is asked as soon as it is there again.
            let id = &self.model.seat(at).id;
            self.user(at.0).cancels_called(id).await?;
        }
        let looked = self.glimpses().await;
        self.is_over(fault).await?;
        looked?;
        if let Some(at) = ends {
            self.model.leaves(at);
        }
        Ok(())
    }

    async fn begins(&mut self, fault: Fault) -> Result<()> {
        let world = &mut self.world;
        match fault {
            Fault::TunnelKilled => self.ssh(|it| !it.values_of("-L").is_empty()),
            Fault::SshKilled => self.ssh(|_| true),
            Fault::LeasesDeleted(who) => self.leases_are_deleted(who).await?,
            Fault::SshdRestarted => world.restarts_sshd().await?,
            Fault::ControllerDown(_) => world.stops_the_controller().await?,
            Fault::WireCut(_) => world.wire().cut(),
            Fault::NodeFrozen(node, _) => world.freezes(node).await?,
            Fault::NodeLost(node) => self.node_is_lost(node).await?,
            Fault::ProxyKilled(at) => self.is_killed(at, true).await?,
            Fault::IdeKilled(at) => self.is_killed(at, false).await?,
            Fault::ManagerKilled => {
                let port = world.manager().port()?;
                world.manager_is_killed()?;
                world.manager_starts_again(port).await?;
            }
            Fault::NodeCutOff(node, _) => world.cuts_off(node).await?,
            Fault::NodeSlow(node, _) => world.slows_down(node, 500).await?,
            Fault::HomesFull(_) => world.fills_the_homes().await?,
            Fault::PortTaken(at, _) => self.port_is_taken(at).await?,
            Fault::HomeReadOnly(who, _) => {
                let name = self.model.people[who].name;
                world.makes_read_only(name).await?;
            }
        }
        Ok(())
    }

    async fn is_over(&mut self, fault: Fault) -> Result<()> {
        if let Some(time) = fault.time() {
            tokio::time::sleep(time).await;
        }
        let world = &self.world;
        match fault {
            Fault::ControllerDown(_) => world.starts_the_controller().await?,
            Fault::WireCut(_) => world.wire().mend(),
            Fault::NodeFrozen(node, _) => world.thaws(node).await?,
            Fault::NodeCutOff(node, _) => world.connects_again(node).await?,
            Fault::NodeSlow(node, _) => world.speeds_up(node).await?,
            Fault::HomesFull(_) => world.makes_room().await?,
            Fault::PortTaken(..) => self.trap = None,
            Fault::HomeReadOnly(who, _) => {
                world.makes_writable(self.model.people[who].name).await?;
            }
            Fault::TunnelKilled
            | Fault::SshKilled
            | Fault::LeasesDeleted(_)
            | Fault::SshdRestarted
            | Fault::NodeLost(_)
            | Fault::ProxyKilled(_)
            | Fault::IdeKilled(_)
            | Fault::ManagerKilled => {}
        }
        Ok(())
    }

    /// The other user has something there that she could take for her own.
    async fn port_is_taken(&mut self, at: At) -> Result<()> {
        let other = (at.0 + 1) % self.model.people.len();
        let text = self.model.new_secret(other);
        let now = self.now(at).await?;
        let name = self.model.people[other].name;
        let address = ("0.0.0.0", TRAP);
        let trap = self.world.gives_away(now.node()?, address, name, &text);
        self.trap = Some((at, trap.await?));
        self.is_not_trapped().await
    }

    fn ssh(&self, which: impl Fn(&Process) -> bool) {
        let below = processes::below(self.world.manager().pid());
        let all = below.iter().filter(|it| it.is("ssh") && which(it));
        all.for_each(Process::kill);
    }

    async fn leases_are_deleted(&mut self, who: usize) -> Result<()> {
        // A proxy that puts its own back at once leaves a directory that is not empty.
        let delete = "rm -rf ~/.hpc-proxy 2>/dev/null; :";
        self.user(who).on("login", delete).await?;
        let person = &mut self.model.people[who];
        // Of two, the one that looks last puts its own back.
        if person.seats.iter().flatten().count() > 1 {
            person.published_last = None;
        }
        Ok(())
    }

    /// What ran there comes up again, there or elsewhere, as new.
    async fn node_is_lost(&mut self, node: &str) -> Result<()> {
        let mut there = Vec::new();
        for (at, _) in self.model.seats() {
            let now = self.now(at).await?;
            if now.node.as_deref() == Some(node) {
                there.push((at, now));
            }
        }
        self.world.loses(node).await?;
        let site = self.world.site();
        site.orders(Order::RequeueSoon).await?;
        site.orders(Order::GiveUp(node)).await?;
        let left = format!("squeue -h -t R -w {node} -o %i");
        let given_up = until_ok(HEALS, "Slurm gives the node up", async || {
            let left = site.administers(&left).await?;
            ensure!(left.is_empty(), "{left}");
            anyhow::Ok(())
        });
        given_up.await?;
        self.glimpses().await?;
        self.world.regains(node).await?;
        self.world.site().orders(Order::TakeBack(node)).await?;
        for (at, before) in &there {
            self.moves(*at, before).await?;
            let person = &mut self.model.people[at.0];
            if person.seats.iter().flatten().count() > 1 {
                person.published_last = None;
            }
        }
        Ok(())
    }

    /// One of the two programs of a job: the job ends, and what it can it tidies up.
    async fn is_killed(&mut self, at: At, is_proxy: bool) -> Result<()> {
        let (user, now) = (self.user(at.0), self.now(at).await?);
        let (node, job) = (now.node()?, now.job()?);
        // Of this job alone.
        if is_proxy {
            let record = format!("cat ~/.hpc-proxy/job-{job}.json");
            let record: Value = serde_json::from_str(&user.on("login", &record).await?)?;
            user.on(node, &format!("kill -KILL {}", record["pid"]))
                .await?;
        } else {
            let ide = format!("{}.*job-{job}[.]ide", program::IDE);
            self.world.kills(node, user.name(), &ide).await?;
        }
        let ended = until_ok(HEALS, "the session ends", async || {
            let now = self.now(at).await?;
            ensure!(now.phase == "ended" && now.reason.is_some(), "{now:?}");
            anyhow::Ok(())
        });
        ended.await?;
        if is_proxy {
            self.model.untidy.insert(now.job()?.to_owned());
            let last = self.model.people[at.0].published_last;
            self.model.people[at.0].untidy |= last == Some(at.1) || last.is_none();
        }
        self.model.leaves(at);
        Ok(())
    }
}
