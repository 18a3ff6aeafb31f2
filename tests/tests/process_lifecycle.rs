//! A local server from start to end: ready, proven, private, and gone.

use std::time::Duration;

use openhands::{LocalServer, process::ErrorKind};

fn alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_server_starts_proves_itself_and_leaves_nothing() {
    let server = LocalServer::builder().start().await.unwrap();
    let (pid, state) = (server.pid(), server.state_dir().to_owned());
    assert_eq!(server.info().version, openhands::process::SERVER_VERSION);
    assert!(alive(pid) && state.exists());
    assert!(!server.log_tail().is_empty());

    let port = server.port();
    let error = LocalServer::builder().port(port).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken);
    assert!(error.to_string().contains(&port.to_string()), "{error}");

    let exit = server.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(!exit.killed, "{exit}");
    assert!(!alive(pid) && !state.exists());
}

#[tokio::test]
async fn a_dropped_server_is_gone_at_once() {
    let server = LocalServer::builder().start().await.unwrap();
    let (pid, state) = (server.pid(), server.state_dir().to_owned());
    drop(server);
    assert!(!alive(pid) && !state.exists());
}

#[tokio::test]
async fn a_server_that_dies_at_start_says_how_and_why() {
    let error = LocalServer::builder()
        .arg("--no-such-option")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Died);
    assert!(error.exit().unwrap().contains('2'), "{error}");
    assert!(error.to_string().contains("no-such-option"), "{error}");
}
