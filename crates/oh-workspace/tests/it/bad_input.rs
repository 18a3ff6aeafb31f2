//! Tests of invalid input and machine failures, one by one: each leads to a different kind of
//! error, and nothing is lost or half-written. The server's texts are those of real servers.

use std::{fs, io::Write as _, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Response};
use oh_protocol::calls::files;
use oh_testkit::{Fault, Mock};
use oh_transport::{
    Body, Client, Error, ErrorKind as Theirs, HttpTransport, Result, Socket, SocketTransport,
};
use oh_workspace::{ErrorKind, Workspace};
use serde_json::{Value, json};
use url::Url;

fn workspace(mock: &Mock) -> Workspace {
    Workspace::new(&mock.client(), "/w")
}

/// Returns the kind of error with which a command ends on a server without a socket.
async fn ended(line: &str, cwd: &str, last: Value) -> ErrorKind {
    let mock = Mock::new();
    mock.expect("POST", "/api/bash/start_bash_command").answer(
        200,
        json!({"id": "c1", "timestamp": "2026-01-01T00:00:00Z", "timeout": 300}),
    );
    mock.expect(
        "GET",
        "/api/bash/bash_events/search?kind__eq=BashOutput&limit=5&sort_order=TIMESTAMP\
         &command_id__eq=c1",
    )
    .answer(200, json!({"items": [last]}));
    let _socket = mock.expect_socket("/sockets/bash-events");
    let workspace = workspace(&mock);
    let error = workspace.execute(line).cwd(cwd).await.unwrap_err();
    assert_eq!(error.command_id(), Some("c1"));
    assert!(
        error.to_string().len() < 300,
        "{} bytes",
        error.to_string().len()
    );
    error.kind()
}

fn not_run(why: &str) -> Value {
    json!({"id": "o", "command_id": "c1", "order": 0, "exit_code": -1,
        "timestamp": "2026-01-01T00:00:00.1Z", "stderr": format!("Error executing command: {why}")})
}

#[tokio::test]
async fn a_relative_path_below_a_relative_directory_is_rejected() {
    let mock = Mock::new();
    let nowhere = Workspace::new(&mock.client(), "relative");
    let kinds = [
        nowhere.download("x").bytes().await.unwrap_err().kind(),
        nowhere.write("x", "y").await.unwrap_err().kind(),
        nowhere.create_directory("x").await.unwrap_err().kind(),
        nowhere.subdirectories("x").all().await.unwrap_err().kind(),
        nowhere.execute("x").await.unwrap_err().kind(),
        nowhere.git().changes().await.unwrap_err().kind(),
        nowhere.git().diff("x").await.unwrap_err().kind(),
        nowhere.directory("x").unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::InvalidInput; 8]);
    mock.verify().unwrap();
}

#[tokio::test]
async fn an_empty_path_is_rejected() {
    let mock = Mock::new();
    let workspace = workspace(&mock);
    let kinds = [
        workspace.download("").bytes().await.unwrap_err().kind(),
        workspace.write("", "y").await.unwrap_err().kind(),
        workspace.create_directory("").await.unwrap_err().kind(),
        workspace.execute("x").cwd("").await.unwrap_err().kind(),
        workspace.git().diff("").await.unwrap_err().kind(),
        workspace.directory("").unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::InvalidInput; 6]);
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_missing_file_is_reported() {
    let mock = Mock::new();
    mock.expect("GET", "/api/file/download?path=%2Fw%2Fx")
        .answer(404, json!({"detail": "File not found"}));
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("target");
    let error = workspace(&mock)
        .download("x")
        .to_path(&target)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::NotFound, Some("/w/x"))
    );
    assert_eq!(fs::read_dir(local.path()).unwrap().count(), 0);
    // On this side nothing is sent.
    let error = workspace(&mock)
        .upload("x")
        .from_path(&target)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_directory_in_place_of_a_file_is_reported() {
    let mock = Mock::new();
    mock.expect("GET", "/api/file/download?path=%2Fw%2Fd")
        .answer(400, json!({"detail": "Path is not a file"}));
    mock.expect("POST", "/api/file/upload?path=%2Fw%2Fd")
        .answer(400, json!({"detail": "Path is a directory"}));
    let workspace = workspace(&mock);
    let error = workspace.download("d").bytes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidPath);
    let error = workspace.write("d", "x").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::InvalidPath, Some("/w/d"))
    );
    let local = tempfile::tempdir().unwrap();
    let error = workspace
        .upload("x")
        .from_path(local.path())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_missing_permission_is_reported() {
    let mock = Mock::new();
    let words = "Failed to upload file: [Errno 13] Permission denied: '/closed/x'";
    mock.expect("POST", "/api/file/upload?path=%2Fclosed%2Fx")
        .answer(500, json!({"detail": words}));
    let words = "Failed to upload file: [Errno 30] Read-only file system: '/ro/x'";
    mock.expect("POST", "/api/file/upload?path=%2Fro%2Fx")
        .answer(500, json!({"detail": words}));
    for path in ["/closed/x", "/ro/x"] {
        let error = workspace(&mock).write(path, "x").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.path()),
            (ErrorKind::PermissionDenied, Some(path))
        );
    }
    mock.verify().unwrap();
}

