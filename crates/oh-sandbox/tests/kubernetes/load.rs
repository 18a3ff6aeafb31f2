//! Many claims at once.

use std::{sync::Arc, time::Duration};

use oh_testkit::kubernetes::FakeCluster;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{builder, empty};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_claims_need_few_requests_each_and_none_is_left() {
    claims(50, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_a_thousand_claims_need_few_requests_each_and_none_is_left() {
    claims(1000, 200).await;
}

async fn claims(count: usize, at_once: usize) {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake).await.ready_within(Duration::from_secs(120));
    let permits = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (builder, permits) = (builder.clone(), Arc::clone(&permits));
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            let server = builder.start().await.unwrap();
            server.client().server_info().await.unwrap();
            server.shutdown(Duration::ZERO).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    empty(&fake).await;
    let requests = fake.request_counts();
    for (kind, each) in [
        ("create sandboxclaims", 1),
        ("watch sandboxclaims", 1),
        ("get sandboxes", 1),
        ("log pods", 1),
        ("delete sandboxclaims", 1),
    ] {
        assert_eq!(requests[kind], count * each, "{requests:?}");
    }
    assert_eq!(requests["get version"], 1, "{requests:?}");
    // Verification and use have separate clients. A connection to a busy pod may be opened again.
    let forwarded = requests["portforward pods"];
    let expected = count * 2..=count * 3;
    assert!(expected.contains(&forwarded), "{requests:?}");
}
