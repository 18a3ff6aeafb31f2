//! Tests of servers that become unavailable while a command runs, and return, possibly restarted.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use http::{HeaderMap, Response};
use oh_testkit::Mock;
use oh_transport::{
    Body, Client, Error, ErrorKind as Theirs, HttpTransport, Liveness, Result, Socket,
    SocketTransport, WorkspaceHandle,
};
use oh_workspace::{ErrorKind, OutputChunk, Workspace};
use serde_json::json;
use tokio::time::{Instant, sleep};
use url::Url;

/// A server without a socket, whose command runs for `run` and then reports its end.
#[derive(Debug, Clone)]
struct Server {
    begun: Instant,
    run: Duration,
    /// Unreachable from the first time to the second.
    away: (Duration, Duration),
    /// When another process replaced the server.
    restarted: Option<Duration>,
    /// Whether responses have a `Date` header. The server's clock starts at the beginning of 2026.
    dated: bool,
    asked: Arc<Mutex<Vec<String>>>,
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Server {
    fn new(run: u64, away: (u64, u64)) -> Self {
        Self {
            begun: Instant::now(),
            run: seconds(run),
            away: (seconds(away.0), seconds(away.1)),
            restarted: None,
            dated: true,
            asked: Arc::default(),
        }
    }

    fn restarted(mut self, at: u64) -> Self {
        self.restarted = Some(seconds(at));
        self
    }

    fn workspace(&self) -> Workspace {
        let client = Client::builder("http://server.test")
            .http_transport(self.clone())
            .socket_transport(self.clone())
            .build();
        Workspace::new(&client.unwrap(), "/w")
    }
}

#[async_trait]
impl HttpTransport for Server {
    async fn send(&self, request: http::Request<Body>) -> Result<Response<Body>> {
        let age = self.begun.elapsed();
        if self.away.0 <= age && age < self.away.1 {
            return Err(Error::new(Theirs::Connect, "away"));
        }
        let path = request.uri().path().to_owned();
        self.asked.lock().unwrap().push(path.clone());
        let answer = match path.rsplit('/').next().unwrap() {
            "start_bash_command" => json!({"kind": "BashCommand", "id": "c", "command": "x",
                "timestamp": "2026-01-01T00:00:00Z", "cwd": "/w", "timeout": 3600}),
            "server_info" => {
                let up = match self.restarted {
                    Some(at) if at <= age => age - at,
                    _ => age + seconds(1000),
                };
                json!({"version": "1.58.2", "uptime": up.as_secs()})
            }
            "c" => json!({"kind": "BashCommand", "id": "c", "command": "x", "cwd": "/w",
                "timestamp": "2026-01-01T00:00:00Z", "timeout": 3600}),
            _ => {
                // A restarted server has lost the command's end.
                let survived = self.restarted.is_none_or(|at| self.run < at);
                let end = json!({"kind": "BashOutput", "id": "o", "command_id": "c", "order": 0,
                    "timestamp": "2026-01-01T00:00:30Z", "stdout": "done", "exit_code": 0});
                let ended = survived && self.run <= age;
                json!({"items": ended.then_some(end).into_iter().collect::<Vec<_>>()})
            }
        };
        let answer = bytes::Bytes::from(answer.to_string());
        let mut answer = Response::new(Body::from(answer));
        if self.dated {
            let begun: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let now = jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&(begun + age))
                .unwrap();
            answer
                .headers_mut()
                .insert(http::header::DATE, now.parse().unwrap());
        }
        Ok(answer)
    }
}

#[async_trait]
impl SocketTransport for Server {
    async fn connect(&self, _: &Url, _: &HeaderMap) -> Result<Socket> {
        Err(Error::new(Theirs::Connect, "no socket"))
    }
}

/// A server behind a proxy that neither accepts nor refuses the upgrade to a socket.
#[derive(Debug, Clone)]
struct Stalled(Server);

#[async_trait]
impl HttpTransport for Stalled {
    async fn send(&self, request: http::Request<Body>) -> Result<Response<Body>> {
        self.0.send(request).await
    }
}

