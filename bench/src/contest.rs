//! hpc-proxy and others under the same loads, in rounds that take turns, and how their processor times
//! compare.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{
    bars,
    load::{self, Figures, Load},
    peer::Peers,
    proxy::Program,
    results::Row,
    rival::Rival,
    samples::Samples,
    subject::{HPC_PROXY, Serving, Subject},
};

/// Loads that are compared, and with whom.
#[derive(Clone, Debug)]
pub struct Contest {
    /// They take turns.
    pub loads: Vec<Load>,
    rivals: Vec<Rival>,
}

/// All of them.
pub fn contests(original: Option<&Path>) -> Vec<Contest> {
    use Rival::{HaProxy, Nginx, NginxLarge, NginxRewriting, NginxVar};
    const GIGABYTE: u64 = 1_000_000_000;
    let all = [
        (vec![Load::Kept(64)], vec![Nginx, NginxVar, HaProxy]),
        (vec![Load::Kept(1)], vec![Nginx, NginxVar, HaProxy]),
        (vec![Load::Tens(64)], vec![Nginx, NginxVar, HaProxy]),
        (vec![Load::New(16)], vec![Nginx, NginxVar, HaProxy]),
        (vec![Load::Down(GIGABYTE)], vec![Nginx, NginxLarge, HaProxy]),
        (vec![Load::Up(GIGABYTE)], vec![Nginx, HaProxy]),
        (vec![Load::Echo(64)], vec![Nginx, HaProxy]),
        (vec![Load::LongEcho(16)], vec![Nginx, NginxLarge, HaProxy]),
        (
            vec![Load::Page(1), Load::Rewritten(1)],
            vec![Nginx, NginxRewriting],
        ),
        (
            vec![Load::Page(8), Load::Rewritten(8)],
            vec![Nginx, HaProxy, NginxRewriting],
        ),
    ];
    let contests = all.into_iter().map(|(loads, mut rivals)| {
        if let Some(path) = original {
            rivals.push(Rival::Original(path.to_owned()));
            if loads.iter().any(|load| matches!(load, Load::Rewritten(_))) {
                rivals.push(Rival::OriginalRewriting(path.to_owned()));
            }
        }
        Contest { loads, rivals }
    });
    contests.collect()
}

/// Whether this proxy does that at all.
fn takes_part(rival: &Rival, load: Load) -> bool {
    let rewrites = matches!(rival, Rival::NginxRewriting | Rival::OriginalRewriting(_));
    rewrites == matches!(load, Load::Rewritten(_))
}

impl Contest {
    /// Holds it, and tells who spent what, and how that compares.
    ///
    /// # Errors
    /// A proxy does not start, or an answer was wrong or did not come.
    pub async fn hold(
        &self,
        program: &Program,
        peers: &Peers,
        rounds: usize,
        time: Duration,
    ) -> Result<(Vec<Figures>, Vec<Row>)> {
        let (_server, target_port) = peers.server().await?;
        let ours = [Subject::NoProxy, Subject::HpcProxy(program.clone())];
        let ours = ours.iter().map(|subject| subject.start(target_port));
        let ours = ours.collect::<Result<Vec<_>>>()?;
        let rivals = self.rivals.iter().map(|rival| {
            let serving = Subject::Rival(rival.clone()).start(target_port)?;
            Ok((rival, serving))
        });
        let rivals = rivals.collect::<Result<Vec<_>>>()?;
        let cases: Vec<(Load, &Serving)> = (self.loads.iter())
            .flat_map(|load| {
                let theirs = rivals.iter().filter(|(rival, _)| takes_part(rival, *load));
                let theirs = theirs.map(|(_, serving)| serving);
                ours.iter().chain(theirs).map(|serving| (*load, serving))
            })
            .collect();
        let figures = load::compare(&cases, rounds, time).await?;
        let mut ratios = Vec::new();
        for load in &self.loads {
            for (rival, serving) in &rivals {
                ratios.extend(compared(&figures, *load, rival, serving.name));
            }
        }
        Ok((figures, ratios))
    }
}

/// What a rival costs in times of what hpc-proxy costs, round by round: the middle half of the rounds must clear
/// the bar.
fn compared(figures: &[Figures], load: Load, rival: &Rival, name: &str) -> Option<Row> {
    let of = |subject: &str| {
        let mut of_load = figures.iter().filter(|figures| figures.load == load);
        of_load.find(|figures| figures.subject == subject)
    };
    let (theirs, ours) = (of(name)?, of(HPC_PROXY)?);
    let ratios = Samples::ratios(&theirs.cpu_micros_by_round, &ours.cpu_micros_by_round);
    let [low, median, high] = [0.25, 0.5, 0.75].map(|q| ratios.quantile(q));
    let row = Row::new(
        &format!("{}: {name} : hpc-proxy", load.name()),
        format!("{median:.2} ({low:.2} - {high:.2})"),
        format!("{} rounds", ratios.count()),
    );
    Some(match bars::least(load, rival) {
        Some(least) => row.limited(&format!(">= {least}"), low >= least),
        None => row,
    })
}
