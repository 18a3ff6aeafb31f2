//! The results of the scenarios, for `docs/fake.md`. `cargo xtask conformance` plays the scenarios
//! and writes the page; this test checks that its lists are up to date, without a real server.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, OpenOptions},
    io::Write as _,
};

use serde_json::{Value, json};

use super::{
    agree::{APPROVALS, REST, RUNS},
    every,
};

/// Names a file, to which each result is added as a line of JSON.
const REPORT: &str = "CONFORMANCE_REPORT";

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fake.md");

/// Adds a result to the file, if there is one.
pub(super) fn note(result: &Value) {
    if let Some(file) = env::var_os(REPORT) {
        let file = OpenOptions::new().create(true).append(true).open(file);
        let line = format!("{result}\n");
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Returns the first cell of each row of a section.
fn rows(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.map(|row| row.split(" | ").next().unwrap().trim_matches('`'));
    cells.map(str::to_owned).skip(1).collect()
}

#[tokio::test]
async fn the_page_lists_each_scenario_and_each_route_of_the_fake() {
    let responses = every::responses().await;
    if env::var_os(REPORT).is_some() {
        for (route, supported) in responses {
            note(&json!({"route": route, "supported": supported}));
        }
        return;
    }
    let names = RUNS.into_iter().chain(APPROVALS).chain(REST);
    let names = names.map(str::to_owned).collect();
    let page = fs::read_to_string(PAGE).unwrap();
    let advice = "run `cargo xtask conformance`";
    assert_eq!(rows(&page, "Behaviours"), names, "{advice}");
    for (heading, wanted) in [("Supported routes", true), ("Unsupported routes", false)] {
        let of_kind = responses
            .iter()
            .filter(|(_, supported)| *supported == wanted);
        let routes = of_kind.map(|(route, _)| (*route).to_owned()).collect();
        assert_eq!(rows(&page, heading), routes, "{advice}");
    }
}
