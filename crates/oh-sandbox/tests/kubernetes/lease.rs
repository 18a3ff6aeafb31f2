//! Claims whose owner lives, and claims whose owner has ended.

use std::time::Duration;

use oh_testkit::kubernetes::FakeCluster;
use serde_json::Value;

use crate::{builder, empty};

fn shutdown_time(fake: &FakeCluster) -> Option<Value> {
    Some(fake.claims().first()?["spec"]["lifecycle"]["shutdownTime"].clone())
}

#[tokio::test]
async fn the_shutdown_time_is_renewed_while_the_owner_lives() {
    let fake = FakeCluster::start().await.unwrap();
    let server = builder(&fake)
        .await
        .lease(Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let mut seen = shutdown_time(&fake);
    for _ in 0..3 {
        fake.until(|fake| shutdown_time(fake) != seen).await;
        seen = shutdown_time(&fake);
        assert!(seen.is_some(), "the claim has expired");
    }
    server.client().server_info().await.unwrap();
}

#[test]
fn the_claim_of_a_killed_owner_ends_at_its_shutdown_time() {
    let here = tokio::runtime::Runtime::new().unwrap();
    let fake = here.block_on(FakeCluster::start()).unwrap();
    // All tasks of the owner end with this runtime, as in `kill -9`: nothing deletes the claim.
    let owner = tokio::runtime::Runtime::new().unwrap();
    let server = owner.block_on(async { builder(&fake).await.start().await.unwrap() });
    owner.shutdown_background();
    std::mem::forget(server);
    fake.advance(Duration::from_secs(290));
    assert_eq!(fake.claims().len(), 1);
    fake.advance(Duration::from_secs(20));
    here.block_on(empty(&fake));
}

#[tokio::test]
async fn a_clock_that_differs_from_the_clusters_is_corrected() {
    let fake = FakeCluster::start().await.unwrap();
    // Below the lease, so that the claim does not expire before it is corrected.
    fake.advance(Duration::from_secs(200));
    fake.reject("patch", "sandboxclaims", 503, "try again", 1);
    let server = builder(&fake).await.start().await.unwrap();
    fake.advance(Duration::from_secs(290));
    assert_eq!(fake.claims().len(), 1);
    drop(server);
    empty(&fake).await;
}
