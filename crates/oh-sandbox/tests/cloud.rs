//! Servers in sandboxes of a fake OpenHands Cloud: start, attachment, pause, end, and each failure.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::{future::Future, time::Duration};

use oh_sandbox::{
    AtEnd, CloudServer, CloudServerBuilder, ErrorKind, ExposedUrl, Sandbox, Status,
    secrecy::ExposeSecret,
};
use oh_testkit::{FakeServer, Fault, Proxy, hosted::FakeCloud};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Fails if a test hangs. Not a measurement.
const LIMIT: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(5);
const SANDBOXES: &str = "/api/v1/sandboxes";

struct Stage {
    server: FakeServer,
    cloud: FakeCloud,
}

impl Stage {
    /// A Cloud with one free server.
    async fn new() -> Result<Self, oh_testkit::Error> {
        let server = FakeServer::start().await?;
        let cloud = FakeCloud::start().await?;
        cloud.supply(server.url(), server.session_api_key());
        Ok(Self { server, cloud })
    }

    fn builder(&self) -> CloudServerBuilder {
        self.builder_at(self.cloud.url())
    }

    fn builder_at(&self, url: String) -> CloudServerBuilder {
        CloudServer::builder(self.cloud.api_key())
            .url(url)
            .poll_every(SOON)
            .watch_every(SOON)
            .ready_within(LIMIT)
    }

    fn requests(&self, method: &str, route: &str) -> usize {
        self.cloud.requests_to(method, route).len()
    }

