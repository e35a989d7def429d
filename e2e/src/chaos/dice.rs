//! Numbers that look random and are the same for the same seed, on every machine.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is small: the bias is no matter.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }

    /// One of several, each as likely as its weight.
    pub(super) fn one_of<T>(&mut self, mut weighted: Vec<(u32, T)>) -> T {
        let total = weighted.iter().map(|(weight, _)| weight).sum();
        let mut thrown = self.below(total);
        let chosen = weighted.iter().position(|(weight, _)| {
            let is_it = thrown < *weight;
            thrown = thrown.wrapping_sub(*weight);
            is_it
        });
        weighted
            .swap_remove(chosen.expect("the throw is below the total"))
            .1
    }

    /// From half a second to three.
    pub(super) fn moment(&mut self) -> Duration {
        Duration::from_millis(500 + u64::from(self.below(2500)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            [(); 50].map(|()| dice.below(6))
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        assert!((0..6).all(|side| throws(7).contains(&side)));
    }

    #[test]
    fn what_weighs_nothing_is_never_chosen() {
        let mut dice = Dice::new(1);
        let mut choose = || dice.one_of(vec![(0, 'a'), (1, 'b'), (0, 'c'), (3, 'd')]);
        let chosen: String = (0..100).map(|_| choose()).collect();
        assert!(!chosen.contains(['a', 'c']) && chosen.contains('b') && chosen.contains('d'));
    }
}
