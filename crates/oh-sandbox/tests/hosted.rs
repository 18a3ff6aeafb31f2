//! Servers in runtimes of a fake Runtime API: start, attachment, pause, end, and each failure.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::{future::Future, time::Duration};

use oh_sandbox::{
    AtEnd, ErrorKind, HostedServer, HostedServerBuilder, Sandbox, Status, secrecy::ExposeSecret,
};
use oh_testkit::{FakeServer, Fault, hosted::FakeRuntimeApi};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Fails if a test hangs. Not a measurement.
const LIMIT: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(5);

struct Stage {
    server: FakeServer,
    api: FakeRuntimeApi,
}

impl Stage {
    /// A Runtime API with one free server.
    async fn new() -> Result<Self, oh_testkit::Error> {
        let server = FakeServer::start().await?;
        let api = FakeRuntimeApi::start().await?;
        api.supply(server.url(), server.session_api_key());
        Ok(Self { server, api })
    }

    fn builder(&self) -> HostedServerBuilder {
        HostedServer::builder(self.api.url(), self.api.api_key())
            .poll_every(SOON)
            .watch_every(SOON)
            .ready_within(LIMIT)
    }

    fn requests(&self, method: &str, route: &str) -> usize {
        self.api.requests_to(method, route).len()
    }
}

