//! Whether all is as the model has it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::model::Person;
use super::weather::TRAP;
use super::{HEALS, LetIn, Walk};
use crate::eventually::until_ok;
use crate::processes;
use crate::user::{Session, User};

/// For a look while something is wrong: who waits longer has seen nothing.
const GLIMPSE: Duration = Duration::from_millis(700);

/// What a home and Slurm's queue hold, in one command.
const LOOK: &str = "squeue -h --me -t PD,R,CG -o %i && echo -- && ls -A ~/.hpc-proxy 2>/dev/null;
    echo -- && cat ~/.hpc-proxy/port 2>/dev/null; :";

impl Walk {
    /// Waits until all is well; that somebody is let in is not waited for.
    pub(super) async fn settles(&self) -> Result<()> {
        let settled = until_ok(HEALS, "all is as it must be", async || {
            match self.looks().await {
                Err(error) if error.is::<LetIn>() => Ok(Err(error)),
                other => other.map(Ok),
            }
        });
        settled.await?
    }

    async fn looks(&self) -> Result<()> {
        self.each_sees_their_own().await?;
        self.nobody_sees_anothers().await?;
        for person in &self.model.people {
            let looked = self.nothing_is_left_over(person).await;
            looked.with_context(|| format!("what {} has", person.name))?;
        }
        self.tunnels_are_as_many_as_sessions()
    }

    async fn each_sees_their_own(&self) -> Result<()> {
        for ((who, _), seat) in self.model.seats() {
            let name = self.model.people[who].name;
            let user = self.world.user(name);
            let now = user.session_called(&seat.id).await?;
            let well = now.phase == "connected" && now.job.as_ref() == Some(&seat.job);
            ensure!(well, "{name}: {now:?}, not job {}", seat.job);
            let ide = now.ide.context("no IDE")?;
            let page = user.browser().gets(&format!("/s/{}{ide}", seat.id)).await?;
            self.model.lets_nobody_in(Some(who), &page)?;
            page.shows(&format!("IDE of {name}"))?;
            if let Some(server) = &seat.server {
                let path = format!("/s/{}{}", seat.id, server.running.path(""));
                let page = user.browser().gets(&path).await?;
                self.model.lets_nobody_in(Some(who), &page)?;
                page.shows(&server.text)?;
            }
        }
        Ok(())
    }

    /// By all addresses under which there is something.
    async fn nobody_sees_anothers(&self) -> Result<()> {
        let stranger = self.world.stranger()?;
        for ((owner, _), seat, server) in self.model.servers() {
            let path = format!("/s/{}{}", seat.id, server.running.path(""));
            let page = stranger.gets(&path).await?;
            self.model.lets_nobody_in(None, &page)?;
            for (who, person) in self.model.people.iter().enumerate() {
                if who == owner {
                    continue;
                }
                let browser = self.world.user(person.name).browser().clone();
                for path in [&path, &server.running.path("")] {
                    self.model
                        .lets_nobody_in(Some(who), &browser.gets(path).await?)?;
                }
                for own in person.seats.iter().flatten() {
                    let path = format!("/s/{}{}", own.id, server.running.path(""));
                    self.model
                        .lets_nobody_in(Some(who), &browser.gets(&path).await?)?;
                }
            }
        }
        Ok(())
    }

    /// In the middle of a fault: whatever is shown, it is one's own.
    pub(super) async fn glimpses(&self) -> Result<()> {
        for ((owner, _), _, server) in self.model.servers() {
            for (who, person) in self.model.people.iter().enumerate() {
                let (browser, path) = (
                    self.world.user(person.name).browser().clone(),
                    server.running.path(""),
                );
                let page = tokio::time::timeout(GLIMPSE, browser.gets(&path)).await;
                if let Ok(Ok(page)) = page {
                    self.model.lets_nobody_in(Some(who), &page)?;
                    let known = [200, 302, 401, 403, 404, 502, 503, 504].contains(&page.status);
                    ensure!(known && (who == owner || page.status != 302), "{page}");
                }
            }
        }
        Ok(())
    }

