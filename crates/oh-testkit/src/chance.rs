//! Chance that repeats: the same seed gives the same faults.

use std::ops::RangeInclusive;

/// A seeded source of numbers, for faults that are random and can be had again.
#[derive(Debug, Clone)]
pub struct Chance(fastrand::Rng);

impl Chance {
    /// The same seed gives the same numbers, on every platform.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number in `range`, ends included. An empty range gives its start.
    pub fn pick(&mut self, range: RangeInclusive<u64>) -> u64 {
        if range.is_empty() {
            return *range.start();
        }
        self.0.u64(range)
    }

    /// `true` in `times` of `of` cases.
    pub fn hit(&mut self, times: u64, of: u64) -> bool {
        self.pick(1..=of.max(1)) <= times
    }
}
