//! Failures of the cluster during a start and during a run.

use std::time::Duration;

use oh_sandbox::{ClaimReason, Status};
use oh_testkit::{
    FakeServer,
    kubernetes::{FakeCluster, Pod},
};
use tokio::sync::Semaphore;

use crate::{builder, empty};

#[tokio::test]
async fn a_start_survives_a_restart_of_the_api_server() {
    static RELEASED: Semaphore = Semaphore::const_new(0);
    let pod = || async {
        RELEASED.acquire().await.unwrap().forget();
        let server = FakeServer::builder().deferred_init(FakeCluster::INIT_KEY);
        let server = server.start().await.unwrap();
        Pod::at(server.address()).owning(server)
    };
    let fake = FakeCluster::builder().pods(pod).start().await.unwrap();
    let starting = tokio::spawn(builder(&fake).await.start());
    let watches = |fake: &FakeCluster| fake.request_counts().contains_key("watch sandboxclaims");
    while !watches(&fake) {
        tokio::task::yield_now().await;
    }
    fake.stop();
    fake.cut_watches();
    assert!(fake.come_back());
    RELEASED.add_permits(1);
    let server = starting.await.unwrap().unwrap();
    server.client().server_info().await.unwrap();
    server.shutdown(Duration::ZERO).await.unwrap();
    empty(&fake).await;
}

#[tokio::test]
async fn a_start_survives_rejected_requests_and_broken_watches() {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake).await;
    for (verb, resource, status, times) in [
        ("create", "sandboxclaims", 429, 2),
        ("create", "sandboxclaims", 503, 1),
        ("watch", "sandboxclaims", 410, 1),
        ("watch", "sandboxclaims", 500, 1),
        ("portforward", "pods", 500, 1),
        ("delete", "sandboxclaims", 503, 1),
    ] {
        fake.reject(verb, resource, status, "try again", times);
        let server = builder.clone().start().await.unwrap();
        server.shutdown(Duration::ZERO).await.unwrap();
        assert!(fake.claims().is_empty(), "{verb} {status}");
    }
}

#[tokio::test]
async fn an_eviction_is_noticed_after_cut_and_expired_watches_and_a_restart() {
    let fake = FakeCluster::start().await.unwrap();
    for fault in 0..4 {
        let server = builder(&fake).await.start().await.unwrap();
        let mut status = server.status();
        match fault {
            0 => {}
            1 => fake.cut_watches(),
            2 => {
                fake.forget_changes();
                fake.cut_watches();
            }
            _ => {
                fake.stop();
                assert!(fake.come_back());
            }
        }
        fake.evict(server.id(), "The node was low on resource: memory");
        let ended = status.wait_for(|status| matches!(status, Status::Exited(_)));
        tokio::time::timeout(Duration::from_secs(30), ended)
            .await
            .expect("noticed");
        let failure = server.failure().unwrap();
        assert_eq!(failure.reason, ClaimReason::PodFailed);
        assert!(failure.message.contains("memory"), "{failure}");
        // Requests fail at once, instead of waiting for a server that will not come back.
        server.client().server_info().await.unwrap_err();
        assert!(!server.shutdown(Duration::ZERO).await.unwrap().success());
        empty(&fake).await;
    }
}

#[tokio::test]
async fn a_claim_that_others_delete_or_that_expires_is_noticed() {
    let fake = FakeCluster::start().await.unwrap();
    for reason in [ClaimReason::Deleted, ClaimReason::ClaimExpired] {
        let server = builder(&fake).await.start().await.unwrap();
        let mut status = server.status();
        match reason {
            ClaimReason::Deleted => fake.delete(server.id()),
            _ => fake.advance(Duration::from_secs(400)),
        }
        let ended = status.wait_for(|status| matches!(status, Status::Exited(_)));
        tokio::time::timeout(Duration::from_secs(30), ended)
            .await
            .expect("noticed");
        assert_eq!(server.failure().unwrap().reason, reason);
        server.shutdown(Duration::ZERO).await.unwrap();
    }
    empty(&fake).await;
}
