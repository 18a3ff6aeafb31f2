//! The lifecycle of the real server: ready, verified, private and cleaned up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{path::Path, time::Duration};

use openhands::{
    LocalServer,
    process::{ErrorKind, SERVER_VERSION, Status},
};

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_server_starts_works_and_leaves_nothing() {
    let server = LocalServer::builder().start().await.unwrap();
    let (pid, state) = (server.pid(), server.state_dir().to_owned());
    assert_eq!(server.info().version, SERVER_VERSION);
    assert_eq!(server.environment().server_version(), SERVER_VERSION);
    assert_eq!(server.status().current(), Status::Ready);
    assert!(alive(pid) && state.exists());
    assert!(!server.log_tail().is_empty());
    let mut status = server.status();

    let port = server.port();
    let error = LocalServer::builder().port(port).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken);
    assert!(error.to_string().contains(&port.to_string()), "{error}");

    let exit = server.shutdown(Duration::from_secs(30)).await.unwrap();
    assert!(exit.success() && !exit.killed, "{exit}");
    assert_eq!(exit.signal, Some(15));
    assert!(!alive(pid) && !state.exists());
    assert_eq!(status.changed().await, Some(Status::Exited(exit)));
}

#[tokio::test]
async fn a_dropped_server_is_gone_at_once() {
    let server = LocalServer::builder().start().await.unwrap();
    let (pid, state) = (server.pid(), server.state_dir().to_owned());
    drop(server);
    assert!(!alive(pid) && !state.exists());
}

#[tokio::test]
async fn a_server_that_dies_at_start_is_reported_with_exit_and_reason() {
    let error = LocalServer::builder()
        .arg("--no-such-option")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Died);
    assert_eq!(error.exit().and_then(|exit| exit.code), Some(2), "{error}");
    assert!(error.to_string().contains("no-such-option"), "{error}");
}