/// Waits until a condition holds that another task brings about.
async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(SOON).await;
        }
    };
    within(wait).await;
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("the condition holds within 30 s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_a_pending_pod_and_the_shutdown_stops_the_runtime() -> Outcome {
    let stage = Stage::new().await?;
    stage.api.pending_for(2);
    let start = stage.builder().resource_factor(4).env("A", "b").start();
    let server = tokio::spawn(start).await??;
    assert_eq!(server.id(), "runtime-1");
    assert_eq!(
        server.client().server_info().await?.version,
        server.info().version
    );
    let key = server.session_api_key().expose_secret();
    assert_eq!(key, stage.server.session_api_key());
    let body = stage.api.requests_to("POST", "/start")[0].json();
    assert_eq!(body["session_id"], server.session_id());
    assert_eq!(body["resource_factor"], 4);
    assert_eq!(body["environment"], serde_json::json!({"A": "b"}));

    let sandbox: Box<dyn Sandbox> = Box::new(server);
    assert!(sandbox.shutdown(Duration::ZERO).await?.success());
    assert_eq!(stage.api.runtimes()[0].status, "stopped");
    assert_eq!(stage.requests("POST", "/stop"), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_owner_stops_its_runtime() -> Outcome {
    let stage = Stage::new().await?;
    let server = stage.builder().start().await?;
    drop(server);
    assert_eq!(stage.api.runtimes()[0].status, "stopped");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_program_finds_a_runtime_that_was_kept_or_paused() -> Outcome {
    let stage = Stage::new().await?;
    let builder = || stage.builder().session_id("task-1");
    let server = builder().at_end(AtEnd::Keep).start().await?;
    let id = server.id().to_owned();
    drop(server);
    assert_eq!(stage.api.running().len(), 1);

    let server = builder().at_end(AtEnd::Pause).start().await?;
    assert_eq!(server.id(), id);
    drop(server);
    assert_eq!(stage.api.runtimes()[0].status, "paused");

    let server = builder().start().await?;
    assert_eq!((server.id(), stage.requests("POST", "/resume")), (&*id, 1));
    assert_eq!(stage.requests("POST", "/start"), 1);
    server.remove().await?;
    assert_eq!(stage.api.runtimes()[0].status, "stopped");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_cannot_be_resumed_is_an_error_and_not_a_new_start() -> Outcome {
    let stage = Stage::new().await?;
    let builder = || stage.builder().session_id("task-1");
    drop(builder().at_end(AtEnd::Pause).start().await?);
    stage
        .api
        .supply(stage.server.url(), stage.server.session_api_key());
    stage.api.refuse_resume();
    let error = builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert!(
        error.to_string().contains("the snapshot is damaged"),
        "{error}"
    );
    assert_eq!(stage.requests("POST", "/start"), 1);
    // It is left as it was found.
    assert_eq!(stage.api.runtimes()[0].status, "paused");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_resumed_and_verified_again() -> Outcome {
    let stage = Stage::new().await?;
    let server = stage.builder().start().await?;
    server.pause().await?;
    assert_eq!(server.status().current(), Status::Paused);
    assert_eq!(stage.api.runtimes()[0].status, "paused");
    server.resume().await?;
    assert_eq!(server.status().current(), Status::Ready);
    assert!(server.client().is_alive().await);
    server.shutdown(Duration::ZERO).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_pod_status_has_the_log_of_the_pod_and_leaves_nothing() -> Outcome {
    for status in ["failed", "unknown", "CrashLoopBackOff"] {
        let stage = Stage::new().await?;
        stage.api.pending_for(usize::MAX);
        let starting = tokio::spawn(stage.builder().session_id("one").start());
        until(|| stage.requests("GET", "/sessions/{id}") > 1).await;
        stage
            .api
            .set_pod("one", status, "Traceback\nImportError: x")?;
        stage.api.pods_are_decided();
        let error = starting.await?.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Died, "{error}");
        assert_eq!(error.log_tail(), ["Traceback", "ImportError: x"]);
        assert!(!error.is_transient());
        assert_eq!(stage.api.runtimes()[0].status, "stopped", "{status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_stays_pending_is_not_ready_and_is_stopped() -> Outcome {
    let stage = Stage::new().await?;
    stage.api.pending_for(usize::MAX);
    let start = stage
        .builder()
        .ready_within(Duration::from_millis(100))
        .start();
    let error = start.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    assert!(
        error.is_timeout() && error.to_string().contains("pending"),
        "{error}"
    );
    assert!(stage.api.running().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_typed_and_has_the_reason_of_the_service() -> Outcome {
    let stage = Stage::new().await?;
    let builder = HostedServer::builder(stage.api.url(), "canary-wrong-key");
    let error = builder.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(
        shown.contains("Invalid API key") && !shown.contains("canary"),
        "{shown}"
    );

    for (status, kind) in [
        (402, ErrorKind::Status),
        (403, ErrorKind::Forbidden),
        (422, ErrorKind::Validation),
        (503, ErrorKind::Server),
    ] {
        stage
            .api
            .inject(Fault::status(status).on("/start").times(1));
        let error = stage.builder().start().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
        assert!(error.to_string().contains("injected fault"), "{error}");
    }
    let busy = Fault::status(429).retry_after(Duration::from_secs(7));
    stage.api.inject(busy.on("/start").times(1));
    let error = stage.builder().start().await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::RateLimited && error.is_transient(),
        "{error}"
    );
    let delay = error.transport_error().and_then(|wire| wire.retry_after());
    assert_eq!(delay, Some(Duration::from_secs(7)));
    assert!(error.to_string().contains("7s"), "{error}");
    assert!(stage.api.runtimes().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_the_service_while_the_runtime_starts_are_tried_again() -> Outcome {
    let stage = Stage::new().await?;
    let state = "/sessions/";
    stage.api.inject(Fault::status(503).on(state).times(2));
    stage.api.inject(Fault::lost_answer().on(state).times(1));
    let busy = Fault::status(429).retry_after(Duration::ZERO);
    stage.api.inject(busy.on(state).times(1));
    let server = stage.builder().start().await?;
    // The end is tried again too.
    stage.api.inject(Fault::status(502).on("/stop").times(2));
    server.shutdown(Duration::ZERO).await?;
    assert_eq!(stage.requests("POST", "/stop"), 3);
    assert!(stage.api.running().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_malformed_answer_leaves_no_runtime() -> Outcome {
    let stage = Stage::new().await?;
    stage.api.inject(Fault::lost_answer().on("/start").times(1));
    let error = stage.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert_eq!(stage.api.runtimes()[0].status, "stopped");
    // A start is never repeated by itself.
    assert_eq!(stage.requests("POST", "/start"), 1);

    stage.api.supply(stage.server.url(), "");
    let error = stage.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("session_api_key"), "{error}");
    assert!(stage.api.running().is_empty());

    stage.api.inject(Fault::html(200).on("/start").times(1));
    let error = stage.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("login page"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_dropped_stops_the_runtime() -> Outcome {
    // While the service has not answered yet.
    let stage = Stage::new().await?;
    stage.api.inject(Fault::hold_answer().on("/start"));
    let starting = tokio::spawn(stage.builder().start());
    until(|| !stage.api.runtimes().is_empty()).await;
    starting.abort();
    assert!(starting.await.unwrap_err().is_cancelled());
    stage.api.heal();
    until(|| stage.api.running().is_empty()).await;

    // While the pod is pending.
    stage
        .api
        .supply(stage.server.url(), stage.server.session_api_key());
    stage.api.pending_for(usize::MAX);
    let starting = tokio::spawn(stage.builder().session_id("two").start());
    until(|| stage.requests("GET", "/sessions/two") > 2).await;
    starting.abort();
    assert!(starting.await.unwrap_err().is_cancelled());
    assert!(stage.api.running().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_runtime_ends_waits_for_its_server() -> Outcome {
    let stage = Stage::new().await?;
    let server = stage.builder().start().await?;
    let (mut status, client) = (server.status(), server.client().clone());
    stage.api.evict(server.session_id())?;
    let reason = within(client.server_gone()).await;
    assert!(reason.contains("vanished"), "{reason}");
    let exited = async {
        while !matches!(status.current(), Status::Exited(_)) {
            status.changed().await;
        }
    };
    within(exited).await;
    server.shutdown(Duration::ZERO).await?;

    stage
        .api
        .supply(stage.server.url(), stage.server.session_api_key());
    let server = stage.builder().start().await?;
    stage.api.set_pod(server.session_id(), "failed", "")?;
    let reason = within(server.client().server_gone()).await;
    assert!(reason.contains("failed"), "{reason}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_prove_its_key_is_not_used() -> Outcome {
    let stage = Stage::new().await?;
    let open = FakeServer::builder().open().start().await?;
    let api = FakeRuntimeApi::start().await?;
    api.supply(open.url(), "a-session-api-key");
    let builder = || HostedServer::builder(api.url(), api.api_key()).poll_every(SOON);
    let error = builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");

    api.supply(stage.server.url(), "another-session-key");
    let error = builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(api.running().is_empty());
    Ok(())
}
