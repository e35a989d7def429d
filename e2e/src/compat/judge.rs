//! One case behind one front, from opening its page to the reload that nobody asked for.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::case::{Case, Shift, Step};
use super::front::{Front, Fronts, Place};
use super::matrix::Row;
use super::server::{self, Server};
use super::traffic::{Siblings, Traffic};
use crate::engine::{Engine, Running, Window};
use crate::{eventually, evidence, owner};

/// For a page to show something. Some load megabytes of scripts, and the machine is busy.
const SHOW_SECONDS: u64 = 25;

/// For a change on disk to be seen, built and shown.
const RELOAD_SECONDS: u64 = 25;

/// For a live connection after the content is there.
const LIVE_SECONDS: u64 = 10;

/// How often a visit is made while this machine's networks change under it.
const TRIES: usize = 4;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is as it should be.
    Good,
    /// It is not, and why.
    Bad(String),
    /// The server has no such thing.
    None,
}

impl Check {
    fn of<T>(result: Result<T>) -> Check {
        match result {
            Ok(_) => Check::Good,
            Err(error) => Check::Bad(format!("{error:#}")),
        }
    }
}

/// All that was looked at, in the order of [`Verdict::LETTERS`].
#[derive(Clone, Debug)]
pub struct Verdict {
    /// One for each letter.
    pub checks: [Check; 5],
    /// What the page complained of.
    pub errors: Vec<String>,
}

impl Verdict {
    /// (a) content, (b) no failed and no escaped request, (c) live connection, (d) round trip,
    /// (e) live reload.
    pub const LETTERS: [char; 5] = ['a', 'b', 'c', 'd', 'e'];

    /// Whether nothing is bad.
    pub fn is_good(&self) -> bool {
        !self
            .checks
            .iter()
            .any(|check| matches!(check, Check::Bad(_)))
    }

    fn lost(error: &anyhow::Error) -> Verdict {
        Verdict {
            checks: [(); 5].map(|()| Check::Bad(format!("{error:#}"))),
            errors: Vec::new(),
        }
    }
}

impl fmt::Display for Verdict {
    /// `ab·✗e`: a letter for good, a cross for bad, a point for what the server does not have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks = self.checks.iter().zip(Verdict::LETTERS);
        let cell: String = checks
            .map(|(check, letter)| match check {
                Check::Good => letter,
                Check::Bad(_) => '✗',
                Check::None => '·',
            })
            .collect();
        f.pad(&cell)
    }
}

/// Starts a case's server once, and judges it behind each front, each time in a private window.
pub async fn row(
    case: &Case,
    engine: Engine,
    stage: &Fronts,
    fronts: &[Front],
    tell: impl Fn(&str, Front, &Verdict),
) -> Row {
    let verdicts = match verdicts(case, engine, stage, fronts, &tell).await {
        Ok(verdicts) => verdicts,
        Err(error) => {
            let lost = Verdict::lost(&error);
            fronts
                .iter()
                .for_each(|&front| tell(&case.name, front, &lost));
            vec![lost; fronts.len()]
        }
    };
    Row {
        case: case.name.clone(),
        verdicts,
    }
}

async fn verdicts(
    case: &Case,
    engine: Engine,
    stage: &Fronts,
    fronts: &[Front],
    tell: &impl Fn(&str, Front, &Verdict),
) -> Result<Vec<Verdict>> {
    let dir = owner::directory()?;
    let server = Server::start(case).await.context("start the server")?;
    let browser = engine
        .start(dir.path())
        .await
        .with_context(|| format!("start {engine}"))?;
    let mut verdicts = Vec::new();
    for &front in fronts {
        let visit = Visit {
            case,
            front,
            server: &server,
            browser: &browser,
        };
        let verdict = visit
            .judged(stage)
            .await
            .unwrap_or_else(|error| Verdict::lost(&error));
        tell(&case.name, front, &verdict);
        verdicts.push(verdict);
    }
    browser.closes().await?;
    server.ends().await?;
    Ok(verdicts)
}