    fn supply(&self) {
        let (url, key) = (self.server.url(), self.server.session_api_key());
        self.cloud.supply(url, key);
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
async fn a_start_waits_for_a_starting_sandbox_and_the_shutdown_deletes_it() -> Outcome {
    let stage = Stage::new().await?;
    stage.cloud.starting_for(2);
    let start = stage.builder().sandbox_spec("image:one+two").start();
    let server = tokio::spawn(start).await??;
    assert_eq!(server.id(), "sandbox-1");
    assert_eq!(stage.cloud.sandboxes()[0].spec, "image:one+two");
    assert_eq!(
        server.client().server_info().await?.version,
        server.info().version
    );
    let key = server.session_api_key().expose_secret();
    assert_eq!(key, stage.server.session_api_key());

    let urls = server.exposed_urls().await?;
    assert_eq!(urls.len(), 4);
    assert!(!format!("{urls:?}").contains("tkn"), "{urls:?}");
    let code = server.exposed_url(ExposedUrl::VSCODE).await?;
    assert!(code.is_some_and(|url| url.contains("tkn=")));
    assert_eq!(server.exposed_url("NONE").await?, None);

    let sandbox: Box<dyn Sandbox> = Box::new(server);
    assert!(sandbox.shutdown(Duration::ZERO).await?.success());
    assert!(stage.cloud.sandboxes().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_owner_deletes_its_sandbox() -> Outcome {
    let stage = Stage::new().await?;
    let server = stage.builder().start().await?;
    drop(server);
    assert!(stage.cloud.sandboxes().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_program_finds_a_sandbox_that_was_kept_or_paused() -> Outcome {
    let stage = Stage::new().await?;
    let server = stage.builder().at_end(AtEnd::Keep).start().await?;
    let id = server.id().to_owned();
    drop(server);
    assert_eq!(stage.cloud.sandboxes()[0].status, "RUNNING");

    let builder = || stage.builder().sandbox_id(&id);
    drop(builder().at_end(AtEnd::Pause).start().await?);
    assert_eq!(stage.cloud.sandboxes()[0].status, "PAUSED");

    let server = builder().start().await?;
    assert_eq!(server.id(), id);
    assert_eq!(stage.requests("POST", SANDBOXES), 1);
    server.remove().await?;
    assert!(stage.cloud.sandboxes().is_empty());

    let error = builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(stage.requests("POST", SANDBOXES), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attachment_that_fails_leaves_the_sandbox_as_it_is() -> Outcome {
    let stage = Stage::new().await?;
    drop(stage.builder().at_end(AtEnd::Keep).start().await?);
    stage.cloud.set_status("sandbox-1", "STARTING", "")?;
    let attach = stage.builder().sandbox_id("sandbox-1");
    let attach = attach.ready_within(Duration::from_millis(50)).start();
    let error = attach.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    assert_eq!(stage.cloud.sandboxes().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_resumed_and_verified_again() -> Outcome {
    let stage = Stage::new().await?;
    let server = stage.builder().start().await?;
    server.pause().await?;
    assert_eq!(server.status().current(), Status::Paused);
    assert_eq!(stage.cloud.sandboxes()[0].status, "PAUSED");
    stage.cloud.starting_for(2);
    server.resume().await?;
    assert_eq!(server.status().current(), Status::Ready);
    assert!(server.client().is_alive().await);
    server.shutdown(Duration::ZERO).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sandbox_has_the_reason_of_the_service_and_is_deleted() -> Outcome {
    for (status, part) in [("ERROR", "disk is full"), ("MISSING", "vanished")] {
        let stage = Stage::new().await?;
        stage.cloud.starting_for(usize::MAX - 1);
        let starting = tokio::spawn(stage.builder().start());
        until(|| stage.requests("GET", SANDBOXES) > 1).await;
        stage
            .cloud
            .set_status("sandbox-1", status, "the disk is full")?;
        let error = starting.await?.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Died, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.is_transient());
        assert!(stage.cloud.sandboxes().is_empty(), "{status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_stays_starting_is_not_ready_and_is_deleted() -> Outcome {
    let stage = Stage::new().await?;
    stage.cloud.starting_for(usize::MAX - 1);
    let start = stage.builder().ready_within(Duration::from_millis(100));
    let error = start.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    assert!(
        error.is_timeout() && error.to_string().contains("STARTING"),
        "{error}"
    );
    assert!(stage.cloud.sandboxes().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_vanishes_while_it_starts_is_not_found() -> Outcome {
    let stage = Stage::new().await?;
    stage.cloud.starting_for(usize::MAX - 1);
    let starting = tokio::spawn(stage.builder().start());
    until(|| stage.requests("GET", SANDBOXES) > 1).await;
    stage.cloud.evict("sandbox-1")?;
    let error = starting.await?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("vanished"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_typed_and_has_the_reason_of_the_service() -> Outcome {
    let stage = Stage::new().await?;
    let builder = CloudServer::builder("canary-wrong-key").url(stage.cloud.url());
    let shown = format!("{builder:?}");
    let error = builder.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let shown = format!("{shown} {error} {error:?}");
    assert!(
        shown.contains("Invalid API key") && shown.contains("expired"),
        "{shown}"
    );
    assert!(!shown.contains("canary"), "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_not_repeated_after_429_but_other_requests_are_when_the_time_is_over() -> Outcome
{
    let stage = Stage::new().await?;
    let busy = || Fault::status(429).retry_after(Duration::ZERO);
    stage.cloud.inject(busy().method("POST").times(1));
    let error = stage.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error}");
    let delay = error.transport_error().and_then(|wire| wire.retry_after());
    assert_eq!(delay, Some(Duration::ZERO));
    assert_eq!(stage.requests("POST", SANDBOXES), 1);

    let server = stage.builder().start().await?;
    stage.cloud.inject(busy().on("/pause").times(2));
    server.pause().await?;
    assert_eq!(stage.requests("POST", "/api/v1/sandboxes/{id}/pause"), 3);

    // A delay above the limit is reported at once.
    let late = Fault::status(429).retry_after(Duration::from_secs(3600));
    stage.cloud.inject(late.on("/resume").times(1));
    let error = within(server.resume()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_service_is_waited_for() -> Outcome {
    let stage = Stage::new().await?;
    let proxy = Proxy::start(stage.cloud.address()).await?;
    stage.cloud.starting_for(usize::MAX - 1);
    let starting = tokio::spawn(stage.builder_at(proxy.url()).start());
    until(|| stage.requests("GET", SANDBOXES) > 1).await;
    proxy.refuse().await;
    let lost = Fault::lost_answer().method("GET").times(1);
    stage.cloud.inject(lost);
    stage.cloud.set_status("sandbox-1", "RUNNING", "")?;
    proxy.accept().await?;
    let server = starting.await??;

    // While the service does not answer, the server works, and stays owned.
    proxy.refuse().await;
    let status = server.status();
    assert!(server.client().is_alive().await);
    assert_eq!(status.current(), Status::Ready);
    proxy.accept().await?;
    stage
        .cloud
        .inject(Fault::status(502).method("DELETE").times(2));
    server.shutdown(Duration::ZERO).await?;
    assert!(stage.cloud.sandboxes().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_expires_leaves_the_server_usable_and_the_shutdown_reports_it() -> Outcome {
    let stage = Stage::new().await?;
    let server = stage.builder().start().await?;
    let before = stage.requests("GET", SANDBOXES);
    stage.cloud.expire_key();
    until(|| stage.requests("GET", SANDBOXES) > before + 3).await;
    assert_eq!(server.status().current(), Status::Ready);
    assert!(server.client().is_alive().await);
    let error = server.pause().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let error = server.shutdown(Duration::ZERO).await.unwrap_err();
    assert!(error.is_auth(), "{error}");
    assert_eq!(stage.cloud.sandboxes().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_malformed_answer_is_typed_and_never_starts_twice() -> Outcome {
    let stage = Stage::new().await?;
    stage
        .cloud
        .inject(Fault::lost_answer().method("POST").times(1));
    let error = stage.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert_eq!(stage.requests("POST", SANDBOXES), 1);

    stage.cloud.evict("sandbox-1")?;
    stage.cloud.supply(stage.server.url(), "");
    let error = stage.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("session_api_key"), "{error}");
    assert!(stage.cloud.sandboxes().is_empty());

    stage.cloud.inject(Fault::html(200).method("POST").times(1));
    let error = stage.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("login page"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_dropped_deletes_the_sandbox() -> Outcome {
    // While the service has not answered yet.
    let stage = Stage::new().await?;
    stage.cloud.inject(Fault::hold_answer().method("POST"));
    let starting = tokio::spawn(stage.builder().start());
    until(|| !stage.cloud.sandboxes().is_empty()).await;
    starting.abort();
    assert!(starting.await.unwrap_err().is_cancelled());
    stage.cloud.heal();
    until(|| stage.cloud.sandboxes().is_empty()).await;

    // While the sandbox is starting.
    stage.supply();
    stage.cloud.starting_for(usize::MAX - 1);
    let starting = tokio::spawn(stage.builder().start());
    until(|| stage.requests("GET", SANDBOXES) > 2).await;
    starting.abort();
    assert!(starting.await.unwrap_err().is_cancelled());
    assert!(stage.cloud.sandboxes().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_is_gone_ends_waits_for_its_server() -> Outcome {
    let stage = Stage::new().await?;
    let server = stage.builder().start().await?;
    let (mut status, client) = (server.status(), server.client().clone());
    stage.cloud.evict(server.id())?;
    let reason = within(client.server_gone()).await;
    assert!(reason.contains("vanished"), "{reason}");
    let exited = async {
        while !matches!(status.current(), Status::Exited(_)) {
            status.changed().await;
        }
    };
    within(exited).await;
    let error = server.pause().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    server.shutdown(Duration::ZERO).await?;

    stage.supply();
    let server = stage.builder().start().await?;
    stage
        .cloud
        .set_status(server.id(), "ERROR", "out of credits")?;
    let reason = within(server.client().server_gone()).await;
    assert!(reason.contains("out of credits"), "{reason}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_prove_its_key_is_not_used() -> Outcome {
    let stage = Stage::new().await?;
    let open = FakeServer::builder().open().start().await?;
    let cloud = FakeCloud::start().await?;
    cloud.supply(open.url(), "a-session-api-key");
    let builder = || {
        CloudServer::builder(cloud.api_key())
            .url(cloud.url())
            .poll_every(SOON)
    };
    let error = builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");

    cloud.supply(stage.server.url(), "another-session-key");
    let error = builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(cloud.sandboxes().is_empty());
    Ok(())
}
