//! Prints measurements as lines of JSON for `cargo xtask bench`.

use std::{error::Error, io::Write};

use serde_json::{Value, json};

/// Result of a bench. A bench that cannot measure stops with an error.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Prints one measurement.
pub fn row(work: &str, subject: &str, value: f64, unit: &str) {
    print(&json!({"work": work, "subject": subject, "value": value, "unit": unit}));
}

/// Prints that a subject was not measured, and why.
pub fn skipped(work: &str, subject: &str, why: &str) {
    print(&json!({"work": work, "subject": subject, "skipped": why}));
}

fn print(row: &Value) {
    // A failure means that the reader of the rows is gone, so measuring has no purpose.
    let _ = writeln!(std::io::stdout().lock(), "{row}");
}

/// Returns the quantile `at` of the values.
pub fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * at).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}
