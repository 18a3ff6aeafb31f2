//! The engine under test, and what it contains.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use openhands::sandbox::{DockerServer, DockerServerBuilder, Pull};

/// Label of the containers of one test.
pub(crate) const LABEL: &str = "oh-test";

/// Returns the image under test.
pub(crate) fn image() -> String {
    std::env::var("OPENHANDS_TEST_IMAGE").expect(
        "set OPENHANDS_TEST_IMAGE and DOCKER_HOST, or run these tests with `cargo xtask test \
         --docker`",
    )
}

/// Returns a builder for a server that this test owns.
pub(crate) fn builder(tag: &str) -> DockerServerBuilder {
    DockerServer::builder()
        .image(image())
        .pull(Pull::Never)
        .label(LABEL, tag)
}

/// Returns the output of the engine's command.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Returns the ids of the containers of a test, in any state.
pub(crate) fn containers(tag: &str) -> Vec<String> {
    let filter = format!("label={LABEL}={tag}");
    let listed = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
    listed.lines().map(str::to_owned).collect()
}

/// Returns the number of volumes and networks.
pub(crate) fn others() -> (usize, usize) {
    let count = |what: &str| docker(&[what, "ls", "--quiet"]).lines().count();
    (count("volume"), count("network"))
}

/// Waits until `done` returns true. Panics after a minute.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
