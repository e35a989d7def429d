//! What is measured: nothing but the dev server, or a proxy before it. A further proxy to compare with
//! is a further variant here, and nothing else.

use anyhow::Result;

use crate::{
    process::{Process, Usage},
    proxy::{Program, Proxy},
    route::Route,
};

/// A way to the dev server, before it is there.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Straight.
    NoProxy,
    /// Through hpc-proxy.
    HpcProxy(Program),
}

impl Subject {
    /// What it is called in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoProxy => "no proxy",
            Self::HpcProxy(_) => "hpc-proxy",
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
                _proxy: None,
            },
            Self::HpcProxy(program) => {
                let proxy = program.start()?;
                Serving {
                    name,
                    route: proxy.route(target_port),
                    processes: vec![proxy.process()],
                    _proxy: Some(proxy),
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
    _proxy: Option<Proxy>,
}

impl Serving {
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