struct Visit<'a> {
    case: &'a Case,
    front: Front,
    server: &'a Server,
    browser: &'a Running,
}

impl Visit<'_> {
    async fn judged(&self, stage: &Fronts) -> Result<Verdict> {
        for _ in 1..TRIES {
            let (verdict, disturbed) = self.judged_once(stage).await?;
            if !disturbed {
                return Ok(verdict);
            }
        }
        Ok(self.judged_once(stage).await?.0)
    }

    /// And whether something came between that is no matter of the server's or the front's.
    async fn judged_once(&self, stage: &Fronts) -> Result<(Verdict, bool)> {
        let place = stage.place(self.front, self.server.port()).await?;
        let traffic = Arc::new(Traffic::default());
        let window = self.browser.opens(Arc::clone(&traffic) as _).await?;
        if let Some(link) = &place.sign_in {
            window.goes_to(link).await.context("sign in")?;
            // A host of its own gets a sign-in of its own from the first visit.
            if place.realm.siblings == Siblings::Names {
                window.goes_to(place.realm.root.as_str()).await?;
            }
            window.goes_to("about:blank").await?;
            traffic.begins();
        }
        let page = Page {
            visit: self,
            window: &window,
            traffic: &traffic,
            place: &place,
            mark: server::mark(),
        };
        let checks = page.checks().await;
        let verdict = Verdict {
            checks,
            errors: traffic.errors(),
        };
        if !verdict.is_good() {
            let name = format!("compat-{}-{}.png", self.case.name, self.front);
            // Without a picture the words must do.
            let _ = keep(&window, &name).await;
        }
        window.closes().await?;
        Ok((verdict, traffic.was_disturbed()))
    }
}

async fn keep(window: &Window, name: &str) -> Result<()> {
    use base64::Engine as _;
    let png = base64::engine::general_purpose::STANDARD.decode(window.picture().await?)?;
    evidence::keep(name, &png).map(drop)
}

struct Page<'a> {
    visit: &'a Visit<'a>,
    window: &'a Window,
    traffic: &'a Traffic,
    place: &'a Place,
    mark: String,
}

