//! Turns measured rows into tables, JSON, and the charts of `docs/benchmarks.md`.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Value, json};

use super::{
    numbers::{quantile, short, spread},
    promises::{Benchmark, Bound, Headline, Promise},
};

/// A measurement of one subject in one round.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    work: String,
    subject: String,
    found: Found,
}

#[derive(Debug, Clone)]
enum Found {
    Value(f64, String),
    /// The subject was not measured, for this reason.
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

    /// Returns whether the row is a value of ours or of one of our layers.
    pub(crate) fn is_ours(&self) -> bool {
        let ours = self.subject == "ours" || self.subject.starts_with("oh");
        ours && matches!(self.found, Found::Value(value, _) if value > 0.0)
    }
}

/// Results of one benchmark.
pub(crate) struct Report<'a> {
    bench: &'a Benchmark,
    rows: Vec<Row>,
    /// The machine and the versions of the measurement.
    machine: String,
}

/// The rounds of one subject on one work, in the order in which they were run.
struct Rounds {
    unit: String,
    values: Vec<f64>,
}

impl Rounds {
    fn sorted(&self) -> Vec<f64> {
        sorted(self.values.clone())
    }

    fn median(&self) -> f64 {
        quantile(&self.sorted(), 0.5)
    }

    /// Returns the ratio of each round to the other subject's, sorted. Rounds are interleaved, so a
    /// temporary load affects both.
    ///
    /// If the other subject took part in every n-th round only, just those rounds are compared. A
    /// single value of the other is compared with all rounds. Otherwise returns only the ratio of
    /// the medians.
    fn times(&self, other: &Self) -> Vec<f64> {
        let (ours, theirs) = (self.values.len(), other.values.len());
        let ratios = match (ours, theirs) {
            (_, 1) => {
                let all = self.values.iter();
                all.map(|value| value / other.values[0]).collect()
            }
            (ours, theirs) if theirs > 0 && ours >= theirs && ours.is_multiple_of(theirs) => {
                let met = self.values.iter().step_by(ours / theirs);
                met.zip(&other.values).map(|(a, b)| a / b).collect()
            }
            _ => vec![self.median() / other.median()],
        };
        sorted(ratios)
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

impl<'a> Report<'a> {
    pub(crate) fn new(bench: &'a Benchmark, rows: Vec<Row>, machine: String) -> Self {
        Self {
            bench,
            rows,
            machine,
        }
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
        works
    }

    /// Formats a Markdown table: a line per work and subject, then the promises.
    pub(crate) fn table(&self) -> String {
        let works = self.works();
        let mut text = format!(
            "\n## {}\n\n{}\n\n{}\n\n",
            self.bench.name, self.bench.about, self.machine
        );
        text.push_str("|Work|Subject|Median|Range|Ours is|\n|-|-|-:|-:|-:|\n");
        for (work, subjects) in &works {
            let ours = subjects.get("ours");
            for (subject, rounds) in subjects {
                let values = rounds.sorted();
                let (low, high) = (quantile(&values, 0.0), quantile(&values, 1.0));
                let ratio = match ours {
                    Some(ours) if *subject != "ours" => spread(&ours.times(rounds)),
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
            text.push_str("\n|Target|Measured||\n|-|-:|-|\n");
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

    /// Formats this benchmark's lines of the README's table, in plain words.
    fn headlines(&self) -> String {
        let works = self.works();
        let mut text = String::new();
        for promise in self.bench.promises {
            let Some(Headline { task, other }) = promise.headline else {
                continue;
            };
            let rounds = |subject| works.get(promise.work)?.get(subject);
            let value = |rounds: Option<&Rounds>| match rounds {
                Some(rounds) => format!("{} {}", short(rounds.median()), rounds.unit),
                None => "not measured".to_owned(),
            };
            let (ours, theirs) = (rounds("ours"), rounds(promise.against));
            let unit = ours.map_or("", |rounds| rounds.unit.as_str());
            let kept = kept(promise, &works);
            let (result, missed) = match kept.ratio {
                Some(ratio) if kept.is_met => (in_words(ratio, unit), ""),
                Some(ratio) => (in_words(ratio, unit), " (missed)"),
                None => ("not measured".to_owned(), ""),
            };
            let (Bound::AtLeast(bound) | Bound::AtMost(bound)) = promise.bound;
            let _ = writeln!(
                text,
                "|{task}|{}|{other}: {}|{result}|{}{missed}|",
                value(ours),
                value(theirs),
                in_words(bound, unit),
            );
        }
        text
    }

    /// Formats the rows as one JSON object per line, with the benchmark's name.
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

    /// Draws a bar per subject for each work, scaled to the largest.
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

/// Result of a promise.
struct Kept {
    /// Median ratio over the rounds, if measured.
    ratio: Option<f64>,
    is_met: bool,
    bound: String,
    measured: String,
    verdict: &'static str,
}

fn kept(promise: &Promise, works: &BTreeMap<&str, BTreeMap<&str, Rounds>>) -> Kept {
    let ratios = works.get(promise.work).and_then(|subjects| {
        let ours = subjects.get("ours")?;
        Some(ours.times(subjects.get(promise.against)?))
    });
    let ratio = ratios.as_ref().map(|ratios| quantile(ratios, 0.5));
    let (sign, bound) = match promise.bound {
        Bound::AtLeast(bound) => ("≥", bound),
        Bound::AtMost(bound) => ("≤", bound),
    };
    let is_met = ratio.is_some_and(|ratio| match promise.bound {
        Bound::AtLeast(bound) => ratio >= bound,
        Bound::AtMost(bound) => ratio <= bound,
    });
    let verdict = match ratio {
        None => "not measured",
        Some(_) if is_met => "met",
        Some(_) => "**missed**",
    };
    Kept {
        ratio,
        is_met,
        bound: format!("{sign}{}×", tidy(bound)),
        measured: ratios.map_or_else(|| "—".to_owned(), |ratios| spread(&ratios)),
        verdict,
    }
}

const PREFACE: &str = "# Benchmarks\n\nGenerated by `cargo xtask bench --write`. Run it again on \
     your machine, for all benchmarks or one at a time. Values are medians over interleaved rounds \
     of one run, with the lowest and highest value. Ratios are computed round by round. A peer \
     that is not available is listed as not measured; no value is estimated.\n";
/// The part of `docs/benchmarks.md` from this heading on is written by hand and preserved.
const BY_HAND: &str = "## Where the time goes";
/// Markers around the README's table.
const TABLE: [&str; 2] = ["<!-- benchmarks -->\n", "<!-- end of benchmarks -->\n"];

/// Returns the files that one benchmark changes, with their paths: its section of
/// `docs/benchmarks.md`, its chart, its lines of the README's table. `all` determines the order.
/// Results of other benchmarks are kept, with the machine of their measurement. `read` returns the
/// current content of a file.
pub(crate) fn documents(
    report: &Report<'_>,
    all: &[Benchmark],
    read: impl Fn(&str) -> String,
) -> Vec<(String, String)> {
    let name = report.bench.name;
    let chart = format!("benchmark-{name}.svg");
    let before = read("docs/benchmarks.md");
    let (measured, by_hand) = match before.find(BY_HAND) {
        Some(at) => before.split_at(at),
        None => (&*before, ""),
    };
    let mut page = PREFACE.to_owned();
    for one in all {
        if one.name == name {
            page.push_str(&report.table());
            let _ = writeln!(page, "\n![{name}]({chart})");
        } else if let Some(section) = section(measured, one.name) {
            let _ = writeln!(page, "{section}");
        }
    }
    let _ = write!(page, "\n{by_hand}");
    let mut documents = vec![
        (format!("docs/{chart}"), report.chart()),
        ("docs/benchmarks.md".to_owned(), page),
    ];
    let readme = read("README.md");
    if let Some(readme) = with_lines(&readme, name, &report.headlines(), all) {
        documents.push(("README.md".to_owned(), readme));
    }
    documents
}

/// Returns the section of a benchmark on the page, including the empty line before its heading.
fn section<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let heading = format!("\n## {name}\n");
    let rest = &page[page.find(&heading)?..];
    let end = rest[1..].find("\n## ").map_or(rest.len(), |at| at + 1);
    Some(rest[..end].trim_end_matches('\n')).filter(|text| !text.is_empty())
}

/// Inserts a benchmark's lines into the README's table, in the order of `all`.
fn with_lines(readme: &str, name: &str, lines: &str, all: &[Benchmark]) -> Option<String> {
    let (before, rest) = readme.split_once(TABLE[0])?;
    let (old, after) = rest.split_once(TABLE[1])?;
    let mut table = "|Task|This library|Compared with|Result|Target|\n|-|-:|-|-|-|\n".to_owned();
    for one in all {
        if one.name == name {
            table.push_str(lines);
            continue;
        }
        for headline in one.promises.iter().filter_map(|promise| promise.headline) {
            let start = format!("|{}|", headline.task);
            if let Some(line) = old.lines().find(|line| line.starts_with(&start)) {
                let _ = writeln!(table, "{line}");
            }
        }
    }
    Some([before, TABLE[0], &table, TABLE[1], after].concat())
}

/// Describes a ratio of ours to another: the speed where a rate or a time was measured, the memory
/// otherwise.
fn in_words(ratio: f64, unit: &str) -> String {
    let is_time = |unit: &str| matches!(unit, "ns" | "µs" | "ms" | "s");
    let speed = match unit.split_once('/') {
        Some((_, "s")) => ratio,
        Some((time, _)) if is_time(time) => 1.0 / ratio,
        None if is_time(unit) => 1.0 / ratio,
        _ if ratio < 0.095 => return format!("1/{:.0} of the memory", 1.0 / ratio),
        _ => return format!("{:.0} % of the memory", ratio * 100.0),
    };
    match speed {
        9.5.. => format!("{speed:.0} times as fast"),
        1.1.. => format!("{} times as fast", tidy((speed * 10.0).round() / 10.0)),
        0.9.. => "as fast".to_owned(),
        _ => format!("{:.0} % of the speed", speed * 100.0),
    }
}

/// Formats a bound.
fn tidy(bound: f64) -> String {
    let text = format!("{bound:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

/// Formats a median ratio and its range over the rounds.
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
        about: "",
        promises: &[
            at_least("w", 2.0, "peer").headline("Work", "a peer"),
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

    fn report(rows: Vec<Row>) -> Report<'static> {
        Report::new(&BENCH, rows, "a machine".into())
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
        let table = report(rows).table();
        let met = "|w: ≥2× peer|4.00× (2.00–6.00)|met|";
        assert!(table.contains(met), "{table}");
        let missed = "|w: ≤1.5× floor|2.00× (1.00–3.00)|**missed**|";
        assert!(table.contains(missed), "{table}");
        assert!(table.contains("|w: ≤1× absent|—|not measured|"), "{table}");
        assert!(table.contains("\na machine\n"), "{table}");
    }

    #[test]
    fn ratios_compare_values_of_one_round() {
        let rounds = |values: &[f64]| Rounds {
            unit: String::new(),
            values: values.to_vec(),
        };
        // The machine was slow in the second round, for both subjects.
        let ours = rounds(&[10.0, 1.0, 20.0, 4.0]);
        assert_eq!(ours.times(&rounds(&[5.0, 0.5, 10.0, 2.0])), [2.0; 4]);
        // The other subject took part in the first and the third round.
        assert_eq!(ours.times(&rounds(&[5.0, 5.0])), [2.0, 4.0]);
        // With three rounds against four, only the medians are compared.
        assert_eq!(ours.times(&rounds(&[5.0, 5.0, 5.0])), [1.4]);
        assert!(rounds(&[]).times(&ours)[0].is_nan());
        assert_eq!(rounds(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
    }

    #[test]
    fn a_benchmark_changes_its_own_part_and_keeps_the_rest() {
        const OTHERS: [&[Promise]; 2] = [
            &[at_most("w", 1.0, "peer").headline("Task of a", "a peer")],
            &[at_most("w", 1.0, "peer").headline("Task of z", "a peer")],
        ];
        let one = report(vec![row("ours", 10.0), row("peer", 4.0)]);
        let readme = format!(
            "before\n{}|Task of z|old|\n|Work|old|\n|Task of a|old|\n|gone|old|\n{}after\n",
            TABLE[0], TABLE[1]
        );
        let other = |name, promises| Benchmark {
            name,
            promises,
            ..BENCH
        };
        let all = [other("a", OTHERS[0]), BENCH, other("z", OTHERS[1])];
        let page = format!(
            "old\n\n## z\n\nz\n\n## x\n\nold\n\n## gone\n\n## a\n\nof a\n\n{BY_HAND}\nby hand\n"
        );
        let read = |name: &str| match name {
            "README.md" => readme.clone(),
            _ => page.clone(),
        };
        let documents = documents(&one, &all, read);
        let get = |name: &str| {
            let found = documents.iter().find(|(path, _)| path == name);
            found.map(|(_, text)| text.as_str()).unwrap()
        };
        let lines = "|Task of a|old|\n\
            |Work|10.00 /s|a peer: 4.00 /s|2.5 times as fast|2 times as fast|\n\
            |Task of z|old|\n<!--";
        assert!(get("README.md").contains(lines), "{}", get("README.md"));
        assert!(get("README.md").starts_with("before\n"));
        assert!(get("README.md").ends_with("after\n"));
        let page = get("docs/benchmarks.md");
        let ends = format!("\n\n## z\n\nz\n\n{BY_HAND}\nby hand\n");
        assert!(page.ends_with(&ends), "{page}");
        assert!(
            page.contains("\n\n## a\n\nof a\n\n## x\n\n\n\na machine\n"),
            "{page}"
        );
        assert!(!page.contains("old") && !page.contains("gone"), "{page}");
        assert!(get("docs/benchmark-x.svg").starts_with("<svg"));
    }

    #[test]
    fn ratios_are_described_in_words() {
        for (ratio, unit, words) in [
            (33.3, "events/s", "33 times as fast"),
            (0.25, "events/s", "25 % of the speed"),
            (0.025, "µs/event", "40 times as fast"),
            (0.2, "ms", "5 times as fast"),
            (0.45, "s", "2.2 times as fast"),
            (1.05, "s", "as fast"),
            (0.08, "KiB each", "1/12 of the memory"),
            (0.34, "MiB", "34 % of the memory"),
        ] {
            assert_eq!(in_words(ratio, unit), words, "{ratio} {unit}");
        }
    }

    #[test]
    fn the_readme_names_a_missed_target() {
        let rows = vec![row("ours", 10.0), row("peer", 10.0)];
        let lines = report(rows).headlines();
        let expected = "|Work|10.00 /s|a peer: 10.00 /s|as fast|2 times as fast (missed)|\n";
        assert_eq!(lines, expected);
        let lines = report(vec![row("ours", 10.0)]).headlines();
        assert!(
            lines.contains("|a peer: not measured|not measured|"),
            "{lines}"
        );
    }

    #[test]
    fn a_subject_that_did_not_run_is_listed_with_the_reason() {
        let skipped = json!({"work": "w", "subject": "peer", "skipped": "no node"});
        let row = Row::read(&skipped).unwrap();
        assert!(!row.is_ours());
        let table = report(vec![row]).table();
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
