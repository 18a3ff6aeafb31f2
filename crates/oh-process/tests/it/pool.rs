//! Spares that wait, are activated and replaced, and servers that another program runs.

use std::time::Duration;

use super::common::{StandIn, children, eventually, parent, runs};
use oh_process::{AttachedServer, ErrorKind, RestartPolicy, Status, WarmPool};
use oh_transport::Client;

const GRACE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_spare_is_activated_with_separate_keys_and_replaced() {
    let stand_in = StandIn::new().await;
    let pool = WarmPool::start(2, stand_in.builder(""));
    eventually("two spares", || pool.ready() == 2).await;
    let first = pool.acquire().env("PROJECT", "one").await.unwrap();
    let second = pool.acquire().await.unwrap();
    assert_ne!(first.port(), second.port());
    assert_ne!(first.state_dir(), second.state_dir());
    // Each server accepts its own key and no other.
    AttachedServer::attach(first.client().clone())
        .await
        .unwrap();
    let key = second.session_api_key().clone();
    let wrong = Client::builder(first.url().as_str())
        .session_api_key(key)
        .build()
        .unwrap();
    let error = AttachedServer::attach(wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);

    eventually("refilled", || pool.ready() == 2).await;
    let before = stand_in.servers();
    let keepers: Vec<_> = before.iter().map(|pid| parent(*pid)).collect();
    let template = parent(parent(first.pid()));
    pool.shutdown().await;
    assert_eq!(before.len(), 4, "four servers");
    assert_eq!(stand_in.servers().len(), 2, "the acquired ones stay");
    assert!(first.shutdown(GRACE).await.unwrap().success());
    drop(second);
    assert!(stand_in.servers().is_empty());
    let left = || keepers.iter().chain([&template]).any(|pid| runs(*pid));
    eventually("keepers and template gone", || !left()).await;
}

#[tokio::test]
async fn spares_that_cannot_be_forked_are_started_cold_without_a_template() {
    let stand_in = StandIn::new().await;
    let me = std::process::id();
    let reads = stand_in.builder("").env("LC_TIME", "de_DE.UTF-8");
    for (builder, startup) in [
        (reads, "read when the server's modules are imported"),
        (stand_in.builder("").without_template(), "started cold"),
    ] {
        let pool = WarmPool::start(1, builder);
        eventually("a spare", || pool.ready() == 1).await;
        let server = pool.acquire().await.unwrap();
        let shown = server.startup().to_string();
        assert!(shown.contains(startup), "{shown}");
        // Keepers are then direct children of this process: one for each server, and no other
        // child.
        eventually("a spare again", || pool.ready() == 1).await;
        assert_eq!(parent(parent(server.pid())), me);
        assert_eq!(children(), 2);
        drop(server);
        pool.shutdown().await;
    }
    assert!(stand_in.servers().is_empty());
}