impl Page<'_> {
    async fn checks(&self) -> [Check; 5] {
        let case = self.visit.case;
        let content = self.opens_and_shows().await;
        if let Err(error) = content {
            let asked = Check::of(self.asks_well(&self.failed()));
            let why = || Check::Bad("its page did not come".to_owned());
            let or_none = |has: bool| if has { why() } else { Check::None };
            return [
                Check::Bad(format!("{error:#}")),
                asked,
                or_none(case.live.is_some()),
                or_none(!case.trip.is_empty()),
                or_none(case.reload.is_some()),
            ];
        }
        let live = match &case.live {
            None => Check::None,
            Some(_) => Check::of(self.awaits_live().await),
        };
        let trip = match &case.trip[..] {
            [] => Check::None,
            steps => Check::of(self.goes(steps).await),
        };
        self.settles().await;
        let before = self.failed();
        let reload = match &case.reload {
            None => Check::None,
            Some(_) => Check::of(self.reloads().await),
        };
        self.settles().await;
        let restarts = case.reload.as_ref().is_some_and(|reload| reload.restarts);
        let failed = if restarts { before } else { self.failed() };
        [
            Check::Good,
            Check::of(self.asks_well(&failed)),
            live,
            trip,
            reload,
        ]
    }

    async fn opens_and_shows(&self) -> Result<()> {
        let case = self.visit.case;
        self.window
            .goes_to(&format!("{}{}", self.place.realm.root, case.open))
            .await?;
        self.awaits(SHOW_SECONDS, &case.content).await
    }

    async fn goes(&self, steps: &[Step]) -> Result<()> {
        for step in steps {
            self.does(step).await.with_context(|| format!("{step:?}"))?;
        }
        Ok(())
    }

    async fn does(&self, step: &Step) -> Result<()> {
        match step {
            Step::Do(script) => match self.runs(script).await {
                // It went to another page.
                Err(error) if error.to_string().contains("navigat") => Ok(()),
                ran => ran.map(drop),
            },
            Step::Until(is_so) => self.awaits(SHOW_SECONDS, is_so).await,
            Step::Click(element) => {
                let element = format!("(() => {{ {PRELUDE} return {element} }})()");
                eventually!(SHOW_SECONDS, "it can be clicked", {
                    self.window.clicks(&element).await
                })
            }
            Step::Type(text) => self.window.types(&text.replace("{mark}", &self.mark)).await,
            Step::Enter(shift) => self.window.presses_enter(*shift == Shift::Shift).await,
            Step::Open(address) => {
                let address = self.place.realm.root.join(address)?;
                self.window.goes_to(address.as_str()).await
            }
        }
    }

    async fn awaits_live(&self) -> Result<()> {
        let Some(live) = &self.visit.case.live else {
            return Ok(());
        };
        eventually!(LIVE_SECONDS, "it is live", {
            self.traffic.is_live(live).map_err(anyhow::Error::msg)
        })
    }

    async fn reloads(&self) -> Result<()> {
        let case = self.visit.case;
        let reload = case.reload.as_ref().context("a case with a reload")?;
        // The round trip may have ended on a page that is not connected yet.
        self.awaits_live().await?;
        let loads = self.traffic.loads();
        self.visit.server.edits(case, reload, &self.mark)?;
        let shown = if reload.by_hand {
            eventually!(RELOAD_SECONDS, "the change is served", {
                let root = &self.place.realm.root;
                self.window.goes_to(root.as_str()).await?;
                self.awaits(2, &reload.until).await
            })
        } else {
            self.awaits(RELOAD_SECONDS, &reload.until).await
        };
        shown?;
        let loads = self.traffic.loads() - loads;
        ensure!(!reload.in_place || loads == 0, "the page was loaded anew");
        Ok(())
    }

    /// Waits until an expression is true in the page, whichever page that is meanwhile.
    async fn awaits(&self, seconds: u64, is_so: &str) -> Result<()> {
        let look = format!("return Boolean({is_so})");
        let shown = eventually!(seconds, is_so, {
            let so = self.runs(&look).await?;
            ensure!(so == true, "it is {so}");
            Ok(())
        });
        if let Err(error) = shown {
            let text = self
                .runs("return document.body.innerText.trim().slice(0, 160)")
                .await;
            let text = text.unwrap_or_default();
            bail!("{error:#}; the page shows {text}");
        }
        Ok(())
    }

    async fn runs(&self, script: &str) -> Result<serde_json::Value> {
        let mark = &self.mark;
        self.window
            .runs(&format!("{PRELUDE} const mark = '{mark}'; {script}"))
            .await
    }

    /// Until what is under way has come, or stays open.
    async fn settles(&self) {
        let _ = eventually!(3, "nothing is under way", {
            ensure!(self.traffic.is_quiet(), "something is");
            Ok(())
        });
    }

    fn failed(&self) -> Vec<String> {
        self.traffic.failed(&self.visit.case.may_fail)
    }

    fn asks_well(&self, failed: &[String]) -> Result<()> {
        let escaped = self
            .traffic
            .escaped(&self.place.realm, &self.visit.case.may_call);
        let escaped = escaped.iter().map(|address| format!("{address} escaped"));
        let wrong: Vec<String> = failed.iter().cloned().chain(escaped).collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }
}

/// What expressions of cases may use.
const PRELUDE: &str = "const $ = (selector) => document.querySelector(selector);
    const $text = (selector, part) => [...document.querySelectorAll(selector)]
      .find((element) => element.textContent.includes(part));
    const deep = (selector, root = document) => root.querySelector(selector) ??
      [...root.querySelectorAll('*')].filter((it) => it.shadowRoot)
        .map((it) => deep(selector, it.shadowRoot)).find(Boolean);";
