//! Tests of start requests whose response is lost: the client finds its command among the server's
//! many.

use std::{future::IntoFuture, time::Duration};

use oh_transport::WorkspaceHandle as _;
use oh_workspace::{ErrorKind, Workspace};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::shell::{Plan, Shell};

const START: &str = "/api/bash/start_bash_command";
const LONG: Duration = Duration::from_secs(60);

fn sent(server: &Shell, path: &str) -> Vec<Value> {
    let log = server.log().into_iter();
    let bodies = log.filter(|(at, _)| at.ends_with(path));
    bodies
        .map(|(_, body)| serde_json::from_str(&body).unwrap())
        .collect()
}

/// Returns the command as another client would have started it.
fn alike(workspace: &Workspace, line: &str) -> Value {
    json!({"kind": "BashCommand", "id": "another", "timestamp": "2026-01-01T00:00:00Z",
        "command": line, "cwd": workspace.working_dir(), "timeout": 300})
}

#[tokio::test]
async fn a_command_is_sent_unchanged_except_for_the_spelling_of_its_directory() {
    let server = Shell::new("dash").with_socket();
    let workspace = server.workspace();
    let output = workspace.execute("pwd").await.unwrap();
    let work = server.work().display().to_string();
    assert_eq!(output.stdout(), format!("{work}\n"));
    let started = &sent(&server, START)[0];
    assert_eq!(
        (&started["command"], &started["timeout"]),
        (&json!("pwd"), &json!(300))
    );
    assert_ne!(started["cwd"], json!(work));
    let cwd = std::fs::canonicalize(started["cwd"].as_str().unwrap()).unwrap();
    assert_eq!(cwd, std::fs::canonicalize(work).unwrap());
    // The server stores the marked directory; readers of the history do not see the mark.
    let error = workspace.execute("pwd").cwd("gone").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotStarted);
    assert!(!error.to_string().contains("/."), "{error}");
}

#[tokio::test]
async fn pitfall_18_a_lost_start_is_found_by_its_mark() {
    let server = Shell::new("dash").with_socket();
    server.plan(|path, _| match path == START {
        true => Plan::LoseAnswer,
        false => Plan::Serve,
    });
    let workspace = server.workspace();
    // Another client's command, identical except for the mark.
    let other = alike(&workspace, "sleep 0.1; echo ours");
    let telling = async {
        while sent(&server, START).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        server.tell(&other);
        std::future::pending::<()>().await
    };
    let error = tokio::select! {
        result = workspace.execute("sleep 0.1; echo ours").into_future() => result.unwrap_err(),
        () = telling => unreachable!("it has no end"),
    };
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let first = format!("{:032x}", 1);
    assert_eq!(error.command_id(), Some(&*first));
    // Never sent twice.
    assert_eq!(sent(&server, START).len(), 1);
}

#[tokio::test]
async fn the_command_of_another_client_is_not_adopted_and_not_stopped() {
    for dropped in [false, true] {
        let server = Shell::new("dash").with_socket();
        // The caller's request never arrives.
        server.plan(|path, _| match path == START {
            true => Plan::Vanish,
            false => Plan::Serve,
        });
        let workspace = server.workspace();
        let other = alike(&workspace, "sleep 300");
        let mut running = workspace.execute("sleep 300").into_future();
        let telling = async {
            while sent(&server, START).is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
            server.tell(&other);
        };
        if dropped {
            tokio::select! {
                biased;
                () = telling => {}
                _ = &mut running => panic!("it cannot end"),
            }
            drop(running);
            sleep(Duration::from_millis(500)).await;
        } else {
            let (result, ()) = tokio::join!(timeout(LONG, running), telling);
            let error = result.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Interrupted);
            assert_eq!(error.command_id(), None);
        }
        let stops = server.log().into_iter();
        let stops = stops.filter(|(path, _)| path.ends_with("/stop")).count();
        assert_eq!(stops, 0, "dropped: {dropped}");
    }
}

#[tokio::test]
async fn a_lost_and_dropped_start_is_stopped() {
    let server = Shell::new("dash").with_socket();
    server.plan(|path, _| match path == START {
        true => Plan::LoseAnswer,
        false => Plan::Serve,
    });
    let workspace = server.workspace();
    let mut running = workspace.execute("sleep 300").into_future();
    let begun = async {
        while sent(&server, START).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = begun => {}
        _ = &mut running => panic!("it cannot end"),
    }
    drop(running);
    let stopped = async {
        while !server.log().iter().any(|(path, _)| path.ends_with("/stop")) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, stopped).await.unwrap();
}
