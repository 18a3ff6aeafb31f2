//! A chart of cost and tokens, as SVG.

use std::fmt::Write as _;

use crate::Totals;

/// The maximum number of points. With more, every second point is left out.
const MAX_POINTS: usize = 512;
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 100.0;

/// The totals over time, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Chart {
    points: Vec<(f64, u64)>,
    /// The number of changes between two points, minus one.
    skip: usize,
    skipped: usize,
    last: Totals,
}

impl Chart {
    /// Adds a point, unless nothing has changed.
    pub(super) fn add(&mut self, totals: Totals) {
        if totals == self.last {
            return;
        }
        self.last = totals;
        if self.skipped < self.skip {
            self.skipped += 1;
            return;
        }
        self.skipped = 0;
        self.points.push(point(&totals));
        if self.points.len() >= MAX_POINTS {
            let mut at = 0;
            self.points.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.skip = self.skip * 2 + 1;
        }
    }

    /// Returns the newest totals.
    pub(super) fn last(&self) -> Totals {
        self.last
    }

    /// Appends the chart. Appends nothing for fewer than two points.
    pub(super) fn write(&self, out: &mut String) {
        let mut points = self.points.clone();
        if points.last() != Some(&point(&self.last)) {
            points.push(point(&self.last));
        }
        if points.len() < 2 {
            return;
        }
        let costs: Vec<f64> = points.iter().map(|(cost, _)| *cost).collect();
        let tokens: Vec<f64> = points.iter().map(|(_, tokens)| *tokens as f64).collect();
        let _infallible = write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"Cost and tokens after each response\">"
        );
        line(out, "tokens", &tokens);
        line(out, "cost", &costs);
        out.push_str(
            "</svg><div><span class=\"cost-label\">— cost</span> \
             <span class=\"tokens-label\">— tokens</span>, after each response</div>",
        );
    }
}

fn point(totals: &Totals) -> (f64, u64) {
    let tokens = totals
        .prompt_tokens
        .saturating_add(totals.completion_tokens);
    (totals.cost, tokens)
}

/// Appends a line from left to right, scaled to its maximum.
fn line(out: &mut String, class: &str, values: &[f64]) {
    let max = values.iter().copied().fold(0.0, f64::max);
    if max <= 0.0 {
        return;
    }
    let _infallible = write!(out, "<polyline class=\"{class}\" points=\"");
    for (at, value) in values.iter().enumerate() {
        let x = at as f64 / (values.len() - 1) as f64 * WIDTH;
        let y = HEIGHT - 2.0 - value.max(0.0) / max * (HEIGHT - 4.0);
        let _infallible = write!(out, "{x:.1},{y:.1} ");
    }
    out.push_str("\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(step: u64) -> Totals {
        Totals {
            prompt_tokens: step,
            cost: step as f64,
            ..Totals::default()
        }
    }

    #[test]
    fn many_points_need_bounded_memory_and_keep_both_ends() {
        let mut chart = Chart::default();
        for step in 1..=100_000 {
            chart.add(totals(step));
            chart.add(totals(step));
        }
        assert!(chart.points.len() < MAX_POINTS, "{}", chart.points.len());
        assert_eq!(chart.points[0], (1.0, 1));
        let mut out = String::new();
        chart.write(&mut out);
        assert!(out.contains("points=\"0.0,98.0 "), "{}", &out[..200]);
        assert!(out.contains("600.0,2.0 \"/>"));
    }

    #[test]
    fn a_single_point_is_no_chart() {
        let mut chart = Chart::default();
        chart.add(totals(1));
        let mut out = String::new();
        chart.write(&mut out);
        assert_eq!(out, "");
    }
}
