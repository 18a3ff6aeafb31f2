//! Turns measured rows into tables, JSON, and the charts of `docs/benchmarks.md`.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Value, json};

use super::promises::{Benchmark, Bound, Promise};

/// One measurement of one subject in one round.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    work: String,
    subject: String,
    found: Found,
}

#[derive(Debug, Clone)]
enum Found {
    Value(f64, String),
    /// Why nothing was measured.
    Skipped(String),
}

impl Row {
    pub(crate) fn read(row: &Value) -> Option<Self> {
        let text = |name: &str| Some(row.get(name)?.as_str()?.to_owned());
        let found = match text("skipped") {
            Some(why) => Found::Skipped(why),
            None => {
                let value = row.get("value")?.as_f64();
                Found::Value(value.filter(|value| value.is_finite())?, text("unit")?)
            }
        };
        Some(Self {
            work: text("work")?,
            subject: text("subject")?,
            found,
        })
    }

    /// Whether it is a value of ours, or of one of our layers.
    pub(crate) fn is_ours(&self) -> bool {
        let ours = self.subject == "ours" || self.subject.starts_with("oh");
        ours && matches!(self.found, Found::Value(value, _) if value > 0.0)
    }
}

/// What one benchmark measured.
pub(crate) struct Report<'a> {
    bench: &'a Benchmark,
    rows: Vec<Row>,
}

/// The rounds of one subject on one work.
struct Rounds {
    unit: String,
    values: Vec<f64>,
}

impl Rounds {
    fn median(&self) -> f64 {
        quantile(&self.values, 0.5)
    }
}

