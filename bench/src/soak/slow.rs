//! 2,000 slow clients, and a good one that does not notice them (S22).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::{sleep, timeout};

use super::{Outcome, Soak, size};
use crate::{
    client::Connection,
    descriptors,
    http::keep,
    peer::{Role, SMALL},
    process::Process,
    route::Route,
    samples::Samples,
};

/// How many are slow.
const FULL: u64 = 2_000;
/// Long enough for the slow to be sent away, and to come back, several times.
const TIME: Duration = Duration::from_secs(60);
/// What the good client has to be served in.
const LIMIT: Duration = Duration::from_millis(100);
/// Between two requests of the good client.
const PAUSE: Duration = Duration::from_millis(5);
/// Of a connection of the good client.
const BUFFER_BYTES: usize = 4096;
/// It gives up.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) async fn run(soak: &Soak) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let number = usize::try_from(soak.scaled(FULL, 40))?;
    let time = soak.time(TIME, Duration::from_secs(3));
    let proxy = soak.program.start()?;
    descriptors::raise()?;
    let (server, target_port) = soak.peers.server().await?;
    let route = proxy.route(target_port);
    let before = proxy.process().rss_bytes()?;
    // The crowd has a dev server of its own: what it does to that is not the proxy's doing.
    let (_other, other_port) = soak.peers.server().await?;
    let role = Role::Crowd {
        route: proxy.route(other_port),
        clients: number,
    };
    let mut crowd = soak.peers.start(&role).await?;
    let connected = crowd.greeting.clone();

    let mut good = Good::along([proxy.process(), server.process()]);
    let deadline = Instant::now() + time;
    while Instant::now() < deadline && good.failures.len() < 10 {
        good.asks(&route).await;
        sleep(PAUSE).await;
    }
    let after = proxy.process().rss_bytes()?;
    let now = crowd.ask("how many").await?;
    let (now, sent_away) = now.split_once(' ').context("two numbers")?;

    outcome.figure(
        "slow clients",
        format!("{connected} of {number}, {now} at the end"),
    );
    outcome.figure("sent away and back", sent_away);
    for (name, served) in [("keep-alive", &good.kept), ("new connection", &good.new)] {
        let times: Samples = served.iter().map(|served| served.took).collect();
        let (count, max) = (times.count(), times.max());
        let (p50, p99) = (times.median(), times.quantile(0.99));
        let slowest = served.iter().max_by_key(|served| served.took);
        let at = slowest.map_or(0.0, |served| served.at.as_secs_f64());
        let figure = format!("p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms ({at:.1} s in)");
        outcome.figure(name, format!("{count} requests, {figure}"));
        outcome.must(count > 0, || format!("{name}: no request was served"));
        let late = served.iter().filter(|served| served.took >= LIMIT);
        let (starved, late): (Vec<&Served>, _) = late.partition(|served| served.own() < LIMIT);
        if !starved.is_empty() {
            outcome.figure("late for want of a processor", starved.len());
        }
        outcome.must(late.is_empty(), || {
            format!("{name}: late, as by {:?}", late[0])
        });
    }
    outcome.figure("failed", good.failures.len());
    outcome.figure(
        "proxy memory",
        format!("{} before, {} after", size(before), size(after)),
    );
    outcome.must(good.failures.is_empty(), || {
        format!("the good client: {}", good.failures[0])
    });
    Ok(outcome)
}

/// A request of the good client.
#[derive(Clone, Copy, Debug)]
struct Served {
    /// Since the crowd came.
    at: Duration,
    took: Duration,
    /// For how long somebody on its way had no processor: the fault of this machine, which runs
    /// other things too.
    starved: Duration,
}

impl Served {
    fn own(&self) -> Duration {
        self.took.saturating_sub(self.starved)
    }
}

/// The good client.
struct Good {
    /// Who works on its requests: itself, the proxy, the dev server.
    workers: [Process; 3],
    begun: Instant,
    connection: Option<Connection>,
    kept: Vec<Served>,
    new: Vec<Served>,
    failures: Vec<String>,
}

impl Good {
    fn along([proxy, server]: [Process; 2]) -> Self {
        Self {
            workers: [Process(std::process::id()), proxy, server],
            begun: Instant::now(),
            connection: None,
            kept: Vec::new(),
            new: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// One request on the connection that it keeps, one on a new one.
    async fn asks(&mut self, route: &Route) {
        let kept = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open(route, BUFFER_BYTES).await,
        };
        if let Some((served, connection)) = self.asks_on(async { kept }).await {
            self.kept.push(served);
            self.connection = (!connection.closes()).then_some(connection);
        }
        if let Some((served, _)) = self.asks_on(Connection::open(route, BUFFER_BYTES)).await {
            self.new.push(served);
        }
    }

    async fn asks_on(
        &mut self,
        connecting: impl Future<Output = Result<Connection>>,
    ) -> Option<(Served, Connection)> {
        let starved = self.starved();
        let start = Instant::now();
        let asked = async {
            let mut connection = connecting.await?;
            ask(&mut connection).await?;
            anyhow::Ok(connection)
        };
        let failure = match timeout(DEADLINE, asked).await {
            Ok(Ok(connection)) => {
                let took = start.elapsed();
                let starved = self.starved().saturating_sub(starved);
                let at = start - self.begun;
                return Some((Served { at, took, starved }, connection));
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer in {DEADLINE:?}"),
        };
        self.failures.push(failure);
        None
    }

    fn starved(&self) -> Duration {
        self.workers.iter().map(|worker| worker.starved()).sum()
    }
}

async fn ask(connection: &mut Connection) -> Result<()> {
    let mut body = Vec::new();
    let status = connection.get("/small", keep(&mut body)).await?;
    ensure!(
        status == 200 && body == SMALL.as_bytes(),
        "answered {status}"
    );
    Ok(())
}