/// A rejected request has the same name in this crate as in oh-transport, unless the server's text
/// says more.
#[tokio::test(start_paused = true)]
async fn a_rejection_has_the_kind_that_the_other_crates_use() {
    let dormant = "server is in deferred-init state 'dormant'; call POST /api/init first";
    let disabled = "VSCode is disabled in configuration. Set enable_vscode=true to enable.";
    let no_key = "Encryption not available: OH_SECRET_KEY is not configured.";
    let scope = "path must be inside the conversation workspace";
    for (status, detail, kind) in [
        (401, "Unauthorized", ErrorKind::Unauthorized),
        (403, "Forbidden", ErrorKind::Forbidden),
        (403, "", ErrorKind::Forbidden),
        (
            403,
            "Permission denied: [Errno 13] '/w/x'",
            ErrorKind::PermissionDenied,
        ),
        (404, "File not found", ErrorKind::NotFound),
        // The server has no such endpoint.
        (404, "Not Found", ErrorKind::Unsupported),
        (409, "deletion is already in progress", ErrorKind::Conflict),
        (422, "invalid", ErrorKind::Validation),
        (422, scope, ErrorKind::OutsideWorkspace),
        (429, "too many runs", ErrorKind::RateLimited),
        (500, "Internal Server Error", ErrorKind::Server),
        (
            500,
            "[Errno 28] No space left on device",
            ErrorKind::NoSpace,
        ),
        (502, "Bad Gateway", ErrorKind::Server),
        (
            503,
            "Profile store is busy. Please retry.",
            ErrorKind::Server,
        ),
        (503, dormant, ErrorKind::Server),
        (503, disabled, ErrorKind::Unsupported),
        (503, no_key, ErrorKind::Unsupported),
        (504, "", ErrorKind::Server),
        (418, "", ErrorKind::Status),
    ] {
        let mock = Mock::new();
        mock.expect("POST", "/api/file/upload?path=%2Fw%2Fx")
            .answer(status, json!({"detail": detail}));
        let error = workspace(&mock).write("x", "y").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {detail}");
        let theirs = error.transport_error().unwrap();
        assert_eq!(theirs.status().unwrap().as_u16(), status);
        mock.verify().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_kind_is_not_an_agent_server() {
    let mock = Mock::new();
    mock.expect("GET", "/server_info")
        .answer_bytes(200, "<html></html>");
    let error = workspace(&mock).server_info().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error:?}");
}

/// A gateway's login page must not be taken for a file, an archive, or the end of an upload.
#[tokio::test]
async fn a_web_page_is_neither_a_file_nor_a_success() {
    let server = oh_testkit::FakeServer::builder()
        .open()
        .start()
        .await
        .unwrap();
    server.inject(Fault::html(200));
    let client = Client::builder(server.url()).build().unwrap();
    let workspace = Workspace::new(&client, "/w");
    let place = tempfile::tempdir().unwrap();
    let local = place.path().join("file");
    let trajectory = oh_protocol::ConversationId::random();
    for error in [
        workspace.download("a").bytes().await.unwrap_err(),
        workspace.download("a").growing().bytes().await.unwrap_err(),
        workspace.download("a").to_path(&local).await.unwrap_err(),
        workspace.trajectory(trajectory).bytes().await.unwrap_err(),
        workspace.write("a", "b").await.unwrap_err(),
        workspace.create_directory("a").await.unwrap_err(),
        workspace.execute("true").await.unwrap_err(),
        workspace.git().changes().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
    }
    assert!(!local.exists());
}

#[tokio::test]
async fn a_full_disk_of_the_client_is_reported() {
    let mock = Mock::new();
    mock.expect("GET", "/api/file/download?path=%2Fw%2Fx")
        .answer_bytes(200, vec![1; 1 << 20]);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let error = workspace(&mock)
        .download("x")
        .to_writer(full)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    let source = std::error::Error::source(&error).unwrap();
    let source = source.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
}

/// Reads uploads to their end, and reports the number of bytes plus this offset.
#[derive(Debug)]
struct Taker(u64);

#[async_trait]
impl HttpTransport for Taker {
    async fn send(&self, request: http::Request<Body>) -> Result<Response<Body>> {
        let mut body = request.into_body();
        let mut taken = 0;
        while let Some(chunk) = body.next().await {
            // The announced length does not arrive: a server writes nothing in that case.
            let cut = |_| Error::new(Theirs::Interrupted, "the body broke off");
            taken += chunk.map_err(cut)?.len() as u64;
        }
        let parts = files::Upload::new("/x", Bytes::new()).parts()?;
        let framing = (parts.before.len() + parts.after.len()) as u64;
        let answer = json!({"success": true, "file_size": taken - framing + self.0});
        Ok(Response::new(Body::from(Bytes::from(answer.to_string()))))
    }
}

#[async_trait]
impl SocketTransport for Taker {
    async fn connect(&self, _: &Url, _: &HeaderMap) -> Result<Socket> {
        Err(Error::new(Theirs::Connect, "no socket"))
    }
}

fn taker(more: u64) -> Workspace {
    let client = Client::builder("http://server.test")
        .http_transport(Taker(more))
        .socket_transport(Taker(more))
        .build();
    Workspace::new(&client.unwrap(), "/w")
}

#[tokio::test]
async fn a_file_that_changes_during_the_upload_is_reported() {
    let local = tempfile::tempdir().unwrap();
    let source = local.path().join("log");
    for change in ["nothing", "grows", "shrinks", "is rewritten"] {
        fs::write(&source, vec![1; 3 << 20]).unwrap();
        let (path, mut changed) = (source.clone(), false);
        let workspace = taker(0);
        let upload = workspace.upload("x").progress(move |_| {
            if !std::mem::replace(&mut changed, true) {
                let file = fs::OpenOptions::new()
                    .append(change == "grows")
                    .write(true)
                    .open(&path);
                let mut file = file.unwrap();
                match change {
                    "nothing" => {}
                    "shrinks" => file.set_len(2 << 20).unwrap(),
                    _ => file.write_all(b"other").unwrap(),
                }
            }
        });
        let sent = upload
            .from_path(&source)
            .await
            .map_err(|error| error.kind());
        let expected = match change {
            "nothing" => Ok(3 << 20),
            _ => Err(ErrorKind::Changed),
        };
        assert_eq!(sent, expected, "{change}");
    }
}

#[tokio::test]
async fn a_different_written_size_is_reported() {
    let error = taker(1).write("x", vec![1; 700_000]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.to_string().contains("700001 of 700000"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_during_a_transfer_is_reported() {
    let mock = Mock::new();
    mock.expect("POST", "/api/file/upload?path=%2Fw%2Fx")
        .fail(Theirs::Interrupted);
    let error = workspace(&mock).write("x", "y").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::Interrupted, Some("/w/x"))
    );
    for _ in 0..6 {
        mock.expect("GET", "/api/file/download?path=%2Fw%2Fx")
            .fail(Theirs::Interrupted);
    }
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("target");
    let error = workspace(&mock)
        .download("x")
        .to_path(&target)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::Interrupted, Some("/w/x"))
    );
    assert_eq!(fs::read_dir(local.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_directory_without_a_repository_is_reported() {
    for (exit, kind) in [
        (4, Some(ErrorKind::NotARepository)),
        (3, Some(ErrorKind::Unsupported)),
        (0, None),
    ] {
        let mock = Mock::new();
        mock.expect("GET", "/api/git/changes?path=%2Fw")
            .answer(200, json!([]));
        mock.expect("POST", "/api/bash/start_bash_command")
            .answer(200, json!({"id": "c1", "timeout": 300}));
        let last = json!({"id": "o", "command_id": "c1", "exit_code": exit,
            "stderr": "fatal: not a git repository"});
        mock.expect(
            "GET",
            "/api/bash/bash_events/search?kind__eq=BashOutput&limit=5&sort_order=TIMESTAMP\
             &command_id__eq=c1",
        )
        .answer(200, json!({"items": [last]}));
        let _socket = mock.expect_socket("/sockets/bash-events");
        let changes = workspace(&mock).git().changes().await;
        assert_eq!(changes.err().map(|error| error.kind()), kind, "{exit}");
    }
}

#[tokio::test]
async fn an_unknown_ref_is_reported() {
    let mock = Mock::new();
    let words = "Git command failed: git --no-pager rev-parse --verify 'none^{commit}'";
    mock.expect("GET", "/api/git/changes?path=%2Fw&ref=none")
        .answer(400, json!({"detail": words}));
    let error = workspace(&mock)
        .git()
        .changes_against("none")
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::UnknownRef, Some("/w"))
    );
    mock.expect("GET", "/api/git/diff?path=%2Fw%2Fx&ref=none")
        .answer(400, json!({"detail": "File does not exist: /w/x"}));
    let error = workspace(&mock)
        .git()
        .diff_against("x", "none")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Git);
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_command_with_a_nul_is_rejected() {
    let mock = Mock::new();
    let workspace = workspace(&mock);
    let kinds = [
        workspace.execute("a\0b").await.unwrap_err().kind(),
        workspace
            .execute("a")
            .env("A", "b\0")
            .await
            .unwrap_err()
            .kind(),
        workspace.execute("a").cwd("/b\0").await.unwrap_err().kind(),
        workspace.execute("a\0b").start().await.unwrap_err().kind(),
        workspace.execute("a\0b").stream().await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::InvalidInput; 5]);
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_command_line_of_ten_megabytes_is_rejected() {
    let line = "x".repeat(10 << 20);
    let last = not_run("[Errno 7] Argument list too long: '/bin/sh'");
    assert_eq!(ended(&line, ".", last).await, ErrorKind::NotStarted);
}

/// A negative timeout does not compile: see `Execute::timeout`.
#[tokio::test]
async fn a_timeout_of_zero_is_rejected() {
    let mock = Mock::new();
    let workspace = workspace(&mock);
    let run = workspace.execute("x").timeout(Duration::ZERO);
    assert_eq!(run.await.unwrap_err().kind(), ErrorKind::InvalidInput);
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_missing_directory_to_run_in_is_reported() {
    let last = not_run("[Errno 2] No such file or directory: '/none'");
    assert_eq!(ended("x", "/none", last).await, ErrorKind::NotStarted);
}

/// Stopping a command that has ended is not an error, even if the server no longer has it.
#[tokio::test]
async fn a_stop_of_an_ended_command_succeeds() {
    let mock = Mock::new();
    mock.expect("GET", "/api/bash/bash_events/c1")
        .answer(200, json!({"kind": "BashCommand", "id": "c1"}));
    mock.expect("POST", "/api/bash/bash_commands/c1/stop")
        .answer(404, json!({"detail": "Not Found"}));
    let command = workspace(&mock).command("c1").await.unwrap();
    command.stop().await.unwrap();
    mock.verify().unwrap();
}