fn quantile(sorted: &[f64], at: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    // Rounds are few: an index beyond f64's exact integers cannot occur.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let index = (last as f64 * at).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

impl<'a> Report<'a> {
    pub(crate) fn new(bench: &'a Benchmark, rows: Vec<Row>) -> Self {
        Self { bench, rows }
    }

    fn works(&self) -> BTreeMap<&str, BTreeMap<&str, Rounds>> {
        let mut works: BTreeMap<&str, BTreeMap<&str, Rounds>> = BTreeMap::new();
        for row in &self.rows {
            let Found::Value(value, unit) = &row.found else {
                continue;
            };
            works
                .entry(&row.work)
                .or_default()
                .entry(&row.subject)
                .or_insert_with(|| Rounds {
                    unit: unit.clone(),
                    values: Vec::new(),
                })
                .values
                .push(*value);
        }
        for rounds in works.values_mut().flat_map(BTreeMap::values_mut) {
            rounds.values.sort_by(f64::total_cmp);
        }
        works
    }

    /// A Markdown table: a line per work and subject, then the promises.
    pub(crate) fn table(&self) -> String {
        let works = self.works();
        let mut text = format!("\n## {}\n\n{}\n\n", self.bench.name, self.bench.about);
        text.push_str("|work|subject|median|spread|ours is|\n|-|-|-:|-:|-:|\n");
        for (work, subjects) in &works {
            let ours = subjects.get("ours").map(Rounds::median);
            for (subject, rounds) in subjects {
                let (low, high) = (quantile(&rounds.values, 0.0), quantile(&rounds.values, 1.0));
                let ratio = match ours {
                    Some(ours) if *subject != "ours" => format!("{:.2}×", ours / rounds.median()),
                    _ => String::new(),
                };
                let _ = writeln!(
                    text,
                    "|{work}|{subject}|{} {}|{}–{}|{ratio}|",
                    short(rounds.median()),
                    rounds.unit,
                    short(low),
                    short(high)
                );
            }
        }
        for row in &self.rows {
            if let Found::Skipped(why) = &row.found {
                let _ = writeln!(text, "|{}|{}|not measured: {why}|||", row.work, row.subject);
            }
        }
        if !self.bench.promises.is_empty() {
            text.push_str("\n|promise|measured||\n|-|-:|-|\n");
        }
        for promise in self.bench.promises {
            let kept = kept(promise, &works);
            let _ = writeln!(
                text,
                "|{}: {} {}|{}|{}|",
                promise.work, kept.bound, promise.against, kept.measured, kept.verdict
            );
        }
        text
    }

    /// The lines of the README's table that this benchmark has: a promise each.
    fn headlines(&self) -> String {
        let works = self.works();
        let mut text = String::new();
        for promise in self
            .bench
            .promises
            .iter()
            .filter(|promise| promise.headline)
        {
            let kept = kept(promise, &works);
            let ours = works
                .get(promise.work)
                .and_then(|subjects| subjects.get("ours"));
            let ours = ours.map_or_else(
                || "—".to_owned(),
                |rounds| format!("{} {}", short(rounds.median()), rounds.unit),
            );
            let _ = writeln!(
                text,
                "|{}: {}|{ours}|{}|{}|{}|{}|",
                self.bench.name,
                promise.work,
                promise.against,
                kept.measured,
                kept.bound,
                kept.verdict
            );
        }
        text
    }

    /// One JSON object a line, as the benchmark printed them, with its name.
    pub(crate) fn json(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let (bench, work, subject) = (self.bench.name, &row.work, &row.subject);
            let line = match &row.found {
                Found::Value(value, unit) => json!({
                    "bench": bench, "work": work, "subject": subject,
                    "value": value, "unit": unit,
                }),
                Found::Skipped(why) => json!({
                    "bench": bench, "work": work, "subject": subject, "skipped": why,
                }),
            };
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// A bar per subject for each work, scaled to the largest.
    fn chart(&self) -> String {
        const BAR: f64 = 420.0;
        let mut body = String::new();
        let mut y = 24;
        for (work, subjects) in self.works() {
            let _ = writeln!(
                body,
                "<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{work}</text>"
            );
            y += 8;
            let most = subjects
                .values()
                .map(Rounds::median)
                .fold(f64::MIN, f64::max);
            for (subject, rounds) in &subjects {
                let width = (rounds.median() / most * BAR).max(1.0);
                let fill = if *subject == "ours" {
                    "#c2410c"
                } else {
                    "#94a3b8"
                };
                let _ = writeln!(
                    body,
                    "<rect x=\"120\" y=\"{y}\" width=\"{width:.0}\" height=\"14\" fill=\"{fill}\"/>\
                     <text x=\"8\" y=\"{0}\">{subject}</text>\
                     <text x=\"{1:.0}\" y=\"{0}\">{2} {3}</text>",
                    y + 12,
                    126.0 + width,
                    short(rounds.median()),
                    rounds.unit
                );
                y += 20;
            }
            y += 24;
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{y}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
             fill=\"white\"/>\n{body}</svg>\n"
        )
    }
}

/// How a promise was kept.
struct Kept {
    bound: String,
    measured: String,
    verdict: &'static str,
}

fn kept(promise: &Promise, works: &BTreeMap<&str, BTreeMap<&str, Rounds>>) -> Kept {
    let ratio = works.get(promise.work).and_then(|subjects| {
        Some(subjects.get("ours")?.median() / subjects.get(promise.against)?.median())
    });
    let (sign, bound) = match promise.bound {
        Bound::AtLeast(bound) => ("≥", bound),
        Bound::AtMost(bound) => ("≤", bound),
    };
    let verdict = match (ratio, promise.bound) {
        (None, _) => "not measured",
        (Some(ratio), Bound::AtLeast(bound)) if ratio >= bound => "met",
        (Some(ratio), Bound::AtMost(bound)) if ratio <= bound => "met",
        _ => "**missed**",
    };
    Kept {
        bound: format!("{sign}{}×", tidy(bound)),
        measured: ratio.map_or_else(|| "—".to_owned(), times),
        verdict,
    }
}

/// What follows this line of `docs/benchmarks.md` is written by hand, and kept.
const BY_HAND: &str = "## Where the time goes";
/// Where the README's table stands.
const TABLE: [&str; 2] = ["<!-- benchmarks -->\n", "<!-- end of benchmarks -->\n"];

/// `docs/benchmarks.md` and its charts, and the README with its table, by path. `read` gives what
/// a file holds now.
pub(crate) fn documents(
    reports: &[Report<'_>],
    about: &str,
    read: impl Fn(&str) -> String,
) -> Vec<(String, String)> {
    let mut page = format!(
        "# Benchmarks\n\nMade by `cargo xtask bench --write`; run it again on your machine. \
         Values are medians over interleaved rounds of one run, with the lowest and highest. A \
         peer that could not be had is not measured, never guessed.\n\n{about}\n"
    );
    let mut documents = Vec::new();
    let mut table = "|Work|Ours|Against|Measured|Promised||\n|-|-:|-|-:|-:|-|\n".to_owned();
    for report in reports {
        page.push_str(&report.table());
        let chart = format!("benchmark-{}.svg", report.bench.name);
        let _ = writeln!(page, "\n![{}]({chart})", report.bench.name);
        documents.push((format!("docs/{chart}"), report.chart()));
        table.push_str(&report.headlines());
    }
    let before = read("docs/benchmarks.md");
    if let Some(at) = before.find(BY_HAND) {
        let _ = write!(page, "\n{}", &before[at..]);
    }
    documents.push(("docs/benchmarks.md".to_owned(), page));
    let readme = read("README.md");
    if let Some(readme) = replace(&readme, &table) {
        documents.push(("README.md".to_owned(), readme));
    }
    documents
}

/// Puts a table where the old one stood.
fn replace(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(TABLE[0])?;
    let (_, after) = rest.split_once(TABLE[1])?;
    Some([before, TABLE[0], table, TABLE[1], after].concat())
}

/// A bound as people write it.
fn tidy(bound: f64) -> String {
    let text = format!("{bound:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}×")
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{:.2}G", value / 1e9),
        size if size >= 1e6 => format!("{:.2}M", value / 1e6),
        size if size >= 1e4 => format!("{:.1}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::promises::{at_least, at_most};

    const BENCH: Benchmark = Benchmark {
        name: "x",
        package: "p",
        target: "t",
        part: None,
        server: false,
        about: "a test",
        promises: &[
            at_least("w", 2.0, "peer").headline(),
            at_most("w", 1.5, "floor"),
            at_most("w", 1.0, "absent"),
        ],
    };

    fn row(subject: &str, value: f64) -> Row {
        Row {
            work: "w".into(),
            subject: subject.into(),
            found: Found::Value(value, "/s".into()),
        }
    }

    #[test]
    fn a_promise_is_met_missed_or_not_measured() {
        let rows = vec![
            row("ours", 10.0),
            row("ours", 30.0),
            row("ours", 20.0),
            row("peer", 5.0),
            row("floor", 10.0),
        ];
        let table = Report::new(&BENCH, rows).table();
        assert!(table.contains("|w: ≥2× peer|4.00×|met|"), "{table}");
        assert!(
            table.contains("|w: ≤1.5× floor|2.00×|**missed**|"),
            "{table}"
        );
        assert!(table.contains("|w: ≤1× absent|—|not measured|"), "{table}");
    }

    #[test]
    fn the_readme_gets_the_table_and_keeps_the_rest() {
        let report = Report::new(&BENCH, vec![row("ours", 10.0), row("peer", 4.0)]);
        let readme = format!("before\n{}old\n{}after\n", TABLE[0], TABLE[1]);
        let hand = format!("old page\n{BY_HAND}\nby hand\n");
        let read = |name: &str| match name {
            "README.md" => readme.clone(),
            _ => hand.clone(),
        };
        let documents = documents(&[report], "a machine", read);
        let get = |name: &str| {
            let found = documents.iter().find(|(path, _)| path == name);
            found.map(|(_, text)| text.as_str()).unwrap()
        };
        let table = "|x: w|10.00 /s|peer|2.50×|≥2×|met|\n";
        assert!(get("README.md").contains(table), "{}", get("README.md"));
        assert!(get("README.md").starts_with("before\n"));
        assert!(get("README.md").ends_with("after\n") && !get("README.md").contains("old"));
        assert!(get("docs/benchmarks.md").ends_with("by hand\n"));
        assert!(!get("docs/benchmarks.md").contains("old page"));
        assert!(get("docs/benchmark-x.svg").starts_with("<svg"));
    }

    #[test]
    fn a_subject_that_took_no_part_is_told_with_the_reason() {
        let skipped = json!({"work": "w", "subject": "peer", "skipped": "no node"});
        let row = Row::read(&skipped).unwrap();
        assert!(!row.is_ours());
        let table = Report::new(&BENCH, vec![row]).table();
        assert!(table.contains("|w|peer|not measured: no node|"), "{table}");
        assert!(table.contains("|w: ≥2× peer|—|not measured|"), "{table}");
    }

    #[test]
    fn a_row_needs_all_its_fields_and_a_finite_value() {
        let good = json!({"work": "w", "subject": "s", "value": 1.5, "unit": "u"});
        assert!(Row::read(&good).is_some());
        assert!(Row::read(&json!({"work": "w", "subject": "s", "unit": "u"})).is_none());
    }
}
