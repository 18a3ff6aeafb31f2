//! Exact bytes: of commands, and of files that grow.

use std::{
    io::Write as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use oh_protocol::ConversationId;
use oh_workspace::{ErrorKind, LiveChunk, LiveOutput};
use serde_json::json;
use tokio::time::timeout;

use crate::shell::{Plan, Shell};

#[tokio::test]
async fn output_of_a_command_is_exact_and_leaves_nothing() {
    for shell in ["dash", "bash --posix"] {
        let server = Shell::new(shell);
        let workspace = server.workspace();
        let line =
            "printf '\\377\\0%s\\n' \"$TOKEN\"; yes ä | head -c 30000; echo err >&2; exit 3 #";
        let run = workspace.execute(line).secret_env("TOKEN", "canary");
        let output = run.bytes().await.unwrap();
        let mut expected = b"\xff\0canary\n".to_vec();
        expected.extend_from_slice("ä\n".repeat(10_000).as_bytes());
        assert!(output.stdout() == &expected, "{output:?}");
        assert_eq!(&output.stderr()[..], b"err\n");
        assert_eq!((output.exit_code(), output.success()), (Some(3), false));
        assert_eq!(output.command(), line);
        assert!(!format!("{output:?}").contains("canary"));
        assert!(server.left().is_empty(), "{:?}", server.left());
        // No output gives empty bytes, and a syntax error is reported on stderr.
        let output = workspace.execute("true").bytes().await.unwrap();
        assert!(output.success() && output.stdout().is_empty() && output.stderr().is_empty());
        let output = workspace.execute("echo 'open").bytes().await.unwrap();
        assert!(
            !output.success() && !output.stderr().is_empty(),
            "{output:?}"
        );
        // A background process does not delay the result.
        let run = workspace.execute("sleep 20 & echo begun").bytes();
        let output = timeout(Duration::from_secs(15), run)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&output.stdout()[..], b"begun\n");
        assert!(server.left().is_empty(), "{:?}", server.left());
        server.kill(output.id(), "KILL");
    }
}

#[tokio::test]
async fn output_and_secrets_of_a_conversation_in_a_container_stay_in_its_scope() {
    for shell in ["dash", "bash --posix"] {
        let server = Shell::new(shell);
        let info = json!({"version": "1.58.2", "conversation_runtime": "docker"});
        server.answer("/server_info", 200, &info);
        let id = ConversationId::random();
        let workspace = server.workspace().in_conversation(id);
        let run = || {
            let line = "git init -q; git status --porcelain -uall; printf '\\377%s' \"$TOKEN\"";
            workspace.execute(line).secret_env("TOKEN", "canary")
        };
        assert!(run().await.unwrap().stdout().ends_with("canary"));
        let output = run().bytes().await.unwrap();
        // The private directory is not among the changes of the agent.
        assert_eq!(&output.stdout()[..], b"\xffcanary");
        let mut live = run().live().await.unwrap();
        let mut seen = Vec::new();
        while let Some(chunk) = live.next().await {
            if let LiveChunk::Stdout(bytes) = chunk.unwrap() {
                seen.extend_from_slice(&bytes);
            }
        }
        assert_eq!(seen, b"\xffcanary");
        let names = std::fs::read_dir(server.work()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [".git"]);
        assert!(server.left().is_empty(), "{:?}", server.left());
        let own = format!("/api/conversations/{id}/");
        for (path, body) in server.log() {
            assert!(path == "/server_info" || path.starts_with(&own), "{path}");
            let uploaded = path.ends_with("/upload");
            assert!(uploaded || !body.contains("canary"), "{path} {body}");
        }
    }
}

#[tokio::test]
async fn exact_output_that_fails_or_is_dropped_leaves_nothing() {
    let server = Shell::new("dash");
    let workspace = server.workspace();
    let error = workspace.execute("true").cwd("gone").bytes().await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotStarted);
    assert!(server.left().is_empty(), "{:?}", server.left());
    server.plan(|path, _| match path.ends_with("/download") {
        true => Plan::Status(500),
        false => Plan::Serve,
    });
    let error = workspace.execute("echo x").bytes().await.unwrap_err();
    assert!(error.command_id().is_some(), "{error:?}");
    assert!(server.left().is_empty(), "{:?}", server.left());
    let dropped = timeout(
        Duration::from_millis(300),
        workspace.execute("sleep 300").bytes(),
    );
    assert!(dropped.await.is_err());
    let emptied = async {
        while !server.left().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), emptied).await.unwrap();
    // Rejected before anything is sent.
    let sent = server.log().len();
    let error = workspace.execute("").bytes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(server.log().len(), sent);
}

