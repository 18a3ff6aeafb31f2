//! Seeded random numbers, so that random faults are repeatable.

use std::ops::RangeInclusive;

/// A seeded source of random numbers for repeatable faults.
#[derive(Debug, Clone)]
pub struct Chance(fastrand::Rng);

impl Chance {
    /// Creates a source. The same seed gives the same numbers on every platform.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns a number in `range`, including both ends. Returns the start of an empty range.
    pub fn pick(&mut self, range: RangeInclusive<u64>) -> u64 {
        if range.is_empty() {
            return *range.start();
        }
        self.0.u64(range)
    }

    /// Returns `true` in `times` of `of` cases on average.
    pub fn hit(&mut self, times: u64, of: u64) -> bool {
        self.pick(1..=of.max(1)) <= times
    }
}
