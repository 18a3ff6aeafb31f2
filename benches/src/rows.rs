//! Measurements as lines of JSON for `cargo xtask bench`. Knows no promise.

use std::{error::Error, io::Write};

use serde_json::{Value, json};

/// What a bench returns: one that cannot measure has nothing better to do than to stop.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Prints one measurement.
pub fn row(work: &str, subject: &str, value: f64, unit: &str) {
    print(&json!({"work": work, "subject": subject, "value": value, "unit": unit}));
}

/// Says that a subject takes no part, and why.
pub fn skipped(work: &str, subject: &str, why: &str) {
    print(&json!({"work": work, "subject": subject, "skipped": why}));
}

fn print(row: &Value) {
    // Whoever reads the rows has gone: so has the reason to measure.
    let _ = writeln!(std::io::stdout().lock(), "{row}");
}

/// The value that so large a part of the others does not exceed.
pub fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * at).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}