#[tokio::test]
async fn a_dead_spare_is_not_returned() {
    let stand_in = StandIn::new().await;
    let pool = WarmPool::start(1, stand_in.builder(""));
    eventually("a spare", || pool.ready() == 1).await;
    let spare = stand_in.servers();
    spare.iter().for_each(|pid| kill(*pid));
    // Its replacement may already be ready.
    let is_gone = |pid: &u32| !stand_in.servers().contains(pid);
    eventually("gone", || spare.iter().all(is_gone)).await;
    let server = pool.acquire().await.unwrap();
    assert!(!spare.contains(&server.pid()));
    AttachedServer::attach(server.client().clone())
        .await
        .unwrap();
    pool.shutdown().await;
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _gone_with_its_keeper = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[tokio::test]
async fn an_activated_server_that_restarts_is_active_again() {
    let stand_in = StandIn::new().await;
    let policy = RestartPolicy::on_failure(1).delays(Duration::from_millis(10), GRACE);
    let pool = WarmPool::start(1, stand_in.builder("").restart(policy));
    let server = pool.acquire().await.unwrap();
    let mut status = server.status();
    kill(server.pid());
    status
        .wait_for(|status| matches!(status, Status::Restarting { .. }))
        .await
        .unwrap();
    status
        .wait_for(|status| *status == Status::Ready)
        .await
        .unwrap();
    AttachedServer::attach(server.client().clone())
        .await
        .unwrap();
    pool.shutdown().await;
}

#[tokio::test]
async fn a_server_is_acquired_with_the_callers_keys_and_directories() {
    let stand_in = StandIn::new().await;
    let policy = RestartPolicy::on_failure(1).delays(Duration::from_millis(10), GRACE);
    let init = stand_in.directory.path().join("init.json");
    let spare = stand_in
        .builder(&format!("init:{}", init.display()))
        .restart(policy);
    let pool = WarmPool::start(1, spare);
    let place = stand_in.directory.path().join("mine");
    let server = pool
        .acquire()
        .session_api_key("the-callers-own-key")
        .secret_key("the-callers-secret")
        .conversations_dir(place.join("conversations"))
        .bash_events_dir(place.join("bash"))
        .worktree_root(place.join("trees"))
        .env("PROJECT", "one")
        .await
        .unwrap();
    assert!(place.join("trees").is_dir());
    let reported =
        || -> serde_json::Value { serde_json::from_slice(&std::fs::read(&init).unwrap()).unwrap() };
    let here = place.canonicalize().unwrap();
    let expected = serde_json::json!({
        "session_api_keys": ["the-callers-own-key"],
        "secret_key": "the-callers-secret",
        "conversations_path": here.join("conversations"),
        "bash_events_dir": here.join("bash"),
        "conversation_worktree_root": here.join("trees"),
        "env": {"PROJECT": "one"},
    });
    assert_eq!(reported(), expected);
    assert!(!format!("{server:?}").contains("the-callers"));
    let attach = |key: &str| {
        let client = Client::builder(server.url().as_str()).session_api_key(key);
        AttachedServer::attach(client.build().unwrap())
    };
    attach("the-callers-own-key").await.unwrap();
    AttachedServer::attach(server.client().clone())
        .await
        .unwrap();

    // A restart keeps the activation.
    std::fs::remove_file(&init).unwrap();
    let mut status = server.status();
    kill(server.pid());
    let restarting = |status: &Status| matches!(status, Status::Restarting { .. });
    status.wait_for(restarting).await.unwrap();
    status.wait_for(|now| *now == Status::Ready).await.unwrap();
    assert_eq!(reported(), expected);
    attach("the-callers-own-key").await.unwrap();
    pool.shutdown().await;
}

#[tokio::test]
async fn invalid_settings_use_no_spare() {
    let stand_in = StandIn::new().await;
    let pool = WarmPool::start(1, stand_in.builder(""));
    eventually("a spare", || pool.ready() == 1).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let inside = file.path().join("conversations");
    for (acquire, kind) in [
        (pool.acquire().session_api_key(" "), ErrorKind::InvalidInput),
        (
            pool.acquire().session_api_key("**********"),
            ErrorKind::InvalidInput,
        ),
        (pool.acquire().secret_key(""), ErrorKind::InvalidInput),
        (
            pool.acquire().env("OH_SECRET_KEY", "x"),
            ErrorKind::InvalidInput,
        ),
        (
            pool.acquire().env("SESSION_API_KEY", "x"),
            ErrorKind::InvalidInput,
        ),
        (
            pool.acquire().env("TMUX_TMPDIR", "/tmp"),
            ErrorKind::InvalidInput,
        ),
        (pool.acquire().conversations_dir(&inside), ErrorKind::Io),
    ] {
        let error = acquire.await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(pool.ready(), 1);
    }
    pool.shutdown().await;
}

#[tokio::test]
async fn a_pool_that_cannot_start_servers_reports_an_error() {
    let stand_in = StandIn::new().await;
    let pool = WarmPool::start(1, stand_in.builder("exit:5"));
    let error = pool.acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Died);
    let error = pool.acquire().env("A", "b\0c").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    pool.shutdown().await;
    assert!(stand_in.servers().is_empty());
}

#[tokio::test]
async fn a_past_failure_is_not_returned() {
    let stand_in = StandIn::new().await;
    let failed = stand_in.directory.path().join("failed");
    let mode = format!("fail-first:{}", failed.display());
    let pool = WarmPool::start(1, stand_in.builder(&mode));
    eventually("a first attempt that fails", || failed.exists()).await;
    eventually("and is over", || stand_in.servers().is_empty()).await;
    eventually("a spare nevertheless", || pool.ready() == 1).await;
    drop(pool.acquire().await.unwrap());
    pool.shutdown().await;
}

#[tokio::test]
async fn a_dead_spare_is_replaced_before_the_next_request() {
    let stand_in = StandIn::new().await;
    let pool = WarmPool::start(2, stand_in.builder(""));
    eventually("two spares", || pool.ready() == 2).await;
    let before = stand_in.servers();
    before.iter().for_each(|pid| kill(*pid));
    let replaced = || {
        let now = stand_in.servers();
        pool.ready() == 2 && now.iter().all(|pid| !before.contains(pid))
    };
    eventually("two others", replaced).await;
    pool.shutdown().await;
    assert!(stand_in.servers().is_empty());
}

#[tokio::test]
async fn pitfall_22_attaching_to_no_server_or_a_dormant_one_is_an_error() {
    let nobody = Client::builder("http://127.0.0.1:1").build().unwrap();
    let attach = AttachedServer::attach(nobody).ready_within(Duration::from_millis(200));
    let error = attach.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.to_string().contains("http://127.0.0.1:1/"), "{error}");

    let stand_in = StandIn::new().await;
    let server = stand_in
        .builder("")
        .deferred_init(true)
        .start()
        .await
        .unwrap();
    let error = AttachedServer::attach(server.client().clone())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("dormant"), "{error}");
    server.activate().await.unwrap();
    AttachedServer::attach(server.client().clone())
        .await
        .unwrap();
    server.activate().await.unwrap_err();
}
