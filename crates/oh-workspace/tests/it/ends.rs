//! Ends of commands: sub-second timeouts, dropped readers, and text that must not appear in logs.

use std::{
    future::{Future as _, IntoFuture},
    io,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use oh_testkit::Mock;
use oh_transport::ErrorKind as Theirs;
use oh_workspace::{ErrorKind, OutputChunk, Workspace};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

const SOCKET: &str = "/sockets/bash-events";
const START: &str = "/api/bash/start_bash_command";
const SEARCH: &str = "/api/bash/bash_events/search?kind__eq=BashOutput&limit=5\
                      &sort_order=TIMESTAMP&command_id__eq=c1";
const STOP: &str = "/api/bash/bash_commands/c1/stop";

fn workspace(mock: &Mock) -> Workspace {
    Workspace::new(&mock.client(), "/w")
}

fn command(line: &str, limit: u64) -> Value {
    json!({"kind": "BashCommand", "id": "c1", "timestamp": "2026-01-01T00:00:00Z", "command": line,
        "cwd": "/w", "timeout": limit})
}

fn end(code: i32, at: &str) -> Value {
    json!({"kind": "BashOutput", "id": "o", "command_id": "c1", "order": 0, "exit_code": code,
        "timestamp": format!("2026-01-01T00:00:{at}Z"), "stdout": "out"})
}

#[tokio::test(start_paused = true)]
async fn an_unrepresentable_limit_becomes_the_longest_limit() {
    let mock = Mock::new();
    let all = u64::from(u32::MAX);
    mock.expect("POST", START).answer(200, command("x", all));
    let expected = mock.expect_socket(SOCKET);
    let run = workspace(&mock);
    let run = tokio::spawn(async move { run.execute("x").timeout(Duration::MAX).await });
    let socket = expected.accept().await.unwrap();
    for frame in [command("x", all), end(0, "01")] {
        socket.text(frame.to_string()).await.unwrap();
    }
    assert!(run.await.unwrap().unwrap().success());
    mock.verify().unwrap();
}

/// A command that handles SIGTERM may exit with any code: 0, 143, 5.
#[tokio::test(start_paused = true)]
async fn a_timed_out_command_is_not_a_success_with_any_exit_code() {
    for (code, at, timed_out) in [
        (0, "00.502", true),
        (143, "00.600", true),
        (-15, "00.501", true),
        // The command ended by itself in time, although its end was reported late.
        (0, "00.499", false),
        (3, "00.2", false),
    ] {
        let mock = Mock::new();
        mock.expect("POST", START).answer(200, command("x", 1));
        mock.expect("POST", STOP);
        let expected = mock.expect_socket(SOCKET);
        let run = workspace(&mock);
        let limit = Duration::from_millis(500);
        let run = tokio::spawn(async move { run.execute("x").timeout(limit).await });
        let socket = expected.accept().await.unwrap();
        socket.text(command("x", 1).to_string()).await.unwrap();
        sleep(Duration::from_millis(600)).await;
        socket.text(end(code, at).to_string()).await.unwrap();
        let output = run.await.unwrap().unwrap();
        let code = (!timed_out).then_some(code);
        let found = (output.timed_out(), output.exit_code());
        assert_eq!(found, (timed_out, code), "{at}");
        mock.verify().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn readers_of_a_started_command_enforce_a_fraction_of_a_second() {
    for streamed in [false, true] {
        let mock = Mock::new();
        mock.expect("POST", START).answer(200, command("x", 2));
        // After a second, in case the socket has stopped delivering.
        mock.expect("GET", SEARCH).answer(200, json!({"items": []}));
        mock.expect("POST", STOP);
        let expected = mock.expect_socket(SOCKET);
        let run = workspace(&mock);
        let reading = tokio::spawn(async move {
            let run = run.execute("x").timeout(Duration::from_millis(1500));
            if streamed {
                let mut output = run.stream().await.unwrap();
                let last = |chunk| matches!(chunk, OutputChunk::Ended(end) if end.timed_out());
                output.next().await.unwrap().unwrap();
                return last(output.next().await.unwrap().unwrap());
            }
            let command = run.start().await.unwrap();
            command.wait().await.unwrap().timed_out()
        });
        let socket = expected.accept().await.unwrap();
        socket.text(command("x", 2).to_string()).await.unwrap();
        sleep(Duration::from_millis(1490)).await;
        assert!(mock.verify().is_err(), "stopped too soon");
        sleep(Duration::from_millis(20)).await;
        mock.verify().unwrap();
        socket.text(end(-15, "01.51").to_string()).await.unwrap();
        assert!(reading.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_stops_its_command_unless_detached() {
    for detached in [false, true] {
        let mock = Mock::new();
        mock.expect("POST", START).answer(200, command("x", 300));
        if !detached {
            mock.expect("POST", STOP);
        }
        let _socket = mock.expect_socket(SOCKET);
        let workspace = workspace(&mock);
        let run = workspace.execute("x");
        let run = if detached { run.detached() } else { run };
        let output = run.stream().await.unwrap();
        sleep(Duration::from_millis(2)).await;
        drop(output);
        sleep(Duration::from_millis(2)).await;
        mock.verify().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_read_to_its_end_stops_nothing() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x", 300));
    let expected = mock.expect_socket(SOCKET);
    let run = workspace(&mock);
    let reading = tokio::spawn(async move {
        let mut output = run.execute("x").stream().await.unwrap();
        while output.next().await.is_some() {}
    });
    let socket = expected.accept().await.unwrap();
    for frame in [command("x", 300), end(0, "01")] {
        socket.text(frame.to_string()).await.unwrap();
    }
    reading.await.unwrap();
    sleep(Duration::from_secs(1)).await;
    mock.verify().unwrap();
}

/// A program may have left its runtime when it drops a future that ran there.
#[test]
fn a_future_dropped_outside_the_runtime_stops_the_command() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x", 300));
    mock.expect("POST", STOP);
    let expected = mock.expect_socket(SOCKET);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let workspace = workspace(&mock);
    let mut running = workspace.execute("x").into_future();
    let _socket = runtime.block_on(async {
        let socket = tokio::select! {
            biased;
            _ = &mut running => panic!("it cannot end"),
            socket = expected.accept() => socket.unwrap(),
        };
        socket.text(command("x", 300).to_string()).await.unwrap();
        for _ in 0..5 {
            let _ = futures_util::poll!(&mut running);
            sleep(Duration::from_millis(1)).await;
        }
        socket
    });
    drop(running);
    runtime.block_on(async {
        let stopped = async {
            while mock.verify().is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), stopped).await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn missing_output_is_fetched_page_by_page() {
    let mock = Mock::new();
    mock.expect("POST", START).answer(200, command("x", 300));
    let piece = |order: i64| {
        json!({"kind": "BashOutput", "id": format!("o{order}"), "command_id": "c1", "order": order,
            "timestamp": "2026-01-01T00:00:01Z", "stdout": format!("{order} "),
            "exit_code": (order == 11).then_some(0)})
    };
    let pieces: Vec<_> = (0..12).map(piece).collect();
    // Page by page, or the server would read the whole history repeatedly.
    for (query, from, next) in [
        ("", 0, Some("name5")),
        ("&order__gt=2&page_id=name5", 5, Some("name10")),
        ("&order__gt=7&page_id=name10", 10, None),
    ] {
        let items = &pieces[from..12.min(from + 5)];
        mock.expect("GET", format!("{SEARCH}{query}"))
            .answer(200, json!({"items": items, "next_page_id": next}));
    }
    let _socket = mock.expect_socket(SOCKET);
    let output = workspace(&mock).execute("x").await.unwrap();
    assert_eq!(output.stdout(), "0 1 2 3 4 5 6 7 8 9 10 11 ");
    mock.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn inputs_of_a_command_are_not_shown() {
    let mock = Mock::new();
    let line = "export A='canary'; echo canary";
    mock.expect("POST", START).answer(200, command(line, 300));
    let workspace = workspace(&mock);
    let expected = mock.expect_socket(SOCKET);
    let run = workspace.execute("echo canary").env("A", "canary");
    assert!(!format!("{run:?}").contains("canary"), "{run:?}");
    let mut run = pin!(run.into_future());
    assert!(
        run.as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    let socket = expected.accept().await.unwrap();
    let mut failed = end(-1, "00.1");
    failed["stdout"] = Value::Null;
    failed["stderr"] = json!("Error executing command: [Errno 2] No such file: '/w'");
    for frame in [command(line, 300), failed] {
        socket.text(frame.to_string()).await.unwrap();
    }
    mock.expect("GET", SEARCH).answer(
        200,
        json!({"items": [{"kind": "BashOutput", "id": "o", "command_id": "c1",
            "exit_code": -1, "stderr": "Error executing command: [Errno 2] No such file: '/w'"}]}),
    );
    let error = run.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotStarted);
    assert!(
        !format!("{error} {error:?}").contains("canary"),
        "{error:?}"
    );

    // The result contains the requested line, without the lines put in front of it.
    mock.expect("POST", START).answer(200, command(line, 300));
    let run = workspace.execute("echo canary").env("A", "canary");
    let mut run = pin!(run.into_future());
    assert!(futures_util::poll!(run.as_mut()).is_pending());
    socket.text(command(line, 300).to_string()).await.unwrap();
    socket.text(end(0, "01").to_string()).await.unwrap();
    let output = run.await.unwrap();
    assert_eq!(output.command(), "echo canary");
    assert!(!format!("{output:?}").contains("canary"), "{output:?}");
    mock.expect("POST", START).fail(Theirs::Interrupted);
    let error = workspace.execute("echo canary").await.unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("canary"),
        "{error:?}"
    );
}

/// Collects the log output of all layers.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn pitfall_25_command_lines_are_in_no_log() {
    let log = Log::default();
    let writer = log.clone();
    let logging = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber only, `tracing` decides by the thread that comes first whether a line is
    // ever logged.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::subscriber::set_default(logging);
    let mock = Mock::new();
    let line = "export A='canary'; canary";
    // The command times out and is stopped; another one cannot be started.
    mock.expect("POST", START).answer(200, command(line, 1));
    mock.expect("POST", STOP);
    mock.expect("POST", START).fail(Theirs::Interrupted);
    let expected = mock.expect_socket(SOCKET);
    let run = workspace(&mock);
    let running = tokio::spawn(async move {
        let limit = Duration::from_millis(500);
        let late = run
            .execute("canary")
            .env("A", "canary")
            .timeout(limit)
            .await;
        assert!(late.unwrap().timed_out());
        run.execute("canary").await.unwrap_err();
    });
    let socket = expected.accept().await.unwrap();
    socket.text(command(line, 1).to_string()).await.unwrap();
    sleep(Duration::from_millis(501)).await;
    let mut last = end(-15, "00.501");
    last["stdout"] = json!("canary");
    socket.text(last.to_string()).await.unwrap();
    running.await.unwrap();
    mock.verify().unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("start_bash_command"), "{log}");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn masked_and_invalid_secrets_are_rejected_before_sending() {
    let mock = Mock::new();
    let workspace = workspace(&mock);
    for (name, value) in [
        ("A", "**********"),
        ("A", "a\0b"),
        ("1A", "x"),
        ("", "x"),
        ("A;", "x"),
    ] {
        let error = workspace
            .execute("x")
            .secret_env(name, value)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name} {value}");
    }
    mock.verify().unwrap();
}

#[tokio::test]
async fn the_history_is_requested_with_every_filter() {
    let mock = Mock::new();
    let moment = "2026-01-01T00:00:00Z".parse().unwrap();
    mock.expect(
        "GET",
        "/api/bash/bash_events/search?limit=7&kind__eq=BashOutput&command_id__eq=c1\
         &timestamp__gte=2026-01-01T00%3A00%3A00Z&timestamp__lt=2026-01-01T00%3A00%3A00Z\
         &page_id=p+1&order__gt=3&sort_order=TIMESTAMP_DESC",
    )
    .answer(200, json!({"items": [], "next_page_id": null}));
    let history = workspace(&mock).history().outputs().of_command("c1");
    let history = history.since(moment).until(moment).newest_first();
    let page = history.page_size(7).after(3).from_page("p 1").page().await;
    assert!(page.unwrap().items.is_empty());
    // A value that the server rejects has the same kind as in every crate.
    mock.expect(
        "GET",
        "/api/bash/bash_events/search?limit=100&command_id__eq=no&sort_order=TIMESTAMP",
    )
    .answer(
        422,
        json!({"detail": [{"type": "uuid_parsing", "loc": ["query"], "msg": "no"}]}),
    );
    let error = workspace(&mock)
        .history()
        .of_command("no")
        .page()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
    mock.verify().unwrap();
}
