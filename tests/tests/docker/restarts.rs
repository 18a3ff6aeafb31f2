//! Tests on a separate `dockerd`, because they restart, exhaust or prune their engine.

use std::{process::Command, time::Duration};

use openhands::{
    protocol::calls::server::GetServerInfo,
    sandbox::{DockerServer, Engine, ErrorKind, Leftover, OwnerState, Status},
};
use openhands_tests::containers::{eventually, output};

use super::{
    engines::Private,
    images::{import, import_stand_in},
    owners::{Owner, act, role},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_outlives_a_restart_of_its_engine() {
    let mut engine = Private::start(&["--live-restore"]);
    let image = import_stand_in(&|| engine.docker());
    let before = engine.contents();
    let server = engine.builder(&image).await.start().await.unwrap();
    engine.end();
    // The server does not need the engine.
    server
        .client()
        .call(&GetServerInfo::default())
        .await
        .unwrap();
    engine.begin();
    server
        .client()
        .call(&GetServerInfo::default())
        .await
        .unwrap();
    assert_eq!(server.status().current(), Status::Ready);
    // Pausing proves that the library reaches the new engine, and that the container is the same.
    server.pause().await.unwrap();
    server.resume().await.unwrap();
    let mut status = server.status();
    output(engine.docker().args(["kill", server.id()]));
    let exited = status.wait_for(|status| matches!(status, Status::Exited(_)));
    tokio::time::timeout(Duration::from_secs(60), exited)
        .await
        .unwrap();
    server.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(engine.contents(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_its_engine_stops_with_itself() {
    let mut engine = Private::start(&[]);
    let image = import_stand_in(&|| engine.docker());
    let before = engine.contents();
    let server = engine.builder(&image).await.start().await.unwrap();
    let mut status = server.status();
    engine.end();
    // Without the engine, the container cannot be removed.
    assert!(matches!(
        status.current(),
        Status::Ready | Status::Exited(_)
    ));
    engine.begin();
    let exited = status.wait_for(|status| matches!(status, Status::Exited(_)));
    tokio::time::timeout(Duration::from_secs(60), exited)
        .await
        .unwrap();
    server.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(engine.contents(), before);
}

#[test]
fn an_owner_that_is_killed_while_its_engine_is_down() {
    let test = "restarts::an_owner_that_is_killed_while_its_engine_is_down";
    if let Some(image) = role() {
        let builder = DockerServer::builder();
        return act(builder.image(image).network("host"), "kill");
    }
    let mut engine = Private::start(&["--live-restore"]);
    let image = import_stand_in(&|| engine.docker());
    let before = engine.contents();
    let owner = Owner::start_on(&engine.address(), test, &image).prints("OWNS");
    assert_eq!(engine.contents().len(), before.len() + 1);
    engine.end();
    let keepers = owner.kill_only();
    engine.begin();
    eventually("the end of the keepers", || !keepers.run());
    assert_eq!(engine.contents(), before);
}

#[test]
fn a_container_whose_keeper_was_killed_too_is_found_by_its_labels() {
    let test = "restarts::a_container_whose_keeper_was_killed_too_is_found_by_its_labels";
    if let Some(image) = role() {
        let builder = DockerServer::builder().image(image).network("host");
        // As after a power cut: no process of the owner is left.
        return act(builder.without_keeper(), "kill");
    }
    let private = Private::start(&[]);
    let image = import_stand_in(&|| private.docker());
    let before = private.contents();
    let owner = Owner::start_on(&private.address(), test, &image).prints("OWNS");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::at(&private.address()).await.unwrap();
        let other = private.builder(&image).await.start().await.unwrap();
        let states = |found: Vec<Leftover>| {
            let of = |mine| found.iter().find(|left| (left.id == other.id()) == mine);
            [of(true).unwrap().owner, of(false).unwrap().owner]
        };
        let found = engine.leftovers().await.unwrap();
        assert_eq!(states(found), [OwnerState::Running; 2]);
        owner.kill();
        let found = engine.leftovers().await.unwrap();
        assert_eq!(states(found), [OwnerState::Running, OwnerState::Ended]);
        // Only the container without an owner is removed.
        assert_eq!(engine.prune().await.unwrap().len(), 1);
        let left = engine.leftovers().await.unwrap();
        assert!(matches!(&left[..], [left] if left.id == other.id()));
        other.shutdown(Duration::ZERO).await.unwrap();
    });
    assert_eq!(private.contents(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_space() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    std::fs::create_dir(&data).unwrap();
    output(
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(&data),
    );
    let engine = Private::start_in(place, &[]);
    let image = import_stand_in(&|| engine.docker());
    let before = engine.contents();
    let fill = format!("of={}", data.join("fill").display());
    let filled = Command::new("dd")
        .args(["if=/dev/zero", &fill, "bs=64k"])
        .output();
    assert!(!filled.unwrap().status.success(), "the device is not full");
    let error = engine.builder(&image).await.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    std::fs::remove_file(data.join("fill")).unwrap();
    assert_eq!(engine.contents(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_ports() {
    // A separate network, so that the range of ports is the engine's own.
    let script = "ip link set lo up && \
        echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"";
    let wrapper = ["unshare", "--net", "sh", "-c", script, "sh"];
    let engine = Private::start_by(tempfile::tempdir().unwrap(), &wrapper, &[]);
    let image = import_stand_in(&|| engine.docker());
    let before = engine.contents();
    let builder = engine.builder(&image).await.network("bridge");
    let error = builder
        .publish(9000)
        .publish(9001)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken, "{error}");
    assert!(error.to_string().contains("ports"), "{error}");
    assert_eq!(engine.contents(), before);
}

#[tokio::test]
async fn an_image_without_a_server() {
    let engine = Private::start(&[]);
    let sleep = ["--change", r#"ENTRYPOINT ["/server", "0"]"#];
    let image = import(&|| engine.docker(), "sleep", "/bin/sleep", &sleep);
    let error = engine.builder(&image).await.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
}
