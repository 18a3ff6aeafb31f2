//! Claims whose owner lives, and claims whose owner has ended.

use std::time::Duration;

use oh_sandbox::Status;

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

/// Moves the clock of a cluster away from that of this machine.
fn skew(fake: &FakeCluster, ahead: bool) {
    let hour = Duration::from_secs(3600);
    match ahead {
        true => fake.advance(hour),
        false => fake.skew_back(hour),
    }
}

#[tokio::test]
async fn shutdown_times_are_on_the_clock_of_the_cluster() {
    for ahead in [true, false] {
        let fake = FakeCluster::start().await.unwrap();
        skew(&fake, ahead);
        let server = builder(&fake).await.start().await.unwrap();
        fake.advance(Duration::from_secs(290));
        assert_eq!(fake.claims().len(), 1, "{ahead}");
        fake.advance(Duration::from_secs(20));
        assert!(fake.claims().is_empty(), "{ahead}");
        drop(server);

        // The same holds for renewed times.
        let builder = builder(&fake).await.lease(Duration::from_secs(2));
        let server = builder.start().await.unwrap();
        let mut seen = shutdown_time(&fake);
        for _ in 0..4 {
            fake.until(|fake| shutdown_time(fake) != seen).await;
            seen = shutdown_time(&fake);
            assert!(seen.is_some(), "the claim has expired: {ahead}");
        }
        assert_eq!(server.status().current(), Status::Ready);
        fake.advance(Duration::from_secs(5));
        assert!(fake.claims().is_empty(), "{ahead}");
    }
}

#[tokio::test]
async fn a_clock_that_the_cluster_does_not_report_is_corrected_by_the_creation_of_the_claim() {
    let fake = FakeCluster::start().await.unwrap();
    // Below the lease, so that the claim does not expire before it is corrected. The version is read
    // before, so that its date is that of another clock.
    let builder = builder(&fake).await;
    let first = builder.clone().start().await.unwrap();
    fake.advance(Duration::from_secs(200));
    fake.reject("patch", "sandboxclaims", 503, "try again", 1);
    let server = builder.start().await.unwrap();
    drop(first);
    fake.advance(Duration::from_secs(290));
    assert_eq!(fake.claims().len(), 1);
    drop(server);
    empty(&fake).await;
}
