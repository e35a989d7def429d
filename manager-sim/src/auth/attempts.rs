//! How often somebody may try: pure bookkeeping of a rate, by whatever tells the triers apart.
//!
//! A try is counted before its outcome is known, so that many at once are no more than many in
//! turn, and is given back if it was good.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// A rate: some at once, and then one after each pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// How many at once.
    pub(super) burst: u32,
    /// How long until the next.
    pub(super) pause: Duration,
}

/// Who tried, and when they will have rested.
#[derive(Debug)]
pub(super) struct Attempts<K> {
    rate: Rate,
    most: usize,
    rested: HashMap<K, Instant>,
}

impl<K: Clone + Eq + Hash> Attempts<K> {
    /// Nobody yet; at most `most` are remembered at a time.
    pub(super) fn new(rate: Rate, most: usize) -> Self {
        Self {
            rate,
            most,
            rested: HashMap::new(),
        }
    }

    /// How long `who` has to wait before the next try; nothing if they need not.
    pub(super) fn wait(&self, who: &K, now: Instant) -> Option<Duration> {
        let patience = self.rate.pause * self.rate.burst.saturating_sub(1);
        let rested = self.rested.get(who)?;
        let wait = rested.checked_duration_since(now + patience)?;
        (!wait.is_zero()).then_some(wait)
    }

    /// Counts a try.
    pub(super) fn count(&mut self, who: K, now: Instant) {
        if self.rested.len() >= self.most && !self.rested.contains_key(&who) {
            self.make_room(now);
        }
        let rested = self.rested.entry(who).or_insert(now);
        *rested = (*rested).max(now) + self.rate.pause;
    }

    /// Takes a try back.
    pub(super) fn forgive(&mut self, who: &K) {
        if let Some(rested) = self.rested.get_mut(who)
            && let Some(before) = rested.checked_sub(self.rate.pause)
        {
            *rested = before;
        }
    }

    /// Forgets who has rested, and if that is nobody, whoever is the closest to it: a flood of
    /// names locks nobody out.
    fn make_room(&mut self, now: Instant) {
        self.rested.retain(|_, rested| *rested > now);
        if self.rested.len() >= self.most {
            let first = self.rested.iter().min_by_key(|(_, rested)| **rested);
            if let Some(who) = first.map(|(who, _)| who.clone()) {
                self.rested.remove(&who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        pause: Duration::from_secs(10),
    };

    fn tries(attempts: &mut Attempts<&'static str>, who: &'static str, now: Instant) -> bool {
        let may = attempts.wait(&who, now).is_none();
        if may {
            attempts.count(who, now);
        }
        may
    }

    #[test]
    fn after_a_burst_there_is_a_pause_for_each() {
        let (mut attempts, now) = (Attempts::new(RATE, 8), Instant::now());
        for _ in 0..3 {
            assert!(tries(&mut attempts, "a", now));
        }
        assert!(!tries(&mut attempts, "a", now));
        assert_eq!(attempts.wait(&"a", now), Some(RATE.pause));
        assert!(tries(&mut attempts, "b", now));
        assert!(tries(&mut attempts, "a", now + RATE.pause));
        assert!(!tries(&mut attempts, "a", now + RATE.pause));
    }

    #[test]
    fn a_good_try_does_not_count() {
        let (mut attempts, now) = (Attempts::new(RATE, 8), Instant::now());
        for _ in 0..9 {
            assert!(tries(&mut attempts, "a", now));
            attempts.forgive(&"a");
        }
    }

    #[test]
    fn a_flood_of_names_takes_no_more_room() {
        let (mut attempts, now) = (Attempts::new(RATE, 2), Instant::now());
        attempts.count("a", now);
        attempts.count("b", now);
        attempts.count("b", now);
        attempts.count("c", now);
        assert_eq!(attempts.rested.len(), 2);
        assert!(attempts.rested.contains_key("b") && attempts.rested.contains_key("c"));
    }

    proptest! {
        #[test]
        fn nobody_tries_more_often_than_the_rate(gaps in prop::collection::vec(0..30_000u64, 1..60)) {
            let mut attempts = Attempts::new(RATE, 8);
            let start = Instant::now();
            let (mut now, mut done) = (start, 0);
            for gap in gaps {
                now += Duration::from_millis(gap);
                done += u32::from(tries(&mut attempts, "a", now));
                let time = now.duration_since(start).as_secs_f64();
                prop_assert!(f64::from(done) <= 3.0 + time / 10.0 + 1e-6);
            }
        }
    }
}
