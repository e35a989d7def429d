//! What a proxy counts, and the counts as text for Prometheus.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counters of one proxy since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    connections: Gauge,
    turned_away: AtomicU64,
    pipes: Gauge,
    /// By class of status: index 0 is 1xx.
    answers: [AtomicU64; 5],
    refusals: [AtomicU64; 5],
    dials: AtomicU64,
    reuses: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

#[derive(Debug, Default)]
struct Gauge {
    opened: AtomicU64,
    closed: AtomicU64,
}

impl Gauge {
    fn now(&self) -> u64 {
        let closed = self.closed.load(Relaxed);
        self.opened.load(Relaxed).saturating_sub(closed)
    }
}

impl Metrics {
    pub(crate) fn connection_opened(&self) {
        self.connections.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.closed.fetch_add(1, Relaxed);
    }

    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    pub(crate) fn pipe_opened(&self) {
        self.pipes.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn pipe_closed(&self) {
        self.pipes.closed.fetch_add(1, Relaxed);
    }

    /// An answer of a dev server.
    pub(crate) fn answered(&self, status: u16) {
        self.answers[class(status)].fetch_add(1, Relaxed);
    }

    /// An answer of the proxy's own.
    pub(crate) fn answered_itself(&self, status: u16) {
        self.refusals[class(status)].fetch_add(1, Relaxed);
    }

    pub(crate) fn dialled(&self) {
        self.dials.fetch_add(1, Relaxed);
    }

    pub(crate) fn reused(&self) {
        self.reuses.fetch_add(1, Relaxed);
    }

    pub(crate) fn moved(&self, up: u64, down: u64) {
        self.bytes_up.fetch_add(up, Relaxed);
        self.bytes_down.fetch_add(down, Relaxed);
    }

    /// The counts in the text format of Prometheus, version 0.0.4, each name with `program_` in front.
    pub fn to_text(&self, program: &str) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
            let _ = writeln!(text, "# HELP {program}_{name} {help}");
            let _ = writeln!(text, "# TYPE {program}_{name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{program}_{name}{labels} {value}");
            }
        };
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        family(
            "connections",
            "gauge",
            "Client connections that are open, without upgraded ones.",
            &[("", self.connections.now())],
        );
        family(
            "connections_total",
            "counter",
            "Client connections since the start.",
            &[("", of(&self.connections.opened))],
        );
        family(
            "connections_turned_away_total",
            "counter",
            "Client connections that there was no room for.",
            &[("", of(&self.turned_away))],
        );
        family(
            "pipes",
            "gauge",
            "Upgraded connections (WebSockets) that are open.",
            &[("", self.pipes.now())],
        );
        family(
            "pipes_total",
            "counter",
            "Upgraded connections since the start.",
            &[("", of(&self.pipes.opened))],
        );
        const FROM: [&str; 2] = ["dev-server", "proxy"];
        let mut answers = Vec::new();
        for (from, counters) in FROM.iter().zip([&self.answers, &self.refusals]) {
            for (class, counter) in counters.iter().enumerate() {
                let labels = format!("{{from=\"{from}\",class=\"{}xx\"}}", class + 1);
                answers.push((labels, of(counter)));
            }
        }
        let answers: Vec<_> = answers
            .iter()
            .map(|(labels, count)| (labels.as_str(), *count))
            .collect();
        family("answers_total", "counter", "Answers to clients.", &answers);
        family(
            "upstream_connections_total",
            "counter",
            "Connections to dev servers: new ones, and used again.",
            &[
                ("{kind=\"new\"}", of(&self.dials)),
                ("{kind=\"reused\"}", of(&self.reuses)),
            ],
        );
        family(
            "bytes_total",
            "counter",
            "Bytes of request bodies, of answers and of upgraded connections; up is to dev servers.",
            &[
                ("{direction=\"up\"}", of(&self.bytes_up)),
                ("{direction=\"down\"}", of(&self.bytes_down)),
            ],
        );
        text
    }
}

fn class(status: u16) -> usize {
    usize::from((status / 100).clamp(1, 5) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_belongs_to_a_family_that_is_described() {
        let metrics = Metrics::default();
        metrics.connection_opened();
        metrics.answered(404);
        metrics.answered_itself(999);
        let text = metrics.to_text("hpc_proxy");
        assert!(text.contains("hpc_proxy_connections 1\n"), "{text}");
        assert!(text.contains("hpc_proxy_answers_total{from=\"dev-server\",class=\"4xx\"} 1\n"));
        assert!(text.contains("hpc_proxy_answers_total{from=\"proxy\",class=\"5xx\"} 1\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
        }
    }
}
