//! What is measured: nothing but the dev server, or a proxy before it.

use anyhow::Result;

use crate::{
    process::{Process, Usage},
    proxy::{Program, Proxy},
    rival::{Rival, Running},
    route::Route,
};

/// What ours is called in tables.
pub const HPC_PROXY: &str = "hpc-proxy";

/// A way to the dev server, before it is there.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Straight.
    NoProxy,
    /// Through hpc-proxy.
    HpcProxy(Program),
    /// Through another proxy.
    Rival(Rival),
}

impl Subject {
    /// What it is called in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoProxy => "no proxy",
            Self::HpcProxy(_) => HPC_PROXY,
            Self::Rival(rival) => rival.name(),
        }
    }

    /// Starts it before the dev server on `target_port`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, target_port: u16) -> Result<Serving> {
        let name = self.name();
        Ok(match self {
            Self::NoProxy => Serving {
                name,
                route: Route::straight(target_port),
                processes: Vec::new(),
                _runs: Runs::Nothing,
            },
            Self::HpcProxy(program) => {
                let proxy = program.start()?;
                Serving {
                    name,
                    route: proxy.route(target_port),
                    processes: vec![proxy.process()],
                    _runs: Runs::HpcProxy(proxy),
                }
            }
            Self::Rival(rival) => {
                let running = rival.start(target_port)?;
                Serving {
                    name,
                    route: running.route.clone(),
                    processes: vec![running.process()],
                    _runs: Runs::Rival(running),
                }
            }
        })
    }
}

/// A subject that serves; ends when dropped.
#[derive(Debug)]
pub struct Serving {
    /// Of the subject.
    pub name: &'static str,
    /// How it is asked.
    pub route: Route,
    /// All that work in it; some proxies have several.
    processes: Vec<Process>,
    _runs: Runs,
}

/// What ends with a subject.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its end alone")]
enum Runs {
    Nothing,
    HpcProxy(Proxy),
    Rival(Running),
}

impl Serving {
    /// What runs already, as one subject, and is ended elsewhere.
    pub fn of(name: &'static str, route: Route, processes: Vec<Process>) -> Self {
        Self {
            name,
            route,
            processes,
            _runs: Runs::Nothing,
        }
    }

    /// What all its processes have in memory.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn rss_bytes(&self) -> Result<u64> {
        self.processes
            .iter()
            .map(|process| process.rss_bytes())
            .sum()
    }

    /// What all its processes have used so far; nothing where there are none.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn usage(&self) -> Result<Option<Usage>> {
        let mut sum = None::<Usage>;
        for process in &self.processes {
            let usage = process.usage()?;
            let sum = sum.get_or_insert_default();
            sum.cpu += usage.cpu;
            sum.switches += usage.switches;
        }
        Ok(sum)
    }
}