#[tokio::test]
async fn a_growing_file_is_read_as_a_snapshot_even_if_its_connection_breaks() {
    let server = Shell::new("dash");
    let workspace = server.workspace();
    let path = server.work().join("log");
    let before: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    std::fs::write(&path, &before).unwrap();
    // The file grows with each request, and two responses break.
    let grow = |cuts: u32| {
        let (asked, grows) = (AtomicU32::new(0), path.clone());
        move |at: &str, _: &str| {
            if !at.ends_with("/download") {
                return Plan::Serve;
            }
            let count = asked.fetch_add(1, Ordering::Relaxed);
            if count > 0 {
                let mut file = std::fs::OpenOptions::new();
                let mut file = file.append(true).open(&grows).unwrap();
                file.write_all(b"more").unwrap();
            }
            match count < cuts {
                true => Plan::Cut,
                false => Plan::Serve,
            }
        }
    };
    server.plan(grow(2));
    let download = workspace.download("log").growing();
    assert!(download.bytes().await.unwrap() == before);
    // Without the option this is a changed file, with and without a broken connection.
    for cuts in [0, 1] {
        server.plan(grow(cuts));
        let error = workspace.download("log").bytes().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed);
    }
}

#[tokio::test]
async fn a_shrinking_file_is_reported_as_changed_and_an_empty_file_is_empty() {
    let server = Shell::new("dash");
    let workspace = server.workspace();
    let path = server.work().join("log");
    for left in [0, 10_000, 60_000] {
        std::fs::write(&path, vec![1; 100_000]).unwrap();
        let (asked, shrinks) = (AtomicU32::new(0), path.clone());
        server.plan(move |_, _| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Plan::Cut,
            _ => {
                std::fs::write(&shrinks, vec![1; left]).unwrap();
                Plan::Serve
            }
        });
        let download = workspace.download("log").growing();
        let error = download.bytes().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed, "{left}: {error:?}");
    }
    server.plan(|_, _| Plan::Serve);
    std::fs::write(&path, "").unwrap();
    let download = workspace.download("log").growing();
    assert!(download.bytes().await.unwrap().is_empty());
    let download = workspace.download("gone").growing();
    let error = download.bytes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Returns the next piece, within the limit.
async fn next(output: &mut LiveOutput) -> LiveChunk {
    let next = timeout(Duration::from_secs(15), output.next());
    next.await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn output_arrives_while_the_command_runs() {
    let server = Shell::new("dash");
    let workspace = server.workspace();
    let line = "printf '\\377one\\n'; read _ <go; echo two >&2; yes | head -c 2500000; exit 3";
    let made = workspace.execute("mkfifo go").await.unwrap();
    assert!(made.success(), "{made:?}");
    let mut output = workspace.execute(line).live().await.unwrap();
    // The command waits for the next one, which nobody has started yet.
    let first = next(&mut output).await;
    assert_eq!(first, LiveChunk::Stdout(b"\xffone\n"[..].into()));
    workspace.execute("echo >go").await.unwrap();
    let (mut stdout, mut stderr) = (0, Vec::new());
    let end = loop {
        match next(&mut output).await {
            LiveChunk::Stdout(bytes) => {
                assert!(bytes.iter().all(|byte| b"y\n".contains(byte)));
                stdout += bytes.len();
            }
            LiveChunk::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            LiveChunk::Ended(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((stdout, &stderr[..]), (2_500_000, &b"two\n"[..]));
    assert_eq!(end.exit_code(), Some(3));
    assert!(output.next().await.is_none());
    assert!(server.left().is_empty(), "{:?}", server.left());
}

#[tokio::test]
async fn live_output_that_is_stopped_or_dropped_leaves_nothing() {
    let server = Shell::new("dash");
    let workspace = server.workspace();
    let mut output = workspace
        .execute("echo one; sleep 60")
        .live()
        .await
        .unwrap();
    assert_eq!(
        next(&mut output).await,
        LiveChunk::Stdout(b"one\n"[..].into())
    );
    output.stop().await.unwrap();
    let LiveChunk::Ended(end) = next(&mut output).await else {
        panic!("no end");
    };
    assert!(!end.success());
    assert!(server.left().is_empty(), "{:?}", server.left());
    let error = workspace.execute("true").cwd("gone").live().await;
    let error = match error {
        Ok(mut output) => timeout(Duration::from_secs(15), output.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::NotStarted);
    assert!(server.left().is_empty(), "{:?}", server.left());
    let mut output = workspace
        .execute("echo one; sleep 60")
        .live()
        .await
        .unwrap();
    next(&mut output).await;
    let stop = output.id().to_owned();
    let stopped = || {
        server
            .log()
            .iter()
            .any(|(path, _)| path.ends_with("/stop") && path.contains(&stop))
    };
    assert!(!stopped());
    drop(output);
    let ended = async {
        while !server.left().is_empty() || !stopped() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(15), ended).await.unwrap();
}
