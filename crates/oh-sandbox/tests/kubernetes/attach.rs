//! Claims that outlive the program that has created them.

use std::time::Duration;

use oh_protocol::calls::conversations::Count;
use oh_sandbox::{ErrorKind, KubernetesServer, Status, secrecy::ExposeSecret};
use oh_testkit::kubernetes::FakeCluster;
use oh_transport::WorkspaceHandle as _;
use serde_json::Value;

use crate::{builder, connected, empty};

fn shutdown_time(fake: &FakeCluster) -> Option<Value> {
    Some(fake.claims().first()?["spec"]["lifecycle"]["shutdownTime"].clone())
}

#[test]
fn a_restarted_program_attaches_to_its_claim() {
    let here = tokio::runtime::Runtime::new().unwrap();
    let fake = here.block_on(FakeCluster::start()).unwrap();
    // All tasks of the first program end with this runtime, as in `kill -9`.
    let first = tokio::runtime::Runtime::new().unwrap();
    let server = first.block_on(async {
        let builder = builder(&fake).await.workspace_dir("/project");
        builder.lease(Duration::from_secs(3)).start().await.unwrap()
    });
    let (claim, key) = (server.id().to_owned(), server.session_api_key().clone());
    first.shutdown_background();
    std::mem::forget(server);
    here.block_on(async {
        let cluster = connected(&fake).await;
        let server = KubernetesServer::attach(&claim, key.clone()).cluster(cluster);
        let server = server.await.unwrap();
        assert_eq!((server.id(), server.working_dir()), (&*claim, "/project"));
        server.client().call(Count::default()).await.unwrap();
        // Its shutdown time is renewed, as often as its first owner did.
        let mut seen = shutdown_time(&fake);
        for _ in 0..3 {
            fake.until(|fake| shutdown_time(fake) != seen).await;
            seen = shutdown_time(&fake);
            assert!(seen.is_some(), "the claim has expired");
        }
        fake.evict(&claim, "out of memory");
        let mut status = server.status();
        status
            .wait_for(|status| matches!(status, Status::Exited(_)))
            .await;
        server.shutdown(Duration::ZERO).await.unwrap();
        empty(&fake).await;
    });
}

#[tokio::test]
async fn a_kept_claim_stays_until_it_is_shut_down_or_expires() {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake).await.keep(true);
    let server = builder.clone().start().await.unwrap();
    let (claim, key) = (server.id().to_owned(), server.session_api_key().clone());
    drop(server);
    let attach = || async {
        let cluster = connected(&fake).await;
        KubernetesServer::attach(&claim, key.clone()).cluster(cluster)
    };
    for _ in 0..2 {
        let server = attach().await.await.unwrap();
        server.client().call(Count::default()).await.unwrap();
        assert!(fake.write_log(&claim, "still there"));
    }
    assert_eq!((fake.claims().len(), fake.running_pods()), (1, 1));
    let server = attach().await.await.unwrap();
    server.shutdown(Duration::ZERO).await.unwrap();
    empty(&fake).await;

    // Nobody attaches to this one.
    drop(builder.clone().start().await.unwrap());
    fake.advance(Duration::from_secs(310));
    empty(&fake).await;

    // A failed start keeps nothing.
    fake.fail_next("TemplateNotFound", "no template");
    builder.start().await.unwrap_err();
    empty(&fake).await;
}

#[tokio::test]
async fn a_suspended_sandbox_runs_again_when_a_program_attaches() {
    let fake = FakeCluster::start().await.unwrap();
    let server = builder(&fake).await.keep(true).start().await.unwrap();
    let (claim, key) = (server.id().to_owned(), server.session_api_key().clone());
    server.pause().await.unwrap();
    drop(server);
    assert_eq!(fake.running_pods(), 0);
    let cluster = connected(&fake).await;
    let server = KubernetesServer::attach(claim, key.clone())
        .cluster(cluster)
        .init_key(FakeCluster::INIT_KEY);
    let server = server.await.unwrap();
    server.client().call(Count::default()).await.unwrap();
    assert_eq!(
        server.session_api_key().expose_secret(),
        key.expose_secret()
    );
    server.shutdown(Duration::ZERO).await.unwrap();
    empty(&fake).await;
}

#[tokio::test]
async fn a_claim_that_cannot_be_attached_is_explained_and_stays() {
    let fake = FakeCluster::start().await.unwrap();
    let cluster = connected(&fake).await;
    let missing = KubernetesServer::attach("openhands-none", "a-key-that-is-long-enough");
    let error = missing.cluster(cluster.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("openhands-none"), "{error}");

    let server = builder(&fake).await.start().await.unwrap();
    let wrong = KubernetesServer::attach(server.id(), "another-key-of-16-characters");
    let error = wrong.cluster(cluster.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    server.client().call(Count::default()).await.unwrap();

    fake.evict(server.id(), "out of memory");
    let key = server.session_api_key().clone();
    let ended = KubernetesServer::attach(server.id(), key).cluster(cluster);
    let error = ended.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Claim, "{error}");
    assert!(error.to_string().contains("out of memory"), "{error}");
    drop(server);
    empty(&fake).await;
}
