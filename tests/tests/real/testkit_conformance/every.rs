//! Checks that a scenario covers each route of the fake server. Plays the scenarios on the fake
//! server alone and compares their requests with its routes.

use std::collections::BTreeSet;

use openhands::testkit::{FakeServer, fake::Seen};

use super::{
    agree::{APPROVALS, REST, RUNS, on_the_fake},
    raw,
};

/// The routes, one per line: the method, and the path with names in braces.
const ROUTES: &str = include_str!("../../../../crates/oh-testkit/src/fake/wire/routes.txt");

/// Routes that need the outside world. Another test compares them with the real server, behind a
/// stand-in of the outside world: `tests/real/admin` and the tests of `oh-admin` expect the same.
const ELSEWHERE: [&str; 1] = ["POST /api/llm/subscription/openai/device/start"];

fn fits(pattern: &str, seen: &Seen) -> bool {
    let Some((method, pattern)) = pattern.split_once(' ') else {
        return false;
    };
    let (mut wanted, mut parts) = (pattern.split('/'), seen.path.split('/'));
    if method != seen.method.as_str() {
        return false;
    }
    loop {
        match (wanted.next(), parts.next()) {
            (None, None) => return true,
            // This parameter matches the whole rest of the path.
            (Some("{file_path}"), Some(_)) => return true,
            (Some(name), Some(_)) if name.starts_with('{') => {}
            (Some(wanted), Some(part)) if wanted == part => {}
            _ => return false,
        }
    }
}

/// Returns whether a request asks for a route. `count` is not an id: a literal path belongs to its
/// own route.
fn asks(route: &str, seen: &Seen) -> bool {
    let own = format!("{} {}", seen.method, seen.path);
    fits(route, seen) && (own == route || !ROUTES.lines().any(|other| other == own))
}

/// Returns the routes that these requests ask for.
pub(super) fn routes_of(seen: &[Seen]) -> BTreeSet<&'static str> {
    let routes = ROUTES.lines();
    let asked = routes.filter(|route| seen.iter().any(|seen| asks(route, seen)));
    asked.collect()
}

/// Returns all routes of the real server, and whether the fake one has a response.
pub(super) async fn responses() -> Vec<(&'static str, bool)> {
    let fake = FakeServer::start().await.unwrap();
    let id = fake.create().id().to_string();
    let key = format!("X-Session-API-Key: {}\r\n", fake.session_api_key());
    let mut responses = Vec::new();
    for route in ROUTES.lines() {
        let (method, path) = route.split_once(' ').unwrap();
        let parts = path.split('/').map(|part| match part {
            "{conversation_id}" | "{runtime_conversation_id}" => id.as_str(),
            part if part.starts_with('{') => "x",
            part => part,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        let answer = raw::ask(&fake.url(), method, &path, &key, b"{}").await;
        responses.push((route, answer.status != 501));
    }
    responses
}

#[tokio::test]
async fn every_route_of_the_fake_is_compared() {
    // Concurrently, because most scenarios spend most of their time waiting.
    let mut playing = tokio::task::JoinSet::new();
    for name in RUNS.into_iter().chain(APPROVALS).chain(REST) {
        playing.spawn(on_the_fake(name));
    }
    let played = playing.join_all().await.into_iter();
    let seen: Vec<_> = played.flat_map(|(_, requests)| requests).collect();
    let asked = routes_of(&seen);
    let mut missing = BTreeSet::new();
    for (route, supported) in responses().await {
        if supported && !asked.contains(route) && !ELSEWHERE.contains(&route) {
            missing.insert(route);
        }
    }
    assert!(
        missing.is_empty(),
        "answered by the fake, asked by no scenario: {missing:#?}"
    );
}
