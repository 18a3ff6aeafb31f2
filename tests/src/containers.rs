//! The container engine under test, and its containers of this run. The contents of the engine are
//! observed with its own command, not with the library under test.

use std::{
    future,
    path::PathBuf,
    process::Command,
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use openhands::sandbox::{DockerServer, DockerServerBuilder, Pull, Volume};

/// Label with the name of a test.
const LABEL: &str = "oh-test";
/// Label with the run of the tests, because other runs may use the same engine.
const RUN: &str = "oh-test-run";
/// Variable with the value of the label `oh-test-run`, also for owners that a test starts.
pub const RUN_VARIABLE: &str = "OPENHANDS_TEST_RUN";

/// Returns the image under test.
///
/// # Panics
///
/// Panics if the variable that names it is not set.
#[must_use]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub fn image() -> String {
    std::env::var("OPENHANDS_TEST_IMAGE").expect(
        "set OPENHANDS_TEST_IMAGE and DOCKER_HOST, or run these tests with `cargo xtask containers`",
    )
}

/// Returns the name of this run of the tests.
pub fn run() -> String {
    std::env::var(RUN_VARIABLE).unwrap_or_else(|_| format!("run-{}", std::process::id()))
}

/// Returns a builder for a server that this test owns.
pub fn builder(tag: &str) -> DockerServerBuilder {
    DockerServer::builder()
        .image(image())
        .pull(Pull::Never)
        .label(LABEL, tag)
        .label(RUN, run())
}

/// Returns whether the engine is Podman.
#[must_use]
pub fn is_podman() -> bool {
    let names = "{{range .Server.Components}}{{.Name}} {{end}}";
    docker(&["version", "--format", names]).contains("Podman")
}

/// Returns the output of the engine's command.
///
/// # Panics
///
/// Panics if the command fails.
pub fn docker(arguments: &[&str]) -> String {
    output(Command::new("docker").args(arguments))
}

/// Returns the output of a command.
///
/// # Panics
///
/// Panics if the command fails.
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub fn output(command: &mut Command) -> String {
    let output = command.output().expect("a program");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Returns the ids of the containers of a test, in any state.
#[must_use]
pub fn containers(tag: &str) -> Vec<String> {
    let [tag, run] = [
        format!("label={LABEL}={tag}"),
        format!("label={RUN}={}", run()),
    ];
    let list = ["ps", "--all", "--quiet", "--no-trunc", "--filter"];
    let listed = docker(&[&list[..], &[&tag, "--filter", &run]].concat());
    listed.lines().map(str::to_owned).collect()
}

/// Waits until `done` returns true.
///
/// # Panics
///
/// Panics after a minute.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A server in a container that the tests of a process share.
#[derive(Debug)]
#[non_exhaustive]
pub struct Shared {
    /// The server. No test pauses or stops it.
    pub server: DockerServer,
    /// A directory that the container sees at the same path, and may write to.
    pub place: PathBuf,
    /// The steps of its start.
    pub progress: Vec<String>,
}

/// Returns the server that the tests of this process share. It shares the network of the machine,
/// because scripted models listen on loopback. The keeper removes it after the end of the process.
///
/// # Panics
///
/// Panics if the server cannot be started.
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        // A separate runtime, because the runtime of a test ends with that test.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                if sender.send(start().await).is_ok() {
                    future::pending::<()>().await;
                }
            });
        });
        receiver.recv().expect("a server; see the panic above")
    })
}

#[allow(clippy::expect_used, reason = "a test fails by panicking")]
async fn start() -> Shared {
    let place = std::env::temp_dir().join(format!("oh-shared-{}", std::process::id()));
    let state = place.join("state");
    std::fs::create_dir_all(&state).expect("a directory");
    let user = output(Command::new("id").arg("--user"));
    let path = place.display().to_string();
    let (sender, progress) = mpsc::channel();
    let server = builder("shared")
        .network("host")
        .user(format!("{user}:{user}"))
        .env("HOME", &*path)
        .volume(Volume::bind(&path, &path))
        // The server keeps its conversations here.
        .volume(Volume::bind(state.display().to_string(), "/workspace"))
        .on_progress(move |step| _ = sender.send(step.to_string()))
        .start()
        .await
        .expect("a server in a container");
    Shared {
        server,
        progress: progress.try_iter().collect(),
        place,
    }
}
