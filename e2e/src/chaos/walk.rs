//! How each step is taken. It is over when it can be told what follows; the rest is waited for after it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::json;

use super::model::{Seat, Served};
use super::step::{At, Step};
use super::{HEALS, Walk};
use crate::cluster::Order;
use crate::devserver::{LiveServer, page};
use crate::eventually::until_ok;
use crate::user::{Session, User};

const SOON: Duration = Duration::from_secs(20);

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

    pub(super) fn user(&self, who: usize) -> User<'_> {
        self.world.user(self.model.people[who].name)
    }

    pub(super) async fn now(&self, at: At) -> Result<Session> {
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
        let order = Order::RequeueSoon;
        self.world.site().orders(order).await?;
        let requeue = format!("scontrol requeue {}", before.job()?);
        self.user(at.0).on("login", &requeue).await?;
        self.moves(at, &before).await
    }

    /// Waits until the job has come up again, as new.
    pub(super) async fn moves(&mut self, at: At, before: &Session) -> Result<()> {
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
}
