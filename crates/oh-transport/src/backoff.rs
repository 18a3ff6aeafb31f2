//! Delays between retries.

use std::time::Duration;

/// Exponential delays with jitter. Delays are never zero, never exceed the cap and never overflow.
///
/// The delay for attempt *n* is a random value in the upper half of `first * 2^n`, limited to
/// `cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    /// Creates a backoff whose delays start around `first` and never exceed `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        Self {
            first,
            cap: cap.max(first),
            attempt: 0,
        }
    }

    /// Returns the delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let factor = 2u32.saturating_pow(self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        let full = self.first.saturating_mul(factor).min(self.cap);
        // Uses integers: a float fraction of the maximum duration could round to more than the
        // maximum.
        let half = full / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        (full - half + Duration::from_nanos(fastrand::u64(..=spread)))
            .max(Duration::from_millis(1))
            .min(self.cap)
    }

    /// Returns the number of delays since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// Restarts with the first delay. Call this after a period without failures, not after the
    /// first success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_are_capped_jittered_and_never_zero(
            first in 0u64..10_000, cap in 0u64..100_000, draws in 1usize..200,
        ) {
            let millis = Duration::from_millis;
            let mut backoff = Backoff::new(millis(first), millis(cap));
            let cap = Duration::from_millis(cap.max(first).max(1));
            for _ in 0..draws {
                let delay = backoff.next_delay();
                prop_assert!(delay > Duration::ZERO && delay <= cap, "{delay:?} of {cap:?}");
            }
        }
    }

    #[test]
    fn the_longest_durations_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        for _ in 0..10_000 {
            assert!(backoff.next_delay() >= Duration::MAX / 2);
        }
        backoff.attempt = u32::MAX;
        assert!(backoff.next_delay() >= Duration::MAX / 2);
    }

    #[test]
    fn delays_grow_and_restart_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
        let first = backoff.next_delay();
        for _ in 0..5 {
            backoff.next_delay();
        }
        assert!(backoff.next_delay() > first * 10);
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }

    #[test]
    fn two_clients_have_different_delays() {
        let delays = || {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
            (0..8).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_ne!(delays(), delays());
    }
}
