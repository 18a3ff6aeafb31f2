//! Following a command when socket and REST disagree: every frame and response is scripted.

use std::{future::IntoFuture, time::Duration};

use oh_testkit::Mock;
use oh_transport::SocketPeer;
use oh_workspace::{CommandOutput, ErrorKind, Result, Workspace};
use serde_json::{Value, json};
use tokio::time::timeout;

const SOCKET: &str = "/sockets/bash-events";
const START: &str = "/api/bash/start_bash_command";

fn workspace(mock: &Mock) -> Workspace {
    Workspace::new(&mock.client(), "/w")
}

fn command(line: &str) -> Value {
    json!({"kind": "BashCommand", "id": "c1", "timestamp": "2026-01-01T00:00:00Z", "command": line,
        "cwd": "/w", "timeout": 300})
}

fn piece(order: i64, text: &str, exit: Option<i32>) -> Value {
    json!({"kind": "BashOutput", "id": format!("o{order}{text}"), "command_id": "c1", "order": order,
        "timestamp": "2026-01-01T00:00:01Z", "stdout": text, "exit_code": exit})
}

fn search(after: Option<i64>) -> String {
    let after = after
        .map(|order| format!("&order__gt={order}"))
        .unwrap_or_default();
    format!(
        "/api/bash/bash_events/search?kind__eq=BashOutput&limit=5&sort_order=TIMESTAMP\
         &command_id__eq=c1{after}"
    )
}

fn page(items: &[Value]) -> Value {
    json!({"items": items, "next_page_id": null})
}

/// Runs a command whose socket sends these frames as soon as it is open.
async fn reported(mock: &Mock, frames: &[Value]) -> (Result<CommandOutput>, SocketPeer) {
    let workspace = workspace(mock);
    let expected = mock.expect_socket(SOCKET);
    let running = tokio::spawn(async move { workspace.execute("x").await });
    let socket = expected.accept().await.unwrap();
    for frame in frames {
        socket.text(frame.to_string()).await.unwrap();
    }
    let output = timeout(Duration::from_secs(600), running).await.unwrap();
    (output.unwrap(), socket)
}

#[tokio::test(start_paused = true)]
async fn pitfall_18_a_result_needs_no_poll() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    let frames = [command("x"), piece(0, "a", None), piece(1, "b", Some(0))];
    let (output, _socket) = reported(&mock, &frames).await;
    let output = output.unwrap();
    assert_eq!((output.stdout(), output.exit_code()), ("ab", Some(0)));
    assert_eq!(output.duration(), Duration::from_secs(1));
    mock.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_piece_missing_from_the_socket_is_fetched() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    let all = [
        piece(0, "a", None),
        piece(1, "b", None),
        piece(2, "c", Some(0)),
    ];
    mock.expect("GET", search(None)).answer(200, page(&all));
    let (output, _socket) = reported(&mock, &[command("x"), all[0].clone(), all[2].clone()]).await;
    assert_eq!(output.unwrap().stdout(), "abc");
    mock.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_piece_sent_twice_counts_once() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    let (first, last) = (piece(0, "a", None), piece(1, "b", Some(0)));
    let frames = [command("x"), first.clone(), first, last];
    let (output, _socket) = reported(&mock, &frames).await;
    assert_eq!(output.unwrap().stdout(), "ab");
    mock.verify().unwrap();
}

/// Output written to stdout and stderr at the same time can get the same order number.
#[tokio::test(start_paused = true)]
async fn pieces_with_one_position_are_all_kept() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    let frames = [
        command("x"),
        piece(0, "a", None),
        piece(0, "b", None),
        piece(2, "c", Some(0)),
    ];
    let (output, _socket) = reported(&mock, &frames).await;
    assert_eq!(output.unwrap().stdout(), "abc");
    mock.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn frames_of_other_commands_and_newer_servers_are_harmless() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    let other = json!({"kind": "BashOutput", "id": "z", "command_id": "c2", "order": 0,
        "exit_code": 9, "stdout": "other"});
    let frames = [
        other,
        json!({"kind": "BashPaused", "command_id": "c1"}),
        json!(["no", "object"]),
        json!({"kind": "BashOutput", "order": "no number"}),
        command("x"),
        piece(0, "mine", Some(0)),
    ];
    let (output, _socket) = reported(&mock, &frames).await;
    assert_eq!(output.unwrap().stdout(), "mine");
    mock.verify().unwrap();
}

