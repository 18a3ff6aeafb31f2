//! Every capability of the table in `docs/versions.md`, on a server of each generation.

use openhands::process::SERVER_VERSION;
use openhands_tests::{
    BEFORE,
    conformance::{self, Outcome, Stage},
};

async fn all_work(version: &str) {
    let stage = Stage::start(version).await.unwrap();
    let mut tried = Vec::new();
    conformance::try_all(&stage, |name, outcome| tried.push((name, outcome))).await;
    let expected: Vec<_> = conformance::names()
        .map(|name| (name, Outcome::Works))
        .collect();
    assert_eq!(tried, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_capabilities_work_on_the_pinned_server() {
    all_work(SERVER_VERSION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_capabilities_work_on_a_server_without_the_session_socket() {
    all_work(BEFORE).await;
}

#[test]
fn the_table_of_versions_has_all_capabilities_and_the_pinned_server() {
    let table = include_str!("../../../docs/versions.md");
    for name in conformance::names() {
        assert!(table.contains(&format!("\n| {name} | ")), "{name}");
    }
    assert!(table.contains(SERVER_VERSION), "run `cargo xtask matrix`");
}
