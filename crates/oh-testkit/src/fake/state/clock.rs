//! The clock and id source of a fake server, with a skew and a seed.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) struct Clock(Mutex<Inner>);

struct Inner {
    random: fastrand::Rng,
    /// Microseconds added to the real time.
    skew: i128,
}

impl Clock {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(Inner {
            random: fastrand::Rng::with_seed(seed),
            skew: 0,
        }))
    }

    /// Moves the clock forward or back.
    pub(crate) fn skew(&self, by: Duration, back: bool) {
        let micros = by.as_micros() as i128;
        self.lock().skew += if back { -micros } else { micros };
    }

    /// Returns a random id with dashes.
    pub(crate) fn id(&self) -> String {
        self.uuid().hyphenated().to_string()
    }

    pub(crate) fn uuid(&self) -> uuid::Uuid {
        let random = self.lock().random.u128(..);
        uuid::Builder::from_random_bytes(random.to_le_bytes()).into_uuid()
    }

    /// Returns the local time without an offset, as used in events. The fake server's time zone is
    /// UTC.
    pub(crate) fn local(&self) -> String {
        let micros = self.micros();
        let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}")
    }

    /// Returns the time in UTC with a `Z`, as used in conversations.
    pub(crate) fn utc(&self) -> String {
        format!("{}Z", self.local())
    }

    /// Returns the time in seconds since 1970.
    pub(crate) fn seconds(&self) -> u64 {
        u64::try_from(self.micros() / 1_000_000).unwrap_or_default()
    }

    fn micros(&self) -> i128 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.as_micros() as i128) + self.lock().skew
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const DAY: i128 = 86_400_000_000;

/// Converts days since 1970 to year, month and day (proleptic Gregorian, eras of 400 years).
fn civil(days: i128) -> (i128, i128, i128) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_converted_to_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(-1), (1969, 12, 31));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_780), (2026, 11, 23));
    }

    #[test]
    fn a_skew_shifts_timestamps_and_a_seed_fixes_ids() {
        let clock = Clock::new(1);
        let before = clock.local();
        clock.skew(Duration::from_secs(7200), true);
        assert!(clock.local() < before);
        assert_eq!(Clock::new(5).id(), Clock::new(5).id());
        assert_ne!(Clock::new(5).id(), Clock::new(6).id());
    }
}
