//! The output of the server, read from the cluster.

use std::time::Duration;

use oh_sandbox::Logs;
use oh_testkit::kubernetes::FakeCluster;

use crate::{builder, empty};

/// Returns the next line.
async fn next(logs: &mut Logs) -> String {
    let line = tokio::time::timeout(Duration::from_secs(30), logs.next()).await;
    line.expect("a line").expect("the output goes on").message
}

#[tokio::test]
async fn the_output_is_followed_without_secrets_through_cuts_and_a_resume() {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake).await.env("TOKEN", "canary-of-a-variable");
    let server = builder.start().await.unwrap();
    let mut logs = server.logs();
    let claim = server.id().to_owned();
    for number in 0..3 {
        assert!(fake.write_log(&claim, format!("line {number} canary-of-a-variable")));
    }
    for number in 0..3 {
        let line = next(&mut logs).await;
        assert!(line.starts_with(&format!("line {number} ")), "{line}");
        assert!(!line.contains("canary"), "{line}");
    }
    assert_eq!(server.log_tail().len(), 3);

    fake.cut_watches();
    fake.reject("log", "pods", 500, "try again", 1);
    fake.write_log(&claim, "after the cut");
    // Lines of the last second may be repeated.
    while next(&mut logs).await != "after the cut" {}

    server.pause().await.unwrap();
    server.resume().await.unwrap();
    fake.write_log(&claim, "in another pod");
    while next(&mut logs).await != "in another pod" {}

    fake.evict(&claim, "out of memory");
    while tokio::time::timeout(Duration::from_secs(30), logs.next())
        .await
        .expect("the output ends with the sandbox")
        .is_some()
    {}
    drop(server);
    empty(&fake).await;
}

#[tokio::test]
async fn a_server_starts_without_the_right_to_read_its_output() {
    let fake = FakeCluster::start().await.unwrap();
    fake.reject("log", "pods", 403, "cannot get resource pods/log", 100);
    let server = builder(&fake).await.start().await.unwrap();
    fake.write_log(server.id(), "unseen");
    server.client().server_info().await.unwrap();
    let asked = |fake: &FakeCluster| fake.request_counts().get("log pods").copied();
    assert_eq!(asked(&fake), Some(1));
    assert!(server.log_tail().is_empty());
    server.shutdown(Duration::ZERO).await.unwrap();
    empty(&fake).await;
}
