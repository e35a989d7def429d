//! How each step is taken. It is over when it can be told what follows; the rest is waited for after it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::model::{Seat, Served};
use super::step::{At, Fault, Step};
use super::{HEALS, Walk};
use crate::devserver::{LiveServer, page};
use crate::eventually::until_ok;
use crate::faults::program;
use crate::processes::{self, Process};
use crate::user::{Session, User};

/// None of the ports that anybody wants in a walk.
pub(super) const TRAP: u16 = 5700;

const SOON: Duration = Duration::from_secs(20);

/// For a node that is lost: Slurm's own delays are minutes. Too hasty for a node that is only frozen.
const HASTY: &str = "slurm-sim control requeue-delay 1; slurm-sim control node-timeout 2";
const PATIENT: &str = "slurm-sim control node-timeout 30";

/// What the port file and a lease hold over four seconds, each state once.
const WATCH: &str = "for _ in $(seq 80); do
    cat ~/.hpc-proxy/port 2>/dev/null || echo gone;
    [ -e ~/.hpc-proxy/job-JOB.json ] || echo lost; sleep 0.05; done | sort -u";

impl Walk {
    pub(super) async fn takes(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Launches(at, node) => self.launches(at, node).await,
            Step::Serves(at) => self.serves(at).await,
            Step::Changes(at) => self.changes(at).await,
            Step::Browses(at) => self.browses(at).await,
            Step::Cancels(at) => self.cancels(at).await,
            Step::IsRequeued(at) => self.is_requeued(at).await,
            Step::Falls(fault, ends) => self.falls(fault, ends).await,
        }
    }

    fn user(&self, who: usize) -> User<'_> {
        self.world.user(self.model.people[who].name)
    }

    async fn now(&self, at: At) -> Result<Session> {
        let id = &self.model.seat(at).id;
        self.user(at.0).session_called(id).await
    }

    async fn launches(&mut self, at: At, node: Option<&str>) -> Result<()> {
        let wish = node.map_or_else(|| json!({}), |node| json!({ "node": node }));
        let user = self.user(at.0);
        let id = user.launches_another(wish).await?.id()?.to_owned();
        let launched = until_ok(HEALS, "it is connected", async || {
            let now = user.session_called(&id).await?;
            ensure!(now.phase == "connected", "{now:?}");
            anyhow::Ok(now)
        });
        let job = launched.await?.job()?.to_owned();
        let person = &mut self.model.people[at.0];
        person.seats[at.1] = Some(Seat {
            id,
            job,
            server: None,
        });
        (person.published_last, person.untidy) = (Some(at.1), false);
        Ok(())
    }

    /// Opens the session's IDE, so that its terminals are the ones that the user has.
    async fn sits_down(&self, at: At) -> Result<User<'_>> {
        let (user, now) = (self.user(at.0), self.now(at).await?);
        let ide = now.ide.context("no IDE")?;
        let path = format!("/s/{}{ide}", self.model.seat(at).id);
        user.browser().gets(&path).await?.shows("IDE of")?;
        Ok(user)
    }

    async fn serves(&mut self, at: At) -> Result<()> {
        let text = self.model.new_secret(at.0);
        let user = self.sits_down(at).await?;
        let apart = if self.shared_localhost {
            at.0 as u16
        } else {
            0
        };
        let server = LiveServer::on(5500 + 10 * at.1 as u16 + apart).showing(&text);
        let running = user.runs(server).await?;
        self.model.seat_mut(at).server = Some(Served { running, text });
        Ok(())
    }

    async fn changes(&mut self, at: At) -> Result<()> {
        let text = self.model.new_secret(at.0);
        let user = self.sits_down(at).await?;
        let served = self.model.seat(at).server.as_ref().context("no server")?;
        let (socket, file) = (
            served.running.path("/ws"),
            served.running.file("index.html"),
        );
        let mut socket = user.browser().connects(&socket).await?;
        socket.awaits(SOON, |text| text == "connected").await?;
        user.saves(&file, &page(&text)?).await?;
        socket.awaits(SOON, |text| text == "reload").await?;
        let served = self.model.seat_mut(at).server.as_mut();
        served.context("no server")?.text = text;
        Ok(())
    }

    /// Several at once, with what a stranger asks for in between.
    async fn browses(&mut self, at: At) -> Result<()> {
        let (user, seat) = (self.sits_down(at).await?, self.model.seat(at));
        let served = seat.server.as_ref().context("no server")?;
        let (path, stranger) = (served.running.path(""), self.world.stranger()?);
        let pages = join_all((0..6).map(|_| user.browser().gets(&path)));
        let (pages, his) = tokio::join!(pages, stranger.gets(&path));
        for page in pages {
            let page = page?;
            self.model.lets_nobody_in(Some(at.0), &page)?;
            page.shows(&served.text)?;
        }
        self.model.lets_nobody_in(None, &his?)
    }

    /// The files of a session that goes on are not touched by the end of one that does not.
    async fn cancels(&mut self, at: At) -> Result<()> {
        let user = self.user(at.0);
        user.cancels_called(&self.model.seat(at).id).await?;
        let person = &self.model.people[at.0];
        let other = person.published_last.filter(|last| *last != at.1);
        if let Some(last) = other {
            let other = (at.0, last);
            let port = self.now(other).await?.proxy_port()?.to_string();
            let watch = WATCH.replace("JOB", &self.model.seat(other).job);
            let seen = user.on("login", &watch).await?;
            ensure!(
                seen.trim() == port,
                "what is published was {seen:?}, not {port}"
            );
        }
        self.model.leaves(at);
        Ok(())
    }

    async fn is_requeued(&mut self, at: At) -> Result<()> {
        let before = self.now(at).await?;
        self.world.site().administers(HASTY).await?;
        let requeue = format!("scontrol requeue {}", before.job()?);
        self.user(at.0).on("login", &requeue).await?;
        self.moves(at, &before).await?;
        self.world.site().administers(PATIENT).await.map(drop)
    }

    /// Waits until the job has come up again, as new.
    async fn moves(&mut self, at: At, before: &Session) -> Result<()> {
        let moved = until_ok(HEALS, "it has come up again", async || {
            let now = self.now(at).await?;
            ensure!(now.phase == "connected" && now.ide != before.ide, "{now:?}");
            anyhow::Ok(())
        });
        moved.await?;
        self.model.seat_mut(at).server = None;
        self.model.people[at.0].published_last = Some(at.1);
        Ok(())
    }

    async fn falls(&mut self, fault: Fault, ends: Option<At>) -> Result<()> {
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
        let world = &self.world;
        match fault {
            Fault::ControllerDown(time) => {
                tokio::time::sleep(time).await;
                world.starts_the_controller().await
            }
            Fault::WireCut(time) => {
                tokio::time::sleep(time).await;
                world.wire().mend();
                Ok(())
            }
            Fault::NodeFrozen(node, time) => {
                tokio::time::sleep(time).await;
                world.thaws(node).await
            }
            Fault::NodeCutOff(node, time) => {
                tokio::time::sleep(time).await;
                world.connects_again(node).await
            }
            Fault::NodeSlow(node, time) => {
                tokio::time::sleep(time).await;
                world.speeds_up(node).await
            }
            Fault::HomesFull(time) => {
                tokio::time::sleep(time).await;
                world.makes_room().await
            }
            Fault::PortTaken(_, time) => {
                tokio::time::sleep(time).await;
                self.trap = None;
                Ok(())
            }
            Fault::HomeReadOnly(who, time) => {
                tokio::time::sleep(time).await;
                world.makes_writable(self.model.people[who].name).await
            }
            Fault::TunnelKilled
            | Fault::SshKilled
            | Fault::LeasesDeleted(_)
            | Fault::SshdRestarted
            | Fault::NodeLost(_)
            | Fault::ProxyKilled(_)
            | Fault::IdeKilled(_)
            | Fault::ManagerKilled => Ok(()),
        }
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
        site.administers(HASTY).await?;
        let left = format!("squeue -h -t R -w {node} -o %i");
        let given_up = until_ok(HEALS, "Slurm gives the node up", async || {
            let left = site.administers(&left).await?;
            ensure!(left.is_empty(), "{left}");
            anyhow::Ok(())
        });
        given_up.await?;
        self.glimpses().await?;
        self.world.regains(node).await?;
        self.world.site().administers(PATIENT).await?;
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
