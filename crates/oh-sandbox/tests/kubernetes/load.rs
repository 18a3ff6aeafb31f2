//! Many claims at once.

use std::{sync::Arc, time::Duration};

use oh_testkit::kubernetes::FakeCluster;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{builder, empty};

const CLAIMS: usize = 1000;
const AT_ONCE: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_claims_need_few_requests_each_and_none_is_left() {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake).await.ready_within(Duration::from_secs(120));
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for _ in 0..CLAIMS {
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
        ("delete sandboxclaims", 1),
    ] {
        assert_eq!(requests[kind], CLAIMS * each, "{requests:?}");
    }
    // Verification and use have separate clients. A connection to a busy pod may be opened again.
    let forwarded = requests["portforward pods"];
    let expected = CLAIMS * 2..=CLAIMS * 3;
    assert!(expected.contains(&forwarded), "{requests:?}");
}