/// A socket may be open before the server listens to its subscription.
#[tokio::test(start_paused = true)]
async fn a_socket_without_events_of_the_command_is_not_trusted() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    mock.expect("GET", search(None)).answer(200, page(&[]));
    mock.expect("GET", search(None))
        .answer(200, page(&[piece(0, "a", Some(0))]));
    let begun = tokio::time::Instant::now();
    let (output, _socket) = reported(&mock, &[]).await;
    assert_eq!(output.unwrap().stdout(), "a");
    assert!(
        begun.elapsed() <= Duration::from_millis(50),
        "{:?}",
        begun.elapsed()
    );
    mock.verify().unwrap();
}

/// A timeout may overtake a piece in flight, so its end does not prove that the output is complete.
#[tokio::test(start_paused = true)]
async fn a_timeout_is_confirmed_before_it_is_reported() {
    let mock = Mock::new();
    let mut started = command("x");
    started["timeout"] = json!(1);
    mock.expect("POST", START).answer(200, started);
    let all = [piece(0, "a", None), piece(0, "b", Some(-1))];
    mock.expect("GET", search(None)).answer(200, page(&all));
    let workspace = workspace(&mock);
    let expected = mock.expect_socket(SOCKET);
    let running =
        tokio::spawn(async move { workspace.execute("x").timeout(Duration::from_secs(1)).await });
    let socket = expected.accept().await.unwrap();
    for frame in [command("x"), all[1].clone()] {
        socket.text(frame.to_string()).await.unwrap();
    }
    let output = running.await.unwrap().unwrap();
    assert_eq!(
        (output.stdout(), output.timed_out(), output.exit_code()),
        ("ab", true, None)
    );
    mock.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn output_removed_from_the_history_is_reported() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    mock.expect("GET", search(None)).answer(200, page(&[]));
    let (output, _socket) = reported(&mock, &[command("x"), piece(3, "d", Some(0))]).await;
    let error = output.unwrap_err();
    assert_eq!(
        (error.kind(), error.command_id()),
        (ErrorKind::OutputLost, Some("c1"))
    );
    mock.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fraction_of_a_second_is_enforced_by_stopping_in_time() {
    let mock = Mock::new();
    let mut started = command("x");
    started["timeout"] = json!(1);
    mock.expect("POST", START).answer(200, started);
    mock.expect("POST", "/api/bash/bash_commands/c1/stop");
    let workspace = workspace(&mock);
    let expected = mock.expect_socket(SOCKET);
    let running = tokio::spawn(async move {
        workspace
            .execute("x")
            .timeout(Duration::from_millis(500))
            .await
    });
    let socket = expected.accept().await.unwrap();
    socket.text(command("x").to_string()).await.unwrap();
    let begun = tokio::time::Instant::now();
    while mock.verify().is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "never stopped");
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(495),
        "{:?}",
        begun.elapsed()
    );
    let mut last = piece(0, "early", Some(-15));
    last["timestamp"] = json!("2026-01-01T00:00:00.502Z");
    socket.text(last.to_string()).await.unwrap();
    let output = running.await.unwrap().unwrap();
    assert_eq!(
        (output.stdout(), output.timed_out(), output.exit_code()),
        ("early", true, None)
    );
    assert_eq!(output.duration(), Duration::from_millis(502));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_stops_the_command() {
    for started in [true, false] {
        let mock = Mock::new();
        mock.expect("POST", START).answer(200, command("x"));
        mock.expect("POST", "/api/bash/bash_commands/c1/stop");
        let workspace = workspace(&mock);
        let expected = mock.expect_socket(SOCKET);
        let mut running = workspace.execute("x").into_future();
        if started {
            assert!(
                timeout(Duration::from_millis(4), &mut running)
                    .await
                    .is_err()
            );
        } else {
            // Dropped as soon as the socket is open: the start is sent, and its response is not
            // read.
            tokio::select! { biased; _ = &mut running => {}, _ = expected.accept() => {} }
            for _ in 0..3 {
                let _ = futures_util::poll!(&mut running);
            }
        }
        drop(running);
        tokio::time::sleep(Duration::from_millis(10)).await;
        mock.verify().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_detached_command_is_left_alone() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    let workspace = workspace(&mock);
    let _expected = mock.expect_socket(SOCKET);
    let running = workspace.execute("x").detached().into_future();
    assert!(timeout(Duration::from_millis(4), running).await.is_err());
    tokio::time::sleep(Duration::from_millis(10)).await;
    // A request to stop the command would have been unexpected.
    let unmet = mock.verify();
    assert!(unmet.is_ok(), "{unmet:?}");
}

/// If the server never reports the end, the wait still ends.
#[tokio::test(start_paused = true)]
async fn a_command_forgotten_by_the_server_is_an_error() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    for _ in 0..60 {
        mock.expect("GET", search(None)).answer(200, page(&[]));
    }
    let begun = tokio::time::Instant::now();
    let (output, _socket) = reported(&mock, &[command("x")]).await;
    let error = output.unwrap_err();
    assert_eq!(
        (error.kind(), error.command_id()),
        (ErrorKind::Timeout, Some("c1"))
    );
    let waited = begun.elapsed().as_secs();
    assert!((300..=330).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_socket_is_closed_and_opened_again() {
    let mock = Mock::new();
    let workspace = workspace(&mock);
    for _ in 0..2 {
        mock.expect("POST", START).answer(200, command("x"));
        let expected = mock.expect_socket(SOCKET);
        let running = tokio::spawn({
            let workspace = workspace.clone();
            async move { workspace.execute("x").await }
        });
        let mut socket = expected.accept().await.unwrap();
        for frame in [command("x"), piece(0, "a", Some(0))] {
            socket.text(frame.to_string()).await.unwrap();
        }
        running.await.unwrap().unwrap();
        let closed = timeout(Duration::from_secs(60), socket.recv())
            .await
            .unwrap();
        assert!(closed.is_none());
    }
    mock.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_socket_is_closed_with_the_last_handle() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x"));
    let (output, mut socket) = reported(&mock, &[command("x"), piece(0, "a", Some(0))]).await;
    output.unwrap();
    let closed = timeout(Duration::from_millis(5), socket.recv())
        .await
        .unwrap();
    assert!(closed.is_none());
}

#[tokio::test]
async fn invalid_commands_are_rejected_at_once() {
    let mock = Mock::new();
    let workspace = workspace(&mock);
    let second = Duration::from_secs(1);
    for (line, cwd, limit, name) in [
        ("", ".", second, "A"),
        (" \n\t", ".", second, "A"),
        ("a\0b", ".", second, "A"),
        ("x", "", second, "A"),
        ("x", "a\0", second, "A"),
        ("x", ".", Duration::ZERO, "A"),
        ("x", ".", second, ""),
        ("x", ".", second, "1A"),
        ("x", ".", second, "A-B"),
        ("x", ".", second, "A;rm"),
    ] {
        let run = workspace
            .execute(line)
            .cwd(cwd)
            .timeout(limit)
            .env(name, "v");
        let error = run.await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::InvalidInput,
            "{line:?} {cwd:?} {limit:?} {name:?}"
        );
    }
    let nowhere = Workspace::new(&mock.client(), "relative");
    let error = nowhere.execute("x").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::InvalidInput, Some("relative"))
    );
    mock.verify().unwrap();
}
