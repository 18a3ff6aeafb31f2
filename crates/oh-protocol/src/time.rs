//! Conversion of durations to the whole seconds that the server expects.

use std::time::Duration;

/// Returns a duration in whole seconds, rounded up, so that a short timeout is never zero.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0))
}
