//! Servers in pods of a fake cluster, through the unmodified client of `kube`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod attach;
mod errors;
mod faults;
mod lease;
mod load;
mod manifest;
mod output;
mod pausing;
mod start;

use std::time::Duration;

use oh_sandbox::{Cluster, KubernetesServer, KubernetesServerBuilder};
use oh_testkit::kubernetes::FakeCluster;

/// Connects with a fake cluster, as a program with its kubeconfig does.
async fn connected(fake: &FakeCluster) -> Cluster {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, fake.kubeconfig()).unwrap();
    Cluster::from_kubeconfig(&path).await.unwrap()
}

/// Returns a builder for a server in a dormant pod of a fake cluster.
async fn builder(fake: &FakeCluster) -> KubernetesServerBuilder {
    KubernetesServer::builder()
        .cluster(connected(fake).await)
        .warm_pool("agents")
        .init_key(FakeCluster::INIT_KEY)
        .ready_within(Duration::from_secs(30))
}

/// Waits until no claim and no pod is left.
async fn empty(fake: &FakeCluster) {
    let is_empty = |fake: &FakeCluster| fake.claims().is_empty() && fake.running_pods() == 0;
    let waiting = fake.until(is_empty);
    let left = "a claim or a pod is left";
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect(left);
}
