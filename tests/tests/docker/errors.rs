//! Starts that cannot succeed. Each has a typed error with its reason, and leaves nothing.

use std::time::Duration;

use openhands::{
    process::WarmPool,
    sandbox::{DockerServerBuilder, Engine, Error, ErrorKind, Volume},
};

use openhands_tests::containers::{builder, containers, is_podman};

use super::images::{derived, stand_in};

async fn fails(
    tag: &str,
    change: impl FnOnce(DockerServerBuilder) -> DockerServerBuilder,
) -> Error {
    let error = change(builder(tag))
        .start()
        .await
        .expect_err("cannot succeed");
    assert_eq!(containers(tag), [""; 0], "{error}");
    error
}

#[tokio::test]
async fn no_engine_at_an_address() {
    let error = Engine::at("unix:///nowhere/engine.sock").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoEngine, "{error}");
    // A port of this machine on which nothing listens.
    let error = Engine::at("tcp://127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoEngine, "{error}");
}

#[tokio::test]
async fn images_that_cannot_be_used() {
    let error = fails("no-image", |b| b.image("no-such-image:1")).await;
    assert_eq!(error.kind(), ErrorKind::NoImage, "{error}");
    assert!(error.to_string().contains("no-such-image:1"), "{error}");

    // The same system, but nothing that starts a server.
    let sleeps = derived("sleep", &[r#"ENTRYPOINT ["/bin/sleep"]"#]);
    let error = fails("sleep", |b| b.image(sleeps)).await;
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
    let missing = derived("missing", &[r#"ENTRYPOINT ["/no/such/program"]"#]);
    let error = fails("no-program", |b| b.image(missing)).await;
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");

    // Another program, which answers HTTP.
    let web = r#"ENTRYPOINT ["sh", "-c", "exec python3 -m http.server 8000 -d /tmp"]"#;
    let web = derived("web", &[web]);
    let error = fails("web", |b| b.image(web)).await;
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");

    // An agent server that is too old.
    let old = |b: DockerServerBuilder| b.env("STAND_IN_VERSION", "1.2.3");
    let error = old(stand_in("old")).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(containers("old"), [""; 0], "{error}");
}

/// The stand-in ends with the status 42 if it receives a secret although it accepts any.
#[tokio::test]
async fn images_whose_server_accepts_other_keys_than_its_own() {
    let not_an_agent_server = ErrorKind::NotAnAgentServer;
    for (keys, kind, part) in [
        ("any", not_an_agent_server, "accepts any session key"),
        ("other", ErrorKind::Unauthorized, "does not accept"),
    ] {
        let server = stand_in(keys).env("STAND_IN_KEYS", keys);
        let error = server.start().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{keys}: {error}");
        assert!(error.to_string().contains(part), "{keys}: {error}");
        assert_eq!(containers(keys), [""; 0], "{keys}");
    }
    for (keys, part) in [
        // Before the activation, and after it.
        ("any-init", "does not wait for its activation"),
        ("any-later", "accepts other keys"),
    ] {
        let pool = WarmPool::start(1, stand_in(keys).env("STAND_IN_KEYS", keys));
        let acquire = pool.acquire().session_api_key("the-callers-own-key");
        let error = acquire.await.unwrap_err();
        assert_eq!(error.kind(), not_an_agent_server, "{keys}: {error}");
        assert!(error.to_string().contains(part), "{keys}: {error}");
        pool.shutdown().await;
        assert_eq!(containers(keys), [""; 0], "{keys}");
    }
}

#[tokio::test]
async fn containers_that_cannot_be_created() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("missing").display().to_string();
    let error = fails("bind", |b| b.volume(Volume::bind(&*path, "/x"))).await;
    assert_eq!(error.kind(), ErrorKind::NoVolume, "{error}");
    assert!(error.to_string().contains(&path), "{error}");
    // Some engines create what is missing.
    assert!(!place.path().join("missing").exists());
    let error = fails("volume", |b| {
        b.volume(Volume::named("no-such-volume", "/x"))
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::NoVolume, "{error}");
    assert!(
        error.to_string().contains("docker volume create"),
        "{error}"
    );
    let error = fails("network", |b| b.network("no-such-network")).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let error = fails("user", |b| b.user("no-such-user")).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let error = fails("memory", |b| b.memory(1 << 20)).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let error = fails("gpu", |b| b.gpus(true)).await;
    assert_eq!(error.kind(), ErrorKind::NoGpu, "{error}");
}

#[tokio::test]
async fn servers_that_end_before_they_are_ready() {
    let error = fails("argument", |b| b.arg("--no-such-option")).await;
    assert_eq!(error.kind(), ErrorKind::Died, "{error}");
    assert_eq!(error.exit().unwrap().code, Some(2), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("--no-such-option"), "{shown}");

    let error = fails("oom", |b| b.memory(48 << 20)).await;
    match is_podman() {
        // Podman 4.3 reports the signal, but not that memory was the reason.
        true => assert_eq!(error.kind(), ErrorKind::Died, "{error}"),
        false => assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}"),
    }
    assert_ne!(error.exit().unwrap().out_of_memory, is_podman());
    assert!(error.to_string().contains("`memory`"), "{error}");

    let error = fails("late", |b| b.ready_within(Duration::from_millis(500))).await;
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    assert!(error.is_timeout());
}

#[tokio::test]
async fn limits_that_the_engine_refuses_are_left_out() {
    let tag = "limits";
    let (sender, steps) = std::sync::mpsc::channel();
    // Above what the kernel permits for any process.
    let server = stand_in(tag)
        .ulimit("nofile", 1 << 40, 1 << 40)
        .on_progress(move |step| _ = sender.send(step.to_string()))
        .start()
        .await
        .unwrap();
    assert_eq!(containers(tag), [server.id()]);
    server.shutdown(Duration::from_secs(5)).await.unwrap();
    let steps: Vec<String> = steps.try_iter().collect();
    let reported = |step: &String| step.contains("without the requested limits");
    assert!(steps.iter().any(reported), "{steps:?}");
    assert_eq!(containers(tag), [""; 0]);
}
