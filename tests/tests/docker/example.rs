//! The example of the main job in a container, as a user runs it.

use std::process::Command;

use openhands_tests::containers::{docker, image};

#[test]
fn the_main_job_in_a_container_shows_a_denied_stop_and_leaves_nothing() {
    let program = std::env::var("OPENHANDS_TEST_EXAMPLE")
        .expect("run these tests with `cargo xtask containers`");
    let output = Command::new(program)
        .env("OPENHANDS_IMAGE", image())
        .env_remove("LLM_API_KEY")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}\n{errors}");
    for expected in [
        "SCRIPTED",
        "$ pwd: /workspace",
        "hook Stop `/hooks/pycompile_check.sh`: exit 2, blocked true",
        "does not compile",
        "exit 0, blocked false",
        "status finished",
        "cost $0.0054",
    ] {
        assert!(shown.contains(expected), "no `{expected}` in\n{shown}");
    }
    let (_, id) = shown
        .split_once("starting the server in container ")
        .unwrap();
    let id = id.lines().next().unwrap();
    let left = docker(&["ps", "--all", "--quiet", "--filter", &format!("id={id}")]);
    assert_eq!(left, "", "the example leaves its container");
}