    /// Where a port is somebody else's, its user is told so.
    pub(super) async fn is_not_trapped(&self) -> Result<()> {
        let Some((at, _)) = &self.trap else {
            return Ok(());
        };
        let user = self.world.user(self.model.people[at.0].name);
        let path = format!("/s/{}/port/{TRAP}/", self.model.seat(*at).id);
        let page = user.browser().gets(&path).await?;
        self.model.lets_nobody_in(Some(at.0), &page)?;
        ensure!(page.status == 403, "{page}");
        Ok(())
    }

    async fn nothing_is_left_over(&self, person: &Person) -> Result<()> {
        let user = self.world.user(person.name);
        let seats: Vec<_> = person.seats.iter().flatten().collect();
        let listed = listed(&user).await?;
        let ids: BTreeSet<&str> = seats.iter().map(|seat| seat.id.as_str()).collect();
        let listed: BTreeSet<&str> = listed
            .iter()
            .map(|it| it.id.as_deref().unwrap_or_default())
            .collect();
        ensure!(listed == ids, "sessions {listed:?}, not {ids:?}");

        let seen = user.on("login", LOOK).await?;
        let mut parts = seen.splitn(3, "--\n");
        let mut part = || parts.next().unwrap_or_default();
        let (queue, files, port) = (part(), part(), part());
        let jobs: BTreeSet<&str> = queue.lines().collect();
        let held: BTreeSet<&str> = seats.iter().map(|seat| seat.job.as_str()).collect();
        ensure!(jobs == held, "jobs {jobs:?}, not {held:?}");
        for file in files.lines().filter(|file| !file.ends_with(".log")) {
            let job = file
                .strip_prefix("job-")
                .and_then(|rest| rest.split_once('.'));
            let known = match job {
                Some((job, _)) => held.contains(job) || self.model.untidy.contains(job),
                None => ["port", "token"].contains(&file),
            };
            ensure!(known, "`{file}` is left: {files}");
        }
        let has = |job: &str, kind: &str| {
            files
                .lines()
                .any(|file| file == format!("job-{job}.{kind}"))
        };
        for job in held {
            let whole = ["json", "token", "ide", "ide-token"]
                .iter()
                .all(|kind| has(job, kind));
            ensure!(whole, "the lease of job {job} is not whole: {files}");
        }
        self.port_is_known(&user, person, port.trim()).await
    }

    /// The file leads to a proxy that lives, the one that published last; or it is not there.
    async fn port_is_known(&self, user: &User<'_>, person: &Person, port: &str) -> Result<()> {
        let mut ports = Vec::new();
        for seat in person.seats.iter().flatten() {
            let now = user.session_called(&seat.id).await?;
            ports.push(now.proxy_port.context("no proxy")?.to_string());
        }
        if let Some(last) = person.published_last {
            let before = person.seats[..last].iter().flatten().count();
            ensure!(
                port == ports[before],
                "port `{port}`, not {}",
                ports[before]
            );
        }
        let known = port.is_empty() || person.untidy || ports.iter().any(|known| known == port);
        ensure!(known, "port `{port}` is left, not of {ports:?}");
        Ok(())
    }

    fn tunnels_are_as_many_as_sessions(&self) -> Result<()> {
        let below = processes::below(self.world.manager().pid());
        let ssh: Vec<_> = below.iter().filter(|it| it.is("ssh")).collect();
        let tunnels = ssh
            .iter()
            .filter(|it| !it.values_of("-L").is_empty())
            .count();
        let sessions = self.model.seats().count();
        ensure!(
            tunnels == sessions,
            "{tunnels} tunnels for {sessions} sessions"
        );
        let masters =
            |it: &&&processes::Process| it.args.iter().any(|arg| arg == "ControlMaster=yes");
        let masters = ssh.iter().filter(masters).count();
        let people = self.model.people.len();
        ensure!(
            masters <= people,
            "{masters} connections for {people} accounts"
        );
        Ok(())
    }
}

/// The sessions that are not over.
async fn listed(user: &User<'_>) -> Result<Vec<Session>> {
    #[derive(Deserialize)]
    struct List {
        sessions: Vec<Session>,
    }
    let page = user.browser().fetches("/api/v1/sessions").await?;
    if page.status != 200 {
        bail!("{page}");
    }
    let list: List = page.json()?;
    let live = |it: &Session| !["ended", "none"].contains(&it.phase.as_str());
    Ok(list.sessions.into_iter().filter(live).collect())
}
