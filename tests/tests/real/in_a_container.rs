//! Scenes of this program with a server in a container: conversations through cuts, the scenarios
//! of the fake server, and approvals. They share one container, and see one directory at the same
//! path as the agents. `cargo xtask containers` runs them.

use std::fs;

use openhands::{protocol::calls::bash::ClearEvents, sandbox::DockerServer};
use openhands_tests::containers::{Shared, shared};

use super::{
    conversation_live::{
        live::{Place, events_survive},
        stage::{Stage, play_scenes},
    },
    testkit_conformance::agree::{APPROVALS, REST, RUNS, compare},
};

fn address(server: &DockerServer) -> std::net::SocketAddr {
    let addresses = server.url().socket_addrs(|| None).unwrap();
    addresses[0]
}

#[tokio::test]
async fn events_survive_cuts_on_the_way_to_a_container() {
    let Shared { server, place, .. } = shared();
    let directory = place.join("cuts");
    fs::create_dir(&directory).unwrap();
    let place = Place {
        address: address(server),
        key: server.session_api_key(),
        directory: directory.display().to_string(),
        state: None,
    };
    events_survive(server.client(), place).await;
}

async fn agree(scenarios: &[&str]) {
    let Shared { server, place, .. } = shared();
    compare(scenarios, server.client(), server.session_api_key(), place).await;
}

#[tokio::test]
async fn a_server_in_a_container_does_the_main_job_as_the_fake_one_does() {
    agree(&["the main job", "interrupting", "approval", "git"]).await;
}

#[tokio::test]
async fn soak_scenarios_agree_in_a_container() {
    agree(&RUNS).await;
    agree(&APPROVALS).await;
    // These scenarios begin with a server that has executed no command.
    let clear = ClearEvents::default();
    shared().server.client().call(&clear).await.unwrap();
    agree(&REST).await;
}

async fn scenes(name: &str, wanted: Option<&[&str]>) {
    let Shared { server, place, .. } = shared();
    let place = place.join(name);
    fs::create_dir(&place).unwrap();
    let key = server.session_api_key().clone();
    play_scenes(Stage::on(address(server), key, place), wanted).await;
}

#[tokio::test]
async fn nothing_is_executed_in_a_container_without_approval() {
    let wanted = [
        "a_run_after_a_pause",
        "stale_answers",
        "large_events_through_cuts",
    ];
    scenes("approvals", Some(&wanted)).await;
}

#[tokio::test]
async fn soak_all_scenes_in_a_container() {
    scenes("all", None).await;
}
