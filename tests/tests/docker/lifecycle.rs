//! Start, confinement, pause, shutdown and attachment.

use std::time::Duration;

use openhands::{
    prelude::*,
    sandbox::{DockerServer, ErrorKind, Status, Volume, secrecy::ExposeSecret},
};

use tokio::time::timeout;

use openhands_tests::containers::{RUN_VARIABLE, builder, containers, docker, run};

use super::images::stand_in;

#[tokio::test]
async fn a_server_is_verified_confined_configured_and_removed() {
    let tag = "confined";
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("given"), "from outside").unwrap();
    let name = format!("oh-test-{}", run());
    let server = builder(tag)
        .env("PLAIN", "value")
        .forward_env(RUN_VARIABLE)
        .forward_env("OH_TEST_NOT_SET")
        .volume(Volume::bind(place.path().to_str().unwrap(), "/given").read_only(true))
        .publish(9000)
        .memory(1 << 30)
        .cpus(1.5)
        .pids(300)
        .ulimit("nofile", 1000, 2000)
        // Podman sets this limit as soon as another one is requested, to a high value.
        .ulimit("nproc", 3000, 4000)
        .name(&name)
        .user("10001:10001")
        .start()
        .await
        .unwrap();
    assert_eq!(containers(tag), [server.id()]);
    assert_eq!(server.info().version, openhands::process::SERVER_VERSION);
    assert!(server.url().as_str().starts_with("http://127.0.0.1:"));

    let command = "id -u; echo $PLAIN; echo $OPENHANDS_TEST_RUN ${OH_TEST_NOT_SET-unset}; cat /given/given; echo; ulimit -Sn; ulimit -Hn; \
        sed -n 's/^Max processes *\\([0-9]*\\).*/\\1/p' /proc/self/limits; \
        grep -E 'CapBnd|NoNewPrivs' /proc/self/status; touch /given/new";
    let shown = server.execute(command).await.unwrap();
    let lines: Vec<&str> = shown.stdout().lines().collect();
    let forwarded = format!("{} unset", std::env::var(RUN_VARIABLE).unwrap());
    let expected = [
        "10001",
        "value",
        &forwarded,
        "from outside",
        "1000",
        "2000",
        "3000",
    ];
    assert_eq!(lines[..7], expected);
    assert!(lines[7].ends_with("0000000000000000"), "{lines:?}");
    assert!(lines[8].ends_with('1'), "{lines:?}");
    assert!(!shown.success(), "the mount is read-only");
    let format =
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.Name}}";
    let shown = docker(&["inspect", "--format", format, server.id()]);
    let shown = shown.replace(&format!(" /{name}"), &format!(" {name}"));
    assert_eq!(shown, format!("1073741824 1500000000 300 {name}"));
    let extra = server.published(9000).expect("published");
    assert!(extra.ip().is_loopback());

    // The key is in nothing that the engine shows, and no longer in the container.
    let key = server.session_api_key().expose_secret().to_owned();
    assert!(!docker(&["inspect", server.id()]).contains(&key));
    let file = server.execute("cat /etc/openhands-rs/server.json").await;
    let file = file.unwrap().stdout().to_owned();
    assert!(file.contains("session_api_keys") && !file.contains(&key));
    let ports = docker(&["port", server.id()]);
    assert!(
        ports.lines().all(|line| line.contains("-> 127.0.0.1:")),
        "{ports}"
    );

    let taken = stand_in("taken").name(&name).start().await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict, "{taken}");
    assert_eq!(containers("taken"), [""; 0]);
    let mut logs = server.logs();
    let report = server.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(report.success(), "{report}");
    assert_eq!(containers(tag), [""; 0]);
    // The stream has what the server wrote at its end, and ends with it.
    let mut written = Vec::new();
    while let Some(line) = logs.next().await {
        written.push(line.message);
    }
    assert!(
        written.iter().any(|line| line.contains("shutdown")),
        "{written:?}"
    );
}

/// The tests `work` and `pool` pause a real server.
#[tokio::test]
async fn a_paused_server_answers_again_after_it_was_resumed() {
    let tag = "paused";
    let server = stand_in(tag).start().await.unwrap();
    let mut status = server.status();
    server.pause().await.unwrap();
    assert_eq!(status.current(), Status::Paused);
    let state = ["inspect", "--format", "{{.State.Status}}", server.id()];
    assert_eq!(docker(&state), "paused");
    server.pause().await.unwrap_err();
    server.resume().await.unwrap();
    assert_eq!(status.current(), Status::Ready);
    server.client().check().await.unwrap();

    // A paused server can be shut down in order.
    server.pause().await.unwrap();
    let report = server.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(report.success(), "{report}");
    let last = status
        .wait_for(|status| matches!(status, Status::Exited(_)))
        .await;
    assert!(last.is_some());
    assert_eq!(containers(tag), [""; 0]);
}

#[tokio::test]
async fn a_resumed_server_that_does_not_answer_is_reported_in_time() {
    let tag = "silent";
    let server = stand_in(tag).start().await.unwrap();
    let attach = DockerServer::attach(server.id(), server.session_api_key().clone());
    let attached = attach.ready_within(Duration::from_secs(10)).await.unwrap();
    let status = attached.status();
    docker(&["kill", "--signal", "STOP", server.id()]);
    attached.pause().await.unwrap();
    let resumed = timeout(Duration::from_secs(120), attached.resume()).await;
    let error = resumed.expect("an end").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    assert_eq!(status.current(), Status::Starting);

    docker(&["kill", "--signal", "CONT", server.id()]);
    server.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(containers(tag), [""; 0]);
}

/// The test `work` restarts a real server.
#[tokio::test]
async fn a_kept_container_is_found_again_running_paused_and_stopped() {
    let tag = "kept";
    let server = stand_in(tag).keep(true).start().await.unwrap();
    let (id, key) = (server.id().to_owned(), server.session_api_key().clone());
    drop(server);
    assert_eq!(containers(tag), [id.as_str()]);
    for state in ["running", "paused", "stopped"] {
        match state {
            "paused" => drop(docker(&["pause", &id])),
            "stopped" => drop(docker(&["stop", "--time", "10", &id])),
            _ => {}
        }
        let again = DockerServer::attach(id.as_str(), key.clone())
            .await
            .unwrap();
        assert_eq!(again.id(), id, "{state}");
        again.client().check().await.expect(state);
    }
    let wrong = "not-the-key-of-this-server";
    let error = DockerServer::attach(id.as_str(), wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(!error.to_string().contains(wrong), "{error}");
    let again = DockerServer::attach(id.as_str(), key).await.unwrap();
    again.remove(Duration::from_secs(5)).await.unwrap();
    assert_eq!(containers(tag), [""; 0]);
    let error = DockerServer::attach(id.as_str(), wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}