#[async_trait]
impl SocketTransport for Stalled {
    async fn connect(&self, _: &Url, _: &HeaderMap) -> Result<Socket> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_dial_delays_the_first_commands_only() {
    let server = Stalled(Server::new(0, (1000, 1000)));
    let client = Client::builder("http://server.test")
        .http_transport(server.clone())
        .socket_transport(server);
    let workspace = Workspace::new(&client.build().unwrap(), "/w");
    let begun = Instant::now();
    let start = async |delay: u64| {
        sleep(Duration::from_millis(delay)).await;
        let running = workspace.execute("x").start().await.unwrap();
        (running, begun.elapsed().as_millis())
    };
    // The second command is started while the first one waits: both wait for the same dial.
    let (first, second) = tokio::join!(start(0), start(400));
    assert_eq!((first.1, second.1), (500, 500));
    // The dial is still stalled, and later commands do not wait for it.
    for _ in 0..3 {
        let (running, started) = start(0).await;
        assert_eq!(started, 500);
        drop(running);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_at_any_moment_is_survived() {
    for begins in [0, 1, 29, 31, 59, 300] {
        let server = Server::new(begins + 10, (begins + 1, begins + 26));
        let output = server.workspace().execute("x").await.unwrap();
        assert_eq!(
            (output.stdout(), output.exit_code()),
            ("done", Some(0)),
            "{begins}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_unreachable_is_an_error() {
    let server = Server::new(10, (5, u64::MAX / 4));
    let error = server.workspace().execute("x").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.command_id()),
        (ErrorKind::Interrupted, Some("c"))
    );
    let waited = server.begun.elapsed().as_secs();
    assert!((60..=100).contains(&waited), "{waited}");
}

/// Without the supervisor's report, the client would keep waiting for the server.
#[tokio::test(start_paused = true)]
async fn a_command_ends_when_the_supervisor_reports_its_server_as_gone() {
    for after in [5, 6, 30] {
        let server = Server::new(10, (5, u64::MAX / 4));
        let workspace = server.workspace();
        let client = workspace.client().clone();
        let reported = tokio::spawn(async move {
            sleep(seconds(after)).await;
            client.set_liveness(Liveness::Gone("killed by SIGKILL".into()));
        });
        let error = workspace.execute("x").await.unwrap_err();
        reported.await.unwrap();
        let found = (error.kind(), error.command_id());
        assert_eq!(
            found,
            (ErrorKind::ServerGone, Some("c")),
            "{after}: {error}"
        );
        assert!(error.to_string().contains("killed by SIGKILL"), "{error}");
    }
}

/// The client does not wait for the command's timeout of an hour.
#[tokio::test(start_paused = true)]
async fn a_command_that_ended_with_its_server_is_reported() {
    for (at, back) in [(5, 17), (20, 32), (1000, 1012)] {
        let server = Server::new(2000, (at, back)).restarted(at);
        let error = server.workspace().execute("x").await.unwrap_err();
        let found = (error.kind(), error.command_id());
        assert_eq!(found, (ErrorKind::ServerRestarted, Some("c")), "{at}");
        let waited = server.begun.elapsed().as_secs();
        assert!(waited < back + 30, "{at}: {waited}");
    }
}

/// The client waits neither for the timeout of an hour nor for five minutes.
#[tokio::test(start_paused = true)]
async fn a_command_found_after_a_restart_ends_at_once() {
    for (restarted, found) in [(3, 5), (5, 17), (600, 612), (600, 3000), (5, 3000)] {
        let server = Server::new(5000, (0, 0)).restarted(restarted);
        sleep(seconds(found)).await;
        let begun = Instant::now();
        let command = server.workspace().command("c").await.unwrap();
        let error = command.wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ServerRestarted, "{error:?}");
        assert_eq!(error.command_id(), Some("c"));
        assert!(begun.elapsed() < seconds(10), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_found_on_the_server_that_runs_it_is_awaited() {
    for dated in [true, false] {
        let mut server = Server::new(1000, (0, 0));
        server.dated = dated;
        sleep(seconds(300)).await;
        let command = server.workspace().command("c").await.unwrap();
        let output = command.wait().await.unwrap();
        assert_eq!(output.stdout(), "done");
        assert_eq!(server.begun.elapsed().as_secs() / 10, 100);
    }
    // The timeout is over by the server's clock, not by the clock of the client that finds the
    // command.
    let server = Server::new(1_000_000, (0, 0));
    sleep(seconds(3500)).await;
    let error = server.workspace().command("c").await.unwrap();
    let error = error.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(server.begun.elapsed() < seconds(3700));
}

/// Each search makes the server list a directory.
#[tokio::test(start_paused = true)]
async fn a_command_without_a_socket_is_polled_with_growing_delays() {
    for (run, most) in [(10, 35), (600, 350)] {
        let server = Server::new(run, (0, 0));
        server.workspace().execute("x").await.unwrap();
        let late = server.begun.elapsed() - seconds(run);
        assert!(late <= seconds(2), "{late:?}");
        let asked = server.asked.lock().unwrap();
        let searches = asked.iter().filter(|path| path.ends_with("/search"));
        let searches = searches.count();
        assert!(searches <= most, "{run} s: {searches}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_ended_before_its_server_is_complete() {
    let server = Server::new(4, (3, 17)).restarted(5);
    let output = server.workspace().execute("x").await.unwrap();
    assert_eq!(output.stdout(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_reconnected_reader_misses_nothing() {
    // Ten minutes after the end, and through an outage; and with a timeout that is long over.
    for limit in [seconds(3600), seconds(1)] {
        let server = Server::new(2, (30, 45));
        let workspace = server.workspace();
        let command = workspace.execute("x").timeout(limit);
        let mut output = command.stream().await.unwrap();
        assert!(futures_util::poll!(std::pin::pin!(output.next())).is_pending());
        sleep(seconds(600 + 3600 * 2)).await;
        let first = output.next().await.unwrap().unwrap();
        assert_eq!(first, OutputChunk::Stdout("done".to_owned()));
        let end = output.next().await.unwrap().unwrap();
        assert!(matches!(end, OutputChunk::Ended(end) if end.success()));
        assert!(output.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connected_server_is_not_asked_for_its_uptime() {
    let server = Server::new(100, (5000, 5000));
    server.workspace().execute("x").await.unwrap();
    let asked = server.asked.lock().unwrap();
    assert!(
        !asked.iter().any(|path| path == "/server_info"),
        "{asked:?}"
    );
}

/// The transport reports that nothing was sent, so a caller may repeat the request.
#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_distinguished_from_an_interrupted_one() {
    for (theirs, ours) in [
        (Theirs::Connect, ErrorKind::Connect),
        (Theirs::Proxy, ErrorKind::Proxy),
        (Theirs::Tls, ErrorKind::Tls),
        (Theirs::Interrupted, ErrorKind::Interrupted),
    ] {
        let mock = Mock::new();
        for _ in 0..20 {
            mock.expect("POST", "/api/bash/start_bash_command")
                .fail(theirs);
        }
        let workspace = Workspace::new(&mock.client(), "/w");
        let error = workspace.execute("x").await.unwrap_err();
        assert_eq!(error.kind(), ours, "{error:?}");
        let _ = mock.verify();
    }
}
