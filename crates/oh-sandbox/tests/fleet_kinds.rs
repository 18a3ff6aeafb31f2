//! Fleets of pods, of runtimes and of Cloud sandboxes, on fakes of their services.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use oh_sandbox::{
    AtEnd, CloudServer, CloudServerBuilder, Cluster, Fleet, HostedServer, KubernetesServer,
    KubernetesServerBuilder, Provider,
};
use oh_testkit::{
    FakeServer,
    hosted::{FakeCloud, FakeRuntimeApi},
    kubernetes::FakeCluster,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Fails if a test hangs. Not a measurement.
const LIMIT: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(5);

/// Has five leases on two servers at most, two at a time. Each server responds.
async fn work(fleet: &Fleet) -> Outcome {
    for _ in 0..2 {
        let (one, two) = tokio::try_join!(fleet.acquire(), fleet.acquire())?;
        assert_ne!(one.name(), two.name());
        one.client().server_info().await?;
        two.client().server_info().await?;
    }
    let last = fleet.acquire().await?;
    assert!(last.is_reused());
    last.client().server_info().await?;
    drop(last);
    assert_eq!(fleet.stats().servers, 2, "{}", fleet.stats());
    Ok(())
}

fn fleet(provider: impl Provider) -> Fleet {
    Fleet::builder(provider).size(2).wait_at_most(LIMIT).start()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(SOON).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect(what);
}

async fn pods(fake: &FakeCluster) -> Result<KubernetesServerBuilder, Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("config");
    std::fs::write(&path, fake.kubeconfig())?;
    let builder = KubernetesServer::builder().cluster(Cluster::from_kubeconfig(&path).await?);
    Ok(builder.warm_pool("agents").init_key(FakeCluster::INIT_KEY))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_fleet_are_shared_and_their_claims_end_with_it() -> Outcome {
    let fake = FakeCluster::start().await?;
    let shared = fleet(pods(&fake).await?);
    work(&shared).await?;
    assert_eq!(fake.request_counts()["create sandboxclaims"], 2);
    assert_eq!(shared.shutdown(LIMIT).await, 0);
    assert!(fake.claims().is_empty());

    let dropped = fleet(pods(&fake).await?);
    let lease = dropped.acquire().await?;
    drop(dropped);
    until("the claims are deleted", || fake.claims().is_empty()).await;
    drop(lease);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_pod_is_replaced() -> Outcome {
    let fake = FakeCluster::start().await?;
    let fleet = fleet(pods(&fake).await?);
    let first = fleet.acquire().await?;
    let evicted = first.name().to_owned();
    fake.evict(&evicted, "out of memory");
    until("the pod is discarded", || fleet.stats().discarded == 1).await;
    drop(first);
    let second = fleet.acquire().await?;
    assert_ne!(second.name(), evicted);
    second.client().server_info().await?;
    drop(second);
    assert_eq!(fleet.shutdown(LIMIT).await, 0);
    assert!(fake.claims().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtimes_of_a_fleet_are_shared_and_stopped_with_it() -> Outcome {
    let (one, two) = (FakeServer::start().await?, FakeServer::start().await?);
    let api = FakeRuntimeApi::start().await?;
    for server in [&one, &two] {
        api.supply(server.url(), server.session_api_key());
    }
    let builder = HostedServer::builder(api.url(), api.api_key());
    let fleet = fleet(builder.poll_every(SOON).watch_every(SOON));
    work(&fleet).await?;
    assert_eq!(fleet.shutdown(LIMIT).await, 0);
    assert!(api.running().is_empty());
    Ok(())
}

fn sandboxes(cloud: &FakeCloud) -> CloudServerBuilder {
    let builder = CloudServer::builder(cloud.api_key()).url(cloud.url());
    builder.poll_every(SOON).watch_every(SOON)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandboxes_of_a_fleet_are_found_by_another_program_and_deleted_with_it() -> Outcome {
    let (one, two) = (FakeServer::start().await?, FakeServer::start().await?);
    let cloud = FakeCloud::start().await?;
    for server in [&one, &two] {
        cloud.supply(server.url(), server.session_api_key());
    }
    // Leaves its sandboxes, as a killed program does.
    let first = fleet(sandboxes(&cloud).at_end(AtEnd::Keep));
    work(&first).await?;
    let lease = first.acquire().await?;
    let name = lease.name().to_owned();
    drop(lease);
    assert_eq!(first.shutdown(LIMIT).await, 0);
    assert_eq!(cloud.sandboxes().len(), 2);

    let second = fleet(sandboxes(&cloud));
    let found = second.acquire_from(&name).await?.expect("the sandbox");
    assert_eq!(found.name(), name);
    found.client().server_info().await?;
    drop(found);
    assert!(second.acquire_from("gone").await?.is_none());
    assert_eq!(second.shutdown(LIMIT).await, 0);
    let left = cloud.sandboxes();
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].id, name);
    Ok(())
}
