//! The lifecycle of a stand-in server, repeated many times: status, restarts and cleanup.

use std::{fs, time::Duration};

use super::common::{StandIn, children, descriptors, eventually};
use oh_process::{ErrorKind, LogLevel, RestartPolicy, Status};
use oh_transport::Liveness;

const GRACE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn fifty_cycles_leave_no_process_no_descriptor_and_no_directory() {
    let stand_in = StandIn::new().await;
    // The first start creates the runtime's own descriptors, which stay open.
    stand_in
        .builder("")
        .start()
        .await
        .unwrap()
        .shutdown(GRACE)
        .await
        .unwrap();
    let before = (children(), descriptors());
    let mut directories = Vec::new();
    for cycle in 0..50 {
        let server = stand_in.builder("daemon").start().await.unwrap();
        directories.push(server.state_dir().to_owned());
        if cycle % 2 == 0 {
            let report = server.shutdown(GRACE).await.unwrap();
            assert_eq!(report.signal, Some(15));
            // The daemon and the sleeper, and sometimes the process that forked them and is about
            // to end.
            assert!((2..=3).contains(&report.left_behind), "{report:?}");
        } else {
            drop(server);
        }
        assert_eq!(stand_in.processes(), Vec::<u32>::new(), "cycle {cycle}");
    }
    assert!(directories.iter().all(|directory| !directory.exists()));
    // Sockets are closed by tasks that are still ending.
    eventually("as before", || (children(), descriptors()) == before).await;
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_with_its_children_after_the_grace_period() {
    let stand_in = StandIn::new().await;
    let server = stand_in.builder("stubborn").start().await.unwrap();
    assert!(stand_in.processes().len() >= 3);
    let report = server.shutdown(Duration::from_millis(300)).await.unwrap();
    assert!(report.killed && !report.success(), "{report:?}");
    assert_eq!(report.signal, Some(9));
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

#[test]
fn dropping_needs_no_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (stand_in, server) = runtime.block_on(async {
        let stand_in = StandIn::new().await;
        let server = stand_in.builder("daemon").start().await.unwrap();
        (stand_in, server)
    });
    drop(runtime);
    assert!(!stand_in.processes().is_empty());
    let state = server.state_dir().to_owned();
    drop(server);
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
    assert!(!state.exists());
    assert_eq!(children(), 0, "a zombie would still hold leases");
}

#[tokio::test]
async fn a_cancelled_start_and_a_cancelled_shutdown_leave_nothing() {
    let stand_in = StandIn::new().await;
    let start = stand_in.builder("silent").start();
    let started = tokio::time::timeout(Duration::from_millis(500), start).await;
    assert!(started.is_err());
    assert_eq!(stand_in.processes(), Vec::<u32>::new());

    let server = stand_in.builder("stubborn").start().await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_millis(200), server.shutdown(GRACE)).await;
    assert!(stopped.is_err());
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_crash_is_reported_and_final_without_a_restart_policy() {
    let stand_in = StandIn::new().await;
    let server = stand_in.builder("").start().await.unwrap();
    let mut status = server.status();
    kill(server.pid());
    let seen = status
        .wait_for(|status| matches!(status, Status::Exited(_)))
        .await;
    let Some(Status::Exited(report)) = seen else {
        panic!("{seen:?}")
    };
    assert_eq!(report.signal, Some(9));
    // A shutdown after the end still returns how the server ended.
    assert_eq!(server.shutdown(GRACE).await.unwrap().signal, Some(9));
}

#[tokio::test]
async fn waiters_are_notified_of_the_end_and_the_return_of_a_server() {
    let stand_in = StandIn::new().await;
    let policy = RestartPolicy::on_failure(1).delays(Duration::from_millis(50), GRACE);
    let server = stand_in.builder("").restart(policy).start().await.unwrap();
    let client = server.client().clone();
    let mut liveness = client.liveness();
    assert_eq!(*liveness.borrow(), Liveness::Ready);
    kill(server.pid());
    let restarting = liveness
        .wait_for(|known| *known == Liveness::Restarting)
        .await;
    drop(restarting.unwrap());
    drop(
        liveness
            .wait_for(|known| *known == Liveness::Ready)
            .await
            .unwrap(),
    );
    kill(server.pid());
    let gone = liveness
        .wait_for(|known| matches!(known, Liveness::Gone(_)))
        .await;
    let gone = gone.unwrap().clone();
    assert_eq!(gone, Liveness::Gone("killed by SIGKILL".into()));
    drop(server);
    assert_eq!(*client.liveness().borrow(), gone);

    let server = stand_in.builder("").start().await.unwrap();
    let client = server.client().clone();
    drop(server);
    assert!(matches!(*client.liveness().borrow(), Liveness::Gone(_)));
}

#[tokio::test]
async fn a_clean_exit_is_not_a_failure() {
    let stand_in = StandIn::new().await;
    let said = stand_in.directory.path().join("said");
    let server = stand_in
        .builder(&format!("graceful:{}", said.display()))
        .restart(RestartPolicy::on_failure(3))
        .start()
        .await
        .unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = |status: &Status| matches!(status, Status::Exited(_) | Status::Restarting { .. });
    let seen = server.status().wait_for(ended).await;
    assert!(matches!(seen, Some(Status::Exited(_))), "{seen:?}");
}

#[tokio::test]
async fn a_crashed_server_comes_back_on_its_port_with_its_keys_until_the_limit() {
    let stand_in = StandIn::new().await;
    let policy =
        RestartPolicy::on_failure(2).delays(Duration::from_millis(10), Duration::from_millis(20));
    let server = stand_in.builder("").restart(policy).start().await.unwrap();
    let (port, state) = (server.port(), server.state_dir().to_owned());
    let mut status = server.status();
    for _ in 0..2 {
        let pid = server.pid();
        kill(pid);
        status
            .wait_for(|status| matches!(status, Status::Restarting { .. }))
            .await
            .unwrap();
        status
            .wait_for(|status| *status == Status::Ready)
            .await
            .unwrap();
        assert_ne!(server.pid(), pid);
        assert_eq!((server.port(), server.state_dir()), (port, state.as_path()));
    }
    kill(server.pid());
    status
        .wait_for(|status| matches!(status, Status::Exited(_)))
        .await
        .unwrap();
    // The keeper holds the temporary state, which nothing else would remove.
    assert_eq!(stand_in.processes().len(), 1);
    drop(server);
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
    assert!(!state.exists());
}

#[tokio::test]
async fn pitfall_24_a_port_lost_while_starting_is_replaced_by_another() {
    let stand_in = StandIn::new().await;
    let lost = stand_in.directory.path().join("lost");
    let mode = format!("fail-once:{}", lost.display());
    let server = stand_in.builder(&mode).start().await.unwrap();
    assert!(lost.exists(), "the first attempt found its port taken");
    server.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn pitfall_23_a_state_directory_stays_with_its_keys_and_has_one_owner() {
    let stand_in = StandIn::new().await;
    let state = stand_in.directory.path().join("state");
    let server = stand_in
        .builder("")
        .state_dir(&state)
        .start()
        .await
        .unwrap();
    let error = stand_in
        .builder("")
        .state_dir(&state)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StateInUse);
    let key = fs::read_to_string(state.join("secret_key")).unwrap();
    server.shutdown(GRACE).await.unwrap();
    let server = stand_in
        .builder("")
        .state_dir(&state)
        .start()
        .await
        .unwrap();
    drop(server);
    assert_eq!(fs::read_to_string(state.join("secret_key")).unwrap(), key);
}

#[tokio::test]
async fn the_server_receives_its_directories_and_nothing_else() {
    let stand_in = StandIn::new().await;
    let file = stand_in.directory.path().join("seen.json");
    let server = stand_in
        .builder(&format!("environment:{}", file.display()))
        .env("MINE", "yes")
        .inherit_env("CARGO_MANIFEST_DIR")
        .start()
        .await
        .unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let env = |name: &str| seen["env"][name].as_str();
    assert_eq!((env("TZ"), env("MINE")), (Some("UTC"), Some("yes")));
    assert!(env("CARGO_MANIFEST_DIR").is_some());
    assert_eq!(env("CARGO_PKG_NAME"), None, "the parent's, and not allowed");
    for name in [
        "OH_CONVERSATIONS_PATH",
        "OH_PERSISTENCE_DIR",
        "OH_BASH_EVENTS_DIR",
        "TMUX_TMPDIR",
    ] {
        assert!(
            env(name)
                .unwrap()
                .starts_with(server.state_dir().to_str().unwrap()),
            "{name}"
        );
    }
    assert!(env("TMUX_TMPDIR").unwrap().len() <= 70);
    // An empty directory created for the start, in which no agent or project can place files.
    let cwd = std::path::Path::new(seen["cwd"].as_str().unwrap());
    assert_eq!(cwd.parent(), Some(server.state_dir()));
    assert_ne!(cwd, server.workspace_dir());
    assert_eq!(fs::read_dir(cwd).unwrap().count(), 0);
    let arguments = seen["argv"].to_string();
    assert!(
        arguments.starts_with(r#"["--host","127.0.0.1","--port","#),
        "{arguments}"
    );
}

#[tokio::test]
async fn the_server_receives_its_modules_and_their_directories() {
    let stand_in = StandIn::new().await;
    let place = stand_in.directory.path();
    let file = place.join("seen.json");
    let (one, other) = (place.join("one"), place.join("other one"));
    for directory in [&one, &other] {
        fs::create_dir(directory).unwrap();
    }
    let builder = stand_in.builder(&format!("environment:{}", file.display()));
    let start = builder
        .import_module("given.tools")
        .import_module("more")
        .python_path(&one)
        .python_path(&other);
    let server = start.start().await.unwrap();
    let argv = super::common::seen(&file)["argv"].clone();
    let argv: Vec<String> = serde_json::from_value(argv).unwrap();
    let value = |option: &str| {
        let at = argv.iter().position(|argument| argument == option);
        argv[at.unwrap() + 1].clone()
    };
    assert_eq!(value("--import-modules"), "given.tools,more");
    let (one, other) = (one.canonicalize(), other.canonicalize());
    let paths = format!("{}:{}", one.unwrap().display(), other.unwrap().display());
    assert_eq!(value("--extra-python-path"), paths);
    server.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn logs_reach_tail_and_stream_without_secrets() {
    let stand_in = StandIn::new().await;
    let policy = RestartPolicy::on_failure(1).delays(Duration::from_millis(200), GRACE);
    let server = stand_in
        .builder("tell")
        .secret_env("TOKEN", "sesame-open")
        .restart(policy)
        .start()
        .await
        .unwrap();
    let mut logs = server.logs();
    kill(server.pid());
    let line = loop {
        let line = logs.next().await.expect("what the second start writes");
        if line.logger.as_deref() == Some("telltale") {
            break line;
        }
    };
    assert_eq!(
        (line.level, line.message.as_str()),
        (LogLevel::Error, "key <redacted>")
    );
    let tail = server.log_tail().join("\n");
    assert!(tail.contains("plain <redacted> <redacted>"), "{tail}");
    assert!(!format!("{server:?}").contains("sesame"));
    server.shutdown(GRACE).await.unwrap();
    while logs.next().await.is_some() {}
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
